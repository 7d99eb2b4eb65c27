//! What can be set, raw ([`Settings`]) and validated ([`Config`]).

use std::{num::NonZero, path::PathBuf, thread, time::Duration};

use clap::Args;
use serde::{Deserialize, Serialize};
use understudy::{
    edge::{Address, Limits},
    identity::{self, credentials::Credentials},
    settings::Problems,
    telemetry::LogFormat,
    v1,
};

use crate::{
    answers::{Decision, Outputs},
    compare::Tolerance,
    disagreements,
    intake::{Kind, join},
    outlets, report_json,
    slicer::Declaration,
    verdict::Gates,
};

/// Raw settings: each is a flag, an environment variable and a TOML key of the same name.
#[derive(Args, Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Settings {
    /// Who answers the clients, and whose tap is followed: http(s)://HOST:PORT or unix:PATH
    /// [default: http://127.0.0.1:8001]
    #[arg(long, env = "SHADOW_PRIMARY", value_name = "URL")]
    pub primary: Option<String>,
    /// Which of its models; not needed when it serves one only
    #[arg(long, env = "SHADOW_PRIMARY_MODEL", value_name = "NAME")]
    pub primary_model: Option<String>,
    /// Who rehearses: a package (directory), or a server of the Open Inference Protocol (http(s)://HOST:PORT)
    #[arg(long, env = "SHADOW_CANDIDATE", value_name = "DIR|URL")]
    pub candidate: Option<String>,
    /// Several candidates, each NAME=DIR or NAME=URL, instead of one
    #[arg(long, env = "SHADOW_CANDIDATES", value_name = "NAME=DIR|URL", value_delimiter = ',')]
    pub candidates: Option<Vec<String>>,
    /// The way in of exchanges: "tap" (the primary's own copy), "mirror" (gRPC calls to grpc-listen are a mesh's copies of
    /// requests), "proxy" (gRPC calls to grpc-listen are passed on to the primary) [default: tap]
    #[arg(long, env = "SHADOW_INTAKE", value_name = "INTAKE")]
    pub intake: Option<String>,
    /// Whether the primary has a tap: "on", "off", or "auto". Without one a mirror asks it once more for each request, and its
    /// metadata and the settings primary-... say what it predicts [default: auto]
    #[arg(long, env = "SHADOW_PRIMARY_TAP", value_name = "TAP")]
    pub primary_tap: Option<String>,
    /// mirror: halves of exchanges that may wait for the other half, of either side [default: 8192]
    #[arg(long, env = "SHADOW_JOIN_CAPACITY", value_name = "N")]
    pub join_capacity: Option<usize>,
    /// mirror: bytes of the primary's answers that may wait for their requests [default: 67108864]
    #[arg(long, env = "SHADOW_JOIN_BYTES", value_name = "BYTES")]
    pub join_bytes: Option<usize>,
    /// mirror: how long a half may wait; the timeout of the route and some slack [default: 10s]
    #[arg(long, env = "SHADOW_JOIN_TTL", value_name = "DURATION")]
    pub join_ttl: Option<String>,
    /// mirror without a tap: the share of requests that go to the primary twice, for the noise floor [default: 0.1]
    #[arg(long, env = "SHADOW_NOISE_RATE", value_name = "SHARE")]
    pub noise_rate: Option<f64>,
    /// mirror, proxy: bytes of a message beyond which an exchange is not compared [default: 16777216]
    #[arg(long, env = "SHADOW_CAPTURE_BYTES", value_name = "BYTES")]
    pub capture_bytes: Option<usize>,
    /// mirror, proxy: methods that are never compared, by name or as /package.Service/Method
    #[arg(long, env = "SHADOW_DENY_METHODS", value_name = "METHOD", value_delimiter = ',')]
    pub deny_methods: Option<Vec<String>>,
    /// What a primary without a tap predicts: "binary", "multiclass", "regression", "quantile", or "tensor" (any elements:
    /// floats are compared within the tolerance, all others for equality)
    #[arg(long, env = "SHADOW_PRIMARY_TASK", value_name = "TASK")]
    pub primary_task: Option<String>,
    /// Its classes, in the order of its probabilities and of integer labels; of a binary model the positive one second
    #[arg(long, env = "SHADOW_PRIMARY_CLASSES", value_name = "CLASS", value_delimiter = ',')]
    pub primary_classes: Option<Vec<String>>,
    /// Its output with the label of each row, as text or integer [default: label, or the only one it can be]
    #[arg(long, env = "SHADOW_PRIMARY_LABEL_OUTPUT", value_name = "OUTPUT")]
    pub primary_label_output: Option<String>,
    /// Its output with probabilities, the probability of the positive class, value or quantiles; of a tensor one or several,
    /// separated by commas [default: probabilities, value or quantiles, or the only one it can be]
    #[arg(long, env = "SHADOW_PRIMARY_SCORES_OUTPUT", value_name = "OUTPUT")]
    pub primary_scores_output: Option<String>,
    /// How a class follows from its scores where it gives no label: "argmax", or "threshold=X" [default: threshold=0.5 for two
    /// classes, else argmax]
    #[arg(long, env = "SHADOW_PRIMARY_DECISION", value_name = "DECISION")]
    pub primary_decision: Option<String>,
    /// As primary-classes, for candidates on servers [default: the primary's]
    #[arg(long, env = "SHADOW_CANDIDATE_CLASSES", value_name = "CLASS", value_delimiter = ',')]
    pub candidate_classes: Option<Vec<String>>,
    /// As primary-label-output, for candidates on servers
    #[arg(long, env = "SHADOW_CANDIDATE_LABEL_OUTPUT", value_name = "OUTPUT")]
    pub candidate_label_output: Option<String>,
    /// As primary-scores-output, for candidates on servers
    #[arg(long, env = "SHADOW_CANDIDATE_SCORES_OUTPUT", value_name = "OUTPUT")]
    pub candidate_scores_output: Option<String>,
    /// As primary-decision, for candidates on servers
    #[arg(long, env = "SHADOW_CANDIDATE_DECISION", value_name = "DECISION")]
    pub candidate_decision: Option<String>,
    /// Where counts are kept, so that they survive a restart [default: nowhere]
    #[arg(long, env = "SHADOW_STATE_FILE", value_name = "FILE")]
    pub state_file: Option<PathBuf>,
    /// How often they are written [default: 5s]
    #[arg(long, env = "SHADOW_STATE_INTERVAL", value_name = "DURATION")]
    pub state_interval: Option<String>,
    /// The candidate's name on its server [default: as the primary's]
    #[arg(long, env = "SHADOW_CANDIDATE_MODEL", value_name = "NAME")]
    pub candidate_model: Option<String>,
    /// The candidate's version on its server [default: its newest]
    #[arg(long, env = "SHADOW_CANDIDATE_VERSION", value_name = "VERSION")]
    pub candidate_version: Option<String>,
    /// Who vouches for an https:// primary (PEM) [default: the authorities of the system]
    #[arg(long, env = "SHADOW_PRIMARY_CA", value_name = "FILE")]
    pub primary_ca: Option<PathBuf>,
    /// The certificate that is shown to it (PEM)
    #[arg(long, env = "SHADOW_PRIMARY_CERT", value_name = "FILE")]
    pub primary_cert: Option<PathBuf>,
    /// Its private key (PEM)
    #[arg(long, env = "SHADOW_PRIMARY_KEY", value_name = "FILE")]
    pub primary_key: Option<PathBuf>,
    /// A file with the token that is sent to it
    #[arg(long, env = "SHADOW_PRIMARY_TOKEN_FILE", value_name = "FILE")]
    pub primary_token_file: Option<PathBuf>,
    /// Who vouches for an https:// candidate (PEM) [default: the authorities of the system]
    #[arg(long, env = "SHADOW_CANDIDATE_CA", value_name = "FILE")]
    pub candidate_ca: Option<PathBuf>,
    /// The certificate that is shown to it (PEM)
    #[arg(long, env = "SHADOW_CANDIDATE_CERT", value_name = "FILE")]
    pub candidate_cert: Option<PathBuf>,
    /// Its private key (PEM)
    #[arg(long, env = "SHADOW_CANDIDATE_KEY", value_name = "FILE")]
    pub candidate_key: Option<PathBuf>,
    /// A file with the token that is sent to it
    #[arg(long, env = "SHADOW_CANDIDATE_TOKEN_FILE", value_name = "FILE")]
    pub candidate_token_file: Option<PathBuf>,
    /// Where gRPC is served [default: 0.0.0.0:8011]
    #[arg(long, env = "SHADOW_GRPC_LISTEN", value_name = "IP:PORT")]
    pub grpc_listen: Option<String>,
    /// Where /metrics, /healthz and /livez are served over HTTP [default: 0.0.0.0:8012]
    #[arg(long, env = "SHADOW_ADMIN_LISTEN", value_name = "IP:PORT")]
    pub admin_listen: Option<String>,
    /// Connections at the same time [default: 1024]
    #[arg(long, env = "SHADOW_MAX_CONNECTIONS", value_name = "N")]
    pub max_connections: Option<usize>,
    /// Connections at the same time from one address [default: 64; mirror, proxy: max-connections, for a whole mesh may
    /// come from one address]
    #[arg(long, env = "SHADOW_MAX_CONNECTIONS_PER_ADDRESS", value_name = "N")]
    pub max_connections_per_address: Option<usize>,
    /// The share of exchanges to compare, above 0 and at most 1 [default: 1]
    #[arg(long, env = "SHADOW_SAMPLE_RATE", value_name = "SHARE")]
    pub sample_rate: Option<f64>,
    /// The agreement that a promotion must prove [default: 0.99]
    #[arg(long, env = "SHADOW_GATE", value_name = "SHARE")]
    pub gate: Option<f64>,
    /// Proven agreement below this is a rejection [default: the gate]
    #[arg(long, env = "SHADOW_ABORT", value_name = "SHARE")]
    pub abort: Option<f64>,
    /// The chance of a wrong promotion that is accepted, and of a wrong rejection for each of its grounds, low agreement and errors;
    /// of several candidates each has it by itself [default: 0.05]
    #[arg(long, env = "SHADOW_ALPHA", value_name = "SHARE")]
    pub alpha: Option<f64>,
    /// Exchanges to compare before a promotion [default: 1000]
    #[arg(long, env = "SHADOW_MIN_PAIRS", value_name = "N")]
    pub min_pairs: Option<u64>,
    /// Time with traffic before a promotion, so that its usual mix is seen; a pause counts as a minute at most [default: 1h]
    #[arg(long, env = "SHADOW_MIN_DURATION", value_name = "DURATION")]
    pub min_duration: Option<String>,
    /// Below this share of compared rows or exchanges, missing exchanges count as disagreements [default: 0.95]
    #[arg(long, env = "SHADOW_MIN_COVERAGE", value_name = "SHARE")]
    pub min_coverage: Option<f64>,
    /// The share of exchanges on which the candidate may fail [default: 0.01]
    #[arg(long, env = "SHADOW_MAX_ERROR_RATE", value_name = "SHARE")]
    pub max_error_rate: Option<f64>,
    /// Values agree when |candidate - primary| <= absolute + relative * |primary| [default: 1e-9]
    #[arg(long, env = "SHADOW_TOLERANCE_ABSOLUTE", value_name = "X")]
    pub tolerance_absolute: Option<f64>,
    /// See tolerance-absolute [default: 0.01]
    #[arg(long, env = "SHADOW_TOLERANCE_RELATIVE", value_name = "X")]
    pub tolerance_relative: Option<f64>,
    /// Segments of rows to be judged by themselves: a feature (one for each category), or feature:edge,edge,... for
    /// numbers; separated by semicolons; at most 64 segments in all
    #[arg(long, env = "SHADOW_SLICES", value_name = "FEATURE[:EDGES]", value_delimiter = ';')]
    pub slices: Option<Vec<String>>,
    /// A slice is named when its agreement is proven to be below the gate by more than this [default: 0]
    #[arg(long, env = "SHADOW_SLICE_MARGIN", value_name = "SHARE")]
    pub slice_margin: Option<f64>,
    /// A promotion must also be proven for agreement that drifts, which takes more exchanges [default: false]
    #[arg(
        long,
        env = "SHADOW_DRIFT_ROBUST",
        value_name = "BOOL",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true"
    )]
    pub drift_robust: Option<bool>,
    /// A candidate proven to take more than this many times the primary's time is not promoted [default: none]
    #[arg(long, env = "SHADOW_MAX_LATENCY_RATIO", value_name = "X")]
    pub max_latency_ratio: Option<f64>,
    /// The share of exchanges in which it may [default: 0.5]
    #[arg(long, env = "SHADOW_MAX_SLOWER_SHARE", value_name = "SHARE")]
    pub max_slower_share: Option<f64>,
    /// The stability index of the scores above which there is no promotion; 0.2 is common [default: none]
    #[arg(long, env = "SHADOW_MAX_SCORE_PSI", value_name = "X")]
    pub max_score_psi: Option<f64>,
    /// Classification: the mean score must be proven to have moved by at most this [default: none]
    #[arg(long, env = "SHADOW_MAX_SCORE_SHIFT", value_name = "X")]
    pub max_score_shift: Option<f64>,
    /// Exchanges that may wait for the candidate; more are dropped and counted [default: 4096]
    #[arg(long, env = "SHADOW_QUEUE", value_name = "N")]
    pub queue: Option<usize>,
    /// Bytes that may wait for the candidate [default: 33554432]
    #[arg(long, env = "SHADOW_QUEUE_BYTES", value_name = "BYTES")]
    pub queue_bytes: Option<usize>,
    /// Exchanges at the same time with the candidate [default: 64 for a server, one for each core in process]
    #[arg(long, env = "SHADOW_CONCURRENCY", value_name = "N")]
    pub concurrency: Option<usize>,
    /// How long the candidate may take for one exchange; it is never asked twice [default: 2s]
    #[arg(long, env = "SHADOW_CANDIDATE_TIMEOUT", value_name = "DURATION")]
    pub candidate_timeout: Option<String>,
    /// An OpenTelemetry collector that speaks gRPC [default: $OTEL_EXPORTER_OTLP_ENDPOINT; none without it]
    #[arg(long, env = "SHADOW_OTLP_ENDPOINT", value_name = "URL")]
    pub otlp_endpoint: Option<String>,
    /// How often metrics are sent to it [default: 10s]
    #[arg(long, env = "SHADOW_OTLP_INTERVAL", value_name = "DURATION")]
    pub otlp_interval: Option<String>,
    /// How many disagreements of each epoch are kept as examples; 0: none [default: 200]
    #[arg(long, env = "SHADOW_DISAGREEMENTS", value_name = "N")]
    pub disagreements: Option<usize>,
    /// What they tell of a row's inputs: "none"; "redacted" (numbers as ranges of the training data or rounded, categories
    /// only if the schema lists them, no texts); "full", over gRPC alone [default: redacted]
    #[arg(long, env = "SHADOW_DISAGREEMENT_INPUTS", value_name = "POLICY")]
    pub disagreement_inputs: Option<String>,
    /// How many of them go to the collector as log records, at most [default: 10]
    #[arg(long, env = "SHADOW_DISAGREEMENT_LOGS_PER_SECOND", value_name = "N")]
    pub disagreement_logs_per_second: Option<u32>,
    /// A sink that gets every exchange as CloudEvents with KServe's attributes, inputs in full: http://HOST:PORT/PATH
    /// [default: none]
    #[arg(long, env = "SHADOW_CLOUDEVENTS_URL", value_name = "URL")]
    pub cloudevents_url: Option<String>,
    /// Of each exchange: "request", "response" or "all" [default: all]
    #[arg(long, env = "SHADOW_CLOUDEVENTS_MODE", value_name = "MODE")]
    pub cloudevents_mode: Option<String>,
    /// Exchanges in a call; more than one go as a JSON batch, without waiting for it to be full [default: 1]
    #[arg(long, env = "SHADOW_CLOUDEVENTS_BATCH", value_name = "N")]
    pub cloudevents_batch: Option<usize>,
    /// The attribute source [default: the primary's address]
    #[arg(long, env = "SHADOW_CLOUDEVENTS_SOURCE", value_name = "URI")]
    pub cloudevents_source: Option<String>,
    /// The attribute inferenceservicename [default: the model's name]
    #[arg(long, env = "SHADOW_CLOUDEVENTS_SERVICE", value_name = "NAME")]
    pub cloudevents_service: Option<String>,
    /// The attribute namespace
    #[arg(long, env = "SHADOW_CLOUDEVENTS_NAMESPACE", value_name = "NAME")]
    pub cloudevents_namespace: Option<String>,
    /// A directory in which exchanges are recorded, inputs in full, for `understudy replay`; made if it is not there
    /// [default: none]
    #[arg(long, env = "SHADOW_RECORD_DIR", value_name = "DIR")]
    pub record_dir: Option<PathBuf>,
    /// The share of exchanges to record, above 0 and at most 1 [default: 1]
    #[arg(long, env = "SHADOW_RECORD_SAMPLE_RATE", value_name = "SHARE")]
    pub record_sample_rate: Option<f64>,
    /// Bytes of a file, before compression [default: 67108864]
    #[arg(long, env = "SHADOW_RECORD_FILE_BYTES", value_name = "BYTES")]
    pub record_file_bytes: Option<u64>,
    /// Bytes of all files; then the oldest are deleted [default: 4294967296]
    #[arg(long, env = "SHADOW_RECORD_MAX_BYTES", value_name = "BYTES")]
    pub record_max_bytes: Option<u64>,
    /// Serve TLS with this certificate and those between it and its authority (PEM), read again when it changes
    #[arg(long, env = "SHADOW_TLS_CERT", value_name = "FILE")]
    pub tls_cert: Option<PathBuf>,
    /// Its private key (PEM)
    #[arg(long, env = "SHADOW_TLS_KEY", value_name = "FILE")]
    pub tls_key: Option<PathBuf>,
    /// Ask clients for certificates of these authorities (PEM)
    #[arg(long, env = "SHADOW_TLS_CLIENT_CA", value_name = "FILE")]
    pub tls_client_ca: Option<PathBuf>,
    /// Whether clients must have one: "required", "optional" [default: required]
    #[arg(long, env = "SHADOW_TLS_CLIENT_AUTH", value_name = "WHETHER")]
    pub tls_client_auth: Option<String>,
    /// Certificates of clients that are revoked (CRL, PEM)
    #[arg(long, env = "SHADOW_TLS_CLIENT_CRL", value_name = "FILE")]
    pub tls_client_crl: Option<PathBuf>,
    /// How often certificates, keys and clients are looked at for changes [default: 10s]
    #[arg(long, env = "SHADOW_TLS_RELOAD_INTERVAL", value_name = "DURATION")]
    pub tls_reload_interval: Option<String>,
    /// Clients with their roles, tokens and certificates (TOML); with it, or with jwt-keys, nobody else may call
    #[arg(long, env = "SHADOW_CLIENTS", value_name = "FILE")]
    pub clients: Option<PathBuf>,
    /// Who signs tokens (JWT): their "iss"
    #[arg(long, env = "SHADOW_JWT_ISSUER", value_name = "NAME")]
    pub jwt_issuer: Option<String>,
    /// Whom they are for: among their "aud"
    #[arg(long, env = "SHADOW_JWT_AUDIENCE", value_name = "NAME")]
    pub jwt_audience: Option<String>,
    /// Their public keys: a file (PEM or JWK set), or the URL of a JWK set
    #[arg(long, env = "SHADOW_JWT_KEYS", value_name = "FILE|URL")]
    pub jwt_keys: Option<String>,
    /// How often keys are fetched from their URL [default: 5m]
    #[arg(long, env = "SHADOW_JWT_KEYS_INTERVAL", value_name = "DURATION")]
    pub jwt_keys_interval: Option<String>,
    /// The claim that holds the roles of a token [default: roles]
    #[arg(long, env = "SHADOW_JWT_ROLES_CLAIM", value_name = "NAME")]
    pub jwt_roles_claim: Option<String>,
    /// Where reflection answers: "off", "local" (Unix socket and loopback), "any" [default: local; any with clients or jwt-keys]
    #[arg(long, env = "SHADOW_REFLECTION", value_name = "WHO")]
    pub reflection: Option<String>,
    /// Who may begin an epoch: as for reflection [default: as there]
    #[arg(long, env = "SHADOW_CONTROL", value_name = "WHO")]
    pub control: Option<String>,
    /// Whether health answers callers without a token: probes have none [default: true]
    #[arg(long, env = "SHADOW_HEALTH_OPEN", value_name = "BOOL")]
    pub health_open: Option<bool>,
    /// Who may read reports: "off", "local" (Unix socket and loopback), "any"; with clients or jwt-keys it takes the role
    /// observer, too [default: local; any with clients or jwt-keys]
    #[arg(long, env = "SHADOW_REPORTS", value_name = "WHO")]
    pub reports: Option<String>,
    /// After a signal: how long health says NOT_SERVING before the end [default: 0s]
    #[arg(long, env = "SHADOW_DRAIN_DELAY", value_name = "DURATION")]
    pub drain_delay: Option<String>,
    /// Then: how long calls and comparisons in flight may take [default: 5s]
    #[arg(long, env = "SHADOW_DRAIN_TIMEOUT", value_name = "DURATION")]
    pub drain_timeout: Option<String>,
    /// When listening, the addresses are written here as JSON: for scripts that asked for port 0
    #[arg(long, env = "SHADOW_PORTS_FILE", value_name = "FILE")]
    pub ports_file: Option<PathBuf>,
    /// What is logged: a level, or levels by module [default: info]
    #[arg(long, env = "SHADOW_LOG", value_name = "FILTER")]
    pub log: Option<String>,
    /// "json" or "text" [default: json]
    #[arg(long, env = "SHADOW_LOG_FORMAT", value_name = "FORMAT")]
    pub log_format: Option<String>,
}

