//! Taking connections in: never more than there are places for, in all and for one address, and never in a spin.

use std::{
    collections::HashMap,
    future::Future,
    io,
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::{
    net::{TcpListener, TcpStream, UnixListener, UnixStream},
    sync::{OwnedSemaphorePermit, Semaphore, mpsc},
};

use super::{
    Limits, Listener, Peer,
    admission::network,
    instruments::{Instruments, Offered},
};
use crate::shutdown::{Phase, Phases};

/// File descriptors that are left for everything that is no connection: models, logs, the tap, the admin port.
const SPARE_DESCRIPTORS: u64 = 128;
/// Out of file descriptors: without a pause the loop would spin until one is free.
const PAUSE: Duration = Duration::from_millis(100);

/// A connection on its way from the accept loop to its worker.
#[derive(Debug)]
pub(super) struct Accepted {
    pub(super) socket: Socket,
    pub(super) peer: Peer,
    pub(super) place: Place,
}

#[derive(Debug)]
pub(super) enum Socket {
    Tcp(std::net::TcpStream),
    Unix(std::os::unix::net::UnixStream),
}

/// The places of an edge.
#[derive(Debug)]
pub(super) struct Places {
    all: Arc<Semaphore>,
    by_address: Mutex<HashMap<IpAddr, usize>>,
    each: usize,
    instruments: Arc<Instruments>,
}

/// One connection's place; dropping it frees it.
#[derive(Debug)]
pub(super) struct Place {
    places: Arc<Places>,
    address: Option<IpAddr>,
    _permit: OwnedSemaphorePermit,
}

impl Places {
    pub(super) fn new(limits: &Limits, instruments: Arc<Instruments>) -> Arc<Self> {
        let connections = within_descriptors(limits.connections);
        Arc::new(Self {
            all: Arc::new(Semaphore::new(connections)),
            by_address: Mutex::default(),
            each: limits.connections_of_address,
            instruments,
        })
    }

    fn take(self: &Arc<Self>, peer: &Peer) -> Result<Place, Offered> {
        let permit = self.all.clone().try_acquire_owned().map_err(|_| Offered::TooMany)?;
        let address = peer.ip().map(network);
        if let Some(address) = address {
            let mut by_address = self.by_address.lock().unwrap_or_else(PoisonError::into_inner);
            let taken = by_address.entry(address).or_default();
            if *taken >= self.each {
                return Err(Offered::TooManyOfAddress);
            }
            *taken += 1;
        }
        self.instruments.connections.increment(1.0);
        Ok(Place { places: self.clone(), address, _permit: permit })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.places.instruments.connections.decrement(1.0);
        if let Some(address) = self.address {
            let mut by_address = self.places.by_address.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(taken) = by_address.get_mut(&address) {
                *taken -= 1;
                if *taken == 0 {
                    by_address.remove(&address);
                }
            }
        }
    }
}

/// As many of `connections` as there are file descriptors for, after asking the system for enough.
fn within_descriptors(connections: usize) -> usize {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let wanted = connections as u64 + SPARE_DESCRIPTORS;
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    // Absent means without a limit.
    let current = current.unwrap_or(u64::MAX);
    if current >= wanted {
        return connections;
    }
    let possible = wanted.min(maximum.unwrap_or(u64::MAX));
    let raised = setrlimit(Resource::Nofile, Rlimit { current: Some(possible), maximum }).is_ok();
    let descriptors = if raised { possible } else { current };
    // Even with very few there is somebody to serve.
    let places =
        usize::try_from(descriptors.saturating_sub(SPARE_DESCRIPTORS)).unwrap_or(0).max(descriptors as usize / 4);
    if places < connections {
        tracing::warn!(descriptors, asked = connections, places, "too few file descriptors for all connections");
    }
    places.min(connections)
}

/// Starts a task for each listener, which deals its connections out to the workers in turn until [`Phase::Closing`].
pub(super) fn start(
    listeners: Vec<Listener>,
    workers: &[mpsc::UnboundedSender<Accepted>],
    places: &Arc<Places>,
    phases: &Phases,
) -> io::Result<Vec<tokio::task::JoinHandle<()>>> {
    let mut accepting = Vec::new();
    for listener in listeners {
        let (workers, places, phases) = (workers.to_vec(), places.clone(), phases.clone());
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
                    accept(next, &workers, &places, &phases).await;
                })
            }
            Listener::Unix(listener, path) => {
                let listener = UnixListener::from_std(listener)?;
                tokio::spawn(async move {
                    let next = || async {
                        let (stream, _) = listener.accept().await?;
                        Ok((Socket::Unix(UnixStream::into_std(stream)?), Peer::Unix))
                    };
                    accept(next, &workers, &places, &phases).await;
                    drop(std::fs::remove_file(&path));
                })
            }
        });
    }
    Ok(accepting)
}

async fn accept<N, T>(next: N, workers: &[mpsc::UnboundedSender<Accepted>], places: &Arc<Places>, phases: &Phases)
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
        let offered = match accepted {
            Ok((socket, peer)) => match places.take(&peer) {
                Ok(place) => {
                    let worker = &workers[turn % workers.len()];
                    if worker.send(Accepted { socket, peer, place }).is_err() {
                        tracing::error!("a worker has ended before its time; the connection is closed");
                    }
                    Offered::Accepted
                }
                Err(refused) => {
                    // Whoever knocks often enough would fill the log; the counter tells as much.
                    tracing::debug!(?peer, reason = ?refused, "connection refused");
                    refused
                }
            },
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(PAUSE).await;
                Offered::Failed
            }
        };
        places.instruments.offered(offered);
    }
}
