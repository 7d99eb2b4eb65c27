//! Any forest: eight walks at a time.
//!
//! A row's codes become [`Lanes`], so that every node goes right if its lane is greater than its rank. A node is eight
//! bytes, its children are neighbours, and a leaf leads to itself, so that eight trees of about the same depth take as many
//! steps together, without a branch and without waiting for one another's memory.

use std::cell::RefCell;
use std::sync::Arc;

use super::Engine;
use super::ensemble::Precision;
use super::forest::{Child, Forest};
use super::lanes::Lanes;
use super::values::sum;
use crate::batch::Rows;

/// Trees that are walked together.
const TOGETHER: usize = 8;
/// Rows that are walked through one group of trees before the next.
const BLOCK: usize = 16;
/// The engine.
#[derive(Debug)]
pub(crate) struct Walk {
    forest: Arc<Forest>,
    lanes: Lanes,
    nodes: Vec<Node>,
    /// For each node that is a leaf its value.
    leaves: Vec<f64>,
    groups: Vec<Group>,
    /// Trees, padded to whole groups.
    trees: usize,
}

/// Eight bytes. A leaf has rank `u16::MAX`, which no lane exceeds, and leads to itself.
#[derive(Debug, Clone, Copy)]
struct Node {
    left: u32,
    lane: u16,
    rank: u16,
}

/// Trees of about the same depth.
#[derive(Debug)]
struct Group {
    roots: [u32; TOGETHER],
    /// Numbers of the trees; a pad has one of its own after the last.
    trees: [u32; TOGETHER],
    steps: usize,
}

#[derive(Debug, Default)]
struct Scratch {
    codes: Vec<u16>,
    lanes: Vec<u16>,
    found: Vec<f64>,
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

impl Walk {
    /// Nothing when the forest needs too many lanes or nodes.
    pub(crate) fn new(forest: &Arc<Forest>) -> Option<Self> {
        let (lanes, tests) = Lanes::new(forest)?;
        let mut walk = Self {
            forest: Arc::clone(forest),
            lanes,
            nodes: Vec::new(),
            leaves: Vec::new(),
            groups: Vec::new(),
            trees: 0,
        };
        let mut order: Vec<(usize, usize)> =
            forest.trees.iter().enumerate().map(|(index, tree)| (tree.depth(), index)).collect();
        order.sort_unstable();
        walk.trees = order.len().next_multiple_of(TOGETHER);
        for trees in order.chunks(TOGETHER) {
            let steps = trees.iter().map(|(depth, _)| *depth).max().unwrap_or(0);
            let mut group = Group { roots: [0; TOGETHER], trees: [0; TOGETHER], steps };
            for place in 0..TOGETHER {
                let (root, tree) = match trees.get(place) {
                    Some((_, tree)) => (walk.tree(*tree, &tests)?, *tree),
                    // A pad walks the group's first tree once more.
                    None => (group.roots[0], forest.trees.len() + place - trees.len()),
                };
                (group.roots[place], group.trees[place]) = (root, tree as u32);
            }
            walk.groups.push(group);
        }
        walk.nodes.shrink_to_fit();
        walk.leaves.shrink_to_fit();
        Some(walk)
    }

    /// Adds a tree's nodes and gives its root.
    fn tree(&mut self, index: usize, tests: &[(u16, u16)]) -> Option<u32> {
        let forest = Arc::clone(&self.forest);
        let tree = &forest.trees[index];
        let root = u32::try_from(self.nodes.len() + 2 * tree.leaves.len()).ok()? - 2 * tree.leaves.len() as u32;
        let mut places = vec![0; tree.nodes.len()];
        let mut next = root + 1;
        self.nodes.resize(self.nodes.len() + tree.nodes.len() + tree.leaves.len(), Node { left: 0, lane: 0, rank: 0 });
        self.leaves.resize(self.nodes.len(), 0.0);
        let leaf = |leaves: &mut Vec<f64>, nodes: &mut Vec<Node>, place: u32, leaf: usize| {
            nodes[place as usize] = Node { left: place, lane: 0, rank: u16::MAX };
            leaves[place as usize] = tree.leaves[leaf];
        };
        if tree.nodes.is_empty() {
            leaf(&mut self.leaves, &mut self.nodes, root, 0);
        } else {
            places[0] = root;
        }
        for (index, node) in tree.nodes.iter().enumerate() {
            let (lane, rank) = tests[node.condition as usize];
            self.nodes[places[index] as usize] = Node { left: next, lane, rank };
            for (place, child) in [(next, node.left), (next + 1, node.right)] {
                match child {
                    Child::Node(child) => places[child as usize] = place,
                    Child::Leaf(child) => leaf(&mut self.leaves, &mut self.nodes, place, child as usize),
                }
            }
            next += 2;
        }
        Some(root)
    }

    /// What a row costs, about, in cycles of a core.
    pub(crate) fn cost(&self) -> f64 {
        let steps = self.groups.iter().map(|group| group.steps * TOGETHER).sum::<usize>();
        (steps * 3 + self.lanes.count / 8 + self.trees * 4 + self.forest.codes.slots().len() * 14) as f64
    }

    /// Bytes on the heap, without the forest.
    pub(crate) fn bytes(&self) -> usize {
        self.lanes.bytes() + self.nodes.len() * (size_of::<Node>() + 8) + self.groups.len() * size_of::<Group>()
    }
}

impl Engine for Walk {
    fn margins(&self, rows: Rows<'_>, out: &mut Vec<f64>) {
        let forest = &*self.forest;
        SCRATCH.with_borrow_mut(|scratch| {
            scratch.codes.resize(forest.codes.slots().len().max(scratch.codes.len()), 0);
            scratch.lanes.resize((BLOCK * self.lanes.count).max(scratch.lanes.len()), 0);
            scratch.found.resize((BLOCK * self.trees).max(scratch.found.len()), 0.0);
            for block in rows.blocks(BLOCK) {
                let lanes = scratch.lanes.chunks_exact_mut(self.lanes.count);
                for (row, lanes) in block.iter().zip(lanes) {
                    forest.codes.row(row, &mut scratch.codes);
                    self.lanes.expand(&scratch.codes, lanes);
                }
                for group in &self.groups {
                    let lanes = scratch.lanes.chunks_exact(self.lanes.count);
                    let found = scratch.found.chunks_exact_mut(self.trees);
                    for (lanes, found) in lanes.zip(found).take(block.len()) {
                        self.group(group, lanes, found);
                    }
                }
                let out = forest.begin(block.len(), out).chunks_exact_mut(forest.outputs);
                for (found, out) in scratch.found.chunks_exact(self.trees).zip(out) {
                    let found = &found[..forest.trees.len()];
                    match forest.sum {
                        Precision::Double => sum::<f64>(found, out),
                        Precision::Single => sum::<f32>(found, out),
                    }
                }
            }
        });
    }

    fn describe(&self) -> String {
        format!("walk of {}", super::kib(self.bytes()))
    }
}

impl Walk {
    /// Finds the leaves' values of a group's trees for one row, into `[trees]`.
    #[inline]
    fn group(&self, group: &Group, lanes: &[u16], found: &mut [f64]) {
        let mut places = group.roots;
        for _ in 0..group.steps {
            for place in &mut places {
                let node = self.nodes[*place as usize];
                *place = node.left + u32::from(lanes[usize::from(node.lane)] > node.rank);
            }
        }
        for (place, tree) in places.into_iter().zip(group.trees) {
            found[tree as usize] = self.leaves[place as usize];
        }
    }
}
