//! A candidate rehearses beside a primary: what the sidecar says is exactly what happened, and leads to the right verdict.

use support::{
    Primary, Rehearsal, SOON, adult, eventually,
    grpc::{Call, MODEL_INFER, PREDICT},
    load,
    rehearsal::package,
    tensors::{RAW, TYPED, ask},
    within,
};
use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus};
use understudy::v1::{Report, Verdict};

mod candidates;
mod disagreements;
mod encrypted;
mod epochs;
mod examples;
mod executions;
mod exports;
mod failures;
mod loops;
mod mirror;
mod outlets;
mod outputs;
mod page;
mod proxy;
mod remote;
mod replay;
mod rules;
mod slices;
mod tensors;
mod thresholds;
mod v2;
mod versions;

use v2::columns;

/// Rows that were compared, and those of them that agreed.
fn agreement(report: &Report) -> (u64, u64) {
    report.agreement.as_ref().map(|agreement| (agreement.compared, agreement.agreed)).unwrap_or_default()
}

/// `[primary, candidate, count]`, from LightGBM's own answers to the first `rows` rows.
fn expected_flips(column: &str, rows: usize) -> Vec<(String, String, u64)> {
    let table = adult::test_set();
    let mut flips = Vec::new();
    for primary in adult::CLASSES {
        for candidate in adult::CLASSES {
            let pairs = table.primary().iter().zip(&table.answers[column]).take(rows);
            let count = pairs.filter(|(a, b)| adult::label(**a) == primary && adult::label(**b) == candidate).count();
            flips.push((primary.to_owned(), candidate.to_owned(), count as u64));
        }
    }
    flips
}

