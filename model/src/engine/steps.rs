//! One row of a model with many thresholds: leaf masks at every so many nodes, and the nodes since, one by one.
//!
//! As in [`tables`](super::tables) what the nodes of a slot leave of all trees' leaves is an AND of masks. When a column
//! has hundreds of thresholds, a table row for each of them would take megabytes. But the nodes of a numeric column that
//! send a row right are those up to its rank: sorted by rank, they are a ladder on which every rank is a prefix. So there
//! is a table row (of all trees) at every so many nodes only, and a row of the model applies the nodes after it one by
//! one, as QuickScorer does (Lucchese et al., SIGIR 2015), each of them four bytes. The more table rows, the fewer nodes.

use std::cell::RefCell;
use std::sync::Arc;

use super::Engine;
use super::forest::{Forest, Test};
use super::masks::{Cleared, Leaves, and};
use super::simd::{ROW, Row, Simd, Tier, Work};
use crate::batch::Rows;

/// Bytes of the table, at most.
const MAX_BYTES: usize = 3 << 19;
/// Nodes that are applied one by one for a row and slot, at most: beyond, walking is cheaper.
const MAX_NODES: usize = 512;

/// The engine.
#[derive(Debug)]
pub(crate) struct Steps {
    forest: Arc<Forest>,
    tier: Tier,
    /// `[table rows, segments]`: the masks of all trees. The first is all ones.
    table: Vec<Row>,
    segments: usize,
    /// For each slot where its codes begin in `codes`.
    slots: Vec<usize>,
    codes: Vec<Code>,
    /// What the nodes clear, by slot and rank.
    nodes: Vec<Cleared>,
    leaves: Leaves,
}

/// What a code means: a table row, and nodes to be applied after it.
#[derive(Debug, Clone, Copy)]
struct Code {
    row: u32,
    from: u32,
    to: u32,
}

#[derive(Debug, Default)]
struct Scratch {
    codes: Vec<u16>,
    list: Vec<u32>,
    masks: Vec<Row>,
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

impl Steps {
    /// Nothing when a tree has more than 256 leaves, or the model has too many trees or categories for the table.
    pub(crate) fn new(forest: &Arc<Forest>, tier: Tier) -> Option<Self> {
        let leaves = Leaves::new(forest)?;
        let segments = forest.trees.len().div_ceil(leaves.trees_of_row());
        if segments * ROW > usize::from(u16::MAX) {
            return None;
        }
        let mut steps = Self {
            forest: Arc::clone(forest),
            tier,
            table: vec![Row([u64::MAX; ROW]); segments],
            segments,
            slots: Vec::new(),
            codes: Vec::new(),
            nodes: Vec::new(),
            leaves,
        };
        // For each condition what its nodes clear.
        let mut cleared: Vec<Vec<Cleared>> = vec![Vec::new(); forest.conditions.len()];
        for (index, tree) in forest.trees.iter().enumerate() {
            for node in &tree.nodes {
                let bits = Cleared::new(steps.leaves.bits, index, node.first..node.middle);
                cleared[node.condition as usize].extend(bits);
            }
        }
        // Codes without a rank take a table row each; what is left is for the ladders.
        let ladder = |slot: usize| {
            forest
                .conditions
                .iter()
                .any(|condition| condition.slot == slot && matches!(condition.test, Test::Above { .. }))
        };
        let ladders: Vec<bool> = (0..forest.codes.slots().len()).map(ladder).collect();
        let whole: usize =
            forest
                .codes
                .slots()
                .iter()
                .zip(&ladders)
                .map(|(slot, ladder)| {
                    if *ladder { usize::from(slot.zero.is_some()) + usize::from(slot.nan.is_some()) } else { slot.size }
                })
                .sum();
        let rungs = (MAX_BYTES / (segments * size_of::<Row>())).checked_sub(whole + 1)?;
        let nodes = cleared.iter().map(Vec::len).sum::<usize>();
        let every = nodes.div_ceil(rungs.max(1)).max(8);
        if every > MAX_NODES {
            return None;
        }
        let mut start = 0;
        for (slot, is_ladder) in ladders.into_iter().enumerate() {
            let count = forest.conditions[start..].iter().take_while(|condition| condition.slot == slot).count();
            steps.slot(slot, start..start + count, &cleared, is_ladder.then_some(every));
            start += count;
        }
        steps.table.shrink_to_fit();
        Some(steps)
    }

