//! What the report says of segments of rows, against what LightGBM's own answers say.

use support::{
    Primary, Rehearsal, SOON, adult, endpoint, eventually, load,
    rehearsal::package,
    stub::Stub,
    tensors::{RAW, TYPED},
};
use understudy::{
    inference::grpc_inference_service_client::GrpcInferenceServiceClient,
    v1::{Report, Verdict},
};

use super::v2;

const ROWS: usize = 3_000;

/// Which of the slices below a row is in, by its own cells.
fn slices_of(row: &[String], column: impl Fn(&str) -> usize) -> [String; 2] {
    let age: f64 = row[column("age")].parse().unwrap();
    let by_age = match age {
        age if age < 30.0 => "age<30",
        age if age < 50.0 => "30<=age<50",
        _ => "age>=50",
    };
    [by_age.to_owned(), format!("marital_status={}", row[column("marital_status")])]
}

async fn rehearse(candidate: &str, column: &str, batch: usize) -> Report {
    let table = adult::test_set();
    let primary = Primary::start().await;
    let rehearsal = Rehearsal::beside(&primary, |settings| {
        settings.candidate = Some(package(candidate));
        settings.slices = Some(vec!["age:30,50".into(), "marital_status".into()]);
    })
    .await;
    load::once(&primary, 0..ROWS, batch).await;
    let report = rehearsal.settled((ROWS / batch) as u64).await;
    let index = |name: &str| table.features.iter().position(|feature| feature.name == name).unwrap();
    for slice in &report.slices {
        let mut expected = (0, 0);
        for (row, cells) in table.rows.iter().enumerate().take(ROWS) {
            if slices_of(cells, index).contains(&slice.name) {
                expected.0 += 1;
                expected.1 += table.agreed(column, row..row + 1);
            }
        }
        assert_eq!((slice.compared, slice.agreed), expected, "{}", slice.name);
        assert!(slice.observations <= slice.compared && slice.shares <= slice.observations as f64);
    }
    // 3 of age and what is missing; 7 of marital status, what is missing, and others.
    assert_eq!(report.slices.len(), 4 + 9, "{:?}", report.slices);
    assert_eq!(report.slices.iter().map(|slice| slice.compared).sum::<u64>(), 2 * ROWS as u64);
    assert!(report.slices.is_sorted_by(|a, b| a.upper <= b.upper), "{:?}", report.slices);
    report
}

/// The report names the slices on which the bad candidate differs most, and none of the good one's.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_slices_on_which_a_candidate_differs_are_named() {
    let bad = rehearse("adult-candidate-bad", "adult_candidate_bad", 1).await;
    assert_eq!(bad.verdict(), Verdict::Reject);
    assert!(bad.slices[0].discovered && bad.slices[0].log_e_below > 3.0, "{:?}", bad.slices);
    let good = rehearse("adult-candidate", "adult_candidate", 10).await;
    assert!(good.slices.iter().all(|slice| !slice.discovered), "{:?}", good.slices);
    assert!(good.slices.iter().any(|slice| slice.observations < slice.compared), "one observation an exchange");
}

/// Rows that come as tensors are in the same slices.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tensors_are_sliced_as_rows_are() {
    let primary = Primary::start().await;
    let rehearsal = Rehearsal::beside(&primary, |settings| {
        settings.slices = Some(vec!["age:30,50".into(), "marital_status".into()]);
    })
    .await;
    let count = |report: &Report| -> Vec<(String, u64, u64)> {
        let mut all: Vec<_> = report.slices.iter().map(|it| (it.name.clone(), it.compared, it.agreed)).collect();
        all.sort();
        all
    };
    load::once(&primary, 0..100, 100).await;
    let rows = count(&rehearsal.settled(1).await);
    assert_eq!(rows.iter().map(|slice| slice.1).sum::<u64>(), 200);
    let table = adult::test_set();
    let requests = [table.columns(0..100, RAW), table.columns(0..100, TYPED), table.matrix(0..100, true)];
    for (sent, request) in (1..).zip(requests) {
        primary.inference().model_infer(request).await.unwrap();
        let all = count(&rehearsal.settled(sent + 1).await);
        for (once, all) in rows.iter().zip(&all) {
            assert_eq!(((sent + 1) * once.1, (sent + 1) * once.2), (all.1, all.2), "{sent}: {}", once.0);
        }
    }
}

