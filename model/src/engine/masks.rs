//! Masks of leaves: a bit for each leaf of a tree, cleared once a node has ruled the leaf out.
//!
//! Leaf 0 is the highest bit of a tree's first word, so that the first leaf that is left is found by counting leading
//! zeros. A tree has 32, 64, 128 or 256 bits. Trees of 32 bits lie as 32-bit integers lie in memory: the even one is the
//! low half of its word. Bits beyond a tree's leaves stay set and come after all leaves.

use std::ops::Range;

use super::forest::Forest;
use super::simd::{ROW, Row, Simd};
use super::values::{Number, Values};

/// Leaves of a tree, at most.
const MAX_LEAVES: usize = 256;

/// The values of the leaves, where masks find them.
#[derive(Debug)]
pub(super) struct Leaves {
    /// Bits of a tree.
    pub(super) bits: usize,
    /// `[trees, stride]`.
    values: Values,
    stride: usize,
}

impl Leaves {
    /// Nothing when a tree has more leaves than a mask has bits.
    pub(super) fn new(forest: &Forest) -> Option<Self> {
        let stride = forest.trees.iter().map(|tree| tree.leaves.len()).max()?;
        if stride > MAX_LEAVES {
            return None;
        }
        let mut values = vec![0.0; forest.trees.len() * stride];
        for (values, tree) in values.chunks_exact_mut(stride).zip(&forest.trees) {
            values[..tree.leaves.len()].copy_from_slice(&tree.leaves);
        }
        let values = Values::new(values, forest.sum);
        Some(Self { bits: stride.next_power_of_two().max(32), values, stride })
    }

    /// Trees whose masks fill a table row.
    pub(super) fn trees_of_row(&self) -> usize {
        ROW * 64 / self.bits
    }

    /// Bytes on the heap.
    pub(super) fn bytes(&self) -> usize {
        self.values.bytes()
    }

    /// Adds the leaves that some trees' masks leave first, to the outputs of a row, tree by tree.
    #[inline(always)]
    pub(super) fn add(&self, trees: Range<usize>, masks: &Row, out: &mut [f64]) {
        let first = trees.start % out.len();
        let range = trees.start * self.stride..trees.end * self.stride;
        match &self.values {
            Values::Double(values) => self.add_of(&values[range], masks, out, first),
            Values::Single(values) => self.add_of(&values[range], masks, out, first),
        }
    }

    #[inline(always)]
    fn add_of<T: Number>(&self, leaves: &[T], masks: &Row, out: &mut [f64], first: usize) {
        match self.bits {
            32 => sum(leaves, self.stride, halves(masks), out, first),
            64 => sum(leaves, self.stride, masks.0.iter().map(|mask| mask.leading_zeros()), out, first),
            _ => sum(leaves, self.stride, wide(masks, self.bits / 64), out, first),
        }
    }
}

/// Consecutive bits of a word that a node clears.
#[derive(Debug, Clone, Copy)]
pub(super) struct Cleared {
    pub(super) word: u16,
    shift: u8,
    /// 1 to 64.
    length: u8,
}

impl Cleared {
    /// The leaves `leaves` of a tree of `bits` bits, word by word. Words are counted from the first tree's.
    pub(super) fn new(bits: usize, tree: usize, leaves: Range<u32>) -> impl Iterator<Item = Self> {
        let width = bits.min(64) as u32;
        // For two trees in a word: where the tree's half ends.
        let base = if bits == 32 { 32 * (tree as u32 % 2) } else { 0 };
        (leaves.start / width..=(leaves.end - 1) / width).map(move |part| {
            let start = leaves.start.max(part * width) - part * width;
            let end = leaves.end.min((part + 1) * width) - part * width;
            let word = (tree * bits / 64 + part as usize) as u16;
            Self { word, shift: (base + width - end) as u8, length: (end - start) as u8 }
        })
    }

    /// All bits but the cleared ones.
    #[inline(always)]
    pub(super) fn mask(self) -> u64 {
        !((u64::MAX >> ((64 - self.length) & 63)) << (self.shift & 63))
    }
}

/// The AND of some table rows.
#[inline(always)]
pub(super) fn and<S: Simd>(simd: S, table: &[Row], list: &[u32], masks: &mut Row) {
    const REGISTERS: usize = 8;
    let step = REGISTERS * S::WORDS;
    for (part, masks) in masks.0.chunks_exact_mut(step).enumerate() {
        let mut sums = [simd.splat(true); REGISTERS];
        for &number in list {
            let row = &table[number as usize].0[part * step..(part + 1) * step];
            for (sum, words) in sums.iter_mut().zip(simd.words(row)) {
                *sum = simd.and(*sum, simd.load(words));
            }
        }
        for (words, sum) in simd.words_mut(masks).iter_mut().zip(sums) {
            simd.store(sum, words);
        }
    }
}

/// First leaves of trees of 32 bits.
#[inline(always)]
fn halves(masks: &Row) -> impl Iterator<Item = u32> {
    masks.0.iter().flat_map(|mask| [(*mask as u32).leading_zeros(), ((*mask >> 32) as u32).leading_zeros()])
}

/// First leaves of trees of several words.
#[inline(always)]
fn wide(masks: &Row, words: usize) -> impl Iterator<Item = u32> {
    masks.0.chunks_exact(words).map(|mask| {
        let mut leaf = 0;
        for word in mask.iter().rev() {
            let zeros = word.leading_zeros();
            leaf = if zeros == 64 { leaf + 64 } else { zeros };
        }
        leaf
    })
}

/// Adds the leaves of a chunk's trees, `[trees, stride]`, to the outputs, from output `first` on and around.
#[inline(always)]
fn sum<T: Number>(leaves: &[T], stride: usize, found: impl Iterator<Item = u32>, out: &mut [f64], first: usize) {
    if let [out] = out {
        let mut sum = T::of(*out);
        for (leaves, leaf) in leaves.chunks_exact(stride).zip(found) {
            sum += leaves[leaf as usize];
        }
        *out = sum.double();
        return;
    }
    let mut output = first;
    for (leaves, leaf) in leaves.chunks_exact(stride).zip(found) {
        out[output] = (T::of(out[output]) + leaves[leaf as usize]).double();
        output = if output + 1 == out.len() { 0 } else { output + 1 };
    }
}
