//! Many rows: a tree answers 32 or 64 of them at a time.

use super::codes::Codes;
use super::trees::{Group, Split, Trees};
use crate::engine::simd::bytes::Bytes;
use crate::engine::simd::{GROUP, Tier};

/// Blocks of `BLOCK` rows.
#[derive(Debug)]
pub(super) struct Blocks;

impl Blocks {
    pub(super) fn new(_: &Codes, _: Tier) -> Self {
        Self
    }

    /// Bytes of the leaves' numbers of a group.
    pub(super) fn numbers<S: Bytes>() -> usize {
        GROUP * S::BLOCK
    }

    /// Adds the leaves of the rows to their outputs. `codes`: `[slots, BLOCK]`.
    #[inline(always)]
    #[expect(clippy::unused_self, reason = "the way is a value like the other")]
    pub(super) fn add<S: Bytes>(&self, simd: S, trees: &Trees, codes: &[u8], numbers: &mut [u8], out: &mut [f64]) {
        let capacity = S::BLOCK;
        let outputs = trees.outputs();
        let used = (out.len() / outputs).div_ceil(S::LANES);
        for (index, group) in trees.groups().iter().enumerate() {
            for (tree, numbers) in (index * GROUP..).zip(numbers.chunks_exact_mut(capacity)) {
                let numbers = &mut simd.lanes_mut(numbers)[..used];
                let splits = trees.splits(tree);
                // Registers hold a tree's thresholds where their number is known.
                match splits.len() {
                    0 => answer::<S, 0>(simd, splits, codes, numbers),
                    1 => answer::<S, 1>(simd, splits, codes, numbers),
                    2 => answer::<S, 2>(simd, splits, codes, numbers),
                    3 => answer::<S, 3>(simd, splits, codes, numbers),
                    4 => answer::<S, 4>(simd, splits, codes, numbers),
                    5 => answer::<S, 5>(simd, splits, codes, numbers),
                    6 => answer::<S, 6>(simd, splits, codes, numbers),
                    7 => answer::<S, 7>(simd, splits, codes, numbers),
                    _ => answer::<S, 8>(simd, splits, codes, numbers),
                }
            }
            sum(simd, trees, *group, numbers, out);
        }
    }
}

/// The leaves' numbers of a tree.
#[inline(always)]
fn answer<S: Bytes, const LEVELS: usize>(simd: S, splits: &[Split], codes: &[u8], numbers: &mut [S::Memory]) {
    let capacity = S::BLOCK;
    let Some(splits) = splits.first_chunk::<LEVELS>() else { return };
    // Not `map`: it may be compiled as a function of its own, without the tier's instructions.
    let mut thresholds = [simd.spread(0); LEVELS];
    let mut of_splits: [&[S::Memory]; LEVELS] = [&[]; LEVELS];
    for ((split, threshold), of_split) in splits.iter().zip(&mut thresholds).zip(&mut of_splits) {
        let slot = split.slot as usize;
        *threshold = simd.spread(split.threshold());
        *of_split = &simd.lanes(&codes[slot * capacity..(slot + 1) * capacity])[..numbers.len()];
    }
    for (register, to) in numbers.iter_mut().enumerate() {
        let mut number = simd.spread(0);
        for (level, (threshold, codes)) in thresholds.iter().zip(&of_splits).enumerate() {
            let bit = simd.spread(1 << (LEVELS - 1 - level));
            number = simd.set_greater(number, bit, *threshold, simd.get(&codes[register]));
        }
        simd.put(number, to);
    }
}

/// Adds the leaves of a group's trees to the outputs of each row.
#[inline(always)]
fn sum<S: Bytes>(simd: S, trees: &Trees, group: Group, numbers: &[u8], out: &mut [f64]) {
    let leaves = trees.leaves(group);
    let outputs = trees.outputs();
    if outputs == 1 {
        match group.stride {
            16 => add::<S, 16>(simd, leaves, numbers, out),
            32 => add::<S, 32>(simd, leaves, numbers, out),
            64 => add::<S, 64>(simd, leaves, numbers, out),
            128 => add::<S, 128>(simd, leaves, numbers, out),
            _ => add::<S, 256>(simd, leaves, numbers, out),
        }
        return;
    }
    let leaves = leaves.chunks_exact(group.stride * outputs);
    for (leaves, numbers) in leaves.zip(numbers.chunks_exact(S::BLOCK)) {
        for (row, number) in out.chunks_exact_mut(outputs).zip(numbers) {
            let first = usize::from(*number) * outputs;
            for (sum, leaf) in row.iter_mut().zip(&leaves[first..first + outputs]) {
                *sum += leaf;
            }
        }
    }
}

#[inline(always)]
fn add<S: Bytes, const N: usize>(simd: S, leaves: &[f64], numbers: &[u8], sums: &mut [f64]) {
    let leaves: &[[f64; N]] = leaves.as_chunks().0;
    if let Some(leaves) = leaves.first_chunk::<GROUP>() {
        simd.add_leaves(leaves, numbers, sums);
    }
}
