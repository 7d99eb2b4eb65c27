//! The JWK set of an issuer over HTTP, on a thread of its own: whoever serves it may be slow or away.

use std::{
    io,
    path::{Path, PathBuf},
    sync::{
        Arc, Weak,
        mpsc::{Receiver, RecvTimeoutError},
    },
    thread,
    time::{Duration, Instant},
};

use metrics::Recorder;
use ureq::{
    Agent,
    tls::{Certificate, RootCerts, TlsConfig},
};

use super::{Known, client_tls};
use crate::reload::Counts;

/// Bytes of a set.
const MAX_BODY: u64 = 1 << 20;
/// For all of it.
const TIMEOUT: Duration = Duration::from_secs(5);
/// A key that nobody knows makes us look again at most so often.
const PAUSE: Duration = Duration::from_secs(60);
/// As long as there are no keys at all.
const RETRY: Duration = Duration::from_secs(2);

/// Who has the keys.
#[derive(Debug)]
pub(super) struct Origin {
    url: String,
    /// Who vouches for them; absent: the authorities of the system.
    ca: Option<PathBuf>,
}

impl Origin {
    /// # Errors
    /// There are no authorities where they are needed, or they can't be read.
    pub(super) fn new(url: &str, ca: Option<&Path>) -> Result<Self, String> {
        let origin = Self { url: url.to_owned(), ca: ca.map(Path::to_owned) };
        origin.agent()?;
        Ok(origin)
    }

    /// With the authorities of now.
    fn agent(&self) -> Result<Agent, String> {
        let mut config = Agent::config_builder().timeout_global(Some(TIMEOUT)).max_redirects(3);
        if self.url.starts_with("https://") {
            let authorities = client_tls::authorities(self.ca.as_deref())?;
            let roots: Vec<_> = authorities.iter().map(|root| Certificate::from_der(root).to_owned()).collect();
            let tls = TlsConfig::builder()
                .unversioned_rustls_crypto_provider(super::provider())
                .root_certs(RootCerts::new_with_certs(&roots))
                .build();
            config = config.https_only(true).tls_config(tls);
        }
        Ok(config.build().into())
    }

    fn fetch(&self) -> Result<Vec<u8>, String> {
        let mut response = self.agent()?.get(&self.url).call().map_err(told)?;
        response.body_mut().with_config().limit(MAX_BODY).read_to_vec().map_err(told)
    }
}

fn told(error: ureq::Error) -> String {
    match error {
        ureq::Error::Io(error) => client_tls::told(error),
        error => error.to_string(),
    }
}

/// Fetches at once, then each `interval` and whenever `asked`, until `known` is gone.
///
/// # Errors
/// The thread can't be started.
pub(super) fn start(
    origin: Origin,
    interval: Duration,
    known: &Arc<Known>,
    asked: Receiver<()>,
    recorder: &dyn Recorder,
) -> io::Result<()> {
    let counts = Counts::new("jwt-keys", recorder);
    let known = Arc::downgrade(known);
    thread::Builder::new().name("jwt-keys".into()).spawn(move || follow(&origin, interval, &known, &asked, &counts))?;
    Ok(())
}

fn follow(origin: &Origin, interval: Duration, known: &Weak<Known>, asked: &Receiver<()>, counts: &Counts) {
    let mut ever = false;
    let mut told = None;
    let mut before = None;
    loop {
        let fetched = Instant::now();
        let content = origin.fetch();
        let Some(known) = known.upgrade() else { return };
        match content.and_then(|content| {
            let changed = before.as_ref() != Some(&content);
            if changed {
                known.set_keys(&content)?;
                before = Some(content);
            }
            Ok(changed)
        }) {
            Ok(changed) => {
                if changed {
                    counts.done.increment(1);
                    tracing::info!(what = "jwt-keys", "fetched and in use");
                }
                ever = true;
                told = None;
            }
            Err(error) => {
                counts.failed.increment(1);
                if told.as_ref() != Some(&error) {
                    tracing::error!(what = "jwt-keys", error, "can't be fetched; what was fetched before stays in use");
                    told = Some(error);
                }
            }
        }
        drop(known);
        let wait = if ever { interval } else { interval.min(RETRY) };
        match asked.recv_timeout(wait) {
            Ok(()) => thread::sleep(PAUSE.min(wait).saturating_sub(fetched.elapsed())),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
        // Whoever asked meanwhile asked for this.
        while asked.try_recv().is_ok() {}
    }
}
