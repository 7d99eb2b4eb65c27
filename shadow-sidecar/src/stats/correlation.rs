//! How two models' values go together.

/// Means and central second moments of pairs, from which Pearson's correlation follows. Merged by the formula of Chan,
/// Golub and LeVeque ("Updating formulae and a pairwise algorithm for computing sample variances", 1979), which keeps the
/// digits where values are large and vary little.
#[derive(Debug, Clone, Copy, PartialEq, Default, serde::Serialize, serde::Deserialize)]
pub struct Correlation {
    count: u64,
    mean: [f64; 2],
    squares: [f64; 2],
    product: f64,
}

impl Correlation {
    /// One pair; left out unless both are finite.
    pub fn record(&mut self, primary: f64, candidate: f64) {
        if primary.is_finite() && candidate.is_finite() {
            self.merge(&Self { count: 1, mean: [primary, candidate], ..Self::default() });
        }
    }

    /// Adds what another replica has seen, up to rounding.
    pub fn merge(&mut self, other: &Self) {
        if other.count == 0 {
            return;
        }
        let count = self.count.saturating_add(other.count);
        let (mine, theirs) = (self.count as f64, other.count as f64);
        let weight = theirs / (mine + theirs);
        let apart = [other.mean[0] - self.mean[0], other.mean[1] - self.mean[1]];
        for (side, apart) in apart.into_iter().enumerate() {
            self.squares[side] += other.squares[side] + apart * apart * mine * weight;
            self.mean[side] += apart * weight;
        }
        self.product += other.product + apart[0] * apart[1] * mine * weight;
        self.count = count;
    }

    /// Pairs seen.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Pearson's correlation, in [-1, 1]. None while either side has not varied.
    pub fn pearson(&self) -> Option<f64> {
        let scale = (self.squares[0] * self.squares[1]).sqrt();
        (scale > 0.0 && scale.is_finite()).then(|| (self.product / scale).clamp(-1.0, 1.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(pairs: impl IntoIterator<Item = (f64, f64)>) -> Correlation {
        let mut all = Correlation::default();
        pairs.into_iter().for_each(|(primary, candidate)| all.record(primary, candidate));
        all
    }

    #[test]
    fn it_is_the_textbooks() {
        // By hand: sums of squares 10 and 34, product 15.
        let pairs = [(1.0, 2.0), (2.0, 1.0), (3.0, 4.0), (4.0, 3.0), (5.0, 8.0)];
        let expected = 14.0 / (10.0f64 * 29.2).sqrt();
        assert!((of(pairs).pearson().unwrap() - expected).abs() < 1e-15);
        assert_eq!(of([(1.0, 3.0), (2.0, 1.0)]).pearson(), Some(-1.0));
        assert_eq!(of([(1.0, 3.0), (1.0, 1.0)]).pearson(), None);
        assert_eq!(of([(f64::NAN, 3.0), (1.0, f64::INFINITY)]).count(), 0);
    }

    #[test]
    fn large_values_keep_their_digits_and_merging_is_pooling() {
        let pair = |i: u32| (1e9 + f64::from(i % 17), 2e9 + f64::from(i % 17) * 2.0 + f64::from(i % 5));
        let whole = of((0..1000).map(pair));
        let small = of((0..1000).map(|i| (pair(i).0 - 1e9, pair(i).1 - 2e9)));
        assert!((whole.pearson().unwrap() - small.pearson().unwrap()).abs() < 1e-9);
        let mut left = of((0..300).map(pair));
        left.merge(&of((300..1000).map(pair)));
        assert!((left.pearson().unwrap() - whole.pearson().unwrap()).abs() < 1e-9);
        assert_eq!(left.count(), 1000);
    }
}
