//! A recording: what rehearsed live rehearses again to the same numbers.

use shadow_sidecar::{
    recording::{Bounds, Reader, Recorder},
    replay::replay,
    report,
};
use support::{
    Primary, Rehearsal, adult,
    grpc::{Call, MODEL_INFER},
    load,
    rehearsal::package,
    stub::Stub,
};
use understudy::{
    inference::ModelInferRequest,
    v1::{Report, SubscribeRequest, Verdict},
};

use super::v2;

/// Every count, the bounds that follow from counts, and the largest evidence along the way.
fn numbers(report: &Report) -> impl PartialEq + std::fmt::Debug + use<> {
    let agreement = report.agreement.unwrap();
    let slices: Vec<_> = report.slices.iter().map(|slice| (slice.name.clone(), slice.compared, slice.agreed)).collect();
    (
        (agreement.compared, agreement.agreed, agreement.observations, agreement.nonfinite),
        [agreement.rate.unwrap(), agreement.lower, agreement.upper, agreement.one_sided_lower].map(f64::to_bits),
        [agreement.log_e, agreement.log_e_abort].map(f64::to_bits),
        report.verdict(),
        report.rows.clone(),
        report.exchanges.clone(),
        report.flips.clone(),
        slices,
        report.score_delta.map(|delta| (delta.count, delta.max_absolute.to_bits())),
        report.ranking,
    )
}

/// What the sidecar itself has recorded, with what it has counted.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_sidecar_records_gives_the_numbers_of_its_report() {
    let primary = Primary::start().await;
    let directory = tempfile::tempdir().unwrap();
    let recording = directory.path().join("made/by/the/sidecar");
    let rehearsal = Rehearsal::beside(&primary, |settings| {
        settings.record_dir = Some(recording.clone());
        // Several files.
        settings.record_file_bytes = Some(100_000);
    })
    .await;
    load::once(&primary, 0..600, 1).await;
    load::once(&primary, 600..1_000, 50).await;
    // More rows than the sample of the ranking holds.
    for _ in 0..4 {
        load::once(&primary, 0..1_000, 50).await;
    }
    primary.prediction().predict(adult::refused()).await.unwrap_err();
    let live = rehearsal.settled(689).await;
    let ranking = live.ranking.unwrap();
    assert!(ranking.rows < 5_000 && live.agreement.unwrap().compared == 5_000, "{ranking:?}");
    assert!(rehearsal.drain().await < 5.0);
    assert!(std::fs::read_dir(&recording).unwrap().count() > 1);
    let reader = Reader::open(&recording).unwrap();
    assert_eq!(reader.exchanges(), 689);

    let settings = shadow_sidecar::Settings {
        candidate: Some(package("adult-candidate")),
        gate: Some(0.98),
        min_duration: Some("0s".into()),
        ..shadow_sidecar::Settings::default()
    };
    let replayed = replay(&settings.validate().unwrap(), reader, |_| {}).await.unwrap();
    let rehearsed = replayed.named("").unwrap();
    assert_eq!(numbers(&report::report(rehearsed)), numbers(&live));
    let differing = rehearsed.epoch().unwrap().disagreements.kept().len() as u64;
    assert_eq!(differing, 5 * (1_000 - adult::test_set().agreed("adult_candidate", 0..1_000)), "with its examples");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_exchanges_give_the_same_numbers_as_live() {
    let primary = Primary::start().await;
    let slices = Some(vec!["sex".into(), "age:30,50".into()]);
    let rehearsal = Rehearsal::beside(&primary, |settings| settings.slices.clone_from(&slices)).await;
    let directory = tempfile::tempdir().unwrap();
    let recorder = Recorder::start(directory.path(), Bounds::default(), 1.0).unwrap();
    let request = SubscribeRequest { subscriber: "test".into(), ..SubscribeRequest::default() };
    let mut tap = primary.tap().subscribe(request).await.unwrap().into_inner();
    load::once(&primary, 0..600, 1).await;
    load::once(&primary, 600..1_000, 50).await;
    // One that the primary refuses is in it, too.
    primary.prediction().predict(adult::refused()).await.unwrap_err();
    while recorder.counts().offered < 609 {
        let message = tap.message().await.unwrap().unwrap();
        message.description.into_iter().for_each(|description| recorder.describe(description));
        message.exchanges.iter().for_each(|exchange| recorder.offer(exchange));
    }
    let live = rehearsal.settled(609).await;
    assert_eq!(recorder.finish().unwrap().written, 609);

    let settings = shadow_sidecar::Settings {
        candidate: Some(package("adult-candidate")),
        gate: Some(0.98),
        min_duration: Some("0s".into()),
        slices,
        ..shadow_sidecar::Settings::default()
    };
    let config = settings.validate().unwrap();
    let mut told = 0;
    let replayed = replay(&config, Reader::open(directory.path()).unwrap(), |offered| told = offered).await.unwrap();
    let again = report::report(replayed.named("").unwrap());
    assert_eq!(told, 609);
    assert_eq!(numbers(&again), numbers(&live));
    assert!(again.slices.len() > 3, "{:?}", again.slices);
}

