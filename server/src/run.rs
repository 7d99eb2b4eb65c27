//! Start-up and drain.

use std::{io, path::PathBuf, sync::Arc, time::Duration};

use metrics_exporter_prometheus::PrometheusHandle;
use tokio::task::JoinHandle;
use understudy::{
    admin,
    edge::{Address, Admission, Cores, Edge, Gate, Instruments, Listener, Setup},
    health::Registry,
    identity::Identity,
    shutdown::{Phase, Phases, Shutdown},
    status::Chain,
};

use crate::{
    compute::Compute,
    config::{Config, UnixSocket},
    ids::PredictionIds,
    metrics::Metrics,
    models::{Models, ModelsError},
    predict::Predictor,
    service::{Front, INFERENCE},
    tap::Tap,
};

/// The names that share readiness.
const OWN: [&str; 1] = [INFERENCE];

/// Why a server does not run.
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
    /// A model may not serve.
    #[error("no model is served")]
    Models(#[source] ModelsError),
    /// Certificates, keys or clients can't be used.
    #[error("{0}")]
    Identity(String),
    /// The system does not give what every process needs.
    #[error("the server can't start: {0}")]
    System(String),
}

impl StartError {
    /// For `main`: 65 for a package that is refused, 69 for an address that can't be had, 78 for files of the configuration that can't be
    /// used, 70 for the rest (sysexits.h).
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Models(_) => 65,
            Self::Listen { .. } => 69,
            Self::Identity(_) => 78,
            Self::System(_) => 70,
        }
    }
}

fn system(error: impl std::fmt::Display) -> StartError {
    StartError::System(error.to_string())
}

/// A server that is ready.
#[derive(Debug)]
pub struct Server {
    addresses: Addresses,
    shutdown: Shutdown,
    drain_delay: Duration,
    health: Registry,
    edge: Edge,
    self_tests: JoinHandle<()>,
}

/// A start that has not come to its end: what listens already ends with it.
struct Starting(Option<Shutdown>);

impl Drop for Starting {
    fn drop(&mut self) {
        if let Some(shutdown) = &self.0 {
            shutdown.advance(Phase::Closing);
        }
    }
}

/// Where a server listens.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Addresses {
    /// gRPC over TCP: `IP:PORT`.
    pub grpc: String,
    /// Metrics and health over HTTP: `IP:PORT`.
    pub admin: String,
    /// gRPC over a Unix socket.
    pub unix: Option<PathBuf>,
}

impl Server {
    /// Listens, loads and self-tests the models, and returns when ready. Until then health says NOT_SERVING.
    ///
    /// # Errors
    /// Nothing listens any more when this fails or is given up.
    pub async fn start(config: Config) -> Result<Self, StartError> {
        let (shutdown, phases) = Shutdown::new();
        let mut starting = Starting(Some(shutdown.clone()));
        let server = Self::serve(config, shutdown, phases).await?;
        starting.0 = None;
        Ok(server)
    }

    async fn serve(config: Config, shutdown: Shutdown, phases: Phases) -> Result<Self, StartError> {
        let bind = |address: &Address| {
            Listener::bind(address).map_err(|source| StartError::Listen { address: address.clone(), source })
        };
        let tcp = bind(&config.grpc_listen)?;
        let Listener::Tcp(admin) = bind(&config.admin_listen)? else {
            return Err(system("admin-listen must be IP:PORT"));
        };
        let grpc = tcp.address().map_err(system)?;
        let mut listeners = vec![tcp];
        let mut unix = None;
        let port = match &grpc {
            Address::Tcp(address) => address.port(),
            Address::Unix(_) => 0,
        };
        if let Some(path) = config.unix_socket.path(port) {
            match bind(&Address::Unix(path.clone())) {
                Ok(listener) => {
                    listeners.push(listener);
                    unix = Some(path);
                }
                Err(error) if config.unix_socket == UnixSocket::Default => {
                    tracing::warn!(error = %Chain(&error), "going on without a Unix socket");
                }
                Err(error) => return Err(error),
            }
        }
        let addresses =
            Addresses { grpc: grpc.to_string(), admin: admin.local_addr().map_err(system)?.to_string(), unix };

        let metrics = Arc::new(Metrics::new().map_err(system)?);
        let instruments = Arc::new(Instruments::new(metrics.recorder()));
        let admission = Arc::new(Admission::new(config.in_flight, instruments.clone()));
        let health = Registry::new(&OWN, &phases);
        let models = Arc::new(Models::default());
        let cores = Cores::available();
        let predictor = Arc::new(Predictor {
            models: models.clone(),
            tap: Arc::new(Tap::new(metrics.clone(), config.tap_subscribers, config.tap_queue, config.tap_queue_bytes)),
            compute: Compute::start(
                config.compute_threads,
                config.compute_queue,
                config.compute_wait,
                instruments.clone(),
                cores.clone(),
            )
            .map_err(system)?,
            messages: config.messages,
            ids: PredictionIds::new().map_err(system)?,
        });
        let gate = Gate { messages: config.messages, admission: admission.clone() };
        let (identity, tls) = Identity::start(&config.identity, metrics.recorder()).map_err(StartError::Identity)?;
        let front = Front::new(&predictor, gate, &metrics, &health, identity, &phases).map_err(system)?;
        let sampled = instruments.clone();
        let scrape = move |metrics: &PrometheusHandle| {
            sampled.sample(&admission);
            metrics.render()
        };
        admin::start(admin, metrics.handle(), scrape, &health, &phases, admin::Router::new()).map_err(system)?;
        let setup = Setup {
            name: "worker",
            workers: config.workers,
            limits: &config.limits,
            tls: tls.as_ref(),
            phases: &phases,
            instruments: &instruments,
            cores: &cores,
        };
        let edge = Edge::start(&setup, listeners, &front).map_err(system)?;
        edge.pulse().watch(&health, &phases).map_err(system)?;

        let loading = models.clone();
        let (directories, contract) = (config.models.clone(), config.contract.clone());
        tokio::task::spawn_blocking(move || loading.load(&directories, &metrics, &contract, &phases))
            .await
            .map_err(system)?
            .map_err(StartError::Models)?;
        report(&models, &health);
        let self_tests = tokio::spawn(self_test(models, health.clone(), config.self_test_interval));
        if let Some(path) = &config.ports_file {
            let text = serde_json::to_string(&addresses).map_err(system)?;
            std::fs::write(path, text).map_err(|error| system(format!("{}: {error}", path.display())))?;
        }
        tracing::info!(?addresses, health_names = ?health.names(), "ready");
        Ok(Self { addresses, shutdown, drain_delay: config.drain_delay, health, edge, self_tests })
    }