/// Who rehearses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CandidateSource {
    /// In this process.
    Package(PathBuf),
    /// A server of the Open Inference Protocol.
    Server {
        /// `http://HOST:PORT`.
        url: String,
        /// Its name there; absent: as the primary's.
        model: Option<String>,
        /// Its version there; empty: the newest.
        version: String,
    },
}

/// One of those who rehearse.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rehearsing {
    /// Its name in reports; empty: as its model is called.
    pub name: String,
    /// Where it is.
    pub source: CandidateSource,
}

/// A configuration that can't be wrong.
#[derive(Clone, Debug)]
pub struct Config {
    /// `http://HOST:PORT` or `unix:PATH`.
    pub primary: String,
    /// Which of its models.
    pub primary_model: Option<String>,
    /// Who rehearses: one at least.
    pub candidates: Vec<Rehearsing>,
    /// Which way exchanges come in.
    pub intake: Kind,
    /// Whether the primary has a tap; absent: it is asked.
    pub primary_tap: Option<bool>,
    /// What a primary without a tap predicts.
    pub primary_task: Option<v1::Task>,
    /// How its outputs are read.
    pub primary_outputs: Outputs,
    /// How the outputs of candidates on servers are read.
    pub candidate_outputs: Outputs,
    /// How much may wait for its other half.
    pub join: join::Bounds,
    /// The share of requests that a primary without a tap answers twice.
    pub noise_rate: f64,
    /// Of a message.
    pub capture_bytes: usize,
    /// Never compared.
    pub deny_methods: Vec<String>,
    /// Where counts are kept.
    pub state_file: Option<PathBuf>,
    /// How often.
    pub state_interval: Duration,
    /// Where gRPC is served.
    pub grpc_listen: Address,
    /// Where metrics and health are served over HTTP.
    pub admin_listen: Address,
    /// The share of exchanges to compare.
    pub sample_rate: f64,
    /// What a verdict must prove.
    pub gates: Gates,
    /// When values agree.
    pub tolerance: Tolerance,
    /// The features by which rows are sliced; whether the model has them is known once it is.
    pub slices: Vec<Declaration>,
    /// Exchanges that may wait.
    pub queue: usize,
    /// Bytes that may wait.
    pub queue_bytes: usize,
    /// Exchanges at the same time with each candidate; absent: see [`Config::concurrency_of`].
    pub concurrency: Option<usize>,
    /// For one exchange.
    pub candidate_timeout: Duration,
    /// A collector; absent: as the standard variables say.
    pub otlp_endpoint: Option<String>,
    /// Between two exports; absent: as the standard variables say.
    pub otlp_interval: Option<Duration>,
    /// What is kept, and told, of disagreements.
    pub disagreements: disagreements::Config,
    /// Where copies of exchanges go.
    pub outlets: outlets::Config,
    /// What is shown to the primary.
    pub primary_credentials: Credentials,
    /// What is shown to a candidate's server.
    pub candidate_credentials: Credentials,
    /// TLS, and who may call what.
    pub identity: identity::settings::Config,
    /// Of the listener.
    pub limits: Limits,
    /// Between NOT_SERVING and the end of accepting.
    pub drain_delay: Duration,
    /// Where the addresses are written.
    pub ports_file: Option<PathBuf>,
    /// What is logged.
    pub log: String,
    /// How.
    pub log_format: LogFormat,
}

