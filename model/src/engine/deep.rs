//! Deep trees: hundreds of trees of thousands of leaves, each leaf one or several numbers.
//!
//! Such a forest does not fit into a core's caches, and no table of leaf masks is possible; what counts is how many cache
//! lines a walk touches and how many walks wait for memory at the same time.
//!
//! - [`lanes`]: a row becomes one word for each used column and NaN side, so that a node is one comparison of whole
//!   numbers, for numbers, missing values and categories alike.
//! - [`layout`]: children are neighbours, and a cache line holds the nodes that are most likely visited together.
//! - [`walks`]: sixteen walks at a time, of several trees or several rows; who reaches a leaf makes room for the next, so that
//!   no walk waits for a longer one and no branch is mispredicted.
//! - [`compact`] has nodes of four bytes for forests that ask few distinct questions, [`wide`] has nodes of eight bytes for
//!   all others, [`reference`] follows the nodes as scikit-learn wrote them.
//!
//! The leaves' numbers are kept once for each distinct row of them.

mod compact;
mod lanes;
mod layout;
mod reference;
mod shallow;
#[cfg(test)]
mod tests;
mod walks;
mod wide;

use std::sync::Arc;

use super::Engine;
use crate::batch::Rows;
use crate::engine::ensemble::Precision;
use compact::Answers;
use lanes::{Lanes, Place};
use reference::Reference;
use walks::Walks;
use wide::Keys;

/// 32-bit words of a set of categories, which are numbered from 0 to 255.
pub(crate) const SET_WORDS: usize = 8;

/// Trees as they were checked: children come after their parent, every node but a tree's first has one.
#[derive(Debug)]
pub(crate) struct Trees {
    /// `[trees + 1]`: the nodes of tree `t` are `offsets[t]..offsets[t + 1]`, its root is the first.
    pub(crate) offsets: Vec<u32>,
    pub(crate) nodes: Vec<Node>,
    /// Distinct rows of leaf values, `[rows, width]`, all finite.
    pub(crate) values: Vec<f64>,
    /// Numbers of a leaf, at least 1.
    pub(crate) width: usize,
    /// For each tree the first output that its leaves' numbers are added to.
    pub(crate) outputs: Vec<u32>,
    /// What the sum of each output begins with.
    pub(crate) start: Vec<f64>,
    /// Sets of categories.
    pub(crate) sets: Vec<[u32; SET_WORDS]>,
    pub(crate) precision: Precision,
}

/// A node.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Node {
    /// The number of a row of leaf values.
    Leaf {
        row: u32,
    },
    Split(Split),
}

/// An inner node. Children are numbered from the tree's first node.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Split {
    /// Position of the value in a row.
    pub(crate) position: u32,
    /// When a value goes left.
    pub(crate) test: Test,
    /// Where NaN goes; for a set of categories also what is not from 0 to below 256.
    pub(crate) missing_left: bool,
    pub(crate) left: u32,
    pub(crate) right: u32,
}

/// What a node asks.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Test {
    /// A number at most the threshold, which is not NaN.
    AtMost(f64),
    /// A category whose bit is in the set.
    Within(u32),
}

impl Trees {
    /// Number of trees.
    pub(crate) fn len(&self) -> usize {
        self.offsets.len() - 1
    }

    /// Number of leaves in all trees.
    pub(crate) fn leaves(&self) -> usize {
        // Each inner node joins two: a tree has one leaf more.
        usize::midpoint(self.nodes.len(), self.len())
    }

    /// The nodes of a tree.
    fn tree(&self, tree: usize) -> &[Node] {
        &self.nodes[self.offsets[tree] as usize..self.offsets[tree + 1] as usize]
    }

    /// Adds a leaf's row of values to a row's sums.
    fn add(&self, tree: usize, row: u32, sums: &mut [f64]) {
        let values = &self.values[row as usize * self.width..][..self.width];
        for (sum, value) in sums[self.outputs[tree] as usize..].iter_mut().zip(values) {
            *sum += value;
        }
    }
}

/// Whether a value is the number of a category in the set; nothing when it is missing or no category's number, which
/// scikit-learn treats alike.
fn within(set: &[u32; SET_WORDS], value: f64) -> Option<bool> {
    // -0.5 is not category 0, but 0.5 is. NaN fails.
    let code = (value >= 0.0 && value < (SET_WORDS * 32) as f64).then_some(value as usize)?;
    Some(set[code / 32] >> (code % 32) & 1 == 1)
}

