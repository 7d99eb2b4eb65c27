//! Many rows at once: a bit for each row of a block, 256 or 512 of them in a register.
//!
//! 1. Each used column becomes codes, and for each code the set of the block's rows that have it. A threshold's set,
//!    the rows at most as high, is the union of the sets of the codes up to its rank, so that *all* conditions of a
//!    column cost one pass over the rows and one over the codes; a set of categories is a union, too. Every distinct
//!    condition of the model is answered once for a block, however many nodes ask it.
//! 2. Each tree from its root down: of the rows that reach a node, those go left for which the condition does not hold.
//!    Two instructions for a node and 256 or 512 rows.
//! 3. The leaves' numbers as bit planes: plane `i` has the rows that reach leaves whose number has bit `i`. It is the
//!    symmetric difference of what reaches some nodes and leaves, as few as there can be ([`planes`]). Planes are
//!    transposed to a byte for each row and tree.
//! 4. Each row adds the values of its leaves in the order of the trees.
//!
//! The idea of evaluating trees by bits of a block of rows is that of bit-sliced QuickScorer variants (Lucchese et al.,
//! SIGIR 2016: V-QuickScorer), with the roles of trees and rows exchanged.

use std::cell::RefCell;
use std::ops::Range;
use std::sync::Arc;

use super::Engine;
use super::codes::Slot;
use super::forest::{Forest, Test, Tree};
use super::simd::{GROUP, Simd, Tier, Work};
use super::values::{Number, Values};
use crate::batch::Rows;
use planes::{PLANES, Plan};

mod planes;

/// Leaves of a tree, at most: their numbers are bytes.
const MAX_LEAVES: usize = 256;
/// Places of a reach list: inner nodes and leaves, one less than twice the leaves, and [`NOBODY`].
const REACH: usize = 2 * MAX_LEAVES;
/// The place that no row reaches.
const NOBODY: usize = REACH - 1;
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
    groups: Vec<Group>,
    nodes: Vec<Node>,
    /// Places of the reach list, plane by plane, tree by tree.
    operands: Vec<u16>,
    /// `[trees, stride]` by the numbers of the leaves, trees padded to whole groups.
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

