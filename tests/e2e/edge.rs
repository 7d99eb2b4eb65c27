//! The listener against clients that mean harm: what it promises on the wire (P24), and that it cuts them off while
//! everybody else is answered (P18).

use std::time::{Duration, Instant};

use support::{
    Primary, SOON, adult, eventually,
    grpc::{Call, Connection, PREDICT},
    until,
    wire::{
        ACK, CONTINUATION, DATA, END_STREAM, Frame, GOAWAY, HEADERS, PING, PRIORITY, RST_STREAM, SETTINGS,
        WINDOW_UPDATE, Wire,
    },
    within,
};

mod limits;
mod shares;
#[cfg(target_os = "linux")]
mod slices;
mod streams;
mod wedged;
mod windows;

/// RFC 9113, section 7.
const PROTOCOL_ERROR: u32 = 1;
const REFUSED_STREAM: u32 = 7;
const ENHANCE_YOUR_CALM: u32 = 11;

async fn answers(connection: &Connection) {
    let reply = connection.call(&Call::new(PREDICT, &adult::test_set().predict(0..1))).await;
    assert_eq!(reply.status, Some(0), "{reply:?}");
}

#[tokio::test]
async fn the_limits_are_told_on_the_wire() {
    let primary = Primary::start().await;
    let mut wire = Wire::open(primary.grpc()).await;
    let settings = wire.next_of(SETTINGS, 0).await.unwrap();
    assert_eq!(settings.setting(3), Some(128), "MAX_CONCURRENT_STREAMS");
    assert_eq!(settings.setting(4), Some(256 << 10), "INITIAL_WINDOW_SIZE");
    assert_eq!(settings.setting(6), Some(16 << 10), "MAX_HEADER_LIST_SIZE");
    // A connection starts with 65,535 bytes; the rest is granted by a frame.
    assert_eq!(wire.next_of(WINDOW_UPDATE, 0).await.unwrap().number(0), (1 << 20) - 65_535);
}

#[tokio::test]
async fn a_stream_too_many_is_refused_and_costs_nothing_else() {
    let primary = Primary::with(|settings| settings.max_streams = Some(5)).await;
    let mut wire = Wire::open(primary.grpc()).await;
    assert_eq!(wire.next_of(SETTINGS, 0).await.unwrap().setting(3), Some(5));
    wire.send(&[Frame::new(SETTINGS, ACK, 0, [])]).await.unwrap();
    // Bodies that never come keep the streams open.
    let opened: Vec<Frame> = (0..7).map(|n| Frame::call(2 * n + 1, 0, PREDICT, &[])).collect();
    wire.send(&opened).await.unwrap();
    for stream in [11, 13] {
        assert_eq!(wire.next_of(RST_STREAM, stream).await.unwrap().number(0), REFUSED_STREAM);
    }
    // One ends, so one more may begin.
    wire.send(&[Frame::new(DATA, END_STREAM, 1, [0; 5])]).await.unwrap();
    assert!(wire.next_of(HEADERS, 1).await.is_some());
    let message = prost::Message::encode_to_vec(&adult::test_set().predict(0..1));
    let body = Frame::new(DATA, END_STREAM, 15, support::grpc::frame(0, &message));
    wire.send(&[Frame::call(15, 0, PREDICT, &[]), body]).await.unwrap();
    assert!(wire.next_of(HEADERS, 15).await.is_some());
}

