//! How agreement went: points in the order of time, in fixed memory. A plain struct: who feeds it says what time it is.

use serde::{Deserialize, Serialize};

use crate::verdict::Figures;

/// Points that are kept.
const MOST: usize = 720;
/// Between two points at first, in nanoseconds.
const INTERVAL: u64 = 1_000_000_000;

/// What was known at one time. Shares are in [0, 1].
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(from = "Written", into = "Written")]
pub struct Point {
    /// Nanoseconds since the epoch.
    pub unix_nanos: u64,
    /// Rows compared.
    pub compared: u64,
    /// Rows that agreed.
    pub agreed: u64,
    /// Agreement; absent before anything was compared.
    pub rate: Option<f64>,
    /// Its confidence sequence.
    pub lower: f64,
    /// Its upper end.
    pub upper: f64,
    /// The evidence for "agreement > gate", a natural logarithm.
    pub log_e: f64,
}

/// A point in the order of its fields: their names would be most of what is written.
type Written = (u64, u64, u64, Option<f64>, f64, f64, f64);

impl From<Point> for Written {
    fn from(point: Point) -> Self {
        let Point { unix_nanos, compared, agreed, rate, lower, upper, log_e } = point;
        (unix_nanos, compared, agreed, rate, lower, upper, log_e)
    }
}

impl From<Written> for Point {
    fn from((unix_nanos, compared, agreed, rate, lower, upper, log_e): Written) -> Self {
        Self { unix_nanos, compared, agreed, rate, lower, upper, log_e }
    }
}

impl Point {
    /// At `unix_nanos`.
    pub fn new(unix_nanos: u64, figures: &Figures) -> Self {
        let &Figures { compared, agreed, rate, lower, upper, log_e, .. } = figures;
        Self { unix_nanos, compared, agreed, rate, lower, upper, log_e }
    }
}

/// At most 720 points of one epoch, whatever its age: when there is no room for another, every other one goes and the
/// interval between them doubles. So the whole epoch is there, as finely as a screen shows it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct History {
    points: Vec<Point>,
    interval: u64,
}

impl Default for History {
    fn default() -> Self {
        Self { points: Vec::new(), interval: INTERVAL }
    }
}

impl History {
    /// Keeps `point` when the last one that is kept is an interval older. What comes from before the last one, as when the
    /// clock was set back, is not kept.
    pub fn record(&mut self, point: Point) {
        // Tickers are late by a little, and never early: half an interval of a late one must not cost the next.
        let due = |last: &Point| {
            point.unix_nanos.saturating_sub(last.unix_nanos) >= self.interval.saturating_sub(INTERVAL / 10)
        };
        if !self.points.last().is_none_or(due) {
            return;
        }
        if self.points.len() >= MOST {
            let mut index = 0;
            self.points.retain(|_| {
                index += 1;
                index % 2 == 1
            });
            self.interval = self.interval.saturating_mul(2);
        }
        self.points.push(point);
    }

    /// Whether there is nothing to show.
    pub fn is_empty(&self) -> bool {
        self.points.is_empty()
    }

    /// In the order of time.
    pub fn points(&self) -> &[Point] {
        &self.points
    }

    /// Between two points, in nanoseconds.
    pub fn interval(&self) -> u64 {
        self.interval
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn point(second: u64) -> Point {
        let unix_nanos = second * INTERVAL;
        Point { unix_nanos, compared: second, agreed: second, rate: Some(1.0), lower: 0.0, upper: 1.0, log_e: 0.0 }
    }

    #[test]
    fn a_day_fits_and_begins_at_the_beginning() {
        let mut history = History::default();
        for second in 0..86_400 {
            history.record(point(second));
            assert!(history.points().len() <= MOST);
        }
        let points = history.points();
        assert_eq!(points[0].compared, 0);
        assert!(points.len() > MOST / 2, "{}", points.len());
        assert!(points.windows(2).all(|pair| pair[0].unix_nanos < pair[1].unix_nanos));
        let last = points.last().map_or(0, |point| point.unix_nanos);
        assert!(86_399 * INTERVAL - last <= history.interval(), "the newest is at most an interval old");
        let widest = points.windows(2).map(|pair| pair[1].unix_nanos - pair[0].unix_nanos).max();
        assert_eq!(widest, Some(history.interval()), "no gap is wider than the interval");
    }

    #[test]
    fn the_first_minutes_are_kept_second_by_second() {
        let mut history = History::default();
        for second in 0..MOST as u64 {
            // As a ticker of 100 ms tells it: a little off.
            history.record(Point { unix_nanos: second * INTERVAL - second % 2 * 1_000_000, ..point(second) });
            history.record(Point { unix_nanos: second * INTERVAL + INTERVAL / 2, ..point(second) });
        }
        assert_eq!(history.points().len(), MOST);
        history.record(point(MOST as u64));
        assert_eq!((history.points().len(), history.interval()), (MOST / 2 + 1, 2 * INTERVAL));
    }

    #[test]
    fn a_clock_that_is_set_back_adds_nothing() {
        let mut history = History::default();
        for second in [10, 11, 3, 4, 12] {
            history.record(point(second));
        }
        let seconds: Vec<_> = history.points().iter().map(|point| point.compared).collect();
        assert_eq!(seconds, [10, 11, 12]);
    }
}