    /// Where it listens.
    pub fn addresses(&self) -> &Addresses {
        &self.addresses
    }

    /// What it says about itself.
    pub fn health(&self) -> &Registry {
        &self.health
    }

    /// Says NOT_SERVING at once, goes on answering for the drain delay, then takes no new calls and waits for those in
    /// flight, at most the drain timeout.
    pub async fn drain(self) {
        tracing::info!(delay = ?self.drain_delay, "draining");
        self.shutdown.advance(Phase::Draining);
        tokio::time::sleep(self.drain_delay).await;
        self.shutdown.advance(Phase::Closing);
        self.self_tests.abort();
        self.edge.ended().await;
        tracing::info!("drained");
    }
}

/// Tells health about every model: `model/<name>` for the newest version, `model/<name>/<version>` for each. The server is ready as long
/// as one of them is: that another fails its self-test is no reason to send away those who ask for this one.
fn report(models: &Models, health: &Registry) {
    for served in models.all() {
        let (name, version) = (served.model.name(), served.model.version());
        health.set(&format!("model/{name}/{version}"), served.is_ready());
        // In order of version: the newest comes last and stays.
        health.set(&format!("model/{name}"), served.is_ready());
    }
    health.set_ready(&OWN, models.all().iter().any(|served| served.is_ready()));
}

/// Predicts the golden rows again and again: memory that has gone bad must not go on predicting.
async fn self_test(models: Arc<Models>, health: Registry, interval: Duration) {
    let mut ticks = tokio::time::interval(interval.max(Duration::from_millis(10)));
    ticks.tick().await;
    loop {
        ticks.tick().await;
        let tested = models.clone();
        let ran = tokio::task::spawn_blocking(move || {
            for served in tested.all() {
                if let Err(error) = served.self_test() {
                    tracing::error!(model = served.model.name(), version = served.model.version(), error = %Chain(&error), "self-test failed");
                }
            }
        })
        .await;
        report(&models, &health);
        if let Err(error) = ran {
            tracing::error!(%error, "the golden rows could not be predicted");
            health.set_ready(&OWN, false);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Contract;

    #[test]
    fn a_model_that_fails_takes_down_itself_and_the_server_only_with_the_last() {
        let (_shutdown, phases) = Shutdown::new();
        let (models, health) = (Models::default(), Registry::new(&OWN, &phases));
        let examples = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples");
        let of = |model: &str| PathBuf::from(format!("{examples}/models/{model}"));
        let metrics = Metrics::new().expect("a recorder");
        models
            .load(&[of("adult"), of("adult-candidate")], &metrics, &Contract::default(), &phases)
            .expect("the examples");
        report(&models, &health);
        let serving = |name: &str| health.serving(name).expect("a known name");
        let all = models.all();
        let [first, second] = [0, 1].map(|n| format!("model/{}/{}", all[n].model.name(), all[n].model.version()));
        assert!(serving("") && serving(&first) && serving(&second));
        all[0].set_ready(false);
        report(&models, &health);
        assert!(serving("") && serving("readiness") && serving(INFERENCE), "the other one is served");
        assert!(!serving(&first) && serving(&second));
        all[1].set_ready(false);
        report(&models, &health);
        assert!(!serving("") && !serving(&second) && serving("startup"));
    }
}