/// Sends what `attack` makes of the odd numbers until the server ends the connection; its last word and how many RST_STREAM
/// it sent before.
async fn flood(primary: &Primary, attack: impl Fn(u32) -> Vec<Frame>, most: u32) -> (Option<Frame>, u32) {
    let mut wire = Wire::open(primary.grpc()).await;
    let mut resets = 0;
    let mut stream = 1;
    while stream < 2 * most {
        let burst: Vec<Frame> = (0..50).flat_map(|n| attack(stream + 2 * n)).collect();
        stream += 100;
        // That the server does not read any more is what is waited for.
        let sent = wire.send(&burst).await;
        // Whatever the server has to say is said before it answers this.
        let asked = wire.send(&[Frame::new(PING, 0, 0, [1; 8])]).await;
        loop {
            match wire.next(SOON).await {
                Some(frame) if frame.kind == RST_STREAM => resets += 1,
                Some(frame) if frame.kind == GOAWAY => return (Some(frame), resets),
                Some(frame) if frame.kind == PING && frame.flags == ACK => break,
                Some(_) => {}
                None => return (None, resets),
            }
        }
        if sent.and(asked).is_err() {
            return (None, resets);
        }
    }
    panic!("{most} times and the connection is still open, after {resets} resets");
}

/// What is sent on a stream.
type Attack<'a> = (&'a str, Box<dyn Fn(u32) -> Vec<Frame> + 'a>);

/// CVE-2025-8671: a client that makes the server reset its own streams is let off for ever by stock tonic (D1).
#[tokio::test]
async fn made_you_reset() {
    let open = |stream| Frame::call(stream, 0, PREDICT, &[]);
    let window = |stream, by: u32| Frame::new(WINDOW_UPDATE, 0, stream, by.to_be_bytes());
    let attacks: [Attack<'_>; 4] = [
        ("window overflow", Box::new(|stream| vec![open(stream), window(stream, 0x7fff_ffff)])),
        (
            "content-length lie",
            Box::new(|stream| {
                let lie = Frame::call(stream, 0, PREDICT, &[("content-length", "1")]);
                vec![lie, Frame::new(DATA, END_STREAM, stream, [0; 5])]
            }),
        ),
        (
            "own child",
            Box::new(|stream: u32| {
                let itself = [&stream.to_be_bytes()[..], &[16]].concat();
                vec![open(stream), Frame::new(PRIORITY, 0, stream, itself)]
            }),
        ),
        (
            "no method",
            Box::new(|stream| vec![Frame::headers(stream, END_STREAM, &[(":scheme", "http"), (":path", "/")])]),
        ),
    ];
    let primary = Primary::start().await;
    let victim = primary.connect().await;
    for (name, attack) in attacks {
        let (last, resets) = flood(&primary, attack, 3_000).await;
        let goaway = last.unwrap_or_else(|| panic!("{name}: closed without a GOAWAY after {resets} resets"));
        assert_eq!(goaway.number(4), ENHANCE_YOUR_CALM, "{name}: {goaway:?}");
        assert!((900..=1_100).contains(&resets), "{name}: GOAWAY after {resets} resets");
        answers(&victim).await;
    }
}

/// A polite burst past the limit is no attack: see the comment in `Limits`.
#[tokio::test]
async fn a_burst_of_refused_streams_is_forgiven() {
    let primary = Primary::start().await;
    let mut wire = Wire::open(primary.grpc()).await;
    let burst: Vec<Frame> = (0..628).map(|n| Frame::call(2 * n + 1, 0, PREDICT, &[])).collect();
    wire.send(&burst).await.unwrap();
    for n in 128..628 {
        assert_eq!(wire.next_of(RST_STREAM, 2 * n + 1).await.expect("still open").number(0), REFUSED_STREAM);
    }
    wire.send(&[Frame::new(PING, 0, 0, [2; 8])]).await.unwrap();
    let answer = loop {
        let frame = wire.next(SOON).await.expect("still open");
        if matches!(frame.kind, PING | GOAWAY) {
            break frame;
        }
    };
    assert_eq!(answer, Frame::new(PING, ACK, 0, [2; 8]));
}

