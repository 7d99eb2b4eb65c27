//! Oblivious trees: every level of a tree asks one question, so that a leaf's number is the answers' bits.
//!
//! 1. [`codes`]: a row becomes a byte for each *slot*, the number of a column's borders below the value. A column with
//!    more than 255 borders has several slots; a slot may also hold what a category, or a combination of categories,
//!    was looked up as. Values are compared here and nowhere else, in single precision, as CatBoost does.
//! 2. One row ([`single`]): the leaves' numbers of 32 or 64 trees at a time. For each level a register gathers the bytes of
//!    the trees' slots by shuffles, and compares them with the trees' borders.
//! 3. Many rows ([`blocks`]): the codes of 256 or 512 rows lie slot by slot; a tree compares 32 or 64 rows for each
//!    instruction.
//! 4. The leaves are added in the order of the trees, in doubles.
//!
//! [`walk`] takes what has no such form: trees that are not symmetric, and those of more than 8 levels.

mod blocks;
mod codes;
mod single;
mod trees;
mod walk;

pub(crate) use codes::{Codes, MAX_BORDERS, Part, number};
pub(crate) use trees::{Split, Tree};
pub(crate) use walk::{Child, Node, Walk, WalkTree};

use std::cell::RefCell;

use super::simd::Tier;
use super::simd::bytes::{ByteWork, Bytes};
use super::{Engine, kib};
use crate::batch::Rows;
use blocks::Blocks;
use single::Single;
use trees::{MAX_LEVELS, Trees};

/// Slots, at most: a block of rows keeps 512 bytes for each.
const MAX_SLOTS: usize = 4096;

/// Which of the two ways a call may take; both give the same bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rowwise {
    /// Few rows one by one, many in blocks.
    Few,
    Always,
    Never,
}

/// The engine.
#[derive(Debug)]
pub(crate) struct Oblivious {
    codes: Codes,
    trees: Trees,
    single: Single,
    blocks: Blocks,
    tier: Tier,
    /// Rows from which on a block is cheaper than its rows one by one.
    from: usize,
}

#[derive(Debug, Default)]
struct Scratch {
    codes: Vec<u8>,
    categories: codes::Scratch,
    numbers: Vec<u8>,
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

impl Oblivious {
    /// Whether a tree of so many levels may be among the trees.
    pub(crate) fn takes(levels: usize) -> bool {
        levels <= MAX_LEVELS
    }

    /// Whether there may be so many slots.
    pub(crate) fn takes_slots(codes: &Codes) -> bool {
        codes.slots() <= MAX_SLOTS
    }

    /// Of what it takes. `outputs` is at least 1.
    pub(crate) fn new(codes: Codes, trees: Vec<Tree>, outputs: usize, rowwise: Rowwise) -> Self {
        Self::for_tier(codes, trees, outputs, rowwise, Tier::best())
    }

    fn for_tier(codes: Codes, trees: Vec<Tree>, outputs: usize, rowwise: Rowwise, tier: Tier) -> Self {
        let trees = Trees::new(trees, outputs);
        let single = Single::new(&trees, codes.slots(), tier.lanes());
        let blocks = Blocks::new(&codes, tier);
        let from = match rowwise {
            Rowwise::Few => single.crossing(&trees, tier.lanes()),
            Rowwise::Always => usize::MAX,
            Rowwise::Never => 1,
        };
        Self { codes, trees, single, blocks, tier, from }
    }
}

impl Engine for Oblivious {
    fn margins(&self, rows: Rows<'_>, out: &mut Vec<f64>) {
        let start = out.len();
        out.resize(start + rows.len() * self.trees.outputs(), 0.0);
        SCRATCH.with_borrow_mut(|scratch| {
            self.tier.run_bytes(Margins { engine: self, rows, scratch, out: &mut out[start..] });
        });
    }

    fn describe(&self) -> String {
        let bytes = self.trees.bytes() + self.single.bytes() + self.codes.bytes();
        let from = match self.from {
            1 => "blocks of rows".to_owned(),
            usize::MAX => "row by row".to_owned(),
            from => format!("row by row, from {from} rows on in blocks"),
        };
        format!("oblivious trees, {} slots, {}, {from}", self.codes.slots(), kib(bytes))
    }
}

struct Margins<'a> {
    engine: &'a Oblivious,
    rows: Rows<'a>,
    scratch: &'a mut Scratch,
    out: &'a mut [f64],
}

impl ByteWork for Margins<'_> {
    #[inline(always)]
    fn run<S: Bytes>(self, simd: S) {
        let Self { engine, rows, scratch, out } = self;
        let Scratch { codes, categories, numbers } = scratch;
        let outputs = engine.trees.outputs();
        let capacity = S::BLOCK;
        for (rows, out) in rows.blocks(capacity).zip(out.chunks_mut(capacity * outputs)) {
            if rows.len() >= engine.from {
                let codes = sized(codes, engine.codes.slots() * capacity);
                engine.codes.encode(simd, rows, capacity, codes, categories);
                engine.blocks.add(simd, &engine.trees, codes, sized(numbers, Blocks::numbers::<S>()), out);
                continue;
            }
            let codes = sized(codes, engine.codes.slots().next_multiple_of(16));
            for (row, out) in rows.blocks(1).zip(out.chunks_exact_mut(outputs)) {
                engine.codes.encode(simd, row, 1, codes, categories);
                engine.single.add(simd, &engine.trees, codes, out);
            }
        }
    }
}

