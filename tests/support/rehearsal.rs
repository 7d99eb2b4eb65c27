//! A sidecar on free ports, in this process. Needs a runtime of more than one thread.

use std::{net::SocketAddr, path::PathBuf, time::Instant};

use shadow_sidecar::{Settings, Sidecar, tally::DropReason};
use tonic::transport::Channel;
use tonic_health::pb::health_client::HealthClient;
use understudy::v1::{Conservation, GetReportRequest, Report, shadow_service_client::ShadowServiceClient};

use crate::{
    Primary, SOON, eventually, examples,
    primary::endpoint,
    scrape::{Scrape, get},
};

/// A sidecar that lets `examples/models/adult-candidate` rehearse unless told otherwise. Dropping it ends it at once.
#[derive(Debug)]
pub struct Rehearsal {
    sidecar: Sidecar,
    admin: SocketAddr,
    channel: Channel,
}

/// The directory of an example's model.
pub fn package(name: &str) -> String {
    let path: PathBuf = examples().join("models").join(name);
    path.to_string_lossy().into()
}

impl Rehearsal {
    /// Beside `primary`, on its Unix socket; returns when it is subscribed.
    pub async fn beside(primary: &Primary, change: impl FnOnce(&mut Settings)) -> Self {
        let url = primary.unix_url();
        let rehearsal = Self::alone(|settings| {
            settings.primary = Some(url);
            change(settings);
        })
        .await;
        rehearsal.report_when(|report| report.intake.as_ref().is_some_and(|intake| intake.connected)).await;
        rehearsal
    }

    /// Whether a primary is there or not.
    pub async fn alone(change: impl FnOnce(&mut Settings)) -> Self {
        let mut settings = Settings {
            candidate: Some(package("adult-candidate")),
            grpc_listen: Some("127.0.0.1:0".into()),
            admin_listen: Some("127.0.0.1:0".into()),
            gate: Some(0.98),
            min_duration: Some("0s".into()),
            ..Settings::default()
        };
        change(&mut settings);
        let sidecar = Sidecar::start(settings.validate().expect("valid settings")).await.expect("the sidecar starts");
        let channel = endpoint(&format!("http://{}", sidecar.addresses().grpc)).connect_lazy();
        let admin = sidecar.addresses().admin.parse().expect("an address");
        Self { sidecar, admin, channel }
    }

    /// What it knows.
    pub fn shadow(&self) -> ShadowServiceClient<Channel> {
        ShadowServiceClient::new(self.channel.clone())
    }

    /// `grpc.health.v1`.
    pub fn health(&self) -> HealthClient<Channel> {
        HealthClient::new(self.channel.clone())
    }

    /// What its admin port says at `path`.
    ///
    /// # Panics
    /// When that is no JSON.
    pub async fn page(&self, path: &str) -> serde_json::Value {
        let (code, text) = get(self.admin, path).await.expect("the admin port answers");
        assert_eq!(code, 200, "{path}: {text}");
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{path}: {error} in {text}"))
    }

    /// Where metrics, health and the page are served over HTTP.
    pub fn admin(&self) -> SocketAddr {
        self.admin
    }

    /// Where gRPC is served, to a mesh or to users of a proxy, too.
    pub fn grpc(&self) -> SocketAddr {
        self.sidecar.addresses().grpc.parse().expect("an address")
    }

    /// Rows that the primary has answered twice, and those in which it agreed with itself.
    pub fn noise(&self) -> (u64, u64) {
        self.sidecar.rehearsals().all()[0].epoch().map_or((0, 0), |epoch| {
            let tally = epoch.tally();
            let noise = tally.noise_floor();
            (noise.compared(), noise.agreed())
        })
    }

    /// As if the server's queue for it had been full for so long.
    pub fn lose(&self, exchanges: u64, rows: u64) {
        self.sidecar.rehearsals().lost(DropReason::ServerQueueFull, exchanges, rows);
    }

    /// What `/metrics` says now.
    pub async fn scrape(&self) -> Scrape {
        Scrape::of(self.admin).await
    }

    /// The report now; the law of conservation holds in each.
    pub async fn report(&self) -> Report {
        let report = self.shadow().get_report(GetReportRequest::default()).await.expect("a report").into_inner();
        for counts in [&report.exchanges, &report.rows].into_iter().flatten() {
            assert_eq!(counts.offered, ended(counts) + counts.in_flight, "conservation: {report:#?}");
        }
        report
    }

    /// The first report of which `enough` is true.
    ///
    /// # Panics
    /// When there is none soon.
    #[track_caller]
    pub fn report_when(&self, enough: impl Fn(&Report) -> bool) -> impl Future<Output = Report> {
        eventually(SOON, async move || {
            let report = self.report().await;
            anyhow::ensure!(enough(&report), "the last report was {report:#?}");
            Ok(report)
        })
    }

    /// The report once `offered` exchanges have been offered and none is in flight.
    #[track_caller]
    pub fn settled(&self, offered: u64) -> impl Future<Output = Report> {
        self.report_when(move |report| {
            report.exchanges.as_ref().is_some_and(|counts| counts.offered == offered && counts.in_flight == 0)
        })
    }

    /// How many exchanges have been compared, once none is in flight.
    pub async fn compared(&self) -> u64 {
        let idle = |report: &Report| report.exchanges.as_ref().is_some_and(|counts| counts.in_flight == 0);
        self.report_when(idle).await.exchanges.map_or(0, |counts| counts.compared)
    }

    /// Drains it; how long that took, in seconds.
    pub async fn drain(self) -> f64 {
        let started = Instant::now();
        self.sidecar.drain().await;
        started.elapsed().as_secs_f64()
    }
}

/// What has become of exchanges, or rows, in all.
pub fn ended(counts: &Conservation) -> u64 {
    counts.compared + counts.dropped.values().sum::<u64>() + counts.failed.values().sum::<u64>()
}
