//! How far apart two rows of probabilities are.

/// Distances between the probabilities p of the primary and q of the candidate in one row, over all classes of both. A
/// class that only one of them knows has probability 0 with the other.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Distance {
    /// The largest |p - q|.
    pub largest: f64,
    /// The mean of |p - q| over the classes.
    pub mean: f64,
    /// The sum of (p - q)^2: the Brier score with the primary in the place of the truth.
    pub squared: f64,
    /// The Jensen-Shannon divergence in bits, in [0, 1].
    pub divergence: f64,
    /// The Kullback-Leibler divergence of q from p in bits, not negative: what it costs to take q for p. Where q is less than
    /// 1e-12, and p is not, it counts as 1e-12.
    pub relative_entropy: f64,
}

/// The least probability of the candidate that a relative entropy is computed with.
const LEAST: f64 = 1e-12;

impl Distance {
    /// Over pairs (p, q), one for each class; None without a class.
    pub fn between(pairs: impl Iterator<Item = (f64, f64)>) -> Option<Self> {
        let mut all = Self::default();
        let mut classes = 0.0;
        for (p, q) in pairs {
            let apart = (p - q).abs();
            all.largest = all.largest.max(apart);
            all.mean += apart;
            all.squared += apart * apart;
            // Scores that are no probabilities, but finite, must not make it negative or NaN: they are cut off.
            let (p, q) = (p.clamp(0.0, 1.0), q.clamp(0.0, 1.0));
            if p != q {
                let middle = f64::midpoint(p, q);
                let part = |x: f64| if x > 0.0 { x * (x / middle).log2() } else { 0.0 };
                all.divergence += f64::midpoint(part(p), part(q));
                all.relative_entropy += if p > 0.0 { p * (p / q.max(LEAST)).log2() } else { 0.0 };
            }
            classes += 1.0;
        }
        all.mean /= classes;
        all.divergence = all.divergence.clamp(0.0, 1.0);
        all.relative_entropy = all.relative_entropy.max(0.0);
        (classes > 0.0).then_some(all)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_figures_are_the_textbooks() {
        let got = Distance::between([(0.75, 0.5), (0.25, 0.25), (0.0, 0.25)].into_iter()).unwrap();
        assert_eq!((got.largest, got.mean, got.squared), (0.25, 0.5 / 3.0, 0.125));
        let js = 0.5 * (0.75 * 1.2f64.log2() + 0.5 * 0.8f64.log2()) + 0.5 * (0.25 * 2f64.log2());
        assert!((got.divergence - js).abs() < 1e-15, "{} {js}", got.divergence);
        assert!((got.relative_entropy - 0.75 * 1.5f64.log2()).abs() < 1e-15, "{}", got.relative_entropy);
        assert_eq!(Distance::between([(0.3, 0.3), (0.7, 0.7)].into_iter()), Some(Distance::default()));
        // Nothing in common: the largest there is.
        let apart = Distance::between([(1.0, 0.0), (0.0, 1.0)].into_iter()).unwrap();
        assert_eq!((apart.divergence, apart.squared, apart.largest), (1.0, 2.0, 1.0));
        assert_eq!(apart.relative_entropy, 1e12f64.log2());
        assert_eq!(Distance::between(std::iter::empty()), None);
        let odd = Distance::between([(7.0, -3.0), (0.0, 0.0)].into_iter()).unwrap();
        assert!(odd.divergence >= 0.0 && odd.divergence <= 1.0);
        assert!(odd.relative_entropy.is_finite() && odd.relative_entropy >= 0.0);
    }
}
