//! What a candidate must prove.

use std::time::Duration;

use crate::stats::agreement::Prior;

/// The conditions of a verdict. Part of the epoch: choosing them after looking at the figures voids the guarantee.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Gates {
    /// The mean share of agreeing rows per exchange that the candidate must be proven to exceed, in (0, 1).
    pub gate: f64,
    /// Agreement proven to be below this rejects, in (0, 1); the gate when absent.
    pub abort: Option<f64>,
    /// Probability of a wrong promotion, at most; and of a wrong rejection, for each of its two grounds.
    pub alpha: f64,
    /// Exchanges (with rows in them) that must have been compared.
    pub min_pairs: u64,
    /// Time in which exchanges must have been compared, to see the mix of the traffic: see [`Tally::busy`](crate::tally::Tally::busy).
    pub min_duration: Duration,
    /// Share of the eligible that must have been compared, of rows and of exchanges, in [0, 1]. What is missing up to there is taken
    /// to agree as often as the rest; with 1 nothing is taken for granted: whatever is missing counts as a disagreement.
    pub min_coverage: f64,
    /// Share of exchanges that the candidate may fail, in (0, 1]; 1 turns the guardrail off.
    pub max_error_rate: f64,
    /// Weights of the mixture in the one-sided tests.
    pub prior: Prior,
    /// Whether a promotion must also be proven without taking one agreement for granted: by the empirical-Bernstein lower
    /// bound on the running mean. It takes more exchanges: see [`bernstein`](crate::stats::bernstein).
    pub drift_robust: bool,
    /// A candidate proven to take more than this many times the primary's time in more than `max_slower_share` of the
    /// exchanges is not promoted; none turns the guardrail off.
    pub max_latency_ratio: Option<f64>,
    /// In (0, 1).
    pub max_slower_share: f64,
    /// The population stability index of the candidate's scores against the primary's, at most; none turns the guardrail
    /// off. An estimate without a bound.
    pub max_score_psi: Option<f64>,
    /// Classification: the mean difference of the scores must be proven to be at most this, in either direction, in (0, 1];
    /// none turns the guardrail off.
    pub max_score_shift: Option<f64>,
    /// A slice counts as one that differs when its agreement is proven to be below the gate by more than this, in [0, 1).
    pub slice_margin: f64,
}

impl Gates {
    /// Agreement proven to be below this rejects.
    pub fn abort(&self) -> f64 {
        self.abort.unwrap_or(self.gate)
    }

    /// What is wrong with the values, all at once; empty when nothing is.
    pub fn problems(&self) -> Vec<String> {
        let open = |v: f64| v > 0.0 && v < 1.0;
        let all = [
            (open(self.gate), "gate", "greater than 0 and less than 1", self.gate),
            (open(self.abort()), "abort", "greater than 0 and less than 1", self.abort()),
            (self.abort() <= self.gate, "abort", "at most the gate", self.abort()),
            (open(self.alpha), "alpha", "greater than 0 and less than 1", self.alpha),
            ((0.0..=1.0).contains(&self.min_coverage), "min_coverage", "from 0 to 1", self.min_coverage),
            (
                open(self.max_error_rate) || self.max_error_rate == 1.0,
                "max_error_rate",
                "greater than 0 and at most 1",
                self.max_error_rate,
            ),
            (
                self.max_latency_ratio.is_none_or(|ratio| ratio > 0.0 && ratio.is_finite()),
                "max_latency_ratio",
                "greater than 0",
                self.max_latency_ratio.unwrap_or_default(),
            ),
            (open(self.max_slower_share), "max_slower_share", "greater than 0 and less than 1", self.max_slower_share),
            (
                self.max_score_psi.is_none_or(|psi| psi > 0.0),
                "max_score_psi",
                "greater than 0",
                self.max_score_psi.unwrap_or_default(),
            ),
            (
                self.max_score_shift.is_none_or(|shift| shift > 0.0 && shift <= 1.0),
                "max_score_shift",
                "greater than 0 and at most 1",
                self.max_score_shift.unwrap_or_default(),
            ),
            (
                self.slice_margin >= 0.0 && self.slice_margin < self.gate,
                "slice_margin",
                "from 0 to less than the gate",
                self.slice_margin,
            ),
        ];
        let wrong = all.into_iter().filter(|(holds, ..)| !holds);
        wrong.map(|(_, name, expected, got)| format!("{name}: expected a number {expected}, got {got}")).collect()
    }

    /// What a verdict must prove, and how surely, as text: what must not be chosen after looking, because the chance of a wrong verdict
    /// is that of one choice. The other conditions may be: they hold promotions back, and no choice of them makes one more likely to
    /// be wrong than alpha.
    pub fn question(&self) -> String {
        let &Self { gate, alpha, prior, drift_robust, max_error_rate, .. } = self;
        let abort = self.abort();
        format!(
            "gate {gate}, abort {abort}, alpha {alpha}, max-error-rate {max_error_rate}, drift-robust {drift_robust}, {prior:?}"
        )
    }

    /// Whether evidence gathered under the one counts under the other.
    pub(crate) fn same_question(&self, other: &Self) -> bool {
        self.gate == other.gate && self.abort() == other.abort() && self.prior == other.prior
    }
}

impl Default for Gates {
    fn default() -> Self {
        Self {
            gate: 0.99,
            abort: None,
            alpha: 0.05,
            // Complete agreement proves 99 % after 449 exchanges; a few more for a first impression of the differences.
            min_pairs: 1000,
            min_duration: Duration::from_hours(1),
            min_coverage: 0.95,
            max_error_rate: 0.01,
            prior: Prior::Uniform,
            drift_robust: false,
            max_latency_ratio: None,
            // More often than not.
            max_slower_share: 0.5,
            max_score_psi: None,
            max_score_shift: None,
            slice_margin: 0.0,
        }
    }
}
