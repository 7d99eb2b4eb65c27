//! The hardened listener that both processes stand behind. It owns its accept loop and its connections, because stock
//! tonic advertises no stream limit, never cuts off reset floods, can't drain a stream and closes aged connections without
//! a GOAWAY.
//!
//! One task accepts and hands each connection to a worker: a thread with a runtime of its own, on which the connection
//! and its requests then stay. A request that is cheap never crosses a thread.

use std::{future::Future, io, net::SocketAddr, path::PathBuf, str::FromStr, sync::Arc, thread, time::Duration};

use hyper::body::Incoming;
use tokio::{
    net::{TcpListener, TcpStream, UnixListener, UnixStream},
    sync::{OwnedSemaphorePermit, Semaphore, mpsc},
};

pub use body::Body;
pub use routed::routed;
pub use unary::{Call, Frame, MessageLimits, unary};

use crate::shutdown::{Phase, Phases};

mod body;
mod compression;
mod connection;
mod greeting;
mod routed;
mod timeout;
mod unary;

/// The limits of a listener. Defaults: `reliability.md` section 6; each is asserted on the wire by `tests/`.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Connections at the same time, over all addresses.
    pub connections: usize,
    /// Streams at the same time on one connection; more are answered with `REFUSED_STREAM`.
    pub streams: u32,
    /// RST_STREAM frames that a peer may make us send before the connection is closed (CVE-2019-9514, CVE-2025-8671).
    pub local_error_resets: usize,
    /// Streams that a peer opened and reset before we accepted them (CVE-2023-44487).
    pub pending_accept_resets: usize,
    /// From the acceptance of a connection to its complete preface.
    pub greeting: Duration,
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
            streams: 128,
            // Not lower: since h2 0.4.20 a refused stream counts too, and a polite burst past `streams` would be cut off.
            local_error_resets: 1024,
            pending_accept_resets: 20,
            greeting: Duration::from_secs(5),
            header_list_bytes: 16 * 1024,
            stream_window: 256 * 1024,
            connection_window: 1024 * 1024,
            keepalive_interval: Duration::from_secs(30),
            keepalive_timeout: Duration::from_secs(10),
            grace: Duration::from_secs(25),
        }
    }
}

/// Where to listen or whom to call: `127.0.0.1:8001`, `[::]:8001`, `unix:/run/understudy.sock`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// A TCP socket.
    Tcp(SocketAddr),
    /// A Unix socket.
    Unix(PathBuf),
}

impl FromStr for Address {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(path) = text.strip_prefix("unix:") {
            if path.is_empty() {
                return Err("expected a path after unix:".into());
            }
            return Ok(Self::Unix(path.trim_start_matches("//").into()));
        }
        text.parse().map(Self::Tcp).map_err(|_| format!("expected IP:PORT or unix:PATH, got {text:?}"))
    }
}

impl std::fmt::Display for Address {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(out),
            Self::Unix(path) => write!(out, "unix:{}", path.display()),
        }
    }
}

/// Who called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peer {
    /// Over TCP.
    Tcp(SocketAddr),
    /// Over the Unix socket.
    Unix,
}

impl Peer {
    /// True on this machine only: the Unix socket and the loopback addresses.
    pub fn is_local(&self) -> bool {
        match self {
            Self::Unix => true,
            Self::Tcp(address) => address.ip().to_canonical().is_loopback(),
        }
    }
}

/// What stands behind an edge.
pub trait Front: Clone + Send + Sync + 'static {
    /// Answers one request. Dropped when the caller has gone.
    fn call(&self, request: http::Request<Incoming>, peer: Peer) -> impl Future<Output = http::Response<Body>> + Send;
}

/// A socket that is bound and listens, but from which nobody accepts yet.
#[derive(Debug)]
pub enum Listener {
    /// A TCP socket.
    Tcp(std::net::TcpListener),
    /// A Unix socket; its file is removed at the end.
    Unix(std::os::unix::net::UnixListener, PathBuf),
}

impl Listener {
    /// Binds `address`. Port 0 takes a free port. A socket file that nobody listens on any more is replaced.
    ///
    /// # Errors
    /// The address is taken or not ours.
    pub fn bind(address: &Address) -> io::Result<Self> {
        match address {
            Address::Tcp(address) => {
                let domain = socket2::Domain::for_address(*address);
                let socket = socket2::Socket::new(domain, socket2::Type::STREAM, None)?;
                socket.set_reuse_address(true)?;
                socket.bind(&(*address).into())?;
                socket.listen(1024)?;
                socket.set_nonblocking(true)?;
                Ok(Self::Tcp(socket.into()))
            }
            Address::Unix(path) => {
                if std::os::unix::net::UnixStream::connect(path).is_err() {
                    match std::fs::symlink_metadata(path) {
                        Ok(found) if std::os::unix::fs::FileTypeExt::is_socket(&found.file_type()) => {
                            std::fs::remove_file(path)?;
                        }
                        _ => {}
                    }
                }
                let listener = std::os::unix::net::UnixListener::bind(path)?;
                // It carries everybody's data.
                std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o600))?;
                listener.set_nonblocking(true)?;
                Ok(Self::Unix(listener, path.clone()))
            }
        }
    }

    /// Where it really listens.
    pub fn address(&self) -> io::Result<Address> {
        match self {
            Self::Tcp(listener) => listener.local_addr().map(Address::Tcp),
            Self::Unix(_, path) => Ok(Address::Unix(path.clone())),
        }
    }
}

