//! How fast exchanges come.

use std::collections::VecDeque;
use std::time::Duration;

/// What counts as now.
const WINDOW: Duration = Duration::from_mins(1);
/// Between two marks.
const STEP: Duration = Duration::from_secs(1);

/// Marks of a counter over the last minute.
#[derive(Debug, Clone, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
pub struct Pace {
    /// When, since the epoch began, and how many then.
    marks: VecDeque<(Duration, u64)>,
}

impl Pace {
    /// The counter now, `elapsed` into the epoch. More often than once a second is not kept.
    pub fn mark(&mut self, elapsed: Duration, count: u64) {
        if self.marks.back().is_some_and(|&(last, _)| elapsed < last + STEP) {
            return;
        }
        self.marks.push_back((elapsed, count));
        // One mark from before the window stays, so that it is a whole minute.
        while self.marks.get(1).is_some_and(|&(second, _)| second + WINDOW <= elapsed) {
            self.marks.pop_front();
        }
    }

    /// How much the counter grew in a second, over the last minute or what there is of it. None before that can be told.
    pub fn per_second(&self) -> Option<f64> {
        let (&(from, before), &(to, now)) = (self.marks.front()?, self.marks.back()?);
        let seconds = to.checked_sub(from)?.as_secs_f64();
        (seconds > 0.0).then(|| now.saturating_sub(before) as f64 / seconds)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pace_is_that_of_the_last_minute() {
        let at = |tenths: u64| Duration::from_millis(100 * tenths);
        let mut pace = Pace::default();
        assert_eq!(pace.per_second(), None);
        // 50 a second for ten minutes, told ten times a second; then nothing.
        for tenth in 0..=6000 {
            pace.mark(at(tenth), 5 * tenth);
        }
        assert_eq!(pace.per_second(), Some(50.0));
        assert!(pace.marks.len() <= 62);
        for tenth in 6000..=6300 {
            pace.mark(at(tenth), 30_000);
        }
        assert_eq!(pace.per_second(), Some(25.0));
        pace.mark(at(9000), 30_000);
        assert_eq!(pace.per_second(), Some(0.0));
    }
}
