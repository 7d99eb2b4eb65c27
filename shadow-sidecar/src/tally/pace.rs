//! How fast exchanges come.

use std::collections::VecDeque;
use std::time::Duration;

/// What counts as now.
const WINDOW: Duration = Duration::from_mins(1);
/// Between two marks.
const STEP: Duration = Duration::from_secs(1);

/// Marks of a counter over the last minute.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Pace {
    /// When, since the epoch began, and how many then.
    marks: VecDeque<(Duration, u64)>,
    /// When the counter was last seen to have grown, and how far.
    #[serde(default)]
    grown: Option<(Duration, u64)>,
    /// None in what was written before this was kept: then all time counted.
    #[serde(default)]
    busy: Option<Duration>,
}

impl Default for Pace {
    fn default() -> Self {
        Self { marks: VecDeque::new(), grown: None, busy: Some(Duration::ZERO) }
    }
}

impl Pace {
    /// The counter now, `elapsed` into the epoch. More often than once a second is not kept.
    pub fn mark(&mut self, elapsed: Duration, count: u64) {
        let busy = self.busy.get_or_insert(elapsed);
        let before = self.grown.map_or(0, |(_, before)| before);
        if count > before {
            let pause = self.grown.map_or(Duration::ZERO, |(when, _)| elapsed.saturating_sub(when));
            *busy += pause.min(WINDOW);
            self.grown = Some((elapsed, count));
        }
        if self.marks.back().is_some_and(|&(last, _)| elapsed < last + STEP) {
            return;
        }
        self.marks.push_back((elapsed, count));
        // One mark from before the window stays, so that it is a whole minute.
        while self.marks.get(1).is_some_and(|&(second, _)| second + WINDOW <= elapsed) {
            self.marks.pop_front();
        }
    }

    /// The time in which the counter grew, from the first time on; a pause counts as a minute at most.
    pub fn busy(&self) -> Duration {
        self.busy.unwrap_or_default()
    }

    /// Several count side by side, in the same time.
    pub(super) fn merge(&mut self, other: &Self) {
        self.busy = self.busy.max(other.busy);
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
    fn time_without_anything_does_not_count() {
        let at = Duration::from_secs;
        let mut pace = Pace::default();
        pace.mark(at(3600), 0);
        assert_eq!(pace.busy(), Duration::ZERO, "an hour before the first");
        // One every 20 s for ten minutes, looked at every second; then a night; then two more.
        for second in 3600..=4200 {
            pace.mark(at(second), 1 + (second - 3600) / 20);
        }
        assert_eq!(pace.busy(), at(600));
        pace.mark(at(40_000), 31);
        assert_eq!(pace.busy(), at(600));
        pace.mark(at(40_001), 32);
        assert_eq!(pace.busy(), at(660), "a pause of many hours is a minute");
        pace.mark(at(40_031), 33);
        assert_eq!(pace.busy(), at(690));
        let mut older = Pace { busy: None, grown: None, ..pace };
        older.mark(at(7200), 40);
        assert_eq!(older.busy(), at(7200), "as it was counted then");
    }

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
