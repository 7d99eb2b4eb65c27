#![allow(clippy::unwrap_used, reason = "a test fails by a panic")]

use std::{collections::BTreeMap, convert::Infallible};

use http::{Response, StatusCode};
use http_body_util::BodyExt as _;
use hyper::{body::Incoming, service::service_fn};
use hyper_util::{rt::TokioIo, server::conn::auto};
use tokio::net::TcpListener;
use understudy::{
    inference::{InferTensorContents, model_infer_request::InferInputTensor, model_infer_response::InferOutputTensor},
    v1::{Prediction, Row, Value as Sent},
};

use super::*;

type Event = (BTreeMap<String, String>, Value);

/// A sink that answers `status`, and the events that it gets.
async fn sink(status: StatusCode) -> (Sink, mpsc::UnboundedReceiver<Event>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/events", listener.local_addr().unwrap()).parse().unwrap();
    let (send, events) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let send = send.clone();
            let service = service_fn(move |request: Request<Incoming>| {
                let send = send.clone();
                async move {
                    let text = |value: &http::HeaderValue| value.to_str().unwrap().to_owned();
                    let headers =
                        request.headers().iter().map(|(name, value)| (name.to_string(), text(value))).collect();
                    let body = request.into_body().collect().await.unwrap().to_bytes();
                    send.send((headers, serde_json::from_slice(&body).unwrap())).unwrap();
                    let mut response = Response::new(Full::<Bytes>::default());
                    *response.status_mut() = status;
                    Ok::<_, Infallible>(response)
                }
            });
            tokio::spawn(async move {
                drop(auto::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), service).await);
            });
        }
    });
    let sink = Sink { url, source: "http://adult.models".into(), service: "income".into(), namespace: "models".into() };
    (sink, events)
}

fn predict() -> Exchange {
    let value = |kind| Sent { kind: Some(kind) };
    let values = [("age", value(Kind::Integer(39))), ("workclass", value(Kind::Text("a\nb".into())))];
    let row = Row { values: values.map(|(name, value)| (name.to_owned(), value)).into() };
    let request = PredictRequest { rows: vec![row], request_id: "q".into(), ..Default::default() };
    let prediction = Prediction {
        prediction_id: "p-1".into(),
        label: ">50K".into(),
        probabilities: [("<=50K".to_owned(), 0.25), (">50K".to_owned(), 0.75)].into(),
        ..Default::default()
    };
    let response = PredictResponse { model: "adult".into(), predictions: vec![prediction], ..Default::default() };
    Exchange {
        method: Method::Predict.into(),
        model: "adult".into(),
        version: "1".into(),
        request: request.encode_to_vec().into(),
        response: response.encode_to_vec().into(),
        arrived_unix_nanos: 1_700_000_000_000_000_001,
        request_id: "from the client".into(),
        ..Default::default()
    }
}

async fn settled(events: &CloudEvents, offered: u64) -> Counts {
    for _ in 0..1_000 {
        let counts = events.counts();
        if counts.sent + counts.dropped + counts.failed == offered {
            return counts;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("{:?}", events.counts());
}

#[tokio::test]
async fn both_halves_go_with_the_same_id_and_the_attributes_of_kserve() {
    let (sink, mut got) = sink(StatusCode::ACCEPTED).await;
    let events = CloudEvents::start(sink);
    events.offer(&predict());
    let (headers, body) = got.recv().await.unwrap();
    for (name, value) in [
        ("ce-specversion", "1.0"),
        ("ce-type", "org.kubeflow.serving.inference.request"),
        ("ce-id", "from the client"),
        ("ce-source", "http://adult.models"),
        ("ce-time", "2023-11-14T22:13:20.000000001Z"),
        ("ce-inferenceservicename", "income"),
        ("ce-namespace", "models"),
        ("content-type", "application/json"),
    ] {
        assert_eq!(headers[name], value, "{name}");
    }
    assert_eq!(body, json!({ "id": "q", "instances": [{ "age": 39, "workclass": "a\nb" }] }));
    let (headers, body) = got.recv().await.unwrap();
    assert_eq!(headers["ce-type"], "org.kubeflow.serving.inference.response");
    assert_eq!(headers["ce-id"], "from the client");
    assert_eq!(body["predictions"][0]["probabilities"], json!({ "<=50K": 0.25, ">50K": 0.75 }));
    assert_eq!(settled(&events, 1).await, Counts { offered: 1, sent: 1, ..Counts::default() });
}

#[tokio::test]
async fn a_sink_that_refuses_or_is_not_there_is_counted() {
    let (refusing, mut got) = sink(StatusCode::SERVICE_UNAVAILABLE).await;
    let events = CloudEvents::start(refusing.clone());
    events.offer(&predict());
    assert_eq!(settled(&events, 1).await, Counts { offered: 1, failed: 1, ..Counts::default() });
    got.recv().await.unwrap();
    assert!(got.try_recv().is_err(), "nothing is sent twice, and no answer without its request");
    let nobody = Sink { url: "http://127.0.0.1:1/".parse().unwrap(), ..refusing };
    let events = CloudEvents::start(nobody);
    events.offer(&predict());
    assert_eq!(settled(&events, 1).await.failed, 1);
}

#[tokio::test]
async fn a_sink_that_hangs_costs_a_bounded_queue() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap()).parse().unwrap();
    let events =
        CloudEvents::start(Sink { url, source: String::new(), service: String::new(), namespace: String::new() });
    for _ in 0..QUEUE + 500 {
        events.offer(&predict());
    }
    let counts = events.counts();
    // The task may have taken one out.
    assert!((499..=500).contains(&counts.dropped), "{counts:?}");
}

#[test]
fn tensors_are_json_however_they_came() {
    let raw = |bytes: &[u8]| Bytes::copy_from_slice(bytes);
    let input = |name: &str, datatype: &str| InferInputTensor {
        name: name.into(),
        datatype: datatype.into(),
        shape: vec![2],
        ..Default::default()
    };
    let request = ModelInferRequest {
        inputs: vec![input("a", "FP64"), input("b", "BYTES"), input("c", "INT64"), input("d", "BOOL")],
        raw_input_contents: vec![
            raw(&[1.5_f64.to_le_bytes(), f64::NAN.to_le_bytes()].concat()),
            raw(b"\x02\0\0\0ab\0\0\0\0"),
            raw(&[(-1_i64).to_le_bytes(), i64::MAX.to_le_bytes()].concat()),
            raw(&[0, 1]),
        ],
        ..Default::default()
    };
    let data: Vec<Value> =
        tensors::request(&request)["inputs"].as_array().unwrap().iter().map(|it| it["data"].clone()).collect();
    assert_eq!(data, [json!([1.5, "NaN"]), json!(["ab", ""]), json!([-1, i64::MAX]), json!([false, true])]);
    let typed = InferTensorContents { fp32_contents: vec![0.5], ..Default::default() };
    let output = InferOutputTensor {
        name: "value".into(),
        datatype: "FP32".into(),
        shape: vec![1],
        contents: Some(typed),
        ..Default::default()
    };
    let response = ModelInferResponse { outputs: vec![output], ..Default::default() };
    assert_eq!(tensors::response(&response)["outputs"][0]["data"], json!([0.5]));
    // A length that does not fit ends the list.
    assert_eq!(
        tensors::request(&ModelInferRequest {
            inputs: vec![input("b", "BYTES")],
            raw_input_contents: vec![raw(b"\x01\0\0\0a\xff\xff\xff\xffb")],
            ..Default::default()
        })["inputs"][0]["data"],
        json!(["a"])
    );
}