/// Threads that the machine has for us.
pub(crate) fn cores() -> usize {
    thread::available_parallelism().map_or(1, NonZero::get)
}

impl Config {
    /// Exchanges at the same time with a candidate.
    pub fn concurrency_of(&self, candidate: &Rehearsing) -> usize {
        self.concurrency.unwrap_or_else(|| match candidate.source {
            CandidateSource::Package(_) => cores(),
            CandidateSource::Server { .. } => 64,
        })
    }
}

/// `argmax`, or `threshold=X`.
fn decision(p: &mut Problems, setting: &str, text: Option<&str>) -> Option<Decision> {
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
        let url = |p: &mut Problems, name: &str, text: &str| {
            let known = ["http://", "https://", "unix:"].iter().any(|scheme| text.starts_with(scheme));
            if !known || tonic::transport::Endpoint::from_shared(text.to_owned()).is_err() {
                p.add(name, format_args!("expected http://HOST:PORT, https://HOST:PORT or unix:PATH, got {text:?}"));
            }
        };
        let primary = self.primary.unwrap_or_else(|| "http://127.0.0.1:8001".into());
        url(p, "primary", &primary);
        let on_server = [("candidate-model", &self.candidate_model), ("candidate-version", &self.candidate_version)];
        let source = |p: &mut Problems, setting: &str, text: String| {
            if text.contains("://") || text.starts_with("unix:") {
                url(p, setting, &text);
                let version = self.candidate_version.clone().unwrap_or_default();
                return CandidateSource::Server { url: text, model: self.candidate_model.clone(), version };
            }
            CandidateSource::Package(text.into())
        };
        let mut candidates = Vec::new();
        match (self.candidate, self.candidates) {
            (None, None) => p.add("candidate", "expected a directory or http://HOST:PORT, got nothing"),
            (Some(_), Some(_)) => p.add("candidate", "either candidate or candidates, not both"),
            (Some(text), None) => {
                candidates.push(Rehearsing { name: String::new(), source: source(p, "candidate", text) });
            }
            (None, Some(list)) => {
                for text in list {
                    match text.split_once('=') {
                        Some((name, place)) if !name.is_empty() && !place.is_empty() => {
                            let source = source(p, "candidates", place.to_owned());
                            candidates.push(Rehearsing { name: name.to_owned(), source });
                        }
                        _ => p.add("candidates", format_args!("expected NAME=DIR or NAME=URL, got {text:?}")),
                    }
                }
                if candidates.is_empty() {
                    p.add("candidates", "expected NAME=DIR or NAME=URL, got nothing");
                }
                for (n, candidate) in candidates.iter().enumerate() {
                    if candidates[..n].iter().any(|earlier| earlier.name == candidate.name) {
                        p.add("candidates", format_args!("two are called {:?}", candidate.name));
                    }
                }
            }
        }
        let package = |candidate: &Rehearsing| matches!(candidate.source, CandidateSource::Package(_));
        if !candidates.is_empty() && candidates.iter().all(package) {
            for (name, _) in on_server.into_iter().filter(|(_, value)| value.is_some()) {
                p.add(name, "only for a candidate on a server; a package says its own");
            }
        }
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
        let primary_task = self.primary_task.as_deref().and_then(|text| match text {
            "binary" => Some(v1::Task::Binary),
            "multiclass" => Some(v1::Task::Multiclass),
            "regression" => Some(v1::Task::Regression),
            "quantile" => Some(v1::Task::Quantile),
            "tensor" => Some(v1::Task::Tensor),
            other => {
                p.add(
                    "primary-task",
                    format_args!("expected binary, multiclass, regression, quantile or tensor, got {other:?}"),
                );
                None
            }
        });
        let primary_outputs = Outputs {
            label: self.primary_label_output,
            scores: self.primary_scores_output,
            classes: self.primary_classes.unwrap_or_default(),
            decision: decision(p, "primary-decision", self.primary_decision.as_deref()),
        };
        let candidate_outputs = Outputs {
            label: self.candidate_label_output,
            scores: self.candidate_scores_output,
            classes: self.candidate_classes.unwrap_or_default(),
            decision: decision(p, "candidate-decision", self.candidate_decision.as_deref()),
        };
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
            candidate_outputs,
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
            tolerance: Tolerance {
                absolute: p.number("tolerance-absolute", self.tolerance_absolute, 1e-9, 0.0..=f64::MAX),
                relative: p.number("tolerance-relative", self.tolerance_relative, 0.01, 0.0..=f64::MAX),
            },
            slices,
            queue: p.number("queue", self.queue, 4096, 1..=1 << 20),
            queue_bytes: p.number("queue-bytes", self.queue_bytes, 32 << 20, 1..=1 << 40),
            concurrency: self.concurrency.map(|concurrency| p.number("concurrency", Some(concurrency), 1, 1..=4096)),
            candidate_timeout: p.duration(
                "candidate-timeout",
                self.candidate_timeout.as_deref(),
                Duration::from_secs(2),
            ),
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
                jwt_keys_interval: self.jwt_keys_interval,
                jwt_roles_claim: self.jwt_roles_claim,
                reflection: self.reflection,
                control: self.control,
                health_open: self.health_open,
            }
            .validate(p, ("reports", self.reports.as_deref())),
            primary_credentials: credentials(
                p,
                ("primary-cert", self.primary_cert),
                ("primary-key", self.primary_key),
                self.primary_ca,
                self.primary_token_file,
            ),
            candidate_credentials: credentials(
                p,
                ("candidate-cert", self.candidate_cert),
                ("candidate-key", self.candidate_key),
                self.candidate_ca,
                self.candidate_token_file,
            ),
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
                ..Limits::default()
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

/// A certificate is of no use without its key, nor the key without it.
fn credentials(
    p: &mut Problems,
    (cert, certificate): (&str, Option<PathBuf>),
    (name, key): (&str, Option<PathBuf>),
    ca: Option<PathBuf>,
    token: Option<PathBuf>,
) -> Credentials {
    match (&certificate, &key) {
        (Some(_), None) => p.add(cert, format_args!("expected {name}, too, got none")),
        (None, Some(_)) => p.add(name, format_args!("expected {cert}, too, got none")),
        _ => {}
    }
    Credentials { ca, certificate, key, token }
}
