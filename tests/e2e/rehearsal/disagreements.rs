//! Examples of what two models differ on: over gRPC, on the admin port and as log records, against LightGBM's own answers.

use std::collections::BTreeSet;

use opentelemetry_proto::tonic::common::v1::any_value;
use support::{
    Primary, Rehearsal, SOON, adult,
    collector::{Collector, named},
    eventually,
    grpc::{Call, MODEL_INFER, PREDICT},
    load,
    rehearsal::package,
    stub::Stub,
    tensors::RAW,
    until, within,
};
use tonic::{Code, Status};
use understudy::{
    inference::{ModelInferRequest, ModelInferResponse},
    v1::{Disagreement, ListDisagreementsRequest, ListDisagreementsResponse, StartEpochRequest},
};

use super::v2;

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const SPAN: &str = "b7ad6b7169203331";

async fn list(rehearsal: &Rehearsal, request: ListDisagreementsRequest) -> Result<ListDisagreementsResponse, Status> {
    rehearsal.shadow().list_disagreements(request).await.map(tonic::Response::into_inner)
}

pub(super) async fn listed(rehearsal: &Rehearsal, page_size: u32) -> ListDisagreementsResponse {
    list(rehearsal, ListDisagreementsRequest { page_size, ..Default::default() }).await.unwrap()
}

/// Asks for each of the first `rows` rows by itself, in turns by both methods; the row is the id of the request.
async fn ask(primary: &Primary, rows: usize) {
    let (connection, table) = (primary.connect().await, adult::test_set());
    for row in 0..rows {
        let call = if row % 2 == 0 {
            Call::new(PREDICT, &table.predict(row..row + 1))
        } else {
            Call::new(MODEL_INFER, &table.columns(row..row + 1, RAW))
        };
        let id = row.to_string();
        let call = call.header("x-request-id", &id).header("traceparent", &format!("00-{TRACE}-{SPAN}-01"));
        assert_eq!(connection.call(&call).await.status, Some(0));
    }
}

/// On which of the first `rows` rows the bad candidate's label is another one.
fn differing(rows: usize) -> BTreeSet<usize> {
    let table = adult::test_set();
    (0..rows).filter(|row| table.agreed("adult_candidate_bad", *row..row + 1) == 0).collect()
}

fn row_of(one: &Disagreement) -> usize {
    one.join_id.parse().unwrap()
}

