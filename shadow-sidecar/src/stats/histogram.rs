//! Latencies in fixed memory: quantiles within one percent, mergeable by addition.

use std::time::Duration;

/// 64 buckets to each power of two: the middle of a bucket is within 1/128 = 0.8 % of everything in it.
const STEP_BITS: u32 = 6;
const STEPS: u64 = 1 << STEP_BITS;

/// What is longer counts as this long, except in `max` and `mean`. One hour, in nanoseconds.
const LONGEST: u64 = 3_600_000_000_000;

const BUCKETS: usize = bucket(LONGEST) + 1;

/// Durations from 1 ns to 1 h in log-linear buckets, about 19 kB.
///
/// The same idea as `DDSketch` (Masson, Rim and Lee, VLDB 2019, arXiv 1908.10693), with the buckets of `HdrHistogram`:
/// integers only, so that it is the same on every machine.
#[derive(Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Histogram {
    counts: Box<[u64]>,
    count: u64,
    /// Nanoseconds.
    sum: u128,
    min: u64,
    max: u64,
}

impl Histogram {
    /// Relative error of a quantile, at most.
    pub const RELATIVE_ERROR: f64 = 0.5 / STEPS as f64;

    /// One duration, in nanoseconds.
    pub fn record(&mut self, nanos: u64) {
        if let Some(count) = self.counts.get_mut(bucket(nanos.min(LONGEST))) {
            *count += 1;
        }
        self.count += 1;
        self.sum += u128::from(nanos);
        self.min = self.min.min(nanos);
        self.max = self.max.max(nanos);
    }

    /// Adds what another replica has seen: exactly as if one had seen it all.
    pub fn merge(&mut self, other: &Self) {
        for (mine, theirs) in self.counts.iter_mut().zip(&other.counts) {
            *mine = mine.saturating_add(*theirs);
        }
        self.count = self.count.saturating_add(other.count);
        self.sum = self.sum.saturating_add(other.sum);
        self.min = self.min.min(other.min);
        self.max = self.max.max(other.max);
    }

    /// Whether it has all its buckets, and `count` durations in them.
    pub(crate) fn has_shape(&self, count: u64) -> bool {
        let sum = self.counts.iter().try_fold(0, |sum: u64, n| sum.checked_add(*n));
        let ordered = count == 0 || self.min <= self.max;
        self.counts.len() == BUCKETS && [Some(self.count), sum] == [Some(count); 2] && ordered
    }

    /// Durations seen.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// The shortest duration of which at least the share q of all are no longer, within
    /// [`Self::RELATIVE_ERROR`]; the ends (q = 0 and q = 1) are exact. None before the first, or when q is not in [0, 1].
    pub fn quantile(&self, q: f64) -> Option<Duration> {
        if self.count == 0 || !(0.0..=1.0).contains(&q) {
            return None;
        }
        self.at_rank(((q * self.count as f64).ceil() as u64).clamp(1, self.count))
    }

    /// The duration of a rank, from 1 for the shortest, within [`Self::RELATIVE_ERROR`]; the ends are exact. None where
    /// there is no such rank.
    pub fn at_rank(&self, rank: u64) -> Option<Duration> {
        if rank == 0 || rank > self.count {
            return None;
        }
        if rank == 1 {
            return Some(Duration::from_nanos(self.min));
        }
        if rank == self.count {
            return Some(Duration::from_nanos(self.max));
        }
        let mut below = 0;
        let index = self.counts.iter().position(|count| {
            below += count;
            below >= rank
        })?;
        Some(Duration::from_nanos(middle(index).clamp(self.min, self.max)))
    }

    /// Exact up to nanoseconds. None before the first.
    pub fn mean(&self) -> Option<Duration> {
        self.sum.checked_div(u128::from(self.count)).map(|nanos| Duration::from_nanos(nanos as u64))
    }

    /// Exact. None before the first.
    pub fn max(&self) -> Option<Duration> {
        (self.count > 0).then(|| Duration::from_nanos(self.max))
    }

    /// Each bucket with something in it, from the shortest: its lower and upper edge in nanoseconds, and how many durations.
    pub fn buckets(&self) -> impl Iterator<Item = (u64, u64, u64)> {
        let occupied = self.counts.iter().enumerate().filter(|(_, count)| **count > 0);
        occupied.map(|(index, count)| (lowest(index), lowest(index + 1), *count))
    }
}

impl Default for Histogram {
    fn default() -> Self {
        Self { counts: vec![0; BUCKETS].into_boxed_slice(), count: 0, sum: 0, min: u64::MAX, max: 0 }
    }
}

