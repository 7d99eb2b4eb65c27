//! A server, whoever asks it, and now and then a sidecar beside it: all of them processes, or threads, of their own.

use std::{
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use support::{
    adult::test_set,
    examples,
    grpc::{Call, Connection, MODEL_INFER, Reply},
    open_loop::{OpenLoop, Schedule, Seen},
    sidecar::Sidecar,
    target::{How, Target},
    tensors::RAW,
};
use tempfile::TempDir;

use crate::measure::{Kind, Windows};

/// Connections of the clients.
const CONNECTIONS: usize = 8;
/// Different rows.
const ROWS: usize = 1_000;
/// Before each measurement.
const WARM_UP: Duration = Duration::from_millis(500);

/// What is started, and how.
#[derive(Clone, Debug)]
pub(crate) struct Cast {
    pub(crate) server: PathBuf,
    pub(crate) sidecar: PathBuf,
    /// A command of a shell that pins server and sidecar to a core; nothing is fine.
    pub(crate) setup: String,
    /// Requests a second.
    pub(crate) rate: u32,
    /// Pairs of windows.
    pub(crate) pairs: usize,
    /// Length of a window.
    pub(crate) window: Duration,
    pub(crate) quick: bool,
}

/// A server that is ready.
#[derive(Debug)]
pub(crate) struct Stage {
    pub(crate) cast: Cast,
    pub(crate) server: Target,
    pub(crate) calls: Arc<[Call]>,
    directory: TempDir,
}

/// One row a call, whose number is the id of the request.
pub(crate) fn row(n: usize) -> Call {
    let mut request = test_set().columns(n..n + 1, RAW);
    request.id = n.to_string();
    Call::new(MODEL_INFER, &request)
}

/// The answer to `call`, and again when the server says that it is too busy, which is an answer, but not the one.
pub(crate) async fn patiently(connection: &Connection, call: &Call) -> Reply {
    for _ in 0..100 {
        let reply = connection.call(call).await;
        if !reply.metadata.contains_key("grpc-retry-pushback-ms") {
            return reply;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    connection.call(call).await
}

/// The directory of an example's model.
pub(crate) fn package(name: &str) -> String {
    examples().join("models").join(name).to_string_lossy().into_owned()
}

impl Stage {
    pub(crate) async fn open(cast: &Cast) -> anyhow::Result<Self> {
        let directory = tempfile::tempdir()?;
        let how = How::Process { binary: cast.server.clone(), setup: cast.setup.clone() };
        let socket = directory.path().join("tap.sock").to_string_lossy().into_owned();
        let flags = ["--workers", "1", "--unix-socket", &socket];
        let server = how.start(&flags).await.map_err(anyhow::Error::msg)?;
        let calls: Vec<Call> = (0..ROWS).map(row).collect();
        Ok(Self { cast: cast.clone(), server, calls: calls.into(), directory })
    }

    /// Where the tap is.
    pub(crate) fn primary(&self) -> String {
        format!("unix:{}", self.directory.path().join("tap.sock").display())
    }

    /// A sidecar on the tap that lets `candidate` rehearse, subscribed and in its first epoch.
    pub(crate) async fn sidecar(&self, candidate: &str, flags: &[&str]) -> anyhow::Result<Sidecar> {
        let primary = self.primary();
        let all = [&["--primary", &primary, "--candidate", candidate, "--log", "warn"], flags].concat();
        let sidecar = Sidecar::start(&self.cast.sidecar, &self.cast.setup, &all).await?;
        sidecar.follows().await?;
        Ok(sidecar)
    }

    /// A proxy before the server, in its first epoch.
    pub(crate) async fn proxy(&self, candidate: &str, flags: &[&str]) -> anyhow::Result<Sidecar> {
        self.sidecar(candidate, &[&["--intake", "proxy"], flags].concat()).await
    }

    /// The clients, who ask the server.
    pub(crate) fn clients(&self) -> OpenLoop {
        self.clients_of(self.server.grpc)
    }

    /// The clients, who ask somebody else.
    pub(crate) fn clients_of(&self, address: std::net::SocketAddr) -> OpenLoop {
        let schedule = Schedule { rate: self.cast.rate, connections: CONNECTIONS, warm_up: WARM_UP };
        OpenLoop::start(address, self.calls.clone(), &schedule)
    }

    /// What the clients see for `time`.
    pub(crate) async fn ask(&self, time: Duration) -> Seen {
        self.clients().run_for(WARM_UP + time).await
    }

    /// Pairs of windows without and with what `begin` starts, ABBA.
    pub(crate) async fn compare<S>(
        &self,
        pairs: usize,
        window: Duration,
        mut begin: impl AsyncFnMut() -> anyhow::Result<S>,
        mut end: impl AsyncFnMut(S, &Seen) -> anyhow::Result<()>,
    ) -> anyhow::Result<Windows> {
        let mut windows = Windows::default();
        for kind in Kind::order(pairs) {
            let begun = Instant::now();
            let seen = match kind {
                Kind::Off => self.ask(window).await,
                Kind::On => {
                    let shadow = begin().await?;
                    let seen = self.ask(window).await;
                    end(shadow, &seen).await?;
                    seen
                }
            };
            if !self.cast.quick {
                eprintln!("{kind:?} {:.1?}: p50 {:.3?}, p99 {:.3?}", begun.elapsed(), seen.quantile(0.5), seen.p99());
            }
            windows.push(kind, &seen);
        }
        Ok(windows)
    }
}
