//! Many rows at once: a bit for each row of a block, 256 or 512 of them in a register.
//!
//! 1. Each used column becomes codes, and for each code the set of the block's rows that have it. A threshold's set,
//!    the rows at most as high, is the union of the sets of the codes up to its rank, so that *all* conditions of a
//!    column cost one pass over the rows and one over the codes; a set of categories is a union, too. Every distinct
//!    condition of the model is answered once for a block, however many nodes ask it.
//! 2. Each tree from its root down: of the rows that reach a node, those go left for which the condition does not hold.
//!    Two instructions for a node and 256 or 512 rows.
//! 3. The leaves' numbers as bit planes: plane `i` is the union of what reaches the leaves whose number has bit `i`, where
//!    a subtree that agrees on the bit is one operand. Planes are transposed to a byte for each row and tree.
//! 4. Each row adds the values of its leaves in the order of the trees.
//!
//! The idea of evaluating trees by bits of a block of rows is that of bit-sliced QuickScorer variants (Lucchese et al.,
//! SIGIR 2016: V-QuickScorer), with the roles of trees and rows exchanged.

use std::cell::RefCell;
use std::ops::Range;
use std::sync::Arc;

use super::Engine;
use super::codes::Slot;
use super::forest::{Child, Forest, Test, Tree};
use super::simd::{GROUP, Simd, Tier, Work};
use super::values::{Number, Values};
use crate::batch::Rows;

/// Leaves of a tree, at most: their numbers are bytes.
const MAX_LEAVES: usize = 256;
/// Places of a reach list: inner nodes and leaves.
const REACH: usize = 2 * MAX_LEAVES;
/// Rows of the widest block.
const MAX_ROWS: usize = 512;
/// Bytes that the conditions of a block may take, in words of the widest block.
const MAX_BYTES: usize = 16 << 20;
/// Unions that the category sets may take for a block.
const MAX_UNIONS: usize = 1 << 20;

/// The engine.
#[derive(Debug)]
pub(crate) struct Blocks {
    forest: Arc<Forest>,
    tier: Tier,
    /// What is asked of each slot.
    slots: Vec<Questions>,
    /// Codes of each slot, at most.
    codes: usize,
    trees: Vec<Plan>,
    /// Padded to whole groups.
    nodes: Vec<Node>,
    unions: Vec<u16>,
    /// `[trees, stride]`, trees padded to whole groups.
    leaves: Values,
    /// A power of two.
    stride: usize,
}

/// The conditions of a slot, which are consecutive.
#[derive(Debug, Default)]
struct Questions {
    first: usize,
    answers: Vec<Answer>,
}

/// How the rows that go left at a condition are found from the rows of each code.
#[derive(Debug)]
enum Answer {
    /// Codes up to the rank; with zero or NaN as told.
    UpTo { rank: u16, special: u8 },
    /// These codes.
    Of { codes: Box<[u16]> },
    /// All but these codes.
    But { codes: Box<[u16]> },
}

/// A tree, as ranges of `nodes` and `unions`.
#[derive(Debug, Clone, Default)]
struct Plan {
    nodes: Range<usize>,
    /// Ends of each plane's unions; the first begins at the end of the tree before.
    planes: Vec<u32>,
    first: u32,
}

/// A node: those who reach it are divided between two places of the reach list.
#[derive(Debug, Clone, Copy)]
struct Node {
    condition: u32,
    left: u16,
    right: u16,
}

