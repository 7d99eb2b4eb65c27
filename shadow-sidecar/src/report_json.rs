//! A report for programs. The names are those of `shadow.proto`, enums are lower-case words, what is absent is null.

use serde_json::{Value as Json, json};
use understudy::v1;

/// The whole report.
pub fn report(report: &v1::Report) -> Json {
    let flips = report.flips.iter();
    json!({
        "epoch": report.epoch.as_ref().map(epoch),
        "verdict": verdict(report.verdict()),
        "reasons": report.reasons,
        "pairs_needed": report.pairs_needed,
        "exchanges": report.exchanges.as_ref().map(conservation),
        "rows": report.rows.as_ref().map(conservation),
        "agreement": report.agreement.as_ref().map(agreement),
        "flips": flips
            .map(|flip| json!({"primary": flip.primary, "candidate": flip.candidate, "count": flip.count}))
            .collect::<Json>(),
        "score_delta": report.score_delta.as_ref().map(score_delta),
        "primary_latency": report.primary_latency.as_ref().map(latency),
        "candidate_latency": report.candidate_latency.as_ref().map(latency),
        "intake": report.intake.as_ref().map(intake),
        "statuses": report.statuses.as_ref().map(|all| json!({
            "both_ok": all.both_ok,
            "candidate_failed": all.candidate_failed,
            "primary_failed": all.primary_failed,
        })),
        "distances": report.distances.as_ref().map(|all| json!({
            "count": all.count,
            "largest": all.largest,
            "mean": all.mean,
            "squared": all.squared,
            "divergence": all.divergence,
            "divergence_upper": all.divergence_upper,
            "relative_entropy": all.relative_entropy,
        })),
        "values": report.values.as_ref().map(|all| json!({
            "correlation": all.correlation,
            "p50": all.p50,
            "p95": all.p95,
            "p99": all.p99,
            "mean_relative": all.mean_relative,
            "mean_absolute_relative": all.mean_absolute_relative,
        })),
        "levels": report.levels.iter()
            .map(|level| json!({"level": level.level, "delta": level.delta.as_ref().map(score_delta)}))
            .collect::<Json>(),
        "scores": report.scores.as_ref().map(scores),
        "ranking": report.ranking.as_ref().map(|all| json!({
            "rows": all.rows,
            "spearman": all.spearman,
            "kendall": all.kendall,
            "top": all.top,
            "top_overlap": all.top_overlap,
            "top_gain": all.top_gain,
        })),
        "latency": report.latency.as_ref().map(latencies),
        "noise": report.noise.as_ref().map(|noise| json!({
            "compared": noise.compared,
            "agreed": noise.agreed,
            "observations": noise.observations,
            "rate": noise.rate,
            "lower": noise.lower,
            "upper": noise.upper,
            "excess": noise.excess,
            "excess_lower": noise.excess_lower,
            "excess_upper": noise.excess_upper,
        })),
        "slices": report.slices.iter().map(slice).collect::<Json>(),
        "per_second": report.per_second,
        "seconds_needed": report.seconds_needed,
        "generated_unix_nanos": report.generated_unix_nanos,
    })
}

/// The word for a verdict.
pub fn verdict(verdict: v1::Verdict) -> &'static str {
    match verdict {
        v1::Verdict::Unspecified => "unspecified",
        v1::Verdict::Undecided => "undecided",
        v1::Verdict::Promote => "promote",
        v1::Verdict::Reject => "reject",
    }
}

/// The word for a task.
pub fn task(task: v1::Task) -> &'static str {
    match task {
        v1::Task::Unspecified => "unspecified",
        v1::Task::Binary => "binary",
        v1::Task::Multiclass => "multiclass",
        v1::Task::Regression => "regression",
        v1::Task::Quantile => "quantile",
        v1::Task::Tensor => "tensor",
    }
}

