//! P9, P10 and P17: more than the server can do.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use support::{
    adult::test_set,
    grpc::{Call, Connection, PREDICT},
    machine,
    open_loop::quantile,
    promises::Report,
    scrape,
    target::{How, Target},
};
use tokio::{
    task::JoinSet,
    time::{sleep, sleep_until, timeout},
};

use crate::stall;

/// Rows of a request: what a package takes by default...
const ROWS: usize = 100;
/// ...and of one that takes as long as ten of those, beside which a refusal is next to nothing.
const MANY_ROWS: usize = 1_000;
const CONNECTIONS: usize = 32;
/// Calls that the generator keeps open; what comes after waits here, and is told.
const OUTSTANDING: usize = 3_500;

const ONSET: Duration = Duration::from_millis(500);
/// Of what is compared. A machine that others use, too, changes its speed by half from second to second: it is compared in rounds as
/// short as they can be, each between two measurements of what it is compared with, and the median of their ratios counts.
const ROUND: Duration = Duration::from_millis(600);
/// Of what it is compared with.
const QUIET: Duration = Duration::from_millis(400);

/// One step of the generator.
#[derive(Debug, Default)]
struct Step {
    accepted: Vec<Duration>,
    refused: Vec<Duration>,
    with_pushback: usize,
    others: Vec<String>,
    /// Calls that could not be started: the generator's own limit.
    skipped: usize,
    took: Duration,
}

impl Step {
    fn goodput(&self) -> f64 {
        self.accepted.len() as f64 / self.took.as_secs_f64()
    }

    fn text(&self) -> String {
        let done = self.accepted.len() + self.refused.len() + self.others.len();
        format!(
            "{:.0}/s good of {:.0}/s, p50 {:.1?}, p99 {:.1?}; {} refused in {:.1?}, p99 {:.1?}, {} pushback; {} else, {} not offered",
            self.goodput(),
            done as f64 / self.took.as_secs_f64(),
            quantile(&self.accepted, 0.5),
            quantile(&self.accepted, 0.99),
            self.refused.len(),
            quantile(&self.refused, 0.5),
            quantile(&self.refused, 0.99),
            self.with_pushback,
            self.others.len(),
            self.skipped,
        )
    }

    fn add(&mut self, mut other: Self) {
        self.accepted.append(&mut other.accepted);
        self.refused.append(&mut other.refused);
        self.accepted.sort_unstable();
        self.refused.sort_unstable();
        self.others.append(&mut other.others);
        self.with_pushback += other.with_pushback;
        self.skipped += other.skipped;
        self.took += other.took;
    }
}

/// Who calls what.
type Caller<'a> = (&'a [Arc<Connection>], &'a Arc<Call>);

/// What is started before [`ONSET`] is over is answered, but not counted: a burst of a tenth of a second is worked off, so who
/// comes with the first of it waits as long, and what comes next is refused behind it.
async fn open_loop(connections: &[Arc<Connection>], call: &Arc<Call>, rate: f64, time: Duration) -> Step {
    let step = Arc::new(Mutex::new(Step::default()));
    let mut calls = JoinSet::new();
    let begun = Instant::now();
    let mut offered = 0_u64;
    while begun.elapsed() < time + ONSET {
        // All that are due: the clock of the generator is not what is measured.
        let due = (begun.elapsed().as_secs_f64() * rate) as u64;
        while offered < due {
            offered += 1;
            if calls.len() >= OUTSTANDING {
                step.lock().unwrap_or_else(PoisonError::into_inner).skipped += 1;
                continue;
            }
            let (connection, call, step) =
                (connections[offered as usize % connections.len()].clone(), call.clone(), step.clone());
            calls.spawn(async move {
                let started = Instant::now();
                let reply = timeout(Duration::from_secs(10), connection.call(&call)).await;
                let took = started.elapsed();
                if started < begun + ONSET && reply.as_ref().is_ok_and(|reply| matches!(reply.status, Some(0 | 8))) {
                    return;
                }
                let mut step = step.lock().unwrap_or_else(PoisonError::into_inner);
                match reply.as_ref().map(|reply| reply.status) {
                    Ok(Some(0)) => step.accepted.push(took),
                    Ok(Some(8)) => {
                        step.refused.push(took);
                        let metadata = reply.as_ref().map(|reply| &reply.metadata);
                        step.with_pushback +=
                            usize::from(metadata.is_ok_and(|it| it.contains_key("grpc-retry-pushback-ms")));
                    }
                    _ => step.others.push(format!("{reply:?}").chars().take(120).collect()),
                }
            });
        }
        while calls.try_join_next().is_some() {}
        sleep_until((Instant::now() + Duration::from_millis(1)).into()).await;
    }
    drop(timeout(Duration::from_secs(12), calls.join_all()).await);
    let mut step = std::mem::take(&mut *step.lock().unwrap_or_else(PoisonError::into_inner));
    step.took = begun.elapsed().saturating_sub(ONSET);
    step.accepted.sort_unstable();
    step.refused.sort_unstable();
    step
}

