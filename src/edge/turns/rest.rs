//! How much a worker has rested lately.

use std::time::{Duration, Instant};

use super::BURST;

/// The time in which a worker had nothing to do.
#[derive(Debug)]
pub(super) struct Rest {
    /// When it was out of work.
    parked: Instant,
    /// The beginning of the time over which rest is added up...
    since: Instant,
    /// ...what there was of it...
    rested: Duration,
    /// ...and what there was of it in the time before.
    rested_before: Duration,
}

impl Rest {
    pub(super) fn new(now: Instant) -> Self {
        Self { parked: now, since: now, rested: Duration::ZERO, rested_before: Duration::ZERO }
    }

    #[cfg(test)]
    pub(super) fn began(&self) -> Instant {
        self.since
    }

    pub(super) fn begins(&mut self, now: Instant) {
        self.parked = now;
    }

    /// Returns how long it was.
    pub(super) fn ends(&mut self, now: Instant) -> Duration {
        let rest = now.saturating_duration_since(self.parked);
        let worked = self.parked.saturating_duration_since(self.since);
        if worked >= 2 * BURST {
            // Whatever was rested before has been caught up on.
            self.rested = Duration::ZERO;
        }
        self.rested += rest;
        if now.saturating_duration_since(self.since) >= BURST {
            self.rested_before = std::mem::take(&mut self.rested);
            self.since = now;
        }
        rest
    }

    /// Somebody was refused: what was rested is used up by those who wait, and they may not be followed by as many again.
    pub(super) fn use_up(&mut self) {
        (self.rested, self.rested_before) = (Duration::ZERO, Duration::ZERO);
    }

    /// What a call may wait that comes at `now`, where `limit` may be waited without any rest.
    pub(super) fn allowed(&self, limit: Duration, now: Instant) -> Duration {
        // A worker that never rests does not say so.
        if now.saturating_duration_since(self.since) > 2 * BURST {
            return limit;
        }
        limit.saturating_add(self.rested.max(self.rested_before).min(BURST))
    }
}