/// Rows that agreed, and what that proves.
pub fn agreement(agreement: &v1::Agreement) -> Json {
    json!({
        "observations": agreement.observations,
        "compared": agreement.compared,
        "agreed": agreement.agreed,
        "rate": agreement.rate,
        "lower": agreement.lower,
        "upper": agreement.upper,
        "alpha": agreement.alpha,
        "gate": agreement.gate,
        "log_e": agreement.log_e,
        "log_e_abort": agreement.log_e_abort,
        "log_e_needed": agreement.log_e_needed,
        "one_sided_lower": agreement.one_sided_lower,
        "worst_case_lower": agreement.worst_case_lower,
        "worst_case_log_e": agreement.worst_case_log_e,
        "accuracy_change_bound": agreement.accuracy_change_bound,
        "nonfinite": agreement.nonfinite,
        "shares": agreement.shares,
        "drift_lower": agreement.drift_lower,
        "drift_upper": agreement.drift_upper,
        "drift_robust": agreement.drift_robust,
        "kappa": agreement.kappa,
    })
}

fn score_delta(delta: &v1::ScoreDelta) -> Json {
    json!({
        "count": delta.count,
        "mean": delta.mean,
        "mean_absolute": delta.mean_absolute,
        "max_absolute": delta.max_absolute,
        "root_mean_square": delta.root_mean_square,
    })
}

fn scores(scores: &v1::ScoreDistribution) -> Json {
    let bins = scores.bins.iter();
    json!({
        "bins": bins
            .map(|bin| json!({"from": bin.from, "to": bin.to, "primary": bin.primary, "candidate": bin.candidate}))
            .collect::<Json>(),
        "stability_index": scores.stability_index,
        "divergence": scores.divergence,
        "shift": scores.shift,
        "shift_lower": scores.shift_lower,
        "shift_upper": scores.shift_upper,
        "kolmogorov_smirnov": scores.kolmogorov_smirnov,
        "wasserstein": scores.wasserstein,
    })
}

fn latencies(all: &v1::LatencyComparison) -> Json {
    let quantiles = all.quantiles.iter();
    json!({
        "ratio": all.ratio,
        "slower": all.slower,
        "exchanges": all.exchanges,
        "slower_lower": all.slower_lower,
        "slower_upper": all.slower_upper,
        "quantiles": quantiles
            .map(|at| json!({"level": at.level, "ratio": at.ratio, "lower": at.lower, "upper": at.upper}))
            .collect::<Json>(),
    })
}

fn slice(slice: &v1::Slice) -> Json {
    json!({
        "name": slice.name,
        "compared": slice.compared,
        "agreed": slice.agreed,
        "observations": slice.observations,
        "shares": slice.shares,
        "rate": slice.rate,
        "lower": slice.lower,
        "upper": slice.upper,
        "log_e": slice.log_e,
        "log_e_below": slice.log_e_below,
        "discovered": slice.discovered,
    })
}

pub(crate) fn epoch(epoch: &v1::Epoch) -> Json {
    let model = |version: &v1::ModelVersion| json!({"name": version.name, "version": version.version});
    json!({
        "number": epoch.number,
        "primary": epoch.primary.as_ref().map(model),
        "candidate": epoch.candidate.as_ref().map(model),
        "task": task(epoch.task()),
        "started_unix_nanos": epoch.started_unix_nanos,
        "manual_restarts": epoch.manual_restarts,
        "comparator": epoch.comparator,
    })
}

fn intake(intake: &v1::Intake) -> Json {
    let unmatched = intake.unmatched.iter();
    json!({
        "connected": intake.connected,
        "subscriptions": intake.subscriptions,
        "sampled_out": intake.sampled_out,
        "last_error": intake.last_error,
        "kind": intake.kind,
        "requests": intake.requests,
        "denied": intake.denied,
        "looped": intake.looped,
        "matched": intake.matched,
        "waiting_mirror": intake.waiting_mirror,
        "waiting_tap": intake.waiting_tap,
        "unmatched": unmatched
            .map(|half| json!({"side": half.side, "reason": half.reason, "count": half.count}))
            .collect::<Json>(),
        "executed": intake.executed,
        "repeated": intake.repeated,
    })
}