    /// Adds a slot with its conditions. `every`: nodes between table rows, for a slot of ranks.
    fn slot(&mut self, slot: usize, asked: std::ops::Range<usize>, cleared: &[Vec<Cleared>], every: Option<usize>) {
        let forest = Arc::clone(&self.forest);
        let size = &forest.codes.slots()[slot];
        let asked = || asked.clone().map(|index| (&forest.conditions[index], &cleared[index]));
        self.slots.push(self.codes.len());
        let mut masks = vec![Row([u64::MAX; ROW]); self.segments];
        let (mut row, mut from) = (0, self.nodes.len() as u32);
        let mut next = asked().peekable();
        for code in 0..size.size as u16 {
            if every.is_none() || Some(code) == size.zero || Some(code) == size.nan {
                let mut masks = vec![Row([u64::MAX; ROW]); self.segments];
                for (_, cleared) in asked().filter(|(condition, _)| condition.right(size, code)) {
                    clear(&mut masks, cleared);
                }
                let end = self.nodes.len() as u32;
                let row = self.row(&masks);
                self.codes.push(Code { row, from: end, to: end });
                continue;
            }
            // Conditions of lower ranks hold for this code.
            let below = |test: &Test| matches!(test, Test::Above { rank, .. } if *rank < code);
            while let Some((_, cleared)) = next.next_if(|(condition, _)| below(&condition.test)) {
                clear(&mut masks, cleared);
                self.nodes.extend(cleared);
            }
            let end = self.nodes.len() as u32;
            if (end - from) as usize >= every.unwrap_or(usize::MAX) {
                row = self.row(&masks);
                // The table row holds these nodes: they are needed only by codes before this one.
                from = end;
            }
            self.codes.push(Code { row, from, to: end });
        }
    }

    /// The number of a table row, which is added unless it is all ones.
    fn row(&mut self, masks: &[Row]) -> u32 {
        if masks.iter().all(|row| row.0.iter().all(|word| *word == u64::MAX)) {
            return 0;
        }
        self.table.extend(masks);
        (self.table.len() / self.segments - 1) as u32
    }

    /// What a row costs, about, in cycles of a core.
    pub(crate) fn cost(&self) -> f64 {
        let slots = self.slots.len();
        let reads = slots * self.segments * (2 + 2 * ROW / self.tier.width()) / 2;
        let nodes = self.codes.iter().map(|code| u64::from(code.to - code.from)).sum::<u64>() as f64;
        let each = nodes / self.codes.len().max(1) as f64 * slots as f64;
        (reads + self.forest.trees.len() * 4 + slots * 14) as f64 + each * 3.0
    }

    fn bytes(&self) -> usize {
        self.table.len() * size_of::<Row>()
            + self.codes.len() * size_of::<Code>()
            + self.nodes.len() * size_of::<Cleared>()
            + self.leaves.bytes()
    }
}

fn clear(masks: &mut [Row], cleared: &[Cleared]) {
    for cleared in cleared {
        masks[usize::from(cleared.word) / ROW].0[usize::from(cleared.word) % ROW] &= cleared.mask();
    }
}

impl Engine for Steps {
    fn margins(&self, rows: Rows<'_>, out: &mut Vec<f64>) {
        let out = self.forest.begin(rows.len(), out);
        SCRATCH.with_borrow_mut(|scratch| {
            self.tier.run(Batch { steps: self, rows, out, scratch });
        });
    }

    fn describe(&self) -> String {
        format!("steps of {}", super::kib(self.bytes()))
    }
}

/// Rows to evaluate; `out` is `[rows, outputs]` and holds what the sums begin with.
struct Batch<'a> {
    steps: &'a Steps,
    rows: Rows<'a>,
    out: &'a mut [f64],
    scratch: &'a mut Scratch,
}

impl Work for Batch<'_> {
    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Self { steps, rows, out, scratch } = self;
        let (slots, trees) = (steps.slots.len(), steps.forest.trees.len());
        scratch.codes.resize(slots.max(scratch.codes.len()), 0);
        scratch.list.resize((slots + 1).max(scratch.list.len()), 0);
        scratch.masks.resize(steps.segments.max(scratch.masks.len()), Row([0; ROW]));
        let masks = &mut scratch.masks[..steps.segments];
        for (row, out) in rows.iter().zip(out.chunks_exact_mut(steps.forest.outputs)) {
            steps.forest.codes.row(row, &mut scratch.codes);
            let mut length = 0;
            for (start, code) in steps.slots.iter().zip(&scratch.codes) {
                let row = steps.codes[start + usize::from(*code)].row;
                scratch.list[length] = row * steps.segments as u32;
                length += usize::from(row != 0);
            }
            for masks in &mut *masks {
                and(simd, &steps.table, &scratch.list[..length], masks);
                for row in &mut scratch.list[..length] {
                    *row += 1;
                }
            }
            for (start, code) in steps.slots.iter().zip(&scratch.codes) {
                let code = steps.codes[start + usize::from(*code)];
                for cleared in &steps.nodes[code.from as usize..code.to as usize] {
                    let word = usize::from(cleared.word);
                    masks[word / ROW].0[word % ROW] &= cleared.mask();
                }
            }
            let size = steps.leaves.trees_of_row();
            for (index, masks) in masks.iter().enumerate() {
                steps.leaves.add(index * size..trees.min((index + 1) * size), masks, out);
            }
        }
    }
}
