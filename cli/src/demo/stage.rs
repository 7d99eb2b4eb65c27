//! Everything that runs in the demo, as it would run in production but on free ports and in one process.

use std::{
    env,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};
use server::Server;
use shadow_sidecar::Sidecar;
use tempfile::TempDir;
use tokio::{runtime::Runtime, time::sleep};
use tonic::transport::Channel;
use understudy::{
    status::Chain,
    v1::{GetReportRequest, shadow_service_client::ShadowServiceClient},
};

use super::{Arguments, Examples, Runtimes};
use crate::{connect::connect, output::Paint, receiver::Receiver, view::named, words::shown};
/// Any free port of this machine.
const ANY: &str = "127.0.0.1:0";
/// Between two exports.
const OTLP_INTERVAL: &str = "1s";
/// Until the sidecar follows the primary; it takes milliseconds.
const CONNECTED_WITHIN: Duration = Duration::from_secs(10);
/// Until the collector knows what the report says: the next export, and time to spare.
const COLLECTED_WITHIN: Duration = Duration::from_secs(4);
/// Between two looks.
const PAUSE: Duration = Duration::from_millis(20);

/// What was started; dropped or drained in the opposite order.
#[derive(Debug, Default)]
pub(super) struct Stage {
    sidecar: Option<Sidecar>,
    primary: Option<Server>,
    collector: Collector,
    /// For the Unix socket of the tap.
    directory: Option<TempDir>,
    examples: String,
}

/// Where OTLP goes.
#[derive(Debug, Default)]
enum Collector {
    /// Nowhere: `OTEL_SDK_DISABLED`.
    #[default]
    Off,
    /// Somebody else's.
    Named(String),
    /// To this process.
    Own(Receiver),
}

/// What is known of OTLP at the end.
#[derive(Debug)]
pub(super) enum Collected {
    /// Switched off.
    Off,
    /// Exported to somebody who has to be asked.
    Named(String),
    /// Counted here.
    Own { endpoint: String, exports: u64, names: Vec<String>, compared: Option<u64>, agreed: Option<u64> },
}

impl Collector {
    /// Chooses, and returns the setting of the sidecar.
    async fn choose(flag: Option<&str>) -> anyhow::Result<(Self, Option<String>)> {
        let set = |name: &str| env::var(name).ok().filter(|value| !value.is_empty());
        if set("OTEL_SDK_DISABLED").is_some_and(|value| value.eq_ignore_ascii_case("true")) {
            return Ok((Self::Off, None));
        }
        if let Some(url) = flag {
            return Ok((Self::Named(url.into()), Some(url.into())));
        }
        // These the sidecar reads itself.
        let variables = ["OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT"];
        if let Some(url) = variables.into_iter().find_map(set) {
            return Ok((Self::Named(url), None));
        }
        let receiver = Receiver::start().await?;
        let endpoint = receiver.endpoint.clone();
        Ok((Self::Own(receiver), Some(endpoint)))
    }
}

impl Stage {
    /// Starts collector, primary and sidecar, and waits until the sidecar follows the primary.
    ///
    /// # Errors
    /// One of them does not start; the others are still to be drained.
    pub(super) async fn start(
        &mut self,
        arguments: &Arguments,
        examples: &Examples,
        runtimes: &Runtimes,
    ) -> anyhow::Result<()> {
        let directory = tempfile::Builder::new().prefix("understudy-").tempdir().context("no temporary directory")?;
        let socket = directory.path().join("primary.sock");
        self.directory = Some(directory);
        self.examples = examples.directory.display().to_string();
        let (collector, otlp_endpoint) = Collector::choose(arguments.otlp_endpoint.as_deref()).await?;
        self.collector = collector;

        let config = server::Settings {
            // A machine that is busy with something else is no overload.
            queue_wait: Some("30s".into()),
            compute_wait: Some("30s".into()),
            models: Some(vec![examples.model("adult")]),
            grpc_listen: Some(ANY.into()),
            admin_listen: Some(ANY.into()),
            unix_socket: Some(socket.display().to_string()),
            drain_delay: Some("0s".into()),
            drain_timeout: Some("2s".into()),
            ..server::Settings::default()
        };
        let config = config.validate().context("the primary's settings")?;
        let started = on(&runtimes.primary, Server::start(config)).await?;
        self.primary = Some(started.map_err(|error| anyhow::Error::msg(Chain(&error).to_string()))?);

        let config = shadow_sidecar::Settings {
            primary: Some(format!("unix:{}", socket.display())),
            candidate: Some(package(examples, arguments.candidate.model())?),
            grpc_listen: Some(ANY.into()),
            admin_listen: Some(ANY.into()),
            gate: Some(arguments.candidate.gate()),
            min_duration: Some("0s".into()),
            otlp_endpoint,
            otlp_interval: Some(OTLP_INTERVAL.into()),
            drain_delay: Some("0s".into()),
            drain_timeout: Some("2s".into()),
            ..shadow_sidecar::Settings::default()
        };
        let config = config.validate().context("the sidecar's settings")?;
        let started = on(&runtimes.sidecar, Sidecar::start(config)).await?;
        self.sidecar = Some(started.map_err(|error| anyhow::Error::msg(Chain(&error).to_string()))?);
        self.connected().await
    }

