//! The applicator that CatBoost exports as C++.

use std::path::Path;

use super::{function, load};
use crate::Outcome;
use crate::engine::Engine;

/// Rows, number of rows, columns, answers. It rounds the values to single precision itself.
type Apply = unsafe extern "C" fn(*const f64, usize, usize, *mut f64);

pub struct Exported {
    name: String,
    columns: usize,
    apply: Apply,
}

impl Exported {
    pub fn new(name: &str, library: &Path, columns: usize) -> Outcome<Self> {
        Ok(Self { name: name.to_owned(), columns, apply: function(load(library)?, "apply_rows")? })
    }
}

impl Engine for Exported {
    fn name(&self) -> String {
        self.name.clone()
    }

    fn predict(&mut self, rows: &[f64], out: &mut Vec<f64>) -> Outcome<()> {
        let (count, first) = (rows.len() / self.columns, out.len());
        out.resize(first + count, 0.0);
        // SAFETY: `rows` holds `count` rows, `out` has room for `count` numbers.
        unsafe { (self.apply)(rows.as_ptr(), count, self.columns, out[first..].as_mut_ptr()) };
        Ok(())
    }
}
