//! A row's codes, expanded so that every node, of whatever kind, goes right if its lane is greater than its rank.
//!
//! A numeric column has a lane for each way in which its nodes treat zero and NaN (which become the least or the greatest
//! rank), a set of categories has a lane that is 0 or 1. What a code means for all lanes of its slot lies consecutively, so
//! that expansion is a copy.

use std::collections::HashMap;

use super::codes;
use super::forest::{Condition, Forest, Test};

/// Lanes times codes, in all.
const MAX_LANES: usize = 1 << 25;

/// What codes mean.
#[derive(Debug)]
pub(super) struct Lanes {
    /// For each slot its lanes.
    slots: Vec<Slot>,
    /// For each slot, for each code, the values of the slot's lanes.
    values: Vec<u16>,
    /// Lanes of a row; the first is always 0.
    pub(super) count: usize,
}

/// The lanes of a slot.
#[derive(Debug, Default)]
struct Slot {
    first: usize,
    count: usize,
    /// Where the values of code 0 begin in `values`.
    values: usize,
}

impl Lanes {
    /// Lays out the lanes and gives lane and rank of each condition. Nothing when there would be too many.
    pub(super) fn new(forest: &Forest) -> Option<(Self, Vec<(u16, u16)>)> {
        let mut this = Self { slots: Vec::new(), values: Vec::new(), count: 1 };
        let mut tests = Vec::with_capacity(forest.conditions.len());
        let mut by_slot = forest.conditions.chunk_by(|a, b| a.slot == b.slot).peekable();
        for (index, slot) in forest.codes.slots().iter().enumerate() {
            let asked = by_slot.next_if(|asked| asked[0].slot == index).unwrap_or_default();
            // For each lane a condition that stands for it.
            let mut lanes: Vec<&Condition> = Vec::new();
            let mut known: HashMap<(bool, bool), usize> = HashMap::new();
            for condition in asked {
                let (lane, rank) = match &condition.test {
                    Test::Outside { .. } => (lanes.len(), 0),
                    Test::Above { rank, zero, nan } => {
                        let key = (slot.zero.is_some() && *zero, slot.nan.is_some() && *nan);
                        (*known.entry(key).or_insert(lanes.len()), *rank)
                    }
                };
                if lane == lanes.len() {
                    lanes.push(condition);
                }
                tests.push((u16::try_from(this.count + lane).ok()?, rank));
            }
            this.slots.push(Slot { first: this.count, count: lanes.len(), values: this.values.len() });
            this.count += lanes.len();
            if this.values.len() + slot.size * lanes.len() > MAX_LANES {
                return None;
            }
            for code in 0..slot.size as u16 {
                this.values.extend(lanes.iter().map(|condition| value(condition, slot, code)));
            }
        }
        Some((this, tests))
    }

    /// Codes, `[slots]`, become lanes, `[lanes]`.
    pub(super) fn expand(&self, codes: &[u16], lanes: &mut [u16]) {
        lanes[0] = 0;
        for (slot, code) in self.slots.iter().zip(codes) {
            let start = slot.values + usize::from(*code) * slot.count;
            let values = &self.values[start..start + slot.count];
            lanes[slot.first..slot.first + slot.count].copy_from_slice(values);
        }
    }

    /// Bytes on the heap.
    pub(super) fn bytes(&self) -> usize {
        self.values.len() * 2 + self.slots.len() * size_of::<Slot>()
    }
}

/// What a code means in a lane.
fn value(condition: &Condition, slot: &codes::Slot, code: u16) -> u16 {
    match condition.test {
        Test::Outside { .. } => u16::from(condition.right(slot, code)),
        Test::Above { zero, .. } if Some(code) == slot.zero => extreme(zero),
        Test::Above { nan, .. } if Some(code) == slot.nan => extreme(nan),
        Test::Above { .. } => code,
    }
}

/// Right of all ranks, or left.
fn extreme(right: bool) -> u16 {
    if right { u16::MAX } else { 0 }
}
