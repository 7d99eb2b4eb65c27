//! Nodes of eight bytes, for any number of distinct questions.
//!
//! A lane of a row is a 32-bit key that grows with the value; a node holds the key of its threshold and goes right where
//! the lane's is greater. Single-precision values are keys by their bits, so that nothing has to be searched; doubles
//! become ranks among the lane's thresholds. A leaf looks at lane 0, which is 0, and never goes anywhere.

use super::lanes::{Asks, Lane, Lanes, Place};
use super::walks::{Front, Packed, Scratch};
use crate::engine::ensemble::Precision;

/// Rows as keys. `LANES`: bits of a lane's number; the other of 32 say how far the children are.
#[derive(Debug)]
pub(super) struct Keys<const LANES: u32> {
    /// From lane 1 on.
    lanes: Vec<Key>,
    /// For each lane the keys of its thresholds.
    thresholds: Vec<Vec<u32>>,
}

/// How a value becomes a key.
#[derive(Debug)]
enum Key {
    /// By its bits.
    Bits { position: usize, missing: u32 },
    /// By what a lane says.
    Rank(Lane),
}

/// The key of a threshold, or the number of a leaf's row of values; lane and distance.
#[derive(Debug, Clone, Copy)]
#[repr(align(8))]
pub(super) struct Eight<const LANES: u32> {
    key: u32,
    next: u32,
}

impl<const LANES: u32> Keys<LANES> {
    /// Nothing when there are too many lanes.
    pub(super) fn new(lanes: &Lanes, precision: Precision) -> Option<Self> {
        if lanes.lanes.len() >= 1 << LANES {
            return None;
        }
        let mut keys = Self { lanes: Vec::new(), thresholds: Vec::new() };
        for lane in &lanes.lanes {
            let (key, thresholds) = match &lane.asks {
                Asks::Above(thresholds) if precision == Precision::Single => {
                    let missing = if lane.missing_left { 0 } else { u32::MAX };
                    let bits = thresholds.iter().map(|threshold| by_bits(*threshold as f32)).collect();
                    (Key::Bits { position: lane.position, missing }, bits)
                }
                asks => (Key::Rank(lane.clone()), (0..asks.len() as u32).collect()),
            };
            keys.lanes.push(key);
            keys.thresholds.push(thresholds);
        }
        Some(keys)
    }
}

/// A number that is greater where the value is; the same for both zeros. Neither 0 nor the greatest, which NaN becomes.
#[inline(always)]
fn by_bits(value: f32) -> u32 {
    let bits = (value + 0.0).to_bits();
    // All bits of a negative number are turned, else the sign.
    bits ^ ((bits.cast_signed() >> 31).cast_unsigned() | 1 << 31)
}

impl<const LANES: u32> Front for Keys<LANES> {
    type Node = Eight<LANES>;
    const NAME: &str = "wide walks";

    fn stride(&self) -> usize {
        self.lanes.len() + 1
    }

    #[inline]
    fn expand(&self, row: &[f64], lanes: &mut [u32]) {
        lanes[0] = 0;
        for (key, lane) in lanes[1..].iter_mut().zip(&self.lanes) {
            *key = match lane {
                Key::Bits { position, missing } => {
                    let value = row[*position] as f32;
                    if value.is_nan() { *missing } else { by_bits(value) }
                }
                Key::Rank(lane) => lane.right(row) as u32,
            };
        }
    }

    fn split(&self, place: Place, distance: u32) -> Option<Eight<LANES>> {
        let key = self.thresholds[place.lane as usize][place.rank as usize];
        (distance < 1 << (32 - LANES)).then_some(Eight { key, next: distance << LANES | (place.lane + 1) })
    }

    fn leaf(&self, row: u32) -> Option<Eight<LANES>> {
        Some(Eight { key: row, next: 0 })
    }

    fn built(&mut self) {
        self.thresholds = Vec::new();
    }

    fn bytes(&self) -> usize {
        let ranks = |lane: &Key| match lane {
            Key::Bits { .. } => 0,
            Key::Rank(lane) => lane.asks.len() * 8,
        };
        self.lanes.len() * size_of::<Key>() + self.lanes.iter().map(ranks).sum::<usize>()
    }
}

impl<const LANES: u32> Packed for Eight<LANES> {
    type Lane = u32;

    #[inline(always)]
    fn step(self, lanes: &[u32], row: u32) -> u32 {
        let lane = row + (self.next & ((1 << LANES) - 1));
        (self.next >> LANES) + u32::from(lanes[lane as usize] > self.key)
    }

    #[inline(always)]
    fn is_leaf(self) -> bool {
        self.next == 0
    }

    #[inline(always)]
    fn leaf(self) -> u32 {
        self.key
    }

    fn lanes(scratch: &mut Scratch) -> &mut Vec<u32> {
        &mut scratch.words
    }
}
