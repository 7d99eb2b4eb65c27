//! How scores are distributed, in bins that never move: so that both models, and all replicas, have the same.

/// Bins of a score in [0, 1].
const UNIT: usize = 20;
/// Bins to each power of two of a value's magnitude.
const PER_OCTAVE: i32 = 4;
/// Magnitudes from 2^-20 to 2^40 have bins of their own.
const OCTAVES: (i32, i32) = (-20, 40);
const MAGNITUDES: usize = ((OCTAVES.1 - OCTAVES.0) * PER_OCTAVE) as usize;
/// What an empty bin counts as, when the other model's is not empty (Evidently's smallest share).
const EMPTY: f64 = 1e-4;

/// Where the bins are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
pub enum Scale {
    /// Probabilities: 20 bins of equal width from 0 to 1.
    #[default]
    Unit,
    /// Any number: by sign, and by magnitude in logarithmic steps of a quarter of a power of two.
    Logarithmic,
}

/// The scores of two models in the same bins.
#[derive(Debug, Clone, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
pub struct Bins {
    scale: Scale,
    primary: Vec<u64>,
    candidate: Vec<u64>,
    count: u64,
}

impl Bins {
    /// Empty bins.
    pub fn new(scale: Scale) -> Self {
        let bins = width(scale);
        Self { scale, primary: vec![0; bins], candidate: vec![0; bins], count: 0 }
    }

    /// The two scores of a row; left out unless both are finite.
    pub fn record(&mut self, primary: f64, candidate: f64) {
        if !(primary.is_finite() && candidate.is_finite()) {
            return;
        }
        self.count += 1;
        for (counts, score) in [(&mut self.primary, primary), (&mut self.candidate, candidate)] {
            if let Some(count) = counts.get_mut(bin(self.scale, score)) {
                *count += 1;
            }
        }
    }

    /// Adds what another replica has seen. False, and nothing added, when the bins differ.
    pub fn merge(&mut self, other: &Self) -> bool {
        if self.scale != other.scale {
            return false;
        }
        self.count = self.count.saturating_add(other.count);
        let pairs = [(&mut self.primary, &other.primary), (&mut self.candidate, &other.candidate)];
        for (mine, theirs) in pairs {
            mine.iter_mut().zip(theirs).for_each(|(mine, theirs)| *mine = mine.saturating_add(*theirs));
        }
        true
    }

    /// Whether it has all its bins, and their counts add up.
    pub(crate) fn has_shape(&self) -> bool {
        let sum = |counts: &[u64]| counts.iter().try_fold(0, |sum: u64, n| sum.checked_add(*n));
        [&self.primary, &self.candidate]
            .into_iter()
            .all(|counts| counts.len() == width(self.scale) && sum(counts) == Some(self.count))
    }

    /// Rows seen.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Each bin in which there is anything, in ascending order: lower end, upper end, the primary's rows, the candidate's.
    pub fn iter(&self) -> impl Iterator<Item = (f64, f64, u64, u64)> + '_ {
        let all = self.primary.iter().zip(&self.candidate).enumerate();
        all.filter(|(_, (primary, candidate))| (**primary | **candidate) > 0).map(|(index, (&primary, &candidate))| {
            let (low, high) = ends(self.scale, index);
            (low, high, primary, candidate)
        })
    }

    /// The population stability index: the sum of (c - p) ln(c / p) over the bins' shares. An empty bin counts as 1e-4
    /// where the other model's is not empty. By convention below 0.1 nothing has changed and above 0.2 much has. None
    /// before the first row.
    pub fn stability_index(&self) -> Option<f64> {
        self.sum(|p, c| {
            let (p, c) = (p.max(EMPTY), c.max(EMPTY));
            (c - p) * (c / p).ln()
        })
    }

    /// The Jensen-Shannon divergence of the two distributions, in bits: 0 when they are equal, 1 when they have nothing in
    /// common. None before the first row.
    pub fn divergence(&self) -> Option<f64> {
        let part = |p: f64, mean: f64| if p > 0.0 { p * (p / mean).log2() } else { 0.0 };
        self.sum(|p, c| {
            let mean = f64::midpoint(p, c);
            f64::midpoint(part(p, mean), part(c, mean))
        })
        .map(|divergence| divergence.clamp(0.0, 1.0))
    }

    /// The Kolmogorov-Smirnov statistic, in [0, 1]: the largest difference between the shares of scores below an edge of the bins.
    /// None before the first row.
    pub fn kolmogorov_smirnov(&self) -> Option<f64> {
        (self.count > 0).then(|| self.below().fold(0.0, |largest: f64, (_, apart)| largest.max(apart.abs())))
    }

    /// The Wasserstein distance of order 1, in units of the score: how far scores must be moved on average to turn one
    /// distribution into the other, as if those of a bin were spread evenly in it. None before the first row.
    pub fn wasserstein(&self) -> Option<f64> {
        let mut before = 0.0;
        let parts = self.below().map(|(width, apart): (f64, f64)| {
            let (from, to) = (before, apart);
            before = apart;
            let (low, high) = (f64::abs(from), f64::abs(to));
            // The area under the line between them, which may cross zero.
            let mean = if from * to < 0.0 {
                (low * low + high * high) / (2.0 * (low + high))
            } else {
                f64::midpoint(low, high)
            };
            width * mean
        });
        let all = parts.sum();
        (self.count > 0).then_some(all)
    }

    /// For each bin its width, and by how much more of the candidate's scores than of the primary's are below its upper end.
    fn below(&self) -> impl Iterator<Item = (f64, f64)> + '_ {
        let (mut primary, mut candidate, all) = (0u64, 0u64, self.count as f64);
        self.primary.iter().zip(&self.candidate).enumerate().map(move |(index, (p, c))| {
            (primary, candidate) = (primary + p, candidate + c);
            let (low, high) = ends(self.scale, index);
            (high - low, candidate as f64 / all - primary as f64 / all)
        })
    }

    fn sum(&self, of: impl Fn(f64, f64) -> f64) -> Option<f64> {
        let all = self.count as f64;
        (self.count > 0).then(|| self.iter().map(|(_, _, p, c)| of(p as f64 / all, c as f64 / all)).sum())
    }
}

