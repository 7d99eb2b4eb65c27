//! P11 to P15, P24: budgets of one call.

use std::time::{Duration, Instant};

use support::{
    adult::test_set,
    grpc::{Call, Connection, MODEL_INFER, PREDICT, frame},
    machine,
    open_loop::quantile,
    promises::Report,
    scrape::Scrape,
    target::{How, Target},
    wire::{DATA, Frame, SETTINGS, Wire},
};
use tokio::{
    task::JoinSet,
    time::{sleep, timeout},
};

use crate::{stall::open_from, table};

/// P24.
pub(crate) async fn settings(report: &mut Report, target: &Target) {
    let mut wire = Wire::open(target.grpc).await;
    let Some(sent) = wire.next_of(SETTINGS, 0).await else {
        return report.line("P24", "SETTINGS", "sent", "closed", false);
    };
    let values = [3, 4, 6].map(|identifier| sent.setting(identifier).unwrap_or(0));
    let text = format!("streams {}, window {}, header list {}", values[0], values[1], values[2]);
    let kept = values[0] == 128 && values[1] >= 64 << 10 && values[2] == 16 << 10;
    report.line("P24", "SETTINGS on the wire", "streams 128, window >= 65536, header list 16384", &text, kept);
}

/// P11: what has come counts, and what could not come whole any more is refused by its prefix.
pub(crate) async fn bytes_in_flight(report: &mut Report, how: &How, flags: &[&str]) {
    const WHAT: &str = "bytes in flight, limit 120,000";
    let limited = [flags, &["--max-in-flight-bytes", "120000", "--max-request-bytes", "1048576"]].concat();
    let target = match how.start(&limited).await {
        Ok(target) => target,
        Err(why) => return report.not_applicable("P11", WHAT, &why),
    };
    let mut begun = Wire::open(target.grpc).await;
    let announced = [&[0][..], &80_000_u32.to_be_bytes()].concat();
    let mut half = vec![Frame::call(1, 0, PREDICT, &[]), Frame::new(DATA, 0, 1, announced.clone())];
    // Within the window that a stream has before the server's settings are acknowledged.
    half.extend(vec![Frame::new(DATA, 0, 1, vec![0; 16_000]); 3]);
    drop(begun.send(&half).await);
    sleep(Duration::from_millis(300)).await;
    drop(begun.send(&[Frame::call(3, 0, PREDICT, &[]), Frame::new(DATA, 0, 3, announced)]).await);
    sleep(Duration::from_millis(300)).await;
    let good = Call::new(PREDICT, &test_set().predict(0..100));
    let asked = Instant::now();
    let reply = target.connect().await.call(&good).await;
    let took = asked.elapsed();
    let (frames, _) = begun.heard().await;
    let second_refused = frames.iter().any(|frame| frame.stream == 3);
    let text = format!("the second of two: {second_refused}, a third: {:?} in {took:.1?}", reply.status);
    let kept = second_refused && reply.status == Some(0);
    report.line("P11", WHAT, "over it refused before the body is read, what fits is answered", &text, kept);
}

