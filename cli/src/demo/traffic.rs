//! The client: rows to the primary at a steady rate, while the sidecar's report is watched.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};
use tokio::{
    task::JoinSet,
    time::{MissedTickBehavior, interval, sleep, sleep_until},
};
use tonic::{Request, transport::Channel};
use understudy::v1::{
    Conservation, GetReportRequest, PredictRequest, Report, Verdict, WatchReportRequest,
    prediction_service_client::PredictionServiceClient,
};

use super::{Examples, Stage};
use crate::{
    connect::failed,
    live::Live,
    output::{Output, Paint},
    view,
    words::count,
};

/// Requests in flight.
const LANES: usize = 8;
/// For one request.
const TIMEOUT: Duration = Duration::from_secs(10);
/// How often the sidecar tells.
const REPORT_MILLIS: u32 = 200;
/// Between two redraws.
const REDRAW: Duration = Duration::from_millis(100);
/// Between two looks at the end.
const PAUSE: Duration = Duration::from_millis(50);
/// After the last answer: until the candidate has answered everything, too.
const SETTLED_WITHIN: Duration = Duration::from_secs(10);

/// What is sent, and how far that is.
#[derive(Debug)]
pub(super) struct Traffic {
    examples: Examples,
    total: u64,
    /// Between two rows; zero: as fast as possible.
    pace: f64,
    next: AtomicU64,
    right: AtomicU64,
    /// One for each answer, as the client sees it.
    latencies: Mutex<Vec<Duration>>,
}

/// Everything was sent.
#[derive(Debug)]
pub(super) struct Sent {
    pub(super) rows: u64,
    /// Different rows among them.
    pub(super) distinct: u64,
    /// Rows for which the primary's label was the true one.
    pub(super) right: u64,
    pub(super) took: Duration,
    pub(super) p50: Duration,
    pub(super) p99: Duration,
    /// The first verdict: after so many rows and so much time.
    pub(super) decided: Option<(u64, Duration)>,
    /// The sidecar's last word.
    pub(super) report: Report,
}

impl Sent {
    /// Rows, as the sidecar's report has them.
    pub(super) fn compared(&self) -> u64 {
        self.report.agreement.as_ref().map_or(0, |agreement| agreement.compared)
    }
}

impl Traffic {
    pub(super) fn new(examples: Examples, total: u64, rate: f64) -> Self {
        Self {
            examples,
            total,
            pace: if rate > 0.0 { 1.0 / rate } else { 0.0 },
            next: AtomicU64::new(0),
            right: AtomicU64::new(0),
            latencies: Mutex::default(),
        }
    }

    fn done(&self) -> u64 {
        self.latencies.lock().unwrap_or_else(PoisonError::into_inner).len() as u64
    }

    /// Sends the next row again and again until all are sent.
    async fn lane(self: Arc<Self>, channel: Channel, start: Instant) -> anyhow::Result<()> {
        let mut client = PredictionServiceClient::new(channel);
        loop {
            let number = self.next.fetch_add(1, Ordering::Relaxed);
            if number >= self.total {
                return Ok(());
            }
            if self.pace > 0.0 {
                sleep_until((start + Duration::from_secs_f64(number as f64 * self.pace)).into()).await;
            }
            let row = (number % self.examples.rows.len() as u64) as usize;
            let rows = vec![self.examples.rows[row].clone()];
            let mut request = Request::new(PredictRequest { rows, ..PredictRequest::default() });
            request.set_timeout(TIMEOUT);
            let sent = Instant::now();
            let answered = client.predict(request).await;
            let latency = sent.elapsed();
            let answer = answered.map_err(|status| failed(&status, row)).context("the primary did not answer")?;
            let label = answer.get_ref().predictions.first().map(|prediction| prediction.label.as_str());
            if label == Some(self.examples.labels[row].as_str()) {
                self.right.fetch_add(1, Ordering::Relaxed);
            }
            self.latencies.lock().unwrap_or_else(PoisonError::into_inner).push(latency);
        }
    }

    fn bar(&self, start: Instant, paint: Paint) -> String {
        let done = self.done();
        let text = format!(
            "{} {} of {} rows, {} in {:.1} s",
            paint.cyan(view::progress(done as f64 / self.total as f64, 40)),
            count(done),
            count(self.total),
            if done < self.total { "sent" } else { "all sent" },
            start.elapsed().as_secs_f64(),
        );
        view::named("Traffic", &text, paint)
    }
}

