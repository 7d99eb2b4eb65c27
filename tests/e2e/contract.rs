//! What is wrong with a request is said with the code of `reliability.md` section 4 (the names of the cases are its) and
//! with words that name what is wrong.

use std::fmt::Write as _;

use support::{
    Primary, adult,
    case::{Case, Expected},
    examples,
    grpc::{Call, Connection, MODEL_INFER, PREDICT, frame},
    package::Package,
    strict::strict,
    tensors::RAW,
};
use tonic::Code;
use tonic_health::pb::HealthCheckRequest;
use tonic_types::StatusExt as _;
use understudy::{
    inference::ModelMetadataRequest,
    v1::{PredictRequest, Value, value::Kind},
};

mod asked;
mod findings;
mod rows;
mod tensors;
mod wire;

/// Makes every call on one connection and fails with a table of those that were not answered as they must be.
async fn run(primary: &Primary, cases: Vec<Case>) {
    let mut connection = primary.connect().await;
    let mut complaints = Vec::new();
    for case in &cases {
        let reply = connection.call(&case.call).await;
        complaints.extend(case.complaint(&reply));
        if connection.is_closed() {
            complaints.push(format!("{}: the connection is gone", case.name));
            connection = primary.connect().await;
        }
    }
    complaints.extend(still_answers(&connection).await);
    if !complaints.is_empty() {
        let mut table = format!("{} complaints about {} calls:\n", complaints.len(), cases.len());
        for complaint in complaints {
            writeln!(table, "  {complaint}").unwrap();
        }
        panic!("{table}");
    }
}

/// Whatever came before, the next request is answered.
async fn still_answers(connection: &Connection) -> Option<String> {
    let good = PredictRequest { model: "adult".into(), ..adult::test_set().predict(0..1) };
    let case = Case::code("a good request after all", Call::new(PREDICT, &good), 0, &[]);
    case.complaint(&connection.call(&case.call).await)
}

#[tokio::test]
async fn calls_that_are_no_calls() {
    let primary = Primary::start().await;
    let (tensors, rows) = (adult::test_set().columns(0..1, RAW), adult::test_set().predict(0..1));
    let mut cases = wire::unknown_paths();
    cases.extend(wire::cases(MODEL_INFER, &tensors));
    cases.extend(wire::cases(PREDICT, &rows));
    cases.extend(wire::compressed(MODEL_INFER, &tensors));
    cases.extend(wire::compressed(PREDICT, &rows));
    run(&primary, cases).await;
}

#[tokio::test]
async fn calls_that_are_no_calls_of_the_methods_that_only_tell() {
    let primary = Primary::start().await;
    let metadata = ModelMetadataRequest { name: "adult".into(), ..ModelMetadataRequest::default() };
    let mut cases = wire::cases("/inference.GRPCInferenceService/ModelMetadata", &metadata);
    cases.extend(wire::cases("/grpc.health.v1.Health/Check", &HealthCheckRequest::default()));
    run(&primary, cases).await;
}

#[tokio::test]
async fn a_coding_that_is_not_served_is_answered_with_those_that_are() {
    let primary = Primary::start().await;
    let call = Call::bytes(PREDICT, frame(1, b"anything")).header("grpc-encoding", "snappy");
    let reply = primary.connect().await.call(&call).await;
    assert_eq!(reply.status, Some(12));
    assert_eq!(reply.metadata["grpc-accept-encoding"], "identity,gzip,deflate");
}

#[tokio::test]
async fn the_details_of_a_refusal_name_the_values_that_fit_into_a_trailer() {
    let primary = Primary::start().await;
    let mut request = adult::test_set().predict(0..50);
    for row in &mut request.rows {
        for name in ["age", "capital_gain", "capital_loss"] {
            row.values.insert(name.into(), Value { kind: Some(Kind::Text("abc".into())) });
        }
    }
    let status = primary.prediction().predict(request).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
    assert!(status.message().starts_with("row 0, feature 'age': expected a whole number from 17.0 to 90.0, got"));
    assert!(status.message().ends_with("; and 147 more"), "{}", status.message());
    let details = status.get_details_bad_request().unwrap();
    let fields: Vec<&str> = details.field_violations.iter().map(|violation| violation.field.as_str()).collect();
    // With the message in 8 KiB, which is what some clients take: 40 values and more are named.
    assert!(
        (40..100).contains(&fields.len()) && status.details().len() <= 4300,
        "{} of {}",
        fields.len(),
        status.details().len()
    );
    assert_eq!(fields[..4], ["rows[0].age", "rows[0].capital_gain", "rows[0].capital_loss", "rows[1].age"]);
    assert!(details.field_violations[0].description.contains("abc"), "{details:?}");
}

async fn two_models(strict: &Package) -> Primary {
    let models = vec![examples().join("models/adult"), strict.repository().to_owned()];
    Primary::with(|settings| settings.models = Some(models)).await
}

#[tokio::test]
async fn tensors_that_contradict_themselves_or_the_model() {
    let strict = strict();
    run(&two_models(&strict).await, tensors::cases()).await;
}

#[tokio::test]
async fn rows_that_are_no_rows_of_the_model() {
    let strict = strict();
    run(&two_models(&strict).await, rows::cases()).await;
}

#[tokio::test]
async fn limits_are_what_the_settings_say() {
    let primary = Primary::with(|settings| {
        settings.max_rows = Some(3);
        settings.max_request_bytes = Some(2_000);
        settings.max_response_bytes = Some(200);
    })
    .await;
    let rows = |count| Call::new(PREDICT, &adult::test_set().predict(0..count));
    let cases = vec![
        Case::code("1 row", rows(1), 0, &[]),
        Case::code("I35 an answer over the limit", rows(3), 8, &["answer", "limit 200 bytes"]),
        Case::code("I34 a row too many", rows(4), 8, &["too many rows", "limit 3", "got 4"]),
        Case::code("W16 a request over the limit", rows(40), 8, &["request", "limit 2000 bytes"]),
    ];
    run(&primary, cases).await;
}
