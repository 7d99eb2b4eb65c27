//! A reservoir (Vitter's algorithm R), and beside it the last few.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

use understudy::v1::Disagreement;

use super::Kind;

#[derive(Clone, Debug)]
pub(super) struct Sample {
    pub(super) seen: [u64; Kind::ALL.len()],
    /// As long as it may become.
    pub(super) reservoir: Vec<Option<Arc<Disagreement>>>,
    /// The oldest first.
    pub(super) recent: VecDeque<Arc<Disagreement>>,
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

    /// Goes on with another one that had so many places, after `seen`, as far as there are places here. Where not all that were
    /// seen are known any more there are no more places than there were: they would be for late ones only.
    pub(super) fn resume(
        &mut self,
        seen: [u64; Kind::ALL.len()],
        places: usize,
        mut reservoir: Vec<Arc<Disagreement>>,
        recent: Vec<Arc<Disagreement>>,
    ) {
        let number: u64 = seen.iter().sum();
        let all = number <= places as u64;
        if !all && reservoir.is_empty() {
            // Nothing is left of which it could be a sample: it begins anew.
            return;
        }
        self.seen = seen;
        if !all {
            self.reservoir.truncate(places);
        }
        if reservoir.len() > self.reservoir.len() {
            fastrand::shuffle(&mut reservoir);
        } else {
            // The next one's place is its number.
            reservoir.sort_unstable_by_key(|each| each.number);
        }
        for (place, each) in self.reservoir.iter_mut().zip(reservoir) {
            *place = Some(each);
        }
        let skipped = recent.len().saturating_sub(self.most_recent);
        self.recent = recent.into_iter().skip(skipped).collect();
    }

    /// The newest first, each once.
    pub(super) fn kept(&self) -> Vec<Arc<Disagreement>> {
        let all = self.reservoir.iter().flatten().chain(&self.recent);
        let by_number: BTreeMap<u64, &Arc<Disagreement>> = all.map(|each| (each.number, each)).collect();
        by_number.into_values().rev().cloned().collect()
    }
}