/// Sends everything, and waits until the sidecar has compared it.
///
/// # Errors
/// The primary or the sidecar fails, or nobody reads the output.
pub(super) async fn send(traffic: Traffic, stage: &Stage, output: Output) -> anyhow::Result<Sent> {
    let traffic = Arc::new(traffic);
    let mut shadow = stage.shadow().await?;
    let watched = shadow
        .watch_report(WatchReportRequest { interval_millis: REPORT_MILLIS, ..WatchReportRequest::default() })
        .await;
    let mut reports = watched.map_err(|status| failed(&status, 0))?.into_inner();
    let mut report = Report::default();
    let mut decided = None;
    let mut live = Live::new(output);
    let mut ticks = interval(REDRAW);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);

    let channel = stage.primary().await?;
    let start = Instant::now();
    // Dropping the set ends its lanes.
    let mut lanes = JoinSet::new();
    for _ in 0..LANES {
        lanes.spawn(traffic.clone().lane(channel.clone(), start));
    }
    loop {
        tokio::select! {
            lane = lanes.join_next() => match lane {
                None => break,
                Some(ended) => ended.context("the client has panicked")??,
            },
            told = reports.message() => match told.map_err(|status| failed(&status, 0))? {
                Some(told) => report = told,
                None => bail!("the sidecar has ended its report"),
            },
            _ = ticks.tick() => {}
        }
        decided = decided.or_else(|| decision(&report, start));
        show(&mut live, &traffic, start, &report)?;
    }
    let took = start.elapsed();

    let deadline = Instant::now() + SETTLED_WITHIN;
    loop {
        let told = shadow.get_report(GetReportRequest::default()).await.map_err(|status| failed(&status, 0))?;
        report = told.into_inner();
        decided = decided.or_else(|| decision(&report, start));
        show(&mut live, &traffic, start, &report)?;
        if settled(report.rows.as_ref(), traffic.total) || Instant::now() >= deadline {
            break;
        }
        sleep(PAUSE).await;
    }
    live.clear();

    let mut latencies = std::mem::take(&mut *traffic.latencies.lock().unwrap_or_else(PoisonError::into_inner));
    latencies.sort_unstable();
    Ok(Sent {
        rows: traffic.total,
        distinct: traffic.total.min(traffic.examples.rows.len() as u64),
        right: traffic.right.load(Ordering::Relaxed),
        took,
        p50: quantile(&latencies, 0.5),
        p99: quantile(&latencies, 0.99),
        decided,
        report,
    })
}

fn show(live: &mut Live, traffic: &Traffic, start: Instant, report: &Report) -> anyhow::Result<()> {
    live.show(
        |paint| {
            let mut lines = vec![traffic.bar(start, paint), String::new()];
            lines.extend(view::lines(report, paint));
            lines
        },
        || format!("{} of {} rows sent, {}", count(traffic.done()), count(traffic.total), view::line(report)),
    )
}

fn decision(report: &Report, start: Instant) -> Option<(u64, Duration)> {
    let decided = matches!(report.verdict(), Verdict::Promote | Verdict::Reject);
    decided.then(|| (report.agreement.as_ref().map_or(0, |agreement| agreement.compared), start.elapsed()))
}

/// Everything that was sent has ended in one counter or another.
fn settled(rows: Option<&Conservation>, sent: u64) -> bool {
    rows.is_some_and(|rows| rows.in_flight == 0 && rows.offered >= sent)
}

/// Nearest rank; zero of nothing.
fn quantile(sorted: &[Duration], q: f64) -> Duration {
    let rank = (q * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.saturating_sub(1)).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_values_that_occurred() {
        let sorted: Vec<Duration> = (1..=100).map(Duration::from_millis).collect();
        assert_eq!(quantile(&sorted, 0.5), Duration::from_millis(50));
        assert_eq!(quantile(&sorted, 0.99), Duration::from_millis(99));
        assert_eq!(quantile(&sorted[..1], 0.99), Duration::from_millis(1));
        assert_eq!(quantile(&[], 0.5), Duration::ZERO);
    }

    #[test]
    fn settled_means_that_nothing_is_on_its_way() {
        let rows = |offered, in_flight| Conservation { offered, in_flight, ..Conservation::default() };
        assert!(settled(Some(&rows(10, 0)), 10));
        assert!(!settled(Some(&rows(10, 1)), 10));
        assert!(!settled(Some(&rows(9, 0)), 10));
        assert!(!settled(None, 10));
    }
}
