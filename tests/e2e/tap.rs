//! The server's copy: complete, exact, bounded, and without any effect on what a client sees.

use std::time::Instant;

use prost::Message as _;
use support::{
    Primary, SOON, adult, examples,
    grpc::{Call, MODEL_INFER, PREDICT, Reply},
    package::Package,
    primary::endpoint,
    tensors::{RAW, TYPED},
    until, within,
};
use tonic::{Code, Streaming};
use understudy::v1::{
    Exchange, Method, PredictRequest, PredictResponse, SubscribeRequest, TapCounts, TapDescription, TapMessage, Task,
    Value, tap_service_client::TapServiceClient, value::Kind,
};

async fn subscribe(primary: &Primary, request: SubscribeRequest) -> (Streaming<TapMessage>, TapDescription) {
    // On a connection of its own, and with room for 64 KiB that are not read yet.
    let endpoint = endpoint(&primary.url()).initial_stream_window_size(1 << 16).initial_connection_window_size(1 << 16);
    let mut stream = TapServiceClient::new(endpoint.connect_lazy()).subscribe(request).await.unwrap().into_inner();
    let first = stream.message().await.unwrap().expect("a description");
    assert!(first.exchanges.is_empty(), "the description comes first");
    (stream, first.description.expect("the description comes first"))
}

/// Reads until `enough` says so; what was received, and the last counts.
async fn collect(
    stream: &mut Streaming<TapMessage>,
    enough: impl Fn(&[Exchange], &TapCounts) -> bool,
) -> (Vec<Exchange>, TapCounts) {
    let mut exchanges = Vec::new();
    let mut counts = TapCounts::default();
    while !enough(&exchanges, &counts) {
        let message = within(SOON, stream.message()).await.unwrap().expect("the tap goes on");
        assert!(message.description.is_none(), "the models have not changed");
        exchanges.extend(message.exchanges);
        counts = message.counts.unwrap_or(counts);
    }
    (exchanges, counts)
}

#[tokio::test]
async fn the_description_is_the_package() {
    let primary = Primary::start().await;
    let (_, description) = subscribe(&primary, SubscribeRequest::default()).await;
    let [model] = description.models.as_slice() else { panic!("one model: {description:?}") };
    assert_eq!((model.name.as_str(), model.version.as_str(), model.task()), ("adult", "1", Task::Binary));
    assert_eq!(model.classes, adult::CLASSES);
    let file = |name: &str| std::fs::read(examples().join("models/adult/1").join(name)).unwrap();
    assert_eq!(model.schema_json, file("schema.json"));
    assert_eq!(model.reference_json, file("reference.json"));
    let (_, again) = subscribe(&primary, SubscribeRequest::default()).await;
    assert_eq!(again, description);
    let (_, other) = subscribe(&Primary::start().await, SubscribeRequest::default()).await;
    assert_ne!(other.server_instance_id, description.server_instance_id);
}

/// A message costs many times what a copy does: at a rate of thousands they must share it.
#[tokio::test]
async fn exchanges_that_follow_each_other_share_a_message() {
    let primary = Primary::start().await;
    let (mut stream, _) = subscribe(&primary, SubscribeRequest::default()).await;
    let begun = Instant::now();
    let connection = primary.connect().await;
    for row in 0..300 {
        assert_eq!(
            connection.call(&Call::new(PREDICT, &adult::test_set().predict(row..row + 1))).await.status,
            Some(0)
        );
    }
    let (mut exchanges, mut messages) = (0, 0);
    while exchanges < 300 {
        let message = within(SOON, stream.message()).await.unwrap().expect("the tap goes on");
        exchanges += message.exchanges.len();
        messages += u128::from(!message.exchanges.is_empty());
    }
    let most = begun.elapsed().as_millis() / 2 + 1;
    assert!(messages <= most, "{messages} messages, at most {most} in steps of 2 ms");
}

