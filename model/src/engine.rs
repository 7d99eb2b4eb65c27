//! How trees are evaluated: one trait, one implementation for each way.
//!
//! Every engine gives the trainer's margins to the bit; [`reference`] is the plain one that the others are held
//! against.

pub(crate) mod reference;

use std::fmt::Debug;

use crate::batch::Rows;

/// Evaluates an ensemble of trees.
pub(crate) trait Engine: Debug + Send + Sync {
    /// Appends the raw margins of the rows, `[rows, outputs]`, row-major: for each output the sum of its trees' leaves
    /// in the order of the trees.
    fn margins(&self, rows: Rows<'_>, out: &mut Vec<f64>);
}
