//! The verdict and the figures of a moment as HTML, for readers without JavaScript. Whatever comes from outside is escaped.

use std::fmt::Write as _;

use understudy::v1;

use crate::report_json;

/// A section for each report.
pub(super) fn html(reports: &[v1::Report]) -> String {
    let mut out = String::new();
    // Writing to a string can't fail.
    reports.iter().try_for_each(|report| section(report, &mut out)).unwrap_or_default();
    out
}

fn section(report: &v1::Report, out: &mut String) -> std::fmt::Result {
    let epoch = report.epoch.clone().unwrap_or_default();
    let model = |version: Option<&v1::ModelVersion>| {
        version.map_or_else(|| "not known yet".into(), |it| escaped(&format!("{} {}", it.name, it.version)))
    };
    let (primary, candidate) = (model(epoch.primary.as_ref()), model(epoch.candidate.as_ref()));
    let word = report_json::verdict(report.verdict());
    write!(out, "<section class=\"card verdict\" data-verdict=\"{word}\"><h2>{candidate} beside {primary}</h2>")?;
    write!(out, "<p class=\"word\">Verdict: {word}</p>")?;
    if let Some(agreement) = report.agreement.as_ref().filter(|agreement| agreement.rate.is_some()) {
        let headline = match agreement.accuracy_change_bound.map(percent) {
            Some(bound) => format!(
                "Accuracy changes by at most {bound}, without a single label; what was not compared counts as changed."
            ),
            None => {
                let lower = percent(agreement.worst_case_lower);
                format!("They agree on at least {lower}; what was not compared counts as a disagreement.")
            }
        };
        write!(out, "<p class=\"headline\">{headline}</p>")?;
    }
    write!(out, "<ul>")?;
    for reason in &report.reasons {
        write!(out, "<li>{}</li>", escaped(reason))?;
    }
    write!(out, "</ul><table><caption>Figures of this moment</caption><tbody>")?;
    let mut row = |name: &str, value: String| write!(out, "<tr><th scope=\"row\">{name}</th><td>{value}</td></tr>");
    row("Epoch", epoch.number.to_string())?;
    if let Some(agreement) = &report.agreement {
        row("Agreement", agreement.rate.map_or_else(|| "nothing compared yet".into(), percent))?;
        row("Its bounds", format!("{} to {}", percent(agreement.lower), percent(agreement.upper)))?;
        row("Gate", percent(agreement.gate))?;
        row("Rows that agreed", format!("{} of {}", agreement.agreed, agreement.compared))?;
    }
    if let Some(pairs) = report.pairs_needed {
        row("Exchanges still needed", pairs.to_string())?;
    }
    if let Some(counts) = &report.exchanges {
        let sum = |counts: &std::collections::BTreeMap<String, u64>| counts.values().sum::<u64>();
        row("Exchanges offered", counts.offered.to_string())?;
        row("Compared", counts.compared.to_string())?;
        row("Dropped", sum(&counts.dropped).to_string())?;
        row("Failed", sum(&counts.failed).to_string())?;
        row("In flight", counts.in_flight.to_string())?;
        row("Coverage", counts.coverage.map_or_else(|| "not known yet".into(), percent))?;
    }
    write!(out, "</tbody></table></section>")
}

/// "99.10 %". What is not complete never reads as 100 %, what is not nothing never as 0 %.
fn percent(share: f64) -> String {
    match format!("{:.2}", share * 100.0).as_str() {
        "100.00" if share < 1.0 => "&gt;99.99 %".to_owned(),
        "0.00" if share > 0.0 => "&lt;0.01 %".to_owned(),
        text => format!("{text} %"),
    }
}

/// As text of an element, or as a quoted attribute.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c if c.is_control() => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}
