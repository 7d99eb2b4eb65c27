//! The hardened listener that both processes stand behind. It owns its accept loop and its connections, because stock
//! tonic advertises no stream limit, never cuts off reset floods, can't drain a stream and closes aged connections without
//! a GOAWAY.
//!
//! One task accepts and hands each connection to a worker: a thread with a runtime of its own, on which the connection
//! and its requests then stay. A request that is cheap never crosses a thread.

use std::{
    future::Future,
    io,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use tokio::sync::mpsc;

pub use admission::{Admission, Client, InFlight, busy};
pub use body::{Body, passed};
pub use cores::{Cores, Working};
pub use inbound::Inbound;
pub use instruments::{Instruments, Refusal};
pub use listener::{Address, Listener};
pub use pulse::Pulse;
pub use routed::routed;
pub use tls::{ClientAuthority, Tls, TlsFiles};
pub use turns::Turn;
pub use unary::{Call, Frame, Gate, MessageLimits, denied, unary};
pub use whole::{Unread, read_body, unframe};

use crate::shutdown::Phases;

mod accept;
mod admission;
mod answer;
mod arriving;
mod body;
mod calls;
mod compression;
mod connection;
mod cores;
mod frames;
mod inbound;
mod instruments;
mod listener;
mod meter;
mod pulse;
mod routed;
mod stream;
mod timeout;
mod tls;
mod turns;
mod unary;
mod whole;
mod windows;

/// The limits of a listener. Defaults: `reliability.md` section 6; each is asserted on the wire by `tests/`.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Connections at the same time, over all addresses; fewer where there are fewer file descriptors.
    pub connections: usize,
    /// Connections at the same time from one address.
    pub connections_of_address: usize,
    /// Streams at the same time on one connection; more are answered with `REFUSED_STREAM`.
    pub streams: u32,
    /// RST_STREAM frames that a peer may make us send before the connection is closed (CVE-2019-9514, CVE-2025-8671).
    pub local_error_resets: usize,
    /// Streams that a peer opened and reset before we accepted them (CVE-2023-44487).
    pub pending_accept_resets: usize,
    /// PING, SETTINGS, PRIORITY, WINDOW_UPDATE... that a peer may send at once (CVE-2019-9512, CVE-2019-9515)...
    pub control_frames_burst: u32,
    /// ...and in a second after that, beyond those that its requests and our answers account for.
    pub control_frames_a_second: u32,
    /// What a call may have to wait for its turn, besides what its worker has rested in the last tenth of a second; who would
    /// wait longer is refused when it comes.
    pub queue_wait: Duration,
    /// From the acceptance of a connection to its complete greeting: TLS, preface, SETTINGS.
    pub greeting: Duration,
    /// From the beginning of a header block to its end.
    pub headers: Duration,
    /// How long an answer may be ready without being taken, give or take a seventh. Then the connection gets a GOAWAY, and
    /// its other streams have five seconds to end.
    pub unread: Duration,
    /// After this time, give or take a tenth, a connection gets a GOAWAY, so that clients spread anew (gRFC A9); zero: never.
    pub age: Duration,
    /// What a connection of that age may take to finish its streams.
    pub age_grace: Duration,
    /// Bytes of a header list.
    pub header_list_bytes: u32,
    /// Bytes that may be in flight on one stream.
    pub stream_window: u32,
    /// Bytes that may be in flight on one connection.
    pub connection_window: u32,
    /// After this time without a frame the peer is asked whether it is still there.
    pub keepalive_interval: Duration,
    /// How long it has to answer.
    pub keepalive_timeout: Duration,
    /// What a connection may take to finish its streams after a GOAWAY.
    pub grace: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 1024,
            connections_of_address: 64,
            streams: 128,
            // Not lower: since h2 0.4.20 a refused stream counts too, and a polite burst past `streams` would be cut off.
            local_error_resets: 1024,
            pending_accept_resets: 20,
            control_frames_burst: 3_000,
            control_frames_a_second: 1_000,
            // A client that makes many calls at once waits for its own; that is no overload yet.
            queue_wait: Duration::from_millis(25),
            greeting: Duration::from_secs(5),
            headers: Duration::from_secs(10),
            unread: Duration::from_secs(30),
            age: Duration::from_secs(30 * 60),
            age_grace: Duration::from_secs(60),
            header_list_bytes: 16 * 1024,
            stream_window: 256 * 1024,
            connection_window: 1024 * 1024,
            keepalive_interval: Duration::from_secs(30),
            keepalive_timeout: Duration::from_secs(10),
            grace: Duration::from_secs(25),
        }
    }
}

/// Who called. Cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Peer {
    /// Over TCP.
    Tcp(SocketAddr),
    /// Over TLS.
    Tls {
        /// Where from.
        address: SocketAddr,
        /// The [name](crate::identity::certificate::name) in a certificate that was verified.
        certificate: Option<Arc<str>>,
    },
    /// Over the Unix socket.
    Unix,
}

impl Peer {
    /// Its address; none on the Unix socket.
    pub fn ip(&self) -> Option<IpAddr> {
        match self {
            Self::Tcp(address) | Self::Tls { address, .. } => Some(address.ip()),
            Self::Unix => None,
        }
    }

    /// The name in its certificate.
    pub fn certificate(&self) -> Option<&Arc<str>> {
        match self {
            Self::Tls { certificate, .. } => certificate.as_ref(),
            Self::Tcp(_) | Self::Unix => None,
        }
    }

