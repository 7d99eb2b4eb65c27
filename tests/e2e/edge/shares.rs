//! What one client may take of what all share: places, bytes, time (P11, P17, P20, P21).

use support::{
    Primary, SOON, adult,
    grpc::{Call, Connection, PREDICT, frame},
    until,
    wire::{DATA, END_STREAM, Frame, HEADERS, Wire},
};
use tonic::Code;

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
    wire.send(&[1, 3, 5].map(|stream| Frame::call(stream, 0, PREDICT, &[]))).await.unwrap();
    let here = primary.connect().await;
    let call = Call::new(PREDICT, &adult::test_set().predict(0..1));
    until(SOON, "the fourth is refused", async || {
        here.call(&call).await.status == Some(Code::ResourceExhausted as i32)
    })
    .await;
    let refused = here.call(&call).await;
    assert_eq!(refused.message, "busy: limit 3 calls of one client in flight");
    assert_eq!(refused.metadata["grpc-retry-pushback-ms"], "50");
    answers(&Connection::open_from(2, primary.grpc()).await).await;
    drop(wire);
    until(SOON, "they are given back", async || here.call(&call).await.status == Some(0)).await;
}
