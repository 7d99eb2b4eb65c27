//! Trees of few levels: eight walks at a time, without a pointer.
//!
//! A tree is filled up to a complete one, which lies level by level: node `p` has the children `2 p` and `2 p + 1`. So a node
//! is four bytes, a lane and a rank (see [`Lanes`]), and a step is a doubling, a comparison and its carry. A leaf above the last
//! level goes on to the left. XGBoost's trees of depth 6 fit in the second cache of a core in this form, at half of what
//! [`walk`](super::walk) takes.

use std::cell::RefCell;
use std::sync::Arc;

use super::Engine;
use super::forest::{Child, Forest, Tree};
use super::lanes::Lanes;
use super::values::{Number, Values};
use crate::batch::Rows;

/// Trees that are walked together.
const TOGETHER: usize = 8;
/// Levels of nodes, at most: as `walk` has.
const MAX_LEVELS: usize = 8;
/// Lanes of a row, at most.
const LANES: usize = 256;
/// Places for a leaf of the forest, at most: deep trees with few leaves are not for complete ones.
const MAX_FILL: usize = 4;
/// Rows that are walked through one group of trees before the next.
const BLOCK: usize = 16;

/// The engine.
#[derive(Debug)]
pub(crate) struct Levels {
    forest: Arc<Forest>,
    lanes: Lanes,
    groups: Vec<Group>,
    /// `[trees, 2^levels]` of each group, one group after another; the first of each tree is not used.
    nodes: Vec<Node>,
    /// As `nodes`: the values after the last level.
    leaves: Values,
}

/// Right if the lane is greater than the rank.
#[derive(Debug, Clone, Copy)]
struct Node {
    lane: u16,
    rank: u16,
}

/// No lane is greater: left.
const LEFT: Node = Node { lane: 0, rank: u16::MAX };

/// Consecutive trees, with the levels of the deepest.
#[derive(Debug, Clone, Copy)]
struct Group {
    start: usize,
    levels: usize,
}

#[derive(Debug, Default)]
struct Scratch {
    codes: Vec<u16>,
    lanes: Vec<[u16; LANES]>,
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

impl Levels {
    /// Nothing when the trees are too deep, or too far from complete, or need too many lanes.
    pub(crate) fn new(forest: &Arc<Forest>) -> Option<Self> {
        let mut groups = Vec::with_capacity(forest.trees.len().div_ceil(TOGETHER));
        let mut places = 0;
        for trees in forest.trees.chunks(TOGETHER) {
            let levels = trees.iter().map(Tree::depth).max().unwrap_or(0);
            if levels > MAX_LEVELS {
                return None;
            }
            groups.push(Group { start: places, levels });
            places += TOGETHER << levels;
        }
        let leaves = forest.trees.iter().map(|tree| tree.leaves.len()).sum::<usize>();
        if places > MAX_FILL * (leaves + TOGETHER) {
            return None;
        }
        let (lanes, tests) = Lanes::new(forest)?;
        if lanes.count > LANES {
            return None;
        }
        let mut nodes = vec![LEFT; places];
        // A pad's leaves are -0.0: adding one changes nothing, not even a negative zero.
        let mut values = vec![-0.0; places];
        for (trees, group) in forest.trees.chunks(TOGETHER).zip(&groups) {
            let size = 1 << group.levels;
            for (index, tree) in trees.iter().enumerate() {
                let range = group.start + index * size..group.start + (index + 1) * size;
                fill(tree, &tests, group.levels, &mut nodes[range.clone()], &mut values[range]);
            }
        }
        Some(Self { forest: Arc::clone(forest), lanes, groups, nodes, leaves: Values::new(values, forest.sum) })
    }

    /// What a row costs, about, in cycles of a core.
    pub(crate) fn cost(&self) -> f64 {
        let steps = self.groups.iter().map(|group| group.levels * TOGETHER).sum::<usize>();
        (steps * 2 + self.lanes.count / 8 + self.forest.trees.len() * 2 + self.forest.codes.slots().len() * 14) as f64
    }

    /// Bytes on the heap, without the forest.
    fn bytes(&self) -> usize {
        self.lanes.bytes() + self.nodes.len() * size_of::<Node>() + self.leaves.bytes()
    }