#[derive(Debug, Default)]
struct Scratch {
    codes: Vec<u16>,
    by_code: Vec<u64>,
    conditions: Vec<u64>,
    reach: Vec<u64>,
    numbers: Vec<u8>,
    /// Where the sums are of single precision, `[rows, outputs]`.
    sums: Vec<f32>,
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

impl Blocks {
    /// Nothing when a tree has more than 256 leaves, or the model has too many conditions.
    pub(crate) fn new(forest: &Arc<Forest>, tier: Tier) -> Option<Self> {
        let most = forest.trees.iter().map(|tree| tree.leaves.len()).max()?;
        if most > MAX_LEAVES || forest.conditions.len() * (MAX_ROWS / 8) > MAX_BYTES {
            return None;
        }
        // The widths for which `sum` is compiled.
        let stride = most.next_power_of_two().max(16);
        let padded = forest.trees.len().next_multiple_of(GROUP);
        let mut blocks = Self {
            forest: Arc::clone(forest),
            tier,
            slots: forest.codes.slots().iter().map(|_| Questions::default()).collect(),
            codes: forest.codes.slots().iter().map(|slot| slot.size).max().unwrap_or(0),
            trees: Vec::with_capacity(padded),
            nodes: Vec::new(),
            unions: Vec::new(),
            leaves: Values::Double(Vec::new()),
            stride,
        };
        let mut unions = 0;
        for (index, condition) in forest.conditions.iter().enumerate() {
            let answer = answer(&condition.test, forest.codes.slots()[condition.slot].size);
            if let Answer::Of { codes } | Answer::But { codes } = &answer {
                unions += codes.len();
            }
            let slot = &mut blocks.slots[condition.slot];
            if slot.answers.is_empty() {
                slot.first = index;
            }
            slot.answers.push(answer);
        }
        if unions > MAX_UNIONS {
            return None;
        }
        // The pads' one leaf is -0.0: adding it changes nothing, not even a negative zero.
        let mut leaves = vec![-0.0; padded * stride];
        for (leaves, tree) in leaves.chunks_exact_mut(stride).zip(&forest.trees) {
            leaves[..tree.leaves.len()].copy_from_slice(&tree.leaves);
        }
        blocks.leaves = Values::new(leaves, forest.sum);
        for tree in &forest.trees {
            blocks.plan(tree);
        }
        let end = blocks.nodes.len();
        blocks.trees.resize(padded, Plan { nodes: end..end, ..Plan::default() });
        blocks.nodes.shrink_to_fit();
        blocks.unions.shrink_to_fit();
        Some(blocks)
    }

    /// Adds a tree. The reach list is: the inner nodes in this order, then the leaves.
    fn plan(&mut self, tree: &Tree) {
        let (nodes, first) = (self.nodes.len(), self.unions.len() as u32);
        // Level by level: a node is written long before it is read.
        let mut order = Vec::with_capacity(tree.nodes.len());
        if !tree.nodes.is_empty() {
            order.push(0_u32);
        }
        let mut next = 0;
        while let Some(&index) = order.get(next) {
            let node = &tree.nodes[index as usize];
            let mut place = |child: Child| match child {
                Child::Leaf(leaf) => (tree.nodes.len() + leaf as usize) as u16,
                Child::Node(node) => {
                    order.push(node);
                    (order.len() - 1) as u16
                }
            };
            let (left, right) = (place(node.left), place(node.right));
            self.nodes.push(Node { condition: node.condition, left, right });
            next += 1;
        }
        let mut planes = Vec::new();
        let bits = usize::BITS - (tree.leaves.len() - 1).leading_zeros();
        for bit in 0..bits {
            // What reaches a node or leaf, where all leaves below have the bit set and not all below its parent.
            let whole = |first: u32, end: u32| first >> bit == (end - 1) >> bit && first >> bit & 1 == 1;
            for (place, index) in order.iter().enumerate() {
                let node = &tree.nodes[*index as usize];
                if whole(node.first, node.end) {
                    continue;
                }
                let built = &self.nodes[nodes + place];
                if whole(node.first, node.middle) {
                    self.unions.push(built.left);
                }
                if whole(node.middle, node.end) {
                    self.unions.push(built.right);
                }
            }
            planes.push(self.unions.len() as u32);
        }
        self.trees.push(Plan { nodes: nodes..self.nodes.len(), planes, first });
    }

    /// What a block costs however few its rows are, and what each row costs in addition: about, in cycles of a core.
    pub(crate) fn cost(&self) -> (f64, f64) {
        let mut block = self.nodes.len() * 6 + self.unions.len() * 2 + self.trees.len() * 16 * self.tier.width();
        for (slot, questions) in self.forest.codes.slots().iter().zip(&self.slots) {
            block += slot.size * 3;
            for answer in &questions.answers {
                block += match answer {
                    Answer::UpTo { .. } => 6,
                    Answer::Of { codes } | Answer::But { codes } => 10 + codes.len(),
                };
            }
        }
        (block as f64, (self.slots.len() * 12 + self.trees.len() * 2) as f64)
    }

    /// Rows of a block.
    pub(crate) fn rows(&self) -> usize {
        64 * self.tier.width()
    }