/// Some trees.
#[derive(Debug)]
struct Group {
    /// For each tree where its nodes are.
    nodes: [Range<usize>; GROUP],
    /// Where the operands of the first tree begin.
    operands: usize,
    /// Operands of each plane, the same for all trees of the group: a loop whose length changes from tree to tree costs
    /// more than operands that nobody reaches.
    counts: [usize; PLANES],
    /// Planes that have operands.
    planes: usize,
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
            groups: Vec::with_capacity(padded / GROUP),
            nodes: Vec::new(),
            operands: Vec::new(),
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
        for (trees, leaves) in forest.trees.chunks(GROUP).zip(leaves.chunks_exact_mut(GROUP * stride)) {
            blocks.group(trees, leaves, stride);
        }
        blocks.leaves = Values::new(leaves, forest.sum);
        blocks.nodes.shrink_to_fit();
        blocks.operands.shrink_to_fit();
        Some(blocks)
    }

    /// Adds a group of trees, and writes the values of its leaves, `[GROUP, stride]`.
    fn group(&mut self, trees: &[Tree], leaves: &mut [f64], stride: usize) {
        let mut group = Group {
            nodes: std::array::from_fn(|_| 0..0),
            operands: self.operands.len(),
            counts: [0; PLANES],
            planes: 0,
        };
        let mut plans = Vec::with_capacity(GROUP);
        for ((tree, nodes), leaves) in trees.iter().zip(&mut group.nodes).zip(leaves.chunks_exact_mut(stride)) {
            let plan = Plan::new(tree);
            for (leaf, number) in tree.leaves.iter().zip(&plan.numbers) {
                leaves[usize::from(*number)] = *leaf;
            }
            for (count, operands) in group.counts.iter_mut().zip(&plan.planes) {
                *count = operands.len().max(*count);
            }
            let first = self.nodes.len();
            let built = plan.order.iter().zip(&plan.places).map(|(index, [left, right])| {
                let condition = tree.nodes[*index as usize].condition;
                Node { condition, left: *left, right: *right }
            });
            self.nodes.extend(built);
            *nodes = first..self.nodes.len();
            plans.push(plan);
        }
        group.planes = group.counts.iter().rposition(|count| *count > 0).map_or(0, |last| last + 1);
        // A pad has operands, too: none that a row reaches.
        plans.resize_with(GROUP, Plan::default);
        for plan in &plans {
            for (operands, count) in plan.planes.iter().zip(group.counts) {
                self.operands.extend(operands);
                self.operands.extend(std::iter::repeat_n(NOBODY as u16, count - operands.len()));
            }
        }
        self.groups.push(group);
    }

    /// What a block of few rows costs however few they are, and what each row costs in addition: about, in cycles of a core.
    pub(crate) fn cost(&self) -> (f64, f64) {
        let tier = self.tier.narrow();
        let trees = self.groups.len() * GROUP;
        let mut block = self.nodes.len() * 6 + self.operands.len() * 2 + trees * 16 * tier.width();
        for (slot, questions) in self.forest.codes.slots().iter().zip(&self.slots) {
            block += slot.size * 3;
            for answer in &questions.answers {
                block += match answer {
                    Answer::UpTo { .. } => 6,
                    Answer::Of { codes } | Answer::But { codes } => 10 + codes.len(),
                };
            }
        }
        (block as f64, (self.slots.len() * 12) as f64 + trees as f64 * tier.leaf())
    }

    /// Rows of a block.
    pub(crate) fn rows(&self) -> usize {
        64 * self.tier.width()
    }

    /// Bytes on the heap, without the forest.
    pub(crate) fn bytes(&self) -> usize {
        let answers = self.slots.iter().map(|slot| slot.answers.capacity() * size_of::<Answer>()).sum::<usize>();
        self.nodes.len() * size_of::<Node>()
            + self.operands.len() * 2
            + self.leaves.bytes()
            + self.groups.len() * size_of::<Group>()
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
                let narrow = self.tier.narrow();
                let tier = if rows.len() <= 64 * narrow.width() { narrow } else { self.tier };
                tier.run(Block { blocks: self, rows, out, scratch });
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
        scratch.numbers.resize(GROUP * MAX_ROWS, 0);
        let by_code = aligned(&mut scratch.by_code, blocks.codes * S::WORDS);
        let conditions = simd.words_mut(aligned(&mut scratch.conditions, forest.conditions.len() * S::WORDS));
        let reach = simd.words_mut(aligned(&mut scratch.reach, REACH * S::WORDS)).first_chunk_mut();
        // There are so many words, so that there is a chunk.
        let Some(reach) = reach else { return };

        let stride = 64 * S::WORDS;
        scratch.codes.resize((blocks.slots.len() * stride).max(scratch.codes.len()), 0);
        forest.codes.block(rows, stride, &mut scratch.codes);
        for (index, codes) in scratch.codes.chunks_exact(stride).enumerate().take(blocks.slots.len()) {
            let (slot, questions) = (&forest.codes.slots()[index], &blocks.slots[index]);
            let by_code = &mut by_code[..slot.size * S::WORDS];
            by_code.fill(0);
            for (row, code) in codes[..rows.len()].iter().enumerate() {
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
    simd.store(simd.splat(false), &mut reach[NOBODY]);
    for (index, (group, leaves)) in blocks.groups.iter().zip(leaves.chunks_exact(GROUP * blocks.stride)).enumerate() {
        let mut operands = &blocks.operands[group.operands..];
        for (nodes, numbers) in group.nodes.iter().zip(numbers.chunks_exact_mut(64 * S::WORDS)) {
            pass(simd, &blocks.nodes[nodes.clone()], conditions, reach);
            operands = number(simd, group, operands, reach, numbers);
        }
        let first = index * GROUP % outputs;
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

/// Which rows reach each place of a tree.
#[inline(always)]
fn pass<S: Simd>(simd: S, nodes: &[Node], conditions: &[S::Words], reach: &mut [S::Words; REACH]) {
    simd.store(simd.splat(true), &mut reach[0]);
    for (place, node) in nodes.iter().enumerate() {
        // `% REACH` changes nothing and saves the checks.
        let here = simd.load(&reach[place % REACH]);
        let left = simd.load(&conditions[node.condition as usize]);
        simd.store(simd.and(here, left), &mut reach[usize::from(node.left) % REACH]);
        simd.store(simd.and_not(here, left), &mut reach[usize::from(node.right) % REACH]);
    }
}

/// The numbers of the leaves that the rows reach in a tree; gives the operands of the trees after it.
#[inline(always)]
fn number<'a, S: Simd>(
    simd: S,
    group: &Group,
    mut operands: &'a [u16],
    reach: &[S::Words; REACH],
    numbers: &mut [u8],
) -> &'a [u16] {
    let mut planes = [reach[NOBODY]; PLANES];
    let planes = &mut planes[..group.planes];
    for (plane, count) in planes.iter_mut().zip(group.counts) {
        let mut rows = simd.splat(false);
        let (of_plane, rest) = operands.split_at(count);
        for place in of_plane {
            rows = simd.xor(rows, simd.load(&reach[usize::from(*place) % REACH]));
        }
        simd.store(rows, plane);
        operands = rest;
    }
    simd.transpose(planes, numbers);
    operands
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
