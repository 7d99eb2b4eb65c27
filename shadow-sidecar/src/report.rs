//! The state of a rehearsal as the report that people and programs read.

use std::collections::BTreeMap;

use understudy::{status, v1};

use crate::{
    compare::Task,
    intake::{IntakeState, Side, Unmatched},
    rehearsal::{Epoch, Rehearsal, unix_nanos},
    stats::{histogram::Histogram, moments::Moments},
    tally::{Conservation, DropReason, Tally},
    verdict::{Figures, Gates, Judgement, Verdict, judge},
};

mod details;

/// The report now. Before the primary is known it holds the candidate and the state of the intake.
pub fn report(rehearsal: &Rehearsal) -> v1::Report {
    let intake = intake(&rehearsal.intake());
    let primary_observed_via = match (intake.kind.as_str(), intake.executed) {
        ("proxy", _) => "proxy",
        ("mirror", 1..) => "shadow call",
        _ => "server",
    };
    let empty = v1::Report {
        verdict: v1::Verdict::Undecided.into(),
        reasons: vec![waiting_for(rehearsal, &intake.last_error)],
        intake: Some(intake),
        generated_unix_nanos: unix_nanos(),
        ..v1::Report::default()
    };
    let Some(epoch) = rehearsal.epoch() else {
        let (name, version) = rehearsal.identity();
        let candidate = Some(v1::ModelVersion { name, version });
        let before = rehearsal.before_epoch();
        return v1::Report {
            epoch: Some(v1::Epoch { candidate, ..v1::Epoch::default() }),
            exchanges: before.as_ref().map(|tally| conservation(tally.exchanges())),
            rows: before.as_ref().map(|tally| conservation(tally.rows())),
            ..empty
        };
    };
    // A copy, so that comparisons need not wait for the bounds to be computed.
    let tally = epoch.tally().clone();
    let about = About {
        epoch: describe(rehearsal, &epoch),
        task: epoch.comparator.task(),
        per_second: tally.per_second(),
        observed_via: [primary_observed_via, rehearsal.candidate.observed_via()].map(str::to_owned),
    };
    let mut report = v1::Report { intake: empty.intake, ..of(&tally, &rehearsal.gates, about) };
    report.reasons.extend(beside_others(rehearsal));
    report
}

/// That each of several candidates has a chance of its own to be promoted wrongly. Alpha is not split among them: each verdict is about
/// one candidate, and must not change because another one rehearses beside it; who takes the first that is promoted should know.
fn beside_others(rehearsal: &Rehearsal) -> Option<String> {
    let (alpha, among) = (rehearsal.gates.alpha, rehearsal.among);
    (among > 1).then(|| {
        let percent = |share: f64| format!("{} %", (share * 1e4).round() / 1e2);
        let (each, any) = (percent(alpha), percent((alpha * among as f64).min(1.0)));
        format!("one of {among} candidates: a wrong promotion has a chance of at most {each} for each, {any} for any of them")
    })
}

/// Why there is no epoch.
fn waiting_for(rehearsal: &Rehearsal, last_error: &str) -> String {
    let problem = rehearsal.problem();
    match (problem.as_str(), last_error) {
        ("", _) if rehearsal.has_primary() => "the candidate has not said who it is yet".into(),
        ("", "") => "nothing is known of the primary yet".into(),
        ("", error) => format!("nothing is known of the primary yet: {error}"),
        (problem, _) => format!("no epoch can begin: {problem}"),
    }
}

/// What a report holds besides counters and what follows from them.
pub(crate) struct About {
    pub(crate) epoch: v1::Epoch,
    pub(crate) task: Task,
    /// Compared exchanges.
    pub(crate) per_second: Option<f64>,
    /// Where the latencies of the primary and of the candidate were measured.
    pub(crate) observed_via: [String; 2],
}

/// What the counters say, but for the intake.
pub(crate) fn of(tally: &Tally, gates: &Gates, about: About) -> v1::Report {
    let About { epoch, task, per_second, observed_via: [primary_observed_via, candidate_observed_via] } = about;
    let judgement = judge(tally, gates, tally.busy());
    let needed = per_second.and_then(|pace| judgement.time_needed(pace, gates, tally.busy()));
    let Judgement { verdict, reasons, pairs_needed, figures, .. } = judgement;
    v1::Report {
        epoch: Some(epoch),
        verdict: match verdict {
            Verdict::Promote => v1::Verdict::Promote,
            Verdict::Reject => v1::Verdict::Reject,
            Verdict::Undecided => v1::Verdict::Undecided,
        }
        .into(),
        reasons,
        pairs_needed,
        exchanges: Some(conservation(tally.exchanges())),
        rows: Some(conservation(tally.rows())),
        agreement: Some(agreement(tally, &figures, gates)),
        flips: tally
            .flips()
            .iter()
            .map(|flip| v1::Flip { primary: flip.primary.into(), candidate: flip.candidate.into(), count: flip.count })
            .collect(),
        score_delta: Some(score_delta(tally.delta())),
        primary_latency: Some(latency(tally.primary_latency(), primary_observed_via)),
        candidate_latency: Some(latency(tally.candidate_latency(), candidate_observed_via)),
        statuses: Some(details::statuses(tally)),
        distances: details::distances(tally, gates.alpha),
        values: details::values(tally, task),
        levels: tally
            .scores()
            .levels()
            .map(|(level, delta)| v1::LevelDelta { level: level.into(), delta: Some(score_delta(delta)) })
            .collect(),
        scores: details::scores(tally, &figures),
        ranking: details::ranking(tally),
        latency: details::latency(tally, &figures, gates),
        noise: details::noise(tally, &figures, gates.alpha),
        slices: details::slices(tally, gates),
        per_second,
        seconds_needed: needed.map(|needed| needed.as_secs_f64()),
        generated_unix_nanos: unix_nanos(),
        ..v1::Report::default()
    }
}

