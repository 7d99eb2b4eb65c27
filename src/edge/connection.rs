//! A worker and its connections.

use std::{
    io,
    net::SocketAddr,
    pin::pin,
    sync::Arc,
    time::{Duration, Instant},
};

use h2::{Ping, PingPong, server};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpStream, UnixStream},
    sync::mpsc,
    task::JoinSet,
};

use super::{
    Front, Limits, Peer, Tls,
    accept::{Accepted, Socket},
    calls::Calls,
    instruments::{Cut, Instruments},
    meter::{Failing, Metered, Patience, State},
    turns::Turns,
    windows::Windows,
};
use crate::shutdown::{Phase, Phases};

/// What the streams of a connection have to end on which one answer was not taken: a proxy's carries the calls of many clients, and
/// it was one of them who did not read.
const UNREAD_GRACE: Duration = Duration::from_secs(5);

/// What every connection of a worker shares.
#[derive(Clone, Debug)]
pub(super) struct Worker<F> {
    pub(super) limits: Limits,
    pub(super) tls: Option<Arc<Tls>>,
    pub(super) phases: Phases,
    pub(super) instruments: Arc<Instruments>,
    pub(super) turns: Arc<Turns>,
    pub(super) front: F,
}

impl<F: Front> Worker<F> {
    /// Serves what it receives until the accept loop has ended and the last connection is gone.
    pub(super) async fn run(self, mut connections: mpsc::UnboundedReceiver<Accepted>) {
        let shared = Arc::new(self);
        let mut serving = JoinSet::new();
        loop {
            tokio::select! {
                accepted = connections.recv() => match accepted {
                    Some(accepted) => {
                        let shared = shared.clone();
                        serving.spawn(async move {
                            if let Err(error) = shared.serve(accepted).await {
                                tracing::debug!(%error, "a connection could not be served");
                            }
                        });
                    }
                    None => break,
                },
                Some(ended) = serving.join_next() => note(ended),
            }
        }
        while let Some(ended) = serving.join_next().await {
            note(ended);
        }
    }

    async fn serve(&self, accepted: Accepted) -> io::Result<()> {
        let Accepted { socket, peer, place } = accepted;
        match socket {
            Socket::Tcp(stream) => {
                let stream = TcpStream::from_std(stream)?;
                match (&self.tls, &peer) {
                    (Some(tls), Peer::Tcp(address)) => self.secure(tls, stream, *address).await?,
                    _ => self.drive(stream, peer, self.limits.greeting).await,
                }
            }
            Socket::Unix(stream) => self.drive(UnixStream::from_std(stream)?, peer, self.limits.greeting).await,
        }
        drop(place);
        Ok(())
    }

    /// The handshake takes of the time for the greeting.
    async fn secure(&self, tls: &Tls, stream: TcpStream, address: SocketAddr) -> io::Result<()> {
        let began = Instant::now();
        let handshake = tokio::select! {
            handshake = tokio::time::timeout(self.limits.greeting, tls.accept(stream)) => handshake,
            () = self.phases.reached(Phase::Closing) => return Ok(()),
        };
        let Ok(accepted) = handshake else {
            self.cut(&Peer::Tcp(address), Cut::Failing(Failing::Greeting));
            return Ok(());
        };
        let (stream, certificate) = accepted?;
        let left = self.limits.greeting.saturating_sub(began.elapsed());
        // Boxed: most of what a connection holds, and a plaintext one need not make room for both.
        Box::pin(self.drive(stream, Peer::Tls { address, certificate }, left)).await;
        Ok(())
    }

