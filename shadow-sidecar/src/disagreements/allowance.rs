//! So many in a second, and no more: without a lock and without a clock of its own.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

/// A rate with some slack. Takes turn into times at which the next one is due (GCRA).
#[derive(Debug)]
pub(crate) struct Allowance {
    /// Nanoseconds between two; 0: none at all.
    interval: u64,
    /// How far ahead of its time one may come, in nanoseconds.
    slack: u64,
    due: AtomicU64,
}

impl Allowance {
    /// `per_second`, of which `burst` may come at once.
    pub(crate) fn new(per_second: u32, burst: u32) -> Self {
        let interval = 1_000_000_000_u64.checked_div(per_second.into()).unwrap_or(0);
        Self { interval, slack: interval * u64::from(burst.saturating_sub(1)), due: AtomicU64::new(0) }
    }

    /// Whether there may be one more at `now`, which counts from any moment.
    pub(crate) fn take(&self, now: Duration) -> bool {
        if self.interval == 0 {
            return false;
        }
        let now = now.as_nanos() as u64;
        let next = |due: u64| {
            let due = due.max(now);
            (due - now <= self.slack).then(|| due.saturating_add(self.interval))
        };
        self.due.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(allowance: &Allowance, seconds: f64, times: usize) -> usize {
        (0..times).filter(|_| allowance.take(Duration::from_secs_f64(seconds))).count()
    }

    #[test]
    fn a_burst_and_then_the_rate() {
        let allowance = Allowance::new(10, 5);
        assert_eq!(taken(&allowance, 0.0, 100), 5);
        assert_eq!(taken(&allowance, 0.05, 100), 0);
        assert_eq!(taken(&allowance, 0.1, 100), 1);
        assert_eq!(taken(&allowance, 60.0, 100), 5, "what was not taken is not saved up");
        let all: usize = (0..1_000).map(|ms| taken(&allowance, 100.0 + f64::from(ms) / 1e3, 3)).sum();
        assert!((14..=15).contains(&all), "{all} in a second");
    }

    #[test]
    fn nothing_is_nothing() {
        assert_eq!(taken(&Allowance::new(0, 5), 7.0, 100), 0);
        assert_eq!(taken(&Allowance::new(1, 0), 7.0, 100), 1);
    }
}
