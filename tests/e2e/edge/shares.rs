//! What one client may take of what all share: places, bytes, time (P11, P17, P20, P21).

use std::time::{Duration, Instant};

use support::{
    Primary, SOON, adult,
    grpc::{Call, Connection, PREDICT, frame},
    until,
    wire::{DATA, END_STREAM, Frame, GOAWAY, HEADERS, Wire},
};
use tonic::Code;
use tonic_health::pb::HealthCheckRequest;

use super::answers;

fn small(stream: u32) -> [Frame; 2] {
    let message = prost::Message::encode_to_vec(&adult::test_set().predict(0..1));
    [Frame::call(stream, 0, PREDICT, &[]), Frame::new(DATA, END_STREAM, stream, frame(0, &message))]
}

/// P21: answers that nobody reads keep nobody from being answered.
#[tokio::test]
async fn unread_answers_take_no_places() {
    let primary = Primary::with(|settings| settings.max_in_flight = Some(4)).await;
    let mut wire = Wire::without_window(primary.grpc()).await;
    for n in 0..20 {
        wire.send(&small(2 * n + 1)).await.unwrap();
        let head = wire.next_of(HEADERS, 2 * n + 1).await.expect("an answer");
        assert_eq!(head.flags & END_STREAM, 0, "call {n} is refused");
    }
    answers(&primary.connect().await).await;
    let scrape = primary.scrape().await;
    assert_eq!(scrape.sum("understudy_in_flight_calls", &[]), 0.0);
    assert!(scrape.sum("understudy_in_flight_bytes", &[]) > 20.0 * 50.0, "they are in memory all the same");
}

/// P17: of calls that are not answered, complete or not, a client has its share.
#[tokio::test]
async fn a_client_has_so_many_calls_in_flight_and_another_has_as_many() {
    let primary = Primary::with(|settings| settings.max_in_flight_per_client = Some(3)).await;
    let mut wire = Wire::open(primary.grpc()).await;
    // The refusal of the fourth says that three are there: without it this test's own call could be the third.
    wire.send(&[1, 3, 5, 7].map(|stream| Frame::call(stream, 0, PREDICT, &[]))).await.unwrap();
    let refused = wire.next_of(HEADERS, 7).await.expect("an answer");
    assert_ne!(refused.flags & END_STREAM, 0);
    let here = primary.connect().await;
    let call = Call::new(PREDICT, &adult::test_set().predict(0..1));
    let refused = here.call(&call).await;
    assert_eq!(refused.status, Some(Code::ResourceExhausted as i32));
    assert_eq!(refused.message, "busy: limit 3 calls of one client in flight");
    assert_eq!(refused.metadata["grpc-retry-pushback-ms"], "50");
    answers(&Connection::open_from(2, primary.grpc()).await).await;
    drop(wire);
    until(SOON, "they are given back", async || here.call(&call).await.status == Some(0)).await;
}

/// P11: half-open uploads of one client leave room for others, and a probe needs none.
#[tokio::test]
async fn a_client_has_its_share_of_the_bytes() {
    let primary = Primary::with(|settings| {
        settings.max_in_flight_bytes = Some(40_000);
        settings.max_in_flight_bytes_per_client = Some(20_000);
    })
    .await;
    let half = |stream| {
        let prefix = [&[0][..], &15_001_u32.to_be_bytes(), &[0; 15_000]].concat();
        [Frame::call(stream, 0, PREDICT, &[]), Frame::new(DATA, 0, stream, prefix)]
    };
    let held = async || primary.scrape().await.sum("understudy_in_flight_bytes", &[]);
    let mut wire = Wire::open(primary.grpc()).await;
    wire.send(&half(1)).await.unwrap();
    until(SOON, "it is held", async || held().await == 15_000.0).await;
    wire.send(&half(3)).await.unwrap();
    let refused = wire.next_of(HEADERS, 3).await.expect("an answer");
    assert_eq!(refused.flags & END_STREAM, END_STREAM, "nothing but a status");
    let labels = [("reason", "client_bytes")];
    assert_eq!(primary.scrape().await.sum("understudy_refused_calls_total", &labels), 1.0);
    answers(&Connection::open_from(2, primary.grpc()).await).await;
    // Two more clients, and the budget is used up: an answer would not fit. A probe does.
    let mut others = Vec::new();
    for n in [3, 4] {
        let mut other = Wire::open_from(n, primary.grpc()).await;
        other
            .send(&[
                Frame::call(1, 0, PREDICT, &[]),
                Frame::new(DATA, 0, 1, [&[0][..], &[0, 0, 0x30, 0xd4], &[0; 12_480]].concat()),
            ])
            .await
            .unwrap();
        others.push(other);
    }
    until(SOON, "it is used up", async || held().await > 39_900.0).await;
    let fifth = Connection::open_from(5, primary.grpc()).await;
    let call = Call::new(PREDICT, &adult::test_set().predict(0..10));
    assert_eq!(fifth.call(&call).await.status, Some(Code::ResourceExhausted as i32));
    for _ in 0..10 {
        primary.health().check(HealthCheckRequest::default()).await.expect("a probe");
    }
}

