//! Node type `mlp` in a program that was built without the cargo feature `neural`: every network is refused.

#[path = "spec.rs"]
mod spec;

pub use spec::{EmbeddingSpec, First, LayerSpec, LinearSpec, Link, NormSpec, Spec};

use crate::TextError;
use crate::batch::Rows;

/// A network: there is none.
#[derive(Debug)]
pub enum Mlp {}

impl Mlp {
    /// Refuses.
    ///
    /// # Errors
    /// Always.
    pub fn load(_bytes: &[u8], _spec: &Spec, _features: Vec<usize>, _embeddings: &[usize]) -> Result<Self, TextError> {
        let expected = "a program that was built with the cargo feature \"neural\"";
        Err(TextError::new("network", "node type mlp", expected, "one without"))
    }

    /// Numbers for a row.
    pub fn outputs(&self) -> usize {
        match *self {}
    }

    /// Whether the outputs are probabilities.
    pub(crate) fn gives_probabilities(&self) -> bool {
        match *self {}
    }

    /// Appends the outputs of the rows.
    pub(crate) fn evaluate(&self, _rows: Rows<'_>, _out: &mut Vec<f64>) {
        match *self {}
    }
}
