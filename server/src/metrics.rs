//! The server's instruments: handles that are looked up once, used through methods named after events. Names follow
//! `understudy_<what>_<unit>[_total]`.

use std::{
    collections::{BTreeSet, HashMap},
    fmt,
    sync::{Arc, Mutex, OnceLock, PoisonError},
    time::Instant,
};

use metrics::{
    Counter, Gauge, Histogram, Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram,
};
use metrics_exporter_prometheus::{PrometheusHandle, PrometheusRecorder};
use model::{Model, Predictions, Task};
use prost::Message as _;
use tonic::Code;
use understudy::{
    DESCRIPTORS,
    encode::{Encoded, RepairCounts},
    status, telemetry,
};

const REQUESTS: &str = "understudy_requests_total";
const LATENCY: &str = "understudy_request_duration_seconds";
const ERRORS: &str = "understudy_errors_total";
const PREDICTIONS: &str = "understudy_predictions_total";
const CONFIDENCE: &str = "understudy_prediction_confidence";
const ROWS: &str = "understudy_request_rows";
const REPAIRS: &str = "understudy_repaired_values_total";
const SUSPICIOUS: &str = "understudy_suspicious_values_total";
const READY: &str = "understudy_model_ready";
const SELF_TESTS: &str = "understudy_self_tests_total";
const SUBSCRIBERS: &str = "understudy_tap_subscribers";
const TAP: &str = "understudy_tap_exchanges_total";

const CONFIDENCE_BUCKETS: [f64; 11] = [0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95, 1.0];
const ROWS_BUCKETS: [f64; 11] = [1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1000.0, 10_000.0];

/// All instruments of one server.
pub struct Metrics {
    recorder: Arc<PrometheusRecorder>,
    methods: HashMap<String, Arc<MethodMetrics>>,
    other: Arc<MethodMetrics>,
    /// Subscribers of the tap.
    pub subscribers: Gauge,
    /// Names of subscribers that have series: a series is for ever.
    named: Mutex<BTreeSet<String>>,
}

/// Subscribers by whose names exchanges are told apart; those of later ones are `other`.
const NAMED_SUBSCRIBERS: usize = 16;

impl fmt::Debug for Metrics {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Metrics").finish_non_exhaustive()
    }
}

/// One gRPC method. A series appears with its first event: most methods never see most codes.
pub struct MethodMetrics {
    method: String,
    recorder: Arc<PrometheusRecorder>,
    /// By gRPC code: requests and errors.
    codes: [OnceLock<(Counter, Counter)>; CODES],
    latency: OnceLock<Histogram>,
}

/// Codes of gRPC, OK included.
const CODES: usize = 17;

impl fmt::Debug for MethodMetrics {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("MethodMetrics").field("method", &self.method).finish_non_exhaustive()
    }
}

impl MethodMetrics {
    fn new(method: &str, recorder: &Arc<PrometheusRecorder>) -> Self {
        Self {
            method: method.to_owned(),
            recorder: recorder.clone(),
            codes: [const { OnceLock::new() }; CODES],
            latency: OnceLock::new(),
        }
    }

    /// One call has ended.
    pub fn ended(&self, code: Code, started: Instant) {
        let (requests, errors) = self.codes[code as usize].get_or_init(|| self.register(code));
        requests.increment(1);
        if code != Code::Ok {
            errors.increment(1);
        }
        let latency = self.latency.get_or_init(|| {
            metrics::with_local_recorder(&*self.recorder, || histogram!(LATENCY, "method" => self.method.clone()))
        });
        latency.record(started.elapsed().as_secs_f64());
    }

    fn register(&self, code: Code) -> (Counter, Counter) {
        metrics::with_local_recorder(&*self.recorder, || {
            let requests = counter!(REQUESTS, "method" => self.method.clone(), "code" => status::name(code));
            let errors = if code == Code::Ok {
                Counter::noop()
            } else {
                counter!(ERRORS, "method" => self.method.clone(), "kind" => status::kind(code))
            };
            (requests, errors)
        })
    }
}

