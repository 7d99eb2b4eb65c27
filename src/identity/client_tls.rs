//! TLS to other servers, with ring as the one cryptographic library: whom we trust, what we show. Configured here and nowhere
//! else, whoever speaks what inside of it.

use std::{
    fmt, io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use rustls::{
    AlertDescription, CertificateError, ClientConfig, Error, RootCertStore,
    client::Resumption,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject},
    version::{TLS12, TLS13},
};
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, client::TlsStream};

use super::{certificate::several, credentials::Credentials, provider};
use crate::reload;

/// Files are not read more often: whoever can't be reached is tried again and again.
const REREAD: Duration = Duration::from_secs(1);
/// HTTP/2 among the protocols that a server may offer.
const H2: &[u8] = b"h2";

/// What is spoken inside of TLS; the server must agree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP/1.1, which a server without ALPN speaks, too.
    Http1,
    /// HTTP/2, as gRPC needs it.
    Http2,
}

/// Why there is no TLS with a server. Says nothing of our files: clients of the proxy read it.
#[derive(Debug, thiserror::Error)]
pub(super) enum TlsError {
    #[error("no authority that is trusted here vouches for this server")]
    Unknown,
    #[error("the server's certificate is not good: {0}")]
    Certificate(CertificateError),
    #[error("the server does not take what is shown to it: {0:?}")]
    Refused(AlertDescription),
    #[error("the server does not speak TLS")]
    Plain,
    #[error("the server does not offer HTTP/2 over TLS (ALPN h2)")]
    NoHttp2,
    #[error("no TLS: {0}")]
    Other(io::Error),
}

impl From<io::Error> for TlsError {
    fn from(error: io::Error) -> Self {
        let cause = error.get_ref().and_then(|cause| cause.downcast_ref::<Error>());
        match cause {
            Some(Error::InvalidCertificate(CertificateError::UnknownIssuer)) => Self::Unknown,
            Some(Error::InvalidCertificate(cause)) => Self::Certificate(cause.clone()),
            Some(Error::AlertReceived(AlertDescription::NoApplicationProtocol)) => Self::NoHttp2,
            Some(Error::AlertReceived(alert)) => Self::Refused(*alert),
            Some(Error::InvalidMessage(_)) => Self::Plain,
            _ => Self::Other(error),
        }
    }
}

impl From<TlsError> for io::Error {
    fn from(error: TlsError) -> Self {
        match error {
            TlsError::Other(error) => Self::new(error.kind(), TlsError::Other(error)),
            error => Self::new(io::ErrorKind::InvalidData, error),
        }
    }
}

/// What an error of a connection means, also where TLS is done by others.
pub(super) fn told(error: io::Error) -> String {
    match TlsError::from(error) {
        TlsError::Other(error) => error.to_string(),
        error => error.to_string(),
    }
}

/// TLS as it is configured, with files read again when they may have changed. Cheap to clone.
#[derive(Clone)]
pub(super) struct ClientTls(Arc<Held>);

struct Held {
    credentials: Credentials,
    protocol: Protocol,
    /// When the files were read, and what was made of them.
    state: Mutex<(Instant, Arc<ClientConfig>)>,
}

impl fmt::Debug for ClientTls {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_tuple("ClientTls").field(&self.0.credentials).field(&self.0.protocol).finish()
    }
}

impl ClientTls {
    /// Reads the files.
    ///
    /// # Errors
    /// One can't be read or used, or the system knows no authorities where none are configured.
    pub(super) fn new(credentials: &Credentials, protocol: Protocol) -> Result<Self, String> {
        let config = Arc::new(config(credentials, protocol)?);
        let state = Mutex::new((Instant::now(), config));
        Ok(Self(Arc::new(Held { credentials: credentials.clone(), protocol, state })))
    }

    /// The handshake with whoever must be `name`.
    pub(super) async fn shake_hands(
        &self,
        name: ServerName<'static>,
        stream: TcpStream,
    ) -> Result<TlsStream<TcpStream>, TlsError> {
        let connector = TlsConnector::from(self.config().await);
        let stream = connector.connect(name, stream).await?;
        // A server that knows nothing of ALPN would take what follows for anything but HTTP/2.
        if self.0.protocol == Protocol::Http2 && stream.get_ref().1.alpn_protocol() != Some(H2) {
            return Err(TlsError::NoHttp2);
        }
        Ok(stream)
    }

    /// With the files of now; with those of before, where they can't be read or used.
    async fn config(&self) -> Arc<ClientConfig> {
        let known = {
            let mut state = self.state();
            if state.0.elapsed() < REREAD {
                return state.1.clone();
            }
            // Whoever comes in the meantime takes what there is.
            state.0 = Instant::now();
            state.1.clone()
        };
        let (credentials, protocol) = (self.0.credentials.clone(), self.0.protocol);
        // A file system may hang, and calls of clients are on this thread.
        let read = tokio::task::spawn_blocking(move || config(&credentials, protocol)).await;
        match read.map_err(|error| error.to_string()).flatten() {
            Ok(config) => {
                let config = Arc::new(config);
                self.state().1 = config.clone();
                config
            }
            Err(error) => {
                tracing::warn!(error, "certificates can't be read again; what was read before stays in use");
                known
            }
        }
    }

    fn state(&self) -> MutexGuard<'_, (Instant, Arc<ClientConfig>)> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn config(credentials: &Credentials, protocol: Protocol) -> Result<ClientConfig, String> {
    let Credentials { ca, certificate, key, token: _ } = credentials;
    let mut roots = RootCertStore::empty();
    for authority in authorities(ca.as_deref())? {
        // Of the system's there may be old ones that nobody can read any more.
        if let (Err(error), Some(path)) = (roots.add(authority), ca) {
            return Err(format!("{}: {error}", path.display()));
        }
    }
    let builder = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13, &TLS12])
        .map_err(|error| error.to_string())?
        .with_root_certificates(roots);
    let mut config = match (certificate, key) {
        (Some(certificate), Some(key)) => {
            let named = |path: &PathBuf, error: &dyn fmt::Display| format!("{}: {error}", path.display());
            let chain = several("certificate", CertificateDer::pem_slice_iter(&reload::read(certificate)?));
            let chain = chain.map_err(|error| named(certificate, &error))?;
            let private = PrivateKeyDer::from_pem_slice(&reload::read(key)?);
            let private = private.map_err(|error| named(key, &error))?;
            builder.with_client_auth_cert(chain, private).map_err(|error| named(certificate, &error))?
        }
        _ => builder.with_no_client_auth(),
    };
    config.alpn_protocols = match protocol {
        Protocol::Http1 => vec![b"http/1.1".to_vec()],
        Protocol::Http2 => vec![H2.to_vec()],
    };
    // A session that is taken up again would skip the look at the server's certificate; connections live long here.
    config.resumption = Resumption::disabled();
    Ok(config)
}

/// Certificates of those who vouch for servers: in the file `ca`, else those of the system.
///
/// # Errors
/// There is none, or they can't be read.
pub(super) fn authorities(ca: Option<&Path>) -> Result<Vec<CertificateDer<'static>>, String> {
    let Some(path) = ca else {
        let system = rustls_native_certs::load_native_certs();
        if system.certs.is_empty() {
            return Err("this system knows no authorities that could vouch for servers: name some in a file".into());
        }
        return Ok(system.certs);
    };
    let content = reload::read(path)?;
    let several = several("certificate of an authority", CertificateDer::pem_slice_iter(&content));
    several.map_err(|error| format!("{}: {error}", path.display()))
}
