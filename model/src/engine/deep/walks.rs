//! Many walks at a time, over nodes of four or eight bytes.

use std::cell::RefCell;
use std::fmt::Debug;
use std::sync::Arc;

use super::lanes::Place;
use super::{Node, Trees, layout};
use crate::batch::Rows;
use crate::engine::simd::prefetch;
use crate::engine::{Engine, kib};

/// Steps between looks at who has arrived.
const STEPS: usize = 4;
/// Few rows are evaluated one by one, each with all trees; more than that tree by tree, with all rows of a block. A row for
/// so many bytes of a tree makes up for fetching them, from so many rows on.
const ROW_BYTES: usize = 400;
const FEW: std::ops::RangeInclusive<usize> = 24..=512;
/// Bytes of nodes that stay in a processor's last cache: then what a walk comes to next is there before it is needed, and rows
/// one by one are at least as fast as tree by tree.
const RESIDENT: usize = 1 << 24;
/// Bytes that the lanes of a block of rows may take, and rows of a block in any case.
const BLOCK_BYTES: usize = 1 << 20;
const BLOCK_ROWS: std::ops::RangeInclusive<usize> = 32..=1024;
const CACHE_LINE: usize = 64;

/// A node. A leaf leads to itself, whatever the row.
pub(super) trait Packed: Debug + Copy + Send + Sync + 'static {
    /// What a row is for the nodes: words or bytes.
    type Lane: Debug + Copy + Default;

    /// How far the next node is. `lanes`: those of all rows; `row`: where those of the row begin.
    fn step(self, lanes: &[Self::Lane], row: u32) -> u32;
    fn is_leaf(self) -> bool;
    /// The number of the leaf's row of values.
    fn leaf(self) -> u32;
    /// The memory for lanes.
    fn lanes(scratch: &mut Scratch) -> &mut Vec<Self::Lane>;
}

/// What turns rows into lanes, and trees into nodes that understand them.
pub(super) trait Front: Debug + Send + Sync {
    type Node: Packed;
    /// For people.
    const NAME: &str;

    /// Lanes of a row.
    fn stride(&self) -> usize;
    /// Writes the lanes of a row, `[stride]`.
    fn expand(&self, row: &[f64], lanes: &mut [<Self::Node as Packed>::Lane]);
    /// An inner node whose left child is so far away, unless that is too far.
    fn split(&self, place: Place, distance: u32) -> Option<Self::Node>;
    /// A leaf, unless its number is too great.
    fn leaf(&self, row: u32) -> Option<Self::Node>;
    /// What [`Packed::leaf`] says of the first row of leaf values.
    fn first_leaf(&self) -> u32 {
        0
    }
    /// Forgets what only nodes are made of.
    fn built(&mut self) {}
    /// Bytes on the heap.
    fn bytes(&self) -> usize;
}

/// An engine.
#[derive(Debug)]
pub(super) struct Walks<F: Front> {
    front: F,
    trees: Sums,
    /// Each tree begins with a cache line.
    nodes: Vec<F::Node>,
    /// Where the trees begin.
    roots: Vec<u32>,
    /// Rows of a block.
    block: usize,
    /// Rows from which on they are evaluated together.
    many: usize,
}

/// What is added to what: [`Trees`] without the nodes.
#[derive(Debug)]
struct Sums {
    values: Vec<f64>,
    /// The number of the first row of `values`.
    first: u32,
    width: usize,
    outputs: Vec<u32>,
    start: Vec<f64>,
}

/// What a call needs.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    pub(super) words: Vec<u32>,
    pub(super) bytes: Vec<u8>,
    places: Vec<u32>,
    ids: Vec<u32>,
    found: Vec<u32>,
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