/// A connection on its way from the accept loop to its worker.
struct Accepted {
    socket: Socket,
    peer: Peer,
    /// Its place among [`Limits::connections`].
    permit: OwnedSemaphorePermit,
}

enum Socket {
    Tcp(std::net::TcpStream),
    Unix(std::os::unix::net::UnixStream),
}

/// A running listener.
#[derive(Debug)]
pub struct Edge {
    workers: Vec<thread::JoinHandle<()>>,
    accepting: Vec<tokio::task::JoinHandle<()>>,
}

impl Edge {
    /// Accepts from `listeners` on the current runtime and serves on `workers` threads named `name-N`, until
    /// [`Phase::Closing`].
    ///
    /// # Errors
    /// A thread can't be started or a socket can't be registered.
    pub fn start<F: Front>(
        name: &str,
        listeners: Vec<Listener>,
        workers: usize,
        limits: &Limits,
        phases: &Phases,
        front: &F,
    ) -> io::Result<Self> {
        let places = Arc::new(Semaphore::new(limits.connections));
        let mut senders = Vec::new();
        let mut threads = Vec::new();
        for worker in 0..workers.max(1) {
            // Bounded by the places, which the sender holds.
            let (send, receive) = mpsc::unbounded_channel();
            senders.push(send);
            let (limits, phases, front) = (limits.clone(), phases.clone(), front.clone());
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            threads.push(thread::Builder::new().name(format!("{name}-{worker}")).spawn(move || {
                runtime.block_on(connection::work(receive, limits, phases, front));
            })?);
        }
        let mut accepting = Vec::new();
        for listener in listeners {
            let (senders, places, phases) = (senders.clone(), places.clone(), phases.clone());
            accepting.push(match listener {
                Listener::Tcp(listener) => {
                    let listener = TcpListener::from_std(listener)?;
                    tokio::spawn(async move {
                        let next = || async {
                            let (stream, peer) = listener.accept().await?;
                            // Answers are small and ready: waiting to fill a segment would cost up to 40 ms.
                            stream.set_nodelay(true)?;
                            Ok((Socket::Tcp(TcpStream::into_std(stream)?), Peer::Tcp(peer)))
                        };
                        accept(next, &senders, &places, &phases).await;
                    })
                }
                Listener::Unix(listener, path) => {
                    let listener = UnixListener::from_std(listener)?;
                    tokio::spawn(async move {
                        let next = || async {
                            let (stream, _) = listener.accept().await?;
                            Ok((Socket::Unix(UnixStream::into_std(stream)?), Peer::Unix))
                        };
                        accept(next, &senders, &places, &phases).await;
                        drop(std::fs::remove_file(&path));
                    })
                }
            });
        }
        Ok(Self { workers: threads, accepting })
    }

    /// Waits until all connections have ended: after [`Phase::Closing`], at most [`Limits::grace`] later.
    pub async fn ended(self) {
        for task in self.accepting {
            drop(task.await);
        }
        let workers = self.workers;
        let joined = tokio::task::spawn_blocking(move || {
            for worker in workers {
                if worker.join().is_err() {
                    tracing::error!("a worker thread has panicked");
                }
            }
        });
        drop(joined.await);
    }
}

/// Accepts until [`Phase::Closing`] and deals the connections out in turn.
async fn accept<N, T>(next: N, workers: &[mpsc::UnboundedSender<Accepted>], places: &Arc<Semaphore>, phases: &Phases)
where
    N: Fn() -> T,
    T: Future<Output = io::Result<(Socket, Peer)>>,
{
    let closing = phases.reached(Phase::Closing);
    tokio::pin!(closing);
    for turn in 0.. {
        let accepted = tokio::select! {
            accepted = next() => accepted,
            () = &mut closing => return,
        };
        match accepted {
            Ok((socket, peer)) => match places.clone().try_acquire_owned() {
                Ok(permit) => {
                    let worker = &workers[turn % workers.len()];
                    if worker.send(Accepted { socket, peer, permit }).is_err() {
                        tracing::error!("a worker has ended before its time; the connection is closed");
                    }
                }
                Err(_) => tracing::warn!(?peer, "connection refused: too many connections"),
            },
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                // Out of file descriptors: without a pause this loop would spin until one is free.
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}
