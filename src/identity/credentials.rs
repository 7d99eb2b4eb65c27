//! What our own clients show: the sidecar to its primary and to its candidate, the command line to both processes.

use std::{
    fmt, fs,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use http::Uri;
use tonic::{
    Request, Status,
    metadata::{Ascii, MetadataValue},
    service::Interceptor,
};

use super::{
    client_tls::Protocol,
    dialer::{Connector, Dialer},
};

/// Tokens that an orchestrator writes into files are replaced before they expire.
const REREAD: Duration = Duration::from_secs(10);
/// Bytes of a token: the other side's headers end at 16 KiB.
const MAX_TOKEN: u64 = 16 << 10;

/// Files, all optional.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Credentials {
    /// Who vouches for the server, PEM; absent: the authorities of the system.
    pub ca: Option<PathBuf>,
    /// The client's own certificate and those between it and its authority, PEM.
    pub certificate: Option<PathBuf>,
    /// Its private key, PEM.
    pub key: Option<PathBuf>,
    /// A token, sent as `authorization: Bearer TOKEN`.
    pub token: Option<PathBuf>,
}

impl Credentials {
    /// The way to a gRPC server: `http://HOST:PORT`, `https://HOST:PORT` or `unix:PATH`. With `https` the files are read now,
    /// and again for connections to come.
    ///
    /// # Errors
    /// It is no URL, a file can't be read, or what it holds can't be used.
    pub fn dialer(&self, url: &str) -> Result<Dialer, String> {
        Dialer::new(self, url, None)
    }

    /// The same at one of the addresses that `name` stands for: what the server shows must be for that name.
    ///
    /// # Errors
    /// As [`Self::dialer`].
    pub fn dialer_as(&self, url: &str, name: Option<&str>) -> Result<Dialer, String> {
        Dialer::new(self, url, name)
    }

    /// The way to a server that is no gRPC server: `http(s)://HOST:PORT`.
    ///
    /// # Errors
    /// A file can't be read, or what it holds can't be used.
    pub fn connector(&self, target: &Uri, protocol: Protocol) -> Result<Connector, String> {
        Connector::new(self, target, None, protocol)
    }

    /// What puts the token on each call.
    ///
    /// # Errors
    /// The file can't be read, or holds no token.
    pub fn bearer(&self) -> Result<Bearer, String> {
        let Some(path) = &self.token else { return Ok(Bearer(None)) };
        let held = Held { path: path.clone(), state: Mutex::new((Instant::now(), token(path)?)) };
        Ok(Bearer(Some(Arc::new(held))))
    }
}

fn token(path: &PathBuf) -> Result<MetadataValue<Ascii>, String> {
    let shown = path.display();
    let size = fs::metadata(path).map_err(|error| format!("{shown}: {error}"))?.len();
    if size > MAX_TOKEN {
        return Err(format!("{shown}: expected a token of at most {MAX_TOKEN} bytes, got {size}"));
    }
    let content = fs::read(path).map_err(|error| format!("{shown}: {error}"))?;
    let text = String::from_utf8(content).unwrap_or_default();
    let token = text.trim_ascii();
    if token.is_empty() || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(format!("{shown}: expected a token: one line of visible ASCII"));
    }
    let mut value: MetadataValue<Ascii> =
        format!("Bearer {token}").parse().map_err(|_| format!("{shown}: no token"))?;
    value.set_sensitive(true);
    Ok(value)
}

struct Held {
    path: PathBuf,
    /// When it was read, and what was read.
    state: Mutex<(Instant, MetadataValue<Ascii>)>,
}

/// Puts a token on each call; nothing where there is none. Cheap to clone.
#[derive(Clone, Default)]
pub struct Bearer(Option<Arc<Held>>);

impl fmt::Debug for Bearer {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_tuple("Bearer").field(&self.0.as_ref().map(|held| &held.path)).finish()
    }
}

impl Interceptor for Bearer {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(held) = &self.0 {
            let mut state = held.state.lock().unwrap_or_else(PoisonError::into_inner);
            if state.0.elapsed() >= REREAD {
                state.0 = Instant::now();
                // What can't be read keeps what was read before it: the server says whether it is still good.
                match token(&held.path) {
                    Ok(token) => state.1 = token,
                    Err(error) => tracing::warn!(error, "the token can't be read again"),
                }
            }
            request.metadata_mut().insert("authorization", state.1.clone());
        }
        Ok(request)
    }
}
