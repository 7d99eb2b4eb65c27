//! What can be set, as it is set.

use std::path::PathBuf;

use clap::Args;
use serde::{Deserialize, Serialize};

use super::candidates::Entry;

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
    /// Several candidates, each NAME=DIR or NAME=URL, instead of one; in the file also tables, [[candidates]], with model, outputs
    /// and token of its own for each
    #[arg(long, env = "SHADOW_CANDIDATES", value_name = "NAME=DIR|URL", value_delimiter = ',')]
    pub candidates: Option<Vec<Entry>>,
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
    /// Where counts and examples of disagreements are kept, so that they survive a restart; for its owner only
    /// [default: nowhere]
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
    /// A file with the token that is sent to it; where there are several servers [[candidates]] says whose it is
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
    /// Below this share of compared rows or exchanges, missing exchanges count as disagreements; 1: always [default: 0.95]
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
    /// Segments of rows to be judged by themselves: a feature (one for each category), feature=value,value,... (one for each of
    /// these), or feature:edge,edge,... for numbers; separated by semicolons; at most 64 segments in all. Where neither model has a
    /// schema they are inputs by name, and need values or edges
    #[arg(long, env = "SHADOW_SLICES", value_name = "FEATURE[=VALUES|:EDGES]", value_delimiter = ';')]
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
    /// Who vouches for an https:// collector (PEM) [default: $OTEL_EXPORTER_OTLP_CERTIFICATE, else the authorities of the system]
    #[arg(long, env = "SHADOW_OTLP_CA", value_name = "FILE")]
    pub otlp_ca: Option<PathBuf>,
    /// The certificate that is shown to it (PEM) [default: $OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE]
    #[arg(long, env = "SHADOW_OTLP_CERT", value_name = "FILE")]
    pub otlp_cert: Option<PathBuf>,
    /// Its private key (PEM) [default: $OTEL_EXPORTER_OTLP_CLIENT_KEY]
    #[arg(long, env = "SHADOW_OTLP_KEY", value_name = "FILE")]
    pub otlp_key: Option<PathBuf>,
    /// How often metrics are sent to it [default: 10s]
    #[arg(long, env = "SHADOW_OTLP_INTERVAL", value_name = "DURATION")]
    pub otlp_interval: Option<String>,
    /// How many disagreements of each epoch are kept as examples; 0: none [default: 200]
    #[arg(long, env = "SHADOW_DISAGREEMENTS", value_name = "N")]
    pub disagreements: Option<usize>,
    /// What they tell of a row's inputs: "none"; "redacted" (numbers as ranges of the training data or rounded, categories
    /// only if the schema lists them, no texts); "full", over gRPC and in the state file alone [default: redacted]
    #[arg(long, env = "SHADOW_DISAGREEMENT_INPUTS", value_name = "POLICY")]
    pub disagreement_inputs: Option<String>,
    /// How many of them go to the collector as log records, at most [default: 10]
    #[arg(long, env = "SHADOW_DISAGREEMENT_LOGS_PER_SECOND", value_name = "N")]
    pub disagreement_logs_per_second: Option<u32>,
    /// A sink that gets every exchange as CloudEvents with KServe's attributes, inputs in full: http(s)://HOST:PORT/PATH
    /// [default: none]
    #[arg(long, env = "SHADOW_CLOUDEVENTS_URL", value_name = "URL")]
    pub cloudevents_url: Option<String>,
    /// Who vouches for an https:// sink (PEM) [default: the authorities of the system]
    #[arg(long, env = "SHADOW_CLOUDEVENTS_CA", value_name = "FILE")]
    pub cloudevents_ca: Option<PathBuf>,
    /// The certificate that is shown to it (PEM)
    #[arg(long, env = "SHADOW_CLOUDEVENTS_CERT", value_name = "FILE")]
    pub cloudevents_cert: Option<PathBuf>,
    /// Its private key (PEM)
    #[arg(long, env = "SHADOW_CLOUDEVENTS_KEY", value_name = "FILE")]
    pub cloudevents_key: Option<PathBuf>,
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
    /// Who vouches for an https:// URL of them (PEM) [default: the authorities of the system]
    #[arg(long, env = "SHADOW_JWT_KEYS_CA", value_name = "FILE")]
    pub jwt_keys_ca: Option<PathBuf>,
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
    /// How much the process gives way to others on the same cores, the primary above all: 0 (not at all) to 19
    /// [default: 10; 0 for a proxy, which the clients wait for]
    #[arg(long, env = "SHADOW_NICE", value_name = "N")]
    pub nice: Option<i32>,
    /// When it runs: "idle" (only while nobody else wants the core) or "normal" (by niceness) [default: idle for a tap; normal for a
    /// mirror and a proxy, which others wait for]
    #[arg(long, env = "SHADOW_SCHEDULING", value_name = "WHEN")]
    pub scheduling: Option<String>,
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
