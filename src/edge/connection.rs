//! A worker and its connections.

use std::{convert::Infallible, io, pin::pin, time::Duration};

use hyper::{body::Incoming, server::conn::http2, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpStream, UnixStream},
    sync::mpsc,
    task::JoinSet,
};

use super::{Accepted, Front, Limits, Peer, Socket, greeting::Greeted};
use crate::shutdown::{Phase, Phases};

/// Serves what it receives until the accept loop has ended and the last connection is gone.
pub(super) async fn work<F: Front>(
    mut connections: mpsc::UnboundedReceiver<Accepted>,
    limits: Limits,
    phases: Phases,
    front: F,
) {
    let mut serving = JoinSet::new();
    loop {
        tokio::select! {
            accepted = connections.recv() => match accepted {
                Some(accepted) => {
                    let (limits, phases, front) = (limits.clone(), phases.clone(), front.clone());
                    serving.spawn(async move {
                        if let Err(error) = serve(accepted, &limits, &phases, front).await {
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

fn note(ended: Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended {
        tracing::error!(%error, "a connection's task has failed");
    }
}

async fn serve<F: Front>(accepted: Accepted, limits: &Limits, phases: &Phases, front: F) -> io::Result<()> {
    let Accepted { socket, peer, permit } = accepted;
    match socket {
        Socket::Tcp(stream) => drive(TcpStream::from_std(stream)?, peer, limits, phases, front).await,
        Socket::Unix(stream) => drive(UnixStream::from_std(stream)?, peer, limits, phases, front).await,
    }
    drop(permit);
    Ok(())
}

async fn drive<I, F>(io: I, peer: Peer, limits: &Limits, phases: &Phases, front: F)
where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    F: Front,
{
    let service = service_fn(move |request: http::Request<Incoming>| {
        let front = front.clone();
        async move { Ok::<_, Infallible>(front.call(request, peer).await) }
    });
    let (io, greeting) = Greeted::new(io);
    let mut connection = pin!(builder(limits).serve_connection(TokioIo::new(io), service));
    let ended = tokio::select! {
        ended = connection.as_mut() => Some(ended),
        () = greeting.missed(limits.greeting) => {
            tracing::debug!(?peer, "a connection without a greeting is closed");
            return;
        }
        () = phases.reached(Phase::Closing) => None,
    };
    let ended = match ended {
        Some(ended) => ended,
        None => {
            connection.as_mut().graceful_shutdown();
            match tokio::time::timeout(limits.grace, connection).await {
                Ok(ended) => ended,
                Err(_) => {
                    tracing::warn!(?peer, grace = ?limits.grace, "a connection did not end in time and is cut off");
                    return;
                }
            }
        }
    };
    if let Err(error) = ended {
        tracing::debug!(?peer, %error, "a connection has ended with an error");
    }
}

fn builder(limits: &Limits) -> http2::Builder<TokioExecutor> {
    let mut builder = http2::Builder::new(TokioExecutor::new());
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