    /// True on this machine only: the Unix socket and the loopback addresses.
    pub fn is_local(&self) -> bool {
        match self {
            Self::Unix => true,
            Self::Tcp(address) | Self::Tls { address, .. } => address.ip().to_canonical().is_loopback(),
        }
    }
}

/// What stands behind an edge.
pub trait Front: Clone + Send + Sync + 'static {
    /// Answers one request. Dropped when the caller has gone. `turn` is its place among all that the worker has to do.
    fn call(
        &self,
        request: http::Request<Inbound>,
        peer: Peer,
        turn: Turn,
    ) -> impl Future<Output = http::Response<Body>> + Send;

    /// What tells clients of one address apart, where they are known by it: asked before a call is let in, so it is not verified.
    fn token<'a>(&self, _headers: &'a http::HeaderMap) -> Option<&'a [u8]> {
        None
    }
}

/// What an edge is started with.
#[derive(Debug)]
pub struct Setup<'a> {
    /// Of its threads: `name-0`, `name-1`...
    pub name: &'a str,
    /// Threads that serve connections.
    pub workers: usize,
    /// Of every connection.
    pub limits: &'a Limits,
    /// Of every connection over TCP; absent: plaintext. The Unix socket is plaintext.
    pub tls: Option<&'a Arc<Tls>>,
    /// The life of the process.
    pub phases: &'a Phases,
    /// What is counted.
    pub instruments: &'a Arc<Instruments>,
    /// What its threads share with others of the process.
    pub cores: &'a Arc<Cores>,
}

/// Tasks that a worker runs between two looks at its sockets: a call may take half a millisecond, and whoever is to be refused
/// should not have to wait for sixty of them.
const TASKS_BETWEEN_READS: u32 = 16;

/// A running listener.
#[derive(Debug)]
pub struct Edge {
    workers: Vec<thread::JoinHandle<()>>,
    /// Its other ends are with the workers; nothing is ever sent.
    working: mpsc::Receiver<()>,
    accepting: Vec<tokio::task::JoinHandle<()>>,
    beating: tokio::task::JoinHandle<()>,
    pulse: Pulse,
    grace: Duration,
}

/// What workers may take beyond the grace of their connections. One that does not turn would never end.
const OVERDUE: Duration = Duration::from_secs(1);

impl Edge {
    /// Accepts from `listeners` on the current runtime and serves on threads of its own, until
    /// [`Phase::Closing`](crate::shutdown::Phase::Closing).
    ///
    /// # Errors
    /// A thread can't be started or a socket can't be registered.
    pub fn start<F: Front>(setup: &Setup<'_>, listeners: Vec<Listener>, front: &F) -> io::Result<Self> {
        let Setup { name, workers, limits, tls, phases, instruments, cores } = *setup;
        let workers = workers.max(1);
        // The last one is the runtime on which connections are accepted.
        let pulse = Pulse::new(workers + 1);
        let (worker_is_there, working) = mpsc::channel(1);
        let places = accept::Places::new(limits, instruments.clone());
        let mut senders = Vec::new();
        let mut threads = Vec::new();
        for worker in 0..workers {
            // Bounded by the places, which what is sent holds.
            let (send, receive) = mpsc::unbounded_channel();
            senders.push(send);
            let turns = Arc::new(turns::Turns::new(limits.queue_wait, instruments.clone(), cores.clone()));
            let work = connection::Worker {
                limits: limits.clone(),
                tls: tls.cloned(),
                phases: phases.clone(),
                instruments: instruments.clone(),
                turns: turns.clone(),
                front: front.clone(),
            };
            let beat = pulse.beat(worker);
            let mut runtime = tokio::runtime::Builder::new_current_thread();
            let (parking, waking) = (turns.clone(), turns.clone());
            runtime
                .on_thread_park(move || parking.parks(Instant::now()))
                .on_thread_unpark(move || waking.wakes(Instant::now()));
            let runtime = runtime.event_interval(TASKS_BETWEEN_READS).enable_all().build()?;
            let is_there = worker_is_there.clone();
            threads.push(thread::Builder::new().name(format!("{name}-{worker}")).spawn(move || {
                let _is_there = is_there;
                runtime.block_on(async move {
                    let beating = tokio::spawn(beat);
                    let calling = tokio::spawn(async move { turns.call().await });
                    work.run(receive).await;
                    calling.abort();
                    beating.abort();
                });
            })?);
        }
        let accepting = accept::start(listeners, &senders, &places, phases)?;
        let beating = tokio::spawn(pulse.beat(workers));
        Ok(Self { workers: threads, working, accepting, beating, pulse, grace: limits.grace })
    }

    /// Tells whether its threads still turn.
    pub fn pulse(&self) -> Pulse {
        self.pulse.clone()
    }

    /// Waits until all connections have ended: after [`Phase::Closing`](crate::shutdown::Phase::Closing), at most
    /// [`Limits::grace`] and a second later, even when a worker does not turn.
    pub async fn ended(mut self) {
        for task in self.accepting {
            drop(task.await);
        }
        self.beating.abort();
        let in_time = tokio::time::timeout(self.grace + OVERDUE, self.working.recv()).await.is_ok();
        for (number, worker) in self.workers.into_iter().enumerate() {
            if !in_time && !worker.is_finished() {
                tracing::error!(worker = number, grace = ?self.grace, "a worker thread does not end; it is left behind");
            } else if worker.join().is_err() {
                tracing::error!(worker = number, "a worker thread has panicked");
            }
        }
    }
}
