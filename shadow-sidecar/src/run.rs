//! Start-up and drain.

use std::{
    io,
    sync::{Arc, PoisonError},
    time::Duration,
};

use metrics_exporter_prometheus::PrometheusHandle;
use tokio::{sync::Notify, task::JoinSet};
use understudy::{
    admin,
    edge::{Address, Admission, Cores, Edge, Gate, InFlight, Instruments, Listener, Setup},
    health::Registry,
    identity::Identity,
    shutdown::{Phase, Phases, Shutdown},
};

use crate::{
    candidate::Candidate,
    config::{CandidateSource, Config, cores},
    history::Point,
    intake::{
        self, Kind,
        capture::Captures,
        execution::Execution,
        mirror::{Joiner, Mirror},
        primary::Asking,
        proxy::Proxy,
        reach::Reach,
        tap::{End, Tap},
    },
    metrics::Metrics,
    otlp::{DisagreementLogs, Histograms, Logs, Otlp},
    outlets::Outlets,
    page,
    rehearsal::{Rehearsal, unix_nanos},
    rehearsals::Rehearsals,
    service::{Front, MESSAGES, Way},
    state::StateFile,
    verdict::judge,
};

/// The names that share readiness.
const OWN: [&str; 1] = ["shadow"];
/// Between two ticks: of the pace, and of what waits in a mirror.
const LOOK: Duration = Duration::from_millis(100);
/// What outlets may take at the end for what waits in them.
const LAST: Duration = Duration::from_secs(4);
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
    /// Files that the configuration names can't be used: certificates, keys, clients, the directory of a recording.
    #[error("{0}")]
    Files(String),
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
            Self::Files(_) => 78,
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
    rehearsals: Arc<Rehearsals>,
    edge: Edge,
    otlp: Option<Otlp>,
    logs: Option<Logs>,
    state: Option<(Arc<StateFile>, Arc<Metrics>)>,
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
        let metrics = Arc::new(Metrics::new().map_err(system)?);
        let otlp = Otlp::new(&config, &metrics).map_err(|error| StartError::Files(format!("{error:#}")))?;
        let logs = Logs::new(&config, &metrics).map_err(|error| StartError::Files(format!("{error:#}")))?;
        let told = logs.as_ref().map_or_else(DisagreementLogs::default, Logs::disagreements);
        let outlets = Outlets::start(&config.outlets).map_err(StartError::Files)?;
        let rehearsals = Arc::new(open(&config, &metrics, otlp.as_ref(), &told).await?.copying(outlets));
        let state = config.state_file.as_deref().map(|path| (Arc::new(StateFile::new(path)), metrics.clone()));
        if let Some((file, metrics)) = &state {
            match file.read() {
                Ok(saved) if saved.is_empty() => {}
                Ok(saved) => {
                    rehearsals.resume(saved);
                    // Now: what it may not hold any more must not wait for the interval.
                    save(file, &rehearsals, metrics).await;
                }
                Err(error) => {
                    metrics.state.refused.increment(1);
                    let path = config.state_file.as_deref();
                    tracing::warn!(?path, %error, "what was counted before is not used");
                }
            }
        }
        if let Some(otlp) = &otlp {
            rehearsals.all().iter().for_each(|rehearsal| otlp.observe(rehearsal));
        }
        let health = Registry::new(&OWN, &phases);
        let instruments = Arc::new(Instruments::new(metrics.recorder()));
        // In the path of the calls, and behind a mesh, everybody comes from one address.
        let in_flight = match config.intake {
            Kind::Tap => InFlight::default(),
            _ => InFlight { client_calls: None, client_bytes: None, ..InFlight::default() },
        };
        let admission = Arc::new(Admission::new(in_flight, instruments.clone()));
        let gate = Gate { messages: MESSAGES, admission: admission.clone() };
        let (identity, tls) = Identity::start(&config.identity, metrics.recorder()).map_err(StartError::Files)?;
        let mut tasks = JoinSet::new();
        let reach = Reach::new(&config).map_err(StartError::Files)?;
        let way = take_in(&config, &reach, &gate, &rehearsals, &phases, &mut tasks);
        let front = Front::new(&rehearsals, gate, identity, way, &health, &phases).map_err(system)?;
        let sampled = instruments.clone();
        let publisher = metrics.clone();
        let scrape = move |handle: &PrometheusHandle| {
            sampled.sample(&admission);
            // Between two publications: in the middle of one there are exchanges that are nowhere.
            let _complete = publisher.publishing();
            let (own, epochs) = (handle.render(), publisher.render_epochs());
            own + &epochs
        };
        let page = page::routes(rehearsals.all().to_vec(), &phases);
        admin::start(admin, metrics.handle(), scrape, &health, &phases, page).map_err(system)?;
        let setup = Setup {
            name: "shadow",
            // In the path of the calls there is as much to do as there are calls.
            workers: if config.intake == Kind::Proxy { cores() } else { 1 },
            limits: &config.limits,
            tls: tls.as_ref(),
            phases: &phases,
            instruments: &instruments,
            cores: &Cores::available(),
        };
        let edge = Edge::start(&setup, vec![grpc], &front).map_err(system)?;
        edge.pulse().watch(&health, &phases).map_err(system)?;

        for (rehearsal, candidate) in rehearsals.all().iter().zip(&config.candidates) {
            for _ in 0..candidate.concurrency {
                tasks.spawn(rehearsal.clone().work());
            }
        }
        tasks.spawn(tick(rehearsals.clone(), metrics));
        if let Some((file, metrics)) = state.clone() {
            let (rehearsals, interval) = (rehearsals.clone(), config.state_interval);
            tasks.spawn(async move {
                loop {
                    tokio::time::sleep(interval).await;
                    save(&file, &rehearsals, &metrics).await;
                }
            });
        }
        // The candidate or the primary may be down: the sidecar itself serves all the same, and says so in its report.
        health.set_ready(&OWN, true);
        if let Some(path) = &config.ports_file {
            let text = serde_json::to_string(&addresses).map_err(system)?;
            std::fs::write(path, text).map_err(|error| system(format!("{}: {error}", path.display())))?;
        }
        tracing::info!(?addresses, primary = config.primary, intake = config.intake.as_str(), health_names = ?health.names(), "listening");
        Ok(Self {
            addresses,
            shutdown,
            drain_delay: config.drain_delay,
            drain_timeout: config.limits.grace,
            rehearsals,
            edge,
            otlp,
            logs,
            state,
            tasks,
        })
    }

    /// Where it listens.
    pub fn addresses(&self) -> &Addresses {
        &self.addresses
    }

    /// What it does.
    pub fn rehearsals(&self) -> &Arc<Rehearsals> {
        &self.rehearsals
    }

    /// Says NOT_SERVING and takes no more exchanges, finishes those in flight, sends the last figures to the collector and
    /// ends.
    pub async fn drain(mut self) {
        tracing::info!("draining");
        self.shutdown.advance(Phase::Draining);
        tokio::time::sleep(self.drain_delay).await;
        self.rehearsals.finish(self.drain_timeout).await;
        self.tasks.shutdown().await;
        if let Some((file, metrics)) = &self.state {
            save(file, &self.rehearsals, metrics).await;
        }
        // Side by side: each may wait for somebody who does not answer.
        let figures = self.otlp.map(|otlp| tokio::task::spawn_blocking(|| otlp.shutdown()));
        let records = self.logs.map(|logs| tokio::task::spawn_blocking(|| logs.shutdown()));
        self.rehearsals.outlets().finish(LAST).await;
        for ended in figures.into_iter().chain(records) {
            drop(ended.await);
        }
        self.shutdown.advance(Phase::Closing);
        self.edge.ended().await;
        tracing::info!("drained");
    }
}

