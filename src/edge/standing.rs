//! Whether calls wait in a standing queue. A worker takes its calls in turn, so under more load than it can carry each
//! waits as long as all before it take; a burst is worked off, a standing queue never is, and everybody in it waits for nothing.
//!
//! The rule is that of request queues under CoDel (Maurer, "Fail at Scale", ACM Queue 13(8), 2015; Nichols and Jacobson, ACM
//! Queue 10(5), 2012): while the worker has not been out of work for a tenth of a second, who has waited for more than the
//! limit is refused; else only who has waited for longer than any burst takes.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

/// What a burst may take to be worked off.
const BURST: Duration = Duration::from_millis(100);
/// A rest: between two batches that are there already the worker only looks for the next one.
const REST: Duration = Duration::from_micros(200);

/// The queue of one worker's calls.
#[derive(Debug)]
pub(super) struct Standing {
    began: Instant,
    /// In a standing queue.
    limit: Duration,
    /// Microseconds from `began` to when the worker last had nothing to do.
    parked: AtomicU64,
    /// And to the end of its last rest.
    idle: AtomicU64,
}

impl Standing {
    pub(super) fn new(limit: Duration) -> Self {
        Self { began: Instant::now(), limit, parked: AtomicU64::new(0), idle: AtomicU64::new(0) }
    }

    fn now(&self) -> u64 {
        self.began.elapsed().as_micros() as u64
    }

    /// The worker is out of work.
    pub(super) fn parks(&self) {
        self.parked.store(self.now(), Ordering::Relaxed);
    }

    /// There is work again.
    pub(super) fn wakes(&self) {
        let now = self.now();
        if now - self.parked.load(Ordering::Relaxed).min(now) >= REST.as_micros() as u64 {
            self.idle.store(now, Ordering::Relaxed);
        }
    }

    /// Whether a call that came at `arrived` and has its turn now is still worth answering; else how long it has waited.
    pub(super) fn take(&self, arrived: Instant) -> Result<(), Duration> {
        let waited = arrived.elapsed();
        // Nearly always: one look at the clock.
        if waited <= self.limit { Ok(()) } else { self.judge(waited, self.began.elapsed()) }
    }

    fn judge(&self, waited: Duration, now: Duration) -> Result<(), Duration> {
        let busy = now.saturating_sub(Duration::from_micros(self.idle.load(Ordering::Relaxed)));
        let limit = if busy > BURST { self.limit } else { BURST.max(self.limit) };
        if waited <= limit { Ok(()) } else { Err(waited) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_is_worked_off_and_a_standing_queue_is_not_joined() {
        let millis = Duration::from_millis;
        let standing = Standing::new(millis(5));
        standing.idle.store(1_000_000, Ordering::Relaxed);
        // A burst: everybody in it waits, but not for long.
        for waited in [0, 3, 10, 40, 80, 100] {
            assert!(standing.judge(millis(waited), millis(1_000 + waited)).is_ok(), "{waited}");
        }
        // It does not end.
        assert!(standing.judge(millis(101), millis(1_100)).is_err(), "longer than any burst takes");
        assert!(standing.judge(millis(6), millis(1_101)).is_err(), "no rest for 100 ms");
        assert!(standing.judge(millis(5), millis(1_102)).is_ok(), "within the limit");
        // Until there is nothing to do.
        standing.idle.store(1_103_000, Ordering::Relaxed);
        assert!(standing.judge(millis(40), millis(1_143)).is_ok());
    }
}
