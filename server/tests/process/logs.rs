//! What the process says on standard error.

use serde_json::Value as Json;
use tonic::{Request, metadata::MetadataValue};
use understudy::{
    inference::{
        InferTensorContents, ModelInferRequest,
        grpc_inference_service_client::GrpcInferenceServiceClient,
        model_infer_request::{InferInputTensor, InferRequestedOutputTensor},
    },
    v1::{PredictRequest, Row, SubscribeRequest, Value, tap_service_client::TapServiceClient, value::Kind},
};

use crate::{channel, client, process::SOON, serving, young};

/// P46: whatever a client sends, a line of the log is one JSON object and nothing in it can move a terminal's cursor.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn every_line_of_the_log_is_one_object() {
    // A value of a feature, which is somebody's data.
    const CANARY: &str = "canary-7f3a";
    const HOSTILE: &str = "\u{1b}[31mred\r\n{\"level\":\"ERROR\"}\n\u{7f}\u{202e}";
    let process = serving(&["--log", "debug"]);
    let mut client = client(&process);
    let hostile = |name: &str| Value { kind: Some(Kind::Text(format!("{name} {CANARY} {HOSTILE}"))) };
    // As a category, for a number, as a name, and in a field that nobody knows.
    let rows =
        ["workclass", "age", HOSTILE, "comment"].map(|name| Row { values: [(name.to_owned(), hostile(name))].into() });
    let mut requests = vec![
        PredictRequest { model: HOSTILE.into(), ..young() },
        PredictRequest { version: HOSTILE.into(), ..young() },
        PredictRequest { request_id: HOSTILE.into(), ..young() },
    ];
    for row in rows {
        let strict = PredictRequest { rows: vec![row.clone()], policy: 1, ..young() };
        requests.extend([PredictRequest { rows: vec![row], ..young() }, strict]);
    }
    for request in requests {
        let mut request = Request::new(request);
        let bytes = MetadataValue::from_bytes(format!("{CANARY} {HOSTILE}").as_bytes());
        request.metadata_mut().insert_bin("x-any-bin", bytes);
        for name in ["x-request-id", "x-shadow-id", "traceparent", "authorization"] {
            request.metadata_mut().insert(name, format!("{CANARY} {{}} \\u001b[31m").parse().unwrap());
        }
        drop(client.predict(request).await);
    }
    let mut inference = GrpcInferenceServiceClient::new(channel(&process));
    let tensor = |name: &str, datatype: &str, text: &str| InferInputTensor {
        name: name.into(),
        datatype: datatype.into(),
        shape: vec![1],
        contents: Some(InferTensorContents {
            bytes_contents: vec![text.to_owned().into()],
            ..InferTensorContents::default()
        }),
        ..InferInputTensor::default()
    };
    let text = format!("{CANARY} {HOSTILE}");
    for inputs in [
        vec![tensor("workclass", "BYTES", &text)],
        vec![tensor("workclass", "BYTES", &text), tensor(&text, &text, &text), tensor("age", &text, &text)],
    ] {
        let good = ModelInferRequest { model_name: "adult".into(), inputs, ..ModelInferRequest::default() };
        let asked = InferRequestedOutputTensor { name: text.clone(), ..InferRequestedOutputTensor::default() };
        for request in [
            ModelInferRequest { outputs: vec![asked], ..good.clone() },
            ModelInferRequest { model_name: text.clone(), ..good.clone() },
            ModelInferRequest { id: HOSTILE.into(), ..good },
        ] {
            drop(inference.model_infer(request).await);
        }
    }
    let subscribe = SubscribeRequest { subscriber: HOSTILE.into(), ..SubscribeRequest::default() };
    let mut tap = TapServiceClient::new(channel(&process)).subscribe(subscribe).await.unwrap().into_inner();
    assert!(tap.message().await.unwrap().is_some());
    process.wait_for_log("tap subscribed");
    process.signal("TERM");
    let ended = process.wait(SOON);
    let lines: Vec<&str> = ended.stderr.lines().collect();
    assert!(lines.len() > 5, "{lines:#?}");
    for line in lines {
        let object: Json = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line:?}"));
        assert!(object["level"].is_string() && object["timestamp"].is_string(), "{line}");
        assert!(!line.chars().any(char::is_control), "{line:?}");
        assert!(!line.contains(CANARY), "a value of a request: {line}");
    }
}

#[test]
fn ready_is_told_with_every_name_that_a_probe_may_use() {
    let process = serving(&[]);
    process.grpc();
    process.signal("TERM");
    let ended = process.wait(SOON);
    let ready = ended.stderr.lines().find(|line| line.contains("\"ready\"")).unwrap();
    for name in ["liveness", "readiness", "startup", "inference.GRPCInferenceService", "model/adult", "model/adult/1"] {
        assert!(ready.contains(name), "no {name} in {ready}");
    }
}