    /// Bytes on the heap, without the forest.
    pub(crate) fn bytes(&self) -> usize {
        let planes = self.trees.iter().map(|tree| tree.planes.capacity() * 4).sum::<usize>();
        let answers = self.slots.iter().map(|slot| slot.answers.capacity() * size_of::<Answer>()).sum::<usize>();
        self.nodes.len() * size_of::<Node>()
            + self.unions.len() * 2
            + self.leaves.bytes()
            + self.trees.len() * size_of::<Plan>()
            + planes
            + answers
    }
}

fn answer(test: &Test, size: usize) -> Answer {
    match test {
        Test::Above { rank, zero, nan } => {
            Answer::UpTo { rank: *rank, special: u8::from(!*zero) + 2 * u8::from(!*nan) }
        }
        Test::Outside { set } => {
            let has = |code: &u16| set[usize::from(*code) / 64] >> (code % 64) & 1 == 1;
            let (codes, others): (Vec<u16>, Vec<u16>) = (0..size as u16).partition(has);
            if codes.len() <= others.len() {
                Answer::Of { codes: codes.into() }
            } else {
                Answer::But { codes: others.into() }
            }
        }
    }
}

impl Engine for Blocks {
    fn margins(&self, rows: Rows<'_>, out: &mut Vec<f64>) {
        let outputs = self.forest.outputs;
        let out = self.forest.begin(rows.len(), out);
        SCRATCH.with_borrow_mut(|scratch| {
            for (rows, out) in rows.blocks(self.rows()).zip(out.chunks_mut(self.rows() * outputs)) {
                self.tier.run(Block { blocks: self, rows, out, scratch });
            }
        });
    }

    fn describe(&self) -> String {
        format!("blocks of {}", super::kib(self.bytes()))
    }
}

/// The rows of a block to evaluate; `out` is `[rows, outputs]` and holds what the sums begin with.
struct Block<'a> {
    blocks: &'a Blocks,
    rows: Rows<'a>,
    out: &'a mut [f64],
    scratch: &'a mut Scratch,
}

impl Work for Block<'_> {
    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Self { blocks, rows, out, scratch } = self;
        let forest = &*blocks.forest;
        scratch.codes.resize(MAX_ROWS, 0);
        scratch.numbers.resize(GROUP * MAX_ROWS, 0);
        let by_code = aligned(&mut scratch.by_code, blocks.codes * S::WORDS);
        let conditions = simd.words_mut(aligned(&mut scratch.conditions, forest.conditions.len() * S::WORDS));
        let reach = simd.words_mut(aligned(&mut scratch.reach, REACH * S::WORDS)).first_chunk_mut();
        // There are so many words, so that there is a chunk.
        let Some(reach) = reach else { return };

        let codes = &mut scratch.codes[..rows.len()];
        for (index, column) in forest.codes.columns() {
            forest.codes.column(column, rows, codes);
            let (slot, questions) = (&forest.codes.slots()[index], &blocks.slots[index]);
            let by_code = &mut by_code[..slot.size * S::WORDS];
            by_code.fill(0);
            for (row, code) in codes.iter().enumerate() {
                by_code[usize::from(*code) * S::WORDS + row / 64] |= 1 << (row % 64);
            }
            let to = &mut conditions[questions.first..questions.first + questions.answers.len()];
            answers(simd, slot, &questions.answers, simd.words(by_code), to);
        }

        let numbers = &mut scratch.numbers[..GROUP * 64 * S::WORDS];
        match &blocks.leaves {
            Values::Double(leaves) => trees(simd, blocks, leaves, conditions, reach, numbers, out),
            Values::Single(leaves) => {
                scratch.sums.clear();
                scratch.sums.extend(out.iter().map(|start| *start as f32));
                trees(simd, blocks, leaves, conditions, reach, numbers, &mut scratch.sums);
                for (out, sum) in out.iter_mut().zip(&scratch.sums) {
                    *out = f64::from(*sum);
                }
            }
        }
    }
}

/// Adds the leaves of all trees to the sums, `[rows, outputs]`.
#[inline(always)]
fn trees<S: Simd, T: Number>(
    simd: S,
    blocks: &Blocks,
    leaves: &[T],
    conditions: &[S::Words],
    reach: &mut [S::Words; REACH],
    numbers: &mut [u8],
    sums: &mut [T],
) {
    let outputs = blocks.forest.outputs;
    let groups = blocks.trees.chunks_exact(GROUP).zip(leaves.chunks_exact(GROUP * blocks.stride));
    for (group, (plans, leaves)) in groups.enumerate() {
        for (plan, numbers) in plans.iter().zip(numbers.chunks_exact_mut(64 * S::WORDS)) {
            tree(simd, blocks, plan, conditions, reach, numbers);
        }
        let first = group * GROUP % outputs;
        match blocks.stride {
            16 => sum::<S, T, 16>(simd, leaves, numbers, sums, outputs, first),
            32 => sum::<S, T, 32>(simd, leaves, numbers, sums, outputs, first),
            64 => sum::<S, T, 64>(simd, leaves, numbers, sums, outputs, first),
            128 => sum::<S, T, 128>(simd, leaves, numbers, sums, outputs, first),
            _ => sum::<S, T, 256>(simd, leaves, numbers, sums, outputs, first),
        }
    }
}

