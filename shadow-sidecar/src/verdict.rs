//! May the candidate take over? The gates, and the judgement with its reasons.
//!
//! What each verdict takes, and how sure it is:
//!
//! - *promote*: the evidence for "agreement > gate" has reached ln(1/alpha) after some exchange, and every guardrail holds now:
//!   agreement seen so far above the gate, coverage high (or the gate proven even with every missing exchange counted as
//!   a disagreement), error rate proven below its limit, enough exchanges, enough time; and, where they are set, not
//!   proven to be slower, scores that have not moved, and the gate proven for agreement that drifts. A candidate whose
//!   agreement is at most the gate is promoted with probability at most alpha, over the whole epoch and however often one
//!   looks: guardrails only make it less.
//! - *reject*: the evidence for "agreement < abort" has reached ln(1/alpha) after some exchange, or the error rate is proven
//!   above its limit by [`MIN_ATTEMPTS`] exchanges or more. A sound candidate is rejected with probability at most alpha for each of
//!   the two.
//! - *undecided*: anything else.
//!
//! Agreement is the mean share of agreeing rows per exchange, and an exchange is one observation: the rows of a request
//! may depend on each other in any way. What is assumed of exchanges is `E[share | past] <= gate` for every candidate
//! that must not be promoted, which requests that are retried or repeated can break: see [`agreement`].
//!
//! Where agreement drifts, the evidence says that it has not always been at most the gate. What it has been on average so
//! far is enclosed by a second bound that assumes nothing ([`bernstein`](crate::stats::bernstein)). It is always shown.
//! `drift_robust` makes it a condition. That is off by default, because it takes more exchanges where nearly all agree, 581
//! instead of 449 for 99 %, and because a promotion is not given anyway while the agreement seen so far is not above the
//! gate.
//!
//! Evidence stays once it has been reached; guardrails follow the figures. So a promotion can be taken back: by more
//! drops, by errors, or by agreement that falls, which means that traffic or model has changed. When both kinds of
//! evidence have been reached rejection wins. A rejection for low agreement stays to the end of the epoch; one for
//! errors ends when the bound falls below the limit again, so that a candidate that failed while it started recovers.
//!
//! The worst case is judged by its present value and not by its largest: drops are told late, so an earlier look may
//! have known too few.

mod figures;
mod gates;
mod guardrails;
mod slices;
mod words;

pub use figures::{ErrorRate, Figures, Slower, shown};
pub use gates::Gates;
pub use slices::{SliceFigures, slices};

use std::time::Duration;

use crate::stats::agreement;
use crate::tally::Tally;
use guardrails::{Guardrail, guardrails};
use words::{count, log_e, percent};

/// Exchanges that the candidate must have been asked before failures reject it. With a limit of 1 % the first failure of all is enough of
/// a proof, for where failures come at random it is a rare one to begin with; but the first ones of a server that is just starting do
/// not come at random. Of fifty it takes five. The bounds hold at every moment, so looking at fewer moments keeps the chance of a wrong
/// rejection at most alpha.
pub const MIN_ATTEMPTS: u64 = 50;

/// What to do with the candidate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// The gate is proven and the guardrails hold.
    Promote,
    /// The gate is disproven, or the error guardrail is broken.
    Reject,
    /// Go on.
    Undecided,
}

impl Verdict {
    /// The name in reports and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Promote => "promote",
            Self::Reject => "reject",
            Self::Undecided => "undecided",
        }
    }
}

