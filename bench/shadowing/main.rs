//! What shadowing costs: the server's CPU for a request with and without a sidecar, whatever state that is in, and the
//! sidecar's CPU for an exchange. `bench/shadowing/run` builds and starts this.

#![allow(clippy::print_stdout, reason = "that is what it is for")]

use std::{
    fmt,
    net::SocketAddr,
    path::PathBuf,
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use anyhow::Context as _;
use clap::Parser;
use support::{
    adult::test_set,
    examples,
    grpc::{Call, Connection, MODEL_INFER},
    machine,
    open_loop::{OpenLoop, Schedule},
    sidecar::{Counts, Sidecar},
    stub::Stub,
    target::{How, Target},
};
use tokio::task::JoinSet;

/// Measures a server and a sidecar of its own.
#[derive(Parser)]
struct Arguments {
    /// `understudy-server`
    #[arg(long)]
    server: PathBuf,
    /// `shadow-sidecar`
    #[arg(long)]
    sidecar: PathBuf,
    /// Rounds in which every state has a turn; in every other one in the other order
    #[arg(long, default_value_t = 6)]
    rounds: usize,
    /// Requests of a turn as fast as they are answered
    #[arg(long, default_value_t = 60_000)]
    requests: u64,
    /// Length of a turn at a steady rate, in seconds
    #[arg(long, default_value_t = 5)]
    seconds: u64,
    /// Requests a second of the steady rate
    #[arg(long, default_value_t = 5_000)]
    rate: u32,
}

/// Connections of the client.
const CONNECTIONS: usize = 8;
/// Calls on each at the same time.
const IN_FLIGHT: usize = 4;
/// Requests before each turn: more than a queue holds.
const TOUCHED: u64 = 6_000;
/// Different rows.
const ROWS: usize = 1_000;

/// In what state the sidecar is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// There is none.
    Off,
    /// It follows, and its candidate is in its process.
    On,
    /// It is subscribed and does not read: the server's queue is full.
    Stopped,
    /// Its candidate takes every call and answers none: its own queue is full.
    Hanging,
    /// It was killed.
    Dead,
}

const STATES: [State; 5] = [State::Off, State::On, State::Stopped, State::Hanging, State::Dead];

impl fmt::Display for State {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Off => "no sidecar",
            Self::On => "subscribed, candidate in process",
            Self::Stopped => "subscribed and stopped",
            Self::Hanging => "subscribed, candidate hangs",
            Self::Dead => "killed",
        })
    }
}

/// One turn.
#[derive(Clone, Copy, Debug, Default)]
struct Turn {
    /// Of the server for one request, in microseconds.
    server: f64,
    /// Of the sidecar for one compared exchange, in microseconds.
    sidecar: Option<f64>,
    p99: Option<Duration>,
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> ExitCode {
    match run(&Arguments::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let directory = tempfile::tempdir()?;
    let socket = directory.path().join("tap.sock").to_string_lossy().into_owned();
    let how = How::Process { binary: arguments.server.clone(), setup: "taskset -cp 0 $$ >/dev/null".into() };
    let flags = ["--workers", "1", "--unix-socket", &socket];
    let server = how.start(&flags).await.map_err(anyhow::Error::msg)?;
    let hanging = Stub::start(|_| None).await;
    let stage = Stage { arguments, server, primary: format!("unix:{socket}"), hanging: hanging.url() };
    let calls: Vec<Call> =
        (0..ROWS).map(|row| Call::new(MODEL_INFER, &test_set().matrix(row..row + 1, true))).collect();
    let calls: Arc<[Call]> = calls.into();
    // Nobody is measured before everything was touched once.
    stage.turn(State::On, false, &calls).await?;
    for steady in [false, true] {
        let mut turns: Vec<[Turn; STATES.len()]> = Vec::new();
        for round in 0..arguments.rounds {
            let mut turn = [Turn::default(); STATES.len()];
            let mut order: Vec<usize> = (0..STATES.len()).collect();
            if round % 2 == 1 {
                order.reverse();
            }
            for state in order {
                turn[state] = stage.turn(STATES[state], steady, &calls).await?;
            }
            turns.push(turn);
            eprintln!("round {} of {}", round + 1, arguments.rounds);
        }
        let Arguments { requests, rate, seconds, .. } = arguments;
        if steady {
            println!("\n{rate} requests a second, {seconds} s a turn, {} rounds, medians", turns.len());
        } else {
            println!("\n{requests} requests as fast as they are answered, {} rounds, medians", turns.len());
        }
        print(&turns);
    }
    Ok(())
}

struct Stage<'a> {
    arguments: &'a Arguments,
    server: Target,
    primary: String,
    hanging: String,
}

impl Stage<'_> {
    async fn turn(&self, state: State, steady: bool, calls: &Arc<[Call]>) -> anyhow::Result<Turn> {
        let sidecar = match state {
            State::Off => None,
            _ => Some(self.sidecar(state).await?),
        };
        let address = self.server.grpc;
        // As long as it takes for a queue to fill, too.
        closed_loop(address, calls, TOUCHED).await?;
        match (state, &sidecar) {
            (State::Stopped, Some(sidecar)) => {
                sidecar.signal("STOP");
                closed_loop(address, calls, TOUCHED).await?;
            }
            (State::Dead, Some(sidecar)) => sidecar.signal("KILL"),
            (State::On, Some(sidecar)) => {
                sidecar.settled(TOUCHED, support::SOON).await?;
            }
            _ => {}
        }
        let [before, offered] = counted(state, sidecar.as_ref()).await?;
        let [server, observer] = [Some(self.server.pid()), sidecar.as_ref().map(Sidecar::pid)];
        let cpu = || [server, observer].map(|pid| pid.map_or(Duration::ZERO, machine::cpu_exact));
        let begun = cpu();
        let (asked, p99) = if steady {
            let schedule =
                Schedule { rate: self.arguments.rate, connections: CONNECTIONS, warm_up: Duration::from_millis(500) };
            let time = Duration::from_secs(self.arguments.seconds);
            let seen = OpenLoop::start(address, calls.clone(), &schedule).run_for(time).await;
            anyhow::ensure!(seen.failed == 0, "{state}: {} calls failed: {:?}", seen.failed, seen.errors.first());
            (seen.calls, Some(seen.p99()))
        } else {
            (closed_loop(address, calls, self.arguments.requests).await?, None)
        };
        let server_done = cpu()[0];
        if let (State::On, Some(sidecar)) = (state, &sidecar) {
            sidecar.settled(offered + asked, support::SOON).await?;
        }
        let ended = cpu();
        let micros = |from: Duration, to: Duration, count: u64| {
            to.saturating_sub(from).as_secs_f64() * 1e6 / count.max(1) as f64
        };
        let exchanges = counted(state, sidecar.as_ref()).await?[0] - before;
        let observer = (state == State::On).then(|| micros(begun[1], ended[1], exchanges));
        Ok(Turn { server: micros(begun[0], server_done, asked), sidecar: observer, p99 })
    }

