//! P10, P11, P20, P21: one client that takes what all share (places, bytes, the admin port) by calls that are valid, as far as they go.

use std::time::{Duration, Instant};

use support::{
    adult::test_set,
    grpc::{Call, PREDICT, frame},
    promises::Report,
    scrape::{self, Scrape},
    target::{How, Target},
    wire::{ACK, DATA, END_STREAM, Frame, PING, SETTINGS, WINDOW_UPDATE, Wire},
};
use tokio::{
    io::AsyncWriteExt as _,
    time::{sleep, timeout},
};

use crate::stall::{connect_from, open_from};

/// The attacker's address and the victim's: [`open_from`] counts from 127.0.1.1.
const ATTACKER: u32 = 200;
const HEALTH: &str = "/grpc.health.v1.Health/Check";
/// Streams of a connection.
const STREAMS: u32 = 128;

/// How many of ten calls and ten probes of a victim are answered with OK.
async fn victim(target: &Target) -> (usize, usize) {
    let connection = target.connect().await;
    let (mut answered, mut probed) = (0, 0);
    for _ in 0..10 {
        let call = Call::new(PREDICT, &test_set().predict(0..1));
        answered += usize::from(connection.call(&call).await.status == Some(0));
        let probe = Call::bytes(HEALTH, frame(0, b"\x0a\x08liveness"));
        probed += usize::from(connection.call(&probe).await.status == Some(0));
    }
    (answered, probed)
}

/// Answers PINGs; true when the server has ended the connection.
async fn keep_alive(wire: &mut Wire) -> bool {
    let (heard, closed) = wire.heard().await;
    for frame in heard.into_iter().filter(|frame| frame.kind == PING && frame.flags & ACK == 0) {
        drop(wire.send(&[Frame::new(PING, ACK, 0, frame.payload)]).await);
    }
    closed
}

/// P11: as many half-open uploads as one address may have connections for.
pub(crate) async fn half_open(report: &mut Report, how: &How) {
    const CONNECTIONS: u32 = 4;
    let flags = ["--max-in-flight-bytes", "16777216", "--max-in-flight-bytes-per-client", "4194304"];
    let target = match how.start(&flags).await {
        Ok(target) => target,
        Err(why) => return report.not_applicable("P11", "half-open uploads of one address", &why),
    };
    let mut wires = Vec::new();
    for _ in 0..CONNECTIONS {
        let Ok(mut wire) = open_from(target.grpc, ATTACKER).await else { continue };
        for stream in (0..STREAMS).map(|n| 2 * n + 1) {
            // Within the window of a stream before the settings are acknowledged.
            let begun = [&[0][..], &1_000_000_u32.to_be_bytes(), &[0; 16_000]].concat();
            let more = Frame::new(DATA, 0, stream, vec![0; 16_000]);
            let frames = [Frame::call(stream, 0, PREDICT, &[]), Frame::new(DATA, 0, stream, begun), more.clone(), more];
            drop(timeout(Duration::from_millis(300), wire.send(&frames)).await);
            drop(wire.heard().await);
        }
        wires.push(wire);
    }
    sleep(Duration::from_millis(300)).await;
    let held = Scrape::of(target.admin).await.sum("understudy_in_flight_bytes", &[]);
    let (answered, probed) = victim(&target).await;
    let text = format!("{:.1} MiB held; victim {answered} of 10, probes {probed} of 10", held / f64::from(1 << 20));
    let kept = answered == 10 && probed == 10 && held <= f64::from(4 << 20) + 65_536.0;
    report.line(
        "P11",
        "half-open uploads of one address",
        "at most its share; victim and probes answered",
        &text,
        kept,
    );
    let begun = Instant::now();
    let left = async || Scrape::of(target.admin).await.sum("understudy_in_flight_bytes", &[]);
    while left().await > 0.0 && begun.elapsed() < Duration::from_secs(12) {
        for wire in &mut wires {
            keep_alive(wire).await;
        }
        sleep(Duration::from_millis(100)).await;
    }
    let text = format!("{} bytes held after {:.1?}", left().await, begun.elapsed());
    report.line("P20", "and then", "messages without progress ended <= 10 s", &text, begun.elapsed().as_secs() < 11);
}

