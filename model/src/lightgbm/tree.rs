//! The trees of a model, as they were checked: every engine is built from these.

pub(crate) use crate::engine::forest::Child;

/// Trees and how many outputs they add up to: tree `i` adds to output `i % outputs`.
#[derive(Debug)]
pub(crate) struct Ensemble {
    trees: Vec<Tree>,
    outputs: usize,
}

impl Ensemble {
    /// `outputs` is at least 1 and divides the number of trees.
    pub(crate) fn new(trees: Vec<Tree>, outputs: usize) -> Self {
        Self { trees, outputs }
    }

    pub(crate) fn trees(&self) -> &[Tree] {
        &self.trees
    }

    pub(crate) fn outputs(&self) -> usize {
        self.outputs
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
    /// Left if the value is at most the threshold; a missing one goes to the default side.
    Numeric { threshold: f64, missing: Missing, default_left: bool },
    /// Left if the code's bit is set; everything else goes right.
    Category { words: Box<[u32]> },
}

/// What counts as missing at a node; any other NaN is taken as zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Missing {
    Nothing,
    Zero,
    NaN,
}
