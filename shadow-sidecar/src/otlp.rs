//! The rehearsal's counters as OTLP metrics, and in [`logs`] its disagreements as log records. Cumulative sums, so that a lost export costs nothing; bounds are gauges and
//! not to be aggregated: pool the sums and compute the bound from them.
//!
//! The only file with metric names for collectors. The standard `OTEL_*` variables are honoured.

use std::{
    env,
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    thread,
    time::Duration,
};

use opentelemetry::{
    KeyValue,
    metrics::{Histogram, Meter, MeterProvider as _},
};
use opentelemetry_otlp::{MetricExporter, WithExportConfig, WithTonicConfig};
use opentelemetry_sdk::{
    Resource,
    error::OTelSdkResult,
    metrics::{
        Aggregation, Instrument, InstrumentKind, PeriodicReader, SdkMeterProvider, Stream, Temporality,
        data::ResourceMetrics, exporter::PushMetricExporter,
    },
};
use tonic::Code;
use understudy::status;

use crate::{
    compare::RowOutcome,
    config::Config,
    metrics::Metrics,
    rehearsal::{Epoch, Rehearsal},
    tally::{DropReason, Latency, Tally},
    verdict::{Figures, judge},
};

mod collector;
mod logs;

use collector::Signal;
pub use logs::{DisagreementLogs, Logs, Outcome as LogOutcome};

/// Between two exports, where neither the setting nor `OTEL_METRIC_EXPORT_INTERVAL` says otherwise.
const INTERVAL: Duration = Duration::from_secs(10);
/// For one export, retries included; also what the shutdown waits for the last one.
const TIMEOUT: Duration = Duration::from_secs(4);
/// The SDK's default of 2,000 would fold what lies beyond into one series; flips of 64 classes are 4,225.
const CARDINALITY: usize = 5000;

/// What is recorded for each comparison. Costs nothing when there is no collector.
#[derive(Clone, Debug, Default)]
pub struct Histograms(Option<(Histogram<f64>, Histogram<f64>)>);

impl Histograms {
    /// One exchange was compared.
    pub fn compared(&self, epoch: &Epoch, outcomes: &[RowOutcome], latency: Latency) {
        let Some((score_delta, latencies)) = &self.0 else { return };
        let mut attributes = attributes(epoch);
        for delta in outcomes.iter().filter_map(|outcome| outcome.delta) {
            score_delta.record(delta, &attributes);
        }
        for (role, nanos) in [("primary", latency.primary), ("candidate", latency.candidate)] {
            attributes.push(KeyValue::new("role", role));
            latencies.record(nanos as f64 / 1e9, &attributes);
            attributes.pop();
        }
    }
}

/// The way to the collector.
#[derive(Debug)]
pub struct Otlp {
    provider: SdkMeterProvider,
    meter: Meter,
}

impl Otlp {
    /// Builds the exporter if the setting or the standard variables name a collector. Must run on a tokio runtime of more
    /// than one thread, which the exporter then uses.
    ///
    /// # Errors
    /// The endpoint can't be one. That nobody answers there is no error.
    pub fn new(config: &Config, metrics: &Arc<Metrics>) -> anyhow::Result<Option<Self>> {
        if !collector::is_named(config, Signal::Metrics) {
            return Ok(None);
        }
        let mut exporter = MetricExporter::builder().with_tonic().with_timeout(TIMEOUT);
        if let Some(endpoint) = &config.otlp_endpoint {
            exporter = exporter.with_endpoint(endpoint);
        }
        if let Some(channel) = collector::encrypted(config, Signal::Metrics)? {
            exporter = exporter.with_channel(channel);
        }
        let exporter = Counted { exporter: exporter.build()?, metrics: metrics.clone(), away: AtomicBool::new(false) };
        let mut reader = PeriodicReader::builder(exporter);
        if config.otlp_interval.is_some() || env::var("OTEL_METRIC_EXPORT_INTERVAL").is_err() {
            reader = reader.with_interval(config.otlp_interval.unwrap_or(INTERVAL));
        }
        // Seconds and probabilities would all fall into the first of the SDK's default buckets, which are milliseconds.
        let view = |instrument: &Instrument| {
            let stream = Stream::builder().with_cardinality_limit(CARDINALITY);
            let stream = if instrument.kind() == InstrumentKind::Histogram {
                stream.with_aggregation(Aggregation::Base2ExponentialHistogram {
                    max_size: 160,
                    max_scale: 20,
                    record_min_max: true,
                })
            } else {
                stream
            };
            stream.build().ok()
        };
        let provider =
            SdkMeterProvider::builder().with_reader(reader.build()).with_resource(resource()?).with_view(view).build();
        let meter = provider.meter("shadow-sidecar");
        Ok(Some(Self { provider, meter }))
    }

    /// For [`Rehearsal::new`].
    pub fn histograms(&self) -> Histograms {
        let score_delta = self
            .meter
            .f64_histogram("shadow.score.delta")
            .with_description("candidate's score minus primary's")
            .with_unit("1")
            .build();
        let latency = self
            .meter
            .f64_histogram("shadow.latency")
            .with_description("of compared exchanges, by role; the candidate's is not what clients would see")
            .with_unit("s")
            .build();
        Histograms(Some((score_delta, latency)))
    }

