//! What a forest asks, lane by lane: a lane is a column of the row together with where its NaN goes, or a set of
//! categories.

use std::collections::HashMap;

use super::{Node, SET_WORDS, Split, Test, Trees, within};
use crate::engine::ensemble::Precision;

/// All lanes of a forest.
#[derive(Debug)]
pub(super) struct Lanes {
    pub(super) lanes: Vec<Lane>,
}

/// A lane: what is asked of one position of a row.
#[derive(Debug, Clone)]
pub(super) struct Lane {
    pub(super) position: usize,
    /// Of the values.
    precision: Precision,
    /// Where a missing value goes.
    pub(super) missing_left: bool,
    pub(super) asks: Asks,
}

/// What a lane asks.
#[derive(Debug, Clone)]
pub(super) enum Asks {
    /// Whether a value is greater than a threshold, for each of them: ascending, distinct.
    Above(Vec<f64>),
    /// Whether a value is outside of a set.
    Outside([u32; SET_WORDS]),
}

/// Which of a lane's questions an inner node asks.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Place {
    pub(super) lane: u32,
    /// Number of the threshold in the lane; 0 for a set.
    pub(super) rank: u32,
}

impl Lanes {
    /// The lanes of a forest, and for each node its place: any for a leaf.
    pub(super) fn new(trees: &Trees) -> (Self, Vec<Place>) {
        let mut lanes: Vec<Lane> = Vec::new();
        let mut numbers: HashMap<(u32, bool), u32> = HashMap::new();
        let mut sets: HashMap<(u32, bool, [u32; SET_WORDS]), u32> = HashMap::new();
        let mut places = vec![Place::default(); trees.nodes.len()];
        for (place, node) in places.iter_mut().zip(&trees.nodes) {
            let Node::Split(split) = node else { continue };
            let next = lanes.len() as u32;
            let lane = match split.test {
                Test::AtMost(_) => numbers.entry((split.position, split.missing_left)).or_insert(next),
                Test::Within(set) => {
                    let set = trees.sets[set as usize];
                    sets.entry((split.position, split.missing_left, set)).or_insert(next)
                }
            };
            place.lane = *lane;
            if *lane == next {
                let asks = match split.test {
                    Test::AtMost(_) => Asks::Above(Vec::new()),
                    Test::Within(set) => Asks::Outside(trees.sets[set as usize]),
                };
                let (position, missing_left) = (split.position as usize, split.missing_left);
                lanes.push(Lane { position, precision: trees.precision, missing_left, asks });
            }
            if let (Test::AtMost(threshold), Asks::Above(all)) = (split.test, &mut lanes[place.lane as usize].asks) {
                all.push(floor(threshold, trees.precision));
            }
        }
        for lane in &mut lanes {
            if let Asks::Above(thresholds) = &mut lane.asks {
                thresholds.sort_unstable_by(f64::total_cmp);
                thresholds.dedup();
                thresholds.shrink_to_fit();
            }
        }
        for (place, node) in places.iter_mut().zip(&trees.nodes) {
            if let Node::Split(Split { test: Test::AtMost(threshold), .. }) = node
                && let Asks::Above(all) = &lanes[place.lane as usize].asks
            {
                let threshold = floor(*threshold, trees.precision);
                place.rank = all.partition_point(|other| *other < threshold) as u32;
            }
        }
        (Self { lanes }, places)
    }

    /// Distinct questions.
    pub(super) fn questions(&self) -> usize {
        self.lanes.iter().map(|lane| lane.asks.len()).sum()
    }
}

impl Asks {
    pub(super) fn len(&self) -> usize {
        match self {
            Self::Above(thresholds) => thresholds.len(),
            Self::Outside(_) => 1,
        }
    }
}

impl Lane {
    /// How many of the thresholds, in order, the row's value is greater than; for a set 1 if the value is outside.
    #[inline]
    pub(super) fn right(&self, row: &[f64]) -> usize {
        let value = self.precision.round(row[self.position]);
        match &self.asks {
            Asks::Above(thresholds) if value.is_nan() => {
                if self.missing_left {
                    0
                } else {
                    thresholds.len()
                }
            }
            Asks::Above(thresholds) => thresholds.partition_point(|threshold| *threshold < value),
            Asks::Outside(set) => usize::from(!within(set, value).unwrap_or(self.missing_left)),
        }
    }
}

/// The threshold that says the same: of single-precision values only the greatest that is at most the threshold counts.
/// 0.0 stands for both zeros.
pub(super) fn floor(threshold: f64, precision: Precision) -> f64 {
    match precision {
        Precision::Double => threshold + 0.0,
        Precision::Single => {
            let nearest = threshold as f32;
            f64::from(if f64::from(nearest) > threshold { nearest.next_down() } else { nearest }) + 0.0
        }
    }
}