impl std::fmt::Debug for Histogram {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Histogram")
            .field("count", &self.count)
            .field("mean", &self.mean())
            .field("max", &self.max())
            .finish_non_exhaustive()
    }
}

/// Short durations have a bucket each; longer ones share it with those that begin with the same seven binary digits.
const fn bucket(nanos: u64) -> usize {
    if nanos < STEPS {
        return nanos as usize;
    }
    let shift = nanos.ilog2() - STEP_BITS;
    // The leading digit is in nanos >> shift: it makes up for the first, undivided STEPS.
    (shift as u64 * STEPS + (nanos >> shift)) as usize
}

/// The middle of a bucket, in nanoseconds.
fn middle(index: usize) -> u64 {
    let shift = (index as u64 / STEPS).saturating_sub(1);
    lowest(index) + (1 << shift) / 2
}

/// The lower edge of a bucket, in nanoseconds.
fn lowest(index: usize) -> u64 {
    let index = index as u64;
    let shift = (index / STEPS).saturating_sub(1);
    (index - shift * STEPS) << shift
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(nanos: impl IntoIterator<Item = u64>) -> Histogram {
        let mut histogram = Histogram::default();
        for nanos in nanos {
            histogram.record(nanos);
        }
        histogram
    }

    #[test]
    fn buckets_follow_each_other_and_are_narrow() {
        let mut last = 0;
        for nanos in (0..100_000).chain((0..42).flat_map(|e| [(1 << e) - 1, 1 << e, (1 << e) + 1])) {
            let nanos: u64 = nanos;
            let error = middle(bucket(nanos)).abs_diff(nanos) as f64;
            assert!(error <= Histogram::RELATIVE_ERROR * nanos as f64, "{nanos}");
            if nanos == last + 1 {
                assert!(bucket(nanos) - bucket(last) <= 1, "{nanos}");
            }
            last = nanos;
        }
        const { assert!(BUCKETS < 2400, "about 19 kB") };
    }

    #[test]
    fn quantiles_are_within_the_promised_error() {
        let histogram = of((1..=10_000).map(|i| i * i));
        for q in [0.01, 0.5, 0.9, 0.95, 0.99, 0.999] {
            let exact = ((q * 10_000f64).ceil() / 1e9) * (q * 10_000f64).ceil();
            let got = histogram.quantile(q).map_or(f64::NAN, |d| d.as_secs_f64());
            assert!((got / exact - 1.0).abs() <= Histogram::RELATIVE_ERROR + 1e-9, "{q}: {got} {exact}");
        }
        assert_eq!(histogram.quantile(0.0), Some(Duration::from_nanos(1)));
        assert_eq!(histogram.quantile(1.0), histogram.max());
        assert_eq!(histogram.max(), Some(Duration::from_millis(100)));
        assert_eq!(histogram.mean(), Some(Duration::from_nanos(33_338_333)));
    }

    #[test]
    fn a_bucket_says_between_what_its_durations_are() {
        for nanos in (0..1000).chain((10..41).flat_map(|e| [(1 << e) - 1, 1 << e, (1 << e) + 12_345 % (1 << e)])) {
            let buckets: Vec<_> = of([nanos, nanos]).buckets().collect();
            let [(lower, upper, 2)] = buckets[..] else { panic!("{nanos}: {buckets:?}") };
            assert!(lower <= nanos && nanos < upper, "{nanos}: {buckets:?}");
        }
    }

    #[test]
    fn merging_is_pooling() {
        let mut left = of([5, 70_000, 3]);
        left.merge(&of([0, 1_000_000_000]));
        left.merge(&Histogram::default());
        assert_eq!(left, of([5, 70_000, 3, 0, 1_000_000_000]));
    }

    #[test]
    fn odd_durations_are_counted() {
        let histogram = of([0, LONGEST, LONGEST + 1, u64::MAX]);
        assert_eq!(histogram.count(), 4);
        assert_eq!(histogram.max(), Some(Duration::from_nanos(u64::MAX)));
        let three_quarters = histogram.quantile(0.75).map_or(0.0, |d| d.as_secs_f64());
        assert!((three_quarters / 3600.0 - 1.0).abs() <= Histogram::RELATIVE_ERROR);
    }

    #[test]
    fn nothing_has_no_quantile() {
        let empty = Histogram::default();
        assert_eq!((empty.quantile(0.5), empty.mean(), empty.max()), (None, None, None));
        assert_eq!(of([1]).quantile(f64::NAN), None);
        assert_eq!(of([1]).quantile(1.5), None);
    }
}