impl<F: Front> Walks<F> {
    /// Nothing when the nodes cannot hold what they would have to. `places`: for each node what it asks.
    pub(super) fn new(trees: &Arc<Trees>, places: &[Place], mut front: F) -> Option<Self> {
        let line = CACHE_LINE / size_of::<F::Node>();
        let layouts: Vec<(Vec<u32>, usize)> =
            (0..trees.len()).map(|tree| layout::slots(trees.tree(tree), line)).collect();
        let slots: usize = layouts.iter().map(|(_, slots)| slots.next_multiple_of(line)).sum();
        let any = front.leaf(0)?;
        let mut nodes: Vec<F::Node> = Vec::with_capacity(slots + line);
        // Where the first cache line of this memory begins; it is not moved any more.
        let first = nodes.as_ptr().align_offset(CACHE_LINE).min(line);
        nodes.resize(slots + first, any);
        u32::try_from(nodes.len()).ok()?;
        let mut roots = Vec::with_capacity(trees.len());
        let mut root = first;
        for (tree, (slots, used)) in layouts.iter().enumerate() {
            let (first, all) = (trees.offsets[tree] as usize, trees.tree(tree));
            for ((node, place), &slot) in all.iter().zip(&places[first..]).zip(slots) {
                nodes[root + slot as usize] = match node {
                    Node::Leaf { row } => front.leaf(*row)?,
                    Node::Split(split) => front.split(*place, slots[split.left as usize] - slot)?,
                };
            }
            roots.push(root as u32);
            root += used.next_multiple_of(line);
        }
        let bytes = front.stride() * size_of::<<F::Node as Packed>::Lane>();
        let block = (BLOCK_BYTES / bytes.max(1)).clamp(*BLOCK_ROWS.start(), *BLOCK_ROWS.end());
        // Where lanes begin is a 32-bit number.
        u32::try_from(front.stride() * block).ok()?;
        let bytes = nodes.len() * size_of::<F::Node>() / trees.len();
        let many = (bytes / ROW_BYTES).clamp(*FEW.start(), *FEW.end()).min(block);
        front.built();
        let (values, outputs, start) = (trees.values.clone(), trees.outputs.clone(), trees.start.clone());
        let sums = Sums { values, first: front.first_leaf(), width: trees.width, outputs, start };
        Some(Self { front, trees: sums, nodes, roots, block, many })
    }

    /// Rows from which on they are evaluated together.
    pub(super) fn many(&self) -> usize {
        self.many
    }

    /// Never together, if that is not slower.
    pub(super) fn one_by_one(mut self) -> Self {
        if self.nodes.len() * size_of::<F::Node>() <= RESIDENT {
            self.many = usize::MAX;
        }
        self
    }

    /// Adds to the sums of a block of rows, `[rows, outputs]`.
    fn block(&self, rows: Rows<'_>, scratch: &mut Scratch, sums: &mut [f64]) {
        let (stride, outputs) = (self.front.stride(), self.trees.start.len());
        let together = if rows.len() < self.many { 1 } else { rows.len() };
        let walks = rows.len().max(self.roots.len());
        let mut lanes = std::mem::take(F::Node::lanes(scratch));
        lanes.resize((together * stride).max(lanes.len()), <F::Node as Packed>::Lane::default());
        let Scratch { places, ids, found, .. } = scratch;
        for list in [&mut *places, &mut *ids, &mut *found] {
            list.resize(walks.max(list.len()), 0);
        }
        if together == 1 {
            // All trees at a time.
            let trees = self.roots.len();
            for (row, sums) in rows.iter().zip(sums.chunks_exact_mut(outputs)) {
                self.front.expand(row, &mut lanes[..stride]);
                places[..trees].copy_from_slice(&self.roots);
                number(&mut ids[..trees]);
                arrive(&self.nodes, &lanes[..stride], 0, &mut places[..trees], &mut ids[..trees], found);
                self.trees.add_all(&found[..trees], sums);
            }
        } else {
            // All rows at a time.
            for (row, lanes) in rows.iter().zip(lanes.chunks_exact_mut(stride)) {
                self.front.expand(row, lanes);
            }
            let (lanes, count) = (&lanes[..rows.len() * stride], rows.len());
            for (tree, root) in self.roots.iter().enumerate() {
                places[..count].fill(*root);
                number(&mut ids[..count]);
                arrive(&self.nodes, lanes, stride as u32, &mut places[..count], &mut ids[..count], found);
                self.trees.add(tree, &found[..count], sums);
            }
        }
        *F::Node::lanes(scratch) = lanes;
    }
}

