//! Connections to the primary: some for each thread that serves, so that a call stays on its thread, and another one before
//! the streams of the first run out.

use std::{
    collections::HashMap,
    io,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    thread::{self, ThreadId},
    time::{Duration, Instant},
};

use http::{Request, Response, uri::Scheme};
use hyper::{
    body::Incoming,
    client::conn::http2::{self, SendRequest},
};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::net::{TcpStream, UnixStream};
use understudy::identity::dialer::{Connector, watch};

use super::RequestBody;
use crate::intake::reach::Reach;

/// Fewer than the streams that servers usually allow on one connection (128 by ours, 100 by many).
const STREAMS: usize = 96;
/// Of one thread; what lies beyond shares them.
const CONNECTIONS: usize = 32;
/// For a new one.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// All connections.
#[derive(Debug)]
pub(super) struct Pool {
    address: Address,
    connections: Mutex<HashMap<ThreadId, Vec<Connection>>>,
    /// Held by whoever opens a connection, so that a burst does not open one for each call; when it last could not be opened,
    /// and why.
    opening: tokio::sync::Mutex<Option<(Instant, io::ErrorKind, String)>>,
}

#[derive(Debug)]
enum Address {
    /// `HOST:PORT`.
    Tcp(String),
    Tls(Box<Connector>),
    /// The path of a Unix socket.
    Unix(String),
}

impl Address {
    /// Of `http://HOST:PORT` or `unix:PATH`.
    fn plain(url: &str) -> Self {
        if let Some(path) = url.strip_prefix("unix:") {
            return Self::Unix(path.to_owned());
        }
        let authority = url.strip_prefix("http://").unwrap_or(url);
        let authority = authority.split('/').next().unwrap_or_default();
        let port = if authority.rsplit(']').next().is_some_and(|rest| rest.contains(':')) { "" } else { ":80" };
        Self::Tcp(format!("{authority}{port}"))
    }
}

#[derive(Clone, Debug)]
struct Connection {
    send: SendRequest<RequestBody>,
    streams: Arc<AtomicUsize>,
}

/// A place on a connection; dropping it gives it back.
#[derive(Debug)]
pub(super) struct Lease {
    connection: Connection,
}

impl Lease {
    /// # Errors
    /// With the request, if nothing of it was sent.
    pub(super) async fn send(
        &mut self,
        request: Request<RequestBody>,
    ) -> Result<Response<Incoming>, (hyper::Error, Option<Request<RequestBody>>)> {
        self.connection.send.try_send_request(request).await.map_err(|mut error| {
            let unsent = error.take_message();
            (error.into_error(), unsent)
        })
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.connection.streams.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Pool {
    /// None yet.
    pub(super) fn new(reach: &Reach) -> Self {
        let address = match reach.tls() {
            Some(connector) => Address::Tls(Box::new(connector.clone())),
            None => Address::plain(&reach.url),
        };
        Self { address, connections: Mutex::default(), opening: tokio::sync::Mutex::default() }
    }

    /// What calls to the primary are told of their way.
    pub(super) fn scheme(&self) -> Scheme {
        if matches!(self.address, Address::Tls(_)) { Scheme::HTTPS } else { Scheme::HTTP }
    }

    /// A place on a connection of this thread.
    ///
    /// # Errors
    /// The primary can't be reached, or it is not whom we trust.
    pub(super) async fn connection(&self) -> io::Result<Lease> {
        if let Some(lease) = self.free(STREAMS) {
            return Ok(lease);
        }
        let came = Instant::now();
        let mut opening = self.opening.lock().await;
        // While we waited somebody may have opened one.
        if let Some(lease) = self.free(STREAMS) {
            return Ok(lease);
        }
        if self.connections().get(&thread::current().id()).is_some_and(|own| own.len() >= CONNECTIONS)
            && let Some(lease) = self.free(usize::MAX)
        {
            return Ok(lease);
        }
        // Nor need those who waited try one after the other what has just failed.
        if let Some((_, kind, error)) = opening.as_ref().filter(|(failed, ..)| *failed >= came) {
            return Err(io::Error::new(*kind, error.clone()));
        }
        let opened = tokio::time::timeout(CONNECT_TIMEOUT, self.open()).await;
        let opened = opened.unwrap_or_else(|_| Err(io::Error::from(io::ErrorKind::TimedOut)));
        *opening = opened.as_ref().err().map(|error| (Instant::now(), error.kind(), error.to_string()));
        let connection = opened?;
        let lease = lease(&connection);
        self.connections().entry(thread::current().id()).or_default().push(connection);
        Ok(lease)
    }

    /// The least busy connection of this thread, if it has fewer than `streams`. Those that have ended are forgotten.
    fn free(&self, streams: usize) -> Option<Lease> {
        let mut connections = self.connections();
        let own = connections.get_mut(&thread::current().id())?;
        own.retain(|connection| !connection.send.is_closed());
        let busy = |connection: &&Connection| connection.streams.load(Ordering::Relaxed);
        own.iter().min_by_key(busy).filter(|connection| busy(connection) < streams).map(lease)
    }

    fn connections(&self) -> MutexGuard<'_, HashMap<ThreadId, Vec<Connection>>> {
        self.connections.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn open(&self) -> io::Result<Connection> {
        match &self.address {
            Address::Tcp(address) => {
                let stream = TcpStream::connect(address).await?;
                stream.set_nodelay(true)?;
                watch(&stream)?;
                shake_hands(stream).await
            }
            Address::Tls(connector) => shake_hands(connector.open().await?).await,
            Address::Unix(path) => shake_hands(UnixStream::connect(path).await?).await,
        }
    }
}

fn lease(connection: &Connection) -> Lease {
    connection.streams.fetch_add(1, Ordering::Relaxed);
    Lease { connection: connection.clone() }
}

async fn shake_hands<I>(stream: I) -> io::Result<Connection>
where
    I: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
{
    let (send, connection) = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .initial_stream_window_size(1 << 20)
        .initial_connection_window_size(8 << 20)
        // What the primary may say in headers is not ours to limit below what clients accept.
        .max_header_list_size(64 << 10)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(io::Error::other)?;
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::debug!(%error, "a connection to the primary has ended with an error");
        }
    });
    Ok(Connection { send, streams: Arc::default() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        for (url, expected) in [
            ("http://127.0.0.1:8001", "127.0.0.1:8001"),
            ("http://model.default.svc/", "model.default.svc:80"),
            ("http://[::1]:8001/", "[::1]:8001"),
            ("http://[::1]", "[::1]:80"),
        ] {
            assert!(matches!(Address::plain(url), Address::Tcp(address) if address == expected), "{url}");
        }
        assert!(matches!(Address::plain("unix:/run/x.sock"), Address::Unix(path) if path == "/run/x.sock"));
    }
}