/// How a forest is evaluated. All ways give the same bits; they differ in speed and memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum Way {
    /// What is cheapest for the model.
    #[default]
    Fastest,
    /// Walks over nodes of four bytes, with every distinct question answered once for a row.
    Compact,
    /// Walks over nodes of eight bytes.
    Wide,
    /// The ways of other libraries' trees, for trees of few leaves with one number each, without categories.
    Shallow,
    /// The trees as scikit-learn wrote them, node by node.
    Reference,
}

/// The engine that works in one way, unless the forest is not for it.
pub(crate) fn build(trees: Trees, way: Way) -> Option<Box<dyn Engine>> {
    let trees = Arc::new(trees);
    match way {
        Way::Reference => Some(Box::new(Reference::new(trees))),
        Way::Compact => compact(&trees, &Lanes::new(&trees), way).map(|(engine, _)| engine),
        Way::Wide => wide(&trees, &Lanes::new(&trees)).map(|(engine, _)| engine),
        Way::Shallow => shallow::fastest(&trees),
        Way::Fastest => Some(fastest(trees)),
    }
}

/// Shallow trees by tables and blocks; deep ones by compact walks, and where those are too large for a cache by wide walks for
/// many rows.
fn fastest(trees: Arc<Trees>) -> Box<dyn Engine> {
    if let Some(engine) = shallow::fastest(&trees) {
        return engine;
    }
    let lanes = Lanes::new(&trees);
    let compact = compact(&trees, &lanes, Way::Fastest);
    if let Some((engine, usize::MAX)) = compact {
        return engine;
    }
    match (compact, wide(&trees, &lanes)) {
        (Some((few, _)), Some((many, from))) => Box::new(Pair { few, many, from }),
        (Some((engine, _)), None) | (None, Some((engine, _))) => engine,
        (None, None) => Box::new(Reference::new(trees)),
    }
}

/// One engine for few rows and one for many.
#[derive(Debug)]
struct Pair {
    few: Box<dyn Engine>,
    many: Box<dyn Engine>,
    /// Rows from which on they are many.
    from: usize,
}

impl Engine for Pair {
    fn margins(&self, rows: Rows<'_>, out: &mut Vec<f64>) {
        let engine = if rows.len() < self.from { &self.few } else { &self.many };
        engine.margins(rows, out);
    }

    fn describe(&self) -> String {
        format!("{}; from {} rows on {}", self.few.describe(), self.from, self.many.describe())
    }
}

/// The nodes of fewest bits for questions, so that children may be farthest, and from how many rows on they are evaluated
/// together.
fn compact(trees: &Arc<Trees>, (lanes, places): &(Lanes, Vec<Place>), way: Way) -> Option<(Box<dyn Engine>, usize)> {
    fn of<const QUESTIONS: u32>(
        trees: &Arc<Trees>,
        lanes: &Lanes,
        places: &[Place],
        way: Way,
    ) -> Option<(Box<dyn Engine>, usize)> {
        let engine = Walks::new(trees, places, Answers::<QUESTIONS>::new(trees, lanes)?)?;
        let engine = if way == Way::Fastest { engine.one_by_one() } else { engine };
        let many = engine.many();
        Some((Box::new(engine), many))
    }
    of::<12>(trees, lanes, places, way)
        .or_else(|| of::<14>(trees, lanes, places, way))
        .or_else(|| of::<16>(trees, lanes, places, way))
}

/// The nodes of fewest bits for lanes, and from how many rows on they are evaluated together.
fn wide(trees: &Arc<Trees>, (lanes, places): &(Lanes, Vec<Place>)) -> Option<(Box<dyn Engine>, usize)> {
    fn of<const LANES: u32>(trees: &Arc<Trees>, lanes: &Lanes, places: &[Place]) -> Option<(Box<dyn Engine>, usize)> {
        let engine = Walks::new(trees, places, Keys::<LANES>::new(lanes, trees.precision)?)?;
        let many = engine.many();
        Some((Box::new(engine), many))
    }
    of::<10>(trees, lanes, places).or_else(|| of::<16>(trees, lanes, places))
}
