//! Several candidates at once: one stream of exchanges, and otherwise nothing in common.

use std::{
    fs,
    path::{Path, PathBuf},
};

use shadow_sidecar::config::Table;
use support::{
    Primary, Rehearsal, SOON, adult,
    collector::Collector,
    grpc::{Call, MODEL_INFER},
    load,
    rehearsal::package,
    stub::Stub,
    until, within,
};
use tonic::Code;
use understudy::{
    inference::{ModelInferRequest, ModelInferResponse},
    v1::{GetReportRequest, ListCandidatesRequest, Report, StartEpochRequest, Verdict},
};

use super::{agreement, columns, v2};

async fn report(rehearsal: &Rehearsal, candidate: &str) -> Report {
    let request = GetReportRequest { candidate: candidate.into(), ..GetReportRequest::default() };
    rehearsal.shadow().get_report(request).await.unwrap().into_inner()
}

fn settled(report: &Report, offered: u64) -> bool {
    report.exchanges.as_ref().is_some_and(|counts| counts.offered == offered && counts.in_flight == 0)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_has_a_verdict_of_its_own_and_one_that_hangs_holds_up_nobody() {
    let (collector, primary) = (Collector::start().await, Primary::start().await);
    let hanging = Stub::start(|_| None).await;
    let candidates = [
        format!("good={}", package("adult-candidate")),
        format!("bad={}", package("adult-candidate-bad")),
        format!("hanging={}", hanging.url()),
        // Nobody is there.
        "nowhere=http://127.0.0.1:9".to_owned(),
    ];
    let rehearsal = Rehearsal::alone(|settings| {
        settings.primary = Some(primary.unix_url());
        settings.candidate = None;
        settings.candidates = Some(candidates.map(Into::into).to_vec());
        settings.candidate_timeout = Some("500ms".into());
        settings.otlp_endpoint = Some(collector.url());
        settings.otlp_interval = Some("100ms".into());
    })
    .await;
    until(SOON, "all but one have an epoch", async || {
        let mut begun = 0;
        for name in ["good", "bad", "hanging", "nowhere"] {
            begun += usize::from(report(&rehearsal, name).await.exchanges.is_some());
        }
        begun == 3
    })
    .await;
    assert_eq!(within(6 * SOON, load::once(&primary, 0..2_500, 1)).await.answered, 2_500);
    for (name, column, verdict) in
        [("good", "adult_candidate", Verdict::Promote), ("bad", "adult_candidate_bad", Verdict::Reject)]
    {
        until(SOON, name, async || settled(&report(&rehearsal, name).await, 2_500)).await;
        until(SOON, "its verdict", async || report(&rehearsal, name).await.verdict() == verdict).await;
        let report = report(&rehearsal, name).await;
        assert_eq!(agreement(&report), (2_500, adult::test_set().agreed(column, 0..2_500)));
        assert_eq!(report.epoch.unwrap().candidate.unwrap().name, name);
        let several =
            "one of 4 candidates: a wrong promotion has a chance of at most 5 % for each, 20 % for any of them";
        assert_eq!(report.reasons.last().unwrap(), several);
    }
    // Why one has not begun is the first that is said of it.
    let why = report(&rehearsal, "nowhere").await.reasons;
    assert!(why[0].starts_with("no epoch can begin: candidate: "), "{why:?}");
    // The law holds for the others, too.
    let counts = report(&rehearsal, "hanging").await.exchanges.unwrap();
    assert_eq!(counts.offered, support::rehearsal::ended(&counts) + counts.in_flight);
    assert_eq!((counts.offered, counts.compared), (2_500, 0));

    let error = rehearsal.shadow().get_report(GetReportRequest::default()).await.unwrap_err();
    assert_eq!(error.code(), Code::InvalidArgument);
    assert!(["good", "bad", "hanging", "nowhere"].iter().all(|name| error.message().contains(name)), "{error}");
    let unknown = GetReportRequest { candidate: "ugly".into(), ..GetReportRequest::default() };
    assert_eq!(rehearsal.shadow().get_report(unknown).await.unwrap_err().code(), Code::NotFound);

    let list = rehearsal.shadow().list_candidates(ListCandidatesRequest {}).await.unwrap().into_inner().candidates;
    let stands: Vec<_> = list.iter().map(|it| (it.name.as_str(), it.verdict(), it.compared)).collect();
    assert_eq!(stands[..2], [("good", Verdict::Promote, 2_500), ("bad", Verdict::Reject, 2_500)]);
    assert!(!list[3].problem.is_empty(), "{list:#?}");

    until(SOON, "Prometheus tells them apart", async || {
        let scrape = rehearsal.scrape().await;
        let compared = |name: &str| scrape.sum("shadow_compared_total", &[("candidate", name), ("epoch", "1")]);
        compared("good") == 2_500.0 && compared("bad") == 2_500.0
    })
    .await;
    until(SOON, "the collector does, too", async || {
        let compared = |name: &str| collector.sum("shadow.compared", &[("candidate", name), ("epoch", "1")]);
        compared("good") == 2_500 && compared("bad") == 2_500
    })
    .await;

    // One begins anew; the others go on.
    let request = StartEpochRequest { candidate: "bad".into(), reason: "a test".into() };
    let epoch = rehearsal.shadow().start_epoch(request).await.unwrap().into_inner().epoch.unwrap();
    assert_eq!((epoch.number, epoch.candidate.unwrap().name.as_str()), (2, "bad"));
    assert_eq!(report(&rehearsal, "good").await.epoch.unwrap().number, 1);
}

/// A server with two models that differ in everything: what their outputs are called, what these are, and who was trained.
fn two_models(request: &ModelInferRequest) -> ModelInferResponse {
    match request.model_name.as_str() {
        "deeper" => {
            let probability = v2::probability(request, "adult_candidate");
            v2::outputs("1", &[("p", "FP64", &[1, 1], probability.to_le_bytes().to_vec())])
        }
        // The classes the other way round: 0 is the rich one.
        "wider" => {
            let rich = v2::probability(request, "adult_candidate_bad") > 0.5;
            v2::outputs(
                "1",
                &[("noise", "FP64", &[1], vec![0; 8]), ("class", "INT32", &[1], vec![u8::from(!rich), 0, 0, 0])],
            )
        }
        other => panic!("{other} is asked for"),
    }
}

fn token(directory: &Path, name: &str) -> PathBuf {
    let path = directory.join(name);
    fs::write(&path, name).unwrap();
    path
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_has_a_model_outputs_and_a_token_of_its_own() {
    const ROWS: usize = 300;
    let primary = Primary::start().await;
    let (shared, other) = (Stub::start(|request| Some(Ok(two_models(request)))).await, Stub::start(|_| None).await);
    let directory = tempfile::tempdir().unwrap();
    let text = |text: &str| Some(text.to_owned());
    let deeper = Table {
        name: text("a"),
        url: Some(shared.url()),
        model: text("deeper"),
        scores_output: text("p"),
        token_file: Some(token(directory.path(), "for-deeper")),
        ..Table::default()
    };
    let wider = Table {
        name: text("b"),
        url: Some(shared.url()),
        model: text("wider"),
        classes: Some(vec![">50K".into(), "<=50K".into()]),
        label_output: text("class"),
        token_file: Some(token(directory.path(), "for-wider")),
        ..Table::default()
    };
    let elsewhere = Table { name: text("c"), url: Some(other.url()), timeout: text("100ms"), ..Table::default() };
    let in_process = Table { name: text("d"), package: Some(package("adult").into()), ..Table::default() };
    let rehearsal = Rehearsal::alone(|settings| {
        settings.primary = Some(primary.unix_url());
        settings.candidate = None;
        settings.candidates = Some([deeper, wider, elsewhere, in_process].map(Into::into).to_vec());
    })
    .await;
    until(SOON, "all have an epoch", async || {
        let mut begun = 0;
        for name in ["a", "b", "c", "d"] {
            begun += usize::from(report(&rehearsal, name).await.exchanges.is_some());
        }
        begun == 4
    })
    .await;
    let connection = primary.connect().await;
    for row in 0..ROWS {
        let request = ModelInferRequest { model_name: "adult".into(), ..columns(row) };
        assert_eq!(connection.call(&Call::new(MODEL_INFER, &request)).await.status, Some(0));
    }
    for (name, column) in [("a", "adult_candidate"), ("b", "adult_candidate_bad"), ("d", "adult")] {
        until(SOON, name, async || settled(&report(&rehearsal, name).await, ROWS as u64)).await;
        let report = report(&rehearsal, name).await;
        assert_eq!(agreement(&report), (ROWS as u64, adult::test_set().agreed(column, 0..ROWS)), "{name}: {report:#?}");
        assert_eq!(report.epoch.unwrap().number, 1);
    }
    until(SOON, "the other server was asked", async || !other.asked().is_empty()).await;
    for (metadata, request) in shared.asked() {
        let bearer = format!("Bearer for-{}", request.model_name);
        assert_eq!(metadata.get("authorization").unwrap().to_str().unwrap(), bearer);
    }
    for (metadata, _) in other.asked() {
        assert!(metadata.get("authorization").is_none(), "{metadata:?}");
    }
}
