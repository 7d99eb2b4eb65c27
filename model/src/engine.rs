//! How trees are evaluated: one trait, one implementation for each way.
//!
//! Every engine gives the trainer's margins to the bit; [`reference`] is the plain one that the others are held against.
//! They share a front end: [`forest`] numbers the distinct conditions of a model, [`codes`] turns a row into one small
//! number for each used column, so that the doubles are compared once and by the source library's own rules.
//!
//! | engine | what it does | chosen for |
//! |---|---|---|
//! | [`tables`] | ANDs precomputed leaf masks, no compare, no branch | few rows where it is computed to be cheaper than `steps`; at most 2 MiB |
//! | [`steps`] | the same with a table row at every so many nodes, and the nodes since one by one | few rows of most models |
//! | [`levels`] | eight complete trees at a time, without a pointer | few rows of trees of few levels, as XGBoost grows them |
//! | [`walk`] | eight compact trees at a time | few rows of any other model; trees of more than 256 leaves |
//! | [`blocks`] | a bit for each of 256 or 512 rows | many rows: from where it is computed to be cheaper |
//! | [`reference`] | the nodes as the trainer wrote them | columns with more than 65,532 thresholds or very many categories |
//!
//! [`fastest`] chooses when a model is loaded, by costs that are computed from its sizes: no clock, no measurement, the
//! same choice on every start. Kernels are compiled for what a processor may have ([`simd`]: portable, AVX2, AVX-512)
//! and picked at load. An engine is read-only and shared by all threads without a lock; what a call needs besides lies in
//! memory that each thread keeps.
#![expect(
    clippy::inline_always,
    reason = "a kernel is compiled for a tier only where it is inlined into the tier's function"
)]

mod blocks;
mod codes;
pub(crate) mod deep;
pub(crate) mod ensemble;
mod fastest;
mod forest;
mod lanes;
mod levels;
mod masks;
pub(crate) mod oblivious;
mod reference;
pub(crate) mod simd;
mod steps;
mod tables;
#[cfg(test)]
mod tests;
mod values;
mod walk;

use std::fmt::Debug;
use std::sync::Arc;

use crate::batch::Rows;
use blocks::Blocks;
use ensemble::Ensemble;
use fastest::Fastest;
use levels::Levels;
use reference::Reference;
use simd::Tier;
use steps::Steps;
use tables::Tables;
use walk::Walk;

/// How a model's trees are evaluated. All ways give the same bits; they differ in speed and memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum Way {
    /// What is cheapest for the model and the number of rows.
    #[default]
    Fastest,
    /// Tables of leaf masks.
    Tables,
    /// Leaf masks at every so many nodes, and the nodes since.
    Steps,
    /// Interleaved walks of complete trees.
    Levels,
    /// Interleaved walks.
    Walk,
    /// Bits of a block of rows.
    Blocks,
    /// The trees as the trainer wrote them, node by node.
    Reference,
}

/// Evaluates an ensemble of trees.
pub(crate) trait Engine: Debug + Send + Sync {
    /// Appends the raw margins of the rows, `[rows, outputs]`, row-major: for each output the sum of its trees' leaves
    /// in the order of the trees.
    fn margins(&self, rows: Rows<'_>, out: &mut Vec<f64>);

    /// The way and what it takes, for people.
    fn describe(&self) -> String;
}

/// The engine for an ensemble. `positions`: for each column of the model its position in the rows to come.
pub(crate) fn fastest(ensemble: Ensemble, positions: Vec<usize>) -> Box<dyn Engine> {
    match ensemble.forest(&positions).and_then(|forest| Fastest::new(&Arc::new(forest))) {
        Some(engine) => Box::new(engine),
        None => Box::new(Reference::new(ensemble, positions)),
    }
}

/// The engine that works in one way, unless the ensemble is not for it.
pub(crate) fn build(ensemble: Ensemble, positions: Vec<usize>, way: Way) -> Option<Box<dyn Engine>> {
    let forest = || ensemble.forest(&positions).map(Arc::new);
    Some(match way {
        Way::Fastest => fastest(ensemble, positions),
        Way::Reference => Box::new(Reference::new(ensemble, positions)),
        Way::Tables => Box::new(Tables::new(&forest()?, Tier::best())?),
        Way::Steps => Box::new(Steps::new(&forest()?, Tier::best())?),
        Way::Levels => Box::new(Levels::new(&forest()?)?),
        Way::Walk => Box::new(Walk::new(&forest()?)?),
        Way::Blocks => Box::new(Blocks::new(&forest()?, Tier::best())?),
    })
}

/// Bytes, for people.
fn kib(bytes: usize) -> String {
    format!("{} KiB", bytes.div_ceil(1024))
}