/// How many bins there are.
fn width(scale: Scale) -> usize {
    match scale {
        Scale::Unit => UNIT,
        Scale::Logarithmic => 2 * MAGNITUDES + 1,
    }
}

fn bin(scale: Scale, score: f64) -> usize {
    match scale {
        // Saturating: what lies below 0 is in the first, what lies above 1 in the last.
        Scale::Unit => ((score * UNIT as f64) as usize).min(UNIT - 1),
        Scale::Logarithmic => {
            let step = ((score.abs().log2() - f64::from(OCTAVES.0)) * f64::from(PER_OCTAVE)).floor();
            if step < 0.0 {
                return MAGNITUDES;
            }
            let step = (step as usize).min(MAGNITUDES - 1);
            if score < 0.0 { MAGNITUDES - 1 - step } else { MAGNITUDES + 1 + step }
        }
    }
}

fn ends(scale: Scale, index: usize) -> (f64, f64) {
    let magnitude = |step: usize| (f64::from(OCTAVES.0) + step as f64 / f64::from(PER_OCTAVE)).exp2();
    match scale {
        Scale::Unit => (index as f64 / UNIT as f64, (index + 1) as f64 / UNIT as f64),
        Scale::Logarithmic if index < MAGNITUDES => {
            (-magnitude(MAGNITUDES - index), -magnitude(MAGNITUDES - 1 - index))
        }
        Scale::Logarithmic if index == MAGNITUDES => (-magnitude(0), magnitude(0)),
        Scale::Logarithmic => (magnitude(index - MAGNITUDES - 1), magnitude(index - MAGNITUDES)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_score_lies_between_the_ends_of_its_bin() {
        for score in [0.0, 0.049, 0.05, 0.5, 0.999, 1.0] {
            let (low, high) = ends(Scale::Unit, bin(Scale::Unit, score));
            assert!(low <= score && score <= high, "{score}: {low} {high}");
        }
        for score in [-3e11, -1.5, -1e-9, 0.0, 1e-7, 2e-6, 1.0, 123_456.0, 1e12] {
            let (low, high) = ends(Scale::Logarithmic, bin(Scale::Logarithmic, score));
            assert!(low <= score && score <= high, "{score}: {low} {high}");
        }
        assert_eq!(bin(Scale::Unit, -0.1), 0);
        assert_eq!(bin(Scale::Logarithmic, 1e300), 2 * MAGNITUDES);
        assert_eq!(bin(Scale::Logarithmic, -1e300), 0);
    }

    #[test]
    fn equal_distributions_have_no_distance_and_disjoint_ones_the_largest() {
        let mut equal = Bins::new(Scale::Unit);
        assert_eq!((equal.stability_index(), equal.divergence()), (None, None));
        assert_eq!((equal.kolmogorov_smirnov(), equal.wasserstein()), (None, None));
        let mut apart = Bins::new(Scale::Unit);
        for i in 0..100 {
            // The same distribution, another order.
            equal.record(f64::from(i) / 100.0, f64::from(99 - i) / 100.0);
            apart.record(0.1, 0.9);
        }
        assert_eq!((equal.stability_index(), equal.divergence()), (Some(0.0), Some(0.0)));
        assert_eq!((equal.kolmogorov_smirnov(), equal.wasserstein()), (Some(0.0), Some(0.0)));
        assert_eq!((apart.divergence(), apart.kolmogorov_smirnov()), (Some(1.0), Some(1.0)));
        assert!(apart.wasserstein().is_some_and(|far| (far - 0.8).abs() < 1e-12));
        assert!(apart.stability_index().is_some_and(|psi| psi > 10.0));
    }

    /// By hand: shares 0.5, 0.5 against 0.25, 0.75.
    #[test]
    fn the_figures_are_the_textbooks() {
        let mut bins = Bins::new(Scale::Unit);
        for (primary, candidate) in [(0.1, 0.1), (0.1, 0.9), (0.9, 0.9), (0.9, 0.9)] {
            bins.record(primary, candidate);
        }
        let psi = -0.25 * 0.5f64.ln() + 0.25 * 1.5f64.ln();
        assert!((bins.stability_index().unwrap() - psi).abs() < 1e-15);
        assert_eq!(bins.kolmogorov_smirnov(), Some(0.25));
        // A quarter of the scores is 0.8 further.
        assert!((bins.wasserstein().unwrap() - 0.2).abs() < 1e-12);
        let js = 0.5
            * (0.5 * (0.5f64 / 0.375).log2()
                + 0.5 * (0.5f64 / 0.625).log2()
                + 0.25 * (0.25f64 / 0.375).log2()
                + 0.75 * (0.75f64 / 0.625).log2());
        assert!((bins.divergence().unwrap() - js).abs() < 1e-15);
        let mut other = bins.clone();
        assert!(other.merge(&bins));
        assert_eq!((other.count(), other.stability_index()), (8, bins.stability_index()));
        assert!(!other.merge(&Bins::new(Scale::Logarithmic)));
    }
}
