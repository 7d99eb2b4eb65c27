//! Copies of exchanges: every one is in one counter, and the rehearsal does not notice.

use std::{collections::BTreeMap, path::PathBuf};

use shadow_sidecar::recording::Reader;
use support::{
    Primary, Rehearsal, SOON, adult, eventually,
    grpc::{Call, MODEL_INFER, PREDICT},
    load,
    sink::Sink,
    tensors::RAW,
    within,
};
use tokio::net::TcpListener;

/// What became of the copies, by outcome, once there are `all` of them.
pub(super) async fn outcomes(rehearsal: &Rehearsal, outlet: &str, all: u64) -> BTreeMap<String, u64> {
    eventually(SOON * 2, async || {
        let scrape = rehearsal.scrape().await;
        let ours = scrape.samples().iter().filter(|sample| {
            sample.name == "shadow_outlet_exchanges_total" && sample.labels["outlet"] == outlet && sample.value > 0.0
        });
        let ours: BTreeMap<_, _> = ours.map(|it| (it.labels["outcome"].clone(), it.value as u64)).collect();
        anyhow::ensure!(ours.values().sum::<u64>() == all, "{ours:?}, expected {all} in all");
        Ok(ours)
    })
    .await
}

fn counts<const N: usize>(counts: [(&str, u64); N]) -> BTreeMap<String, u64> {
    counts.map(|(name, count)| (name.to_owned(), count)).into()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_exchange_is_two_events_of_the_same_id() {
    const ROWS: usize = 60;
    let (sink, primary) = (Sink::start("202 Accepted").await, Primary::start().await);
    let rehearsal = Rehearsal::beside(&primary, |settings| {
        settings.cloudevents_url = Some(sink.url());
        settings.cloudevents_service = Some("income".into());
        settings.cloudevents_namespace = Some("models".into());
    })
    .await;
    let (connection, table) = (primary.connect().await, adult::test_set());
    for row in 0..ROWS {
        let call = if row % 2 == 0 {
            Call::new(PREDICT, &table.predict(row..row + 1))
        } else {
            Call::new(MODEL_INFER, &table.columns(row..row + 1, RAW))
        };
        assert_eq!(connection.call(&call.header("x-request-id", &row.to_string())).await.status, Some(0));
    }
    primary.prediction().predict(adult::refused()).await.unwrap_err();
    assert_eq!(outcomes(&rehearsal, "cloudevents", ROWS as u64 + 1).await, counts([("sent", ROWS as u64 + 1)]));
    let events = sink.events();
    assert_eq!(events.len(), 2 * ROWS + 1, "what was refused has no answer");
    for row in 0..ROWS {
        let metadata = format!("{{%22X-Request-Id%22:[%22{row}%22]}}");
        let of_row = |headers: &BTreeMap<String, String>| headers.get("ce-metadata") == Some(&metadata);
        let id =
            events.iter().find(|(headers, _)| of_row(headers)).map(|(headers, _)| headers["ce-id"].clone()).unwrap();
        let own: Vec<_> = events.iter().filter(|(headers, _)| headers["ce-id"] == id).collect();
        assert!(own.iter().all(|(headers, _)| of_row(headers)), "{own:?}");
        let types: Vec<_> = own.iter().map(|(headers, _)| headers["ce-type"].rsplit('.').next().unwrap()).collect();
        assert_eq!(types, ["request", "response"], "in this order");
        for (headers, _) in &own {
            assert_eq!((&*headers["ce-inferenceservicename"], &*headers["ce-namespace"]), ("income", "models"));
            assert!(headers["ce-source"].starts_with("unix:"), "where the primary is: {headers:?}");
        }
        let (request, response) = (&own[0].1, &own[1].1);
        let probability = table.primary()[row];
        if row % 2 == 0 {
            assert_eq!(request["instances"][0]["age"].to_string(), table.rows[row][0]);
            assert_eq!(response["predictions"][0]["probabilities"][">50K"], probability);
        } else {
            assert_eq!(request["inputs"][0]["name"], "age");
            let outputs = response["outputs"].as_array().unwrap();
            let scores = outputs.iter().find(|output| output["name"] == "probabilities").unwrap();
            assert_eq!(scores["data"][1], probability);
        }
    }
    assert_eq!(rehearsal.settled(ROWS as u64 + 1).await.exchanges.unwrap().compared, ROWS as u64);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sink_that_is_away_or_hangs_costs_the_rehearsal_nothing() {
    let primary = Primary::start().await;
    let refusing = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    // Connections are taken by the kernel, and nobody ever looks at them.
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let unwilling = Sink::start("403 Forbidden").await;
    let beside = async |url: String| {
        Rehearsal::beside(&primary, |settings| {
            settings.cloudevents_url = Some(url);
            settings.cloudevents_batch = Some(100);
        })
        .await
    };
    let away = beside(format!("http://{refusing}/")).await;
    let hanging = beside(format!("http://{}/", silent.local_addr().unwrap())).await;
    let unwilling = beside(unwilling.url()).await;
    assert_eq!(load::once(&primary, 0..300, 1).await.answered, 300);
    for rehearsal in [&away, &hanging, &unwilling] {
        assert_eq!(rehearsal.settled(300).await.exchanges.unwrap().compared, 300);
    }
    assert_eq!(outcomes(&away, "cloudevents", 300).await, counts([("unreachable", 300)]));
    assert_eq!(outcomes(&unwilling, "cloudevents", 300).await, counts([("refused", 300)]));
    assert!(within(SOON, hanging.drain()).await < 6.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_recording_has_its_share_and_its_books() {
    let (primary, directory) = (Primary::start().await, tempfile::tempdir().unwrap());
    let rehearsal = Rehearsal::beside(&primary, |settings| {
        settings.record_dir = Some(directory.path().to_owned());
        settings.record_sample_rate = Some(0.5);
        settings.record_max_bytes = Some(1 << 30);
    })
    .await;
    load::once(&primary, 0..1_000, 1).await;
    let outcomes = outcomes(&rehearsal, "recording", 1_000).await;
    // Six standard deviations of 15.8 around 500.
    assert!(outcomes.len() == 2 && (405..=595).contains(&outcomes["written"]), "{outcomes:?}");
    rehearsal.drain().await;
    assert_eq!(Reader::open(directory.path()).unwrap().exchanges(), outcomes["written"]);
}

#[test]
fn what_is_wrong_is_said_at_once_and_what_would_do_nothing_is_refused() {
    let settings = shadow_sidecar::Settings {
        candidate: Some("somewhere".into()),
        cloudevents_url: Some("ftp://sink".into()),
        cloudevents_mode: Some("some".into()),
        cloudevents_batch: Some(0),
        record_sample_rate: Some(0.5),
        disagreements: Some(1_000_000),
        disagreement_inputs: Some("all".into()),
        ..shadow_sidecar::Settings::default()
    };
    let problems = settings.validate().unwrap_err().to_string();
    for setting in [
        "cloudevents-url: expected http(s)://",
        "cloudevents-mode: expected all, request or response",
        "cloudevents-batch: expected 1 to 1000, got 0",
        "record-sample-rate: only with record-dir",
        "disagreements: expected 0 to 10000",
        "disagreement-inputs: expected none, redacted or full",
    ] {
        assert!(problems.contains(setting), "{setting} in {problems}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_directory_that_can_not_be_written_is_told_at_the_start() {
    let settings = shadow_sidecar::Settings {
        candidate: Some(support::rehearsal::package("adult-candidate")),
        grpc_listen: Some("127.0.0.1:0".into()),
        admin_listen: Some("127.0.0.1:0".into()),
        record_dir: Some(PathBuf::from("/proc/nowhere")),
        ..shadow_sidecar::Settings::default()
    };
    let error = shadow_sidecar::Sidecar::start(settings.validate().unwrap()).await.unwrap_err();
    assert!(error.to_string().contains("/proc/nowhere") && error.exit_code() == 78, "{error}");
}