/// Opens the candidates: a package predicts its golden rows here.
pub(crate) async fn open(
    config: &Config,
    metrics: &Arc<Metrics>,
    otlp: Option<&Otlp>,
    logs: &DisagreementLogs,
) -> Result<Rehearsals, StartError> {
    let intake: intake::Shared = Arc::default();
    intake.lock().unwrap_or_else(PoisonError::into_inner).kind = config.intake;
    let mut all = Vec::new();
    for candidate in &config.candidates {
        let (opening, primary_model) = (candidate.clone(), config.primary_model.clone());
        let opened = tokio::task::spawn_blocking(move || Candidate::open(&opening, primary_model.as_deref()))
            .await
            .map_err(system)?
            .map_err(|error| match candidate.source {
                CandidateSource::Package(_) => StartError::Candidate(error),
                // Nobody has been asked yet: it is what is shown to it.
                CandidateSource::Server { .. } => StartError::Files(format!("{error:#}")),
            })?;
        let histograms = otlp.map_or_else(Histograms::default, Otlp::histograms);
        let rehearsal = Rehearsal::new(
            &candidate.name,
            opened,
            (config.gates, candidate.tolerance),
            candidate.bounds,
            intake.clone(),
            metrics.clone(),
            histograms,
        );
        let rehearsal = rehearsal.among(config.candidates.len());
        let rehearsal = rehearsal.slicing(config.slices.clone()).noting(config.disagreements, logs.clone());
        all.push(Arc::new(rehearsal));
    }
    Ok(Rehearsals::new(all, intake))
}

