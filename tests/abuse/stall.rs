//! P20 to P22: whoever does not go on, does not read, or takes every file descriptor.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    time::{Duration, Instant},
};

use support::{
    adult::test_set,
    grpc::{Call, PREDICT, frame},
    machine,
    promises::Report,
    target::{How, Target},
    wire::{ACK, DATA, END_STREAM, Frame, PING, SETTINGS, WINDOW_UPDATE, Wire},
};
use tokio::{
    io::AsyncReadExt,
    net::{TcpSocket, TcpStream},
    task::JoinSet,
    time::{sleep, timeout},
};

use crate::victim::{Baseline, Victim};

/// Connects from the `n`th loopback address.
pub(crate) async fn connect_from(address: SocketAddr, n: u32) -> io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.bind((Ipv4Addr::new(127, 0, 1, 1 + (n % 250) as u8), 0).into())?;
    socket.connect(address).await
}

/// As [`Wire::open`], from the `n`th loopback address.
pub(crate) async fn open_from(address: SocketAddr, n: u32) -> io::Result<Wire> {
    let mut wire = Wire::over(connect_from(address, n).await?);
    let settings = Frame::new(SETTINGS, 0, 0, []).to_bytes();
    wire.bytes(&[b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", settings.as_slice()].concat()).await?;
    Ok(wire)
}

/// When the server ends each of `sockets`, after `say`; `None` for those that are open after `most`.
async fn until_closed(
    address: SocketAddr,
    sockets: u32,
    each: u32,
    say: &'static [u8],
    most: Duration,
) -> Vec<Option<Duration>> {
    let mut closing = JoinSet::new();
    for n in 0..sockets {
        let Ok(mut stream) = connect_from(address, n / each).await else { continue };
        let begun = Instant::now();
        closing.spawn(async move {
            drop(tokio::io::AsyncWriteExt::write_all(&mut stream, say).await);
            let mut bytes = [0; 256];
            let closed = async { while matches!(stream.read(&mut bytes).await, Ok(1..)) {} };
            timeout(most, closed).await.ok().map(|()| begun.elapsed())
        });
    }
    closing.join_all().await
}

/// P20.
pub(crate) async fn silent(report: &mut Report, target: &Target, baseline: Baseline, sockets: u32) {
    for (name, say) in [
        ("silent sockets", &b""[..]),
        ("stalled TLS hello", b"\x16\x03\x01\x02\x00\x01\x00\x01"),
        ("stalled preface", b"PRI * HTTP/2.0\r\n"),
        ("preface, no SETTINGS", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
    ] {
        let victim = Victim::start(target.grpc);
        let ended = until_closed(target.grpc, sockets, 50, say, Duration::from_secs(9)).await;
        let seen = tokio::task::spawn_blocking(move || victim.stop()).await.expect("the victim's thread");
        let (unharmed, victim) = baseline.judge(&seen);
        let open = ended.iter().filter(|ended| ended.is_none()).count();
        let last = ended.iter().flatten().max().copied().unwrap_or_default();
        report.line(
            "P20",
            &format!("{sockets} × {name}"),
            "all closed <= 6 s, victim 0 errors",
            &format!("{open} open, the last closed after {last:.1?}; {victim}"),
            open == 0 && last <= Duration::from_millis(6_500) && unharmed,
        );
    }
    // All of one address.
    let ended = until_closed(target.grpc, 100, 100, b"", Duration::from_millis(1_500)).await;
    let refused = ended.iter().flatten().count();
    let text = format!("{refused} of 100 closed at once");
    report.line("P20", "100 connections of one address", "over the cap of 64: closed at once", &text, refused >= 36);
}

/// P20: within a call. PINGs are answered, so that keepalive has nothing to complain about.
pub(crate) async fn stalled_calls(report: &mut Report, target: &Target, quick: bool) {
    let mut begun = Frame::call(1, 0, PREDICT, &[]);
    begun.flags = 0;
    let body = |timeout: &str| {
        let more: &[(&str, &str)] = if timeout.is_empty() { &[] } else { &[("grpc-timeout", timeout)] };
        vec![Frame::call(1, 0, PREDICT, more), Frame::new(DATA, 0, 1, [0, 0, 0, 0, 9, 1, 2])]
    };
    let mut tries = vec![
        ("stalled HEADERS", "<= 10 s", vec![begun], Duration::from_millis(11_500)),
        ("stalled body, deadline 2 s", "<= 2 s", body("2S"), Duration::from_millis(2_500)),
    ];
    if !quick {
        tries.push(("stalled body", "<= 30 s", body(""), Duration::from_millis(31_500)));
    }
    for (name, asked, frames, most) in tries {
        let mut wire = Wire::open(target.grpc).await;
        drop(wire.send(&frames).await);
        let started = Instant::now();
        let ended = timeout(most, async {
            loop {
                let (heard, closed) = wire.heard().await;
                for frame in heard {
                    if frame.kind == PING && frame.flags & ACK == 0 {
                        drop(wire.send(&[Frame::new(PING, ACK, 0, frame.payload)]).await);
                    } else if frame.stream == 1 && frame.flags & END_STREAM != 0
                        || frame.kind == support::wire::RST_STREAM
                    {
                        return;
                    }
                }
                if closed {
                    return;
                }
                sleep(Duration::from_millis(5)).await;
            }
        });
        let ended = ended.await.is_ok();
        let took = started.elapsed();
        let text = if ended { format!("given up after {took:.1?}") } else { format!("open after {took:.1?}") };
        report.line("P20", name, asked, &text, ended);
    }
}

/// P21: 128 answers that nobody reads, and one that is read byte by byte.
pub(crate) async fn readers(report: &mut Report, target: &Target, quick: bool) {
    const CONNECTIONS: u64 = 8;
    // 128 of them fit into the server's window for the connection, 1 MiB.
    let message = prost::Message::encode_to_vec(&test_set().predict(0..25));
    let body = frame(0, &message);
    let mut wires = Vec::new();
    let mut answers = 0;
    let heads = |heard: &[Frame]| heard.iter().filter(|frame| frame.kind == support::wire::HEADERS).count();
    let before = machine::rss(target.pid());
    for n in 0..CONNECTIONS {
        let Ok(mut wire) = open_from(target.grpc, n as u32).await else { continue };
        // SETTINGS_INITIAL_WINDOW_SIZE 0.
        drop(wire.send(&[Frame::new(SETTINGS, 0, 0, [0, 4, 0, 0, 0, 0])]).await);
        for stream in (0..128).map(|n| 2 * n + 1) {
            let mut frames = vec![Frame::call(stream, 0, PREDICT, &[])];
            let mut chunks = body.chunks(16_000).peekable();
            while let Some(chunk) = chunks.next() {
                let flags = if chunks.peek().is_none() { END_STREAM } else { 0 };
                frames.push(Frame::new(DATA, flags, stream, chunk));
            }
            drop(timeout(Duration::from_secs(2), wire.send(&frames)).await);
            if stream % 16 == 1 {
                answers += heads(&wire.heard().await.0);
            }
        }
        wires.push(wire);
    }
    sleep(Duration::from_secs(1)).await;
    for wire in &mut wires {
        answers += heads(&wire.heard().await.0);
    }
    let each = machine::rss(target.pid()).saturating_sub(before) / CONNECTIONS;
    let text = format!("{answers} answers unread, +{:.2} MiB a connection", machine::mib(each));
    report.line("P21", "128 streams with a window of 0", "+< 2 MiB a connection", &text, each < 2 << 20 && answers > 0);
    if !quick {
        let begun = Instant::now();
        let mut open = wires.len();
        while open > 0 && begun.elapsed() < Duration::from_secs(45) {
            sleep(Duration::from_millis(500)).await;
            let mut still = Vec::new();
            for mut wire in wires {
                let (heard, closed) = wire.heard().await;
                for frame in heard.iter().filter(|frame| frame.kind == PING && frame.flags & ACK == 0) {
                    drop(wire.send(&[Frame::new(PING, ACK, 0, frame.payload.clone())]).await);
                }
                if !closed {
                    still.push(wire);
                }
            }
            wires = still;
            open = wires.len();
        }
        let text = format!("{open} of {CONNECTIONS} open after {:.0?}", begun.elapsed());
        report.line("P21", "and then", "closed by the stream's deadline (<= 40 s)", &text, open == 0);
    }
    let before = machine::rss(target.pid());
    let mut slow = Wire::open(target.grpc).await;
    drop(slow.send(&[Frame::new(SETTINGS, 0, 0, [0, 4, 0, 0, 0, 1])]).await);
    let mut answers = vec![Frame::call(1, 0, PREDICT, &[])];
    answers.extend(body.chunks(16_000).map(|chunk| Frame::new(DATA, 0, 1, chunk)));
    answers.push(Frame::new(DATA, END_STREAM, 1, []));
    drop(slow.send(&answers).await);
    let mut bytes = 0;
    for _ in 0..100 {
        drop(slow.send(&[Frame::new(WINDOW_UPDATE, 0, 1, 1_u32.to_be_bytes())]).await);
        let (heard, _) = slow.heard().await;
        bytes += heard.iter().filter(|frame| frame.kind == DATA).map(|frame| frame.payload.len()).sum::<usize>();
    }
    let growth = machine::rss(target.pid()).saturating_sub(before);
    let text = format!("{bytes} bytes in 100 windows of 1, +{:.2} MiB", machine::mib(growth));
    report.line("P21", "an answer byte by byte", "+< 2 MiB", &text, growth < 2 << 20 && bytes > 0);
}

/// P22.
pub(crate) async fn descriptors(report: &mut Report, how: &How, flags: &[&str]) {
    let How::Process { binary, setup } = how else { return };
    let few = How::Process { binary: binary.clone(), setup: format!("ulimit -n 128\n{setup}") };
    let target = match few.start(flags).await {
        Ok(target) => target,
        Err(why) => return report.line("P22", "128 file descriptors", "the server starts", &why, false),
    };
    let existing = target.connect().await;
    let call = Call::new(PREDICT, &test_set().predict(0..1));
    let first = existing.call(&call).await.status;
    let mut held = Vec::new();
    for n in 0..200 {
        if let Ok(Ok(stream)) = timeout(Duration::from_millis(200), connect_from(target.grpc, n / 10)).await {
            held.push(stream);
        }
    }
    sleep(Duration::from_millis(500)).await;
    let idle = machine::cpu(target.pid());
    let watched = Instant::now();
    sleep(Duration::from_secs(2)).await;
    let share = 100.0 * machine::cpu(target.pid()).saturating_sub(idle).as_secs_f64() / watched.elapsed().as_secs_f64();
    let during = existing.call(&call).await.status;
    let text = format!("{} connects, CPU {share:.1} %, existing: {first:?}, {during:?}", held.len());
    let kept = share < 5.0 && first == Some(0) && during == Some(0);
    report.line("P22", "128 file descriptors, 200 connects", "existing connections answered, CPU < 5 %", &text, kept);
    drop(held);
    let released = Instant::now();
    let resumed = timeout(Duration::from_secs(5), async {
        loop {
            let asked =
                timeout(Duration::from_millis(300), async { target.connect().await.call(&call).await.status }).await;
            if asked == Ok(Some(0)) {
                return;
            }
            sleep(Duration::from_millis(20)).await;
        }
    });
    let resumed = resumed.await.is_ok();
    let text = format!("{} after {:.2?}", if resumed { "answered" } else { "not answered" }, released.elapsed());
    let kept = resumed && released.elapsed() <= Duration::from_millis(1_100);
    report.line("P22", "after their release", "new connections answered <= 1 s", &text, kept);
}