    /// Observes `rehearsal` at every export from now on.
    pub fn observe(&self, rehearsal: &Arc<Rehearsal>) {
        let source = Source(Arc::downgrade(rehearsal));
        let m = &self.meter;
        sum(m, &source, "shadow.exchanges", "{exchange}", |tally, each| each(tally.exchanges().offered(), &[]));
        sum(m, &source, "shadow.compared", "{row}", |tally, each| each(tally.rows().compared(), &[]));
        sum(m, &source, "shadow.agreed", "{row}", |tally, each| each(tally.agreed(), &[]));
        sum(m, &source, "shadow.flips", "{row}", |tally, each| {
            for flip in tally.flips().iter() {
                let pair = [
                    KeyValue::new("primary_class", flip.primary.to_owned()),
                    KeyValue::new("candidate_class", flip.candidate.to_owned()),
                ];
                each(flip.count, &pair);
            }
        });
        sum(m, &source, "shadow.unmatched", "{exchange}", |tally, each| {
            for reason in DropReason::ALL {
                each(tally.exchanges().dropped(reason), &[KeyValue::new("reason", reason.as_str())]);
            }
        });
        sum(m, &source, "shadow.candidate.errors", "{exchange}", |tally, each| {
            for (code, count) in tally.exchanges().failed() {
                each(count, &[KeyValue::new("code", status::name(Code::from_i32(code as i32)))]);
            }
        });
        sum(m, &source, "shadow.exchanges.compared", "{exchange}", |tally, each| {
            each(tally.exchanges().compared(), &[]);
        });
        sum(m, &source, "shadow.observations", "{exchange}", |tally, each| each(tally.observations(), &[]));
        real_sum(m, &source, "shadow.shares", |tally, each| each(tally.shares(), &[]));
        real_sum(m, &source, "shadow.variance", |tally, each| each(tally.variance(), &[]));
        sum(m, &source, "shadow.slower", "{exchange}", |tally, each| {
            each(tally.slower(), &[KeyValue::new("ratio", tally.latency_ratio())]);
        });
        // All slices, also those without a row yet: in the limit of the cardinality both sums keep their places.
        sum(m, &source, "shadow.slice.observations", "{exchange}", |tally, each| {
            for (slice, counts) in tally.slices().iter() {
                each(counts.observations(), &[KeyValue::new("slice", slice.to_owned())]);
            }
        });
        real_sum(m, &source, "shadow.slice.shares", |tally, each| {
            for (slice, counts) in tally.slices().iter() {
                each(counts.shares(), &[KeyValue::new("slice", slice.to_owned())]);
            }
        });
        sum(m, &source, "shadow.noise.observations", "{exchange}", |tally, each| {
            each(tally.noise_floor().observations(), &[]);
        });
        real_sum(m, &source, "shadow.noise.shares", |tally, each| each(tally.noise_floor().shares(), &[]));
        let candidate = source.clone();
        m.u64_observable_counter("shadow.no_epoch")
            .with_unit("{exchange}")
            .with_callback(move |observer| {
                if let Some(rehearsal) = candidate.0.upgrade() {
                    observer.observe(rehearsal.without_epoch(), &[KeyValue::new("candidate", rehearsal.name())]);
                }
            })
            .build();
        gauge(m, &source, "shadow.agreement.lower", |figures| Some(figures.lower));
        gauge(m, &source, "shadow.agreement.upper", |figures| Some(figures.upper));
        gauge(m, &source, "shadow.agreement.log_e", |figures| Some(figures.log_e));
        gauge(m, &source, "shadow.agreement.drift_lower", |figures| Some(figures.drift_lower));
        gauge(m, &source, "shadow.accuracy.change_bound", |figures| figures.accuracy_change_bound);
        gauge(m, &source, "shadow.coverage", |figures| figures.coverage);
    }

    /// Sends what there is, one last time, and ends. Blocks for as long as an export may take; call it where that may be.
    pub fn shutdown(self) {
        let (ended, end) = mpsc::channel();
        // Whatever it is told, the SDK waits for five seconds, which is all that the process may take. Its thread ends with it.
        thread::spawn(move || ended.send(self.provider.shutdown_with_timeout(TIMEOUT)));
        match end.recv_timeout(TIMEOUT) {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(%error, "the last export did not arrive"),
            Err(_) => tracing::warn!(timeout = ?TIMEOUT, "the last export did not arrive in time"),
        }
    }
}

/// Where the observable instruments look. Weak: the SDK keeps its callbacks as long as it likes.
#[derive(Clone)]
struct Source(Weak<Rehearsal>);

impl Source {
    fn with<T>(&self, read: impl FnOnce(&Rehearsal, &Epoch, &Tally) -> T) -> Option<T> {
        let rehearsal = self.0.upgrade()?;
        let epoch = rehearsal.epoch()?;
        // A copy, so that comparisons need not wait for the bounds to be computed.
        let tally = epoch.tally().clone();
        Some(read(&rehearsal, &epoch, &tally))
    }
}

