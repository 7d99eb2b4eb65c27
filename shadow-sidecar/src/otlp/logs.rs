//! Disagreements as OTLP log records, so that one of them is found from its trace and its trace from it. At most so many in a
//! second; what is left out, and what does not arrive, is counted.

use std::{
    collections::HashMap,
    env,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant, UNIX_EPOCH},
};

use opentelemetry::{
    Key, SpanId, TraceFlags, TraceId,
    logs::{AnyValue, LogRecord as _, Logger as _, LoggerProvider as _, Severity},
};
use opentelemetry_otlp::{LogExporter, WithExportConfig, WithTonicConfig};
use opentelemetry_sdk::{
    Resource,
    error::OTelSdkResult,
    logs::{BatchConfigBuilder, BatchLogProcessor, LogBatch, LogExporter as Export, SdkLogger, SdkLoggerProvider},
};
use understudy::v1;

use super::{
    TIMEOUT,
    collector::{self, Signal},
    resource,
};
use crate::{
    config::Config,
    disagreements::{Allowance, Inputs},
    metrics::Metrics,
    rehearsal::Epoch,
};

/// Records that may wait for the collector, those on their way included.
const QUEUE: usize = 2_048;
/// By this name a collector finds them.
const EVENT: &str = "shadow.disagreement";

/// What became of a log record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The collector has taken it.
    Sent,
    /// It has refused it, or was not there.
    Failed,
    /// There were too many in this second.
    SampledOut,
    /// The collector does not keep up.
    QueueFull,
    /// The process ended before.
    Shutdown,
}

impl Outcome {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Sent, Self::Failed, Self::SampledOut, Self::QueueFull, Self::Shutdown];

    /// The name in metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Sent => "sent",
            Self::Failed => "failed",
            Self::SampledOut => "sampled_out",
            Self::QueueFull => "queue_full",
            Self::Shutdown => "shutdown",
        }
    }
}

/// Where disagreements are told. Costs nothing when there is no collector. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct DisagreementLogs(Option<Arc<Shared>>);

#[derive(Debug)]
struct Shared {
    logger: SdkLogger,
    allowance: Allowance,
    began: Instant,
    books: Arc<Books>,
}

/// Every record is in one counter, or waits.
#[derive(Debug)]
struct Books {
    waiting: AtomicUsize,
    metrics: Arc<Metrics>,
}

impl Books {
    fn count(&self, outcome: Outcome, records: usize) {
        self.metrics.logs[outcome as usize].increment(records as u64);
    }

    /// So many of those that wait, at most, have come to an end.
    fn ended(&self, outcome: Outcome, records: usize) {
        let before = self
            .waiting
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |waiting| Some(waiting.saturating_sub(records)));
        self.count(outcome, records.min(before.unwrap_or_default()));
    }
}

impl DisagreementLogs {
    /// Whether there is room for one more in this second; if not, it is counted as left out.
    pub(crate) fn wanted(&self, now: Instant) -> bool {
        let Some(shared) = &self.0 else { return false };
        let wanted = shared.allowance.take(now.saturating_duration_since(shared.began));
        if !wanted {
            shared.books.count(Outcome::SampledOut, 1);
        }
        wanted
    }

    /// Queues one. Never waits.
    pub(crate) fn tell(&self, epoch: &Epoch, disagreement: &v1::Disagreement) {
        let Some(Shared { logger, books, .. }) = self.0.as_deref() else { return };
        if books.waiting.fetch_add(1, Ordering::Relaxed) >= QUEUE {
            books.waiting.fetch_sub(1, Ordering::Relaxed);
            return books.count(Outcome::QueueFull, 1);
        }
        let mut record = logger.create_log_record();
        record.set_event_name(EVENT);
        record.set_severity_number(Severity::Info);
        record.set_severity_text("INFO");
        record.set_timestamp(UNIX_EPOCH + Duration::from_nanos(disagreement.arrived_unix_nanos));
        if let Some((trace, span, flags)) = context(&disagreement.traceparent) {
            record.set_trace_context(trace, span, Some(flags));
        }
        record.add_attributes(attributes(epoch, disagreement));
        // In full they are for callers who have shown who they are.
        let told = epoch.disagreements.reader.policy() != Inputs::Full;
        let features = disagreement.features.iter().filter(|_| told);
        let features = features.map(|(name, value)| (Key::new(name.clone()), AnyValue::from(value.clone())));
        record.set_body(AnyValue::Map(Box::new(features.collect::<HashMap<_, _>>())));
        logger.emit(record);
    }
}