/// For each condition of a slot the rows that go left, from the rows that have each code.
#[inline(always)]
fn answers<S: Simd>(simd: S, slot: &Slot, answers: &[Answer], by_code: &[S::Words], to: &mut [S::Words]) {
    let none = simd.splat(false);
    let (mut zero, mut nan) = (none, none);
    if let Some(code) = slot.zero {
        zero = simd.load(&by_code[usize::from(code)]);
    }
    if let Some(code) = slot.nan {
        nan = simd.load(&by_code[usize::from(code)]);
    }
    let specials = [none, zero, nan, simd.or(zero, nan)];
    let (mut sum, mut next) = (none, 0);
    for (answer, to) in answers.iter().zip(to) {
        let rows = match answer {
            Answer::UpTo { rank, special } => {
                let end = usize::from(*rank) + 1;
                for rows in &by_code[next..end] {
                    sum = simd.or(sum, simd.load(rows));
                }
                next = end;
                simd.or(sum, specials[usize::from(special % 4)])
            }
            Answer::Of { codes } => union(simd, codes, by_code),
            Answer::But { codes } => simd.and_not(simd.splat(true), union(simd, codes, by_code)),
        };
        simd.store(rows, to);
    }
}

#[inline(always)]
fn union<S: Simd>(simd: S, places: &[u16], rows: &[S::Words]) -> S::Mask {
    let mut sum = simd.splat(false);
    for place in places {
        sum = simd.or(sum, simd.load(&rows[usize::from(*place)]));
    }
    sum
}

/// The numbers of the leaves that the rows reach in a tree.
#[inline(always)]
fn tree<S: Simd>(
    simd: S,
    blocks: &Blocks,
    plan: &Plan,
    conditions: &[S::Words],
    reach: &mut [S::Words; REACH],
    numbers: &mut [u8],
) {
    simd.store(simd.splat(true), &mut reach[0]);
    for (place, node) in blocks.nodes[plan.nodes.clone()].iter().enumerate() {
        // `% REACH` changes nothing and saves the checks.
        let here = simd.load(&reach[place % REACH]);
        let left = simd.load(&conditions[node.condition as usize]);
        simd.store(simd.and(here, left), &mut reach[usize::from(node.left) % REACH]);
        simd.store(simd.and_not(here, left), &mut reach[usize::from(node.right) % REACH]);
    }
    let mut planes = [reach[0]; 8];
    let mut start = plan.first;
    for (plane, end) in planes.iter_mut().zip(&plan.planes) {
        let mut rows = simd.splat(false);
        for place in &blocks.unions[start as usize..*end as usize] {
            rows = simd.or(rows, simd.load(&reach[usize::from(*place) % REACH]));
        }
        simd.store(rows, plane);
        start = *end;
    }
    simd.transpose(&planes[..plan.planes.len()], numbers);
}

/// Adds the leaves of a group's trees, `[GROUP, N]`, to the sums of each row, from output `first` on and around.
#[inline(always)]
fn sum<S: Simd, T: Number, const N: usize>(
    simd: S,
    leaves: &[T],
    numbers: &[u8],
    sums: &mut [T],
    outputs: usize,
    first: usize,
) {
    let capacity = numbers.len() / GROUP;
    let leaves: &[[T; N]] = leaves.as_chunks().0;
    if outputs == 1 {
        // There are as many trees, so that there is a group.
        if let Some(leaves) = leaves.first_chunk::<GROUP>() {
            T::add_group(simd, leaves, numbers, sums);
        }
        return;
    }
    for (tree, (leaves, numbers)) in leaves.iter().zip(numbers.chunks_exact(capacity)).enumerate() {
        let output = (first + tree) % outputs;
        for (row, number) in sums.chunks_exact_mut(outputs).zip(numbers) {
            row[output] += leaves[usize::from(*number) % N];
        }
    }
}

/// Words that begin with a cache line.
fn aligned(memory: &mut Vec<u64>, words: usize) -> &mut [u64] {
    if memory.len() < words + 8 {
        memory.resize(words + 8, 0);
    }
    let skip = memory.as_ptr().align_offset(64).min(8);
    &mut memory[skip..skip + words]
}
