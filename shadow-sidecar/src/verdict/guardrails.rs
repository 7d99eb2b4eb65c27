//! What holds a promotion back, although the gate is proven.

use std::time::Duration;

use super::Gates;
use super::figures::{ErrorRate, Figures, Slower, missing};
use super::words::{count, duration, log_e, percent};
use crate::tally::Tally;

/// What else a promotion takes.
pub(super) struct Guardrail {
    pub(super) holds: bool,
    /// Whether more exchanges and more time bring it, all else being as it is.
    pub(super) comes: bool,
    /// The sentence that says that it holds, or what is missing.
    pub(super) reason: String,
}

impl Guardrail {
    fn comes((holds, reason): (bool, String)) -> Self {
        Self { holds, comes: true, reason }
    }

    fn may_not_come((holds, reason): (bool, String)) -> Self {
        Self { holds, comes: false, reason }
    }
}

/// All of them, in the order of a report.
pub(super) fn guardrails(tally: &Tally, figures: &Figures, gates: &Gates, busy: Duration) -> Vec<Guardrail> {
    let mut all = Vec::with_capacity(4);

    let enough = figures.observations >= gates.min_pairs;
    let (compared, pairs) = (count(figures.observations), count(gates.min_pairs));
    all.push(Guardrail::comes((enough, format!("{compared} exchanges were compared, {pairs} are required"))));

    let coverage = figures.coverage.unwrap_or_default();
    let limit = percent(gates.min_coverage);
    if coverage >= gates.min_coverage {
        let reason = format!("coverage {} is at least {limit}", percent(coverage));
        all.push(Guardrail::may_not_come((true, reason)));
    } else {
        let proven = figures.worst_case_log_e >= figures.log_e_needed;
        let missing = count(missing(tally));
        let so = if proven { "but the gate is proven" } else { "and the gate is not proven" };
        let evidence = log_e(figures.worst_case_log_e, figures.log_e_needed);
        // Before the first exchange nothing is missing.
        let guardrail = if figures.coverage.is_none() { Guardrail::comes } else { Guardrail::may_not_come };
        all.push(guardrail((
            proven,
            format!(
                "coverage {} is below {limit}, {so} with the {missing} missing exchanges counted as disagreements \
                 ({evidence})",
                percent(coverage),
            ),
        )));
    }

    if gates.max_error_rate < 1.0 {
        let ErrorRate { failed, attempts, upper, .. } = figures.errors;
        let holds = upper < gates.max_error_rate;
        let so = if holds { "proven" } else { "not yet proven" };
        let (failed, attempts) = (count(failed), count(attempts));
        let (limit, upper) = (percent(gates.max_error_rate), percent(upper));
        all.push(Guardrail::comes((
            holds,
            format!(
                "the candidate failed {failed} of {attempts} exchanges: {so} to be below {limit} (at most {upper})"
            ),
        )));
    }

    let (so_far, required) = (duration(busy), duration(gates.min_duration));
    all.push(Guardrail::comes((
        busy >= gates.min_duration,
        format!("the rehearsal has had traffic for {so_far}, at least {required} are required"),
    )));
    let others = drift(figures, gates).into_iter().chain(latency(figures, gates)).chain(scores(figures, gates));
    all.extend(others.map(Guardrail::may_not_come));
    all
}

/// That the gate is proven whatever way the agreement went.
fn drift(figures: &Figures, gates: &Gates) -> Option<(bool, String)> {
    gates.drift_robust.then(|| {
        let holds = figures.drift_lower > gates.gate;
        let so = if holds { "above" } else { "not yet proven to be above" };
        let (lower, gate) = (percent(figures.drift_lower), percent(gates.gate));
        (holds, format!("agreement on average so far, at least {lower} even if it drifts, is {so} the gate {gate}"))
    })
}

/// That the candidate is not proven to be slower.
fn latency(figures: &Figures, gates: &Gates) -> Option<(bool, String)> {
    gates.max_latency_ratio.map(|ratio| {
        let Slower { count: slower, of, lower, .. } = figures.slower;
        // NaN and a tally that counted another ratio hold nothing up by themselves; they prove nothing, either.
        let holds = figures.slower.ratio == ratio && lower <= gates.max_slower_share;
        let so = if holds { "not proven to be more" } else { "proven to be more" };
        let (slower, of, limit) = (count(slower), count(of), percent(gates.max_slower_share));
        let sentence = format!(
            "the candidate took more than {ratio} times as long as the primary in {slower} of {of} exchanges: {so} than \
             {limit} (at least {})",
            percent(lower),
        );
        (holds, sentence)
    })
}

/// That the scores have not moved.
fn scores(figures: &Figures, gates: &Gates) -> Vec<(bool, String)> {
    let mut all = Vec::new();
    if let Some(limit) = gates.max_score_psi {
        // Nothing to be moved: no scores.
        let psi = figures.score_psi.unwrap_or_default();
        let (holds, so) = if psi <= limit { (true, "at most") } else { (false, "above") };
        all.push((holds, format!("the stability index of the scores, {psi:.3}, is {so} {limit}")));
    }
    if let Some(limit) = gates.max_score_shift {
        let (lower, mean, upper) = figures.score_shift.unwrap_or((-1.0, 0.0, 1.0));
        let holds = lower >= -limit && upper <= limit;
        let so = if holds { "proven" } else { "not yet proven" };
        all.push((
            holds,
            format!("the mean score moved by {mean:.4} ({lower:.4} to {upper:.4}): {so} to be within {limit}"),
        ));
    }
    all
}
