//! What one client may take, so that there is something left for the others (P9 to P11, P14, P17, P19 to P21, P25).

use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use http::Response;
use support::{
    Primary, SOON, adult, endpoint, eventually,
    grpc::{Call, Connection, PREDICT, frame},
    until,
    wire::{
        ACK, CONTINUATION, DATA, END_HEADERS, END_STREAM, Frame, GOAWAY, HEADERS, PING, PRIORITY, SETTINGS,
        WINDOW_UPDATE, Wire,
    },
    within,
};
use tonic::Code;
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};
use understudy::{
    edge::{
        Address, Admission, Body, Client, Cores, Edge, Front, Gate, InFlight, Inbound, Instruments, Limits, Listener,
        MessageLimits, Peer, Setup, Turn, unary,
    },
    shutdown::{Phase, Shutdown},
    telemetry,
};

use super::answers;

/// An edge before something that answers with as many bytes as it is asked for, and panics when asked for none.
struct Bare {
    address: SocketAddr,
    shutdown: Shutdown,
    admission: Arc<Admission>,
    scrape: metrics_exporter_prometheus::PrometheusHandle,
}

#[derive(Clone)]
struct Sizes(Gate);

impl Front for Sizes {
    async fn call(&self, request: http::Request<Inbound>, peer: Peer, turn: Turn) -> Response<Body> {
        let answer = |call: understudy::edge::Call, _turn| async move {
            let asked: understudy::inference::ModelReadyRequest =
                prost::Message::decode(call.message).map_err(|error| tonic::Status::internal(error.to_string()))?;
            let size: usize = asked.version.parse().expect("a number");
            assert!(size > 0, "asked for nothing");
            let name = "x".repeat(size);
            understudy::edge::Frame::encode(&understudy::inference::ModelReadyRequest { name, ..asked }, 1 << 30)
        };
        unary(request, &self.0, || Client::from(&peer), turn, answer).await.0
    }
}

fn asked(size: usize) -> understudy::inference::ModelReadyRequest {
    understudy::inference::ModelReadyRequest { name: String::new(), version: size.to_string() }
}

impl Bare {
    fn start(limits: &Limits) -> Self {
        let (shutdown, phases) = Shutdown::new();
        let recorder = telemetry::recorder(&[]).unwrap();
        let instruments = Arc::new(Instruments::new(&recorder));
        let admission = Arc::new(Admission::new(InFlight::default(), instruments.clone()));
        let messages = MessageLimits { request: 1 << 20, response: 1 << 30, time: Duration::from_secs(30) };
        let listener = Listener::bind(&"127.0.0.1:0".parse().unwrap()).unwrap();
        let Address::Tcp(address) = listener.address().unwrap() else { unreachable!("an IP address") };
        let setup = Setup {
            name: "bare",
            workers: 1,
            limits,
            tls: None,
            phases: &phases,
            instruments: &instruments,
            cores: &Cores::of(1),
        };
        Edge::start(&setup, vec![listener], &Sizes(Gate { messages, admission: admission.clone() })).unwrap();
        Self { address, shutdown, admission, scrape: recorder.handle() }
    }

    async fn counts(&self, series: &str) {
        until(SOON, series, async || self.scrape.render().lines().any(|line| line == series)).await;
    }
}

impl Drop for Bare {
    fn drop(&mut self) {
        self.shutdown.advance(Phase::Closing);
    }
}

async fn closes(wire: &mut Wire) {
    while wire.next(SOON).await.is_some() {}
}

/// P19, CVE-2019-9512, CVE-2019-9515.
#[tokio::test]
async fn floods_of_control_frames_are_cut_off() {
    let primary = Primary::start().await;
    let victim = primary.connect().await;
    let floods = [
        ("PING", Frame::new(PING, 0, 0, [1; 8])),
        ("SETTINGS", Frame::new(SETTINGS, 0, 0, [])),
        ("SETTINGS ACK", Frame::new(PING, ACK, 0, [7; 8])),
        ("PRIORITY", Frame::new(PRIORITY, 0, 7, [0, 0, 0, 3, 16])),
        ("WINDOW_UPDATE", Frame::new(WINDOW_UPDATE, 0, 0, 1_u32.to_be_bytes())),
        ("unknown", Frame::new(0xbb, 0, 0, [])),
        ("DATA", Frame::new(DATA, 0, 1, [0])),
    ];
    for (name, flood) in floods {
        let mut wire = Wire::open(primary.grpc()).await;
        let begun = Frame::new(DATA, 0, 1, [0, 0, 0, 0xff, 0xff]);
        wire.send(&[Frame::call(1, 0, PREDICT, &[]), begun]).await.unwrap();
        let burst = vec![flood; 500];
        let mut sent = 0;
        // That the server does not read any more is what is waited for.
        while wire.send(&burst).await.is_ok() && !wire.heard().await.1 {
            sent += burst.len();
            assert!(sent < 100_000, "{name}: {sent} frames and the connection is still open");
        }
        answers(&victim).await;
    }
    let floods = [("reason", "flood")];
    let cut = async || primary.scrape().await.sum("understudy_connections_cut_total", &floods);
    until(SOON, "all are counted", async || cut().await == 7.0).await;
}

