//! One row, few rows: no compare and no branch, only tables of leaf masks.
//!
//! A tree's leaves are bits, from left to right. A node that sends the row right clears the leaves below its left child;
//! after all nodes have had their say, the first bit that is left is the leaf that a walk would reach (Lucchese et al.,
//! QuickScorer, SIGIR 2015; with wider masks and their compression as in Ye et al., RapidScorer, KDD 2018). What all
//! nodes of a tree say about one slot depends on the slot's code alone, so it is computed at load:
//! `table[chunk][slot][code]` holds the masks of 16 to 128 trees, 512 bytes. A row of the model is the AND of one table
//! row for each slot, then a count of leading zeros and an addition for each tree, in the order of the trees.
//!
//! Table rows that are all ones are skipped, equal ones are stored once, and slots that no tree of a chunk asks about do
//! not occur.

use std::cell::RefCell;
use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use super::Engine;
use super::forest::Forest;
use super::masks::{self, Leaves, and};
use super::simd::{ROW, Row, Simd, Tier, Work};
use crate::batch::Rows;

/// Bytes of a table, at most: beyond the second cache of a core the walk is faster and does not evict what others use.
const MAX_BYTES: usize = 2 << 20;
/// Questions asked when a table is built.
const MAX_STEPS: usize = 1 << 26;
/// Rows whose codes are computed before the table is read, chunk by chunk.
const BLOCK: usize = 32;

/// The engine.
#[derive(Debug)]
pub(crate) struct Tables {
    forest: Arc<Forest>,
    tier: Tier,
    chunks: Vec<Chunk>,
    /// The first is all ones.
    table: Vec<Row>,
    /// For each slot of each chunk, for each code, the table row.
    rows: Vec<u32>,
    leaves: Leaves,
}

/// Consecutive trees whose masks fill a table row.
#[derive(Debug)]
struct Chunk {
    trees: Range<usize>,
    /// Slots that the trees ask about, each with its place in `rows`.
    slots: Vec<(u32, u32)>,
}

#[derive(Debug, Default)]
struct Scratch {
    codes: Vec<u16>,
    rows: Vec<u32>,
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

impl Tables {
    /// Nothing when a tree has more than 256 leaves or the table would be too large.
    pub(crate) fn new(forest: &Arc<Forest>, tier: Tier) -> Option<Self> {
        let mut tables = Self {
            forest: Arc::clone(forest),
            tier,
            chunks: Vec::new(),
            table: vec![Row([u64::MAX; ROW])],
            rows: Vec::new(),
            leaves: Leaves::new(forest)?,
        };
        let size = tables.leaves.trees_of_row();
        let mut steps = 0;
        for start in (0..forest.trees.len()).step_by(size) {
            tables.chunk(forest, start..forest.trees.len().min(start + size), &mut steps)?;
        }
        tables.table.shrink_to_fit();
        tables.rows.shrink_to_fit();
        Some(tables)
    }

    /// Adds the table rows of some trees.
    fn chunk(&mut self, forest: &Forest, trees: Range<usize>, steps: &mut usize) -> Option<()> {
        // For each slot who asks: condition, tree, leaves to clear.
        let mut asked: Vec<Vec<(u32, usize, Range<u32>)>> = vec![Vec::new(); forest.codes.slots().len()];
        for (index, tree) in forest.trees[trees.clone()].iter().enumerate() {
            for node in &tree.nodes {
                let slot = forest.conditions[node.condition as usize].slot;
                asked[slot].push((node.condition, index, node.first..node.middle));
            }
        }
        let mut slots = Vec::new();
        for (slot, asked) in asked.into_iter().enumerate().filter(|(_, asked)| !asked.is_empty()) {
            let size = &forest.codes.slots()[slot];
            *steps += size.size * asked.len();
            if *steps > MAX_STEPS {
                return None;
            }
            slots.push((slot as u32, self.rows.len() as u32));
            let mut known = HashMap::from([([u64::MAX; ROW], 0)]);
            for code in 0..size.size as u16 {
                let mut row = [u64::MAX; ROW];
                for (condition, tree, leaves) in &asked {
                    if forest.conditions[*condition as usize].right(size, code) {
                        for cleared in masks::Cleared::new(self.leaves.bits, *tree, leaves.clone()) {
                            row[usize::from(cleared.word)] &= cleared.mask();
                        }
                    }
                }
                let next = self.table.len() as u32;
                let number = *known.entry(row).or_insert(next);
                if number == next {
                    self.table.push(Row(row));
                    if self.table.len() * size_of::<Row>() > MAX_BYTES {
                        return None;
                    }
                }
                self.rows.push(number);
            }
        }
        self.chunks.push(Chunk { trees, slots });
        Some(())
    }

    /// What a row costs, about, in cycles of a core.
    pub(crate) fn cost(&self) -> f64 {
        let reads = self.chunks.iter().map(|chunk| chunk.slots.len()).sum::<usize>();
        let slots = self.forest.codes.slots().len();
        // Half of a read is finding its place, chunk by chunk.
        (reads * (2 + 2 * ROW / self.tier.width()) + self.forest.trees.len() * 4 + slots * 12) as f64
    }

    /// Bytes on the heap, without the forest.
    pub(crate) fn bytes(&self) -> usize {
        self.table.len() * size_of::<Row>() + self.rows.len() * 4 + self.leaves.bytes()
    }
}

impl Engine for Tables {
    fn margins(&self, rows: Rows<'_>, out: &mut Vec<f64>) {
        let outputs = self.forest.outputs;
        let out = self.forest.begin(rows.len(), out);
        SCRATCH.with_borrow_mut(|scratch| {
            for (rows, out) in rows.blocks(BLOCK).zip(out.chunks_mut(BLOCK * outputs)) {
                self.tier.run(Block { tables: self, rows, out, scratch });
            }
        });
    }

    fn describe(&self) -> String {
        format!("tables of {}", super::kib(self.bytes()))
    }
}

/// Some rows to evaluate; `out` is `[rows, outputs]` and holds what the sums begin with.
struct Block<'a> {
    tables: &'a Tables,
    rows: Rows<'a>,
    out: &'a mut [f64],
    scratch: &'a mut Scratch,
}

impl Work for Block<'_> {
    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let tables = self.tables;
        let slots = tables.forest.codes.slots().len();
        let outputs = tables.forest.outputs;
        let Scratch { codes, rows: list } = self.scratch;
        codes.resize((slots * self.rows.len()).max(codes.len()), 0);
        list.resize((slots + 1).max(list.len()), 0);
        for (index, row) in self.rows.iter().enumerate() {
            tables.forest.codes.row(row, &mut codes[index * slots..(index + 1) * slots]);
        }
        let mut masks = Row([0; ROW]);
        for chunk in &tables.chunks {
            for (index, out) in self.out.chunks_exact_mut(outputs).enumerate() {
                let codes = &codes[index * slots..(index + 1) * slots];
                // The rows to be read come first in `list`: one that is all ones is overwritten by the next.
                let mut length = 0;
                for &(slot, place) in &chunk.slots {
                    let number = tables.rows[place as usize + usize::from(codes[slot as usize])];
                    list[length] = number;
                    length += usize::from(number != 0);
                }
                and(simd, &tables.table, &list[..length], &mut masks);
                tables.leaves.add(chunk.trees.clone(), &masks, out);
            }
        }
    }
}