/// Starts whatever takes exchanges in.
fn take_in(
    config: &Config,
    reach: &Reach,
    gate: &Gate,
    rehearsals: &Arc<Rehearsals>,
    phases: &Phases,
    tasks: &mut JoinSet<()>,
) -> Way {
    let (rehearsals, phases) = (rehearsals.clone(), phases.clone());
    match config.intake {
        Kind::Tap => {
            let tap = Tap::new(config, reach.clone(), None);
            tasks.spawn(async move {
                tap.run(rehearsals, phases).await;
            });
            Way::None
        }
        Kind::Mirror => {
            let news = Arc::new(Notify::new());
            let joiner = Arc::new(Joiner::new(config.join));
            let execution = Arc::new(Execution::new(config, reach, &rehearsals, &news));
            let mirror = Arc::new(Mirror::new(config, gate.clone(), &rehearsals, &joiner, &execution));
            for _ in 0..Execution::WORKERS {
                tasks.spawn(execution.clone().work());
            }
            let tap =
                (config.primary_tap != Some(false)).then(|| Tap::new(config, reach.clone(), Some(joiner.clone())));
            let (asking, following, told) = (Asking::new(config, reach.clone()), rehearsals.clone(), mirror.clone());
            tasks.spawn(async move {
                if let Some(tap) = tap {
                    if tap.run(following.clone(), phases.clone()).await == End::Draining {
                        return;
                    }
                    told.execute();
                }
                asking.run(following, news, phases).await;
            });
            tasks.spawn(async move {
                let mut ticks = tokio::time::interval(LOOK);
                loop {
                    ticks.tick().await;
                    joiner.expire(&rehearsals);
                }
            });
            Way::Mirror(mirror)
        }
        Kind::Proxy => {
            let news = Arc::new(Notify::new());
            let captures = Arc::new(Captures::new(config, &rehearsals, &news));
            tasks.spawn(captures.clone().work());
            tasks.spawn(Asking::new(config, reach.clone()).run(rehearsals.clone(), news, phases));
            Way::Proxy(Arc::new(Proxy::new(config, reach, &rehearsals, &captures)))
        }
    }
}

/// Writes what is counted. A disk that is full or slow costs nothing but the file.
async fn save(file: &Arc<StateFile>, rehearsals: &Arc<Rehearsals>, metrics: &Metrics) {
    let (file, rehearsals) = (file.clone(), rehearsals.clone());
    let written = tokio::task::spawn_blocking(move || file.write(|| rehearsals.save()));
    let written = written.await.map_err(io::Error::other).flatten();
    match written {
        Ok(()) => metrics.state.written.increment(1),
        Err(error) => {
            metrics.state.failed.increment(1);
            tracing::warn!(%error, "the state can't be written");
        }
    }
}

async fn tick(rehearsals: Arc<Rehearsals>, metrics: Arc<Metrics>) {
    let mut ticks = tokio::time::interval(LOOK);
    for look in 0_u32.. {
        ticks.tick().await;
        let publishing = look.is_multiple_of(LOOKS_A_PUBLICATION).then(|| metrics.publishing());
        if publishing.is_some() {
            let state = rehearsals.intake().clone();
            metrics.took_in(&state);
            metrics.copied(rehearsals.outlets());
        }
        let epochs: Vec<_> = rehearsals.all().iter().map(|rehearsal| rehearsal.epoch()).collect();
        if publishing.is_some() {
            metrics.going_on(epochs.iter().flatten().map(AsRef::as_ref));
        }
        for (rehearsal, epoch) in rehearsals.all().iter().zip(epochs) {
            rehearsal.mark();
            if publishing.is_some() {
                metrics.without_epoch(&rehearsal.name(), rehearsal.without_epoch());
            }
            if publishing.is_some()
                && let Some(epoch) = epoch
            {
                let tally = epoch.tally().clone();
                let judgement = judge(&tally, &rehearsal.gates, tally.busy());
                metrics.publish(&epoch, &tally, &judgement, &rehearsal.gates);
                epoch.history().record(Point::new(unix_nanos(), &judgement.figures));
            }
        }
    }
}