/// 0, 1, 2, ...
fn number(ids: &mut [u32]) {
    for (number, id) in (0..).zip(ids) {
        *id = number;
    }
}

impl Sums {
    /// Adds one tree's leaves to the sums of some rows, `[rows, outputs]`. `found`: the number of each row's leaf values.
    fn add(&self, tree: usize, found: &[u32], sums: &mut [f64]) {
        let output = self.outputs[tree] as usize;
        for (sums, row) in sums.chunks_exact_mut(self.start.len()).zip(found) {
            if self.width == 1 {
                sums[output] += self.values[(*row - self.first) as usize];
            } else {
                self.add_row(*row, sums);
            }
        }
    }

    /// Adds all trees' leaves to the sums of one row, `[outputs]`. `found`: the number of each tree's leaf values.
    fn add_all(&self, found: &[u32], sums: &mut [f64]) {
        match sums {
            [sum] if self.width == 1 => {
                for row in found {
                    *sum += self.values[(*row - self.first) as usize];
                }
            }
            sums if self.width == 1 => {
                for (row, output) in found.iter().zip(&self.outputs) {
                    sums[*output as usize] += self.values[(*row - self.first) as usize];
                }
            }
            sums => found.iter().for_each(|row| self.add_row(*row, sums)),
        }
    }

    #[inline]
    fn add_row(&self, row: u32, sums: &mut [f64]) {
        let values = &self.values[(row - self.first) as usize * self.width..][..self.width];
        for (sum, value) in sums.iter_mut().zip(values) {
            *sum += value;
        }
    }
}

impl<F: Front> Engine for Walks<F> {
    fn margins(&self, rows: Rows<'_>, out: &mut Vec<f64>) {
        SCRATCH.with_borrow_mut(|scratch| {
            for block in rows.blocks(self.block) {
                let start = out.len();
                for _ in 0..block.len() {
                    out.extend_from_slice(&self.trees.start);
                }
                self.block(block, scratch, &mut out[start..]);
            }
        });
    }

    fn describe(&self) -> String {
        let nodes = self.nodes.len() * size_of::<F::Node>();
        let bytes = nodes + self.trees.values.len() * 8 + self.roots.len() * 8 + self.front.bytes();
        format!("{} of {}", F::NAME, kib(bytes))
    }
}

/// Takes walks from where they are to their leaves, and writes for each walk the number of its leaf's row of values to
/// `found[id]`. The lanes of walk `id` begin at `id * stride`.
///
/// All walks take some steps together, so that many wait for memory at the same time; then those that have arrived
/// leave. Nothing here is a branch that depends on a row.
#[inline(always)]
fn arrive<N: Packed>(
    nodes: &[N],
    lanes: &[N::Lane],
    stride: u32,
    mut places: &mut [u32],
    mut ids: &mut [u32],
    found: &mut [u32],
) {
    while !places.is_empty() {
        for _ in 0..STEPS {
            for (place, id) in places.iter_mut().zip(&*ids) {
                *place += nodes[*place as usize].step(lanes, *id * stride);
                // By the next step it is there: a walk waits for memory while the others go on.
                prefetch(nodes, *place as usize);
            }
        }
        let mut left = 0;
        for walk in 0..places.len().min(ids.len()) {
            let (place, id) = (places[walk], ids[walk]);
            let node = nodes[place as usize];
            found[id as usize] = node.leaf();
            (places[left], ids[left]) = (place, id);
            left += usize::from(!node.is_leaf());
        }
        (places, ids) = (&mut places[..left], &mut ids[..left]);
    }
}
