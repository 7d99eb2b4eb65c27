//! Magnitudes of any size in bounded memory: quantiles within one percent, mergeable by addition.

/// 64 buckets to each power of two, by the leading binary digits of the number: the middle of a bucket is within
/// 1/128 = 0.8 % of everything in it.
const DROPPED_BITS: u32 = 52 - 6;
/// What is smaller counts as zero, what is larger as this large: 2^-64 and 2^64.
const LOWEST: i32 = (1023 - 64) << 6;
const HIGHEST: i32 = (1023 + 64) << 6;

/// Numbers in logarithmic buckets (DDSketch's idea: Masson, Rim and Lee, VLDB 2019, arXiv 1908.10693). Only the range that
/// has occurred takes memory, at most 66 kB.
#[derive(Debug, Clone, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
pub struct Sketch {
    zeros: u64,
    total: u64,
    /// The bucket of `counts[0]`.
    first: i32,
    counts: Vec<u64>,
}

impl Sketch {
    /// Relative error of a quantile, at most.
    pub const RELATIVE_ERROR: f64 = 1.0 / 128.0;

    /// One magnitude: the sign is ignored. NaN and infinity are left out.
    pub fn record(&mut self, value: f64) {
        if value.is_finite() {
            self.add(bucket(value.abs()), 1);
        }
    }

    /// Adds what another replica has seen: exactly as if one had seen it all.
    pub fn merge(&mut self, other: &Self) {
        self.add(None, other.zeros);
        for (bucket, &count) in (other.first..).zip(&other.counts) {
            if count > 0 {
                self.add(Some(bucket), count);
            }
        }
    }

    /// Whether its buckets are among those that there can be, and their counts add up.
    pub(crate) fn has_shape(&self) -> bool {
        let last = i64::from(self.first) + self.counts.len() as i64 - 1;
        let within = self.counts.is_empty() || (self.first >= LOWEST && last <= i64::from(HIGHEST));
        within && self.counts.iter().try_fold(self.zeros, |sum, n| sum.checked_add(*n)) == Some(self.total)
    }

    /// Magnitudes seen.
    pub fn count(&self) -> u64 {
        self.total
    }

    /// The smallest magnitude of which at least the share q of all are no larger, within [`Self::RELATIVE_ERROR`]. None
    /// before the first, or when q is not in [0, 1].
    pub fn quantile(&self, q: f64) -> Option<f64> {
        if self.total == 0 || !(0.0..=1.0).contains(&q) {
            return None;
        }
        let rank = ((q * self.total as f64).ceil() as u64).clamp(1, self.total);
        let mut below = self.zeros;
        if below >= rank {
            return Some(0.0);
        }
        let index = self.counts.iter().position(|count| {
            below += count;
            below >= rank
        })?;
        Some(middle(self.first + index as i32))
    }

    fn add(&mut self, bucket: Option<i32>, count: u64) {
        self.total = self.total.saturating_add(count);
        let Some(bucket) = bucket else {
            self.zeros = self.zeros.saturating_add(count);
            return;
        };
        if self.counts.is_empty() {
            self.first = bucket;
        }
        if bucket < self.first {
            let missing = (self.first - bucket) as usize;
            self.counts.splice(..0, std::iter::repeat_n(0, missing));
            self.first = bucket;
        }
        let index = (bucket - self.first) as usize;
        if index >= self.counts.len() {
            self.counts.resize(index + 1, 0);
        }
        if let Some(mine) = self.counts.get_mut(index) {
            *mine = mine.saturating_add(count);
        }
    }
}

/// None for what counts as zero.
fn bucket(magnitude: f64) -> Option<i32> {
    let bucket = (magnitude.to_bits() >> DROPPED_BITS) as i32;
    (bucket >= LOWEST).then_some(bucket.min(HIGHEST))
}

fn middle(bucket: i32) -> f64 {
    let end = |bucket: i32| f64::from_bits((bucket as u64) << DROPPED_BITS);
    f64::midpoint(end(bucket), end(bucket + 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(values: impl IntoIterator<Item = f64>) -> Sketch {
        let mut sketch = Sketch::default();
        values.into_iter().for_each(|value| sketch.record(value));
        sketch
    }

    #[test]
    fn quantiles_are_within_the_promised_error() {
        let sketch = of((1..=10_000).map(|i| -f64::from(i).powi(3) * 1e-9));
        for q in [0.01, 0.5, 0.95, 0.99, 1.0] {
            let exact = (q * 10_000f64).ceil().powi(3) * 1e-9;
            let got = sketch.quantile(q).unwrap();
            assert!((got / exact - 1.0).abs() <= Sketch::RELATIVE_ERROR + 1e-12, "{q}: {got} {exact}");
        }
    }

    #[test]
    fn merging_is_pooling() {
        let mut left = of([3.0, 0.0, 1e-5]);
        left.merge(&of([-7e9, 2.0]));
        left.merge(&Sketch::default());
        assert_eq!(left, of([2.0, 3.0, -7e9, 1e-5, 0.0]));
        let mut empty = Sketch::default();
        empty.merge(&left);
        assert_eq!(empty, left);
    }

    #[test]
    fn odd_numbers_are_counted_or_left_out() {
        let sketch = of([f64::NAN, f64::INFINITY, 0.0, -0.0, f64::MIN_POSITIVE, 1e300, f64::MAX]);
        assert_eq!((sketch.count(), sketch.quantile(0.5)), (5, Some(0.0)));
        assert!(sketch.quantile(1.0).is_some_and(|largest| largest > 1e19));
        assert_eq!((Sketch::default().quantile(0.5), sketch.quantile(f64::NAN)), (None, None));
        // The whole range there is.
        assert!(of([1e-30, 1e30]).counts.len() <= 8193);
    }
}
