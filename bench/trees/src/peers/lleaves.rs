//! A LightGBM model compiled by lleaves, called by its function pointer.

use std::ffi::c_int;
use std::path::Path;

use super::{function, load};
use crate::Outcome;
use crate::engine::Engine;

/// Values, answers, first row, row after the last.
type Root = unsafe extern "C" fn(*const f64, *mut f64, c_int, c_int);

pub struct Lleaves {
    name: String,
    columns: usize,
    root: Root,
}

impl Lleaves {
    pub fn new(name: &str, library: &Path, columns: usize) -> Outcome<Self> {
        Ok(Self { name: name.to_owned(), columns, root: function(load(library)?, "forest_root")? })
    }
}

impl Engine for Lleaves {
    fn name(&self) -> String {
        self.name.clone()
    }

    fn predict(&mut self, rows: &[f64], out: &mut Vec<f64>) -> Outcome<()> {
        let (count, first) = (rows.len() / self.columns, out.len());
        out.resize(first + count, 0.0);
        // SAFETY: `rows` holds `count` rows, `out` has room for `count` numbers.
        unsafe { (self.root)(rows.as_ptr(), out[first..].as_mut_ptr(), 0, count as c_int) };
        Ok(())
    }
}
