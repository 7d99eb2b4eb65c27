//! The way to another server, in plain text or over TLS: the sidecar's to its primary, its candidates, its collector and its
//! sink, the command line's to both processes.

use std::{
    error::Error,
    io,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use http::Uri;
use hyper_util::{
    client::legacy::connect::{Connected, Connection, HttpConnector},
    rt::TokioIo,
};
use rustls::pki_types::ServerName;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};
use tokio_rustls::client::TlsStream;
use tonic::transport::{self, Channel, Endpoint};
use tower::{Service, ServiceExt as _};

use super::{
    client_tls::{ClientTls, Protocol},
    credentials::Credentials,
};

/// For a connection with its handshake, where nobody says otherwise.
const TIMEOUT: Duration = Duration::from_secs(5);
/// After this time without a byte the kernel asks whether the other side is still there...
const IDLE: Duration = Duration::from_secs(30);
/// ...so often...
const PROBE: Duration = Duration::from_secs(10);
/// ...and gives it up when it has not confirmed anything, asked or sent, for so long. HTTP/2's own PINGs would not do: servers on
/// gRPC's C core take one in five minutes and then end the connection with all its calls ("too many pings").
const UNHEARD: Duration = Duration::from_secs(30);

/// Lets the kernel find out when the other side of `socket` has gone without a word.
///
/// # Errors
/// The socket takes no such options.
pub fn watch(socket: &TcpStream) -> io::Result<()> {
    let socket = socket2::SockRef::from(socket);
    socket.set_tcp_keepalive(&socket2::TcpKeepalive::new().with_time(IDLE).with_interval(PROBE))?;
    #[cfg(target_os = "linux")]
    socket.set_tcp_user_timeout(Some(UNHEARD))?;
    Ok(())
}

/// The way to one gRPC server. Nothing is connected yet. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Dialer {
    endpoint: Endpoint,
    /// For TLS; all else tonic does by itself.
    connector: Option<Connector>,
}

impl Dialer {
    /// `http(s)://HOST:PORT` or `unix:PATH`; `name` is whose certificate it must show, where that is not HOST.
    pub(super) fn new(credentials: &Credentials, url: &str, name: Option<&str>) -> Result<Self, String> {
        let wrong = |error: &dyn std::fmt::Display| format!("{url}: {error}");
        let endpoint = Endpoint::from_shared(url.to_owned()).map_err(|error| wrong(&error))?;
        if endpoint.uri().scheme_str() != Some("https") {
            let endpoint = endpoint.tcp_keepalive(Some(IDLE)).tcp_keepalive_interval(Some(PROBE));
            return Ok(Self { endpoint, connector: None });
        }
        let origin = endpoint.uri().clone();
        let connector = Connector::new(credentials, &origin, name, Protocol::Http2)?;
        // Plain text is what tonic is to see on this connection, whatever the calls are told of their scheme.
        let authority = origin.authority().map_or("", |authority| authority.as_str());
        let endpoint = Endpoint::from_shared(format!("http://{authority}")).map_err(|error| wrong(&error))?;
        Ok(Self { endpoint: endpoint.origin(origin), connector: Some(connector) })
    }

    /// The same, with the handshake of TLS in this time, too.
    #[must_use]
    pub fn connect_timeout(self, timeout: Duration) -> Self {
        match self.connector {
            None => Self { endpoint: self.endpoint.connect_timeout(timeout), connector: None },
            Some(connector) => Self { connector: Some(Connector { timeout, ..connector }), ..self },
        }
    }

    /// The same, with other settings of HTTP/2.
    #[must_use]
    pub fn with(self, change: impl FnOnce(Endpoint) -> Endpoint) -> Self {
        Self { endpoint: change(self.endpoint), ..self }
    }

    /// The way to a TLS server for whoever speaks HTTP/2 without tonic; nothing where it is not to be TLS.
    pub fn connector(&self) -> Option<&Connector> {
        self.connector.as_ref()
    }

    /// Connects.
    ///
    /// # Errors
    /// Nobody listens there, or it is not whom we trust.
    pub async fn connect(&self) -> Result<Channel, transport::Error> {
        match &self.connector {
            None => self.endpoint.connect().await,
            Some(connector) => self.endpoint.connect_with_connector(connector.clone()).await,
        }
    }

