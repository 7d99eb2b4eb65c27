//! By how much the two models' scores differ.

use super::Measures;
use crate::compare::{Distance, RowOutcome, Task};
use crate::stats::{
    bernstein::{AGREEMENT_V_OPT, Bernstein},
    bins::{Bins, Scale},
    correlation::Correlation,
    moments::Moments,
    ranking::Ranking,
    sketch::Sketch,
};

/// Quantile levels with sums of their own.
pub const MAX_LEVELS: usize = 32;

/// Differences of scores, over rows; they add up across replicas.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
pub struct Scores {
    classification: bool,
    delta: Moments,
    sizes: Sketch,
    relative: Moments,
    distances: Distances,
    /// (delta + 1) / 2, the mean of each exchange.
    shift: Bernstein,
    correlation: Correlation,
    /// Absent from what was saved before there was one: then a sample of what came since.
    #[serde(default)]
    ranking: Ranking,
    bins: Bins,
    levels: Vec<Moments>,
    level_names: Vec<String>,
}

/// Sums over rows of how far apart the probabilities are.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Distances {
    count: u64,
    largest: f64,
    mean: f64,
    squared: f64,
    /// The mean of each exchange.
    divergence: Bernstein,
    /// Of rows; of those since then, where what was saved before had none.
    #[serde(default)]
    relative_entropy: Moments,
}

impl Scores {
    pub(super) fn new(measures: &Measures) -> Self {
        let classification = matches!(measures.task, Task::Binary | Task::Multiclass);
        Self {
            classification,
            delta: Moments::default(),
            sizes: Sketch::default(),
            relative: Moments::default(),
            distances: Distances {
                count: 0,
                largest: 0.0,
                mean: 0.0,
                squared: 0.0,
                // Nothing differs, until shown otherwise.
                divergence: Bernstein::new(0.0),
                relative_entropy: Moments::default(),
            },
            shift: Bernstein::new(0.5),
            correlation: Correlation::default(),
            ranking: Ranking::default(),
            bins: Bins::new(if classification { Scale::Unit } else { Scale::Logarithmic }),
            levels: Vec::new(),
            level_names: measures.levels.clone(),
        }
    }

    /// The rows of the exchange with this number. `levels` is `[rows, levels]`.
    pub(super) fn record(&mut self, number: u64, rows: &[RowOutcome], levels: &[f64]) {
        let (mut deltas, mut sum) = (0u32, 0.0);
        let (mut distances, mut divergence) = (0u32, 0.0);
        for (row, outcome) in rows.iter().enumerate() {
            if let Some(delta) = outcome.delta {
                self.delta.record(delta);
                self.sizes.record(delta);
                deltas += 1;
                sum += delta;
            }
            if let Some((primary, candidate)) = outcome.scores {
                self.correlation.record(primary, candidate);
                self.ranking.record((number, row), primary, candidate);
                self.bins.record(primary, candidate);
                if primary != 0.0 {
                    self.relative.record((candidate - primary) / primary.abs());
                }
            }
            if let Some(Distance { largest, mean, squared, divergence: js, relative_entropy }) = outcome.distance {
                let all = &mut self.distances;
                all.count += 1;
                all.largest = all.largest.max(largest);
                all.mean += mean;
                all.squared += squared;
                all.relative_entropy.record(relative_entropy);
                distances += 1;
                divergence += js;
            }
        }
        if self.classification && deltas > 0 {
            self.shift.record(f64::midpoint(sum / f64::from(deltas), 1.0));
        }
        if distances > 0 {
            self.distances.divergence.record(divergence / f64::from(distances));
        }
        let width = levels.len().checked_div(rows.len()).unwrap_or(0);
        if width > 0 {
            self.levels.resize(self.levels.len().max(width.min(MAX_LEVELS)), Moments::default());
            for row in levels.chunks_exact(width) {
                self.levels.iter_mut().zip(row).for_each(|(level, &delta)| level.record(delta));
            }
        }
    }

