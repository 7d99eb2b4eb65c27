//! A neighbour who does nothing wrong: open loop, so that a server that stalls can't slow the clock down that it is judged by.

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use support::{
    adult::test_set,
    grpc::{Call, Connection, PREDICT},
};

/// Calls a second.
const RATE: u32 = 500;

/// A thread with one connection.
#[derive(Debug)]
pub(crate) struct Victim {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Seen>,
}

/// What it saw.
#[derive(Clone, Debug, Default)]
pub(crate) struct Seen {
    pub(crate) calls: usize,
    pub(crate) errors: Vec<String>,
    /// From when a call should have started, sorted.
    latencies: Vec<Duration>,
}

impl Seen {
    pub(crate) fn p99(&self) -> Duration {
        quantile(&self.latencies, 0.99)
    }
}

/// Of what is sorted; zero of nothing.
pub(crate) fn quantile(sorted: &[Duration], q: f64) -> Duration {
    let at = ((sorted.len() as f64 * q) as usize).min(sorted.len().saturating_sub(1));
    sorted.get(at).copied().unwrap_or_default()
}

impl Victim {
    pub(crate) fn start(address: SocketAddr) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let told = stop.clone();
        let thread = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(ask(address, &told))
        });
        Self { stop, thread }
    }

    pub(crate) fn stop(self) -> Seen {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().expect("the victim's thread")
    }
}

async fn ask(address: SocketAddr, stop: &AtomicBool) -> Seen {
    let connection = Arc::new(Connection::open(address).await);
    let call = Arc::new(Call::new(PREDICT, &test_set().predict(0..1)));
    let seen = Arc::new(Mutex::new(Seen::default()));
    let mut calls = tokio::task::JoinSet::new();
    let mut next = Instant::now();
    while !stop.load(Ordering::Relaxed) {
        next += Duration::from_secs(1) / RATE;
        tokio::time::sleep_until(next.into()).await;
        let (connection, call, seen) = (connection.clone(), call.clone(), seen.clone());
        calls.spawn(async move {
            let reply = tokio::time::timeout(Duration::from_secs(20), connection.call(&call)).await;
            let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
            seen.calls += 1;
            match reply {
                Ok(reply) if reply.status == Some(0) => seen.latencies.push(next.elapsed()),
                Ok(reply) => seen.errors.push(format!("HTTP {}, {:?}, {}", reply.http, reply.status, reply.message)),
                Err(_) => seen.errors.push("no answer within 20 s".into()),
            }
        });
        while calls.try_join_next().is_some() {}
    }
    drop(calls.join_all().await);
    let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner).clone();
    seen.latencies.sort_unstable();
    seen
}

/// What a neighbour's p99 is without an attack, and how much of an attack's effect on it is this machine's.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Baseline {
    /// The median of quiet windows.
    pub(crate) quiet: Duration,
    /// The worst of them, and of one in which a thread does nothing but compute next to the victim.
    pub(crate) floor: Duration,
}

impl Baseline {
    pub(crate) async fn measure(address: SocketAddr, window: Duration) -> Self {
        let mut quiet = Vec::new();
        for _ in 0..3 {
            quiet.push(Self::window(address, window).await);
        }
        quiet.sort_unstable();
        let stop = Arc::new(AtomicBool::new(false));
        let told = stop.clone();
        let spinner = thread::spawn(move || {
            while !told.load(Ordering::Relaxed) {
                std::hint::spin_loop();
            }
        });
        let busy = Self::window(address, window).await;
        stop.store(true, Ordering::Relaxed);
        drop(spinner.join());
        Self { quiet: quiet[1], floor: busy.max(quiet[2]) }
    }

    async fn window(address: SocketAddr, window: Duration) -> Duration {
        let victim = Victim::start(address);
        tokio::time::sleep(window).await;
        let seen = tokio::task::spawn_blocking(move || victim.stop()).await.expect("the victim's thread");
        seen.p99()
    }

    /// Twice the quiet p99 (P18), or twice the noise floor where that is more.
    pub(crate) fn allowed(self) -> Duration {
        2 * self.floor.max(self.quiet)
    }

    /// Whether the neighbour was left alone, and what to print.
    pub(crate) fn judge(self, seen: &Seen) -> (bool, String) {
        let text = format!("victim {} calls, {} errors, p99 {:.1?}", seen.calls, seen.errors.len(), seen.p99());
        let first = seen.errors.first().map(|error| format!(" ({error})")).unwrap_or_default();
        (seen.errors.is_empty() && seen.p99() <= self.allowed(), text + &first)
    }
}