/// One version of a model.
pub struct ModelMetrics {
    name: String,
    version: String,
    recorder: Arc<PrometheusRecorder>,
    /// By class; one entry for tasks without classes.
    predictions: Vec<Counter>,
    confidence: Histogram,
    rows: Histogram,
    repairs: [Counter; 5],
    /// By feature. A series appears with its first event: most features never are suspicious.
    suspicious: Vec<OnceLock<Counter>>,
    ready: Gauge,
    self_tests: [Counter; 2],
}

impl fmt::Debug for ModelMetrics {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, version, .. } = self;
        out.debug_struct("ModelMetrics").field("name", name).field("version", version).finish_non_exhaustive()
    }
}

impl ModelMetrics {
    /// One request to `model` was answered.
    pub fn answered(&self, model: &Model, predictions: &Predictions, encoded: &Encoded) {
        let rows = predictions.rows();
        self.rows.record(rows as f64);
        match model.task() {
            Task::Binary | Task::Multiclass => {
                for (row, label) in predictions.labels.iter().enumerate() {
                    let label = *label as usize;
                    self.predictions[label].increment(1);
                    self.confidence.record(predictions.scores_of(row)[label]);
                }
            }
            Task::Regression | Task::Quantile => self.predictions[0].increment(rows as u64),
        }
        if encoded.repairs != RepairCounts::default() {
            let RepairCounts { clamped, truncated, coerced, unknown_category, unknown_feature } = encoded.repairs;
            let counts = [clamped, truncated, coerced, unknown_category, unknown_feature];
            for (counter, count) in self.repairs.iter().zip(counts) {
                counter.increment(count);
            }
        }
        for (f, count) in encoded.suspicious.features() {
            if let (Some(counter), Some(feature)) = (self.suspicious.get(f), model.schema().features().get(f)) {
                counter.get_or_init(|| self.register(feature.name())).increment(count);
            }
        }
    }

    fn register(&self, feature: &str) -> Counter {
        let (name, version) = (self.name.clone(), self.version.clone());
        metrics::with_local_recorder(
            &*self.recorder,
            || counter!(SUSPICIOUS, "model" => name, "version" => version, "feature" => feature.to_owned()),
        )
    }

    /// The golden rows were predicted.
    pub fn self_tested(&self, passed: bool) {
        self.ready.set(f64::from(u8::from(passed)));
        self.self_tests[usize::from(passed)].increment(1);
    }
}

/// What the tap did for one subscriber.
#[derive(Debug)]
pub struct TapMetrics {
    /// Put into its queue.
    pub queued: Counter,
    /// Lost because its queue was full.
    pub dropped: Counter,
    /// Left out by sampling.
    pub sampled_out: Counter,
    /// Queued, but the subscriber went before they were sent.
    pub gone: Counter,
}

impl Metrics {
    /// Registers everything that does not depend on a model.
    ///
    /// # Errors
    /// The recorder can't be built; see [`telemetry::recorder`].
    pub fn new() -> Result<Self, metrics_exporter_prometheus::BuildError> {
        let recorder = telemetry::recorder(&[
            (LATENCY, &telemetry::LATENCY_BUCKETS),
            (CONFIDENCE, &CONFIDENCE_BUCKETS),
            (ROWS, &ROWS_BUCKETS),
        ])?;
        let recorder = Arc::new(recorder);
        let subscribers = metrics::with_local_recorder(&*recorder, || {
            describe();
            gauge!(SUBSCRIBERS)
        });
        let of = |path: &str| Arc::new(MethodMetrics::new(path.trim_start_matches('/'), &recorder));
        let methods = methods().into_iter().map(|path| (path.clone(), of(&path))).collect();
        let other = of("other");
        Ok(Self { recorder, methods, other, subscribers, named: Mutex::default() })
    }

    /// The instruments of a gRPC path; unknown paths share one series.
    pub fn method(&self, path: &str) -> &Arc<MethodMetrics> {
        self.methods.get(path).unwrap_or(&self.other)
    }

