//! P16, P25 and P41: age, drain, and an hour of everything.

use std::time::{Duration, Instant};

use support::{
    adult::test_set,
    grpc::{Call, MODEL_INFER, PREDICT},
    machine,
    primary::endpoint,
    promises::Report,
    scrape,
    target::{How, Target},
    wire::{GOAWAY, Wire},
};
use tokio::{
    task::JoinSet,
    time::{sleep, timeout},
};
use tonic::Code;
use understudy::v1::prediction_service_client::PredictionServiceClient;

/// Clients that ask until `end`, and once more when they are told that the server is unavailable; answered, failed.
async fn retrying(target: &Target, clients: usize, end: Instant) -> (u64, Vec<String>) {
    let mut running = JoinSet::new();
    for _ in 0..clients {
        let channel = endpoint(&format!("http://{}", target.grpc)).connect_lazy();
        running.spawn(async move {
            let mut client = PredictionServiceClient::new(channel);
            let (mut answered, mut failed) = (0, Vec::new());
            while Instant::now() < end {
                let mut last = client.predict(test_set().predict(0..1)).await;
                // Cancelled by nobody here: tonic says so of a call that was not sent because the connection was on its way
                // out, where gRPC's own clients try again without a word.
                let again = |status: &tonic::Status| {
                    matches!(status.code(), Code::Unavailable | Code::Unknown | Code::Cancelled)
                };
                if last.as_ref().is_err_and(again) {
                    last = client.predict(test_set().predict(0..1)).await;
                }
                match last {
                    Ok(_) => answered += 1,
                    Err(status) => failed.push(format!("{:?}: {}", status.code(), status.message())),
                }
                sleep(Duration::from_millis(1)).await;
            }
            (answered, failed)
        });
    }
    running.join_all().await.into_iter().fold((0, Vec::new()), |mut sum, (answered, failed)| {
        sum.0 += answered;
        sum.1.extend(failed);
        sum
    })
}

/// P25.
pub(crate) async fn age(report: &mut Report, how: &How, flags: &[&str]) {
    const WHAT: &str = "connection age of 2 s";
    let flags = [flags, &["--max-connection-age", "2s", "--max-connection-age-grace", "2s"]].concat();
    let target = match how.start(&flags).await {
        Ok(target) => target,
        Err(why) => return report.not_applicable("P25", WHAT, &why),
    };
    let mut ages = JoinSet::new();
    for _ in 0..8 {
        let address = target.grpc;
        ages.spawn(async move {
            let mut wire = Wire::open(address).await;
            let begun = Instant::now();
            let told = timeout(Duration::from_secs(5), async {
                while let Some(frame) = wire.next(Duration::from_secs(6)).await {
                    if frame.kind == GOAWAY {
                        return true;
                    }
                }
                false
            });
            (told.await == Ok(true)).then(|| begun.elapsed())
        });
    }
    let (answered, failed) = retrying(&target, 4, Instant::now() + Duration::from_secs(6)).await;
    let ages: Vec<Option<Duration>> = ages.join_all().await;
    let within = |age: &Option<Duration>| age.is_some_and(|age| (1_750..2_300).contains(&age.as_millis()));
    let told = ages.iter().filter(|age| within(age)).count();
    let least = ages.iter().flatten().min().copied().unwrap_or_default();
    let most = ages.iter().flatten().max().copied().unwrap_or_default();
    let text = format!("{told} of 8 told, {least:.2?} to {most:.2?}; {answered} answered, {} failed", failed.len());
    let kept = told == 8 && failed.is_empty() && answered > 100;
    report.line("P25", WHAT, "GOAWAY at 2 s ± 10 %, 0 errors of clients that retry", &text, kept);
    if let Some(first) = failed.first() {
        println!("     {first}");
    }
}

