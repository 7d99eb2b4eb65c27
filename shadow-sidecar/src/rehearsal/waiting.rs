//! What is offered before there is an epoch.

use std::sync::Arc;

use super::Bounds;
use crate::{
    exchange::Offered,
    tally::{DropReason, Tally},
};

/// Exchanges that wait for an epoch, and those for which there was no room or no hope.
#[derive(Default)]
pub(super) struct Waiting {
    pub(super) offered: Vec<Arc<Offered>>,
    bytes: usize,
    /// By reason: exchanges and rows.
    pub(super) lost: Vec<(DropReason, u64, u64)>,
}

impl Waiting {
    /// One more: it waits where there are bounds to wait within, and is lost where no epoch can begin.
    pub(super) fn offer(&mut self, offered: &Arc<Offered>, bounds: Option<Bounds>) {
        let rows = u64::from(offered.exchange.rows);
        let Some(bounds) = bounds else { return self.add(DropReason::NoEpoch, 1, rows) };
        let bytes = self.bytes + offered.bytes();
        if self.offered.len() < bounds.queue && bytes <= bounds.queue_bytes {
            self.bytes = bytes;
            self.offered.push(offered.clone());
        } else {
            self.add(DropReason::QueueFull, 1, rows);
        }
    }

    /// So many were lost.
    pub(super) fn add(&mut self, reason: DropReason, exchanges: u64, rows: u64) {
        if exchanges == 0 {
            return;
        }
        match self.lost.iter_mut().find(|(known, ..)| *known == reason) {
            Some((_, all, all_rows)) => (*all, *all_rows) = (*all + exchanges, *all_rows + rows.max(exchanges)),
            None => self.lost.push((reason, exchanges, rows.max(exchanges))),
        }
    }

    /// Nothing waits for what will not begin. How many exchanges that is news for.
    pub(super) fn give_up(&mut self) -> u64 {
        let Self { offered, lost, .. } = std::mem::take(self);
        let mut news = offered.len() as u64;
        for offered in offered {
            self.add(DropReason::NoEpoch, 1, u64::from(offered.exchange.rows));
        }
        for (reason, exchanges, rows) in lost {
            news += if reason == DropReason::NoEpoch { 0 } else { exchanges };
            self.add(DropReason::NoEpoch, exchanges, rows);
        }
        news
    }

    /// The same as counters, for a report; nothing where nothing came.
    pub(super) fn tally(&self) -> Option<Tally> {
        if self.offered.is_empty() && self.lost.is_empty() {
            return None;
        }
        let mut tally = Tally::new(0, &[]);
        for (reason, exchanges, rows) in &self.lost {
            tally.lost(*reason, *exchanges, *rows);
        }
        for offered in &self.offered {
            // It stays in flight: the ticket that comes back is that of its epoch.
            let _ticket = tally.begin(u64::from(offered.exchange.rows));
        }
        Some(tally)
    }
}
