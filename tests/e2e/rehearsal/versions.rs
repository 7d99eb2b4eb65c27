//! A server that becomes another version while its model rehearses: each version has the counts of its own, and one that comes back
//! has them again.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use support::{
    Primary, Rehearsal, SOON, adult, eventually,
    grpc::{Call, Connection, MODEL_INFER},
    load,
    stub::Stub,
    within,
};
use understudy::{
    inference::{
        InferTensorContents, ModelInferRequest, ModelInferResponse, ModelMetadataResponse,
        model_infer_response::InferOutputTensor,
    },
    v1::Report,
};

use super::{agreement, columns, epochs::pair, v2};

/// "<=50K" for every row, by whatever version it is now.
fn always_low(request: &ModelInferRequest, version: u64) -> ModelInferResponse {
    let rows = request.inputs[0].shape[0];
    let contents = InferTensorContents { bytes_contents: vec!["<=50K".into(); rows as usize], ..Default::default() };
    let label = InferOutputTensor {
        name: "label".into(),
        datatype: "BYTES".into(),
        shape: vec![rows],
        contents: Some(contents),
        ..InferOutputTensor::default()
    };
    ModelInferResponse { model_version: version.to_string(), outputs: vec![label], ..ModelInferResponse::default() }
}

/// A candidate whose version the test decides on, and how it is told.
async fn candidate(metadata: ModelMetadataResponse) -> (Stub, Arc<AtomicU64>) {
    let version = Arc::new(AtomicU64::new(1));
    let now = version.clone();
    let answer = move |request: &ModelInferRequest| Some(Ok(always_low(request, now.load(Ordering::Relaxed))));
    (Stub::describing(metadata, answer).await, version)
}

fn named() -> ModelMetadataResponse {
    ModelMetadataResponse { versions: vec!["1".into()], ..ModelMetadataResponse::default() }
}

