//! In what two replicas differ, so that their counts must not be added up.

use super::Counted;
use crate::verdict::Gates;

/// Columns of a value in a sentence.
const MOST: usize = 60;

/// What is different in `one`, for people; empty when the two can be pooled.
pub(super) fn differences(one: &Counted<'_>, other: &Counted<'_>) -> Vec<String> {
    let mut all = Vec::new();
    let mut differ = |what: &str, one: String, other: String| {
        if one != other {
            all.push(format!("{what} {}, not {}", cut(&one), cut(&other)));
        }
    };
    let (a, b) = (&one.epoch, &other.epoch);
    let model = |(name, version): &(String, String)| format!("{name} {version}");
    differ("primary", model(&a.subject.primary), model(&b.subject.primary));
    differ("candidate", model(&a.subject.candidate), model(&b.subject.candidate));
    differ("classes", format!("{:?}", a.subject.classes), format!("{:?}", b.subject.classes));
    let comparator = |one: &Counted<'_>| one.report.epoch.as_ref().map(|it| it.comparator.clone()).unwrap_or_default();
    differ("comparator:", comparator(one), comparator(other));
    let slices = |one: &Counted<'_>| {
        let names: Vec<&str> = one.epoch.tally.slices().iter().map(|(name, _)| name).collect();
        format!("{names:?}")
    };
    differ("slices", slices(one), slices(other));
    for ((what, one), (_, other)) in gates(&one.gates).into_iter().zip(gates(&other.gates)) {
        differ(what, one, other);
    }
    differ("epochs begun by hand:", a.manual_restarts.to_string(), b.manual_restarts.to_string());
    // Which output is read, and how, is in the subject only.
    let same = a.subject.covers(&b.subject) || b.subject.covers(&a.subject);
    if all.is_empty() && (!same || !a.tally.clone().merge(&b.tally)) {
        all.push("the outputs of its models are read in another way".to_owned());
    }
    all
}

fn gates(gates: &Gates) -> [(&'static str, String); 14] {
    let &Gates {
        gate,
        abort,
        alpha,
        min_pairs,
        min_duration,
        min_coverage,
        max_error_rate,
        prior,
        drift_robust,
        max_latency_ratio,
        max_slower_share,
        max_score_psi,
        max_score_shift,
        slice_margin,
    } = gates;
    let optional = |value: Option<f64>| value.map_or_else(|| "none".to_owned(), |value| value.to_string());
    [
        ("gate", gate.to_string()),
        ("abort", optional(abort)),
        ("alpha", alpha.to_string()),
        ("min-pairs", min_pairs.to_string()),
        ("min-duration", format!("{min_duration:?}")),
        ("min-coverage", min_coverage.to_string()),
        ("max-error-rate", max_error_rate.to_string()),
        ("prior", format!("{prior:?}")),
        ("drift-robust", drift_robust.to_string()),
        ("max-latency-ratio", optional(max_latency_ratio)),
        ("max-slower-share", max_slower_share.to_string()),
        ("max-score-psi", optional(max_score_psi)),
        ("max-score-shift", optional(max_score_shift)),
        ("slice-margin", slice_margin.to_string()),
    ]
}

fn cut(text: &str) -> String {
    if text.chars().count() <= MOST { text.to_owned() } else { text.chars().take(MOST - 1).chain(['…']).collect() }
}
