//! The trees, as both ways of evaluating them need them.

use crate::engine::simd::GROUP;

/// Levels of a tree, at most: leaves' numbers are bytes.
pub(super) const MAX_LEVELS: usize = 8;

/// A question: is the code of the slot greater?
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Split {
    pub(crate) slot: u32,
    /// At most 254.
    pub(crate) above: u8,
}

impl Split {
    /// What the flipped code is compared with: the split does *not* hold where this is greater, as signed bytes.
    pub(super) fn threshold(self) -> u8 {
        (self.above + 1) ^ 0x80
    }
}

/// A tree: bit `i` of a leaf's number is whether split `i` holds. `leaves` is `[2^splits, outputs]`.
#[derive(Debug)]
pub(crate) struct Tree {
    pub(crate) splits: Vec<Split>,
    pub(crate) leaves: Vec<f64>,
}

/// Trees in groups, with their leaves in the order of the numbers that the kernels compute: the first split gives the
/// highest bit, and a bit is set where a split does *not* hold.
#[derive(Debug)]
pub(super) struct Trees {
    outputs: usize,
    /// Of all trees, one after another, sorted by slot within a tree.
    splits: Vec<Split>,
    /// Ends of the trees in `splits`, padded to whole groups.
    ends: Vec<u32>,
    groups: Vec<Group>,
    leaves: Vec<f64>,
}

/// Some trees whose leaves lie as `[GROUP, stride, outputs]`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Group {
    first: usize,
    /// A power of two, at least 16.
    pub(super) stride: usize,
}

impl Trees {
    /// Of trees that have at most [`MAX_LEVELS`] levels.
    pub(super) fn new(trees: Vec<Tree>, outputs: usize) -> Self {
        let mut all = Self { outputs, splits: Vec::new(), ends: Vec::new(), groups: Vec::new(), leaves: Vec::new() };
        let mut rest = trees.into_iter();
        loop {
            let group: Vec<Tree> = rest.by_ref().take(GROUP).collect();
            if group.is_empty() {
                break;
            }
            let levels = group.iter().map(|tree| tree.splits.len()).max().unwrap_or(0);
            let stride = (1 << levels).max(16);
            let first = all.leaves.len();
            all.groups.push(Group { first, stride });
            // The pads' leaves are -0.0: adding it changes nothing, not even a negative zero.
            all.leaves.resize(first + GROUP * stride * outputs, -0.0);
            for (tree, leaves) in group.iter().zip(all.leaves[first..].chunks_exact_mut(stride * outputs)) {
                let splits = arrange(tree, leaves, outputs);
                all.splits.extend(splits);
                all.ends.push(all.splits.len() as u32);
            }
            all.ends.resize(all.groups.len() * GROUP, all.splits.len() as u32);
        }
        all.splits.shrink_to_fit();
        all.leaves.shrink_to_fit();
        all
    }

    pub(super) fn outputs(&self) -> usize {
        self.outputs
    }

    /// Number of trees, padded to whole groups.
    pub(super) fn padded(&self) -> usize {
        self.ends.len()
    }

    pub(super) fn groups(&self) -> &[Group] {
        &self.groups
    }

    /// The splits of a tree; a pad has none.
    #[inline(always)]
    pub(super) fn splits(&self, tree: usize) -> &[Split] {
        let start = if tree == 0 { 0 } else { self.ends[tree - 1] };
        &self.splits[start as usize..self.ends[tree] as usize]
    }

    /// The leaves of a group, `[GROUP, stride, outputs]`.
    #[inline(always)]
    pub(super) fn leaves(&self, group: Group) -> &[f64] {
        &self.leaves[group.first..group.first + GROUP * group.stride * self.outputs]
    }

    pub(super) fn bytes(&self) -> usize {
        8 * self.leaves.len() + size_of::<Split>() * self.splits.len() + 4 * self.ends.len()
    }
}

/// Sorts the splits by slot, and writes the leaves in their new order.
fn arrange(tree: &Tree, to: &mut [f64], outputs: usize) -> Vec<Split> {
    let levels = tree.splits.len();
    let mut order: Vec<usize> = (0..levels).collect();
    order.sort_by_key(|level| tree.splits[*level].slot);
    for (leaf, values) in tree.leaves.chunks_exact(outputs).enumerate() {
        let number = order.iter().fold(0, |number, level| 2 * number + usize::from(leaf >> level & 1 == 0));
        to[number * outputs..(number + 1) * outputs].copy_from_slice(values);
    }
    order.iter().map(|level| tree.splits[*level]).collect()
}