/// A primary that is not ours, of which nobody knows a schema, behind a proxy.
async fn beside_a_foreign_primary(candidate: String, slices: &[&str]) -> (Rehearsal, Stub) {
    let primary = Stub::describing(v2::metadata(), |request| Some(Ok(v2::answer(request)))).await;
    let rehearsal = Rehearsal::alone(|settings| {
        settings.primary = Some(primary.url());
        settings.primary_model = Some("income".into());
        settings.primary_classes = Some(adult::CLASSES.map(String::from).to_vec());
        settings.candidate = Some(candidate);
        settings.intake = Some("proxy".into());
        settings.slices = Some(slices.iter().map(|text| (*text).to_owned()).collect());
    })
    .await;
    rehearsal.report_when(|report| report.intake.as_ref().is_some_and(|intake| intake.connected)).await;
    (rehearsal, primary)
}

async fn send(rehearsal: &Rehearsal, rows: usize) {
    let channel = endpoint(&format!("http://{}", rehearsal.grpc())).connect_lazy();
    let mut client = GrpcInferenceServiceClient::new(channel);
    for row in 0..rows {
        client.model_infer(v2::columns(row)).await.unwrap();
    }
}

/// By the candidate's schema where it has one, else by what the inputs are called.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_primary_without_a_schema_is_sliced_all_the_same() {
    const ROWS: usize = 200;
    let table = adult::test_set();
    let index = |name: &str| table.features.iter().position(|feature| feature.name == name).unwrap();
    let remote = Stub::describing(v2::metadata(), |request| Some(Ok(v2::answer(request)))).await;
    for (candidate, column, status) in [
        (package("adult-candidate"), "adult_candidate", "marital_status"),
        (remote.url(), "adult", "marital_status=Divorced,Never-married,Married-civ-spouse"),
    ] {
        let (rehearsal, _primary) = beside_a_foreign_primary(candidate, &["age:30,50", status]).await;
        send(&rehearsal, ROWS).await;
        let report = rehearsal.settled(ROWS as u64).await;
        assert_eq!(report.exchanges.as_ref().unwrap().compared, ROWS as u64, "{report:#?}");
        let mut named = 0;
        for slice in &report.slices {
            let rows = table.rows.iter().take(ROWS).enumerate();
            let own: Vec<usize> =
                rows.filter(|(_, cells)| slices_of(cells, index).contains(&slice.name)).map(|(row, _)| row).collect();
            let agreed: u64 = own.iter().map(|&row| table.agreed(column, row..row + 1)).sum();
            if !slice.name.ends_with("=other") {
                assert_eq!((slice.compared, slice.agreed), (own.len() as u64, agreed), "{column}: {}", slice.name);
            }
            named += u64::from(slice.compared > 0);
        }
        assert!(named > 5, "{:?}", report.slices);
        assert_eq!(report.slices.iter().map(|slice| slice.compared).sum::<u64>(), 2 * ROWS as u64);
    }
}

/// What keeps an epoch from beginning is the first thing that a report says, and what comes in the meantime is counted.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_epoch_that_can_not_begin_says_why_and_counts_what_comes() {
    let remote = Stub::describing(v2::metadata(), |request| Some(Ok(v2::answer(request)))).await;
    let (rehearsal, _primary) = beside_a_foreign_primary(remote.url(), &["marital_status", "age:30,50"]).await;
    let said = rehearsal.report_when(|report| report.reasons[0].contains("marital_status")).await;
    assert!(said.reasons[0].contains("no epoch can begin: slices: "), "{:?}", said.reasons);
    send(&rehearsal, 7).await;
    let report = rehearsal.settled(7).await;
    for counts in [&report.exchanges, &report.rows].map(|counts| counts.as_ref().unwrap()) {
        assert_eq!((counts.compared, counts.coverage), (0, None));
        assert_eq!(counts.dropped, [("no_epoch".to_owned(), 7)].into());
    }
    assert!(report.reasons[0].contains("marital_status"), "{:?}", report.reasons);
    assert_eq!(report.verdict(), Verdict::Undecided);
    eventually(SOON, async || {
        let count = rehearsal.scrape().await.sum("shadow_no_epoch_total", &[]);
        anyhow::ensure!(count == 7.0, "{count}");
        Ok(())
    })
    .await;
}
