//! What of a body comes before anybody wants it, while calls are refused (P9).

use std::sync::Arc;

use support::{
    Primary, SOON, adult,
    grpc::{Call, Connection, PREDICT, frame},
    wire::{ACK, DATA, END_STREAM, Frame, HEADERS, PING, RST_STREAM, SETTINGS, WINDOW_UPDATE, Wire},
};
use tokio::task::JoinSet;

/// With which a stream begins...
const FULL: usize = 256 << 10;
/// ...while calls are refused.
const SMALL: usize = 2 << 10;

async fn one_call_at_a_time() -> Primary {
    Primary::with(|settings| settings.max_in_flight_per_client = Some(1)).await
}

/// The next frames until one of each of `kinds`, by kind and stream, was among them.
async fn until_all(wire: &mut Wire, kinds: &[(u8, u32)]) -> Vec<Frame> {
    let mut frames: Vec<Frame> = Vec::new();
    while !kinds.iter().all(|kind| frames.iter().any(|frame| (frame.kind, frame.stream) == *kind)) {
        frames.push(wire.next(SOON).await.expect("the connection stays open"));
    }
    frames
}

fn of(frames: &[Frame], kind: u8, stream: u32) -> &Frame {
    frames.iter().find(|frame| (frame.kind, frame.stream) == (kind, stream)).expect("it came")
}

fn call(stream: u32, body: &[u8]) -> [Frame; 2] {
    [Frame::call(stream, 0, PREDICT, &[]), Frame::new(DATA, 0, stream, body)]
}

#[tokio::test]
async fn who_is_refused_is_not_heard_to_the_end() {
    let primary = one_call_at_a_time().await;
    let mut wire = Wire::open(primary.grpc()).await;
    let greeting = wire.next_of(SETTINGS, 0).await.unwrap();
    assert_eq!(greeting.setting(4), Some(FULL as u32));
    wire.send(&[Frame::new(SETTINGS, ACK, 0, [])]).await.unwrap();
    let body = frame(0, &prost::Message::encode_to_vec(&adult::test_set().predict(0..100)));
    assert!(body.len() > 2 * SMALL, "{}", body.len());

    // One whose body is still to come, and one for which there is no room.
    wire.send(&call(1, &body[..10])).await.unwrap();
    wire.send(&[Frame::new(PING, 0, 0, [1; 8])]).await.unwrap();
    wire.next_of(PING, 0).await.unwrap();
    wire.send(&call(3, &body[..SMALL])).await.unwrap();
    let frames = until_all(&mut wire, &[(HEADERS, 3), (SETTINGS, 0), (WINDOW_UPDATE, 1)]).await;
    assert!(of(&frames, HEADERS, 3).flags & END_STREAM > 0, "refused");
    assert_eq!(of(&frames, SETTINGS, 0).setting(4), Some(SMALL as u32), "for all streams");
    assert_eq!(of(&frames, WINDOW_UPDATE, 1).number(0) as usize, FULL - SMALL, "but not for what somebody waits for");
    // The library below knows nothing of it, so it would end the connection for an answer to it.
    wire.send(&[Frame::new(SETTINGS, ACK, 0, []), Frame::new(PING, 0, 0, [2; 8])]).await.unwrap();
    wire.next_of(PING, 0).await.expect("the connection stays open");

    // Nothing can be on its way of what has used up its window: it can end without a trace.
    wire.send(&call(5, &body[..SMALL])).await.unwrap();
    let frames = until_all(&mut wire, &[(HEADERS, 5), (RST_STREAM, 5)]).await;
    assert!(of(&frames, HEADERS, 5).flags & END_STREAM > 0, "refused");
    assert_eq!(of(&frames, RST_STREAM, 5).number(0), 0, "NO_ERROR");

    // Whose body is waited for may send it.
    wire.send(&[Frame::new(DATA, 0, 1, &body[10..16_000]), Frame::new(DATA, END_STREAM, 1, &body[16_000..])])
        .await
        .unwrap();
    wire.next_of(DATA, 1).await.expect("answered");
    wire.next_of(HEADERS, 1).await.expect("its trailers");
    wire.send(&call(7, &body[..SMALL])).await.unwrap();
    let opened = wire.next_of(WINDOW_UPDATE, 7).await.expect("let in");
    assert_eq!(opened.number(0) as usize, FULL - SMALL);
    let rest = [&body[SMALL..16_000], &body[16_000..]];
    wire.send(&[Frame::new(DATA, 0, 7, rest[0]), Frame::new(DATA, END_STREAM, 7, rest[1])]).await.unwrap();
    wire.next_of(DATA, 7).await.expect("answered");
}

/// Whatever is read in between: the head of a frame may come in two pieces.
#[tokio::test]
async fn settings_of_the_peer_are_not_taken_for_an_answer_to_ours() {
    let primary = one_call_at_a_time().await;
    let mut wire = Wire::open(primary.grpc()).await;
    wire.send(&[Frame::new(SETTINGS, ACK, 0, [])]).await.unwrap();
    wire.send(&call(1, &[0])).await.unwrap();
    wire.send(&[Frame::new(PING, 0, 0, [1; 8])]).await.unwrap();
    wire.next_of(PING, 0).await.unwrap();
    wire.send(&call(3, &[0])).await.unwrap();
    let frames = until_all(&mut wire, &[(HEADERS, 3), (SETTINGS, 0)]).await;
    assert_eq!(of(&frames, SETTINGS, 0).setting(4), Some(SMALL as u32));
    // Empty ones of its own, which look the same until their flags are there.
    let settings = Frame::new(SETTINGS, 0, 0, []).to_bytes();
    wire.bytes(&settings[..4]).await.unwrap();
    wire.heard().await;
    wire.bytes(&settings[4..]).await.unwrap();
    let answer = wire.next_of(SETTINGS, 0).await.expect("answered");
    assert_eq!((answer.flags, answer.payload.len()), (ACK, 0));
    let answer = Frame::new(SETTINGS, ACK, 0, []).to_bytes();
    wire.bytes(&answer[..4]).await.unwrap();
    wire.heard().await;
    wire.bytes(&answer[4..]).await.unwrap();
    wire.send(&[Frame::new(PING, 0, 0, [3; 8])]).await.unwrap();
    wire.next_of(PING, 0).await.expect("the connection stays open");
}

/// A client that knows nothing of it but the protocol.
#[tokio::test]
async fn whoever_is_let_in_among_refusals_is_answered() {
    let primary = Primary::with(|settings| settings.max_in_flight_per_client = Some(4)).await;
    let connection = Arc::new(Connection::open(primary.grpc()).await);
    let large = Arc::new(Call::new(PREDICT, &adult::test_set().predict(0..100)));
    let mut callers = JoinSet::new();
    for _ in 0..32 {
        let (connection, large) = (connection.clone(), large.clone());
        callers.spawn(async move {
            let mut answered = [0, 0];
            for _ in 0..50 {
                let reply = connection.call(&large).await;
                match reply.status {
                    Some(0) if reply.body.len() > 1_000 => answered[0] += 1,
                    Some(8) => answered[1] += 1,
                    _ => panic!("{reply:?}"),
                }
            }
            answered
        });
    }
    let answered: Vec<[i32; 2]> = callers.join_all().await;
    let [good, refused] = answered.iter().fold([0, 0], |[a, b], [c, d]| [a + c, b + d]);
    assert_eq!(good + refused, 1_600);
    assert!(good > 0 && refused > 0, "{good} answered, {refused} refused");
    super::answers(&connection).await;
    assert_eq!(connection.call(&large).await.status, Some(0));
}