impl std::fmt::Display for Verdict {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A verdict with its reasons.
#[derive(Debug, Clone, PartialEq)]
pub struct Judgement {
    /// What to do.
    pub verdict: Verdict,
    /// Why, for people, the weightiest first.
    pub reasons: Vec<String>,
    /// Exchanges still to be compared until a promotion is expected, if agreement and error rate stay what they are; 0
    /// when only time or coverage is missing. None when the gate can't be reached so.
    pub pairs_needed: Option<u64>,
    /// Whether a promotion takes something that more exchanges and time need not bring: coverage, latency, scores, agreement that
    /// does not drift.
    pub held_back: bool,
    /// The figures behind it.
    pub figures: Figures,
}

impl Judgement {
    /// How long a promotion will take at `per_second` exchanges a second, which must be compared ones. None when it can't
    /// be reached, nothing comes, or something else holds it back; at least what `min_duration` leaves after `busy`.
    pub fn time_needed(&self, per_second: f64, gates: &Gates, busy: Duration) -> Option<Duration> {
        let pairs = self.pairs_needed.filter(|_| !self.held_back)?;
        let waiting = gates.min_duration.saturating_sub(busy);
        if self.verdict == Verdict::Undecided && per_second <= 0.0 {
            // Time without traffic does not count, either.
            return None;
        }
        if pairs == 0 {
            return Some(waiting);
        }
        let comparing = Duration::try_from_secs_f64(pairs as f64 / per_second).ok()?;
        Some(comparing.max(waiting))
    }
}

/// The verdict on what was counted so far, in as much time with traffic as `busy`: see [`Tally::busy`].
pub fn judge(tally: &Tally, gates: &Gates, busy: Duration) -> Judgement {
    let figures = Figures::of(tally, gates);
    let broken = rejections(&figures, gates);
    if !broken.is_empty() {
        return Judgement { verdict: Verdict::Reject, reasons: broken, pairs_needed: None, held_back: true, figures };
    }
    let agreement = agreement_reason(&figures, gates);
    let (mut held, mut missing, mut held_back) = (Vec::new(), Vec::new(), false);
    for Guardrail { holds, comes, reason } in guardrails(tally, &figures, gates, busy) {
        held_back |= !holds && !comes;
        if holds { held.push(reason) } else { missing.push(reason) }
    }
    let proven = figures.observations > 0 && figures.above_gate && figures.log_e >= figures.log_e_needed;
    let verdict = if proven && missing.is_empty() { Verdict::Promote } else { Verdict::Undecided };
    let mut reasons = vec![agreement];
    reasons.extend(if verdict == Verdict::Promote { held } else { missing });
    Judgement { verdict, reasons, pairs_needed: pairs_needed(&figures, gates), held_back, figures }
}

/// What speaks against the candidate for good.
fn rejections(figures: &Figures, gates: &Gates) -> Vec<String> {
    let mut reasons = Vec::new();
    if figures.log_e_abort >= figures.log_e_needed {
        let fallen = if figures.log_e >= figures.log_e_needed { ", though it was above the gate earlier" } else { "" };
        reasons.push(format!(
            "{} is below {} ({}){fallen}",
            seen(figures.rate.unwrap_or_default(), figures),
            percent(gates.abort()),
            log_e(figures.log_e_abort, figures.log_e_needed),
        ));
    }
    let errors = &figures.errors;
    if errors.attempts >= MIN_ATTEMPTS && errors.lower > gates.max_error_rate {
        reasons.push(format!(
            "the candidate failed {} of {} exchanges: its error rate, at least {}, is above {}",
            count(errors.failed),
            count(errors.attempts),
            percent(errors.lower),
            percent(gates.max_error_rate),
        ));
    }
    reasons
}

/// Where the evidence for the gate stands.
fn agreement_reason(figures: &Figures, gates: &Gates) -> String {
    let Some(rate) = figures.rate else {
        return "no row has been compared yet".to_owned();
    };
    let seen = seen(rate, figures);
    let gate = percent(gates.gate);
    let evidence = log_e(figures.log_e, figures.log_e_needed);
    if figures.log_e < figures.log_e_needed {
        format!("{seen} is not yet proven to be above the gate {gate} ({evidence})")
    } else if figures.above_gate {
        format!("{seen} is above the gate {gate} ({evidence})")
    } else {
        format!("{seen} has fallen below the gate {gate}, above which it was proven to be earlier ({evidence})")
    }
}

/// "agreement 99.2 % over 4,000 exchanges (36,000 rows)"
fn seen(rate: f64, figures: &Figures) -> String {
    let (exchanges, rows) = (count(figures.observations), count(figures.compared));
    format!("agreement {} over {exchanges} exchanges ({rows} rows)", percent(rate))
}

/// The larger of what agreement, the error rate and the least number of exchanges still take.
fn pairs_needed(figures: &Figures, gates: &Gates) -> Option<u64> {
    let (n, s) = (figures.observations, figures.shares);
    let for_agreement = match figures.log_e >= figures.log_e_needed {
        true if figures.above_gate => 0,
        true => return None,
        false => agreement::pairs_needed(n, s, gates.gate, gates.alpha, gates.prior)?,
    };
    let for_errors = if gates.max_error_rate < 1.0 {
        let ErrorRate { failed, attempts, .. } = figures.errors;
        let limit = 1.0 - gates.max_error_rate;
        agreement::pairs_needed(attempts, (attempts - failed) as f64, limit, gates.alpha, gates.prior)?
    } else {
        0
    };
    Some(for_agreement.max(for_errors).max(gates.min_pairs.saturating_sub(n)))
}

#[cfg(test)]
mod tests;