/// What is not counted must be small.
#[tokio::test]
async fn a_probe_has_a_name_and_no_more() {
    let primary = Primary::start().await;
    let connection = primary.connect().await;
    let call = |bytes| Call::new("/grpc.health.v1.Health/Check", &HealthCheckRequest { service: "x".repeat(bytes) });
    assert_eq!(connection.call(&call(1_000)).await.status, Some(Code::InvalidArgument as i32));
    let refused = connection.call(&call(5_000)).await;
    assert_eq!(refused.status, Some(Code::ResourceExhausted as i32), "{refused:?}");
    assert!(refused.message.contains("limit 4096 bytes"), "{refused:?}");
}

/// P20: a message that does not go on coming is given up long before the call is.
#[tokio::test]
async fn a_message_that_stalls_is_given_up_on() {
    let primary = Primary::start().await;
    let mut wire = Wire::open(primary.grpc()).await;
    let began = Instant::now();
    let prefix = [&[0][..], &100_000_u32.to_be_bytes(), &[0; 5_000]].concat();
    wire.send(&[Frame::call(1, 0, PREDICT, &[]), Frame::new(DATA, 0, 1, prefix)]).await.unwrap();
    let dripping = async {
        loop {
            tokio::time::sleep(Duration::from_millis(200)).await;
            let frames = wire.heard().await.0;
            if frames.iter().any(|frame| (frame.kind, frame.stream) == (HEADERS, 1)) {
                return;
            }
            wire.send(&[Frame::new(DATA, 0, 1, [0; 20])]).await.expect("still open");
        }
    };
    support::within(Duration::from_secs(15), dripping).await;
    assert!(began.elapsed() >= Duration::from_secs(5), "{:?}", began.elapsed());
    let labels = [("code", "DEADLINE_EXCEEDED")];
    until(SOON, "it is counted", async || primary.scrape().await.sum("understudy_requests_total", &labels) == 1.0)
        .await;
    // One that is slow, but comes, is answered.
    let message = prost::Message::encode_to_vec(&adult::test_set().predict(0..60));
    let body = frame(0, &message);
    let mut wire = Wire::open(primary.grpc()).await;
    wire.send(&[Frame::call(1, 0, PREDICT, &[])]).await.unwrap();
    for piece in body.chunks(body.len() / 3 + 1) {
        tokio::time::sleep(Duration::from_millis(2_400)).await;
        wire.send(&[Frame::new(DATA, 0, 1, piece)]).await.unwrap();
    }
    wire.send(&[Frame::new(DATA, END_STREAM, 1, [])]).await.unwrap();
    assert!(wire.next_of(DATA, 1).await.is_some(), "an answer");
}

/// Refusals of calls whose messages are on their way are no attack: a connection bears thousands of them.
#[tokio::test]
async fn refusals_by_the_thousand_do_not_end_a_connection() {
    let primary = Primary::with(|settings| settings.max_in_flight_per_client = Some(1)).await;
    let mut wire = Wire::open(primary.grpc()).await;
    // It has no message yet, and keeps the only place of its client.
    wire.send(&[Frame::call(1, 0, PREDICT, &[])]).await.unwrap();
    let message = prost::Message::encode_to_vec(&adult::test_set().predict(0..1));
    // Half of them have no place, the others have no time either, which their headers say.
    for batch in 0..80 {
        let more: &[_] = if batch < 40 { &[] } else { &[("grpc-timeout", "0n")] };
        let streams = (0..100).map(|n| 2 * (100 * batch + n) + 3);
        let heads = streams.clone().map(|stream| Frame::call(stream, 0, PREDICT, more));
        wire.send(&heads.collect::<Vec<_>>()).await.unwrap();
        for _ in 0..100 {
            let refused = loop {
                let frame = wire.next(SOON).await.unwrap_or_else(|| panic!("hung up on in batch {batch}"));
                assert_ne!(frame.kind, GOAWAY, "batch {batch}: {:?}", String::from_utf8_lossy(&frame.payload));
                if frame.kind == HEADERS {
                    break frame;
                }
            };
            assert_ne!(refused.flags & END_STREAM, 0, "stream {} is answered", refused.stream);
        }
        // They were on their way when the refusals were.
        let bodies = streams.map(|stream| Frame::new(DATA, END_STREAM, stream, frame(0, &message)));
        wire.send(&bodies.collect::<Vec<_>>()).await.unwrap();
    }
}