/// P12: 100,000 rows take longer than any of these deadlines allows.
pub(crate) async fn deadlines(report: &mut Report, how: &How, flags: &[&str], calls: u32) {
    let flags = [flags, &["--max-rows", "1000000", "--max-request-bytes", "16777216"]].concat();
    let target = how.start(&flags).await.expect("the server starts");
    // How late this machine wakes a task up: no server is more in time than that.
    let floor = tokio::spawn(async {
        let mut late = Vec::new();
        loop {
            let due = Instant::now() + Duration::from_millis(5);
            sleep(Duration::from_millis(5)).await;
            late.push(due.elapsed());
            if late.len() == 150 {
                late.sort_unstable();
                return quantile(&late, 0.99);
            }
        }
    });
    // A body that never comes: the deadline alone.
    let mut waiting = JoinSet::new();
    for n in 0..calls {
        let address = target.grpc;
        waiting.spawn(async move {
            let allowed = Duration::from_millis(u64::from(n * 200 / calls));
            let mut wire = open_from(address, n / 40).await.ok()?;
            let header = format!("{}m", allowed.as_millis());
            let half = Frame::new(DATA, 0, 1, [0, 0, 0, 0, 9, 1, 2]);
            let begun = Instant::now();
            wire.send(&[Frame::call(1, 0, PREDICT, &[("grpc-timeout", &header)]), half]).await.ok()?;
            wire.next_of(support::wire::HEADERS, 1).await?;
            Some(begun.elapsed().saturating_sub(allowed))
        });
        // One after the other, so that it is not the start of a hundred that is measured.
        sleep(Duration::from_millis(5)).await;
    }
    let mut late: Vec<Duration> = waiting.join_all().await.into_iter().flatten().collect();
    late.sort_unstable();
    let (worst, p99) = (late.last().copied().unwrap_or_default(), quantile(&late, 0.99));
    let floor = floor.await.unwrap_or_default();
    let text = format!("{} of {calls}; p99 {p99:.1?}, worst {worst:.1?} late; a sleep here {floor:.1?}", late.len());
    let kept = late.len() == calls as usize && p99 <= Duration::from_millis(10).max(2 * floor);
    report.line("P12", "deadlines of 0 to 200 ms", "DEADLINE_EXCEEDED <= 10 ms late", &text, kept);

    let rows = test_set().rows.len();
    let mut many = test_set().matrix(0..rows, true);
    let times = 100_000 / rows;
    many.inputs[0].shape[0] = (rows * times) as i64;
    many.raw_input_contents[0] = many.raw_input_contents[0].repeat(times).into();
    let call = Call::new(MODEL_INFER, &many);
    let connection = target.connect().await;
    let begun = Instant::now();
    let whole = connection.call(&call).await;
    let alone = begun.elapsed();
    let mut stopped_late = Duration::ZERO;
    let mut statuses = Vec::new();
    for milliseconds in [20_u32, 40, 60] {
        let reply = connection.call(&call.clone().header("grpc-timeout", &format!("{milliseconds}m"))).await;
        statuses.push(reply.status);
        // What still runs 20 ms after the answer should not: the kernel tells to 10 ms.
        sleep(Duration::from_millis(20)).await;
        let before = machine::cpu(target.pid());
        sleep(Duration::from_millis(300)).await;
        stopped_late = stopped_late.max(machine::cpu(target.pid()).saturating_sub(before));
    }
    let expired = statuses.iter().filter(|status| **status == Some(4)).count();
    let text = format!("{:?} alone in {alone:.0?}; {expired} of 3 expired, then CPU {stopped_late:.0?}", whole.status);
    let kept = whole.status == Some(0) && stopped_late <= Duration::from_millis(20);
    report.line("P12", "100,000 rows past their deadline", "compute stops <= 20 ms after the answer", &text, kept);
}

