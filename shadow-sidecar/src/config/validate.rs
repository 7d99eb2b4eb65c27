//! From what is set to what can't be wrong.

use std::{path::PathBuf, time::Duration};

use understudy::{
    edge::{Address, Limits},
    identity::{self, credentials::Credentials},
    settings::Problems,
    v1,
};

use super::{Config, Settings, candidates::Shared};
use crate::{
    answers::{Decision, Outputs},
    compare::Tolerance,
    disagreements,
    intake::{Kind, join},
    outlets,
    rehearsal::Bounds,
    report_json,
    verdict::Gates,
};

impl Settings {
    /// Validates everything and reports every problem.
    ///
    /// # Errors
    /// All that is wrong.
    pub fn validate(self) -> Result<Config, Problems> {
        let mut problems = Problems::default();
        let p = &mut problems;
        let address = |p: &mut Problems, name: &str, text: Option<String>, default: &str| {
            text.as_deref().unwrap_or(default).parse().unwrap_or_else(|error| {
                p.add(name, error);
                Address::Unix(PathBuf::new())
            })
        };
        let primary = self.primary.unwrap_or_else(|| "http://127.0.0.1:8001".into());
        url(p, "primary", &primary);
        let primary_tap = match self.primary_tap.as_deref() {
            None | Some("auto") => None,
            Some("on") => Some(true),
            Some("off") => Some(false),
            Some(other) => {
                p.add("primary-tap", format_args!("expected on, off or auto, got {other:?}"));
                None
            }
        };
        let intake = p.take("intake", self.intake.as_deref().unwrap_or("tap").parse());
        if intake == Kind::Tap && primary_tap == Some(false) {
            p.add("primary-tap", "can't be off when intake is tap");
        }
        let primary_task = task(p, "primary-task", self.primary_task.as_deref());
        let primary_outputs = Outputs {
            label: self.primary_label_output,
            scores: self.primary_scores_output,
            classes: self.primary_classes.unwrap_or_default(),
            decision: decision(p, "primary-decision", self.primary_decision.as_deref()),
        };
        let bounds = Bounds {
            queue: p.number("queue", self.queue, 4096, 1..=1 << 20),
            queue_bytes: p.number("queue-bytes", self.queue_bytes, 32 << 20, 1..=1 << 40),
            timeout: p.duration("candidate-timeout", self.candidate_timeout.as_deref(), Duration::from_secs(2)),
        };
        let shown = Shown {
            prefix: "candidate",
            ca: self.candidate_ca,
            certificate: self.candidate_cert,
            key: self.candidate_key,
            token: self.candidate_token_file,
        };
        let candidates = Shared {
            model: self.candidate_model,
            version: self.candidate_version,
            outputs: Outputs {
                label: self.candidate_label_output,
                scores: self.candidate_scores_output,
                classes: self.candidate_classes.unwrap_or_default(),
                decision: decision(p, "candidate-decision", self.candidate_decision.as_deref()),
            },
            tolerance: Tolerance {
                absolute: p.number("tolerance-absolute", self.tolerance_absolute, 1e-9, 0.0..=f64::MAX),
                relative: p.number("tolerance-relative", self.tolerance_relative, 0.01, 0.0..=f64::MAX),
            },
            bounds,
            concurrency: self.concurrency.map(|concurrency| p.number("concurrency", Some(concurrency), 1, 1..=4096)),
            credentials: Credentials::default(),
            told: Vec::new(),
        }
        .candidates(p, shown, self.candidate, self.candidates);
        if let Some(endpoint) = &self.otlp_endpoint {
            url(p, "otlp-endpoint", endpoint);
        }
        let default = Gates::default();
        let gates = Gates {
            gate: self.gate.unwrap_or(default.gate),
            abort: self.abort,
            alpha: self.alpha.unwrap_or(default.alpha),
            min_pairs: self.min_pairs.unwrap_or(default.min_pairs),
            min_duration: p.duration("min-duration", self.min_duration.as_deref(), default.min_duration),
            min_coverage: self.min_coverage.unwrap_or(default.min_coverage),
            max_error_rate: self.max_error_rate.unwrap_or(default.max_error_rate),
            prior: default.prior,
            drift_robust: self.drift_robust.unwrap_or(default.drift_robust),
            max_latency_ratio: self.max_latency_ratio,
            max_slower_share: self.max_slower_share.unwrap_or(default.max_slower_share),
            max_score_psi: self.max_score_psi,
            max_score_shift: self.max_score_shift,
            slice_margin: self.slice_margin.unwrap_or(default.slice_margin),
        };
        let declared = self.slices.unwrap_or_default();
        let declared = declared.iter().map(|text| text.trim()).filter(|text| !text.is_empty());
        let slices = declared.filter_map(|text| text.parse().map_err(|error| p.add("slices", error)).ok()).collect();
        for problem in gates.problems() {
            p.add("gates", problem);
        }
        if let Some(task @ (v1::Task::Regression | v1::Task::Quantile | v1::Task::Tensor)) = primary_task
            && gates.max_score_shift.is_some()
        {
            p.add(
                "max-score-shift",
                format_args!("only for a classification, primary-task is {}", report_json::task(task)),
            );
        }
        let default = disagreements::Config::default();
        let disagreements = disagreements::Config {
            keep: p.number("disagreements", self.disagreements, default.keep, 0..=10_000),
            inputs: match self.disagreement_inputs.as_deref() {
                None => default.inputs,
                Some(text) => p.take("disagreement-inputs", text.parse()),
            },
            logs_per_second: p.number(
                "disagreement-logs-per-second",
                self.disagreement_logs_per_second,
                default.logs_per_second,
                0..=10_000,
            ),
        };
        let outlets = outlets::Raw {
            cloudevents_url: self.cloudevents_url,
            cloudevents_shown: Shown {
                prefix: "cloudevents",
                ca: self.cloudevents_ca,
                certificate: self.cloudevents_cert,
                key: self.cloudevents_key,
                token: None,
            },
            cloudevents_mode: self.cloudevents_mode,
            cloudevents_batch: self.cloudevents_batch,
            cloudevents_source: self.cloudevents_source,
            cloudevents_service: self.cloudevents_service,
            cloudevents_namespace: self.cloudevents_namespace,
            record_dir: self.record_dir,
            record_sample_rate: self.record_sample_rate,
            record_file_bytes: self.record_file_bytes,
            record_max_bytes: self.record_max_bytes,
        }
        .validate(p, &primary);
        let primary_credentials = Shown {
            prefix: "primary",
            ca: self.primary_ca,
            certificate: self.primary_cert,
            key: self.primary_key,
            token: self.primary_token_file,
        }
        .validate(p, primary.starts_with("https://"));
        let otlp_credentials =
            Shown { prefix: "otlp", ca: self.otlp_ca, certificate: self.otlp_cert, key: self.otlp_key, token: None }
                // Else the standard variables say where it is.
                .validate(p, self.otlp_endpoint.as_ref().is_none_or(|endpoint| endpoint.starts_with("https://")));
        let connections =
            p.number("max-connections", self.max_connections, Limits::default().connections, 1..=1_000_000);
        let config = Config {
            primary,
            primary_model: self.primary_model,
            candidates,
            intake,
            primary_tap,
            primary_task,
            primary_outputs,
            join: join::Bounds {
                capacity: p.number("join-capacity", self.join_capacity, 8192, 1..=1 << 20),
                bytes: p.number("join-bytes", self.join_bytes, 64 << 20, 1..=1 << 40),
                ttl: p.duration("join-ttl", self.join_ttl.as_deref(), Duration::from_secs(10)),
            },
            noise_rate: p.number("noise-rate", self.noise_rate, 0.1, 0.0..=1.0),
            capture_bytes: p.number("capture-bytes", self.capture_bytes, 16 << 20, 1..=1 << 30),
            deny_methods: self.deny_methods.unwrap_or_default(),
            state_file: self.state_file,
            state_interval: p.duration("state-interval", self.state_interval.as_deref(), Duration::from_secs(5)),
            grpc_listen: address(p, "grpc-listen", self.grpc_listen, "0.0.0.0:8011"),
            admin_listen: address(p, "admin-listen", self.admin_listen, "0.0.0.0:8012"),
            sample_rate: p.number("sample-rate", self.sample_rate, 1.0, f64::MIN_POSITIVE..=1.0),
            gates,
            slices,
            queue: bounds.queue,
            queue_bytes: bounds.queue_bytes,
            candidate_timeout: bounds.timeout,
            otlp_endpoint: self.otlp_endpoint,
            otlp_interval: self
                .otlp_interval
                .as_deref()
                .map(|text| p.duration("otlp-interval", Some(text), Duration::from_secs(10))),
            disagreements,
            outlets,
            identity: identity::settings::Raw {
                tls_cert: self.tls_cert,
                tls_key: self.tls_key,
                tls_client_ca: self.tls_client_ca,
                tls_client_auth: self.tls_client_auth,
                tls_client_crl: self.tls_client_crl,
                tls_reload_interval: self.tls_reload_interval,
                clients: self.clients,
                jwt_issuer: self.jwt_issuer,
                jwt_audience: self.jwt_audience,
                jwt_keys: self.jwt_keys,
                jwt_keys_ca: self.jwt_keys_ca,
                jwt_keys_interval: self.jwt_keys_interval,
                jwt_roles_claim: self.jwt_roles_claim,
                reflection: self.reflection,
                control: self.control,
                health_open: self.health_open,
            }
            .validate(p, ("reports", self.reports.as_deref())),
            primary_credentials,
            otlp_credentials,
            limits: Limits {
                connections,
                connections_of_address: p.number(
                    "max-connections-per-address",
                    self.max_connections_per_address,
                    // A proxy that does not multiplex, as nginx, has a connection for each call that is under way. What is
                    // refused here nobody could count.
                    if intake == Kind::Tap { Limits::default().connections_of_address } else { connections },
                    1..=1_000_000,
                ),
                grace: p.duration("drain-timeout", self.drain_timeout.as_deref(), Duration::from_secs(5)),
                // A proxy passes on what comes; what is too much is for the primary to say.
                queue_wait: Duration::MAX,
                ..match intake {
                    Kind::Proxy => transparent(),
                    Kind::Mirror => Limits { streams: STREAMS, ..Limits::default() },
                    Kind::Tap => Limits::default(),
                }
            },
            nice: p.number("nice", self.nice, if intake == Kind::Proxy { 0 } else { 10 }, 0..=19),
            scheduling: {
                let usual = if intake == Kind::Tap { "idle" } else { "normal" };
                p.take("scheduling", self.scheduling.as_deref().unwrap_or(usual).parse())
            },
            drain_delay: p.duration("drain-delay", self.drain_delay.as_deref(), Duration::ZERO),
            ports_file: self.ports_file,
            log: self.log.unwrap_or_else(|| "info".into()),
            log_format: p.take("log-format", self.log_format.as_deref().unwrap_or("json").parse()),
        };
        if let Err(error) = understudy::telemetry::filter(&config.log) {
            problems.add("log", error);
        }
        problems.into_result(config)
    }
}