/// Clients probe the bandwidth with a PING for each answer, and grant window as they read.
#[tokio::test]
async fn control_frames_that_come_with_requests_are_no_flood() {
    let primary = Primary::start().await;
    let mut wire = Wire::open(primary.grpc()).await;
    let message = prost::Message::encode_to_vec(&adult::test_set().predict(0..1));
    for n in 0..2_000 {
        let call = Frame::call(2 * n + 1, 0, PREDICT, &[]);
        let body = Frame::new(DATA, END_STREAM, 2 * n + 1, frame(0, &message));
        let extra = [
            Frame::new(PING, 0, 0, [3; 8]),
            Frame::new(WINDOW_UPDATE, 0, 0, 300_u32.to_be_bytes()),
            Frame::new(WINDOW_UPDATE, 0, 2 * n + 1, 300_u32.to_be_bytes()),
        ];
        wire.send(&[&[call, body][..], &extra].concat()).await.expect("still open");
        assert!(wire.next_of(HEADERS, 2 * n + 1).await.is_some(), "call {n}");
    }
}

/// P20.
#[tokio::test]
async fn headers_that_never_end_are_given_up_on() {
    let bare = Bare::start(&Limits { headers: Duration::from_millis(300), ..Limits::default() });
    let block = Frame::call(1, END_STREAM, PREDICT, &[]);
    // Half of a frame; a whole frame that says that another follows; one more that does not end it either.
    let half = block.to_bytes()[..30].to_vec();
    let unfinished = Frame { flags: block.flags & !END_HEADERS, ..block };
    let more = [&unfinished.to_bytes()[..], &Frame::new(CONTINUATION, 0, 1, []).to_bytes()].concat();
    for bytes in [half, unfinished.to_bytes(), more] {
        let mut wire = Wire::open(bare.address).await;
        wire.bytes(&bytes).await.unwrap();
        closes(&mut wire).await;
    }
    bare.counts(r#"understudy_connections_cut_total{reason="headers"} 3"#).await;
}

/// P21: whoever asks and never reads.
#[tokio::test]
async fn answers_that_are_never_read_are_given_up_on() {
    let bare = Bare::start(&Limits { unread: Duration::from_secs(2), ..Limits::default() });
    // A window of one byte: the answer is taken from us, but not from our memory.
    for window in [0_u32, 1] {
        let mut wire = Wire::silent(bare.address).await;
        let initial = [&4_u16.to_be_bytes()[..], &window.to_be_bytes()].concat();
        let settings = Frame::new(SETTINGS, 0, 0, initial).to_bytes();
        wire.bytes(&[b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", settings.as_slice()].concat()).await.unwrap();
        let body = frame(0, &prost::Message::encode_to_vec(&asked(100_000)));
        for stream in [1, 3, 5] {
            let data = Frame::new(DATA, END_STREAM, stream, body.clone());
            wire.send(&[Frame::call(stream, 0, PREDICT, &[]), data]).await.unwrap();
            assert!(wire.next_of(HEADERS, stream).await.is_some());
        }
        assert_eq!(bare.admission.calls(), 0, "an unread answer takes no place");
        assert!(bare.admission.bytes() >= 300_000);
        closes(&mut wire).await;
        until(SOON, "everything is given back", async || (bare.admission.calls(), bare.admission.bytes()) == (0, 0))
            .await;
    }
    bare.counts(r#"understudy_connections_cut_total{reason="unread"} 2"#).await;
}

/// P21: taking one answer now and then does not excuse the others.
#[tokio::test]
async fn each_answer_has_its_own_time_to_be_read() {
    let bare = Bare::start(&Limits { unread: Duration::from_secs(2), ..Limits::default() });
    let mut wire = Wire::without_window(bare.address).await;
    let call = |stream| {
        let body = frame(0, &prost::Message::encode_to_vec(&asked(100)));
        [Frame::call(stream, 0, PREDICT, &[]), Frame::new(DATA, END_STREAM, stream, body)]
    };
    wire.send(&call(1)).await.unwrap();
    let mut stream = 3;
    let began = Instant::now();
    let goaway = 'asking: loop {
        let taken = Frame::new(WINDOW_UPDATE, 0, stream, 1_000_u32.to_be_bytes());
        wire.send(&[&call(stream)[..], &[taken]].concat()).await.unwrap();
        loop {
            let frame = wire.next(SOON).await.expect("a GOAWAY before the end");
            match frame.kind {
                GOAWAY => break 'asking frame,
                DATA => break assert_eq!(frame.stream, stream),
                _ => {}
            }
        }
        stream += 2;
        tokio::time::sleep(Duration::from_millis(100)).await;
    };
    assert_eq!(goaway.number(4), 0, "NO_ERROR: others on this connection may end");
    assert!(began.elapsed() >= Duration::from_secs(2) && stream > 20, "{stream} {:?}", began.elapsed());
    closes(&mut wire).await;
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    until(SOON, "everything is given back", async || bare.admission.bytes() == 0).await;
}

/// P14.
#[tokio::test]
async fn a_panic_costs_one_call_and_tells_nothing() {
    let bare = Bare::start(&Limits::default());
    let connection = Connection::open(bare.address).await;
    for _ in 0..3 {
        let failed = connection.call(&Call::new("/x/y", &asked(0))).await;
        assert_eq!((failed.status, failed.message.as_str()), (Some(13), "internal error"));
        assert_eq!(connection.call(&Call::new("/x/y", &asked(10))).await.status, Some(0));
    }
    bare.counts("understudy_panics_total 3").await;
    assert_eq!(bare.admission.calls(), 0);
}

/// P25, D3: a GOAWAY, what is in flight ends, and the client goes on elsewhere.
#[tokio::test]
async fn an_aged_connection_ends_its_calls_and_takes_no_new_ones() {
    let primary = Primary::with(|settings| settings.max_connection_age = Some("500ms".into())).await;
    let mut wire = Wire::open(primary.grpc()).await;
    wire.send(&[Frame::call(1, 0, PREDICT, &[])]).await.unwrap();
    let opened = Instant::now();
    let goaway = wire.next_of(GOAWAY, 0).await.expect("a GOAWAY before the end");
    assert_eq!(goaway.number(4), 0, "NO_ERROR");
    assert!(opened.elapsed() > Duration::from_millis(400), "the age, give or take a tenth");
    // Asks whether the GOAWAY was seen: streams that crossed it on the way are still taken.
    let seen = wire.next_of(PING, 0).await.expect("a PING");
    wire.send(&[Frame::new(PING, ACK, 0, seen.payload)]).await.unwrap();
    let message = prost::Message::encode_to_vec(&adult::test_set().predict(0..1));
    wire.send(&[Frame::new(DATA, END_STREAM, 1, frame(0, &message))]).await.unwrap();
    assert!(wire.next_of(HEADERS, 1).await.is_some(), "what was in flight is answered");
    within(SOON, closes(&mut wire)).await;
    // A client that honours it and tries again what it could not send never sees an error.
    let mut client = primary.prediction();
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(2) {
        let request = || adult::test_set().predict(0..1);
        if let Err(unsent) = client.predict(request()).await {
            assert!(matches!(unsent.code(), Code::Cancelled | Code::Unavailable), "{unsent:?}");
            client.predict(request()).await.expect("a new connection is made in time");
        }
    }
}

#[tokio::test]
async fn an_address_has_so_many_connections_and_the_socket_has_none() {
    let primary = Primary::with(|settings| settings.max_connections_per_address = Some(2)).await;
    let (first, second) = (primary.connect().await, primary.connect().await);
    answers(&first).await;
    answers(&second).await;
    let mut third = Wire::silent(primary.grpc()).await;
    assert_eq!(third.next(SOON).await, None, "closed at once");
    let mut local = HealthClient::new(primary.unix_channel());
    local.check(HealthCheckRequest::default()).await.expect("the Unix socket has no address");
    drop(first);
    eventually(SOON, async || {
        let mut wire = Wire::open(primary.grpc()).await;
        wire.next(SOON).await.map(drop).ok_or_else(|| anyhow::anyhow!("closed"))
    })
    .await;
    let labels = [("outcome", "too_many_of_address")];
    assert!(primary.scrape().await.sum("understudy_connections_total", &labels) >= 1.0);
}

#[tokio::test]
async fn a_client_over_its_rate_is_told_when_to_come_back() {
    let primary = Primary::with(|settings| settings.rate_limit = Some(3)).await;
    let connection = primary.connect().await;
    for _ in 0..3 {
        answers(&connection).await;
    }
    let refused = connection.call(&Call::new(PREDICT, &adult::test_set().predict(0..1))).await;
    assert_eq!(refused.status, Some(Code::ResourceExhausted as i32), "{refused:?}");
    assert_eq!(refused.message, "busy: limit 3 calls of one client in a minute");
    let pushback: u64 = refused.metadata["grpc-retry-pushback-ms"].to_str().unwrap().parse().unwrap();
    assert!((10_000..=20_000).contains(&pushback), "a call every 20 s: {pushback}");
    assert_eq!(refused.metadata["retry-after"], "20");
    // Probes are not what the rate is for.
    for _ in 0..5 {
        primary.health().check(HealthCheckRequest::default()).await.expect("a probe");
    }
    let labels = [("reason", "client_rate")];
    assert_eq!(primary.scrape().await.sum("understudy_refused_calls_total", &labels), 1.0);
}

/// P11: what has come counts, not what is claimed, and what could not come whole is refused by its prefix.
#[tokio::test]
async fn bytes_in_flight_are_bounded() {
    let primary = Primary::with(|settings| settings.max_in_flight_bytes = Some(2_000)).await;
    let mut wire = Wire::open(primary.grpc()).await;
    let begun = |claimed: u32, sent: usize| [&[0][..], &claimed.to_be_bytes(), &vec![0; sent]].concat();
    // Four claims of half of it: they keep nothing from anybody.
    for stream in [1, 3, 5, 7] {
        wire.send(&[Frame::call(stream, 0, PREDICT, &[]), Frame::new(DATA, 0, stream, begun(1_000, 0))]).await.unwrap();
    }
    answers(&primary.connect().await).await;
    wire.send(&[Frame::call(9, 0, PREDICT, &[]), Frame::new(DATA, 0, 9, begun(1_600, 1_500))]).await.unwrap();
    let held = async || primary.scrape().await.sum("understudy_in_flight_bytes", &[]);
    until(SOON, "what has come is in flight", async || held().await == 1_500.0).await;
    wire.send(&[Frame::call(11, 0, PREDICT, &[]), Frame::new(DATA, 0, 11, begun(501, 0))]).await.unwrap();
    let refused = wire.next_of(HEADERS, 11).await.expect("an answer");
    assert_eq!(refused.flags & END_STREAM, END_STREAM, "nothing but a status");
    answers(&primary.connect().await).await;
    drop(wire);
    until(SOON, "it is given back", async || held().await == 0.0).await;
    let labels = [("reason", "bytes")];
    assert_eq!(primary.scrape().await.sum("understudy_refused_calls_total", &labels), 1.0);
}

/// A call whose message does not come is bounded by its connection and its deadline, and takes nobody's place.
#[tokio::test]
async fn half_open_calls_take_no_places() {
    let primary = Primary::with(|settings| settings.max_in_flight = Some(2)).await;
    let mut wire = Wire::open(primary.grpc()).await;
    let opened: Vec<Frame> = (0..50).map(|n| Frame::call(2 * n + 1, 0, PREDICT, &[])).collect();
    wire.send(&opened).await.unwrap();
    wire.send(&[Frame::new(PING, 0, 0, [4; 8])]).await.unwrap();
    assert!(wire.next_of(PING, 0).await.is_some(), "all were read");
    answers(&primary.connect().await).await;
}

/// P10: probes have a port of their own.
#[tokio::test]
async fn health_answers_on_the_admin_port_too() {
    let primary = Primary::start().await;
    let mut health = HealthClient::new(endpoint(&format!("http://{}", primary.admin())).connect_lazy());
    let request = HealthCheckRequest { service: "readiness".into() };
    let answer = health.check(request).await.expect("an answer").into_inner();
    assert_eq!(answer.status, 1, "SERVING");
    let unknown = health.check(HealthCheckRequest { service: "nope".into() }).await.expect_err("unknown");
    assert_eq!(unknown.code(), Code::NotFound);
    let (code, _) = support::scrape::get(primary.admin(), "/inference.GRPCInferenceService/ServerLive").await.unwrap();
    assert_eq!(code, 404, "nothing else is there");
}