/// Calls of both kinds, good and refused, and what a subscriber must be told about each.
fn calls() -> Vec<(Call, Exchange)> {
    let table = adult::test_set();
    let mut wrong = table.predict(5..8);
    wrong.rows[1].values.insert("age".into(), Value { kind: Some(Kind::Text("abc".into())) });
    let exchange = |method: Method, rows| Exchange { method: method.into(), rows, ..Exchange::default() };
    let mut calls = vec![
        (Call::new(PREDICT, &table.predict(0..1)), exchange(Method::Predict, 1)),
        (Call::new(PREDICT, &table.predict(1..4)), exchange(Method::Predict, 3)),
        (Call::new(PREDICT, &wrong), Exchange { status: 3, ..exchange(Method::Predict, 3) }),
        (Call::new(MODEL_INFER, &table.columns(0..100, RAW)), exchange(Method::ModelInfer, 100)),
        (Call::new(MODEL_INFER, &table.columns(7..9, TYPED)), exchange(Method::ModelInfer, 2)),
        (Call::new(MODEL_INFER, &table.matrix(3..4, true)), exchange(Method::ModelInfer, 1)),
    ];
    let traced = Call::new(PREDICT, &table.predict(9..10))
        .header("x-request-id", "request 7")
        .header("x-shadow-id", "shadow 7")
        .header("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
        .header("grpc-timeout", "9S");
    let told = Exchange {
        request_id: "request 7".into(),
        shadow_id: "shadow 7".into(),
        traceparent: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".into(),
        deadline_nanos: 9_000_000_000,
        ..exchange(Method::Predict, 1)
    };
    calls.push((traced, told));
    calls
}

#[tokio::test]
async fn an_exchange_is_what_went_over_the_wire_to_the_byte() {
    let primary = Primary::start().await;
    let (mut stream, _) = subscribe(&primary, SubscribeRequest::default()).await;
    let connection = primary.connect().await;
    let calls = calls();
    let mut replies = Vec::new();
    for (call, _) in &calls {
        replies.push(connection.call(call).await);
    }
    let (exchanges, _) = collect(&mut stream, |exchanges, _| exchanges.len() == calls.len()).await;
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_nanos() as u64;
    for (((call, told), reply), (n, exchange)) in calls.iter().zip(&replies).zip(exchanges.iter().enumerate()) {
        assert_eq!(exchange.request, call.body[5..], "exchange {n}");
        assert_eq!(exchange.response, reply.body, "exchange {n}");
        assert_eq!(exchange.response.is_empty(), told.status != 0, "exchange {n}");
        assert_eq!(Some(exchange.status as i32), reply.status, "exchange {n}");
        assert!((1..1_000_000_000).contains(&exchange.latency_nanos), "exchange {n}: {} ns", exchange.latency_nanos);
        let age = now - exchange.arrived_unix_nanos;
        assert!(age < 60_000_000_000, "exchange {n}: arrived {age} ns ago");
        let expected = Exchange {
            sequence: n as u64 + 1,
            model: "adult".into(),
            version: "1".into(),
            request: exchange.request.clone(),
            response: exchange.response.clone(),
            arrived_unix_nanos: exchange.arrived_unix_nanos,
            latency_nanos: exchange.latency_nanos,
            ..told.clone()
        };
        assert_eq!(*exchange, expected, "exchange {n}");
    }
}

#[tokio::test]
async fn a_compressed_request_is_copied_as_it_was_understood() {
    use flate2::{Compression, write::GzEncoder};
    let primary = Primary::start().await;
    let (mut stream, _) = subscribe(&primary, SubscribeRequest::default()).await;
    let message = adult::test_set().predict(0..2).encode_to_vec();
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    std::io::Write::write_all(&mut encoder, &message).unwrap();
    let call = Call::bytes(PREDICT, support::grpc::frame(1, &encoder.finish().unwrap()));
    let reply = primary.connect().await.call(&call.header("grpc-encoding", "gzip")).await;
    let (exchanges, _) = collect(&mut stream, |exchanges, _| !exchanges.is_empty()).await;
    assert_eq!((&exchanges[0].request[..], &exchanges[0].response), (&message[..], &reply.body));
}

/// A subscriber that does not read loses exchanges, is told how many, and nobody else loses anything.
#[tokio::test]
async fn what_a_stalled_subscriber_loses_is_counted_to_the_row() {
    const CALLS: usize = 800;
    let primary = Primary::with(|settings| settings.tap_queue = Some(16)).await;
    let named = |name: &str| SubscribeRequest { subscriber: name.into(), ..SubscribeRequest::default() };
    let (mut stalled, _) = subscribe(&primary, named("stalled")).await;
    let connection = primary.connect().await;
    let call = Call::new(PREDICT, &adult::test_set().predict(0..10));
    for n in 0..CALLS {
        let reply = within(SOON, connection.call(&call)).await;
        assert_eq!(reply.status, Some(0), "call {n}: {}", reply.message);
    }
    let all =
        |exchanges: &[Exchange], counts: &TapCounts| exchanges.len() as u64 + counts.dropped_queue_full == CALLS as u64;
    let (exchanges, counts) = collect(&mut stalled, all).await;
    assert_eq!((counts.offered, counts.sampled_out), (CALLS as u64, 0));
    assert!(counts.dropped_queue_full > 200, "the subscriber was not stalled: {counts:?}");
    assert_eq!(counts.dropped_rows, 10 * counts.dropped_queue_full);
    // A gap is a drop.
    let last = exchanges.last().unwrap().sequence;
    assert!(exchanges.is_sorted_by_key(|exchange| exchange.sequence) && last <= counts.offered);
    let scrape = primary.scrape().await;
    let of = |outcome| {
        let labels = [("subscriber", "stalled"), ("outcome", outcome)];
        scrape.sum("understudy_tap_exchanges_total", &labels)
    };
    assert_eq!(of("queued"), exchanges.len() as f64);
    assert_eq!(of("dropped_queue_full"), counts.dropped_queue_full as f64);
    // Reading again, it loses nothing more.
    connection.call(&call).await;
    let (exchanges, _) = collect(&mut stalled, |exchanges, _| !exchanges.is_empty()).await;
    assert_eq!(exchanges[0].sequence, CALLS as u64 + 1);
}

#[tokio::test]
async fn a_sample_is_a_random_share_and_the_rest_is_counted() {
    const CALLS: u64 = 1_600;
    let primary = Primary::start().await;
    let (mut stream, _) = subscribe(&primary, SubscribeRequest { sample_rate: 0.25, ..Default::default() }).await;
    let connection = primary.connect().await;
    let call = Call::new(PREDICT, &adult::test_set().predict(0..1));
    for _ in 0..CALLS {
        assert_eq!(connection.call(&call).await.status, Some(0));
    }
    let all = |exchanges: &[Exchange], counts: &TapCounts| {
        counts.offered + counts.sampled_out == CALLS && exchanges.len() as u64 == counts.offered
    };
    let (exchanges, counts) = collect(&mut stream, all).await;
    // Six standard deviations of 17.3 around 400: fails once in 500 million runs.
    assert!((296..=504).contains(&counts.offered), "{counts:?}");
    assert_eq!(counts.dropped_queue_full, 0);
    assert!(exchanges.iter().map(|exchange| exchange.sequence).eq(1..=counts.offered), "no gap without a drop");
    for rate in [-0.1, 1.1, f64::NAN, f64::INFINITY] {
        let request = SubscribeRequest { sample_rate: rate, ..Default::default() };
        let error = primary.tap().subscribe(request).await.unwrap_err();
        assert_eq!(error.code(), Code::InvalidArgument, "{rate}");
        assert!(error.message().contains("sample_rate"), "{error:?}");
    }
}

#[tokio::test]
async fn a_subscriber_gets_the_models_that_it_asked_for() {
    let other = Package::copy(&examples().join("models/adult/1"), "other");
    let models = vec![examples().join("models/adult"), other.repository().to_owned()];
    let primary = Primary::with(|settings| settings.models = Some(models)).await;
    let request = SubscribeRequest { models: vec!["other".into()], ..Default::default() };
    let (mut stream, description) = subscribe(&primary, request).await;
    let names: Vec<&str> = description.models.iter().map(|model| model.name.as_str()).collect();
    assert_eq!(names, ["adult", "other"]);
    for model in ["adult", "other", "adult", "other"] {
        let request = PredictRequest { model: model.into(), ..adult::test_set().predict(0..1) };
        primary.prediction().predict(request).await.unwrap();
    }
    let (exchanges, _) = collect(&mut stream, |exchanges, _| exchanges.len() == 2).await;
    let got: Vec<_> = exchanges.iter().map(|exchange| (exchange.sequence, exchange.model.as_str())).collect();
    assert_eq!(got, [(1, "other"), (2, "other")]);
}

#[tokio::test]
async fn a_tap_that_is_off_is_not_there() {
    let primary = Primary::with(|settings| settings.tap = Some("off".into())).await;
    let error = primary.tap().subscribe(SubscribeRequest::default()).await.unwrap_err();
    assert_eq!(error.code(), Code::Unimplemented);
}

#[tokio::test]
async fn a_subscriber_that_has_gone_is_forgotten() {
    let primary = Primary::start().await;
    let subscribers = async || primary.scrape().await.sum("understudy_tap_subscribers", &[]);
    assert_eq!(subscribers().await, 0.0);
    let first = subscribe(&primary, SubscribeRequest::default()).await;
    let second = subscribe(&primary, SubscribeRequest::default()).await;
    assert_eq!(subscribers().await, 2.0);
    for (left, gone) in [(1.0, first), (0.0, second)] {
        drop(gone);
        until(SOON, "it is forgotten", async || subscribers().await == left).await;
    }
}

/// Calls, and the answers with zeros for the prediction ids, which are all that may differ.
async fn masked_answers(primary: &Primary) -> Vec<(Option<i32>, String, Vec<u8>)> {
    let connection = primary.connect().await;
    let mut answers = Vec::new();
    for start in (0..1_000).step_by(10) {
        let call = Call::new(PREDICT, &adult::test_set().predict(start..start + start % 7));
        let Reply { status, message, body, .. } = connection.call(&call).await;
        let mut bytes = body.to_vec();
        for prediction in PredictResponse::decode(body).unwrap().predictions {
            let id = prediction.prediction_id.as_bytes();
            let at = bytes.windows(id.len()).position(|window| window == id).expect("the id is in its answer");
            bytes[at..at + id.len()].fill(b'0');
        }
        answers.push((status, message, bytes));
    }
    answers
}

/// P5, P3: nobody who observes, stalls or goes changes a byte of an answer.
#[tokio::test]
async fn answers_are_the_same_with_and_without_subscribers() {
    let primary = Primary::with(|settings| settings.tap_queue = Some(4)).await;
    // prost writes maps in any order unless told otherwise; ours must be stable for this to hold at all.
    let alone = masked_answers(&primary).await;
    assert_eq!(alone.iter().filter(|(status, ..)| *status == Some(0)).count(), 100);
    let stalled = subscribe(&primary, SubscribeRequest::default()).await;
    let (mut reading, _) = subscribe(&primary, SubscribeRequest::default()).await;
    let reader = tokio::spawn(async move { while let Ok(Some(_)) = reading.message().await {} });
    assert!(masked_answers(&primary).await == alone, "answers differ while somebody listens");
    drop(stalled);
    reader.abort();
    assert!(masked_answers(&primary).await == alone, "answers differ after somebody has listened");
}

/// P48: names of subscribers are clients' words, and each subscriber may keep a queue.
#[tokio::test]
async fn subscribers_are_bounded_and_so_are_their_names() {
    let primary = Primary::with(|settings| settings.tap_subscribers = Some(2)).await;
    let named = |n: usize| SubscribeRequest { subscriber: format!("name-{n}"), ..SubscribeRequest::default() };
    for n in 0..30 {
        until(SOON, "a place is free", async || primary.tap().subscribe(named(n)).await.is_ok()).await;
    }
    let scrape = primary.scrape().await;
    let names: std::collections::BTreeSet<_> = scrape
        .samples()
        .iter()
        .filter(|sample| sample.name == "understudy_tap_exchanges_total")
        .map(|sample| sample.labels["subscriber"].clone())
        .collect();
    assert_eq!(names.len(), 17, "sixteen and other: {names:?}");
    assert!(names.contains("other"));
    let gone = async || primary.scrape().await.sum("understudy_tap_subscribers", &[]) == 0.0;
    until(SOON, "they have gone", gone).await;
    let _both = [subscribe(&primary, named(1)).await, subscribe(&primary, named(2)).await];
    let refused = primary.tap().subscribe(named(3)).await.unwrap_err();
    assert_eq!((refused.code(), refused.message()), (Code::ResourceExhausted, "too many subscribers: limit 2"));
}