    /// Waits until the sidecar follows the primary: what is sent earlier would not be compared.
    async fn connected(&self) -> anyhow::Result<()> {
        let mut shadow = self.shadow().await?;
        let deadline = Instant::now() + CONNECTED_WITHIN;
        loop {
            let report = shadow.get_report(GetReportRequest::default()).await.context("the sidecar gives no report")?;
            let intake = report.into_inner().intake.unwrap_or_default();
            if intake.connected {
                return Ok(());
            }
            if Instant::now() >= deadline {
                bail!("the sidecar does not follow the primary: {}", shown(&intake.last_error));
            }
            sleep(PAUSE).await;
        }
    }

    /// A connection to the primary, as an application has one.
    pub(super) async fn primary(&self) -> anyhow::Result<Channel> {
        connect(&self.primary.as_ref().context("no primary")?.addresses().grpc).await
    }

    /// The sidecar's report service.
    pub(super) async fn shadow(&self) -> anyhow::Result<ShadowServiceClient<Channel>> {
        let address = &self.sidecar.as_ref().context("no sidecar")?.addresses().grpc;
        Ok(ShadowServiceClient::new(connect(address).await?))
    }

    /// What the collector has, once it has everything of `compared` rows or time is up.
    pub(super) async fn collected(&self, compared: u64) -> Collected {
        let receiver = match &self.collector {
            Collector::Off => return Collected::Off,
            Collector::Named(url) => return Collected::Named(url.clone()),
            Collector::Own(receiver) => receiver,
        };
        let received = &receiver.received;
        let deadline = Instant::now() + COLLECTED_WITHIN;
        while received.sum("shadow.compared") != Some(compared) && Instant::now() < deadline {
            sleep(PAUSE).await;
        }
        Collected::Own {
            endpoint: receiver.endpoint.clone(),
            exports: received.exports(),
            names: received.names(),
            compared: received.sum("shadow.compared"),
            agreed: received.sum("shadow.agreed"),
        }
    }

    /// Who plays which part.
    pub(super) fn introduction(&self, candidate: &str, paint: Paint) -> Vec<String> {
        let places = |model: &str, grpc: &str, admin: &str| {
            format!("{model:<20} {}", paint.dim(format_args!("grpc {grpc}   metrics http://{admin}/metrics")))
        };
        let mut lines = Vec::new();
        if let Some(primary) = &self.primary {
            lines.push(named(
                "Primary",
                &places("adult", &primary.addresses().grpc, &primary.addresses().admin),
                paint,
            ));
        }
        if let Some(sidecar) = &self.sidecar {
            let (grpc, admin) = (&sidecar.addresses().grpc, &sidecar.addresses().admin);
            lines.push(named("Sidecar", &places(candidate, grpc, admin), paint));
        }
        let collector = match &self.collector {
            Collector::Off => "off (OTEL_SDK_DISABLED)".to_owned(),
            Collector::Named(url) => format!("to {}", shown(url)),
            Collector::Own(receiver) => format!("to {}, counted in this process", receiver.endpoint),
        };
        lines.push(named("OTLP", &collector, paint));
        lines.push(String::new());
        lines
    }

    /// What to try while everything is running.
    ///
    /// # Errors
    /// Not everything is.
    pub(super) fn next_steps(&self, paint: Paint) -> anyhow::Result<Vec<String>> {
        let primary = self.primary.as_ref().context("no primary")?.addresses();
        let sidecar = self.sidecar.as_ref().context("no sidecar")?.addresses();
        let understudy = env::args().next().unwrap_or_else(|| "understudy".into());
        let (grpc, rows) = (&primary.grpc, format!("{}/adult/stress_rows.csv", self.examples));
        let unix = primary.unix.as_ref().map(|path| format!("unix:{}", path.display())).unwrap_or_default();
        let steps = [
            ("what it serves", format!("grpcurl -plaintext {grpc} list")),
            (
                "one row",
                format!("{understudy} predict --server {grpc} '{{\"age\": 39, \"education\": \"Bachelors\"}}'"),
            ),
            ("rows with faults", format!("{understudy} predict --server {unix} {rows}")),
            ("the rehearsal, live", format!("{understudy} report {} --watch", sidecar.grpc)),
            ("the primary's metrics", format!("curl -s http://{}/metrics", primary.admin)),
            ("the sidecar's metrics", format!("curl -s http://{}/metrics", sidecar.admin)),
        ];
        let mut lines = vec![String::new(), "Everything goes on running. To try next, in another terminal:".into()];
        for (what, command) in steps {
            lines.push(format!("  {}\n  {command}", paint.dim(format_args!("# {what}"))));
        }
        lines.push("Ctrl-C ends it.".into());
        Ok(lines)
    }

    /// Ends what runs: first who observes, then who answers.
    pub(super) async fn drain(self, runtimes: &Runtimes) {
        // An error means that a runtime is gone, and all that ran on it with it.
        if let Some(sidecar) = self.sidecar {
            drop(on(&runtimes.sidecar, sidecar.drain()).await);
        }
        if let Some(primary) = self.primary {
            drop(on(&runtimes.primary, primary.drain()).await);
        }
    }
}

/// The newest version of a model, as a package.
fn package(examples: &Examples, model: &str) -> anyhow::Result<String> {
    let packages = understudy::source::packages(&examples.model(model))?;
    let newest = packages.last().context("no package")?;
    Ok(newest.display().to_string())
}

async fn on<T: Send + 'static>(runtime: &Runtime, work: impl Future<Output = T> + Send + 'static) -> anyhow::Result<T> {
    runtime.spawn(work).await.context("a part of the demo has panicked")
}