    /// Registers a version of a model.
    pub fn model(&self, model: &Model) -> ModelMetrics {
        let (name, version) = (model.name().to_owned(), model.version().to_owned());
        let classes = match model.class_names() {
            [] => vec!["none".to_owned()],
            names => names.to_vec(),
        };
        metrics::with_local_recorder(&*self.recorder, || {
            let repaired = |kind: &'static str| counter!(REPAIRS, "model" => name.clone(), "version" => version.clone(), "kind" => kind);
            let tested = |outcome: &'static str| counter!(SELF_TESTS, "model" => name.clone(), "version" => version.clone(), "outcome" => outcome);
            ModelMetrics {
                predictions: classes
                    .into_iter()
                    .map(|class| counter!(PREDICTIONS, "model" => name.clone(), "version" => version.clone(), "class" => class))
                    .collect(),
                confidence: histogram!(CONFIDENCE, "model" => name.clone(), "version" => version.clone()),
                rows: histogram!(ROWS, "model" => name.clone(), "version" => version.clone()),
                repairs: ["clamped", "truncated", "coerced", "unknown_category", "unknown_feature"].map(repaired),
                suspicious: model.schema().features().iter().map(|_| OnceLock::new()).collect(),
                ready: gauge!(READY, "model" => name.clone(), "version" => version.clone()),
                self_tests: ["failed", "passed"].map(tested),
                recorder: self.recorder.clone(),
                name: name.clone(),
                version: version.clone(),
            }
        })
    }

    /// Registers a subscriber of the tap. Its name is a client's word: beyond the first few all share one.
    pub fn tap(&self, subscriber: &str) -> TapMetrics {
        let mut named = self.named.lock().unwrap_or_else(PoisonError::into_inner);
        let is_known = named.contains(subscriber) || named.len() < NAMED_SUBSCRIBERS && named.insert(subscriber.into());
        drop(named);
        let subscriber = if is_known { subscriber } else { "other" };
        metrics::with_local_recorder(&*self.recorder, || {
            let of = |outcome: &'static str| counter!(TAP, "subscriber" => subscriber.to_owned(), "outcome" => outcome);
            TapMetrics {
                queued: of("queued"),
                dropped: of("dropped_queue_full"),
                sampled_out: of("sampled_out"),
                gone: of("dropped_subscriber_gone"),
            }
        })
    }

    /// For instruments that are not the server's own.
    pub fn recorder(&self) -> &PrometheusRecorder {
        &self.recorder
    }

    /// For `/metrics`.
    pub fn handle(&self) -> PrometheusHandle {
        self.recorder.handle()
    }
}

/// The paths of every method that this process could serve: bounds the label `method`.
fn methods() -> Vec<String> {
    let sets = [DESCRIPTORS, tonic_health::pb::FILE_DESCRIPTOR_SET];
    let files =
        sets.into_iter().filter_map(|set| prost_types::FileDescriptorSet::decode(set).ok()).flat_map(|set| set.file);
    let mut paths = Vec::new();
    for file in files {
        for service in &file.service {
            for method in &service.method {
                paths.push(format!("/{}.{}/{}", file.package(), service.name(), method.name()));
            }
        }
    }
    for version in ["v1", "v1alpha"] {
        paths.push(format!("/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo"));
    }
    paths
}

fn describe() {
    describe_counter!(REQUESTS, "gRPC calls that have ended, by method and code");
    describe_histogram!(LATENCY, Unit::Seconds, "from the arrival of a call to its answer");
    describe_counter!(ERRORS, "gRPC calls that were not answered with OK, by kind of fault");
    describe_counter!(PREDICTIONS, "rows predicted, by class");
    describe_histogram!(CONFIDENCE, "probability of the predicted class");
    describe_histogram!(ROWS, "rows in a request");
    describe_counter!(REPAIRS, "values that the schema does not allow and that were repaired, by kind");
    describe_counter!(SUSPICIOUS, "numbers far from the training data that were taken as they are, by feature");
    describe_gauge!(READY, "1 when the golden rows came out right the last time");
    describe_counter!(SELF_TESTS, "runs of the golden rows, by outcome");
    describe_gauge!(SUBSCRIBERS, "subscribers of the tap");
    describe_counter!(TAP, "exchanges offered to a subscriber of the tap, by outcome");
}