    /// Adds the leaves of some rows to their outputs, `[rows, outputs]`.
    fn block(&self, lanes: &[[u16; LANES]], out: &mut [f64]) {
        for (index, group) in self.groups.iter().enumerate() {
            let range = group.start..group.start + (TOGETHER << group.levels);
            let (nodes, first) = (&self.nodes[range.clone()], index * TOGETHER % self.forest.outputs);
            let rows = lanes.iter().zip(out.chunks_exact_mut(self.forest.outputs));
            match &self.leaves {
                Values::Double(leaves) => walk(group.levels, nodes, &leaves[range], first, rows),
                Values::Single(leaves) => walk(group.levels, nodes, &leaves[range], first, rows),
            }
        }
    }
}

/// Walks some rows through a group's trees, `[TOGETHER, 2^levels]`, and adds the leaves to the outputs, from output `first` on
/// and around. The processor adds while it walks the next group: that is why the trees stay in their order.
fn walk<'a, T: Number>(
    levels: usize,
    nodes: &[Node],
    leaves: &[T],
    first: usize,
    rows: impl Iterator<Item = (&'a [u16; LANES], &'a mut [f64])>,
) {
    for (lanes, out) in rows {
        let places = match levels {
            0 => [1; TOGETHER],
            1 => places::<2>(nodes, lanes),
            2 => places::<4>(nodes, lanes),
            3 => places::<8>(nodes, lanes),
            4 => places::<16>(nodes, lanes),
            5 => places::<32>(nodes, lanes),
            6 => places::<64>(nodes, lanes),
            7 => places::<128>(nodes, lanes),
            _ => places::<256>(nodes, lanes),
        };
        let found = leaves.chunks_exact(1 << levels).zip(places).map(|(leaves, place)| leaves[place % leaves.len()]);
        if let [out] = out {
            *out = found.fold(T::of(*out), |sum, leaf| sum + leaf).double();
            continue;
        }
        let mut output = first;
        for leaf in found {
            out[output] = (T::of(out[output]) + leaf).double();
            output = if output + 1 == out.len() { 0 } else { output + 1 };
        }
    }
}

/// Where a row arrives in trees of `SIZE` places, plus `SIZE`. There are as many trees.
#[inline]
fn places<const SIZE: usize>(nodes: &[Node], lanes: &[u16; LANES]) -> [usize; TOGETHER] {
    let mut places = [1; TOGETHER];
    let Some(trees) = nodes.as_chunks::<SIZE>().0.first_chunk::<TOGETHER>() else { return places };
    for _ in 0..SIZE.ilog2() {
        for (nodes, place) in trees.iter().zip(&mut places) {
            // `% SIZE` and `% LANES` change nothing and save the checks.
            let node = nodes[*place % SIZE];
            *place = 2 * *place + usize::from(lanes[usize::from(node.lane) % LANES] > node.rank);
        }
    }
    places
}

/// Fills a complete tree: `nodes` and `values` are `[2^levels]`.
fn fill(tree: &Tree, tests: &[(u16, u16)], levels: usize, nodes: &mut [Node], values: &mut [f64]) {
    let root = if tree.nodes.is_empty() { Child::Leaf(0) } else { Child::Node(0) };
    let mut open = vec![(root, 1_usize, levels)];
    while let Some((child, place, below)) = open.pop() {
        match child {
            Child::Leaf(leaf) => values[(place << below) - nodes.len()] = tree.leaves[leaf as usize],
            Child::Node(node) => {
                let node = &tree.nodes[node as usize];
                let (lane, rank) = tests[node.condition as usize];
                nodes[place] = Node { lane, rank };
                open.push((node.left, 2 * place, below - 1));
                open.push((node.right, 2 * place + 1, below - 1));
            }
        }
    }
}

impl Engine for Levels {
    fn margins(&self, rows: Rows<'_>, out: &mut Vec<f64>) {
        let forest = &*self.forest;
        SCRATCH.with_borrow_mut(|scratch| {
            scratch.codes.resize(forest.codes.slots().len().max(scratch.codes.len()), 0);
            scratch.lanes.resize(BLOCK, [0; LANES]);
            for block in rows.blocks(BLOCK) {
                for (row, lanes) in block.iter().zip(&mut scratch.lanes) {
                    forest.codes.row(row, &mut scratch.codes);
                    self.lanes.expand(&scratch.codes, lanes);
                }
                self.block(&scratch.lanes[..block.len()], forest.begin(block.len(), out));
            }
        });
    }

    fn describe(&self) -> String {
        format!("levels of {}", super::kib(self.bytes()))
    }
}
