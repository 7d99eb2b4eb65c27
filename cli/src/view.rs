//! A report as lines of text: at most 24, at most [`WIDTH`] wide.

use understudy::v1::{
    Agreement, Conservation, Latency, LatencyComparison, ModelVersion, NoiseFloor, QuantileRatio, Report, ScoreDelta,
    ScoreDistribution, Verdict,
};

use crate::{
    output::Paint,
    report_json::{task, verdict as word},
    words::{count, cut, evidence, percent, rough, score, seconds, shown, wrap},
};

mod bars;
mod flips;
mod slices;

pub(crate) use bars::progress;

/// Columns.
pub(crate) const WIDTH: usize = 100;
/// Columns of the names on the left.
const NAME: usize = 12;
/// Lines, where the reasons are not many more.
const HEIGHT: usize = 24;
/// Lines of reasons that are always shown.
const REASONS: usize = 2;

/// Everything.
pub(crate) fn lines(report: &Report, paint: Paint) -> Vec<String> {
    let mut lines = vec![title(report, paint)];
    // Of a replay nothing is said: it has no way in.
    if let Some(intake) = report.intake.as_ref().filter(|intake| !intake.connected) {
        let error = shown(&intake.last_error);
        lines.push(paint.yellow(cut(&format!("not connected to the primary's tap: {error}"), WIDTH)));
    }
    lines.push(String::new());
    if let Some(agreement) = &report.agreement {
        lines.extend(agreement_lines(agreement, paint));
        lines.extend(accuracy(agreement, report.noise.as_ref(), paint));
    }
    if let Some(rows) = &report.rows {
        lines.push(coverage(rows, report.agreement.as_ref(), paint));
    }
    if let Some(delta) = report.score_delta.as_ref().filter(|delta| delta.count > 0) {
        lines.push(score_line(delta, report.scores.as_ref(), paint));
    }
    let flips = flips::lines(&report.flips, paint);
    if !flips.is_empty() {
        lines.push(String::new());
        lines.extend(flips);
    }
    let latencies = [("primary", &report.primary_latency), ("candidate", &report.candidate_latency)];
    let latencies: Vec<_> = latencies.into_iter().filter_map(|(who, latency)| Some((who, latency.as_ref()?))).collect();
    if !latencies.is_empty() {
        lines.push(String::new());
        let head = format!("{:<10}{:>10}{:>10}{:>10}{:>10}", "", "p50", "p95", "p99", "max");
        lines.push(named("Latency", &paint.dim(head), paint));
        lines.extend(latencies.into_iter().map(|(who, latency)| latency_line(who, latency, paint)));
        lines.extend(report.latency.as_ref().map(|latency| ratio_line(latency, paint)));
    }
    lines.extend(slices::line(&report.slices, paint));
    lines.push(String::new());
    let room = HEIGHT.saturating_sub(lines.len() + 1).max(REASONS);
    lines.extend(verdict(report, room, paint));
    lines
}

/// The most important figures, where there is one line only.
pub(crate) fn line(report: &Report) -> String {
    let Some((agreement, rate)) = report.agreement.as_ref().and_then(|all| Some((all, all.rate?))) else {
        return "nothing compared yet".to_owned();
    };
    format!(
        "{} rows compared, agreement {} [{}, {}], gate {}, {}",
        count(agreement.compared),
        percent(rate),
        percent(agreement.lower),
        percent(agreement.upper),
        percent(agreement.gate),
        word(report.verdict()),
    )
}

/// The verdict in its colour.
pub(crate) fn coloured(verdict: Verdict, paint: Paint) -> String {
    let text = paint.bold(word(verdict).to_uppercase());
    match verdict {
        Verdict::Promote => paint.green(text),
        Verdict::Reject => paint.red(text),
        Verdict::Undecided | Verdict::Unspecified => paint.yellow(text),
    }
}

