use understudy::v1::{Epoch, Flip, Intake, QuantileRatio, Slice, Task};

use super::*;

const PLAIN: Paint = Paint { colour: false };

/// A report of the good candidate, with a few drops.
pub(crate) fn sample() -> Report {
    let model = |name: &str| Some(ModelVersion { name: name.into(), version: "1".into() });
    let flip =
        |primary: &str, candidate: &str, count| Flip { primary: primary.into(), candidate: candidate.into(), count };
    Report {
        epoch: Some(Epoch {
            number: 1,
            primary: model("adult"),
            candidate: model("adult-candidate"),
            task: Task::Binary.into(),
            comparator: "labels are equal, by name of the class".into(),
            ..Epoch::default()
        }),
        verdict: Verdict::Promote.into(),
        reasons: vec!["agreement 99.1 % of 4,000 rows is above the gate 98 % (log e 9.1 of 3.0 needed)".into()],
        pairs_needed: None,
        rows: Some(Conservation {
            offered: 4012,
            compared: 4000,
            dropped: [("queue_full".into(), 12)].into(),
            coverage: Some(4000.0 / 4012.0),
            ..Conservation::default()
        }),
        agreement: Some(Agreement {
            compared: 4000,
            agreed: 3964,
            rate: Some(0.991),
            lower: 0.9862,
            upper: 0.9943,
            alpha: 0.05,
            gate: 0.98,
            log_e: 9.13,
            log_e_abort: -3.0,
            log_e_needed: 2.9957,
            worst_case_lower: 0.9831,
            accuracy_change_bound: Some(0.0169),
            drift_lower: 0.9805,
            ..Agreement::default()
        }),
        flips: vec![
            flip("<=50K", "<=50K", 3012),
            flip("<=50K", ">50K", 19),
            flip(">50K", "<=50K", 17),
            flip(">50K", ">50K", 952),
        ],
        score_delta: Some(ScoreDelta {
            count: 4000,
            mean: -0.0004,
            mean_absolute: 0.0123,
            max_absolute: 0.3401,
            root_mean_square: 0.021,
        }),
        primary_latency: Some(Latency {
            observed_via: "server".into(),
            count: 4000,
            mean: 36e-6,
            p50: 31e-6,
            p95: 55e-6,
            p99: 81e-6,
            max: 1.2e-3,
        }),
        candidate_latency: Some(Latency { observed_via: "in-process".into(), count: 0, ..Latency::default() }),
        scores: Some(ScoreDistribution { stability_index: 0.0123, ..ScoreDistribution::default() }),
        latency: Some(LatencyComparison {
            ratio: 1.5,
            slower: 492,
            exchanges: 4000,
            quantiles: vec![
                QuantileRatio { level: 0.5, ratio: 1.1, lower: 1.05, upper: 1.2 },
                QuantileRatio { level: 0.95, ratio: 1.24, lower: 1.0, upper: f64::INFINITY },
            ],
            ..LatencyComparison::default()
        }),
        noise: Some(NoiseFloor { rate: Some(0.999), ..NoiseFloor::default() }),
        slices: vec![Slice {
            name: "age<30".into(),
            rate: Some(0.951),
            upper: 0.961,
            discovered: true,
            ..Slice::default()
        }],
        intake: Some(Intake { connected: true, subscriptions: 1, ..Intake::default() }),
        ..Report::default()
    }
}

