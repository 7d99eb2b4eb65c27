//! A sidecar as a process of its own.

use std::{
    net::SocketAddr,
    path::Path,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use serde_json::Value as Json;
use tempfile::TempDir;

use crate::{
    process::{Ended, Process},
    scrape::{Scrape, get},
    target::{admin, after},
};

/// Ended by force when it is dropped.
#[derive(Debug)]
pub struct Sidecar {
    process: Process,
    /// Where gRPC is served, to a mesh or to users of a proxy, too.
    pub grpc: SocketAddr,
    /// Where metrics and reports are served.
    pub admin: SocketAddr,
    _wrapper: TempDir,
}

/// What has become of exchanges, or rows, at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// All.
    pub offered: u64,
    /// Compared with the candidate's answer.
    pub compared: u64,
    /// Lost on the way, all reasons.
    pub dropped: u64,
    /// The candidate has failed, all codes.
    pub failed: u64,
    /// On the way.
    pub in_flight: u64,
}

impl Counts {
    /// What a report says of `what`: "exchanges" or "rows"; nothing before the first epoch.
    pub fn of(report: &Json, what: &str) -> Option<Self> {
        let counts = report.get(what).filter(|counts| !counts.is_null())?;
        let number = |name: &str| counts[name].as_u64();
        let sum = |name: &str| Some(counts[name].as_object()?.values().filter_map(Json::as_u64).sum());
        Some(Self {
            offered: number("offered")?,
            compared: number("compared")?,
            dropped: sum("dropped")?,
            failed: sum("failed")?,
            in_flight: number("in_flight")?,
        })
    }

    /// The law of conservation.
    pub fn holds(&self) -> bool {
        self.offered == self.compared + self.dropped + self.failed + self.in_flight
    }
}

impl Sidecar {
    /// Starts `binary` with `flags` after a shell has run `setup`, and waits until it serves; whether it has found its
    /// primary is another question.
    ///
    /// # Errors
    /// It does not start.
    pub async fn start(binary: &Path, setup: &str, flags: &[&str]) -> anyhow::Result<Self> {
        let wrapper = tempfile::tempdir()?;
        let script = after(setup, binary, wrapper.path())?;
        let flags: Vec<String> = flags.iter().map(|flag| (*flag).to_owned()).collect();
        let started = tokio::task::spawn_blocking(move || {
            let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
            let process = Process::start(&script.to_string_lossy(), &flags, &[]);
            let grpc = process.grpc();
            (process, grpc)
        });
        let (process, grpc) = started.await.context("the sidecar does not start")?;
        let admin = admin(&process).context("no admin address")?;
        Ok(Self { process, grpc, admin, _wrapper: wrapper })
    }

    /// The process.
    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    /// Sends `TERM`, `KILL`, `STOP`...
    pub fn signal(&self, name: &str) {
        self.process.signal(name);
    }

    /// Waits until it has ended by itself, at most `deadline`.
    ///
    /// # Errors
    /// The thread that waits is gone.
    pub async fn ended(self, deadline: Duration) -> anyhow::Result<Ended> {
        Ok(tokio::task::spawn_blocking(move || self.process.wait(deadline)).await?)
    }

    /// What `/report.json` says now.
    ///
    /// # Errors
    /// Nobody answers, or no JSON.
    pub async fn report(&self) -> anyhow::Result<Json> {
        let (code, text) = get(self.admin, "/report.json").await?;
        anyhow::ensure!(code == 200, "/report.json: {code} {text}");
        Ok(serde_json::from_str(&text)?)
    }

    /// The first report of which `enough` is true, within `deadline`.
    ///
    /// # Errors
    /// There is none; with the last one.
    pub async fn report_when(&self, deadline: Duration, enough: impl Fn(&Json) -> bool) -> anyhow::Result<Json> {
        let ends = Instant::now() + deadline;
        loop {
            let report = self.report().await;
            match &report {
                Ok(found) if enough(found) => return report,
                _ if Instant::now() < ends => tokio::time::sleep(Duration::from_millis(10)).await,
                Ok(last) => anyhow::bail!("not within {deadline:?}: {last}"),
                Err(_) => return report,
            }
        }
    }

    /// The report when it follows its primary and an epoch has begun.
    ///
    /// # Errors
    /// Not within ten seconds.
    pub async fn follows(&self) -> anyhow::Result<Json> {
        let follows = |report: &Json| report["intake"]["connected"] == true && !report["epoch"].is_null();
        self.report_when(crate::SOON, follows).await
    }

    /// The exchanges when `offered` have come and none is in flight any more.
    ///
    /// # Errors
    /// It is not so after `deadline`; with the last report.
    pub async fn settled(&self, offered: u64, deadline: Duration) -> anyhow::Result<Counts> {
        let idle = |report: &Json| {
            Counts::of(report, "exchanges").is_some_and(|counts| counts.in_flight == 0 && counts.offered >= offered)
        };
        let report = self.report_when(deadline, idle).await?;
        Counts::of(&report, "exchanges").context("no exchanges")
    }

    /// What `/metrics` says now.
    pub async fn scrape(&self) -> Scrape {
        Scrape::of(self.admin).await
    }
}