/// Asks until the report is about this epoch.
async fn until_epoch(primary: &Primary, rehearsal: &Rehearsal, number: u64) -> Report {
    let asking = async {
        loop {
            load::once(primary, 0..100, 100).await;
            let report = rehearsal.report().await;
            if pair(&report).0 == number {
                return report;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    within(SOON, asking).await
}

/// Epochs of which something is published.
async fn published(rehearsal: &Rehearsal) -> Vec<String> {
    let scrape = rehearsal.scrape().await;
    let verdicts = scrape.samples().iter().filter(|sample| sample.name == "shadow_verdict");
    verdicts.map(|sample| sample.labels["epoch"].clone()).collect()
}

fn dropped(report: &Report, reason: &str) -> u64 {
    report.exchanges.as_ref().unwrap().dropped.get(reason).copied().unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_version_that_comes_back_goes_on_with_what_it_has_proven() {
    let (stub, version) = candidate(named()).await;
    let primary = Primary::start().await;
    let rehearsal = Rehearsal::beside(&primary, |settings| settings.candidate = Some(stub.url())).await;
    let low = adult::test_set().primary()[0..100].iter().filter(|high| **high <= 0.5).count() as u64;
    load::once(&primary, 0..100, 100).await;
    let report = rehearsal.settled(1).await;
    assert_eq!((pair(&report), agreement(&report)), ((1, "1".into(), "1".into()), (100, low)));
    version.store(2, Ordering::Relaxed);
    load::once(&primary, 0..100, 100).await;
    let report = rehearsal.settled(2).await;
    assert_eq!((agreement(&report), pair(&report).0), ((100, low), 1), "one answer may be anybody's");
    assert_eq!((dropped(&report, "other_version"), report.exchanges.unwrap().failed.len()), (1, 0));
    let begun = Instant::now();
    let report = until_epoch(&primary, &rehearsal, 2).await;
    assert!(begun.elapsed() > Duration::from_millis(900), "a second alone: {:?}", begun.elapsed());
    assert_eq!(pair(&report), (2, "1".into(), "2".into()));
    load::once(&primary, 0..100, 100).await;
    let report = rehearsal.report_when(|report| agreement(report).0 >= 100).await;
    assert_eq!(agreement(&report).1 * 100, agreement(&report).0 * low, "nothing but whole answers of version 2");
    eventually(SOON, async || {
        let epochs = published(&rehearsal).await;
        anyhow::ensure!(epochs == ["2"], "an old verdict must not look like a new one: {epochs:?}");
        Ok(())
    })
    .await;
    // The roll-out is taken back.
    let rejected = rehearsal.report().await.agreement.unwrap().log_e_abort;
    version.store(1, Ordering::Relaxed);
    let report = until_epoch(&primary, &rehearsal, 1).await;
    assert_eq!(pair(&report), (1, "1".into(), "1".into()));
    let (compared, agreed) = agreement(&report);
    assert!(compared >= 100 && agreed * 100 == compared * low, "{compared}, {agreed}: with its counts, and no others");
    assert!(rejected > 0.0 && report.agreement.unwrap().log_e_abort > 0.0);
}

/// What a version would be that it never is twice: the models would be compared anew for ever, with as many verdicts.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_lies_about_its_version_begins_no_epochs() {
    let answers = Arc::new(AtomicU64::new(1));
    let count = answers.clone();
    let answer =
        move |request: &ModelInferRequest| Some(Ok(always_low(request, count.fetch_add(1, Ordering::Relaxed))));
    let stub = Stub::describing(named(), answer).await;
    let primary = Primary::start().await;
    let rehearsal = Rehearsal::beside(&primary, |settings| settings.candidate = Some(stub.url())).await;
    load::once(&primary, 0..1, 1).await;
    rehearsal.settled(1).await;
    load::once(&primary, 0..1_500, 1).await;
    let report = rehearsal.settled(1_501).await;
    assert_eq!((pair(&report).0, agreement(&report).0, dropped(&report, "other_version")), (1, 1, 1_500));
    assert!(report.exchanges.unwrap().coverage.unwrap() < 0.01, "it has chosen what is not known");
    eventually(SOON, async || {
        let epochs = published(&rehearsal).await;
        anyhow::ensure!(epochs == ["1"], "{epochs:?}");
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_first_version_that_answers_is_the_epochs() {
    let (stub, version) = candidate(ModelMetadataResponse::default()).await;
    version.store(7, Ordering::Relaxed);
    let primary = Primary::start().await;
    let rehearsal = Rehearsal::beside(&primary, |settings| settings.candidate = Some(stub.url())).await;
    load::once(&primary, 0..100, 10).await;
    let report = rehearsal.settled(10).await;
    assert_eq!((pair(&report), agreement(&report).0), ((1, "1".into(), "7".into()), 100));
    version.store(8, Ordering::Relaxed);
    load::once(&primary, 0..100, 10).await;
    let report = rehearsal.settled(20).await;
    assert_eq!((agreement(&report).0, dropped(&report, "other_version")), (100, 10), "they never pool");
    assert_eq!(pair(&until_epoch(&primary, &rehearsal, 2).await), (2, "1".into(), "8".into()));
}

/// Of a server whose metadata names no versions, but whose answers do.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_first_version_of_a_primary_that_answers_is_the_epochs() {
    for intake in ["proxy", "mirror"] {
        let version = Arc::new(AtomicU64::new(3));
        let now = version.clone();
        let metadata = ModelMetadataResponse { versions: Vec::new(), ..v2::metadata() };
        let stub = Stub::describing(metadata, move |request| {
            Some(Ok(ModelInferResponse {
                model_version: now.load(Ordering::Relaxed).to_string(),
                ..v2::answer(request)
            }))
        })
        .await;
        let rehearsal = Rehearsal::alone(|settings| {
            settings.primary = Some(stub.url());
            settings.intake = Some(intake.into());
            settings.primary_model = Some("income".into());
            settings.primary_classes = Some(adult::CLASSES.map(String::from).to_vec());
        })
        .await;
        rehearsal.report_when(|report| report.epoch.as_ref().is_some_and(|epoch| epoch.number == 1)).await;
        let through = Connection::open(rehearsal.grpc()).await;
        let ask = async |rows: std::ops::Range<usize>| {
            for row in rows {
                assert_eq!(through.call(&Call::new(MODEL_INFER, &columns(row))).await.status, Some(0));
            }
        };
        ask(0..50).await;
        let report = rehearsal.settled(50).await;
        assert_eq!((pair(&report), agreement(&report).0), ((1, "3".into(), "1".into()), 50), "{intake}");
        version.store(4, Ordering::Relaxed);
        ask(50..60).await;
        let report = rehearsal.report_when(|report| pair(report).0 == 2).await;
        assert_eq!((pair(&report).1.as_str(), agreement(&report).0), ("4", 0), "{intake}: they never pool");
        ask(60..100).await;
        assert_eq!(agreement(&rehearsal.settled(40).await).0, 40, "{intake}");
    }
}