/// A line with its name on the left.
pub(crate) fn named(name: &str, rest: &str, paint: Paint) -> String {
    format!("{}{rest}", paint.bold(format_args!("{name:<NAME$}")))
}

fn title(report: &Report, paint: Paint) -> String {
    let Some(epoch) = &report.epoch else { return paint.dim("no rehearsal yet") };
    let model = |version: Option<&ModelVersion>| {
        version.map_or_else(|| "?".into(), |model| cut(&shown(&format!("{} {}", model.name, model.version)), 30))
    };
    let models = format!("{} → {}", model(epoch.primary.as_ref()), model(epoch.candidate.as_ref()));
    let restarts = match epoch.manual_restarts {
        0 => String::new(),
        n => format!(", {n} by hand"),
    };
    let comparator = epoch.comparator.split(',').next().map(shown).unwrap_or_default();
    let about = format!("{}, epoch {}{restarts}, {comparator}", task(epoch.task()), epoch.number);
    let room = WIDTH.saturating_sub(models.chars().count() + 3);
    format!("{}   {}", paint.bold(models), paint.dim(cut(about.trim_end_matches([',', ' ']), room)))
}

fn agreement_lines(agreement: &Agreement, paint: Paint) -> Vec<String> {
    let Agreement { compared, agreed, lower, upper, gate, log_e, log_e_abort, log_e_needed: needed, .. } = *agreement;
    let Some(rate) = agreement.rate else {
        return vec![named(
            "Agreement",
            &paint.dim(format_args!("no row compared yet, gate {}", percent(gate))),
            paint,
        )];
    };
    let figures = format!(
        "{}   {} … {}   {} of {} rows   {}",
        paint.bold(format_args!("{:>9}", percent(rate))),
        percent(lower),
        percent(upper),
        count(agreed),
        count(compared),
        paint.cyan(format_args!("gate {}", percent(gate))),
    );
    let evidence = format!(
        "{:>9} {} {} of {needed:.1}   reject {} {} of {needed:.1}",
        "promote",
        paint.green(progress(log_e / needed, 16)),
        evidence(log_e, needed),
        paint.red(progress(log_e_abort / needed, 16)),
        evidence(log_e_abort, needed),
    );
    vec![
        named("Agreement", &figures, paint),
        named("", &bars::interval(agreement, rate, paint), paint),
        named("Evidence", &evidence, paint),
    ]
}

/// The headline: what all this says about accuracy, before a single ground truth is known, and with all that is missing counted as
/// wrong; of values, where there is no right and wrong, about the agreement.
fn accuracy(agreement: &Agreement, noise: Option<&NoiseFloor>, paint: Paint) -> Option<String> {
    agreement.rate?;
    let noise = noise.and_then(|noise| noise.rate);
    let (name, bound, about) = match agreement.accuracy_change_bound {
        Some(bound) => ("Accuracy", format!("± {}", percent(bound)), "at most, without labels"),
        None => ("At least", percent(agreement.worst_case_lower), "agree, if all that is missing differs"),
    };
    let text = format!(
        "{}   {about}; even drifting, agreement ≥ {}{}",
        paint.bold(format_args!("{bound:>9}")),
        percent(agreement.drift_lower),
        noise.map_or_else(String::new, |rate| format!("; noise {}", percent(rate))),
    );
    Some(named(name, &text, paint))
}

fn coverage(rows: &Conservation, agreement: Option<&Agreement>, paint: Paint) -> String {
    let sum = |counts: &std::collections::BTreeMap<String, u64>| counts.values().sum::<u64>();
    let lost = |n: u64, what: &str| {
        let text = format!("{} {what}", count(n));
        if n == 0 { text } else { paint.yellow(text) }
    };
    let worst = match agreement {
        Some(agreement) if rows.coverage.is_some_and(|coverage| coverage < 1.0) => {
            format!(", worst case ≥ {}", percent(agreement.worst_case_lower))
        }
        _ => String::new(),
    };
    let text = format!(
        "{:>9}   {} rows offered, {}, {}, {} in flight{worst}",
        rows.coverage.map_or_else(|| "-".into(), percent),
        count(rows.offered),
        lost(sum(&rows.dropped), "dropped"),
        lost(sum(&rows.failed), "failed"),
        count(rows.in_flight),
    );
    named("Coverage", &text, paint)
}

