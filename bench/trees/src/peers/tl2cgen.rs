//! A model compiled by tl2cgen and gcc, called row by row as its own runtime does.

use std::ffi::c_int;
use std::path::Path;

use super::{function, load};
use crate::Outcome;
use crate::engine::Engine;

/// A value in a row of tl2cgen: a number, or -1 in the first four bytes for a missing one; overwritten by the call.
#[derive(Clone, Copy)]
#[repr(C)]
pub union Entry<T: Copy> {
    missing: c_int,
    value: T,
    rank: c_int,
}

/// The precision of thresholds and leaves.
pub trait Number: Copy + Default + 'static {
    fn of(value: f64) -> Self;
    fn double(self) -> f64;
}

impl Number for f32 {
    fn of(value: f64) -> Self {
        value as Self
    }

    fn double(self) -> f64 {
        self.into()
    }
}

impl Number for f64 {
    fn of(value: f64) -> Self {
        value
    }

    fn double(self) -> f64 {
        self
    }
}

type Predict<T> = unsafe extern "C" fn(*mut Entry<T>, c_int, *mut T);

pub struct Tl2cgen<T: Number> {
    name: String,
    row: Vec<Entry<T>>,
    predict: Predict<T>,
}

impl<T: Number> Tl2cgen<T> {
    pub fn new(name: &str, library: &Path, columns: usize) -> Outcome<Self> {
        let predict = function(load(library)?, "predict")?;
        Ok(Self { name: name.to_owned(), row: vec![Entry { missing: -1 }; columns], predict })
    }
}

impl<T: Number> Engine for Tl2cgen<T> {
    fn name(&self) -> String {
        self.name.clone()
    }

    fn predict(&mut self, rows: &[f64], out: &mut Vec<f64>) -> Outcome<()> {
        for row in rows.chunks_exact(self.row.len()) {
            for (entry, &value) in self.row.iter_mut().zip(row) {
                *entry = if value.is_nan() { Entry { missing: -1 } } else { Entry { value: T::of(value) } };
            }
            let mut answer = T::default();
            // SAFETY: the row has as many entries as the model columns; the model has one output.
            unsafe { (self.predict)(self.row.as_mut_ptr(), 1, &raw mut answer) };
            out.push(answer.double());
        }
        Ok(())
    }
}
