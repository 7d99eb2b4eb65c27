//! A client with a schedule: calls begin when they are due, whether earlier ones have been answered or not, and a latency
//! counts from when its call was due. So a server that stalls can't slow the clock down that it is judged by.

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use tokio::{sync::mpsc, task::JoinSet, time::timeout};

use crate::grpc::{Call, Connection};

/// Until an answer that does not come is an error.
const PATIENCE: Duration = Duration::from_secs(20);
/// Errors that are told; all are counted.
const TOLD: usize = 20;

/// What is asked, and how often.
#[derive(Clone, Debug)]
pub struct Schedule {
    /// Calls a second.
    pub rate: u32,
    /// Over how many connections, in turn.
    pub connections: usize,
    /// Calls that are due before are made, but their latencies are not kept.
    pub warm_up: Duration,
}

/// A running client, on threads of its own.
#[derive(Debug)]
pub struct OpenLoop {
    stop: Arc<AtomicBool>,
    clock: JoinHandle<()>,
    client: JoinHandle<Seen>,
}

/// What it saw.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// All calls, those of the warm-up included.
    pub calls: u64,
    /// Calls that were not answered with OK.
    pub failed: u64,
    /// The first of them.
    pub errors: Vec<String>,
    /// Sorted; of calls that were answered with OK after the warm-up.
    latencies: Vec<Duration>,
}

impl Seen {
    /// The `q`-quantile of the latencies.
    pub fn quantile(&self, q: f64) -> Duration {
        quantile(&self.latencies, q)
    }

    /// Calls that were answered with OK, those of the warm-up included.
    pub fn answered(&self) -> u64 {
        self.calls - self.failed
    }

    /// 99 of 100 calls took at most this.
    pub fn p99(&self) -> Duration {
        self.quantile(0.99)
    }

    fn failed(&mut self, error: String) {
        self.failed += 1;
        if self.errors.len() < TOLD {
            self.errors.push(error);
        }
    }
}

/// Of what is sorted; zero of nothing.
pub fn quantile(sorted: &[Duration], q: f64) -> Duration {
    let at = ((sorted.len() as f64 * q) as usize).min(sorted.len().saturating_sub(1));
    sorted.get(at).copied().unwrap_or_default()
}

impl OpenLoop {
    /// Makes `calls`, in turn and for ever, to `address`.
    pub fn start(address: SocketAddr, calls: Arc<[Call]>, schedule: &Schedule) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (due, dues) = mpsc::unbounded_channel();
        let (told, rate) = (stop.clone(), schedule.rate.max(1));
        let (begin, begun) = std::sync::mpsc::channel();
        // A thread of its own: the timer of a runtime has no finer steps than a millisecond, and calls would come in bursts.
        let clock = thread::spawn(move || {
            let Ok(start) = begun.recv() else { return };
            for n in 0_u64.. {
                let next: Instant = start + Duration::from_nanos(n * 1_000_000_000 / u64::from(rate));
                if let Some(early) = next.checked_duration_since(Instant::now()) {
                    thread::sleep(early);
                }
                if told.load(Ordering::Relaxed) || due.send(next).is_err() {
                    return;
                }
            }
        });
        let schedule = schedule.clone();
        let client = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async move {
                let mut connections = Vec::new();
                for _ in 0..schedule.connections.max(1) {
                    connections.push(Arc::new(Connection::open(address).await));
                }
                let start = Instant::now();
                begin.send(start).expect("the clock waits");
                ask(&connections, &calls, dues, start + schedule.warm_up).await
            })
        });
        Self { stop, clock, client }
    }

    /// Ends it when all answers are there. Blocks.
    pub fn stop(self) -> Seen {
        self.stop.store(true, Ordering::Relaxed);
        self.clock.join().expect("the clock's thread");
        self.client.join().expect("the client's thread")
    }

    /// Lets it run for `time`, and ends it.
    pub async fn run_for(self, time: Duration) -> Seen {
        tokio::time::sleep(time).await;
        tokio::task::spawn_blocking(move || self.stop()).await.expect("the client's threads")
    }
}

async fn ask(
    connections: &[Arc<Connection>],
    calls: &Arc<[Call]>,
    mut dues: mpsc::UnboundedReceiver<Instant>,
    counted: Instant,
) -> Seen {
    let seen = Arc::new(Mutex::new(Seen::default()));
    let mut running = JoinSet::new();
    let mut n = 0;
    while let Some(due) = dues.recv().await {
        let (connection, calls, seen) = (connections[n % connections.len()].clone(), calls.clone(), seen.clone());
        running.spawn(async move {
            let reply = timeout(PATIENCE, connection.call(&calls[n % calls.len()])).await;
            let took = due.elapsed();
            let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
            match reply {
                Ok(reply) if reply.status == Some(0) && due < counted => {}
                Ok(reply) if reply.status == Some(0) => seen.latencies.push(took),
                Ok(reply) => seen.failed(format!("HTTP {}, {:?}, {}", reply.http, reply.status, reply.message)),
                Err(_) => seen.failed(format!("no answer within {PATIENCE:?}")),
            }
        });
        n += 1;
        while running.try_join_next().is_some() {}
    }
    drop(running.join_all().await);
    let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner).clone();
    seen.calls = n as u64;
    seen.latencies.sort_unstable();
    seen
}
