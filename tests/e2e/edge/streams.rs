//! What bounds calls of more than one message (D9, W15, W16).

use std::time::{Duration, Instant};

use prost::Message as _;
use support::{
    Primary, SOON, endpoint,
    grpc::{Call, frame},
    wire::{DATA, END_STREAM, Frame, HEADERS, Wire},
    within,
};
use tokio_stream::StreamExt as _;
use tonic::Code;
use tonic_health::pb::HealthCheckRequest;
use tonic_reflection::pb::v1::{
    ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
    server_reflection_request::MessageRequest,
};

const WATCH: &str = "/grpc.health.v1.Health/Watch";
const SUBSCRIBE: &str = "/understudy.v1.TapService/Subscribe";
const REFLECTION: [&str; 2] = [
    "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
    "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
];

fn symbol() -> ServerReflectionRequest {
    let symbol = MessageRequest::FileContainingSymbol("inference.GRPCInferenceService".into());
    ServerReflectionRequest { host: String::new(), message_request: Some(symbol) }
}

/// D9: the deadline of a client ends its stream, and the server's own does not.
#[tokio::test]
async fn a_stream_ends_at_its_clients_deadline() {
    let primary = Primary::with(|settings| settings.request_timeout = Some("100ms".into())).await;
    let connection = primary.connect().await;
    for path in [WATCH, SUBSCRIBE] {
        for (timeout, allowed) in [("200m", 200), ("1S", 1_000)] {
            let began = Instant::now();
            let call = Call::bytes(path, frame(0, &[])).header("grpc-timeout", timeout);
            let ended = within(SOON, connection.call(&call)).await;
            let took = began.elapsed().as_millis();
            assert_eq!(ended.status, Some(Code::DeadlineExceeded as i32), "{path} {timeout}: {ended:?}");
            assert!((allowed..allowed + 1_000).contains(&took), "{path} {timeout}: {took} ms");
        }
    }
    let scrape = primary.scrape().await;
    let labels = [("method", &WATCH[1..]), ("code", "DEADLINE_EXCEEDED")];
    assert_eq!(scrape.sum("understudy_requests_total", &labels), 2.0);
    let mut unbounded = primary.health();
    let mut watching = unbounded.watch(HealthCheckRequest::default()).await.unwrap().into_inner();
    assert!(within(SOON, watching.next()).await.is_some());
    let more = tokio::time::timeout(Duration::from_millis(500), watching.next()).await;
    assert!(more.is_err(), "without a deadline of its own it stays open: {more:?}");
}

/// A stream of reflection asks again and again; the client's deadline or the server's ends it, whoever is idle.
#[tokio::test]
async fn reflection_ends_at_a_deadline() {
    let primary = Primary::with(|settings| settings.request_timeout = Some("600ms".into())).await;
    for path in REFLECTION {
        for (timeout, allowed) in [(Some("200m"), 200), (None, 600), (Some("1H"), 600)] {
            let mut wire = Wire::open(primary.grpc()).await;
            let began = Instant::now();
            let more: Vec<(&str, &str)> = timeout.map(|timeout| ("grpc-timeout", timeout)).into_iter().collect();
            wire.send(&[Frame::call(1, 0, path, &more), Frame::new(DATA, 0, 1, frame(0, &symbol().encode_to_vec()))])
                .await
                .unwrap();
            loop {
                let frame = wire.next(SOON).await.expect("an end of the stream");
                if (frame.kind, frame.flags & END_STREAM) == (HEADERS, END_STREAM) {
                    break;
                }
            }
            let took = began.elapsed().as_millis();
            assert!((allowed..allowed + 1_000).contains(&took), "{path} {timeout:?}: {took} ms");
        }
        let labels = [("method", &path[1..]), ("code", "DEADLINE_EXCEEDED")];
        assert_eq!(primary.scrape().await.sum("understudy_requests_total", &labels), 3.0);
    }
}

/// W15, W16, W10 on a stream: stock tonic's service ends with OK.
#[tokio::test]
async fn messages_of_a_stream_have_the_limit_of_all_messages() {
    let primary = Primary::start().await;
    let connection = primary.connect().await;
    for path in REFLECTION {
        for (prefix, code) in [
            ([0, 0xff, 0xff, 0xff, 0xff], Code::ResourceExhausted),
            ([0, 0, 0x10, 0, 1], Code::ResourceExhausted),
            ([7, 0, 0, 0, 0], Code::Internal),
        ] {
            let refused = within(SOON, connection.call(&Call::bytes(path, prefix.to_vec()))).await;
            assert_eq!(refused.status, Some(code as i32), "{path} {prefix:?}: {refused:?}");
        }
        let good = connection.call(&Call::new(path, &symbol())).await;
        assert_eq!(good.status, Some(0), "{good:?}");
    }
}

/// Each request of 40 bytes is answered with a file of thousands.
#[tokio::test]
async fn reflection_tells_so_many_files_on_a_stream() {
    let primary = Primary::start().await;
    let mut client = ServerReflectionClient::new(endpoint(&primary.url()).connect_lazy());
    let asked = tokio_stream::iter(std::iter::repeat_with(symbol).take(1_000));
    let mut told = client.server_reflection_info(asked).await.unwrap().into_inner();
    let mut files = 0;
    let refused = loop {
        match within(SOON, told.next()).await.expect("a status") {
            Ok(_) => files += 1,
            Err(status) => break status,
        }
    };
    assert_eq!(refused.code(), Code::ResourceExhausted, "{refused:?}");
    // Those that come in one piece with the first that is too many are not answered either.
    assert!((50..=100).contains(&files), "{files}");
    // As many as are there fit well.
    let asked = tokio_stream::iter(std::iter::repeat_with(symbol).take(50));
    let told = client.server_reflection_info(asked).await.unwrap().into_inner();
    assert_eq!(told.filter_map(Result::ok).fold(0, |count, _| count + 1).await, 50);
}

/// A stream is a call of its client for as long as it is open.
#[tokio::test]
async fn streams_of_a_client_are_counted() {
    let primary = Primary::with(|settings| settings.max_in_flight_per_client = Some(2)).await;
    let mut wire = Wire::open(primary.grpc()).await;
    wire.send(&[1, 3, 5].map(|stream| Frame::call(stream, 0, REFLECTION[0], &[]))).await.unwrap();
    let refused = loop {
        let frame = wire.next(SOON).await.expect("still open");
        if (frame.kind, frame.flags & END_STREAM) == (HEADERS, END_STREAM) {
            break frame;
        }
    };
    assert_eq!(refused.stream, 5, "the third");
}
