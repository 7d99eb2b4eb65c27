//! Any tree over codes, node by node: what is not oblivious, or too deep.

use std::cell::RefCell;

use super::codes::{self, Codes};
use super::trees::{Split, Tree};
use crate::batch::Rows;
use crate::engine::simd::Tier;
use crate::engine::simd::bytes::{ByteWork, Bytes};
use crate::engine::{Engine, kib};

/// Where a node leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Child {
    Node(u32),
    Leaf(u32),
}

/// An inner node: right where its split holds.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Node {
    pub(crate) split: Split,
    pub(crate) left: Child,
    pub(crate) right: Child,
}

/// A tree. Children come after their parent; leaves are `[leaves, outputs]`.
#[derive(Debug)]
pub(crate) enum WalkTree {
    Levels(Tree),
    Nodes { nodes: Vec<Node>, leaves: Vec<f64> },
}

/// The engine.
#[derive(Debug)]
pub(crate) struct Walk {
    codes: Codes,
    trees: Vec<WalkTree>,
    outputs: usize,
    tier: Tier,
}

thread_local! {
    static SCRATCH: RefCell<(Vec<u8>, codes::Scratch)> = RefCell::default();
}

impl Walk {
    /// `outputs` is at least 1; each tree has as many numbers for each leaf.
    pub(crate) fn new(codes: Codes, trees: Vec<WalkTree>, outputs: usize) -> Self {
        Self { codes, trees, outputs, tier: Tier::best() }
    }
}

impl WalkTree {
    fn leaves(&self) -> &[f64] {
        match self {
            Self::Levels(tree) => &tree.leaves,
            Self::Nodes { leaves, .. } => leaves,
        }
    }

    #[inline(always)]
    fn leaf(&self, codes: &[u8]) -> usize {
        let holds = |split: Split| split.threshold().cast_signed() <= codes[split.slot as usize].cast_signed();
        match self {
            Self::Levels(tree) => {
                tree.splits.iter().rev().fold(0, |number, split| 2 * number + usize::from(holds(*split)))
            }
            Self::Nodes { nodes, .. } => {
                let mut place = if nodes.is_empty() { Child::Leaf(0) } else { Child::Node(0) };
                loop {
                    match place {
                        Child::Leaf(leaf) => break leaf as usize,
                        Child::Node(index) => {
                            let node = &nodes[index as usize];
                            place = if holds(node.split) { node.right } else { node.left };
                        }
                    }
                }
            }
        }
    }
}

impl Engine for Walk {
    fn margins(&self, rows: Rows<'_>, out: &mut Vec<f64>) {
        let start = out.len();
        out.resize(start + rows.len() * self.outputs, 0.0);
        SCRATCH.with_borrow_mut(|scratch| {
            self.tier.run_bytes(Margins { engine: self, rows, scratch, out: &mut out[start..] });
        });
    }

    fn describe(&self) -> String {
        let of = |tree: &WalkTree| match tree {
            WalkTree::Levels(tree) => size_of::<Split>() * tree.splits.len() + 8 * tree.leaves.len(),
            WalkTree::Nodes { nodes, leaves } => size_of::<Node>() * nodes.len() + 8 * leaves.len(),
        };
        let bytes = self.codes.bytes() + self.trees.iter().map(of).sum::<usize>();
        format!("node by node over {} slots, {}", self.codes.slots(), kib(bytes))
    }
}

struct Margins<'a> {
    engine: &'a Walk,
    rows: Rows<'a>,
    scratch: &'a mut (Vec<u8>, codes::Scratch),
    out: &'a mut [f64],
}

impl ByteWork for Margins<'_> {
    #[inline(always)]
    fn run<S: Bytes>(self, simd: S) {
        let Self { engine, rows, scratch: (codes, numbers), out } = self;
        codes.resize(engine.codes.slots().max(codes.len()), 0);
        for (row, out) in rows.blocks(1).zip(out.chunks_exact_mut(engine.outputs)) {
            engine.codes.encode(simd, row, 1, codes, numbers);
            for tree in &engine.trees {
                let first = tree.leaf(codes) * engine.outputs;
                for (sum, leaf) in out.iter_mut().zip(&tree.leaves()[first..]) {
                    *sum += leaf;
                }
            }
        }
    }
}