    async fn drive<I>(&self, io: I, peer: Peer, greeting: Duration)
    where
        I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let Self { limits, phases, turns, .. } = self;
        let control = (limits.control_frames_burst, limits.control_frames_a_second);
        let (io, state) = Metered::new(io, control, limits.stream_window, turns.clone());
        let patience = Patience { greeting, headers: limits.headers, unread: limits.unread };
        let mut failing = pin!(state.fails(patience));
        let closing = async {
            // A process that ends does not wait for the end of an age.
            phases.reached(Phase::Closing).await;
            tokio::time::sleep(limits.grace).await;
        };
        let mut closing = pin!(closing);
        let mut connection = tokio::select! {
            biased;
            greeted = builder(limits).handshake(io) => match greeted {
                Ok(connection) => connection,
                Err(error) => return self.ended(&peer, &state, &error),
            },
            failing = failing.as_mut() => return self.cut(&peer, Cut::Failing(failing)),
            () = closing.as_mut() => return self.cut(&peer, Cut::Grace),
        };
        let mut silent = pin!(silent(connection.ping_pong(), &state, limits));
        let calls = Calls::new(self, peer.clone(), state.clone());
        let ended = tokio::select! {
            biased;
            ended = calls.serve(&mut connection) => Ok(ended),
            failing = failing.as_mut() => {
                self.cut(&peer, Cut::Failing(failing));
                if failing != Failing::Unread {
                    return;
                }
                Err(UNREAD_GRACE.min(limits.grace))
            }
            () = silent.as_mut() => return self.cut(&peer, Cut::Silent),
            () = aged(limits.age) => {
                self.cut(&peer, Cut::Age);
                Err(limits.age_grace)
            }
            () = phases.reached(Phase::Closing) => Err(limits.grace),
        };
        let ended = match ended {
            Ok(ended) => ended,
            Err(grace) => {
                connection.graceful_shutdown();
                // From here on what is unread has the grace.
                failing.set(state.fails(Patience { unread: Duration::MAX, ..patience }));
                tokio::select! {
                    biased;
                    ended = calls.serve(&mut connection) => ended,
                    failing = failing => return self.cut(&peer, Cut::Failing(failing)),
                    () = silent => return self.cut(&peer, Cut::Silent),
                    () = tokio::time::sleep(grace) => return self.cut(&peer, Cut::Grace),
                    () = closing => return self.cut(&peer, Cut::Grace),
                }
            }
        };
        if let Err(error) = ended {
            self.ended(&peer, &state, &error);
        }
    }

    fn ended(&self, peer: &Peer, state: &State, error: &h2::Error) {
        if state.flooded() {
            return self.cut(peer, Cut::Failing(Failing::Flood));
        }
        tracing::debug!(?peer, %error, "a connection has ended with an error");
    }

    /// Whoever does this often would fill the log; the counter tells as much.
    fn cut(&self, peer: &Peer, reason: Cut) {
        tracing::debug!(?peer, ?reason, "a connection is ended");
        self.instruments.cut(reason);
    }
}

fn note(ended: Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended {
        tracing::error!(%error, "a connection's task has failed");
    }
}

async fn aged(age: Duration) {
    if age.is_zero() {
        return std::future::pending().await;
    }
    tokio::time::sleep(age.mul_f64(0.9 + 0.2 * fastrand::f64())).await;
}

/// Completes when the peer has not sent anything for a while, and does not answer a PING either.
async fn silent(ping_pong: Option<PingPong>, state: &State, limits: &Limits) {
    let Some(mut ping_pong) = ping_pong.filter(|_| !limits.keepalive_interval.is_zero()) else {
        return std::future::pending().await;
    };
    loop {
        let idle = state.idle();
        if let Some(rest) = limits.keepalive_interval.checked_sub(idle).filter(|rest| !rest.is_zero()) {
            tokio::time::sleep(rest).await;
            continue;
        }
        match tokio::time::timeout(limits.keepalive_timeout, ping_pong.ping(Ping::opaque())).await {
            Ok(Ok(_)) => {}
            // The connection knows it, too.
            Ok(Err(_)) => return std::future::pending().await,
            Err(_) => return,
        }
    }
}

fn builder(limits: &Limits) -> server::Builder {
    let mut builder = server::Builder::new();
    builder
        .max_concurrent_streams(limits.streams)
        .max_local_error_reset_streams(Some(limits.local_error_resets))
        .max_pending_accept_reset_streams(limits.pending_accept_resets)
        .max_header_list_size(limits.header_list_bytes)
        .initial_window_size(Windows::believed(limits.stream_window))
        .initial_connection_window_size(limits.connection_window);
    builder
}
