//! What came of it: for people, for programs, and whether it is as it should be.

use serde_json::{Value as Json, json};
use understudy::v1::Verdict;

use super::{Candidate, stage::Collected, traffic::Sent};
use crate::{
    output::Paint,
    report_json, view,
    words::{count, percent, seconds},
};

/// Everything that is known at the end.
#[derive(Debug)]
pub(super) struct Ending {
    candidate: Candidate,
    sent: Sent,
    collected: Collected,
}

impl Ending {
    pub(super) fn new(candidate: Candidate, sent: Sent, collected: Collected) -> Self {
        Self { candidate, sent, collected }
    }

    /// The report, and around it what only the client and the collector know.
    pub(super) fn lines(&self, paint: Paint) -> Vec<String> {
        let Sent { rows, distinct, right, took, p50, p99, decided, report } = &self.sent;
        let mut lines = view::lines(report, paint);
        lines.push(String::new());
        let client = format!(
            "{} rows in {:.1} s, p50 {}, p99 {}; the primary was right on {}",
            count(*rows),
            took.as_secs_f64(),
            seconds(p50.as_secs_f64()),
            seconds(p99.as_secs_f64()),
            percent(*right as f64 / (*rows).max(1) as f64),
        );
        lines.push(view::named("Client", &client, paint));
        if distinct < rows {
            let note = format!(
                "there are {} different rows: sent again they are no new evidence, though counted as such",
                count(*distinct)
            );
            lines.push(view::named("", &paint.yellow(note), paint));
        }
        lines.push(view::named("OTLP", &self.otlp_line(), paint));
        lines.push(String::new());
        let problems = self.problems();
        if problems.is_empty() {
            let when = decided.map_or_else(String::new, |(rows, after)| {
                format!("; decided after about {} rows, {:.1} s", count(rows), after.as_secs_f64())
            });
            let (verdict, name) = (view::coloured(report.verdict(), paint), self.candidate.name());
            lines.push(format!("{} {verdict}, as it should be for the {name} candidate{when}", paint.green("✓")));
        }
        lines.extend(problems.iter().map(|problem| format!("{} {problem}", paint.red("✗"))));
        lines
    }

    fn otlp_line(&self) -> String {
        match &self.collected {
            Collected::Off => "nothing was exported: OTEL_SDK_DISABLED is set".into(),
            Collected::Named(url) => format!("exported to {url}"),
            Collected::Own { exports, names, compared, .. } => {
                let compared = match compared {
                    None => "shadow.compared is missing".to_owned(),
                    Some(n) => {
                        let so = if *n == self.sent.compared() { "equals" } else { "differs from" };
                        format!("shadow.compared = {} {so} the report", count(*n))
                    }
                };
                format!("{} exports of {} metrics received; {compared}", count(*exports), names.len())
            }
        }
    }

    /// For scripts.
    pub(super) fn json(&self) -> Json {
        let Sent { rows, distinct, right, took, p50, p99, decided, report } = &self.sent;
        let otlp = match &self.collected {
            Collected::Off => json!({"receiver": "off"}),
            Collected::Named(url) => json!({"receiver": "external", "endpoint": url}),
            Collected::Own { endpoint, exports, names, compared, agreed } => json!({
                "receiver": "demo",
                "endpoint": endpoint,
                "exports": exports,
                "metrics": names,
                "compared": compared,
                "agreed": agreed,
            }),
        };
        json!({
            "sent_rows": rows,
            "distinct_rows": distinct,
            "candidate": self.candidate.name(),
            "verdict": report_json::verdict(report.verdict()),
            "decided_after_rows": decided.map(|(rows, _)| rows),
            "as_expected": self.problems().is_empty(),
            "problems": self.problems(),
            "client": {
                "seconds": took.as_secs_f64(),
                "latency_p50": p50.as_secs_f64(),
                "latency_p99": p99.as_secs_f64(),
                "primary_accuracy": *right as f64 / (*rows).max(1) as f64,
            },
            "otlp": otlp,
            "agreement": report.agreement.as_ref().map(report_json::agreement),
            "report": report_json::report(report),
        })
    }

    /// What is not as it should be; empty when all is well.
    pub(super) fn problems(&self) -> Vec<String> {
        let report = &self.sent.report;
        let mut problems = Vec::new();
        let (verdict, expected) = (report.verdict(), self.candidate.expected());
        if verdict != expected {
            let why = match (verdict, report.pairs_needed) {
                (Verdict::Undecided, Some(pairs)) if pairs > 0 => {
                    format!("; about {} more requests would do", count(pairs))
                }
                _ => String::new(),
            };
            problems.push(format!(
                "the verdict is {}, expected {}{why}",
                report_json::verdict(verdict),
                report_json::verdict(expected)
            ));
        }
        let rows = report.rows.clone().unwrap_or_default();
        if rows.offered < self.sent.rows || rows.in_flight > 0 {
            problems.push(format!(
                "of {} rows sent {} have reached the sidecar and {} are still on their way",
                count(self.sent.rows),
                count(rows.offered),
                count(rows.in_flight)
            ));
        }
        let agreed = report.agreement.as_ref().map_or(0, |agreement| agreement.agreed);
        if let Collected::Own { compared, agreed: told, .. } = &self.collected
            && (*compared, *told) != (Some(self.sent.compared()), Some(agreed))
        {
            problems.push("what OTLP delivered is not what the report says".into());
        }
        problems
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::view::tests::sample;

    fn ending(candidate: Candidate, told: Option<u64>) -> Ending {
        let sent = Sent {
            rows: 4012,
            distinct: 4000,
            right: 3510,
            took: Duration::from_millis(9_970),
            p50: Duration::from_micros(180),
            p99: Duration::from_micros(950),
            decided: Some((1240, Duration::from_millis(3_100))),
            report: sample(),
        };
        let collected = Collected::Own {
            endpoint: "http://127.0.0.1:4317".into(),
            exports: 11,
            names: vec!["shadow.agreed".into(), "shadow.compared".into()],
            compared: told,
            agreed: Some(3964),
        };
        Ending::new(candidate, sent, collected)
    }

    #[test]
    fn the_last_lines_say_what_came_of_it() {
        let lines = ending(Candidate::Good, Some(4000)).lines(Paint { colour: false });
        let expected = "\
Client      4,012 rows in 10.0 s, p50 180 µs, p99 950 µs; the primary was right on 87.49 %
            there are 4,000 different rows: sent again they are no new evidence, though counted as such
OTLP        11 exports of 2 metrics received; shadow.compared = 4,000 equals the report

✓ PROMOTE, as it should be for the good candidate; decided after about 1,240 rows, 3.1 s";
        assert_eq!(lines[lines.len() - 5..].join("\n"), expected);
    }

    #[test]
    fn what_is_wrong_is_said() {
        let wrong = ending(Candidate::Bad, Some(3999)).problems();
        let expected = ["the verdict is promote, expected reject", "what OTLP delivered is not what the report says"];
        assert_eq!(wrong, expected);
        assert_eq!(ending(Candidate::Good, None).problems().len(), 1);
    }

    #[test]
    fn scripts_find_what_they_read() {
        let json = ending(Candidate::Good, Some(4000)).json();
        assert_eq!(json["sent_rows"], 4012);
        assert_eq!(json["verdict"], "promote");
        assert_eq!(json["agreement"]["compared"], 4000);
        assert_eq!(json["agreement"], json["report"]["agreement"]);
        assert_eq!(json["otlp"]["exports"], 11);
        assert_eq!(json["as_expected"], true);
    }
}