/// The whole story: the first `rows` rows, one a call, and what LightGBM says about them.
async fn rehearse(candidate: &str, column: &str, rows: u64) -> Report {
    let table = adult::test_set();
    let primary = Primary::start().await;
    let rehearsal = Rehearsal::beside(&primary, |settings| settings.candidate = Some(package(candidate))).await;
    let outcome = load::once(&primary, 0..rows as usize, 1).await;
    assert_eq!((outcome.answered, outcome.failures.len()), (rows, 0));
    let report = rehearsal.settled(rows).await;

    let epoch = report.epoch.as_ref().unwrap();
    let name = |version: &Option<understudy::v1::ModelVersion>| version.as_ref().map(|it| it.name.clone()).unwrap();
    assert_eq!((epoch.number, name(&epoch.primary), name(&epoch.candidate)), (1, "adult".into(), candidate.into()));
    assert_eq!(agreement(&report), (rows, table.agreed(column, 0..rows as usize)));
    let mut flips: Vec<_> =
        report.flips.iter().map(|it| (it.primary.clone(), it.candidate.clone(), it.count)).collect();
    flips.sort();
    assert_eq!(flips, expected_flips(column, rows as usize));
    let pairs = || table.primary().iter().zip(&table.answers[column]).take(rows as usize);
    let deltas = || pairs().map(|(primary, candidate)| candidate - primary);
    let delta = report.score_delta.as_ref().unwrap();
    assert_eq!(delta.count, rows);
    assert!((delta.mean - deltas().sum::<f64>() / rows as f64).abs() < 1e-12, "{delta:?}");
    assert_eq!(delta.max_absolute, deltas().map(f64::abs).fold(0.0, f64::max));
    for counts in [&report.exchanges, &report.rows].map(|counts| counts.as_ref().unwrap()) {
        assert_eq!((counts.offered, counts.compared, counts.coverage), (rows, rows, Some(1.0)));
    }
    let [primary, candidate] = [&report.primary_latency, &report.candidate_latency].map(|it| it.as_ref().unwrap());
    for latency in [primary, candidate] {
        assert_eq!(latency.count, rows);
        let ordered = [0.0, latency.p50, latency.p95, latency.p99, latency.max, 10.0];
        assert!(ordered[1] > 0.0 && ordered.is_sorted(), "{latency:?}");
    }
    assert_eq!((primary.observed_via.as_str(), candidate.observed_via.as_str()), ("server", "in-process"));
    report
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_good_candidate_is_promoted() {
    let report = rehearse("adult-candidate", "adult_candidate", 2_500).await;
    assert_eq!(report.verdict(), Verdict::Promote, "{:#?}", report.reasons);
    let agreement = report.agreement.unwrap();
    assert!(agreement.one_sided_lower > 0.98, "{agreement:?}");
    assert!(agreement.lower < 0.991 && 0.991 < agreement.upper, "what is shipped agrees on 99.1 %: {agreement:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bad_candidate_is_rejected() {
    let report = rehearse("adult-candidate-bad", "adult_candidate_bad", 1_000).await;
    assert_eq!(report.verdict(), Verdict::Reject, "{:#?}", report.reasons);
    assert!(report.agreement.unwrap().upper < 0.98);
    assert!(report.reasons[0].contains("98"), "the reason names the gate: {:?}", report.reasons);
}

/// Whatever the traffic, and wherever the candidate is: bit-equal models agree on every row and differ by nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_primary_beside_itself_agrees_to_the_bit() {
    let (primary, other) = (Primary::start().await, Primary::start().await);
    for candidate in [package("adult"), other.url()] {
        let rehearsal = Rehearsal::beside(&primary, |settings| settings.candidate = Some(candidate.clone())).await;
        let connection = primary.connect().await;
        let (calm, stress) = (adult::test_set(), adult::stress_set());
        let mut calls = Vec::new();
        for start in (0..500).step_by(25) {
            let rows = || start..start + 25;
            calls.push(Call::new(PREDICT, &stress.predict(rows())));
            calls.push(Call::new(PREDICT, &stress.predict(start..start + 1)));
            calls.push(Call::new(MODEL_INFER, &stress.columns(rows(), RAW)));
            calls.push(Call::new(MODEL_INFER, &stress.columns(rows(), TYPED)));
            calls.push(Call::new(MODEL_INFER, &stress.matrix(rows(), true)));
            calls.push(Call::new(MODEL_INFER, &calm.matrix(rows(), false)));
        }
        for call in &calls {
            assert_eq!(connection.call(call).await.status, Some(0));
        }
        let report = rehearsal.settled(120).await;
        assert_eq!(agreement(&report), (5 * 500 + 20, 5 * 500 + 20), "{candidate}: {report:#?}");
        assert_eq!(report.score_delta.unwrap().max_absolute, 0.0, "{candidate}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_are_compared_by_what_the_client_asked_for() {
    let primary = Primary::start().await;
    let rehearsal = Rehearsal::beside(&primary, |_| {}).await;
    let table = adult::test_set();
    let expected = table.agreed("adult_candidate", 0..100);
    // Labels follow from probabilities; from ids nothing follows.
    for (n, (outputs, compared, agreed)) in [
        (&["label"][..], 100, expected),
        (&["probabilities"], 200, 2 * expected),
        (&["prediction_id"], 200, 2 * expected),
    ]
    .into_iter()
    .enumerate()
    {
        let mut request = table.columns(0..100, RAW);
        ask(&mut request, outputs);
        primary.inference().model_infer(request).await.unwrap();
        let report = rehearsal.settled(n as u64 + 1).await;
        assert_eq!(agreement(&report), (compared, agreed), "{outputs:?}: {report:#?}");
        let dropped = report.exchanges.unwrap().dropped;
        assert_eq!(dropped.get("incomparable").copied().unwrap_or_default(), u64::from(n == 2), "{outputs:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_can_not_be_compared_is_dropped_with_its_reason() {
    let primary = Primary::start().await;
    let rehearsal = Rehearsal::beside(&primary, |_| {}).await;
    let connection = primary.connect().await;
    let table = adult::test_set();
    for (request, status) in [
        (table.predict(0..1), 0),
        (adult::refused(), 3),
        (adult::refused(), 3),
        (table.predict(0..0), 0),
        // Refused before it is decoded.
        (table.predict(0..101), 8),
    ] {
        assert_eq!(connection.call(&Call::new(PREDICT, &request)).await.status, Some(status));
    }
    let report = rehearsal.settled(5).await;
    let counts = report.exchanges.unwrap();
    assert_eq!((counts.compared, counts.dropped), (2, [("primary_error".to_owned(), 3)].into()));
    assert_eq!(counts.coverage, Some(1.0), "what the primary refused is nothing that the candidate has missed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sample_is_compared_and_the_rest_is_told() {
    let primary = Primary::start().await;
    let rehearsal = Rehearsal::beside(&primary, |settings| settings.sample_rate = Some(0.5)).await;
    assert_eq!(load::once(&primary, 0..1_000, 1).await.answered, 1_000);
    let report = rehearsal
        .report_when(|report| {
            let offered = report.exchanges.as_ref().map_or(0, |counts| counts.offered);
            offered + report.intake.as_ref().map_or(0, |intake| intake.sampled_out) == 1_000
        })
        .await;
    // Six standard deviations of 15.8 around 500.
    let offered = report.exchanges.unwrap().offered;
    assert!((405..=595).contains(&offered), "{offered}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sidecar_serves_whether_the_primary_is_there_or_not() {
    let rehearsal = Rehearsal::alone(|settings| settings.primary = Some("unix:/nowhere.sock".into())).await;
    for name in ["", "readiness", "liveness", "startup", "shadow"] {
        let request = HealthCheckRequest { service: name.into() };
        let answer = rehearsal.health().check(request).await.unwrap().into_inner();
        assert_eq!(answer.status(), ServingStatus::Serving, "{name}");
    }
    let report =
        rehearsal.report_when(|report| report.intake.as_ref().is_some_and(|it| !it.last_error.is_empty())).await;
    assert_eq!(report.verdict(), Verdict::Undecided);
    assert!(!report.intake.unwrap().connected);
    assert!(within(SOON, rehearsal.drain()).await < 1.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_prometheus_scrapes_is_what_the_report_says() {
    let primary = Primary::start().await;
    let rehearsal = Rehearsal::beside(&primary, |_| {}).await;
    load::once(&primary, 0..2_000, 100).await;
    let report = rehearsal.settled(20).await;
    let (compared, agreed) = agreement(&report);
    eventually(SOON, async || {
        let scrape = rehearsal.scrape().await;
        let of = |name: &str| scrape.sum(name, &[("model", "adult"), ("candidate", "adult-candidate"), ("epoch", "1")]);
        let got = (of("shadow_compared_total"), of("shadow_agreed_total"), of("shadow_exchanges_total"));
        anyhow::ensure!(got == (compared as f64, agreed as f64, 20.0), "{got:?}, expected {compared}, {agreed}, 20");
        Ok(())
    })
    .await;
}