/// P21: 33 × 128 tiny answers that are ready and not read: more than there are places for.
pub(crate) async fn unread(report: &mut Report, target: &Target, quick: bool) {
    const CONNECTIONS: usize = 33;
    let body = frame(0, &prost::Message::encode_to_vec(&test_set().predict(0..1)));
    let mut wires = Vec::new();
    for _ in 0..CONNECTIONS {
        let Ok(mut wire) = open_from(target.grpc, ATTACKER).await else { continue };
        drop(wire.send(&[Frame::new(SETTINGS, 0, 0, [0, 4, 0, 0, 0, 0])]).await);
        for first in (0..STREAMS).step_by(8) {
            let calls = (first..first + 8).flat_map(|n| {
                let stream = 2 * n + 1;
                [Frame::call(stream, 0, PREDICT, &[]), Frame::new(DATA, END_STREAM, stream, body.clone())]
            });
            drop(wire.send(&calls.collect::<Vec<_>>()).await);
            sleep(Duration::from_millis(3)).await;
        }
        wires.push(wire);
    }
    sleep(Duration::from_millis(500)).await;
    let scrape = Scrape::of(target.admin).await;
    let (places, bytes) =
        (scrape.sum("understudy_in_flight_calls", &[]), scrape.sum("understudy_in_flight_bytes", &[]));
    let (answered, probed) = victim(target).await;
    let text = format!("{bytes} bytes unread, {places} places taken; victim {answered} of 10, probes {probed} of 10");
    let kept = answered == 10 && probed == 10 && bytes > 0.0;
    report.line("P21", "33 × 128 unread answers of one address", "victim and probes answered", &text, kept);
    if quick {
        return;
    }
    // Each reads one of its answers now and then, and asks for one more.
    let begun = Instant::now();
    let mut open: Vec<(Wire, u32)> = wires.into_iter().map(|wire| (wire, 0)).collect();
    while !open.is_empty() && begun.elapsed() < Duration::from_secs(50) {
        let mut still = Vec::new();
        for (mut wire, mut taken) in open {
            if begun.elapsed().as_secs() >= 10 * u64::from(taken) {
                let (stream, next) = (2 * taken + 1, 2 * (STREAMS + taken) + 1);
                let window = Frame::new(WINDOW_UPDATE, 0, stream, 65_535_u32.to_be_bytes());
                let call = Frame::call(next, 0, PREDICT, &[]);
                drop(wire.send(&[window, call, Frame::new(DATA, END_STREAM, next, body.clone())]).await);
                taken += 1;
            }
            if !keep_alive(&mut wire).await {
                still.push((wire, taken));
            }
        }
        open = still;
        sleep(Duration::from_millis(200)).await;
    }
    let text = format!("{} of {CONNECTIONS} open after {:.0?}", open.len(), begun.elapsed());
    report.line("P21", "one of them read each 10 s", "closed by the time of the others (<= 40 s)", &text, {
        open.is_empty() && begun.elapsed() <= Duration::from_secs(42)
    });
}

/// P10, P20: the admin port, by whoever keeps its places.
pub(crate) async fn admin(report: &mut Report, target: &Target) {
    for (name, say, addresses) in [
        ("silent", &b""[..], 1),
        ("half a preface", b"PRI * HT", 1),
        ("half a preface", b"PRI * HT", 8),
        ("a preface, PINGs answered", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0", 8),
        ("half a request", b"GET /metrics HTTP/1.1\r\nhost: x\r\n", 8),
    ] {
        let mut held = Vec::new();
        for n in 0..400 {
            if let Ok(mut stream) = connect_from(target.admin, ATTACKER + n % addresses).await {
                drop(stream.write_all(say).await);
                held.push(stream);
            }
        }
        let mut worst = Duration::ZERO;
        let mut answered = 0;
        for path in ["/livez", "/healthz", "/metrics"].into_iter().cycle().take(30) {
            let asked = Instant::now();
            let answer = timeout(Duration::from_secs(2), scrape::get(target.admin, path)).await;
            answered += usize::from(matches!(answer, Ok(Ok((200, _)))));
            worst = worst.max(asked.elapsed());
        }
        let text = format!("{} held; {answered} of 30 answered, the last to come after {worst:.1?}", held.len());
        report.line(
            "P10",
            &format!("admin port: 400 × {name} of {addresses}"),
            "health and metrics answered <= 100 ms",
            &text,
            answered == 30 && worst <= Duration::from_millis(100),
        );
    }
}

/// P20: whoever begins and does not go on, on the admin port, is hung up on even where nobody else comes.
pub(crate) async fn stalled_admin(report: &mut Report, target: &Target) {
    let mut ended = Vec::new();
    for say in [&b""[..], b"PRI * HT", b"GET /livez HTTP/1.1\r\nhost:"] {
        let Ok(mut stream) = connect_from(target.admin, ATTACKER).await else { continue };
        drop(stream.write_all(say).await);
        ended.push(tokio::spawn(async move {
            let begun = Instant::now();
            let mut bytes = Vec::new();
            let closed = tokio::io::AsyncReadExt::read_to_end(&mut stream, &mut bytes);
            timeout(Duration::from_secs(12), closed).await.ok().map(|_| begun.elapsed())
        }));
    }
    let mut took = Vec::new();
    for ended in ended {
        took.push(ended.await.ok().flatten());
    }
    let text = format!("closed after {took:.1?}");
    report.line("P20", "admin port: stalled greetings", "closed <= 11 s", &text, took.iter().all(Option::is_some));
}