#[test]
fn a_report_is_one_screen() {
    let expected = "\
adult 1 → adult-candidate 1   binary, epoch 1, labels are equal

Agreement     99.10 %   98.62 % … 99.43 %   3,964 of 4,000 rows   gate 98.00 %
              95.00 % ├──────────────────────────────────┃──────━━━━━━●━━━━──────┤ 100.00 %
Evidence      promote ████████████████ 9.1 of 3.0   reject ░░░░░░░░░░░░░░░░ -3.0 of 3.0
Accuracy     ± 1.69 %   at most, without labels; even drifting, agreement ≥ 98.05 %; noise 99.90 %
Coverage      99.70 %   4,012 rows offered, 12 dropped, 0 failed, 0 in flight, worst case ≥ 98.31 %
Score shift    0.0123   mean |Δ|, largest 0.3401, RMS 0.0210, mean Δ -0.0004, PSI 0.012

Flips       primary ↓ candidate →         <=50K          >50K
                            <=50K         3,012            19
                             >50K            17           952

Latency                      p50       p95       p99       max
            primary      31.0 µs   55.0 µs   81.0 µs   1.20 ms   observed via server
            candidate          -         -         -         -   observed via in-process
            ratio      1.05–1.20    ≥ 1.00         -             slower than × 1.5 in 12.30 %
Slices      age<30 95.10 % (≤ 96.10 %)

Verdict     PROMOTE
            agreement 99.1 % of 4,000 rows is above the gate 98 % (log e 9.1 of 3.0 needed)";
    let lines = lines(&sample(), PLAIN);
    assert_eq!(lines.join("\n"), expected);
    assert!(lines.len() <= HEIGHT);
}

#[test]
fn the_longest_report_still_fits() {
    let mut report = sample();
    report.verdict = Verdict::Undecided.into();
    report.reasons = vec!["a reason that goes on and on ".repeat(20); 4];
    report.pairs_needed = Some(1240);
    report.seconds_needed = Some(300.0);
    report.flips.push(Flip { primary: "other".into(), candidate: "other".into(), count: 1 });
    report.intake = Some(Intake { last_error: "no such file ".repeat(20), ..Intake::default() });
    let lines = lines(&report, PLAIN);
    assert!(lines.len() <= HEIGHT, "{}", lines.join("\n"));
    assert!(lines.iter().all(|line| line.chars().count() <= WIDTH), "{}", lines.join("\n"));
    assert!(lines.last().is_some_and(|last| {
        last.ends_with("about 1,240 more requests until a promotion if agreement stays (5 min at this pace)")
    }));
}

#[test]
fn colours_add_no_columns() {
    let coloured = lines(&sample(), Paint { colour: true }).join("\n");
    let mut plain = String::new();
    for (i, part) in coloured.split("\x1b[").enumerate() {
        plain += if i == 0 { part } else { part.split_once('m').map_or("", |(_, rest)| rest) };
    }
    assert_eq!(plain, lines(&sample(), PLAIN).join("\n"));
}

#[test]
fn before_the_first_row_nothing_is_claimed() {
    let epoch = Epoch { candidate: Some(ModelVersion { name: "b".into(), version: "2".into() }), ..Epoch::default() };
    let report = Report {
        epoch: Some(epoch),
        verdict: Verdict::Undecided.into(),
        reasons: vec!["nothing is known of the primary yet".into()],
        intake: Some(Intake { last_error: "connection \x1b[2J refused".into(), ..Intake::default() }),
        ..Report::default()
    };
    let text = lines(&report, PLAIN).join("\n");
    assert!(text.starts_with("? → b 2"), "{text}");
    assert!(text.contains("tap: connection \u{fffd}[2J refused") && text.contains("UNDECIDED"), "{text}");
    assert!(!text.contains('%'), "{text}");
}

#[test]
fn one_line_has_what_matters() {
    let expected = "4,000 rows compared, agreement 99.10 % [98.62 %, 99.43 %], gate 98.00 %, promote";
    assert_eq!(line(&sample()), expected);
}

/// It has no way in that could be down.
#[test]
fn a_replay_is_not_said_to_be_unconnected() {
    let of = |intake: Option<Intake>| lines(&Report { intake, ..sample() }, PLAIN).join("\n");
    assert!(of(Some(Intake { connected: false, ..Intake::default() })).contains("not connected"));
    assert!(!of(None).contains("not connected"));
}
