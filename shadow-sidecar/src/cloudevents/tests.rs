#![allow(clippy::unwrap_used, reason = "a test fails by a panic")]

use std::{collections::BTreeMap, convert::Infallible};

use http::{Response, StatusCode};
use http_body_util::BodyExt as _;
use hyper::{body::Incoming, service::service_fn};
use hyper_util::{rt::TokioIo, server::conn::auto};
use prost::Message as _;
use tokio::net::TcpListener;
use understudy::{
    inference::{
        InferTensorContents, ModelInferRequest, ModelInferResponse, model_infer_request::InferInputTensor,
        model_infer_response::InferOutputTensor,
    },
    v1::{Exchange, Method, Prediction, Row, Value as Sent},
};

use super::*;

type Event = (BTreeMap<String, String>, Value);

/// A sink that answers `status`, and the events that it gets.
async fn sink(status: StatusCode) -> (Sink, mpsc::UnboundedReceiver<Event>) {
    answering(move |_| status).await
}

/// A sink that answers its calls, counted from 0, as `answer` says.
async fn answering(
    answer: impl Fn(usize) -> StatusCode + Clone + Send + 'static,
) -> (Sink, mpsc::UnboundedReceiver<Event>) {
    let calls = Arc::new(AtomicUsize::new(0));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/events", listener.local_addr().unwrap()).parse().unwrap();
    let (send, events) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (send, calls, answer) = (send.clone(), calls.clone(), answer.clone());
            let service = service_fn(move |request: Request<Incoming>| {
                let (send, status) = (send.clone(), answer(calls.fetch_add(1, Ordering::Relaxed)));
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
    let text = |text: &str| text.to_owned();
    let sink = Sink {
        url,
        source: text("http://adult.models"),
        service: text("income"),
        namespace: text("models"),
        ..Sink::default()
    };
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
        if counts.ended() == offered {
            return counts;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("{:?}", events.counts());
}

#[tokio::test]
async fn both_halves_go_with_the_same_id_and_the_attributes_of_kserve() {
    let (sink, mut got) = sink(StatusCode::ACCEPTED).await;
    let events = CloudEvents::start(sink).unwrap();
    events.offer(&Offered::new(predict()));
    let (headers, body) = got.recv().await.unwrap();
    for (name, value) in [
        ("ce-specversion", "1.0"),
        ("ce-type", "org.kubeflow.serving.inference.request"),
        ("ce-metadata", "{%22X-Request-Id%22:[%22from%20the%20client%22]}"),
        ("ce-source", "http://adult.models"),
        ("ce-time", "2023-11-14T22:13:20.000000001Z"),
        ("ce-inferenceservicename", "income"),
        ("ce-namespace", "models"),
        ("content-type", "application/json"),
    ] {
        assert_eq!(headers[name], value, "{name}");
    }
    let id = headers["ce-id"].clone();
    assert_eq!(body, json!({ "id": "q", "instances": [{ "age": 39, "workclass": "a\nb" }] }));
    let (headers, body) = got.recv().await.unwrap();
    assert_eq!(headers["ce-type"], "org.kubeflow.serving.inference.response");
    assert_eq!(headers["ce-id"], id);
    assert_eq!(body["predictions"][0]["probabilities"], json!({ "<=50K": 0.25, ">50K": 0.75 }));
    assert_eq!(settled(&events, 1).await, Counts { offered: 1, sent: 1, ..Counts::default() });
}

/// The calls that one request of a user leads to have its id; each is an exchange of its own.
#[tokio::test]
async fn siblings_of_one_request_are_events_of_their_own() {
    let (sink, mut got) = sink(StatusCode::OK).await;
    let events = CloudEvents::start(Sink { mode: Mode::Request, ..sink }).unwrap();
    for _ in 0..3 {
        events.offer(&Offered::new(predict()));
    }
    settled(&events, 3).await;
    let mut ids = std::collections::BTreeSet::new();
    while let Ok((headers, _)) = got.try_recv() {
        assert_eq!(headers["ce-metadata"], "{%22X-Request-Id%22:[%22from%20the%20client%22]}");
        ids.insert((headers["ce-source"].clone(), headers["ce-id"].clone()));
    }
    assert_eq!(ids.len(), 3, "{ids:?}");
}

#[tokio::test]
async fn a_sink_that_fails_is_tried_again_a_few_times() {
    let (sink, mut got) = answering(|call| if call < 2 { StatusCode::BAD_GATEWAY } else { StatusCode::OK }).await;
    let events = CloudEvents::start(sink).unwrap();
    events.offer(&Offered::new(predict()));
    assert_eq!(settled(&events, 1).await, Counts { offered: 1, sent: 1, ..Counts::default() });
    let mut ids = Vec::new();
    while let Ok((headers, _)) = got.try_recv() {
        ids.push((headers["ce-type"].rsplit('.').next().unwrap().to_owned(), headers["ce-id"].clone()));
    }
    let id = ids.first().map(|(_, id)| id.clone()).unwrap_or_default();
    let tried = ["request", "request", "request", "response"].map(|kind| (kind.to_owned(), id.clone()));
    assert_eq!(ids, tried, "the same event, by its id");
}

#[tokio::test]
async fn what_does_not_arrive_is_counted_by_its_reason() {
    for (status, expected) in [
        (StatusCode::FORBIDDEN, Counts { offered: 1, refused: 1, ..Counts::default() }),
        (StatusCode::SERVICE_UNAVAILABLE, Counts { offered: 1, failed: 1, ..Counts::default() }),
    ] {
        let (refusing, mut got) = sink(status).await;
        let events = CloudEvents::start(refusing).unwrap();
        events.offer(&Offered::new(predict()));
        assert_eq!(settled(&events, 1).await, expected);
        let mut types = Vec::new();
        while let Ok((headers, _)) = got.try_recv() {
            types.push(headers["ce-type"].clone());
        }
        let tries = if status == StatusCode::FORBIDDEN { 1 } else { 1 + PAUSES.len() };
        assert_eq!(types, vec![REQUEST; tries], "no answer without its request");
    }
    let events = CloudEvents::start(Sink { url: "http://127.0.0.1:1/".parse().unwrap(), ..Sink::default() }).unwrap();
    events.offer(&Offered::new(predict()));
    let torn = Exchange { request: Bytes::from_static(b"\xff"), ..predict() };
    events.offer(&Offered::new(torn));
    let counts = settled(&events, 2).await;
    assert_eq!((counts.unreachable, counts.undecodable), (1, 1), "{counts:?}");
}

#[tokio::test]
async fn batches_hold_what_waits_in_json() {
    let (sink, mut got) = sink(StatusCode::OK).await;
    let events =
        CloudEvents::start(Sink { batch: 10, mode: Mode::Response, namespace: String::new(), ..sink }).unwrap();
    for n in 0..40 {
        events.offer(&Offered::new(Exchange { request_id: n.to_string(), ..predict() }));
    }
    assert_eq!(settled(&events, 40).await.sent, 40);
    let (mut ids, mut calls) = (Vec::new(), 0);
    while let Ok((headers, body)) = got.try_recv() {
        assert_eq!(headers["content-type"], "application/cloudevents-batch+json");
        let batch = body.as_array().unwrap();
        assert!((1..=10).contains(&batch.len()));
        for event in batch {
            assert_eq!((event["type"].as_str(), event["specversion"].as_str()), (Some(RESPONSE), Some("1.0")));
            assert_eq!(event["data"]["predictions"][0]["label"], ">50K");
            assert!(event.get("namespace").is_none(), "nothing is said where there is nothing to say");
            let metadata: Value = serde_json::from_str(event["metadata"].as_str().unwrap()).unwrap();
            ids.push(metadata["X-Request-Id"][0].as_str().unwrap().parse::<u32>().unwrap());
        }
        calls += 1;
    }
    ids.sort_unstable();
    assert_eq!(ids, (0..40).collect::<Vec<_>>());
    assert!(calls < 40, "{calls} calls");
}

#[tokio::test]
async fn a_sink_that_hangs_costs_a_bounded_queue_and_a_bounded_end() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap()).parse().unwrap();
    let events = CloudEvents::start(Sink { url, ..Sink::default() }).unwrap();
    for _ in 0..QUEUE + 500 {
        events.offer(&Offered::new(predict()));
    }
    let counts = events.counts();
    // The callers may have taken one each already.
    assert!((500 - CALLS as u64..=500).contains(&counts.dropped), "{counts:?}");
    events.finish(Duration::from_millis(50)).await;
    events.offer(&Offered::new(predict()));
    let counts = events.counts();
    assert_eq!(counts.ended(), counts.offered, "{counts:?}");
    assert!(counts.shutdown > QUEUE as u64 - CALLS as u64, "{counts:?}");
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
