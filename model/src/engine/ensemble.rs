//! The trees of a model, as a loader checked them: every engine is built from these.

use serde::Deserialize;

pub(crate) use super::forest::Child;
use super::forest::{Builder, Forest};

/// Trees, how many outputs they add up to, and in whose arithmetic.
///
/// Tree `i` adds to output `i % outputs`, in the order of the trees. A library whose trees come in another order is read
/// into this one such that each output's trees stay in their order, padded with [`Tree::nothing`].
#[derive(Debug)]
pub(crate) struct Ensemble {
    /// As many as there are outputs, times a whole number.
    pub(crate) trees: Vec<Tree>,
    /// What each output's sum begins with, `[outputs]`, at least one.
    pub(crate) start: Vec<f64>,
    /// The precision of the sums. In single precision, leaves and start are doubles that hold floats.
    pub(crate) sum: Precision,
    /// The precision to which a row's values are rounded before they are compared.
    pub(crate) input: Precision,
    /// Values this near to zero are the number 0.0 at every node; -1.0 where only zero is zero.
    pub(crate) tiny: f64,
}

/// Of numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub enum Precision {
    /// 32 bits.
    #[serde(rename = "float")]
    Single,
    /// 64 bits.
    #[serde(rename = "double")]
    Double,
}

impl Precision {
    /// The number rounded to this precision.
    pub(crate) fn round(self, x: f64) -> f64 {
        match self {
            Self::Single => f64::from(x as f32),
            Self::Double => x,
        }
    }
}

impl Ensemble {
    /// Trees that add up from zero, everything in double precision, and only zero is zero. `outputs` is at least 1 and
    /// divides the number of trees.
    pub(crate) fn new(trees: Vec<Tree>, outputs: usize) -> Self {
        let start = vec![0.0; outputs];
        Self { trees, start, sum: Precision::Double, input: Precision::Double, tiny: -1.0 }
    }

    pub(crate) fn trees(&self) -> &[Tree] {
        &self.trees
    }

    pub(crate) fn outputs(&self) -> usize {
        self.start.len()
    }

    /// Puts trees that say which output they add to (below `outputs`) into the order of an ensemble.
    pub(crate) fn deal(trees: impl IntoIterator<Item = (usize, Tree)>, outputs: usize) -> Vec<Tree> {
        let mut of_output: Vec<Vec<Tree>> = (0..outputs).map(|_| Vec::new()).collect();
        for (output, tree) in trees {
            of_output[output].push(tree);
        }
        let rounds = of_output.iter().map(Vec::len).max().unwrap_or(0);
        let mut queues: Vec<_> = of_output.into_iter().map(Vec::into_iter).collect();
        let mut dealt = Vec::with_capacity(rounds * outputs);
        for _ in 0..rounds {
            dealt.extend(queues.iter_mut().map(|queue| queue.next().unwrap_or_else(Tree::nothing)));
        }
        dealt
    }

    /// The forest that gives the ensemble's margins, unless a column is too rich for one. `positions`: for each column
    /// of the model its position in a row.
    pub(crate) fn forest(&self, positions: &[usize]) -> Option<Forest> {
        let mut builder = Builder::default();
        let mut nodes = Vec::new();
        for tree in &self.trees {
            nodes.clear();
            for node in &tree.nodes {
                let position = positions[node.column as usize];
                let question = match &node.split {
                    Split::Category { words } => builder.outside(position, words),
                    Split::Numeric { threshold, missing, default_left } => {
                        let zero_is_above = 0.0 > *threshold;
                        let (zero, nan) = match missing {
                            Missing::Nothing => (zero_is_above, zero_is_above),
                            Missing::Zero => (!default_left, !default_left),
                            Missing::NaN => (zero_is_above, !default_left),
                        };
                        builder.above(position, self.tiny, *threshold, zero, nan)
                    }
                };
                nodes.push((question, node.left, node.right));
            }
            builder.tree(&nodes, &tree.leaves);
        }
        builder.finish(&self.start, self.sum, self.input)
    }
}

/// One tree. Children come after their parent, so that a walk ends; every node and leaf has one parent.
#[derive(Debug)]
pub(crate) struct Tree {
    nodes: Vec<Node>,
    leaves: Vec<f64>,
}

impl Tree {
    /// Children come after their parent; every node but the first, and every leaf, has one. There is a leaf.
    pub(crate) fn new(nodes: Vec<Node>, leaves: Vec<f64>) -> Self {
        Self { nodes, leaves }
    }

    /// A tree that changes no sum, not even one that is -0.0.
    pub(crate) fn nothing() -> Self {
        Self { nodes: Vec::new(), leaves: vec![-0.0] }
    }

    /// Where a walk begins: a tree of one leaf has no nodes.
    pub(crate) fn root(&self) -> Child {
        if self.nodes.is_empty() { Child::Leaf(0) } else { Child::Node(0) }
    }

    pub(crate) fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// The leaves' values, all finite.
    pub(crate) fn leaves(&self) -> &[f64] {
        &self.leaves
    }
}

/// An inner node.
#[derive(Debug)]
pub(crate) struct Node {
    /// Column of the model.
    pub(crate) column: u32,
    pub(crate) split: Split,
    pub(crate) left: Child,
    pub(crate) right: Child,
}

/// What a node asks.
#[derive(Debug)]
pub(crate) enum Split {
    /// Left if the value is at most the threshold; a missing one goes to the default side. A library that goes left where
    /// the value is *below* the threshold has the next lower number of its precision here.
    Numeric { threshold: f64, missing: Missing, default_left: bool },
    /// Left if the code's bit is set; everything else goes right.
    Category { words: Box<[u32]> },
}

/// What counts as missing at a node; any other NaN is taken as zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Missing {
    Nothing,
    /// Zero, and what is as near to it as `tiny` says (which is not negative then), and NaN.
    Zero,
    NaN,
}
