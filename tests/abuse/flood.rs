//! P18, P19 and streams that are only opened: one connection that floods, with a neighbour alongside.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use support::{
    grpc::PREDICT,
    machine,
    promises::Report,
    target::Target,
    wire::{CONTINUATION, DATA, END_STREAM, Frame, GOAWAY, PING, PRIORITY, RST_STREAM, SETTINGS, WINDOW_UPDATE, Wire},
};
use tokio::time::timeout;

use crate::victim::{Baseline, Victim};

/// How a flood ended.
#[derive(Debug)]
struct Cut {
    after: Option<Duration>,
    goaway: Option<u32>,
    frames: usize,
}

/// What is sent first, and what for each odd number then.
struct Attack {
    name: &'static str,
    first: Vec<Frame>,
    unit: Box<dyn Fn(u32) -> Vec<Frame> + Send>,
    /// Between two bursts of 50.
    pause: Duration,
}

fn attack(name: &'static str, first: Vec<Frame>, unit: impl Fn(u32) -> Vec<Frame> + Send + 'static) -> Attack {
    Attack { name, first, unit: Box::new(unit), pause: Duration::ZERO }
}

/// Many at once, then nothing: what counts by reads must not forgive what came in one of them.
fn in_bursts(attack: Attack) -> Attack {
    Attack { pause: Duration::from_millis(3), ..attack }
}

fn open(stream: u32) -> Frame {
    Frame::call(stream, 0, PREDICT, &[])
}

/// Cut off within a second with ENHANCE_YOUR_CALM.
fn p18() -> Vec<Attack> {
    let mut endless = open(1);
    endless.flags = 0;
    // A message of 4 MiB is announced, so that the bytes belong to something.
    let begun = vec![open(1), Frame::new(DATA, 0, 1, [0, 0, 0x0f, 0xff, 0xff])];
    vec![
        attack("rapid reset", vec![], |n| vec![open(n), Frame::new(RST_STREAM, 0, n, 8_u32.to_be_bytes())]),
        attack("MadeYouReset: window overflow", vec![], |n| {
            vec![open(n), Frame::new(WINDOW_UPDATE, 0, n, 0x7fff_ffff_u32.to_be_bytes())]
        }),
        attack("MadeYouReset: content-length", vec![], |n| {
            vec![Frame::call(n, 0, PREDICT, &[("content-length", "1")]), Frame::new(DATA, END_STREAM, n, [0; 5])]
        }),
        attack("MadeYouReset: own child", vec![], |n| {
            vec![open(n), Frame::new(PRIORITY, 0, n, [&n.to_be_bytes()[..], &[16]].concat())]
        }),
        attack("MadeYouReset: no method", vec![], |n| {
            vec![Frame::headers(n, END_STREAM, &[(":scheme", "http"), (":path", "/")])]
        }),
        attack("CONTINUATION", vec![endless], |_| {
            vec![Frame::new(CONTINUATION, 0, 1, [0x10, 1, b'a', 1, b'b'].repeat(200))]
        }),
        attack("empty DATA", vec![open(1)], |_| vec![Frame::new(DATA, 0, 1, [])]),
        attack("DATA of one byte", begun, |_| vec![Frame::new(DATA, 0, 1, [0])]),
    ]
}

/// Cut off within five seconds.
fn p19() -> Vec<Attack> {
    vec![
        attack("PING", vec![], |_| vec![Frame::new(PING, 0, 0, [7; 8])]),
        attack("SETTINGS", vec![], |_| vec![Frame::new(SETTINGS, 0, 0, [0, 4, 0, 1, 0, 0])]),
        attack("PRIORITY", vec![], |n| vec![Frame::new(PRIORITY, 0, n, [0, 0, 0, 0, 16])]),
        attack("WINDOW_UPDATE", vec![], |_| vec![Frame::new(WINDOW_UPDATE, 0, 0, 1_u32.to_be_bytes())]),
        attack("PING answers", vec![], |_| vec![Frame::new(PING, 1, 0, [7; 8])]),
        in_bursts(attack("PING in bursts", vec![], |_| vec![Frame::new(PING, 0, 0, [7; 8])])),
        in_bursts(attack("WINDOW_UPDATE in bursts", vec![], |_| {
            vec![Frame::new(WINDOW_UPDATE, 0, 0, 1_u32.to_be_bytes())]
        })),
    ]
}

async fn flood(address: SocketAddr, attack: &Attack, most: Duration) -> Cut {
    let mut wire = Wire::open(address).await;
    let begun = Instant::now();
    let mut cut = Cut { after: None, goaway: None, frames: 0 };
    let mut stream = 1;
    drop(wire.send(&attack.first).await);
    while begun.elapsed() < most {
        let burst: Vec<Frame> = (0..50).flat_map(|n| (attack.unit)(stream + 2 * n)).collect();
        stream += 100;
        cut.frames += burst.len();
        // A server that does not read any more may be about to close; what it said is read below.
        let sent = timeout(most.saturating_sub(begun.elapsed()), wire.send(&burst)).await;
        tokio::time::sleep(attack.pause).await;
        let (frames, closed) = wire.heard().await;
        cut.goaway = cut.goaway.or(frames.iter().find(|frame| frame.kind == GOAWAY).map(|frame| frame.number(4)));
        if closed || cut.goaway.is_some_and(|code| code != 0) || matches!(sent, Ok(Err(_))) {
            cut.after = Some(begun.elapsed());
            break;
        }
    }
    cut
}