    async fn sidecar(&self, state: State) -> anyhow::Result<Sidecar> {
        let package = examples().join("models/adult-candidate").to_string_lossy().into_owned();
        let candidate = if state == State::Hanging { &self.hanging } else { &package };
        let flags = ["--primary", &self.primary, "--candidate", candidate, "--log", "warn"];
        let sidecar = Sidecar::start(&self.arguments.sidecar, "taskset -cp 1 $$ >/dev/null", &flags).await?;
        sidecar.follows().await?;
        Ok(sidecar)
    }
}

/// Exchanges that were compared, and offered.
async fn counted(state: State, sidecar: Option<&Sidecar>) -> anyhow::Result<[u64; 2]> {
    match sidecar {
        Some(sidecar) if state == State::On => {
            let report = sidecar.report().await?;
            let counts = Counts::of(&report, "exchanges").context("no exchanges")?;
            Ok([counts.compared, counts.offered])
        }
        _ => Ok([0; 2]),
    }
}

/// `requests` calls over some connections, each call after an answer.
async fn closed_loop(address: SocketAddr, calls: &Arc<[Call]>, requests: u64) -> anyhow::Result<u64> {
    let next = Arc::new(AtomicU64::new(0));
    let mut clients = JoinSet::new();
    for _ in 0..CONNECTIONS {
        let connection = Arc::new(Connection::open(address).await);
        for _ in 0..IN_FLIGHT {
            let (connection, calls, next) = (connection.clone(), calls.clone(), next.clone());
            clients.spawn(async move {
                loop {
                    let n = next.fetch_add(1, Ordering::Relaxed);
                    if n >= requests {
                        return Ok(());
                    }
                    let reply = connection.call(&calls[n as usize % calls.len()]).await;
                    anyhow::ensure!(reply.status == Some(0), "a call failed: {reply:?}");
                }
            });
        }
    }
    clients.join_all().await.into_iter().collect::<anyhow::Result<()>>()?;
    Ok(requests)
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

fn print(turns: &[[Turn; STATES.len()]]) {
    println!("\n| sidecar | server CPU a request, us | of that without | p99, ms | sidecar CPU an exchange, us |");
    println!("|---|---|---|---|---|");
    for (n, state) in STATES.iter().enumerate() {
        let server = median(turns.iter().map(|turn| turn[n].server).collect());
        let ratio = median(turns.iter().map(|turn| turn[n].server / turn[0].server).collect());
        let p99: Vec<f64> = turns.iter().filter_map(|turn| Some(turn[n].p99?.as_secs_f64() * 1e3)).collect();
        let sidecar: Vec<f64> = turns.iter().filter_map(|turn| turn[n].sidecar).collect();
        let text =
            |values: Vec<f64>| if values.is_empty() { "–".to_owned() } else { format!("{:.2}", median(values)) };
        println!("| {state} | {server:.2} | {ratio:.3} | {} | {} |", text(p99), text(sidecar));
    }
}