/// The epoch of a report.
pub fn describe(rehearsal: &Rehearsal, epoch: &Epoch) -> v1::Epoch {
    let model =
        |name: &str, version: &str| Some(v1::ModelVersion { name: name.to_owned(), version: version.to_owned() });
    v1::Epoch {
        number: epoch.number,
        primary: model(&epoch.primary.name, epoch.primary_version()),
        candidate: model(epoch.candidate_name(), epoch.candidate_version()),
        task: epoch.primary.task.into(),
        started_unix_nanos: epoch.started_unix_nanos,
        manual_restarts: rehearsal.manual_restarts(),
        comparator: epoch.comparator.describe(),
    }
}

/// How a candidate stands, in a line.
pub fn brief(rehearsal: &Rehearsal) -> v1::list_candidates_response::Candidate {
    let report = report(rehearsal);
    let (name, version) = rehearsal.identity();
    v1::list_candidates_response::Candidate {
        name,
        version,
        verdict: report.verdict,
        rate: report.agreement.as_ref().and_then(|agreement| agreement.rate),
        compared: report.exchanges.as_ref().map_or(0, |exchanges| exchanges.compared),
        problem: rehearsal.problem(),
    }
}

fn intake(state: &IntakeState) -> v1::Intake {
    let unmatched = Side::ALL.into_iter().flat_map(|side| {
        Unmatched::ALL.into_iter().map(move |reason| v1::Unmatched {
            side: side.as_str().into(),
            reason: reason.as_str().into(),
            count: state.unmatched[side as usize][reason as usize],
        })
    });
    v1::Intake {
        connected: state.connected,
        subscriptions: state.subscriptions,
        sampled_out: state.sampled_out,
        last_error: state.last_error.clone(),
        kind: state.kind.as_str().into(),
        requests: state.requests,
        denied: state.denied,
        looped: state.looped,
        matched: state.matched,
        waiting_mirror: state.waiting[Side::Mirror as usize] + state.under_way,
        waiting_tap: state.waiting[Side::Tap as usize],
        unmatched: unmatched.filter(|unmatched| unmatched.count > 0).collect(),
        executed: state.executed,
        repeated: state.repeated,
    }
}

fn conservation(counts: &Conservation) -> v1::Conservation {
    let dropped: BTreeMap<_, _> = DropReason::ALL
        .into_iter()
        .map(|reason| (reason.as_str().to_owned(), counts.dropped(reason)))
        .filter(|(_, count)| *count > 0)
        .collect();
    let name = |code: u32| status::name(tonic::Code::from_i32(code as i32)).to_owned();
    v1::Conservation {
        offered: counts.offered(),
        compared: counts.compared(),
        dropped,
        failed: counts.failed().map(|(code, count)| (name(code), count)).collect(),
        in_flight: counts.in_flight(),
        coverage: counts.coverage(),
    }
}

fn agreement(tally: &Tally, figures: &Figures, gates: &Gates) -> v1::Agreement {
    v1::Agreement {
        compared: figures.compared,
        agreed: figures.agreed,
        rate: figures.rate,
        lower: figures.lower,
        upper: figures.upper,
        alpha: gates.alpha,
        gate: gates.gate,
        log_e: figures.log_e,
        log_e_abort: figures.log_e_abort,
        one_sided_lower: figures.one_sided_lower,
        worst_case_lower: figures.worst_case_lower,
        worst_case_log_e: figures.worst_case_log_e,
        accuracy_change_bound: figures.accuracy_change_bound,
        nonfinite: tally.nonfinite(),
        log_e_needed: figures.log_e_needed,
        observations: figures.observations,
        shares: figures.shares,
        drift_lower: figures.drift_lower,
        drift_upper: figures.drift_upper,
        drift_robust: gates.drift_robust,
        kappa: tally.flips().kappa(),
    }
}

fn score_delta(delta: &Moments) -> v1::ScoreDelta {
    v1::ScoreDelta {
        count: delta.count(),
        mean: delta.mean().unwrap_or_default(),
        mean_absolute: delta.mean_absolute().unwrap_or_default(),
        max_absolute: delta.max_absolute(),
        root_mean_square: delta.root_mean_square().unwrap_or_default(),
    }
}

fn latency(histogram: &Histogram, observed_via: String) -> v1::Latency {
    let seconds = |duration: Option<std::time::Duration>| duration.unwrap_or_default().as_secs_f64();
    v1::Latency {
        observed_via,
        count: histogram.count(),
        mean: seconds(histogram.mean()),
        p50: seconds(histogram.quantile(0.5)),
        p95: seconds(histogram.quantile(0.95)),
        p99: seconds(histogram.quantile(0.99)),
        max: seconds(histogram.max()),
    }
}