#[tokio::test]
async fn floods_end_the_connection_of_whoever_sends_them() {
    let open = |stream| Frame::call(stream, 0, PREDICT, &[]);
    let primary = Primary::start().await;
    let victim = primary.connect().await;
    // CVE-2023-44487: opened and reset before the server has looked at it.
    let reset = |stream| vec![open(stream), Frame::new(RST_STREAM, 0, stream, 8_u32.to_be_bytes())];
    let (last, _) = flood(&primary, reset, 3_000).await;
    assert_eq!(last.expect("a GOAWAY").number(4), ENHANCE_YOUR_CALM);
    answers(&victim).await;
    // Headers without end.
    let mut endless = Wire::open(primary.grpc()).await;
    let mut first = open(1);
    first.flags = 0;
    endless.send(&[first]).await.unwrap();
    let more = Frame::new(CONTINUATION, 0, 1, [0x10, 1, b'a', 1, b'b'].repeat(200));
    let goaway = cut_off(&mut endless, &more).await;
    assert_eq!(goaway.number(4), ENHANCE_YOUR_CALM, "CONTINUATION");
    answers(&victim).await;
    // Data that is none.
    let mut empty = Wire::open(primary.grpc()).await;
    empty.send(&[open(1)]).await.unwrap();
    let goaway = cut_off(&mut empty, &Frame::new(DATA, 0, 1, [])).await;
    assert_eq!(goaway.number(4), ENHANCE_YOUR_CALM, "DATA");
    answers(&victim).await;
}

/// Sends `frame` until the server says GOAWAY.
async fn cut_off(wire: &mut Wire, frame: &Frame) -> Frame {
    let burst = vec![frame.clone(); 50];
    for _ in 0..200 {
        // That the server does not read any more is what is waited for.
        drop(wire.send(&burst).await);
        let (frames, closed) = wire.heard().await;
        if let Some(goaway) = frames.into_iter().find(|frame| frame.kind == GOAWAY) {
            return goaway;
        }
        assert!(!closed, "closed without a GOAWAY");
    }
    panic!("10,000 frames and the connection is still open");
}

/// W37, W41: what is no HTTP/2 or not allowed in it.
#[tokio::test]
async fn whoever_speaks_something_else_is_hung_up_on() {
    let primary = Primary::start().await;
    let victim = primary.connect().await;
    for greeting in [
        &b"GET /v2/health/ready HTTP/1.1\r\nhost: x\r\n\r\n"[..],
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\nsomething that is no frame at all, but long enough to be taken for one",
    ] {
        let mut wire = Wire::silent(primary.grpc()).await;
        wire.bytes(greeting).await.unwrap();
        while wire.next(Duration::from_secs(5)).await.is_some() {}
    }
    for (name, value) in [("Upper", "x"), ("x-broken", "a\r\nb: c"), ("x-nul", "a\0b"), ("connection", "close")] {
        let mut wire = Wire::open(primary.grpc()).await;
        wire.send(&[Frame::call(1, END_STREAM, PREDICT, &[(name, value)])]).await.unwrap();
        let answer = loop {
            let frame = wire.next(SOON).await.unwrap_or_else(|| panic!("{name}: closed without a word"));
            if matches!(frame.kind, HEADERS | RST_STREAM | GOAWAY) {
                break frame;
            }
        };
        let code = match answer.kind {
            RST_STREAM => answer.number(0),
            GOAWAY => answer.number(4),
            _ => panic!("{name}: {value:?} was taken for a header: {answer:?}"),
        };
        assert_eq!(code, PROTOCOL_ERROR, "{name}");
    }
    answers(&victim).await;
}

/// P20, D5: a place is not kept for whoever never asks for anything.
#[tokio::test]
async fn whoever_does_not_finish_the_greeting_is_hung_up_on() {
    let primary = Primary::start().await;
    let mut silent = Wire::silent(primary.grpc()).await;
    let mut stalled = Wire::silent(primary.grpc()).await;
    stalled.bytes(b"PRI * HTTP/2.0\r\n").await.unwrap();
    // "All closed within 6 s"; a second more for a busy machine.
    let closed = async |wire: &mut Wire| while wire.next(SOON).await.is_some() {};
    let both = async { tokio::join!(closed(&mut silent), closed(&mut stalled)) };
    within(Duration::from_secs(7), both).await;
}