fn score_line(delta: &ScoreDelta, scores: Option<&ScoreDistribution>, paint: Paint) -> String {
    let index = scores.map_or_else(String::new, |scores| format!(", PSI {:.3}", scores.stability_index + 0.0));
    let text = format!(
        "{:>9}   mean |Δ|, largest {}, RMS {}, mean Δ {}{index}",
        score(delta.mean_absolute, delta.max_absolute),
        score(delta.max_absolute, delta.max_absolute),
        score(delta.root_mean_square, delta.max_absolute),
        score(delta.mean, delta.max_absolute),
    );
    named("Score shift", &text, paint)
}

fn latency_line(who: &str, latency: &Latency, paint: Paint) -> String {
    let Latency { p50, p95, p99, max, count: n, .. } = *latency;
    let columns: String =
        [p50, p95, p99, max].map(|time| format!("{:>10}", if n == 0 { "-".into() } else { seconds(time) })).concat();
    let via = paint.dim(format_args!("observed via {}", cut(&shown(&latency.observed_via), 24)));
    named("", &format!("{who:<10}{columns}   {via}"), paint)
}

/// The intervals of the candidate's quantiles over the primary's, whose ratio stands above, and how often it was the slower one.
fn ratio_line(latency: &LatencyComparison, paint: Paint) -> String {
    let interval = |&QuantileRatio { lower, upper, .. }: &QuantileRatio| {
        if upper.is_finite() { format!("{}–{}", short(lower), short(upper)) } else { format!("≥ {}", short(lower)) }
    };
    let at = |level: f64| latency.quantiles.iter().find(|quantile| quantile.level == level);
    let columns: String =
        [0.5, 0.95, 0.99].map(|level| format!("{:>10}", at(level).map_or_else(|| "-".into(), interval))).concat();
    let share = latency.slower as f64 / latency.exchanges.max(1) as f64;
    let than = if latency.ratio == 1.0 { String::new() } else { format!(" than × {}", latency.ratio) };
    let slower = paint.dim(format_args!("slower{than} in {}", percent(share)));
    named("", &format!("{:<10}{columns}{:>10}   {slower}", "ratio", ""), paint)
}

/// A ratio in at most four columns, of those that occur.
fn short(ratio: f64) -> String {
    match ratio {
        ..10.0 => format!("{ratio:.2}"),
        ..100.0 => format!("{ratio:.1}"),
        _ => format!("{ratio:.0}"),
    }
}

/// The verdict, and why in at most `room` lines.
fn verdict(report: &Report, room: usize, paint: Paint) -> Vec<String> {
    let mut reasons: Vec<String> =
        report.reasons.iter().flat_map(|reason| wrap(&shown(reason), WIDTH - NAME - 2)).collect();
    let needed = report.pairs_needed.filter(|pairs| *pairs > 0 && report.verdict() == Verdict::Undecided);
    let room = room - usize::from(needed.is_some());
    if reasons.len() > room {
        reasons.truncate(room);
        if let Some(last) = reasons.last_mut() {
            *last = cut(&format!("{last} …"), WIDTH - NAME);
        }
    }
    if let Some(pairs) = needed {
        let time = match report.seconds_needed {
            Some(seconds) => format!(" ({} at this pace)", rough(seconds)),
            None => String::new(),
        };
        let text = format!("about {} more requests until a promotion if agreement stays{time}", count(pairs));
        reasons.push(text);
    }
    let mut lines = vec![named("Verdict", &coloured(report.verdict(), paint), paint)];
    lines.extend(reasons.iter().map(|reason| named("", reason, paint)));
    lines
}

#[cfg(test)]
pub(crate) mod tests;
