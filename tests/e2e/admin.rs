//! The admin port against whoever keeps its places (P10, P20): it is where probes come.

use std::{
    net::{Ipv4Addr, SocketAddr},
    time::{Duration, Instant},
};

use support::{
    Primary, SOON, endpoint, scrape,
    wire::{Frame, PING, Wire},
    within,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpSocket, TcpStream},
};
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};

async fn connect_from(n: u8, address: SocketAddr) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind((Ipv4Addr::new(127, 0, 0, n), 0).into()).unwrap();
    socket.connect(address).await.unwrap()
}

async fn is_alive(admin: SocketAddr) {
    let asked = Instant::now();
    let (code, _) = within(SOON, scrape::get(admin, "/livez")).await.expect("an answer");
    assert_eq!(code, 200);
    assert!(asked.elapsed() < Duration::from_secs(2), "{:?}", asked.elapsed());
    let mut health = HealthClient::new(endpoint(&format!("http://{admin}")).connect_lazy());
    within(SOON, health.check(HealthCheckRequest::default())).await.expect("SERVING");
}

/// From one address, and from many: sockets that say nothing, half of a preface, all of it, or half of a request.
#[tokio::test]
async fn whoever_keeps_the_places_keeps_no_probe_out() {
    let primary = Primary::start().await;
    let admin = primary.admin();
    for greeting in [&b""[..], b"PRI * HT", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"GET /livez HTTP/1.1\r\nhost:"] {
        for addresses in [1, 10] {
            let mut held = Vec::new();
            for n in 0..300_u32 {
                let mut stream = connect_from(100 + (n % addresses) as u8, admin).await;
                stream.write_all(greeting).await.unwrap();
                held.push(stream);
            }
            is_alive(admin).await;
        }
    }
}

/// Nobody needs to come for a place to be free again.
#[tokio::test]
async fn whoever_does_not_finish_a_greeting_or_a_request_is_hung_up_on() {
    let primary = Primary::start().await;
    let mut stalled = Vec::new();
    for greeting in [&b""[..], b"PRI * HT", b"GET /livez HTTP/1.1\r\nhost:"] {
        let mut stream = TcpStream::connect(primary.admin()).await.unwrap();
        stream.write_all(greeting).await.unwrap();
        stalled.push(stream);
    }
    // A call whose message does not come: PINGs are answered.
    let mut wire = Wire::open(primary.admin()).await;
    wire.send(&[Frame::call(1, 0, "/grpc.health.v1.Health/Check", &[])]).await.unwrap();
    let answered = async {
        loop {
            // A PING after ten seconds of silence, and the answer after ten seconds, whichever is first.
            let frame = wire.next(Duration::from_secs(14)).await.expect("still open");
            if frame.stream == 1 {
                return;
            }
            if frame.kind == PING && frame.flags & 1 == 0 {
                wire.send(&[Frame::new(PING, 1, 0, frame.payload)]).await.unwrap();
            }
        }
    };
    let closed = async {
        for stream in &mut stalled {
            let mut bytes = Vec::new();
            drop(stream.read_to_end(&mut bytes).await);
        }
    };
    within(Duration::from_secs(14), async { tokio::join!(answered, closed) }).await;
    is_alive(primary.admin()).await;
}