    pub(super) fn merge(&mut self, other: &Self) {
        self.delta.merge(&other.delta);
        self.sizes.merge(&other.sizes);
        self.relative.merge(&other.relative);
        self.shift.merge(&other.shift);
        self.correlation.merge(&other.correlation);
        self.ranking.merge(&other.ranking);
        let (mine, theirs) = (&mut self.distances, &other.distances);
        mine.count = mine.count.saturating_add(theirs.count);
        mine.largest = mine.largest.max(theirs.largest);
        mine.mean += theirs.mean;
        mine.squared += theirs.squared;
        mine.divergence.merge(&theirs.divergence);
        mine.relative_entropy.merge(&theirs.relative_entropy);
        self.levels.resize(self.levels.len().max(other.levels.len()), Moments::default());
        self.levels.iter_mut().zip(&other.levels).for_each(|(mine, theirs)| mine.merge(theirs));
        // The same comparator: the same bins.
        self.bins.merge(&other.bins);
    }

    pub(super) fn same_kind(&self, other: &Self) -> bool {
        self.classification == other.classification && self.level_names == other.level_names
    }

    pub(super) fn has_shape(&self, rows: u64) -> bool {
        let counted = self.sizes.count().max(self.bins.count()) <= rows;
        counted
            && self.ranking.has_shape(rows)
            && self.levels.len() <= MAX_LEVELS
            && self.sizes.has_shape()
            && self.bins.has_shape()
    }

    /// Candidate minus primary.
    pub fn delta(&self) -> &Moments {
        &self.delta
    }

    /// How large the differences are, without their sign.
    pub fn sizes(&self) -> &Sketch {
        &self.sizes
    }

    /// Differences as a share of the primary's score, where that is not 0.
    pub fn relative(&self) -> &Moments {
        &self.relative
    }

    /// Probabilities of all classes.
    pub fn distances(&self) -> &Distances {
        &self.distances
    }

    /// Whether the candidate's scores follow the primary's.
    pub fn correlation(&self) -> &Correlation {
        &self.correlation
    }

    /// Whether both models rank rows alike.
    pub fn ranking(&self) -> &Ranking {
        &self.ranking
    }

    /// How both models' scores are distributed.
    pub fn bins(&self) -> &Bins {
        &self.bins
    }

    /// Quantile outputs: name (empty where the models have none) and differences of each level.
    pub fn levels(&self) -> impl Iterator<Item = (&str, &Moments)> {
        let name = |level: usize| self.level_names.get(level).map_or("", String::as_str);
        self.levels.iter().enumerate().map(move |(level, moments)| (name(level), moments))
    }

    /// Classification: the mean difference of the scores, per exchange, with its confidence sequence at level 1 - alpha:
    /// (lower, mean, upper) in [-1, 1]. None before the first; values without bounds of their own have none.
    pub fn shift(&self, alpha: f64) -> Option<(f64, f64, f64)> {
        let mean = self.shift.mean()?;
        let (lower, upper) = self.shift.confidence_sequence(alpha, AGREEMENT_V_OPT);
        let difference = |score: f64| 2.0 * score - 1.0;
        Some((difference(lower), difference(mean), difference(upper)))
    }
}

impl Distances {
    /// Rows in which both models gave probabilities.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// The largest |p - q| of any class in any row.
    pub fn largest(&self) -> f64 {
        self.largest
    }

    /// The mean of |p - q| over classes and rows.
    pub fn mean(&self) -> Option<f64> {
        self.per_row(self.mean)
    }

    /// The mean over rows of the sum of (p - q)^2.
    pub fn squared(&self) -> Option<f64> {
        self.per_row(self.squared)
    }

    /// The mean Jensen-Shannon divergence per exchange, in bits, with a one-sided upper bound at level 1 - alpha.
    pub fn divergence(&self, alpha: f64) -> Option<(f64, f64)> {
        Some((self.divergence.mean()?, self.divergence.upper(alpha, AGREEMENT_V_OPT)))
    }

    /// The mean over rows of the relative entropy of the candidate's probabilities to the primary's, in bits.
    pub fn relative_entropy(&self) -> Option<f64> {
        self.relative_entropy.mean()
    }

    fn per_row(&self, sum: f64) -> Option<f64> {
        (self.count > 0).then(|| sum / self.count as f64)
    }
}
