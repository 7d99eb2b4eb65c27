//! P4: whoever looks, whenever, finds every exchange in exactly one place.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use support::{
    scrape::{Scrape, get},
    sidecar::Counts,
};
use tokio::{task::JoinHandle, time::interval};

/// Between two looks.
const LOOK: Duration = Duration::from_millis(50);

/// Looks at a sidecar 20 times a second, in turn at its report and at its metrics.
#[derive(Debug)]
pub(crate) struct Watch {
    seen: Arc<Mutex<Looks>>,
    task: JoinHandle<()>,
}

/// What it found.
#[derive(Clone, Debug, Default)]
pub(crate) struct Looks {
    /// At figures of an epoch.
    pub(crate) taken: u64,
    /// Looks at which the law of conservation did not hold, or that were not answered.
    pub(crate) broken: u64,
    /// The first of them.
    pub(crate) first: Option<String>,
}

impl Looks {
    pub(crate) fn add(&mut self, other: Self) {
        self.taken += other.taken;
        self.broken += other.broken;
        self.first = self.first.take().or(other.first);
    }

    fn note(&mut self, found: Result<bool, String>) {
        match found {
            Ok(there) => self.taken += u64::from(there),
            Err(why) => {
                self.broken += 1;
                self.first.get_or_insert(why);
            }
        }
    }
}

impl Watch {
    pub(crate) fn start(admin: SocketAddr) -> Self {
        let seen = Arc::<Mutex<Looks>>::default();
        let noted = seen.clone();
        let task = tokio::spawn(async move {
            let mut ticks = interval(LOOK);
            for n in 0_u64.. {
                ticks.tick().await;
                let found = if n % 2 == 0 { report(admin).await } else { metrics(admin).await };
                noted.lock().unwrap_or_else(PoisonError::into_inner).note(found);
            }
        });
        Self { seen, task }
    }

    /// Looks at the metrics only, one time after another.
    pub(crate) fn without_pause(admin: SocketAddr) -> Self {
        let seen = Arc::<Mutex<Looks>>::default();
        let noted = seen.clone();
        let task = tokio::spawn(async move {
            loop {
                let found = metrics(admin).await;
                noted.lock().unwrap_or_else(PoisonError::into_inner).note(found);
            }
        });
        Self { seen, task }
    }

    pub(crate) fn stop(self) -> Looks {
        self.task.abort();
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// False when there is no epoch yet.
async fn report(admin: SocketAddr) -> Result<bool, String> {
    let (code, text) = get(admin, "/report.json").await.map_err(|error| format!("/report.json: {error:#}"))?;
    let report: serde_json::Value = serde_json::from_str(&text).map_err(|error| format!("{code} {error}: {text}"))?;
    let mut found = false;
    for what in ["exchanges", "rows"] {
        if let Some(counts) = Counts::of(&report, what) {
            found = true;
            if !counts.holds() {
                return Err(format!("/report.json, {what}: {counts:?}"));
            }
        }
    }
    Ok(found)
}

async fn metrics(admin: SocketAddr) -> Result<bool, String> {
    let scrape = Scrape::try_of(admin).await.map_err(|error| format!("/metrics: {error:#}"))?;
    let sum = |name: &str| scrape.sum(name, &[]) as u64;
    let counts = Counts {
        offered: sum("shadow_exchanges_total"),
        compared: sum("shadow_exchanges_compared_total"),
        dropped: sum("shadow_unmatched_total"),
        failed: sum("shadow_candidate_errors_total"),
        in_flight: sum("shadow_in_flight"),
    };
    if counts.holds() { Ok(counts.offered > 0) } else { Err(format!("/metrics: {counts:?}")) }
}
