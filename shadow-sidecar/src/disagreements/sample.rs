//! A reservoir (Vitter's algorithm R), and beside it the last few.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

use understudy::v1::Disagreement;

use super::Kind;

#[derive(Debug)]
pub(super) struct Sample {
    seen: [u64; Kind::ALL.len()],
    /// As long as it may become.
    reservoir: Vec<Option<Arc<Disagreement>>>,
    recent: VecDeque<Arc<Disagreement>>,
    most_recent: usize,
}

impl Sample {
    pub(super) fn new(reservoir: usize, most_recent: usize) -> Self {
        Self { seen: [0; Kind::ALL.len()], reservoir: vec![None; reservoir], recent: VecDeque::new(), most_recent }
    }

    /// One more: its number, from 1, and the place in the reservoir that it is to have, if any.
    pub(super) fn seen(&mut self, kind: Kind) -> (u64, Option<usize>) {
        self.seen[kind as usize] += 1;
        let number: u64 = self.seen.iter().sum();
        let places = self.reservoir.len() as u64;
        // Each of all so far has one of the places with the same probability.
        let place = if number <= places { number - 1 } else { fastrand::u64(..number) };
        (number, (place < places).then_some(place as usize))
    }

    pub(super) fn keep(&mut self, described: Arc<Disagreement>, place: Option<usize>, recent: bool) {
        if let Some(place) = place.and_then(|place| self.reservoir.get_mut(place)) {
            *place = Some(described.clone());
        }
        if recent && self.most_recent > 0 {
            if self.recent.len() >= self.most_recent {
                self.recent.pop_front();
            }
            self.recent.push_back(described);
        }
    }

    pub(super) fn count(&self, kind: Kind) -> u64 {
        self.seen[kind as usize]
    }

    /// The newest first, each once.
    pub(super) fn kept(&self) -> Vec<Arc<Disagreement>> {
        let all = self.reservoir.iter().flatten().chain(&self.recent);
        let by_number: BTreeMap<u64, &Arc<Disagreement>> = all.map(|each| (each.number, each)).collect();
        by_number.into_values().rev().cloned().collect()
    }
}