/// A candidate that begins badly is rejected, for good, and is in the end as good as any: so it is in a replay, where nobody looks
/// before the end.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rejection_on_the_way_is_one_in_a_replay() {
    const ROWS: usize = 700;
    let primary = Primary::start().await;
    let candidate = Stub::describing(v2::metadata(), |request| {
        let row: usize = request.id.parse().unwrap();
        let right = v2::probability(request, "adult");
        let said = if row < 12 { 1.0 - right } else { right } as f32;
        Some(Ok(v2::outputs("3", &[("output__0", "FP32", &[1, 1], said.to_le_bytes().to_vec())])))
    })
    .await;
    let directory = tempfile::tempdir().unwrap();
    let rehearsal = Rehearsal::beside(&primary, |settings| {
        settings.candidate = Some(candidate.url());
        settings.record_dir = Some(directory.path().into());
        settings.gate = Some(0.9);
    })
    .await;
    let connection = primary.connect().await;
    for row in 0..ROWS {
        let request = ModelInferRequest { model_name: "adult".into(), ..v2::columns(row) };
        assert_eq!(connection.call(&Call::new(MODEL_INFER, &request)).await.status, Some(0));
    }
    let live = rehearsal.settled(ROWS as u64).await;
    assert_eq!(live.verdict(), Verdict::Reject, "{live:#?}");
    let agreement = live.agreement.unwrap();
    assert!(agreement.rate.unwrap() > 0.9 && agreement.log_e_abort > agreement.log_e_needed, "{agreement:?}");
    rehearsal.drain().await;

    let settings = shadow_sidecar::Settings {
        candidate: Some(candidate.url()),
        gate: Some(0.9),
        min_duration: Some("0s".into()),
        ..shadow_sidecar::Settings::default()
    };
    let reader = Reader::open(directory.path()).unwrap();
    let replayed = replay(&settings.validate().unwrap(), reader, |_| {}).await.unwrap();
    let again = report::report(replayed.named("").unwrap());
    assert_eq!(numbers(&again), numbers(&live));
}

/// What was lost before it could be recorded is missing in a replay, too.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_lost_live_is_lost_in_a_replay() {
    let primary = Primary::start().await;
    let directory = tempfile::tempdir().unwrap();
    let rehearsal = Rehearsal::beside(&primary, |settings| settings.record_dir = Some(directory.path().into())).await;
    load::once(&primary, 0..100, 10).await;
    rehearsal.settled(10).await;
    rehearsal.lose(3, 30);
    let live = rehearsal.settled(13).await;
    rehearsal.drain().await;
    let settings = shadow_sidecar::Settings {
        candidate: Some(package("adult-candidate")),
        gate: Some(0.98),
        ..shadow_sidecar::Settings::default()
    };
    let reader = Reader::open(directory.path()).unwrap();
    let replayed = replay(&settings.validate().unwrap(), reader, |_| {}).await.unwrap();
    let again = report::report(replayed.named("").unwrap());
    assert_eq!(again.exchanges.as_ref().unwrap().dropped, [("server_queue_full".to_owned(), 3)].into());
    assert_eq!((again.exchanges, again.rows), (live.exchanges, live.rows));
}