fn sum(
    meter: &Meter,
    source: &Source,
    name: &'static str,
    unit: &'static str,
    read: impl Fn(&Tally, &mut dyn FnMut(u64, &[KeyValue])) + Send + Sync + 'static,
) {
    let source = source.clone();
    meter
        .u64_observable_counter(name)
        .with_unit(unit)
        .with_callback(move |observer| {
            source.with(|_, epoch, tally| {
                let own = attributes(epoch);
                read(tally, &mut |value, more| {
                    let all: Vec<KeyValue> = own.iter().chain(more).cloned().collect();
                    observer.observe(value, &all);
                });
            });
        })
        .build();
}

/// A sum of shares; whole where each exchange has one row.
fn real_sum(
    meter: &Meter,
    source: &Source,
    name: &'static str,
    read: impl Fn(&Tally, &mut dyn FnMut(f64, &[KeyValue])) + Send + Sync + 'static,
) {
    let source = source.clone();
    meter
        .f64_observable_counter(name)
        .with_unit("1")
        .with_callback(move |observer| {
            source.with(|_, epoch, tally| {
                let own = attributes(epoch);
                read(tally, &mut |value, more| {
                    let all: Vec<KeyValue> = own.iter().chain(more).cloned().collect();
                    observer.observe(value, &all);
                });
            });
        })
        .build();
}

fn gauge(
    meter: &Meter,
    source: &Source,
    name: &'static str,
    read: impl Fn(&Figures) -> Option<f64> + Send + Sync + 'static,
) {
    let source = source.clone();
    meter
        .f64_observable_gauge(name)
        .with_unit("1")
        .with_callback(move |observer| {
            source.with(|rehearsal, epoch, tally| {
                let judgement = judge(tally, &rehearsal.gates, tally.busy());
                let mut attributes = attributes(epoch);
                attributes.push(KeyValue::new("alpha", rehearsal.gates.alpha));
                if let Some(value) = read(&judgement.figures).filter(|value| value.is_finite()) {
                    observer.observe(value, &attributes);
                }
            });
        })
        .build();
}

/// The pair of versions, and by what else replicas may be added up. The epoch keeps a sum monotonic when counting begins anew.
fn attributes(epoch: &Epoch) -> Vec<KeyValue> {
    let mut attributes = Vec::with_capacity(8);
    attributes.extend([
        KeyValue::new("model", epoch.primary.name.clone()),
        KeyValue::new("primary_version", epoch.primary_version().to_owned()),
        KeyValue::new("candidate", epoch.candidate_name().to_owned()),
        KeyValue::new("candidate_version", epoch.candidate_version().to_owned()),
        KeyValue::new("subject", epoch.subject_key().to_owned()),
        KeyValue::new("restarts", epoch.restarts as i64),
        KeyValue::new("epoch", epoch.number as i64),
    ]);
    attributes
}

/// Every stream must have one writer: without an instance id replicas would overwrite each other, and the SDK sets none.
fn resource() -> anyhow::Result<Resource> {
    let mut id = [0; 16];
    getrandom::fill(&mut id)?;
    let id: String =
        id.iter().flat_map(|byte| [byte >> 4, byte & 0xf]).filter_map(|n| char::from_digit(n.into(), 16)).collect();
    let given = |key: &str| {
        let attributes = env::var("OTEL_RESOURCE_ATTRIBUTES").unwrap_or_default();
        attributes.split(',').any(|pair| pair.split('=').next().is_some_and(|name| name.trim() == key))
    };
    let mut own = vec![KeyValue::new("service.version", understudy::VERSION)];
    if env::var("OTEL_SERVICE_NAME").is_err() && !given("service.name") {
        own.push(KeyValue::new("service.name", "shadow-sidecar"));
    }
    if !given("service.instance.id") {
        own.push(KeyValue::new("service.instance.id", id));
    }
    Ok(Resource::builder().with_attributes(own).build())
}

/// The exporter, with its outcomes counted: a collector that is down costs nothing but a counter.
#[derive(Debug)]
struct Counted {
    exporter: MetricExporter,
    metrics: Arc<Metrics>,
    /// The last one did not arrive.
    away: AtomicBool,
}

impl PushMetricExporter for Counted {
    async fn export(&self, metrics: &ResourceMetrics) -> OTelSdkResult {
        let outcome = self.exporter.export(metrics).await;
        self.metrics.otlp[usize::from(outcome.is_err())].increment(1);
        // Once, and once more when it is over.
        let before = self.away.swap(outcome.is_err(), Ordering::Relaxed);
        match &outcome {
            Err(error) if !before => tracing::warn!(%error, "an export did not arrive at the collector"),
            Ok(()) if before => tracing::info!("exports arrive at the collector again"),
            _ => {}
        }
        outcome
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.exporter.force_flush()
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.exporter.shutdown_with_timeout(timeout)
    }

    fn temporality(&self) -> Temporality {
        self.exporter.temporality()
    }
}
