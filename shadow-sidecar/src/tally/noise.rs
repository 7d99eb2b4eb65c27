//! The noise floor: how often the primary agrees with itself when asked twice. Hardware that does not add up in a fixed
//! order, or features that are looked up, make that less than always; no candidate can be asked for more.

use super::shares::{Shares, share};
use crate::compare::RowOutcome;
use crate::stats::bernstein::{AGREEMENT_V_OPT, Bernstein};

/// Counters of the primary's second answers against its first.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Noise {
    compared: u64,
    agreed: u64,
    observations: u64,
    shares: Shares,
    excess: Bernstein,
}

impl Noise {
    /// Rows that the primary answered twice.
    pub fn compared(&self) -> u64 {
        self.compared
    }

    /// Of them, those in which it agreed with itself.
    pub fn agreed(&self) -> u64 {
        self.agreed
    }

    /// Exchanges with at least one such row (n).
    pub fn observations(&self) -> u64 {
        self.observations
    }

    /// The sum over them of the share of rows that agreed (s).
    pub fn shares(&self) -> f64 {
        self.shares.sum()
    }

    /// Exchanges that both the candidate and the primary's second answer are known of.
    pub fn paired(&self) -> u64 {
        self.excess.count()
    }

    /// How much oftener the candidate disagrees with the primary than the primary with itself, in [-1, 1], with its
    /// confidence sequence at level 1 - alpha: (lower, mean, upper). None before the first pair.
    ///
    /// The paired difference D of the two shares of disagreeing rows, by the empirical-Bernstein sequence of (D + 1) / 2.
    pub fn excess(&self, alpha: f64) -> Option<(f64, f64, f64)> {
        let mean = self.excess.mean()?;
        let (lower, upper) = self.excess.confidence_sequence(alpha, AGREEMENT_V_OPT);
        let difference = |score: f64| 2.0 * score - 1.0;
        Some((difference(lower), difference(mean), difference(upper)))
    }

    /// One request that the primary answered twice; `candidate` are its outcomes in the same rows, where they are known.
    pub(super) fn record(&mut self, again: &[RowOutcome], candidate: Option<&[RowOutcome]>) {
        let agreed = again.iter().filter(|outcome| outcome.agreed).count() as u64;
        let rows = again.len() as u64;
        if rows == 0 {
            return;
        }
        self.compared += rows;
        self.agreed += agreed;
        self.observations += 1;
        self.shares.record(agreed, rows);
        if let Some(candidate) = candidate.filter(|candidate| candidate.len() == again.len()) {
            let with_candidate = candidate.iter().filter(|outcome| outcome.agreed).count() as u64;
            // Disagreement with the candidate minus disagreement with itself.
            let difference = share(agreed, rows) - share(with_candidate, rows);
            self.excess.record(f64::midpoint(difference, 1.0));
        }
    }

    pub(super) fn merge(&mut self, other: &Self) {
        self.compared = self.compared.saturating_add(other.compared);
        self.agreed = self.agreed.saturating_add(other.agreed);
        self.observations = self.observations.saturating_add(other.observations);
        self.shares.merge(other.shares);
        self.excess.merge(&other.excess);
    }
}

impl Default for Noise {
    fn default() -> Self {
        Self {
            compared: 0,
            agreed: 0,
            observations: 0,
            shares: Shares::default(),
            // No difference: 1/2.
            excess: Bernstein::new(0.5),
        }
    }
}
