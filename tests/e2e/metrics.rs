//! What `/metrics` says is what has happened, to the last call and row.

use std::collections::BTreeSet;

use support::{
    Primary, SOON, adult, eventually,
    grpc::{Call, Connection, MODEL_INFER, PREDICT},
    scrape::{self, Scrape},
    tensors::RAW,
    until,
};
use tonic_health::pb::HealthCheckRequest;
use understudy::v1::{PredictRequest, Value, value::Kind};

const PREDICT_METHOD: &str = "understudy.v1.PredictionService/Predict";
const INFER_METHOD: &str = "inference.GRPCInferenceService/ModelInfer";
const CHECK_METHOD: &str = "grpc.health.v1.Health/Check";

/// A scrape in which `name` has reached `value`: an answer leaves before it is counted.
async fn scrape_when(primary: &Primary, name: &str, value: f64) -> Scrape {
    eventually(SOON, async || {
        let scrape = primary.scrape().await;
        let sum = scrape.sum(name, &[]);
        anyhow::ensure!(sum == value, "{name} is {sum}, expected {value}");
        Ok(scrape)
    })
    .await
}

async fn send(connection: &Connection, call: &Call, times: usize, status: i32) {
    for _ in 0..times {
        let reply = connection.call(call).await;
        assert_eq!(reply.status, Some(status), "{}", reply.message);
    }
}

#[tokio::test]
async fn calls_and_rows_are_counted_by_outcome() {
    let primary = Primary::start().await;
    let connection = primary.connect().await;
    let table = adult::test_set();
    let unknown = PredictRequest { model: "nobody".into(), ..table.predict(0..1) };
    send(&connection, &Call::new(PREDICT, &table.predict(0..100)), 2, 0).await;
    send(&connection, &Call::new(PREDICT, &table.predict(100..107)), 3, 0).await;
    send(&connection, &Call::new(MODEL_INFER, &table.columns(200..230, RAW)), 1, 0).await;
    send(&connection, &Call::new(PREDICT, &unknown), 4, 5).await;
    send(&connection, &Call::new(PREDICT, &table.predict(0..101)), 5, 8).await;
    send(&connection, &Call::bytes(PREDICT, vec![0, 0, 0, 0, 2, 255, 255]), 6, 13).await;
    send(&connection, &Call::new(PREDICT, &table.predict(0..1)).header("grpc-timeout", "0n"), 7, 4).await;
    send(&connection, &Call::new("/grpc.health.v1.Health/Check", &HealthCheckRequest::default()), 8, 0).await;
    let scrape = scrape_when(&primary, "understudy_requests_total", 36.0).await;

    let requests = |method, code| scrape.sum("understudy_requests_total", &[("method", method), ("code", code)]);
    let codes = ["OK", "NOT_FOUND", "RESOURCE_EXHAUSTED", "INTERNAL", "DEADLINE_EXCEEDED"];
    assert_eq!(codes.map(|code| requests(PREDICT_METHOD, code)), [5.0, 4.0, 5.0, 6.0, 7.0]);
    assert_eq!((requests(INFER_METHOD, "OK"), requests(CHECK_METHOD, "OK")), (1.0, 8.0));
    let errors = |kind| scrape.sum("understudy_errors_total", &[("method", PREDICT_METHOD), ("kind", kind)]);
    let kinds = ["unknown_model", "too_large_or_busy", "internal", "deadline"];
    assert_eq!(kinds.map(errors), [4.0, 5.0, 6.0, 7.0]);
    assert_eq!(scrape.sum("understudy_errors_total", &[]), 22.0, "no other errors");
    let latency = |method| scrape.sum("understudy_request_duration_seconds_count", &[("method", method)]);
    assert_eq!([PREDICT_METHOD, INFER_METHOD, CHECK_METHOD].map(latency), [27.0, 1.0, 8.0]);
    let seconds = scrape.sum("understudy_request_duration_seconds_sum", &[("method", PREDICT_METHOD)]);
    assert!(seconds > 0.0 && seconds < 60.0, "{seconds} s");

    // By class, and the probability of that class in its bucket: from LightGBM's own answers.
    let answered = [0..100, 0..100, 100..107, 100..107, 100..107, 200..230];
    let answers: Vec<f64> = answered.into_iter().flat_map(|rows| &table.primary()[rows]).copied().collect();
    for class in adult::CLASSES {
        let expected = answers.iter().filter(|probability| adult::label(**probability) == class).count();
        assert!(expected > 10, "the rows show nothing about {class}");
        let labels = [("model", "adult"), ("version", "1"), ("class", class)];
        assert_eq!(scrape.sum("understudy_predictions_total", &labels), expected as f64, "{class}");
    }
    for bound in ["0.5", "0.7", "0.9", "0.95", "1", "+Inf"] {
        let limit: f64 = bound.parse().unwrap();
        let expected = answers.iter().filter(|probability| probability.max(1.0 - *probability) <= limit).count();
        let labels = [("model", "adult"), ("version", "1"), ("le", bound)];
        assert_eq!(scrape.sum("understudy_prediction_confidence_bucket", &labels), expected as f64, "le {bound}");
    }
    assert_eq!(scrape.sum("understudy_request_rows_count", &[("model", "adult")]), 6.0);
    assert_eq!(scrape.sum("understudy_request_rows_sum", &[("model", "adult")]), 251.0);
    assert_eq!(scrape.sum("understudy_model_ready", &[("model", "adult"), ("version", "1")]), 1.0);
    assert_eq!(scrape.sum("understudy_self_tests_total", &[("outcome", "passed")]), 1.0);
}