/// What is told is what LightGBM says, and nothing of the inputs that is only this row's.
fn check(one: &Disagreement) {
    let (row, table) = (row_of(one), adult::test_set());
    let (primary, candidate) = (table.primary()[row], table.answers["adult_candidate_bad"][row]);
    assert_eq!((one.kind.as_str(), one.row, one.candidate_status.as_str()), ("flip", Some(0), "OK"));
    assert_eq!(
        (one.primary_label.as_str(), one.candidate_label.as_str()),
        (adult::label(primary), adult::label(candidate))
    );
    assert_eq!((one.primary_score, one.candidate_score), (Some(primary), Some(candidate)));
    assert_eq!(one.delta, Some(candidate - primary));
    assert_eq!(one.difference, format!("{} -> {}", one.primary_label, one.candidate_label));
    let scores: Vec<_> = one.candidate_scores.iter().map(|score| (score.name.as_str(), score.value)).collect();
    assert_eq!((scores.len(), scores[1]), (2, (">50K", candidate)));
    assert_eq!(one.traceparent, format!("00-{TRACE}-{SPAN}-01"));
    assert!(!one.prediction_id.is_empty() && one.arrived_unix_nanos > 0, "{one:?}");
    assert!(one.primary_latency_nanos > 0 && one.candidate_latency_nanos > 0, "{one:?}");
    for (feature, cell) in table.features.iter().zip(&table.rows[row]) {
        let told = one.features.get(&feature.name).map(String::as_str);
        match &feature.categories {
            _ if cell.is_empty() => assert!(matches!(told, None | Some("missing" | "")), "{}: {told:?}", feature.name),
            Some(_) => assert_eq!(told, Some(cell.as_str()), "{}: all of them are in the schema", feature.name),
            None => {
                let told = told.unwrap();
                let number: f64 = cell.parse().unwrap();
                let edges: Vec<f64> = told
                    .split(|c: char| !(c.is_ascii_digit() || c == '.' || c == '-'))
                    .filter_map(|edge| edge.parse().ok())
                    .collect();
                let inside = match (told.as_bytes()[0], edges.as_slice()) {
                    (b'[', [from, to]) => (*from..*to).contains(&number),
                    (b'<', [to]) => number < *to,
                    (b'>', [from]) => number >= *from,
                    _ => false,
                };
                assert!(inside, "{}: {number} in {told}", feature.name);
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_row_on_which_they_differ_is_told_page_by_page() {
    const ROWS: usize = 400;
    let primary = Primary::start().await;
    let rehearsal = Rehearsal::beside(&primary, |settings| {
        settings.candidate = Some(package("adult-candidate-bad"));
        settings.slices = Some(vec!["age:30,50".into()]);
    })
    .await;
    ask(&primary, ROWS).await;
    rehearsal.settled(ROWS as u64).await;
    let expected = differing(ROWS);
    assert!((10..180).contains(&expected.len()), "fewer than are kept: {}", expected.len());

    let (mut all, mut page_token, mut pages) = (Vec::new(), String::new(), 0);
    loop {
        let request = ListDisagreementsRequest { page_size: 7, page_token, ..Default::default() };
        let page = list(&rehearsal, request).await.unwrap();
        assert!(page.disagreements.len() == 7 || page.next_page_token.is_empty());
        let epoch = page.epoch.unwrap();
        assert_eq!((epoch.number, epoch.candidate.unwrap().name.as_str()), (1, "adult-candidate-bad"));
        assert_eq!((page.seen["flip"], page.seen.len(), page.inputs.as_str()), (expected.len() as u64, 1, "redacted"));
        assert_eq!((page.kinds["age"].as_str(), page.kinds["workclass"].as_str()), ("int", "text"));
        (all, pages) = ([all, page.disagreements].concat(), pages + 1);
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    assert_eq!(pages, expected.len().div_ceil(7));
    assert_eq!(all.iter().map(row_of).collect::<BTreeSet<_>>(), expected);
    assert!(all.is_sorted_by(|a, b| a.number > b.number), "the newest first");
    for one in &all {
        check(one);
        let age: f64 = adult::test_set().rows[row_of(one)][0].parse().unwrap();
        let slice = if age < 30.0 {
            "age<30"
        } else if age < 50.0 {
            "30<=age<50"
        } else {
            "age>=50"
        };
        assert_eq!(one.slices, [slice]);
    }
    for (kind, found) in [("flip", all.len()), ("status", 0)] {
        let request = ListDisagreementsRequest { kind: kind.into(), page_size: 1_000, ..Default::default() };
        assert_eq!(list(&rehearsal, request).await.unwrap().disagreements.len(), found, "{kind}");
    }

    // The page tells the same.
    let told = rehearsal.page("/disagreements.json").await;
    let first = listed(&rehearsal, 0).await;
    assert_eq!(told, shadow_sidecar::disagreements::response_json(&first));
    assert_eq!(told["disagreements"][0]["join_id"], first.disagreements[0].join_id);

    // Another epoch has none of them, and knows whose the token is.
    let token = listed(&rehearsal, 1).await.next_page_token;
    rehearsal.shadow().start_epoch(StartEpochRequest { reason: "test".into(), ..Default::default() }).await.unwrap();
    let empty = listed(&rehearsal, 0).await;
    assert_eq!((empty.disagreements.len(), empty.seen.len(), empty.epoch.unwrap().number), (0, 0, 2));
    for request in [
        ListDisagreementsRequest { page_token: token, ..Default::default() },
        ListDisagreementsRequest { page_token: "x".into(), ..Default::default() },
        ListDisagreementsRequest { kind: "mood".into(), ..Default::default() },
    ] {
        let status = list(&rehearsal, request.clone()).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument, "{request:?}: {status}");
    }
    let status = list(&rehearsal, ListDisagreementsRequest { candidate: "x".into(), ..Default::default() }).await;
    assert_eq!(status.unwrap_err().code(), Code::NotFound);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_more_than_are_kept_a_sample_is_told() {
    const ROWS: usize = 2_000;
    let primary = Primary::start().await;
    let rehearsal = Rehearsal::beside(&primary, |settings| {
        settings.candidate = Some(package("adult-candidate-bad"));
        settings.disagreements = Some(30);
    })
    .await;
    assert_eq!(load::once(&primary, 0..ROWS, 10).await.answered, ROWS as u64 / 10);
    rehearsal.settled(ROWS as u64 / 10).await;
    let told = listed(&rehearsal, 1_000).await;
    assert_eq!(told.seen["flip"], differing(ROWS).len() as u64);
    assert!((27..=30).contains(&told.disagreements.len()), "{}", told.disagreements.len());
    assert!(told.disagreements.iter().any(|one| one.row.unwrap() > 0), "rows of a batch are told apart");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn inputs_in_full_are_told_over_grpc_only_and_none_when_none_are_kept() {
    let (collector, primary) = (Collector::start().await, Primary::start().await);
    let with = async |keep: usize, inputs: &str| {
        Rehearsal::beside(&primary, |settings| {
            settings.candidate = Some(package("adult-candidate-bad"));
            settings.disagreements = Some(keep);
            settings.disagreement_inputs = Some(inputs.into());
            settings.otlp_endpoint = (inputs == "full").then(|| collector.url());
        })
        .await
    };
    let (full, none, off) = (with(200, "full").await, with(200, "none").await, with(0, "redacted").await);
    ask(&primary, 100).await;
    for rehearsal in [&full, &none, &off] {
        rehearsal.settled(100).await;
    }
    let told = listed(&full, 0).await;
    for one in &told.disagreements {
        let cells = adult::test_set().features.iter().zip(&adult::test_set().rows[row_of(one)]);
        for (feature, cell) in cells.filter(|(_, cell)| !cell.is_empty()) {
            assert_eq!(one.features[&feature.name], *cell, "{}", feature.name);
        }
    }
    assert!(!told.disagreements.is_empty() && told.inputs == "full");
    let page = full.page("/disagreements.json").await;
    let shown = page["disagreements"].as_array().unwrap();
    assert!(
        shown.len() == told.disagreements.len() && shown.iter().all(|one| one["features"] == serde_json::json!({}))
    );

    until(SOON, "a log record", async || !collector.logs().is_empty()).await;
    for record in collector.logs() {
        let body = record.body.and_then(|body| body.value);
        assert!(matches!(&body, Some(any_value::Value::KvlistValue(all)) if all.values.is_empty()), "{body:?}");
    }

    let told = listed(&none, 0).await;
    assert!(!told.disagreements.is_empty() && told.disagreements.iter().all(|one| one.features.is_empty()));

    assert_eq!(list(&off, ListDisagreementsRequest::default()).await.unwrap_err().code(), Code::FailedPrecondition);
    let admin = off.admin();
    assert_eq!(support::scrape::get(admin, "/disagreements.json").await.unwrap().0, 404);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_candidate_that_fails_or_says_something_else_differs_too() {
    // By the row in the id: no answer, two rows for one, NaN, and else what the primary says.
    fn answer(request: &ModelInferRequest) -> Result<ModelInferResponse, Status> {
        let row: usize = request.id.parse().unwrap();
        let fp64 = |numbers: &[f64]| numbers.iter().flat_map(|number| number.to_le_bytes()).collect::<Vec<_>>();
        let probability = v2::probability(request, "adult");
        let answer = |rows: i64, numbers: &[f64]| v2::outputs("1", &[("p", "FP64", &[rows, 1], fp64(numbers))]);
        match row {
            0 => Err(Status::unavailable("Jane Doe is not here")),
            1 => Ok(answer(2, &[probability; 2])),
            2 => Ok(answer(1, &[f64::NAN])),
            _ => Ok(answer(1, &[probability])),
        }
    }
    let primary = Primary::start().await;
    let stub = Stub::start(|request| Some(answer(request))).await;
    let rehearsal = Rehearsal::beside(&primary, |settings| {
        settings.candidate = Some(stub.url());
        settings.candidate_scores_output = Some("p".into());
    })
    .await;
    let connection = primary.connect().await;
    for row in 0..10 {
        let request = ModelInferRequest { model_name: "adult".into(), ..v2::columns(row) };
        let call = Call::new(MODEL_INFER, &request).header("x-shadow-id", &row.to_string());
        assert_eq!(connection.call(&call).await.status, Some(0));
    }
    rehearsal.settled(10).await;
    let mut told = listed(&rehearsal, 0).await.disagreements;
    told.sort_by_key(row_of);
    let kinds: Vec<_> = told.iter().map(|one| (row_of(one), one.kind.as_str(), one.row)).collect();
    assert_eq!(kinds, [(0, "status", None), (1, "shape", None), (2, "nonfinite", Some(0))], "{told:#?}");
    assert_eq!((told[0].difference.as_str(), told[0].candidate_status.as_str()), ("UNAVAILABLE", "UNAVAILABLE"));
    assert_eq!(told[1].difference, "the primary answered 1 rows, the candidate 2");
    assert!(told[2].difference.ends_with("-> NaN"), "{}", told[2].difference);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn disagreements_are_log_records_with_the_trace_of_the_request() {
    const ROWS: usize = 300;
    let (collector, primary) = (Collector::start().await, Primary::start().await);
    let rehearsal = Rehearsal::beside(&primary, |settings| {
        settings.candidate = Some(package("adult-candidate-bad"));
        settings.otlp_endpoint = Some(collector.url());
        settings.disagreement_logs_per_second = Some(10_000);
    })
    .await;
    ask(&primary, ROWS).await;
    rehearsal.settled(ROWS as u64).await;
    let expected = differing(ROWS);
    let told = listed(&rehearsal, 1_000).await.disagreements;
    let records = eventually(SOON, async || {
        let records = collector.logs();
        anyhow::ensure!(records.len() == expected.len(), "{} records, expected {}", records.len(), expected.len());
        Ok(records)
    })
    .await;
    assert_eq!(collector.log_resource()["service.name"], "shadow-sidecar");
    let trace = u128::from_str_radix(TRACE, 16).unwrap().to_be_bytes();
    let span = u64::from_str_radix(SPAN, 16).unwrap().to_be_bytes();
    let mut rows = BTreeSet::new();
    for record in &records {
        assert_eq!((record.event_name.as_str(), record.flags), ("shadow.disagreement", 1));
        assert_eq!((record.trace_id.as_slice(), record.span_id.as_slice()), (trace.as_slice(), span.as_slice()));
        let attributes = named(&record.attributes);
        let one = told.iter().find(|one| one.join_id == attributes["shadow.join_id"]).expect("it is listed, too");
        assert_eq!(record.time_unix_nano, one.arrived_unix_nanos);
        for (name, value) in [
            ("shadow.model", "adult"),
            ("shadow.primary.version", "1"),
            ("shadow.candidate", "adult-candidate-bad"),
            ("shadow.candidate.version", "1"),
            ("shadow.epoch", "1"),
            ("shadow.kind", "flip"),
            ("shadow.primary.label", &one.primary_label),
            ("shadow.candidate.label", &one.candidate_label),
            ("shadow.prediction_id", &one.prediction_id),
            ("shadow.difference", &one.difference),
        ] {
            assert_eq!(attributes[name], value, "{name}");
        }
        let Some(any_value::Value::KvlistValue(body)) = record.body.as_ref().and_then(|body| body.value.clone()) else {
            panic!("no list of inputs: {:?}", record.body);
        };
        assert_eq!(named(&body.values), one.features.clone().into_iter().collect());
        rows.insert(row_of(one));
    }
    assert_eq!(rows, expected);
    // The collector has them before the sidecar knows that it has.
    eventually(SOON, async || {
        let scrape = rehearsal.scrape().await;
        let of = |outcome: &str| scrape.sum("shadow_disagreement_logs_total", &[("outcome", outcome)]);
        let got = (of("sent"), of("sampled_out"), of("failed"));
        anyhow::ensure!(got == (expected.len() as f64, 0.0, 0.0), "{got:?}");
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_more_log_records_than_wanted_the_rest_is_counted_and_the_last_are_sent_at_the_end() {
    let (collector, primary) = (Collector::start().await, Primary::start().await);
    let rehearsal = Rehearsal::beside(&primary, |settings| {
        settings.candidate = Some(package("adult-candidate-bad"));
        settings.otlp_endpoint = Some(collector.url());
        settings.disagreement_logs_per_second = Some(2);
    })
    .await;
    assert_eq!(load::once(&primary, 0..1_000, 10).await.answered, 100);
    rehearsal.settled(100).await;
    let scrape = rehearsal.scrape().await;
    let left_out = scrape.sum("shadow_disagreement_logs_total", &[("outcome", "sampled_out")]);
    assert!(within(SOON, rehearsal.drain()).await < 6.0);
    assert_eq!(left_out + collector.logs().len() as f64, differing(1_000).len() as f64);
    assert!(collector.logs().len() >= 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn log_records_that_do_not_arrive_are_counted() {
    let primary = Primary::start().await;
    let refusing = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let rehearsal = Rehearsal::beside(&primary, |settings| {
        settings.candidate = Some(package("adult-candidate-bad"));
        settings.otlp_endpoint = Some(format!("http://{refusing}"));
        settings.disagreement_logs_per_second = Some(10_000);
    })
    .await;
    assert_eq!(load::once(&primary, 0..500, 10).await.answered, 50);
    assert_eq!(rehearsal.settled(50).await.exchanges.unwrap().compared, 50);
    let expected = differing(500).len() as f64;
    let failed =
        async || rehearsal.scrape().await.sum("shadow_disagreement_logs_total", &[("outcome", "failed")]) == expected;
    until(SOON * 2, "all of them have failed", failed).await;
    assert!(within(SOON, rehearsal.drain()).await < 6.0);
}
