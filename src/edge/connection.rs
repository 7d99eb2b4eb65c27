//! A worker and its connections.

use std::{
    convert::Infallible,
    io,
    net::SocketAddr,
    panic::AssertUnwindSafe,
    pin::pin,
    sync::Arc,
    time::{Duration, Instant},
};

use futures_util::FutureExt as _;
use http::{Response, StatusCode};
use hyper::{body::Incoming, server::conn::http2, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpStream, UnixStream},
    sync::mpsc,
    task::JoinSet,
};
use tonic::Status;

use super::{
    Body, Client, Front, Inbound, Limits, Peer, Tls,
    accept::{Accepted, Socket},
    instruments::{Cut, Instruments},
    meter::{Failing, Metered, Patience},
    routed::HEALTH,
    turns::{CallExecutor, Seat, Turn, Turns, late},
    unary::failure,
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
        let Self { limits, phases, instruments, turns, front, tls: _ } = self;
        let (io, state) = Metered::new(io, limits.control_frames_burst, limits.control_frames_a_second, turns.clone());
        let service = {
            let (front, state, instruments) = (front.clone(), state.clone(), instruments.clone());
            let peer = peer.clone();
            let client = peer.certificate().map_or_else(|| Client::from(&peer), |name| Client::Named(name.clone()));
            let seat = Seat::new(turns, client);
            service_fn(move |request: http::Request<Incoming>| {
                let request = request.map(Inbound::from);
                let (front, state, instruments) = (front.clone(), state.clone(), instruments.clone());
                let peer = peer.clone();
                // Here the connection has read it; what follows is the call's own task, and its turn may come late. Probes are
                // let in whenever they come.
                let turn = if request.uri().path().starts_with(HEALTH) {
                    Ok(Turn::exempt())
                } else {
                    seat.join(front.token(request.headers()), Instant::now())
                };
                async move {
                    let turn = match turn {
                        Ok(turn) => turn,
                        Err(wait) => return Ok::<_, Infallible>(failure(StatusCode::OK, &late(wait))),
                    };
                    let answered = AssertUnwindSafe(front.call(request, peer, turn)).catch_unwind().await;
                    let answer = answered.unwrap_or_else(|_| panicked(&instruments));
                    Ok::<_, Infallible>(answer.map(|body| body.kept_until_sent(&state)))
                }
            })
        };
        let mut connection = pin!(builder(limits, turns).serve_connection(TokioIo::new(io), service));
        let patience = Patience { greeting, headers: limits.headers, unread: limits.unread };
        let mut failing = pin!(state.fails(patience));
        let ended = tokio::select! {
            ended = connection.as_mut() => Ok(ended),
            failing = failing.as_mut() => {
                self.cut(&peer, Cut::Failing(failing));
                if failing != Failing::Unread {
                    return;
                }
                Err(UNREAD_GRACE.min(limits.grace))
            }
            () = aged(limits.age) => {
                self.cut(&peer, Cut::Age);
                Err(limits.age_grace)
            }
            () = phases.reached(Phase::Closing) => Err(limits.grace),
        };
        let ended = match ended {
            Ok(ended) => ended,
            Err(grace) => {
                connection.as_mut().graceful_shutdown();
                // From here on what is unread has the grace.
                failing.set(state.fails(Patience { unread: Duration::MAX, ..patience }));
                let closing = async {
                    // A process that ends does not wait for the end of an age.
                    phases.reached(Phase::Closing).await;
                    tokio::time::sleep(limits.grace).await;
                };
                tokio::select! {
                    ended = connection => ended,
                    failing = failing => return self.cut(&peer, Cut::Failing(failing)),
                    () = tokio::time::sleep(grace) => return self.cut(&peer, Cut::Grace),
                    () = closing => return self.cut(&peer, Cut::Grace),
                }
            }
        };
        if let Err(error) = ended {
            if state.flooded() {
                return self.cut(&peer, Cut::Failing(Failing::Flood));
            }
            tracing::debug!(?peer, %error, "a connection has ended with an error");
        }
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

/// The hook has logged what and where; the client learns that it was not its fault, and nothing else.
fn panicked(instruments: &Instruments) -> Response<Body> {
    instruments.panics.increment(1);
    failure(StatusCode::OK, &Status::internal("internal error"))
}

async fn aged(age: Duration) {
    if age.is_zero() {
        return std::future::pending().await;
    }
    tokio::time::sleep(age.mul_f64(0.9 + 0.2 * fastrand::f64())).await;
}

fn builder(limits: &Limits, turns: &Arc<Turns>) -> http2::Builder<CallExecutor> {
    let mut builder = http2::Builder::new(CallExecutor(turns.clone()));
    builder
        .timer(TokioTimer::new())
        .auto_date_header(false)
        .max_concurrent_streams(limits.streams)
        .max_local_error_reset_streams(limits.local_error_resets)
        .max_pending_accept_reset_streams(limits.pending_accept_resets)
        .max_header_list_size(limits.header_list_bytes)
        .initial_stream_window_size(limits.stream_window)
        .initial_connection_window_size(limits.connection_window)
        .keep_alive_interval(Some(limits.keepalive_interval).filter(|interval| *interval > Duration::ZERO))
        .keep_alive_timeout(limits.keepalive_timeout);
    builder
}
