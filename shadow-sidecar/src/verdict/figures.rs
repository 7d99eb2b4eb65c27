//! What is computed from the counters, for the verdict and the report.

use super::Gates;
use crate::stats::agreement::{Prior, confidence_sequence, log_e_above, one_sided_lower, threshold};
use crate::tally::Tally;

/// The two-sided bounds that are shown: tightest near a thousand exchanges.
const SHOWN: Prior = Prior::NullCentred { t_opt: 1000.0 };

/// The two-sided bounds at level 1 - alpha that are shown of n observations whose shares sum to s.
pub fn shown(n: u64, s: f64, alpha: f64) -> (f64, f64) {
    confidence_sequence(n, s, alpha, SHOWN)
}

/// Agreement and errors, with bounds. Shares are in [0, 1]; evidence is a natural logarithm.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Figures {
    /// Rows compared.
    pub compared: u64,
    /// Rows that agreed.
    pub agreed: u64,
    /// Compared exchanges with at least one row: what evidence and bounds count.
    pub observations: u64,
    /// The sum over them of the share of rows that agreed.
    pub shares: f64,
    /// shares / observations: the mean share of agreeing rows per exchange, which is agreed / compared when each has one
    /// row. None before the first observation.
    pub rate: Option<f64>,
    /// Whether the rate is greater than the gate.
    pub above_gate: bool,
    /// Two-sided confidence sequence for agreement at level 1 - alpha.
    pub lower: f64,
    /// Its upper end.
    pub upper: f64,
    /// One-sided lower bound on agreement at level 1 - alpha.
    pub one_sided_lower: f64,
    /// Evidence for "agreement > gate", the largest so far.
    pub log_e: f64,
    /// Evidence for "agreement < abort", the largest so far.
    pub log_e_abort: f64,
    /// ln(1/alpha): what evidence must reach. Infinite when alpha is not in (0, 1).
    pub log_e_needed: f64,
    /// `one_sided_lower` with every eligible exchange that was not compared counted as one in which no row agreed.
    pub worst_case_lower: f64,
    /// Evidence for "agreement > gate" counted the same way, at present.
    pub worst_case_log_e: f64,
    /// Classification: the candidate's accuracy differs from the primary's by at most this, at level 1 - alpha, without a single
    /// ground truth: 1 - `worst_case_lower`, because whoever gets no answer, or one that nobody has compared, may get a wrong one.
    /// Of accuracy, too, it is the mean per exchange. None before the first observation, and where right and wrong are a matter of
    /// degree.
    pub accuracy_change_bound: Option<f64>,
    /// Compared / eligible, the smaller of rows and exchanges; None before anything has ended.
    pub coverage: Option<f64>,
    /// How often the candidate failed.
    pub errors: ErrorRate,
    /// One-sided lower bound on the running mean of the agreement at level 1 - alpha, which holds however it drifts.
    pub drift_lower: f64,
    /// The upper bound of the same kind.
    pub drift_upper: f64,
    /// How often the candidate took more than the latency ratio times what the primary took.
    pub slower: Slower,
    /// The population stability index of the candidate's scores against the primary's. None before the first.
    pub score_psi: Option<f64>,
    /// Classification: the mean difference of the scores per exchange with its confidence sequence at level 1 - alpha, as
    /// (lower, mean, upper). None before the first.
    pub score_shift: Option<(f64, f64, f64)>,
    /// How much oftener the candidate disagrees with the primary than the primary with itself, as (lower, mean, upper)
    /// at level 1 - alpha. None where the primary is not asked twice.
    pub excess: Option<(f64, f64, f64)>,
}

/// Compared exchanges in which the candidate was the slower one by more than the ratio.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Slower {
    /// From what ratio on.
    pub ratio: f64,
    /// Exchanges in which it was.
    pub count: u64,
    /// Exchanges.
    pub of: u64,
    /// One-sided lower bound on the share at level 1 - alpha.
    pub lower: f64,
    /// One-sided upper bound on the share at level 1 - alpha.
    pub upper: f64,
}

/// Exchanges that the candidate answered with an error.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ErrorRate {
    /// Failed exchanges.
    pub failed: u64,
    /// Failed and compared exchanges.
    pub attempts: u64,
    /// One-sided lower bound at level 1 - alpha.
    pub lower: f64,
    /// One-sided upper bound at level 1 - alpha.
    pub upper: f64,
}

impl Figures {
    /// All figures of a tally, under these gates.
    pub fn of(tally: &Tally, gates: &Gates) -> Self {
        let &Gates { alpha, prior, gate, .. } = gates;
        let (compared, agreed) = (tally.rows().compared(), tally.agreed());
        let (n, s) = (tally.observations(), tally.shares());
        let rate = (n > 0).then(|| s / n as f64);
        let (lower, upper) = shown(n, s, alpha);
        let one_sided = one_sided_lower(n, s, alpha, prior);
        let evidence = tally.evidence(gates);
        let worst_case = n.saturating_add(missing(tally));
        let worst_case_lower = one_sided_lower(worst_case, s, alpha, prior);
        let coverages = tally.rows().coverage().into_iter().chain(tally.exchanges().coverage());
        Self {
            compared,
            agreed,
            observations: n,
            shares: s,
            rate,
            above_gate: rate.is_some_and(|rate| rate > gate),
            lower,
            upper,
            one_sided_lower: one_sided,
            log_e: evidence.above,
            log_e_abort: evidence.below,
            log_e_needed: threshold(alpha).unwrap_or(f64::INFINITY),
            worst_case_lower,
            worst_case_log_e: log_e_above(worst_case, s, gate, prior),
            accuracy_change_bound: (n > 0 && tally.flips().are_counted()).then_some(1.0 - worst_case_lower),
            coverage: coverages.reduce(f64::min),
            errors: ErrorRate::of(tally, gates),
            drift_lower: tally.drifting(alpha).0,
            drift_upper: tally.drifting(alpha).1,
            slower: Slower::of(tally, gates),
            score_psi: tally.scores().bins().stability_index(),
            score_shift: tally.scores().shift(alpha),
            excess: tally.noise_floor().excess(alpha),
        }
    }
}

impl Slower {
    fn of(tally: &Tally, gates: &Gates) -> Self {
        let (count, of) = (tally.slower(), tally.exchanges().compared());
        let bound = |count: u64| one_sided_lower(of, count as f64, gates.alpha, gates.prior);
        let upper = 1.0 - bound(of.saturating_sub(count));
        Self { ratio: tally.latency_ratio(), count, of, lower: bound(count), upper }
    }
}

/// Eligible exchanges that were not compared. In the worst case each had rows, and none of them agreed. One that was
/// compared and had no rows is neither missing nor an observation.
pub(super) fn missing(tally: &Tally) -> u64 {
    tally.exchanges().eligible().saturating_sub(tally.exchanges().compared())
}

impl ErrorRate {
    fn of(tally: &Tally, gates: &Gates) -> Self {
        let failed = tally.exchanges().failed_total();
        let attempts = failed.saturating_add(tally.exchanges().compared());
        let bound = |count: u64| one_sided_lower(attempts, count as f64, gates.alpha, gates.prior);
        Self { failed, attempts, lower: bound(failed), upper: 1.0 - bound(attempts - failed) }
    }
}