/// Calls on one connection of a mesh: as many as may be in flight in all. On a connection that has just begun Envoy does not know how
/// many there may be, and those beyond are lost, uncounted here: at 5,000 copies a second 128 would be a pause of 26 ms.
const STREAMS: u32 = 4096;

/// What a proxy does not cut off: how many streams there are, how long one lasts, how late an answer is read and how much is in its
/// headers is between the clients and the primary.
fn transparent() -> Limits {
    Limits {
        streams: STREAMS,
        age: Duration::ZERO,
        unread: Duration::MAX,
        header_list_bytes: 64 * 1024,
        keepalive_timeout: Duration::from_secs(20),
        ..Limits::default()
    }
}

/// Where a gRPC server is.
pub(super) fn url(p: &mut Problems, setting: &str, text: &str) {
    let known = ["http://", "https://", "unix:"].iter().any(|scheme| text.starts_with(scheme));
    if !known || tonic::transport::Endpoint::from_shared(text.to_owned()).is_err() {
        p.add(setting, format_args!("expected http://HOST:PORT, https://HOST:PORT or unix:PATH, got {text:?}"));
    }
}

/// What a model predicts.
pub(super) fn task(p: &mut Problems, setting: &str, text: Option<&str>) -> Option<v1::Task> {
    match text? {
        "binary" => Some(v1::Task::Binary),
        "multiclass" => Some(v1::Task::Multiclass),
        "regression" => Some(v1::Task::Regression),
        "quantile" => Some(v1::Task::Quantile),
        "tensor" => Some(v1::Task::Tensor),
        other => {
            let known = "binary, multiclass, regression, quantile or tensor";
            p.add(setting, format_args!("expected {known}, got {other:?}"));
            None
        }
    }
}