fn conservation(counts: &v1::Conservation) -> Json {
    json!({
        "offered": counts.offered,
        "compared": counts.compared,
        "dropped": counts.dropped,
        "failed": counts.failed,
        "in_flight": counts.in_flight,
        "coverage": counts.coverage,
    })
}

fn latency(latency: &v1::Latency) -> Json {
    json!({
        "observed_via": latency.observed_via,
        "count": latency.count,
        "mean": latency.mean,
        "p50": latency.p50,
        "p95": latency.p95,
        "p99": latency.p99,
        "max": latency.max,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As much of a report as the names below are in.
    fn sample() -> v1::Report {
        let model = |name: &str| Some(v1::ModelVersion { name: name.into(), version: "1".into() });
        let flip = |primary: &str, candidate: &str, count| v1::Flip {
            primary: primary.into(),
            candidate: candidate.into(),
            count,
        };
        v1::Report {
            epoch: Some(v1::Epoch {
                primary: model("adult"),
                candidate: model("adult-candidate"),
                task: v1::Task::Binary.into(),
                ..v1::Epoch::default()
            }),
            verdict: v1::Verdict::Promote.into(),
            rows: Some(v1::Conservation { dropped: [("queue_full".into(), 12)].into(), ..v1::Conservation::default() }),
            agreement: Some(v1::Agreement { compared: 4000, agreed: 3964, ..v1::Agreement::default() }),
            flips: vec![flip("<=50K", "<=50K", 3012), flip("<=50K", ">50K", 19)],
            candidate_latency: Some(v1::Latency { observed_via: "in-process".into(), ..v1::Latency::default() }),
            latency: Some(v1::LatencyComparison {
                quantiles: vec![v1::QuantileRatio { level: 0.5, ratio: 1.1, lower: 1.05, upper: 1.2 }],
                ..v1::LatencyComparison::default()
            }),
            noise: Some(v1::NoiseFloor { rate: Some(0.999), ..v1::NoiseFloor::default() }),
            slices: vec![v1::Slice { name: "age<30".into(), ..v1::Slice::default() }],
            intake: Some(v1::Intake {
                kind: "mirror".into(),
                requests: 4001,
                unmatched: vec![v1::Unmatched { side: "mirror".into(), reason: "ttl".into(), count: 1 }],
                ..v1::Intake::default()
            }),
            ..v1::Report::default()
        }
    }

    #[test]
    fn names_are_stable_and_enums_are_words() {
        let json = report(&sample());
        assert_eq!(json["verdict"], "promote");
        assert_eq!(json["epoch"]["task"], "binary");
        assert_eq!(json["epoch"]["primary"], json!({"name": "adult", "version": "1"}));
        assert_eq!(json["agreement"]["compared"], 4000);
        assert_eq!(json["agreement"]["agreed"], 3964);
        assert_eq!(json["rows"]["dropped"], json!({"queue_full": 12}));
        assert_eq!(json["flips"][1], json!({"primary": "<=50K", "candidate": ">50K", "count": 19}));
        assert_eq!(json["candidate_latency"]["observed_via"], "in-process");
        assert_eq!(json["pairs_needed"], Json::Null);
        assert_eq!(json["slices"][0]["name"], "age<30");
        assert_eq!(json["latency"]["quantiles"][0], json!({"level": 0.5, "ratio": 1.1, "lower": 1.05, "upper": 1.2}));
        assert_eq!((&json["intake"]["kind"], &json["intake"]["requests"]), (&json!("mirror"), &json!(4001)));
        assert_eq!(json["intake"]["unmatched"], json!([{"side": "mirror", "reason": "ttl", "count": 1}]));
        assert_eq!((&json["noise"]["rate"], &json["statuses"]), (&json!(0.999), &Json::Null));
    }

    #[test]
    fn an_empty_report_and_infinite_figures_are_null() {
        let empty = report(&v1::Report::default());
        assert_eq!(empty["agreement"], Json::Null);
        assert_eq!(empty["flips"], json!([]));
        let infinite = v1::Agreement { log_e: f64::NEG_INFINITY, ..v1::Agreement::default() };
        assert_eq!(agreement(&infinite)["log_e"], Json::Null);
    }
}
