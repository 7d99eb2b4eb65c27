//! One row: 32 or 64 trees at a time.

use std::ops::Range;

use super::trees::{Split, Trees};
use crate::engine::simd::GROUP;
use crate::engine::simd::bytes::Bytes;

/// The index that looks nothing up.
const NOWHERE: u8 = 0x80;
/// Parts of a level, if all have as many.
const MOST_UNIFORM: usize = 4;
/// A threshold that is never greater.
const NEVER: u8 = 0x80;

/// For each level of each chunk of trees, registers that say where the trees' codes are and what they are compared with.
#[derive(Debug)]
pub(super) struct Single {
    /// Parts of every level, if they are few: a loop whose length is known costs less than the parts that it could leave
    /// out. Otherwise 0.
    uniform: usize,
    /// Levels of each chunk of trees.
    chunks: Vec<Range<usize>>,
    /// Parts of each level.
    levels: Vec<Range<usize>>,
    /// `[levels, lanes]`.
    thresholds: Vec<u8>,
    /// The sixteen slots of each part.
    sixteens: Vec<u32>,
    /// `[parts, lanes]`: the slot among the part's sixteen.
    wanted: Vec<u8>,
}

impl Single {
    pub(super) fn new(trees: &Trees, slots: usize, lanes: usize) -> Self {
        let sixteens = slots.div_ceil(16);
        let mut single = Self {
            uniform: if sixteens <= MOST_UNIFORM { sixteens } else { 0 },
            chunks: Vec::new(),
            levels: Vec::new(),
            thresholds: Vec::new(),
            sixteens: Vec::new(),
            wanted: Vec::new(),
        };
        for first in (0..trees.padded()).step_by(lanes) {
            let chunk: Vec<&[Split]> =
                (first..trees.padded().min(first + lanes)).map(|tree| trees.splits(tree)).collect();
            let deepest = chunk.iter().map(|splits| splits.len()).max().unwrap_or(0);
            let start = single.levels.len();
            for level in 0..deepest {
                // A shallower tree begins later, so that its number has no bits above its own.
                let asked = |splits: &&[Split]| splits.get((level + splits.len()).wrapping_sub(deepest)).copied();
                let asked: Vec<Option<Split>> = chunk.iter().map(asked).collect();
                single.level(&asked, lanes);
            }
            single.chunks.push(start..single.levels.len());
        }
        single
    }

    /// Adds a level: what each tree of a chunk asks.
    fn level(&mut self, asked: &[Option<Split>], lanes: usize) {
        let threshold = |lane: usize| asked.get(lane).copied().flatten().map_or(NEVER, Split::threshold);
        self.thresholds.extend((0..lanes).map(threshold));
        let mut sixteens: Vec<u32> = asked.iter().flatten().map(|split| split.slot / 16).collect();
        if self.uniform > 0 {
            sixteens = (0..self.uniform as u32).collect();
        }
        sixteens.sort_unstable();
        sixteens.dedup();
        let start = self.sixteens.len();
        for sixteen in sixteens {
            self.sixteens.push(sixteen);
            self.wanted.extend((0..lanes).map(|lane| match asked.get(lane).copied().flatten() {
                Some(split) if split.slot / 16 == sixteen => (split.slot % 16) as u8,
                _ => NOWHERE,
            }));
        }
        self.levels.push(start..self.sixteens.len());
    }

    pub(super) fn bytes(&self) -> usize {
        self.thresholds.len() + self.wanted.len() + 4 * self.sixteens.len() + 16 * self.levels.len()
    }

    /// Rows from which on a block is cheaper: about as many as a register answers at once, fewer where a row takes many
    /// look-ups.
    pub(super) fn crossing(&self, trees: &Trees, lanes: usize) -> usize {
        let (parts, levels) = (self.sixteens.len(), self.levels.len().max(1));
        (lanes * levels / (levels + parts)).clamp(2, 64).min(trees.padded().max(2))
    }

    /// Adds the leaves of a row to its outputs. `codes`: by slot, padded to sixteens.
    #[inline(always)]
    pub(super) fn add<S: Bytes>(&self, simd: S, trees: &Trees, codes: &[u8], out: &mut [f64]) {
        match self.uniform {
            1 => self.add_parts::<S, 1>(simd, trees, codes, out),
            2 => self.add_parts::<S, 2>(simd, trees, codes, out),
            3 => self.add_parts::<S, 3>(simd, trees, codes, out),
            4 => self.add_parts::<S, 4>(simd, trees, codes, out),
            _ => self.add_parts::<S, 0>(simd, trees, codes, out),
        }
    }

    /// As [`add`](Self::add), for so many parts of each level; for 0, as many as there are.
    #[inline(always)]
    fn add_parts<S: Bytes, const PARTS: usize>(&self, simd: S, trees: &Trees, codes: &[u8], out: &mut [f64]) {
        let codes: &[[u8; 16]] = codes.as_chunks().0;
        let (thresholds, wanted) = (simd.lanes(&self.thresholds), simd.lanes(&self.wanted));
        let groups = trees.groups().chunks(S::LANES / GROUP);
        for (levels, groups) in self.chunks.iter().zip(groups) {
            let mut numbers = simd.spread(0);
            for level in levels.clone() {
                let mut of_trees = simd.spread(0);
                if PARTS > 0 {
                    let wanted = &wanted[level * PARTS..(level + 1) * PARTS];
                    for (sixteen, wanted) in codes[..PARTS].iter().zip(wanted) {
                        of_trees = simd.either(of_trees, simd.look_up(sixteen, simd.get(wanted)));
                    }
                } else {
                    for part in self.levels[level].clone() {
                        let sixteen = &codes[self.sixteens[part] as usize];
                        of_trees = simd.either(of_trees, simd.look_up(sixteen, simd.get(&wanted[part])));
                    }
                }
                numbers = simd.append_greater(numbers, simd.get(&thresholds[level]), of_trees);
            }
            let mut memory = [0; 64];
            if let Some(to) = simd.lanes_mut(&mut memory).first_mut() {
                simd.put(numbers, to);
            }
            for (group, numbers) in groups.iter().zip(memory.as_chunks::<GROUP>().0) {
                let leaves = trees.leaves(*group);
                if let [sum] = out {
                    match group.stride {
                        16 => add::<16>(leaves, numbers, sum),
                        32 => add::<32>(leaves, numbers, sum),
                        64 => add::<64>(leaves, numbers, sum),
                        128 => add::<128>(leaves, numbers, sum),
                        _ => add::<256>(leaves, numbers, sum),
                    }
                    continue;
                }
                for (leaves, number) in leaves.chunks_exact(group.stride * out.len()).zip(numbers) {
                    let first = usize::from(*number) * out.len();
                    for (sum, leaf) in out.iter_mut().zip(&leaves[first..]) {
                        *sum += leaf;
                    }
                }
            }
        }
    }
}

/// Adds the leaves of a group's trees, `[GROUP, N]`, in order.
#[inline(always)]
fn add<const N: usize>(leaves: &[f64], numbers: &[u8; GROUP], sum: &mut f64) {
    let leaves: &[[f64; N]] = leaves.as_chunks().0;
    let mut new = *sum;
    for (leaves, number) in leaves.iter().zip(numbers) {
        // `% N` changes nothing and saves the check.
        new += leaves[usize::from(*number) % N];
    }
    *sum = new;
}