/// `argmax`, or `threshold=X`.
pub(super) fn decision(p: &mut Problems, setting: &str, text: Option<&str>) -> Option<Decision> {
    let text = text?;
    let threshold = text.strip_prefix("threshold=").and_then(|number| number.parse::<f64>().ok());
    match threshold.filter(|threshold| threshold.is_finite()) {
        Some(threshold) => Some(Decision::Threshold(threshold)),
        None if text == "argmax" => Some(Decision::Argmax),
        None => {
            p.add(setting, format_args!("expected argmax or threshold=X, got {text:?}"));
            None
        }
    }
}

/// What is shown to a server, and who vouches for it: `PREFIX-ca`, `PREFIX-cert`, `PREFIX-key`.
pub(crate) struct Shown {
    pub(crate) prefix: &'static str,
    pub(crate) ca: Option<PathBuf>,
    pub(crate) certificate: Option<PathBuf>,
    pub(crate) key: Option<PathBuf>,
    pub(crate) token: Option<PathBuf>,
}

impl Shown {
    /// Notes what is of no use: a certificate without its key, a key without its certificate, and all of them where there is
    /// no TLS, but whoever set them thinks that there is.
    pub(crate) fn validate(self, p: &mut Problems, encrypted: bool) -> Credentials {
        let Self { prefix, ca, certificate, key, token } = self;
        match (&certificate, &key) {
            (Some(_), None) => p.add(&format!("{prefix}-cert"), format_args!("expected {prefix}-key, too, got none")),
            (None, Some(_)) => p.add(&format!("{prefix}-key"), format_args!("expected {prefix}-cert, too, got none")),
            _ => {}
        }
        let files = [("ca", &ca), ("cert", &certificate), ("key", &key)];
        for (suffix, _) in files.into_iter().filter(|(_, file)| file.is_some() && !encrypted) {
            p.add(&format!("{prefix}-{suffix}"), "only for https://");
        }
        Credentials { ca, certificate, key, token }
    }
}
