//! Node type `mlp`: small neural networks in single precision, as torch evaluates them.
//!
//! Read at the source of torch 2.13 (`aten/src/ATen/native`). Within 5e-7 of torch, relative to numbers greater than 1:
//! torch's own answers differ as much between one row and a batch, since its BLAS adds in another order. Here a row's answer
//! is the same alone and in any batch, to the bit.
//!
//! | module | what it does |
//! |---|---|
//! | `spec` | the keys in `graph.json` |
//! | `weights` | the safetensors file, checked |
//! | `network` | layers that fit together, and their evaluation block by block |
//! | `dense` | linear layers, the kernel |
//! | `activation`, `link` | functions of numbers and of rows |
//! | `candle` | the same by candle's operations, for comparison; cargo feature `candle` |
#![expect(
    clippy::inline_always,
    reason = "a kernel is compiled for a tier only where it is inlined into the tier's function"
)]

mod activation;
#[cfg(feature = "candle")]
mod candle;
mod dense;
mod link;
mod network;
mod spec;
#[cfg(test)]
mod tests;
mod weights;

pub use spec::{EmbeddingSpec, First, LayerSpec, LinearSpec, Link, NormSpec, Spec};

use crate::batch::Rows;
use crate::{Batch, PredictError, TextError};
use network::Network;

/// A neural network.
#[derive(Debug)]
pub struct Mlp {
    network: Network,
    #[cfg(feature = "candle")]
    candle: Option<candle::Candle>,
    link: Link,
    /// Positions of the row that it reads: the width of the narrowest row is one more than the greatest.
    width: usize,
}

impl Mlp {
    /// Reads a safetensors file as the network that `spec` describes. `features`: positions in a row of the features;
    /// `embeddings`: positions of the embeddings' row numbers, in the order of the spec.
    ///
    /// # Errors
    /// When the tensors are not there, not F32, not finite, do not fit together, or are more than the network has; says
    /// where and why.
    pub fn load(bytes: &[u8], spec: &Spec, features: Vec<usize>, embeddings: &[usize]) -> Result<Self, TextError> {
        let width = features.iter().chain(embeddings).max().map_or(0, |greatest| greatest + 1);
        let network = Network::load(bytes, spec, features, embeddings)?;
        Ok(Self {
            network,
            #[cfg(feature = "candle")]
            candle: None,
            link: spec.link,
            width,
        })
    }

    /// As [`load`](Mlp::load), to be evaluated by candle's operations: for comparisons and benchmarks.
    ///
    /// # Errors
    /// As [`load`](Mlp::load).
    #[cfg(feature = "candle")]
    pub fn load_in_candle(
        bytes: &[u8],
        spec: &Spec,
        features: Vec<usize>,
        embeddings: &[usize],
    ) -> Result<Self, TextError> {
        let mut mlp = Self::load(bytes, spec, features, embeddings)?;
        let wrong = |error: candle_core::Error| TextError::new("network", "candle", "tensors that it takes", error);
        mlp.candle = Some(candle::Candle::load(bytes, spec).map_err(wrong)?);
        Ok(mlp)
    }

    /// Numbers that the network gives for a row.
    pub fn outputs(&self) -> usize {
        self.link.outputs(self.network.outputs())
    }

    /// Whether the outputs are probabilities, whatever goes in.
    pub(crate) fn gives_probabilities(&self) -> bool {
        matches!(self.link, Link::Softmax | Link::BinarySoftmax | Link::Sigmoid)
    }

    /// Appends the outputs of a batch, `[rows, outputs]`: single-precision numbers.
    ///
    /// # Errors
    /// When the batch's rows are narrower than the positions that the network reads.
    pub fn predict(&self, batch: &Batch, out: &mut Vec<f64>) -> Result<(), PredictError> {
        let wrong = PredictError::Width { expected: self.width, got: batch.width() };
        match batch.view(0..batch.rows()) {
            Some(rows) if batch.width() >= self.width => {
                self.evaluate(rows, out);
                Ok(())
            }
            _ => Err(wrong),
        }
    }

    /// Appends the outputs of rows that hold what the network reads at its positions.
    pub(crate) fn evaluate(&self, rows: Rows<'_>, out: &mut Vec<f64>) {
        out.reserve(rows.len() * self.outputs());
        #[cfg(feature = "candle")]
        if let Some(candle) = &self.candle {
            candle.evaluate(&self.network, self.link, rows, out);
            return;
        }
        self.network.evaluate(rows, self.link, out);
    }
}