/// As fast as `clients` clients with one call at a time are answered, a second.
async fn closed_loop(connections: &[Arc<Connection>], call: &Arc<Call>, clients: usize, time: Duration) -> f64 {
    let begun = Instant::now();
    let mut running = JoinSet::new();
    for n in 0..clients {
        let (connection, call) = (connections[n % connections.len()].clone(), call.clone());
        running.spawn(async move {
            let mut answered = 0_u64;
            while begun.elapsed() < time {
                answered += u64::from(connection.call(&call).await.status == Some(0));
            }
            answered
        });
    }
    running.join_all().await.into_iter().sum::<u64>() as f64 / begun.elapsed().as_secs_f64()
}

async fn connect(address: SocketAddr) -> Vec<Arc<Connection>> {
    let mut connections = Vec::new();
    for _ in 0..CONNECTIONS {
        connections.push(Arc::new(Connection::open(address).await));
    }
    connections
}

/// Asks the admin port for health and metrics each 100 ms until it is aborted.
fn probe(admin: SocketAddr, seen: &Arc<Mutex<Vec<Duration>>>) -> tokio::task::JoinHandle<()> {
    let seen = seen.clone();
    tokio::spawn(async move {
        loop {
            for path in ["/healthz", "/livez", "/metrics"] {
                let asked = Instant::now();
                let answer = timeout(Duration::from_secs(5), scrape::get(admin, path)).await;
                let took = if matches!(answer, Ok(Ok((200, _)))) { asked.elapsed() } else { Duration::from_secs(5) };
                seen.lock().unwrap_or_else(PoisonError::into_inner).push(took);
            }
            sleep(Duration::from_millis(100)).await;
        }
    })
}

/// P9 and P10.
pub(crate) async fn overload(report: &mut Report, how: &How, flags: &[&str], time: Duration) {
    // By default a client may have so many calls at once that they wait for longer than refusals may take here.
    let target =
        how.start(&[flags, &["--queue-wait", "2ms", "--max-rows", "1000"]].concat()).await.expect("the server starts");
    let connections = connect(target.grpc).await;
    let call = Arc::new(Call::new(PREDICT, &test_set().predict(0..ROWS)));
    let _warm_up = closed_loop(&connections, &call, 4, time / 4).await;
    let mut saturation = 0.0_f64;
    for clients in [4, 16, 64] {
        saturation = saturation.max(closed_loop(&connections, &call, clients, time / 2).await);
    }
    let quiet = open_loop(&connections, &call, saturation / 4.0, time / 2).await;
    let reference = quantile(&quiet.accepted, 0.99);
    let before = machine::rss(target.pid());
    let probed = Arc::new(Mutex::new(Vec::new()));
    let prober = probe(target.admin, &probed);
    for times in [0.5, 1.0, 2.0] {
        let cpu = machine::cpu(target.pid());
        let step = open_loop(&connections, &call, saturation * times, time / 2).await;
        let busy = machine::cpu(target.pid()).saturating_sub(cpu).as_secs_f64() / (step.took + ONSET).as_secs_f64();
        let what = format!("{times} × {saturation:.0}/s of {ROWS} rows");
        let text = format!("{}; CPU {:.0} %", step.text(), 100.0 * busy);
        report.line("P9", &what, "every call answered or refused", &text, step.others.is_empty());
        if let Some(other) = step.others.first() {
            println!("     {other}");
        }
    }
    saturated(report, &target, (&connections, &call), ROWS, time).await;
    let large = Arc::new(Call::new(PREDICT, &test_set().predict(0..MANY_ROWS)));
    saturated(report, &target, (&connections, &large), MANY_ROWS, time).await;
    prober.abort();
    let growth = machine::rss(target.pid()).saturating_sub(before);
    let text = format!("+{:.1} MiB", machine::mib(growth));
    report.line("P9", "memory", "+< 64 MiB", &text, growth < 64 << 20);
    sleep(Duration::from_secs(2)).await;
    let after = quantile(&open_loop(&connections, &call, saturation / 4.0, time / 2).await.accepted, 0.99);
    let text = format!("p99 {after:.1?}, before {reference:.1?}");
    // A figure of single milliseconds is noise on a shared machine.
    let kept = after <= reference * 3 / 2 + Duration::from_millis(2);
    report.line("P9", "two seconds after", "back to the p99 before", &text, kept);
    let mut probed = probed.lock().unwrap_or_else(PoisonError::into_inner).clone();
    probed.sort_unstable();
    let p99 = quantile(&probed, 0.99);
    let text = format!("{} probes, p99 {p99:.1?}, worst {:.1?}", probed.len(), probed.last().unwrap_or(&p99));
    report.line(
        "P10",
        "/healthz, /livez, /metrics through it",
        "p99 < 100 ms",
        &text,
        p99 < Duration::from_millis(100),
    );
}