/// All of `attacks`, one after the other.
async fn each(report: &mut Report, target: &Target, baseline: Baseline, promise: &str, attacks: Vec<Attack>) {
    let (most, wanted) = match promise {
        "P18" => (Duration::from_secs(3), Duration::from_secs(1)),
        _ => (Duration::from_secs(7), Duration::from_secs(5)),
    };
    for attack in attacks {
        let before = machine::rss(target.pid());
        let victim = Victim::start(target.grpc);
        tokio::time::sleep(Duration::from_millis(200)).await;
        let cut = flood(target.grpc, &attack, most).await;
        let idle = machine::cpu(target.pid());
        tokio::time::sleep(Duration::from_millis(500)).await;
        let idle = machine::cpu(target.pid()).saturating_sub(idle);
        let seen = tokio::task::spawn_blocking(move || victim.stop()).await.expect("the victim's thread");
        let growth = machine::rss(target.pid()).saturating_sub(before);
        let (unharmed, victim) = baseline.judge(&seen);
        let ended = match (cut.after, cut.goaway) {
            (None, _) => "still open".into(),
            (Some(after), None) => format!("closed after {after:.1?}"),
            (Some(after), Some(code)) => format!("GOAWAY {code} after {after:.1?}"),
        };
        // The library says GOAWAY to what it counts; the meter, which counts what the library does not, hangs up.
        let metered = attack.name == "DATA of one byte";
        let said = promise != "P18" || metered || cut.goaway == Some(11);
        let in_time = cut.after.is_some_and(|after| after < wanted) && said;
        let asked = match promise {
            "P18" if metered => format!("closed < 1 s, +< 4 MiB, victim 0 errors, p99 < {:.1?}", baseline.allowed()),
            "P18" => format!("GOAWAY 11 < 1 s, +< 4 MiB, victim 0 errors, p99 < {:.1?}", baseline.allowed()),
            _ => format!("closed < 5 s, victim 0 errors, p99 < {:.1?}", baseline.allowed()),
        };
        let grown = machine::mib(growth);
        let text =
            format!("{ended}, {} frames, +{grown:.1} MiB, then CPU {} ms; {victim}", cut.frames, idle.as_millis());
        report.line(promise, attack.name, &asked, &text, in_time && unharmed && growth < 4 << 20);
    }
}

pub(crate) async fn resets(report: &mut Report, target: &Target, baseline: Baseline) {
    each(report, target, baseline, "P18", p18()).await;
}

pub(crate) async fn control_frames(report: &mut Report, target: &Target, baseline: Baseline) {
    each(report, target, baseline, "P19", p19()).await;
}

/// D2: 20,000 streams that are opened and never ended, on one connection and over many.
pub(crate) async fn open_streams(report: &mut Report, target: &Target, baseline: Baseline) {
    const STREAMS: u32 = 20_000;
    for connections in [1, 160] {
        let before = machine::rss(target.pid());
        let victim = Victim::start(target.grpc);
        let mut wires = Vec::new();
        let (mut refused, mut cut) = (0, 0);
        for n in 0..connections {
            // As many addresses as it takes to stay under the cap of each.
            let Ok(mut wire) = crate::stall::open_from(target.grpc, n / 40).await else {
                cut += 1;
                continue;
            };
            for burst in 0..(STREAMS / connections).div_ceil(125) {
                let frames: Vec<Frame> = (0..125).map(|k| open(2 * (burst * 125 + k) + 1)).collect();
                let sent = wire.send(&frames).await;
                let (heard, closed) = wire.heard().await;
                refused += heard.iter().filter(|frame| frame.kind == RST_STREAM).count();
                if sent.is_err() || closed {
                    cut += 1;
                    break;
                }
            }
            wires.push(wire);
        }
        let growth = machine::rss(target.pid()).saturating_sub(before);
        drop(wires);
        let seen = tokio::task::spawn_blocking(move || victim.stop()).await.expect("the victim's thread");
        let (_, victim) = baseline.judge(&seen);
        // 8 KiB a stream that is open: 128 of them, and no more, on each connection.
        let allowed = 4.0 + f64::from(connections) * 128.0 * 12.0 / 1024.0;
        let grown = machine::mib(growth);
        report.line(
            "P18",
            &format!("20,000 streams over {connections}"),
            &format!("128 open each, +< {allowed:.0} MiB, victim 0 errors"),
            &format!("{refused} refused, {cut} cut off, +{grown:.1} MiB; {victim}"),
            seen.errors.is_empty() && grown < allowed,
        );
    }
}