fn attributes(epoch: &Epoch, one: &v1::Disagreement) -> Vec<(&'static str, AnyValue)> {
    let text = |name: &'static str, text: &str| (!text.is_empty()).then(|| (name, AnyValue::from(text.to_owned())));
    let number = |name: &'static str, number: Option<f64>| Some((name, AnyValue::from(number?)));
    let slices = one.slices.iter().map(|slice| AnyValue::from(slice.clone())).collect::<Vec<_>>();
    [
        text("shadow.model", &epoch.primary.name),
        text("shadow.primary.version", epoch.primary_version()),
        text("shadow.candidate", epoch.candidate_name()),
        text("shadow.candidate.version", epoch.candidate_version()),
        Some(("shadow.epoch", AnyValue::from(epoch.number as i64))),
        Some(("shadow.number", AnyValue::from(one.number as i64))),
        text("shadow.kind", &one.kind),
        text("shadow.difference", &one.difference),
        one.row.map(|row| ("shadow.row", AnyValue::from(i64::from(row)))),
        text("shadow.join_id", &one.join_id),
        text("shadow.prediction_id", &one.prediction_id),
        text("shadow.primary.label", &one.primary_label),
        text("shadow.candidate.label", &one.candidate_label),
        number("shadow.primary.score", one.primary_score),
        number("shadow.candidate.score", one.candidate_score),
        number("shadow.score.delta", one.delta),
        text("shadow.candidate.status", &one.candidate_status),
        (!slices.is_empty()).then(|| ("shadow.slices", AnyValue::ListAny(Box::new(slices)))),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// Of a `traceparent` of W3C's Trace Context.
fn context(traceparent: &str) -> Option<(TraceId, SpanId, TraceFlags)> {
    let mut parts = traceparent.split('-');
    let (version, trace, span, flags) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    let hex = |text: &str, length| text.len() == length && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    // Later versions may go on after the flags; this one must not.
    let fits = hex(version, 2) && version != "ff" && (version != "00" || parts.next().is_none());
    if !(fits && hex(trace, 32) && hex(span, 16) && hex(flags, 2)) {
        return None;
    }
    let (trace, span) = (TraceId::from_hex(trace).ok()?, SpanId::from_hex(span).ok()?);
    let flags = TraceFlags::new(u8::from_str_radix(flags, 16).ok()?);
    (trace != TraceId::INVALID && span != SpanId::INVALID).then_some((trace, span, flags))
}

/// The way of log records to the collector.
#[derive(Debug)]
pub struct Logs {
    provider: SdkLoggerProvider,
    books: Arc<Books>,
    tell: DisagreementLogs,
}

impl Logs {
    /// Builds the exporter if the settings or the standard variables name a collector and want records. Must run on a tokio
    /// runtime of more than one thread, which the exporter then uses.
    ///
    /// # Errors
    /// The endpoint can't be one. That nobody answers there is no error.
    pub fn new(config: &Config, metrics: &Arc<Metrics>) -> anyhow::Result<Option<Self>> {
        let per_second = config.disagreements.logs_per_second;
        let unwanted = config.disagreements.keep == 0 || per_second == 0;
        if unwanted || !collector::is_named(config, Signal::Logs) {
            return Ok(None);
        }
        let mut exporter = LogExporter::builder().with_tonic().with_timeout(TIMEOUT);
        if let Some(endpoint) = &config.otlp_endpoint {
            exporter = exporter.with_endpoint(endpoint);
        }
        if let Some(channel) = collector::encrypted(config, Signal::Logs)? {
            exporter = exporter.with_channel(channel);
        }
        let books = Arc::new(Books { waiting: AtomicUsize::new(0), metrics: metrics.clone() });
        let exporter = Counted { exporter: exporter.build()?, books: books.clone() };
        let mut batches = BatchConfigBuilder::default().with_max_queue_size(QUEUE);
        if env::var("OTEL_BLRP_MAX_EXPORT_BATCH_SIZE").is_err() {
            batches = batches.with_max_export_batch_size(QUEUE / 4);
        }
        let processor = BatchLogProcessor::builder(exporter).with_batch_config(batches.build()).build();
        let provider = SdkLoggerProvider::builder().with_log_processor(processor).with_resource(resource()?).build();
        let shared = Shared {
            logger: provider.logger("shadow-sidecar"),
            allowance: Allowance::new(per_second, per_second),
            began: Instant::now(),
            books: books.clone(),
        };
        Ok(Some(Self { provider, books, tell: DisagreementLogs(Some(Arc::new(shared))) }))
    }

    /// For [`Rehearsal::noting`](crate::rehearsal::Rehearsal::noting).
    pub fn disagreements(&self) -> DisagreementLogs {
        self.tell.clone()
    }

    /// Sends what waits, one last time, and ends. Blocks; call it where that may be.
    pub fn shutdown(self) {
        if let Err(error) = self.provider.shutdown_with_timeout(TIMEOUT) {
            tracing::warn!(%error, "the last log records did not arrive");
        }
        self.books.ended(Outcome::Shutdown, self.books.waiting.load(Ordering::Relaxed));
    }
}

/// The exporter, with its outcomes counted.
#[derive(Debug)]
struct Counted {
    exporter: LogExporter,
    books: Arc<Books>,
}

impl Export for Counted {
    async fn export(&self, batch: LogBatch<'_>) -> OTelSdkResult {
        let records = batch.iter().count();
        let outcome = self.exporter.export(batch).await;
        self.books.ended(if outcome.is_ok() { Outcome::Sent } else { Outcome::Failed }, records);
        if let Err(error) = &outcome {
            tracing::debug!(%error, records, "log records did not arrive");
        }
        outcome
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.exporter.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.exporter.set_resource(resource);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_traceparent_is_read_or_left_alone() {
        let good = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        let (trace, span, flags) = context(good).expect("a context");
        let ids = (trace.to_string(), span.to_string());
        assert_eq!(ids, ("0af7651916cd43dd8448eb211c80319c".into(), "b7ad6b7169203331".into()));
        assert!(flags.is_sampled());
        assert!(context(&format!("01{}-more", &good[2..])).is_some(), "a later version may say more");
        for wrong in [
            "",
            "00",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331",
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
            "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-more",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b716920333g-01",
            "00-+af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        ] {
            assert!(context(wrong).is_none(), "{wrong}");
        }
    }
}