/// P13: calls that are reset at random points.
pub(crate) async fn cancellations(report: &mut Report, target: &Target, calls: u32) {
    let small = frame(0, &prost::Message::encode_to_vec(&test_set().predict(0..20)));
    let before = machine::rss(target.pid());
    let mut storms = JoinSet::new();
    for seed in 0..8_u64 {
        let (address, body) = (target.grpc, small.clone());
        storms.spawn(async move {
            let mut random = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
            let mut next = move || {
                random ^= random << 13;
                random ^= random >> 7;
                random ^= random << 17;
                random as usize
            };
            let (mut done, mut reconnects, mut wire, mut stream) =
                (0, 0, open_from(address, seed as u32).await.ok(), 1_u32);
            while done < calls / 8 && reconnects < 2_000 {
                let Some(open) = &mut wire else {
                    reconnects += 1;
                    stream = 1;
                    wire = open_from(address, seed as u32).await.ok();
                    continue;
                };
                let cut = next() % (body.len() + 1);
                let end = u8::from(cut == body.len());
                let mut frames = vec![Frame::call(stream, 0, PREDICT, &[])];
                frames.extend(body[..cut].chunks(16_000).map(|chunk| Frame::new(DATA, 0, stream, chunk)));
                frames.push(Frame::new(DATA, end, stream, []));
                let sent = open.send(&frames).await;
                if next() % 2 == 0 {
                    sleep(Duration::from_micros((next() % 300) as u64)).await;
                } else {
                    tokio::task::yield_now().await;
                }
                let reset = open.send(&[Frame::new(support::wire::RST_STREAM, 0, stream, 8_u32.to_be_bytes())]).await;
                let (_, closed) = if next() % 8 == 0 { open.heard().await } else { (Vec::new(), false) };
                done += 1;
                stream += 2;
                if closed || sent.is_err() || reset.is_err() {
                    wire = None;
                }
            }
            (done, reconnects)
        });
    }
    let storms = timeout(Duration::from_secs(60), storms.join_all()).await.unwrap_or_default();
    let (sent, cut) = storms.iter().fold((0, 0), |sum, storm| (sum.0 + storm.0, sum.1 + storm.1));
    sleep(Duration::from_secs(1)).await;
    let growth = machine::rss(target.pid()).saturating_sub(before);
    let scrape = Scrape::of(target.admin).await;
    let leaked = scrape.sum("understudy_in_flight_calls", &[]) + scrape.sum("understudy_in_flight_bytes", &[]);
    let gauge = scrape.samples().iter().any(|sample| sample.name == "understudy_in_flight_calls");
    let good = Call::new(PREDICT, &test_set().predict(0..1));
    let connection = target.connect().await;
    let mut answered = 0;
    for _ in 0..128 {
        answered += u32::from(connection.call(&good).await.status == Some(0));
    }
    let gauges = if gauge { format!("in flight {leaked}") } else { "no gauge of calls in flight".into() };
    let text =
        format!("{sent} resets, {cut} reconnects; {gauges}, +{:.1} MiB, then {answered}/128", machine::mib(growth));
    let kept = sent > calls * 9 / 10 && leaked == 0.0 && answered == 128 && growth < 16 << 20;
    report.line("P13", "resets at random points", "0 leaked, 128 of 128 calls answered after", &text, kept);
}

/// P15: peak memory and CPU of messages that are small on the wire.
pub(crate) async fn amplification(report: &mut Report, how: &How, flags: &[&str]) {
    let limit = table::size::LIMIT.to_string();
    let target = how.start(&[flags, &["--max-request-bytes", &limit]].concat()).await.expect("the server starts");
    let connection = target.connect().await;
    // What a connection and a first call cost is not theirs.
    drop(connection.call(&Call::new(PREDICT, &test_set().predict(0..100))).await);
    for (name, path, message) in table::size::hostile() {
        sleep(Duration::from_millis(50)).await;
        let (before, cpu) = (machine::rss(target.pid()), machine::cpu(target.pid()));
        let counted = machine::reset_peak(target.pid());
        let reply = connection.call(&Call::bytes(path, frame(0, &message))).await;
        let growth = machine::peak(target.pid()).saturating_sub(before);
        let spent = machine::cpu(target.pid()).saturating_sub(cpu);
        let wire = machine::mib(message.len() as u64);
        let (times, each) = (machine::mib(growth) / wire, spent.as_secs_f64() * 1e3 / wire);
        let text = format!("code {:?}, {times:.1} × ({:.0} MiB), {each:.0} ms/MiB", reply.status, machine::mib(growth));
        let kept = counted && machine::mib(growth) <= 16.0 * wire + 1.0 && each <= 50.0;
        report.line("P15", name, "<= 16 × wire + 1 MiB, CPU <= 50 ms a wire MiB", &text, kept);
    }
}

/// Whether a connection answers.
pub(crate) async fn answers(connection: &Connection) -> bool {
    connection.call(&Call::new(PREDICT, &test_set().predict(0..1))).await.status == Some(0)
}