/// P41.
pub(crate) async fn drain(report: &mut Report, how: &How, flags: &[&str]) {
    let flags = [flags, &["--drain-delay", "2s", "--drain-timeout", "10s"]].concat();
    let target = how.start(&flags).await.expect("the server starts");
    let (grpc, admin) = (target.grpc, target.admin);
    let clients = tokio::spawn(async move {
        let mut running = JoinSet::new();
        for _ in 0..4 {
            running.spawn(async move {
                let channel = endpoint(&format!("http://{grpc}")).connect_lazy();
                let mut client = PredictionServiceClient::new(channel);
                let (mut answered, mut failed) = (0_u64, 0_u64);
                loop {
                    match client.predict(test_set().predict(0..1)).await {
                        Ok(_) => answered += 1,
                        // Nobody listens any more: with a second server the client would go there.
                        Err(_) if tokio::net::TcpStream::connect(grpc).await.is_err() => return (answered, failed),
                        Err(status) if matches!(status.code(), Code::Unavailable | Code::Cancelled) => {}
                        Err(_) => failed += 1,
                    }
                    sleep(Duration::from_millis(1)).await;
                }
            });
        }
        running.join_all().await.into_iter().fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1))
    });
    sleep(Duration::from_secs(1)).await;
    let signalled = Instant::now();
    let draining = target.drain();
    let mut told = None;
    while signalled.elapsed() < Duration::from_secs(2) && told.is_none() {
        if matches!(scrape::get(admin, "/healthz").await, Ok((503, _))) {
            told = Some(signalled.elapsed());
        }
    }
    let ended = draining.ended(Duration::from_secs(30)).await;
    let took = signalled.elapsed();
    let (answered, failed) =
        timeout(Duration::from_secs(15), clients).await.ok().and_then(Result::ok).unwrap_or((0, 1));
    let code = ended.as_ref().and_then(|ended| ended.code);
    let text =
        format!("NOT_SERVING after {told:.1?}, exit {code:?} after {took:.1?}; {answered} answered, {failed} failed");
    let kept = told.is_some_and(|told| told <= Duration::from_millis(100)) && code == Some(0) && failed == 0;
    report.line("P41", "SIGTERM under load", "NOT_SERVING <= 100 ms, exit 0 <= 30 s, 0 errors", &text, kept);
}

/// P16: good, bad and abandoned calls; what stays?
pub(crate) async fn soak(report: &mut Report, target: &Target, time: Duration) {
    let begun = Instant::now();
    let mut running = JoinSet::new();
    for client in 0..4_usize {
        let address = target.grpc;
        running.spawn(async move {
            let mut calls = 0_u64;
            let mut connection = support::grpc::Connection::open(address).await;
            while begun.elapsed() < time {
                calls += 1;
                let rows = test_set().predict(calls as usize % 3_000..calls as usize % 3_000 + 1 + client * 10);
                let call = Call::new(PREDICT, &rows);
                match calls % 100 {
                    7 => drop(connection.call(&Call::bytes(MODEL_INFER, vec![0, 0, 0, 0, 2, 0x2a, 0xff])).await),
                    8 => drop(timeout(Duration::from_micros(50), connection.call(&call)).await),
                    9 => connection = support::grpc::Connection::open(address).await,
                    _ => drop(connection.call(&call).await),
                }
                sleep(Duration::from_micros(500)).await;
            }
            calls
        });
    }
    let mut samples = Vec::new();
    let mut descriptors = Vec::new();
    let warm = time / 4;
    while begun.elapsed() < time {
        sleep(Duration::from_secs(1)).await;
        if begun.elapsed() > warm {
            samples.push((begun.elapsed().as_secs_f64() / 3_600.0, machine::mib(machine::rss(target.pid()))));
            descriptors.push(machine::descriptors(target.pid()));
        }
    }
    let calls: u64 = running.join_all().await.iter().sum();
    let slope = theil_sen(&samples);
    let growth = samples.last().zip(samples.first()).map_or(0.0, |(last, first)| last.1 - first.1);
    // The clients come and go, so the least of each half is what stays.
    let (early, late) = descriptors.split_at(descriptors.len() / 2);
    let [early, late] = [early, late].map(|half| half.iter().min().copied().unwrap_or(0));
    let text = format!("{calls} calls, {growth:+.2} MiB, {slope:+.1} MiB/h, descriptors {early}, then {late}");
    // A slope needs minutes; pages that a minute of start-up touches would be MiB an hour.
    let (asked, kept) = if time >= Duration::from_secs(600) {
        ("slope < 1 MiB/h, descriptors ± 2", slope < 1.0)
    } else {
        ("+< 2 MiB after a quarter (slope from 10 min on), ± 2", growth < 2.0)
    };
    report.line("P16", &format!("{time:.0?} of everything"), asked, &text, kept && late <= early + 2);
}

/// The median of the slopes between all pairs (Theil 1950, Sen 1968); of at most 600 points.
fn theil_sen(points: &[(f64, f64)]) -> f64 {
    let points: Vec<&(f64, f64)> = points.iter().step_by(points.len().div_ceil(600).max(1)).collect();
    let mut slopes: Vec<f64> = Vec::new();
    for (n, first) in points.iter().enumerate() {
        slopes.extend(points[n + 1..].iter().map(|second| (second.1 - first.1) / (second.0 - first.0)));
    }
    slopes.sort_by(f64::total_cmp);
    slopes.get(slopes.len() / 2).copied().unwrap_or(0.0)
}