/// D7, P12: the deadline holds for the body, too, and so does the server's own.
#[tokio::test]
async fn a_body_that_never_comes_is_given_up_on() {
    let primary = Primary::with(|settings| settings.request_timeout = Some("400ms".into())).await;
    let mut wire = Wire::open(primary.grpc()).await;
    for (stream, timeout, least) in [(1, "200m", 200), (3, "1H", 400)] {
        let head = Frame::call(stream, 0, PREDICT, &[("grpc-timeout", timeout)]);
        let half = Frame::new(DATA, 0, stream, [0, 0, 0, 0, 9, 1, 2]);
        let begun = Instant::now();
        wire.send(&[head, half]).await.unwrap();
        let answer = wire.next_of(HEADERS, stream).await.expect("an answer");
        assert_eq!(answer.flags & END_STREAM, END_STREAM, "nothing but a status");
        let took = begun.elapsed().as_millis();
        assert!((least..least + 1_000).contains(&took), "{timeout}: {took} ms");
    }
    let labels = [("code", "DEADLINE_EXCEEDED")];
    let counted = async || primary.scrape().await.sum("understudy_requests_total", &labels);
    until(SOON, "both are counted", async || counted().await == 2.0).await;
}

/// A peer that has gone without a word is found out by PINGs; one that answers them may stay.
#[tokio::test]
async fn whoever_does_not_answer_a_ping_is_taken_for_dead() {
    let primary = Primary::with(|settings| {
        settings.keepalive_interval = Some("100ms".into());
        settings.keepalive_timeout = Some("300ms".into());
    })
    .await;
    let (mut dead, mut alive) = (Wire::open(primary.grpc()).await, Wire::open(primary.grpc()).await);
    let dying = async { while dead.next(SOON).await.is_some() {} };
    let living = async {
        for _ in 0..8 {
            let ping = next_ping(&mut alive).await;
            alive.send(&[Frame::new(PING, ACK, 0, ping.payload)]).await.expect("still open");
        }
    };
    within(Duration::from_secs(5), async { tokio::join!(dying, living) }).await;
    let silent = [("reason", "silent")];
    assert_eq!(primary.scrape().await.sum("understudy_connections_cut_total", &silent), 1.0);
}

async fn next_ping(wire: &mut Wire) -> Frame {
    wire.next_of(PING, 0).await.expect("a PING")
}

/// W34, W35.
#[tokio::test]
async fn headers_over_the_limit_are_refused_and_cost_nothing_else() {
    let primary = Primary::start().await;
    let connection = primary.connect().await;
    let good = || Call::new(PREDICT, &adult::test_set().predict(0..1));
    assert_eq!(connection.call(&good().header("x-long", &"x".repeat(20 << 10))).await.http, 431);
    let mut many = good();
    many.headers.extend((0..1_000).map(|n| (format!("x-{n}").parse().ok(), "x".parse().unwrap())));
    assert_eq!(connection.call(&many).await.http, 431);
    answers(&connection).await;
    assert_eq!(connection.call(&good().header("x-long", &"x".repeat(10 << 10))).await.status, Some(0));
}

#[tokio::test]
async fn a_connection_too_many_is_closed_and_a_place_that_is_free_is_taken() {
    let primary = Primary::with(|settings| settings.max_connections = Some(3)).await;
    let mut inside = Vec::new();
    for _ in 0..3 {
        let connection = primary.connect().await;
        answers(&connection).await;
        inside.push(connection);
    }
    let mut outside = Wire::silent(primary.grpc()).await;
    assert_eq!(outside.next(SOON).await, None, "closed at once");
    for connection in &inside {
        answers(connection).await;
    }
    inside.pop();
    eventually(SOON, async || {
        let mut wire = Wire::open(primary.grpc()).await;
        wire.next(SOON).await.map(drop).ok_or_else(|| anyhow::anyhow!("closed"))
    })
    .await;
}
