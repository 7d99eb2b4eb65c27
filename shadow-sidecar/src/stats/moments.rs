//! Differences between scores, candidate minus primary.

/// Sums from which mean, mean absolute and root mean square differences follow. In the unit of the score.
#[derive(Debug, Clone, Copy, PartialEq, Default, serde::Serialize, serde::Deserialize)]
pub struct Moments {
    count: u64,
    sum: f64,
    sum_absolute: f64,
    sum_squares: f64,
    max_absolute: f64,
}

impl Moments {
    /// One difference. NaN and infinity would spoil every sum for ever: they are left out, and must be counted by the
    /// caller.
    pub fn record(&mut self, difference: f64) {
        if !difference.is_finite() {
            return;
        }
        self.count += 1;
        self.sum += difference;
        self.sum_absolute += difference.abs();
        self.sum_squares += difference * difference;
        self.max_absolute = self.max_absolute.max(difference.abs());
    }

    /// Adds what another replica has seen. Counts are exact; sums up to rounding.
    pub fn merge(&mut self, other: &Self) {
        self.count = self.count.saturating_add(other.count);
        self.sum += other.sum;
        self.sum_absolute += other.sum_absolute;
        self.sum_squares += other.sum_squares;
        self.max_absolute = self.max_absolute.max(other.max_absolute);
    }

    /// Differences seen.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Sum of the differences.
    pub fn sum(&self) -> f64 {
        self.sum
    }

    /// Sum of the absolute differences.
    pub fn sum_absolute(&self) -> f64 {
        self.sum_absolute
    }

    /// Sum of the squared differences.
    pub fn sum_squares(&self) -> f64 {
        self.sum_squares
    }

    /// The largest absolute difference; 0 before the first.
    pub fn max_absolute(&self) -> f64 {
        self.max_absolute
    }

    /// The bias: candidate minus primary. None before the first difference.
    pub fn mean(&self) -> Option<f64> {
        self.per_row(self.sum)
    }

    /// Mean absolute difference.
    pub fn mean_absolute(&self) -> Option<f64> {
        self.per_row(self.sum_absolute)
    }

    /// Root mean square difference.
    pub fn root_mean_square(&self) -> Option<f64> {
        self.per_row(self.sum_squares).map(f64::sqrt)
    }

    fn per_row(&self, sum: f64) -> Option<f64> {
        (self.count > 0).then(|| sum / self.count as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(differences: &[f64]) -> Moments {
        let mut moments = Moments::default();
        for &difference in differences {
            moments.record(difference);
        }
        moments
    }

    #[test]
    fn figures_follow_from_the_sums() {
        let moments = of(&[0.5, -1.5, 0.0, 2.0]);
        assert_eq!(moments.count(), 4);
        assert_eq!(moments.mean(), Some(0.25));
        assert_eq!(moments.mean_absolute(), Some(1.0));
        assert_eq!(moments.root_mean_square(), Some((6.5f64 / 4.0).sqrt()));
        assert_eq!(moments.max_absolute(), 2.0);
    }

    #[test]
    fn merging_is_pooling() {
        let mut left = of(&[0.5, -1.5]);
        left.merge(&of(&[0.0, 2.0]));
        assert_eq!(left, of(&[0.5, -1.5, 0.0, 2.0]));
    }

    #[test]
    fn nothing_and_nonsense_have_no_mean() {
        let moments = of(&[f64::NAN, f64::INFINITY, f64::NEG_INFINITY]);
        assert_eq!(moments, Moments::default());
        assert_eq!((moments.mean(), moments.mean_absolute(), moments.root_mean_square()), (None, None, None));
    }
}