#[tokio::test]
async fn repairs_are_counted_by_kind() {
    let primary = Primary::start().await;
    let mut request = adult::test_set().predict(0..2);
    let mut set = |row: usize, name: &str, kind| {
        request.rows[row].values.insert(name.into(), Value { kind: Some(kind) });
    };
    set(0, "age", Kind::Integer(1_000));
    set(1, "age", Kind::Number(-1.0));
    set(0, "hours_per_week", Kind::Number(40.5));
    set(0, "race", Kind::Text("Martian".into()));
    set(1, "shoe_size", Kind::Integer(44));
    set(1, "shoe_colour", Kind::Integer(44));
    let connection = primary.connect().await;
    send(&connection, &Call::new(PREDICT, &request), 3, 0).await;
    let scrape = scrape_when(&primary, "understudy_repaired_values_total", 18.0).await;
    let repairs = |kind| scrape.sum("understudy_repaired_values_total", &[("model", "adult"), ("kind", kind)]);
    let kinds = ["clamped", "coerced", "unknown_category", "unknown_feature", "truncated"];
    assert_eq!(kinds.map(repairs), [6.0, 3.0, 3.0, 6.0, 0.0]);
}

#[tokio::test]
async fn the_golden_rows_are_predicted_again_and_again() {
    let primary = Primary::with(|settings| settings.self_test_interval = Some("20ms".into())).await;
    let passed = async || primary.scrape().await.sum("understudy_self_tests_total", &[("outcome", "passed")]);
    until(SOON, "the rows were predicted three times", async || passed().await >= 3.0).await;
    assert_eq!(primary.scrape().await.sum("understudy_self_tests_total", &[("outcome", "failed")]), 0.0);
}

/// P48: whoever invents names does not fill the server's memory with series.
#[tokio::test]
async fn invented_names_make_no_series() {
    let primary = Primary::start().await;
    let connection = primary.connect().await;
    let predict = |model: String| Call::new(PREDICT, &PredictRequest { model, ..PredictRequest::default() });
    send(&connection, &predict("name".into()), 1, 5).await;
    send(&connection, &Call::bytes("/a.B/C", vec![0; 5]), 1, 12).await;
    let before = scrape_when(&primary, "understudy_requests_total", 2.0).await.samples().len();
    for n in 0..100 {
        send(&connection, &predict(format!("name{n}")), 1, 5).await;
        send(&connection, &Call::bytes(&format!("/a.B{n}/C"), vec![0; 5]), 1, 12).await;
    }
    let after = scrape_when(&primary, "understudy_requests_total", 202.0).await;
    assert_eq!(after.samples().len(), before);
    assert_eq!(after.sum("understudy_requests_total", &[("method", "other")]), 101.0);
}

#[tokio::test]
async fn every_metric_says_what_it_is() {
    let primary = Primary::start().await;
    send(&primary.connect().await, &Call::new(PREDICT, &adult::test_set().predict(0..1)), 1, 0).await;
    let scraped = scrape_when(&primary, "understudy_requests_total", 1.0).await;
    let (_, text) = scrape::get(primary.admin(), "/metrics").await.unwrap();
    let with = |what: &str| -> BTreeSet<String> {
        let names = text.lines().filter_map(|line| line.strip_prefix(what)?.split(' ').next());
        names.map(str::to_owned).collect()
    };
    let (helped, typed) = (with("# HELP "), with("# TYPE "));
    for sample in scraped.samples() {
        let name = ["_bucket", "_sum", "_count"].iter().find_map(|suffix| sample.name.strip_suffix(suffix));
        let name = name.unwrap_or(&sample.name);
        assert!(name.starts_with("understudy_"), "{name}");
        assert!(helped.contains(name) && typed.contains(name), "{name} has no HELP or no TYPE");
    }
    assert_eq!(scrape::get(primary.admin(), "/nothing").await.unwrap().0, 404);
}