/// Four times what is answered at most.
async fn saturated(report: &mut Report, target: &Target, (connections, call): Caller<'_>, rows: usize, time: Duration) {
    let what = &format!("4 × the peak of {rows} rows, medians of rounds");
    let mut all = Step::default();
    let (mut goods, mut peaks, mut tails, mut worked) = (Vec::new(), Vec::new(), Vec::new(), 0.0_f64);
    let storm = closed_loop(connections, call, 64, time / 6).await;
    loop {
        // The peak is that of a server which has not refused anybody for a while.
        let quiet = quantile(&open_loop(connections, call, 25_000.0 / rows as f64, QUIET).await.accepted, 0.99);
        let peak = closed_loop(connections, call, 4, QUIET).await;
        peaks.push(peak);
        if all.took >= time {
            break;
        }
        let cpu = machine::cpu(target.pid());
        let step = open_loop(connections, call, 4.0 * peak, ROUND).await;
        let busy = machine::cpu(target.pid()).saturating_sub(cpu).as_secs_f64() / (step.took + ONSET).as_secs_f64();
        worked = worked.max(busy);
        goods.push(step.goodput());
        tails.push(quantile(&step.accepted, 0.99).as_secs_f64() / quiet.as_secs_f64());
        println!("     peak {peak:.0}/s, quiet p99 {quiet:.1?}; {}; CPU {:.0} %", step.text(), 100.0 * busy);
        all.add(step);
    }
    let storm = storm / peaks[0];
    let goodput =
        goods.iter().zip(peaks.windows(2)).map(|(good, peaks)| good / f64::midpoint(peaks[0], peaks[1])).collect();
    if worked < 0.75 && all.refused.is_empty() {
        // Somebody else has the core, or the generator is the slower of the two.
        let why = format!("the server had {:.0} % of its core: not saturated", 100.0 * worked);
        return report.not_applicable("P9", what, &why);
    }
    let median = |mut values: Vec<f64>| {
        values.sort_unstable_by(f64::total_cmp);
        values[values.len() / 2]
    };
    let (good, tail, refusal) = (median(goodput), median(tails), quantile(&all.refused, 0.99));
    let text = format!("good {:.0} % of the peak, p99 {tail:.1} × quiet; {}", 100.0 * good, all.text());
    let kept = good >= 0.9
        && tail <= 3.0
        && refusal <= Duration::from_millis(5)
        && all.with_pushback == all.refused.len()
        && all.others.is_empty();
    report.line("P9", what, "good >= 90 %, p99 <= 3 × quiet, refused <= 5 ms", &text, kept);
    // Nobody has promised anything of those who do not wait as they are told.
    println!("     64 clients who ask again at once: good {:.0} % of the peak", 100.0 * storm);
    if let Some(other) = all.others.first() {
        println!("     {other}");
    }
}

/// P17: two addresses, of which one asks for all that it may.
pub(crate) async fn tenants(report: &mut Report, how: &How, flags: &[&str], time: Duration) {
    const WHAT: &str = "a client at its cap, next to another";
    let target = match how.start(&[flags, &["--max-in-flight-per-client", "4"]].concat()).await {
        Ok(target) => target,
        Err(why) => return report.not_applicable("P17", WHAT, &why),
    };
    let mut alone = Vec::new();
    for _ in 0..3 {
        alone.push(neighbour(&target, time / 2).await);
    }
    alone.sort_unstable();
    let mut greedy = JoinSet::new();
    for n in 0..8 {
        let address = target.grpc;
        greedy.spawn(async move {
            let Ok(stream) = stall::connect_from(address, 7).await else { return 0 };
            drop(stream.set_nodelay(true));
            let Ok((send, connection)) = h2::client::handshake(stream).await else { return 0 };
            let driver = tokio::spawn(async move { drop(connection.await) });
            let call = Call::new(PREDICT, &test_set().predict(n..n + ROWS));
            let mut asked = 0_u64;
            loop {
                let mut request =
                    http::Request::post(format!("http://localhost{PREDICT}")).body(()).expect("a request");
                *request.headers_mut() = call.headers.clone();
                let Ok(mut ready) = send.clone().ready().await else { break };
                let Ok((response, mut body)) = ready.send_request(request, false) else { break };
                drop(body.send_data(call.body.clone(), true));
                let Ok(response) = response.await else { break };
                let mut answer = response.into_body();
                while let Some(Ok(data)) = answer.data().await {
                    drop(answer.flow_control().release_capacity(data.len()));
                }
                asked += 1;
                // A client that is refused waits as long as it is told, not at all.
                tokio::task::yield_now().await;
            }
            driver.abort();
            asked
        });
    }
    let mut next_to = Vec::new();
    for _ in 0..3 {
        next_to.push(neighbour(&target, time / 2).await);
    }
    next_to.sort_unstable();
    greedy.abort_all();
    let (quiet, busy, floor) = (alone[1], next_to[1], alone[2]);
    let text = format!("p99 {busy:.1?}, alone {quiet:.1?} (worst window {floor:.1?})");
    let kept = busy <= quiet.max(floor) * 6 / 5 + Duration::from_millis(1);
    report.line("P17", WHAT, "p99 within 20 % (or 1 ms) of alone", &text, kept);
}

async fn neighbour(target: &Target, time: Duration) -> Duration {
    let victim = crate::victim::Victim::start(target.grpc);
    sleep(time).await;
    tokio::task::spawn_blocking(move || victim.stop()).await.expect("the victim's thread").p99()
}
