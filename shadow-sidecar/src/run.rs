//! Start-up and drain.

use std::{io, sync::Arc, time::Duration};

use tokio::task::JoinSet;
use understudy::{
    admin,
    edge::{Address, Admission, Edge, Gate, InFlight, Instruments, Listener, Setup},
    health::Registry,
    identity::Identity,
    shutdown::{Phase, Phases, Shutdown},
};

use crate::{
    candidate::Candidate,
    config::Config,
    history::Point,
    intake::Intake,
    metrics::Metrics,
    otlp::{Histograms, Otlp},
    page,
    rehearsal::{Bounds, Rehearsal, unix_nanos},
    service::{Front, MESSAGES},
    verdict::judge,
};

/// The names that share readiness.
const OWN: [&str; 1] = ["shadow"];
/// Between two looks at the evidence.
const LOOK: Duration = Duration::from_millis(100);
/// Looks between two publications to Prometheus.
const LOOKS_A_PUBLICATION: u32 = 10;

/// Why a sidecar does not run.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// An address is taken or not ours.
    #[error("can't listen on {address}")]
    Listen {
        /// The address.
        address: Address,
        /// Why.
        source: io::Error,
    },
    /// The candidate may not rehearse.
    #[error("the candidate can't rehearse: {0:#}")]
    Candidate(anyhow::Error),
    /// Certificates, keys or clients can't be used.
    #[error("{0}")]
    Identity(String),
    /// The system does not give what every process needs.
    #[error("the sidecar can't start: {0}")]
    System(String),
}

impl StartError {
    /// For `main`: 65 for a package that is refused, 69 for an address that can't be had, 78 for files of the configuration that can't be
    /// used, 70 for the rest (sysexits.h).
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Candidate(_) => 65,
            Self::Listen { .. } => 69,
            Self::Identity(_) => 78,
            Self::System(_) => 70,
        }
    }
}

fn system(error: impl std::fmt::Display) -> StartError {
    StartError::System(error.to_string())
}

/// A sidecar that follows its primary.
#[derive(Debug)]
pub struct Sidecar {
    addresses: Addresses,
    shutdown: Shutdown,
    drain_delay: Duration,
    drain_timeout: Duration,
    rehearsal: Arc<Rehearsal>,
    edge: Edge,
    otlp: Option<Otlp>,
    /// Intake, workers and the ticker.
    tasks: JoinSet<()>,
}

/// Where a sidecar listens.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Addresses {
    /// gRPC: `IP:PORT`.
    pub grpc: String,
    /// Metrics and health over HTTP: `IP:PORT`.
    pub admin: String,
}

impl Sidecar {
    /// Opens the candidate, listens, and follows the primary from then on, whether it is there already or not. Must run
    /// on a tokio runtime of more than one thread.
    ///
    /// # Errors
    /// Nothing listens any more when this fails.
    pub async fn start(config: Config) -> Result<Self, StartError> {
        let (shutdown, phases) = Shutdown::new();
        let started = Self::serve(config, shutdown.clone(), phases).await;
        if started.is_err() {
            shutdown.advance(Phase::Closing);
        }
        started
    }