fn sized(memory: &mut Vec<u8>, bytes: usize) -> &mut [u8] {
    if memory.len() < bytes {
        memory.resize(bytes, 0);
    }
    &mut memory[..bytes]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Batch;

    /// Numbers from a generator of Marsaglia's (xorshift64).
    struct Random(u64);

    impl Random {
        fn below(&mut self, end: usize) -> usize {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            (self.0 >> 16) as usize % end
        }
    }

    /// Columns of numbers, then of 9 categories; some slots by code and some by key.
    fn codes(random: &mut Random, numbers: usize) -> Codes {
        let mut codes = Codes::default();
        for column in 0..numbers {
            let borders: Vec<f32> = (0..=random.below(255)).map(|border| border as f32 / 16.0).collect();
            codes.add_rank(column, column % 2 == 1, &borders);
        }
        for category in 0..2 {
            codes.add_category(numbers + category, (0..11).map(|code| 0xf000_0001_u32.wrapping_mul(code + 3)));
            codes.add_table(category, (0..11).map(|code| code * 9));
        }
        let parts =
            [Part::Category(0), Part::Above { position: 0, missing_is_high: true, border: 3.0 }, Part::Category(1)];
        for parts in [&parts[..], &parts[1..], &parts[..1], &parts[..1]] {
            let keys: Vec<u64> = (0..40).map(|_| random.below(usize::MAX) as u64).collect();
            let values: Vec<u8> = (0..80).map(|_| random.below(256) as u8).collect();
            codes.add_keyed(parts, &keys, &values, &[1, 255]).unwrap();
        }
        codes.arrange();
        codes
    }

    fn trees(random: &mut Random, slots: usize, outputs: usize) -> Vec<Tree> {
        let tree = |levels: usize, random: &mut Random| {
            let mut split = || Split { slot: random.below(slots) as u32, above: random.below(255) as u8 };
            let splits: Vec<Split> = (0..levels).map(|_| split()).collect();
            let leaves = (0..outputs << levels).map(|_| random.below(2001) as f64 / 1000.0 - 1.0).collect();
            Tree { splits, leaves }
        };
        (0..75).map(|index| tree(if index < 40 { 6 } else { index % 9 }, random)).collect()
    }

    #[test]
    fn every_tier_and_way_gives_what_a_walk_gives() {
        for (numbers, outputs) in [(1, 1), (10, 1), (28, 3), (120, 1), (50, 2)] {
            let mut batch = Batch::new(numbers + 2);
            let mut random = Random(7);
            for _ in 0..600 {
                for cell in batch.push_row() {
                    *cell =
                        [random.below(300) as f64 / 16.0, random.below(11) as f64 - 1.0, f64::NAN][random.below(9) / 4];
                }
            }
            let parts = || {
                let mut random = Random(1 + numbers as u64);
                let codes = codes(&mut random, numbers);
                let trees = trees(&mut random, codes.slots(), outputs);
                (codes, trees)
            };
            let (codes, trees) = parts();
            let mut expected = Vec::new();
            let trees = trees.into_iter().map(WalkTree::Levels).collect();
            Walk::new(codes, trees, outputs).margins(batch.view(0..600).unwrap(), &mut expected);
            for tier in Tier::all() {
                for rowwise in [Rowwise::Few, Rowwise::Always, Rowwise::Never] {
                    let (codes, trees) = parts();
                    let engine = Oblivious::for_tier(codes, trees, outputs, rowwise, tier);
                    for rows in [1, 5, 31, 64, 300, 600] {
                        let mut got = Vec::new();
                        engine.margins(batch.view(0..rows).unwrap(), &mut got);
                        assert_eq!(
                            got,
                            expected[..rows * outputs],
                            "{tier:?} {rowwise:?}, {numbers} numbers, {rows} rows"
                        );
                    }
                }
            }
        }
    }

    #[test]
    fn keys_that_were_made_to_meet_are_refused() {
        let mut codes = Codes::default();
        codes.add_category(0, 0..3);
        // Equal but for the lowest bits, once spread: all in one group, and at one place whatever the group's number.
        let inverse = (0..6).fold(0x9e37_79b9_7f4a_7c15_u64, |x, _| {
            x.wrapping_mul(2_u64.wrapping_sub(0x9e37_79b9_7f4a_7c15_u64.wrapping_mul(x)))
        });
        let keys: Vec<u64> = (0..5000).map(|key| inverse.wrapping_mul(key)).collect();
        assert_eq!(codes.add_keyed(&[Part::Category(0)], &keys, &[0; 5000], &[0]), None);
    }
}