    /// Connects when it is needed, and again. Must run on a tokio runtime.
    pub fn connect_lazy(&self) -> Channel {
        match &self.connector {
            None => self.endpoint.connect_lazy(),
            Some(connector) => self.endpoint.connect_with_connector_lazy(connector.clone()),
        }
    }
}

/// Connects to one server, by TCP and, if its URL says so, TLS. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Connector {
    tcp: HttpConnector,
    target: Uri,
    /// Absent: plain text.
    tls: Option<(ClientTls, ServerName<'static>)>,
    timeout: Duration,
}

impl Connector {
    /// To `target`, which is `http(s)://HOST:PORT`; `name` is whose certificate it must show, where that is not HOST.
    pub(super) fn new(
        credentials: &Credentials,
        target: &Uri,
        name: Option<&str>,
        protocol: Protocol,
    ) -> Result<Self, String> {
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        tcp.set_keepalive(Some(IDLE));
        tcp.set_keepalive_interval(Some(PROBE));
        #[cfg(target_os = "linux")]
        tcp.set_tcp_user_timeout(Some(UNHEARD));
        let tls = if target.scheme_str() == Some("https") {
            let host = name.or(target.host()).unwrap_or_default();
            let bare = host.trim_start_matches('[').trim_end_matches(']');
            let name = ServerName::try_from(bare.to_owned()).map_err(|error| format!("{target}: {host:?}: {error}"))?;
            Some((ClientTls::new(credentials, protocol).map_err(|error| format!("TLS for {target}: {error}"))?, name))
        } else {
            None
        };
        Ok(Self { tcp, target: target.clone(), tls, timeout: TIMEOUT })
    }

    /// A new connection.
    ///
    /// # Errors
    /// Nobody listens there, it is not whom we trust, or it takes too long.
    pub async fn open(&self) -> io::Result<Stream> {
        let opened = async {
            let tcp = self.tcp.clone().oneshot(self.target.clone()).await.map_err(|error| {
                // Only its cause says which error it was.
                let cause = error.source().map_or_else(|| error.to_string(), ToString::to_string);
                let kind = error.source().and_then(|cause| cause.downcast_ref::<io::Error>()).map(io::Error::kind);
                io::Error::new(kind.unwrap_or(io::ErrorKind::Other), cause)
            })?;
            let tcp = tcp.into_inner();
            match &self.tls {
                None => Ok(Stream::Plain(tcp)),
                Some((tls, name)) => Ok(Stream::Tls(Box::new(tls.shake_hands(name.clone(), tcp).await?))),
            }
        };
        tokio::time::timeout(self.timeout, opened).await.unwrap_or_else(|_| {
            let text = format!("no connection within {:?}", self.timeout);
            Err(io::Error::new(io::ErrorKind::TimedOut, text))
        })
    }
}

/// For clients that call it with the server's URL, which it knows.
impl Service<Uri> for Connector {
    type Response = TokioIo<Stream>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Self::Response>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        let connector = self.clone();
        Box::pin(async move { connector.open().await.map(TokioIo::new) })
    }
}

/// A connection.
#[derive(Debug)]
pub enum Stream {
    /// Without TLS.
    Plain(TcpStream),
    /// With it.
    Tls(Box<TlsStream<TcpStream>>),
}

impl Connection for Stream {
    fn connected(&self) -> Connected {
        Connected::new()
    }
}

/// One and the same for both kinds.
macro_rules! either {
    ($stream:expr, $name:ident => $call:expr) => {
        match $stream.get_mut() {
            Stream::Plain($name) => $call,
            Stream::Tls($name) => $call,
        }
    };
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        either!(self, stream => Pin::new(stream).poll_read(context, into))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, from: &[u8]) -> Poll<io::Result<usize>> {
        either!(self, stream => Pin::new(stream).poll_write(context, from))
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        either!(self, stream => Pin::new(stream).poll_flush(context))
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        either!(self, stream => Pin::new(stream).poll_shutdown(context))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        from: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        either!(self, stream => Pin::new(stream).poll_write_vectored(context, from))
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Plain(stream) => stream.is_write_vectored(),
            Self::Tls(stream) => stream.is_write_vectored(),
        }
    }
}