    async fn serve(config: Config, shutdown: Shutdown, phases: Phases) -> Result<Self, StartError> {
        let bind = |address: &Address| {
            Listener::bind(address).map_err(|source| StartError::Listen { address: address.clone(), source })
        };
        let grpc = bind(&config.grpc_listen)?;
        let Listener::Tcp(admin) = bind(&config.admin_listen)? else {
            return Err(system("admin-listen must be IP:PORT"));
        };
        let addresses = Addresses {
            grpc: grpc.address().map_err(system)?.to_string(),
            admin: admin.local_addr().map_err(system)?.to_string(),
        };
        let opening = config.clone();
        let candidate = tokio::task::spawn_blocking(move || Candidate::open(&opening))
            .await
            .map_err(system)?
            .map_err(StartError::Candidate)?;

        let metrics = Arc::new(Metrics::new().map_err(system)?);
        let otlp = Otlp::new(&config, &metrics).map_err(|error| system(format!("{error:#}")))?;
        let histograms = otlp.as_ref().map_or_else(Histograms::default, Otlp::histograms);
        let bounds = Bounds { queue: config.queue, queue_bytes: config.queue_bytes, timeout: config.candidate_timeout };
        let rehearsal = Rehearsal::new(candidate, config.gates, config.tolerance, bounds, metrics.clone(), histograms);
        let rehearsal = Arc::new(rehearsal.slicing(config.slices.clone()));
        if let Some(otlp) = &otlp {
            otlp.observe(&rehearsal);
        }
        let health = Registry::new(&OWN, &phases);
        let instruments = Arc::new(Instruments::new(metrics.recorder()));
        let admission = Arc::new(Admission::new(InFlight::default(), instruments.clone()));
        let gate = Gate { messages: MESSAGES, admission: admission.clone() };
        let (identity, tls) = Identity::start(&config.identity, metrics.recorder()).map_err(StartError::Identity)?;
        let front = Front::new(&rehearsal, gate, identity, &health, &phases).map_err(system)?;
        let sampled = instruments.clone();
        let sample = move || sampled.sample(&admission);
        let page = page::routes(vec![rehearsal.clone()], &phases);
        admin::start(admin, metrics.handle(), sample, &health, &phases, page).map_err(system)?;
        let setup = Setup {
            name: "shadow",
            workers: 1,
            limits: &config.limits,
            tls: tls.as_ref(),
            phases: &phases,
            instruments: &instruments,
        };
        let edge = Edge::start(&setup, vec![grpc], &front).map_err(system)?;
        edge.pulse().watch(&health, &phases).map_err(system)?;

        let mut tasks = JoinSet::new();
        for _ in 0..config.concurrency {
            tasks.spawn(rehearsal.clone().work());
        }
        tasks.spawn(Intake::new(&config).map_err(StartError::Identity)?.run(rehearsal.clone(), phases.clone()));
        tasks.spawn(tick(rehearsal.clone(), metrics));
        // The candidate or the primary may be down: the sidecar itself serves all the same, and says so in its report.
        health.set_ready(&OWN, true);
        if let Some(path) = &config.ports_file {
            let text = serde_json::to_string(&addresses).map_err(system)?;
            std::fs::write(path, text).map_err(|error| system(format!("{}: {error}", path.display())))?;
        }
        tracing::info!(?addresses, primary = config.primary, health_names = ?health.names(), "listening");
        Ok(Self {
            addresses,
            shutdown,
            drain_delay: config.drain_delay,
            drain_timeout: config.limits.grace,
            rehearsal,
            edge,
            otlp,
            tasks,
        })
    }

    /// Where it listens.
    pub fn addresses(&self) -> &Addresses {
        &self.addresses
    }

    /// What it does.
    pub fn rehearsal(&self) -> &Arc<Rehearsal> {
        &self.rehearsal
    }

    /// Says NOT_SERVING and takes no more exchanges, finishes those in flight, sends the last figures to the collector and
    /// ends.
    pub async fn drain(mut self) {
        tracing::info!("draining");
        self.shutdown.advance(Phase::Draining);
        tokio::time::sleep(self.drain_delay).await;
        self.rehearsal.finish(self.drain_timeout).await;
        self.tasks.shutdown().await;
        if let Some(otlp) = self.otlp {
            drop(tokio::task::spawn_blocking(|| otlp.shutdown()).await);
        }
        self.shutdown.advance(Phase::Closing);
        self.edge.ended().await;
        tracing::info!("drained");
    }
}

async fn tick(rehearsal: Arc<Rehearsal>, metrics: Arc<Metrics>) {
    let mut ticks = tokio::time::interval(LOOK);
    for look in 0_u32.. {
        ticks.tick().await;
        rehearsal.look();
        if look.is_multiple_of(LOOKS_A_PUBLICATION)
            && let Some(epoch) = rehearsal.epoch()
        {
            let tally = epoch.tally().clone();
            let judgement = judge(&tally, &rehearsal.gates, epoch.started.elapsed());
            metrics.publish(&epoch, &tally, &judgement);
            epoch.history().record(Point::new(unix_nanos(), &judgement.figures));
        }
    }
}
