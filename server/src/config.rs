//! What can be set, raw ([`Settings`]) and validated ([`Config`]).

use std::{num::NonZero, path::PathBuf, thread, time::Duration};

use clap::Args;
use model::OnSuspicious;
use serde::{Deserialize, Serialize};
use understudy::{
    edge::{Address, InFlight, Limits, MessageLimits},
    identity,
    settings::Problems,
    telemetry::LogFormat,
};

/// Calls in flight that a client has unless told otherwise, however few all have: with a place only for what is computed, many of
/// them wait for nothing but their messages.
const LEAST_CLIENT_CALLS: usize = 64;

/// Raw settings: each is a flag, an environment variable and a TOML key of the same name.
#[derive(Args, Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Settings {
    /// What to serve: packages, models or repositories (directories)
    #[arg(long, env = "UNDERSTUDY_MODELS", value_delimiter = ',', value_name = "DIR")]
    pub models: Option<Vec<PathBuf>>,
    /// Where gRPC is served [default: 0.0.0.0:8001]
    #[arg(long, env = "UNDERSTUDY_GRPC_LISTEN", value_name = "IP:PORT")]
    pub grpc_listen: Option<String>,
    /// Where /metrics, /healthz and /livez are served over HTTP [default: 0.0.0.0:8002]
    #[arg(long, env = "UNDERSTUDY_ADMIN_LISTEN", value_name = "IP:PORT")]
    pub admin_listen: Option<String>,
    /// A Unix socket on which gRPC is served, too; "off" for none
    /// [default: understudy-PORT.sock in $XDG_RUNTIME_DIR, where that is set]
    #[arg(long, env = "UNDERSTUDY_UNIX_SOCKET", value_name = "PATH")]
    pub unix_socket: Option<String>,
    /// Threads that serve connections [default: one for each core]
    #[arg(long, env = "UNDERSTUDY_WORKERS", value_name = "N")]
    pub workers: Option<usize>,
    /// Threads that evaluate what takes longer than half a millisecond, where there is an idle core for them, or where a single row
    /// does [default: one for each core]
    #[arg(long, env = "UNDERSTUDY_COMPUTE_THREADS", value_name = "N")]
    pub compute_threads: Option<usize>,
    /// Evaluations that may wait for a compute thread; more are refused [default: 256]
    #[arg(long, env = "UNDERSTUDY_COMPUTE_QUEUE", value_name = "N")]
    pub compute_queue: Option<usize>,
    /// How long an evaluation of more than half a millisecond may have to wait for others; what would wait longer is refused
    /// [default: 25ms]
    #[arg(long, env = "UNDERSTUDY_COMPUTE_WAIT", value_name = "DURATION")]
    pub compute_wait: Option<String>,
    /// How long calls may have to wait for their turn, besides what their worker has rested in the last tenth of a second;
    /// who would wait longer is refused when it comes [default: 25ms]
    #[arg(long, env = "UNDERSTUDY_QUEUE_WAIT", value_name = "DURATION")]
    pub queue_wait: Option<String>,
    /// Connections at the same time [default: 1024]
    #[arg(long, env = "UNDERSTUDY_MAX_CONNECTIONS", value_name = "N")]
    pub max_connections: Option<usize>,
    /// Connections at the same time from one address; the Unix socket has no address [default: 64]
    #[arg(long, env = "UNDERSTUDY_MAX_CONNECTIONS_PER_ADDRESS", value_name = "N")]
    pub max_connections_per_address: Option<usize>,
    /// After this time, give or take a tenth, a connection gets a GOAWAY; 0s: never [default: 30m]
    #[arg(long, env = "UNDERSTUDY_MAX_CONNECTION_AGE", value_name = "DURATION")]
    pub max_connection_age: Option<String>,
    /// What a connection of that age may take to finish its calls [default: 60s]
    #[arg(long, env = "UNDERSTUDY_MAX_CONNECTION_AGE_GRACE", value_name = "DURATION")]
    pub max_connection_age_grace: Option<String>,
    /// Calls in flight [default: 4096]
    #[arg(long, env = "UNDERSTUDY_MAX_IN_FLIGHT", value_name = "N")]
    pub max_in_flight: Option<usize>,
    /// Bytes of messages in flight [default: 268435456]
    #[arg(long, env = "UNDERSTUDY_MAX_IN_FLIGHT_BYTES", value_name = "BYTES")]
    pub max_in_flight_bytes: Option<usize>,
    /// Calls of one client in flight, whose messages have come or not: of a certificate, a token, else an address
    /// [default: a quarter of max-in-flight, at least 64]
    #[arg(long, env = "UNDERSTUDY_MAX_IN_FLIGHT_PER_CLIENT", value_name = "N")]
    pub max_in_flight_per_client: Option<usize>,
    /// Bytes of messages of one client in flight [default: a quarter of max-in-flight-bytes, at least one message]
    #[arg(long, env = "UNDERSTUDY_MAX_IN_FLIGHT_BYTES_PER_CLIENT", value_name = "BYTES")]
    pub max_in_flight_bytes_per_client: Option<usize>,
    /// Calls of one client in a minute, as many of them at once as it likes [default: no limit]
    #[arg(long, env = "UNDERSTUDY_RATE_LIMIT", value_name = "N")]
    pub rate_limit: Option<u32>,
    /// Streams at the same time on a connection [default: 128]
    #[arg(long, env = "UNDERSTUDY_MAX_STREAMS", value_name = "N")]
    pub max_streams: Option<u32>,
    /// Bytes of a request message, at most 16777216 [default: 1048576]
    #[arg(long, env = "UNDERSTUDY_MAX_REQUEST_BYTES", value_name = "BYTES")]
    pub max_request_bytes: Option<usize>,
    /// Bytes of an answer [default: 16777216]
    #[arg(long, env = "UNDERSTUDY_MAX_RESPONSE_BYTES", value_name = "BYTES")]
    pub max_response_bytes: Option<usize>,
    /// Rows in a request, instead of what the package says
    #[arg(long, env = "UNDERSTUDY_MAX_ROWS", value_name = "N")]
    pub max_rows: Option<usize>,
    /// Refuse numbers that are NaN or infinite, whatever the package says; null stays missing
    #[arg(long, env = "UNDERSTUDY_REJECT_NON_FINITE", num_args = 0..=1, default_missing_value = "true", value_name = "BOOL")]
    pub reject_non_finite: Option<bool>,
    /// What becomes of numbers far from the training data: "ignore", "flag" or "refuse"; only stricter than the package
    #[arg(long, env = "UNDERSTUDY_SUSPICIOUS", value_name = "ACTION")]
    pub suspicious: Option<String>,
    /// How far that is, in standard deviations from the mean; only stricter than the package, which says 5 by default
    #[arg(long, env = "UNDERSTUDY_SUSPICIOUS_Z_SCORE", value_name = "NUMBER")]
    pub suspicious_z_score: Option<f64>,
    /// The longest a request may take, whatever the client allows [default: 30s]
    #[arg(long, env = "UNDERSTUDY_REQUEST_TIMEOUT", value_name = "DURATION")]
    pub request_timeout: Option<String>,
    /// A connection that is silent for so long is asked whether it still lives [default: 30s]
    #[arg(long, env = "UNDERSTUDY_KEEPALIVE_INTERVAL", value_name = "DURATION")]
    pub keepalive_interval: Option<String>,
    /// How long it has to answer [default: 10s]
    #[arg(long, env = "UNDERSTUDY_KEEPALIVE_TIMEOUT", value_name = "DURATION")]
    pub keepalive_timeout: Option<String>,
    /// After a signal: how long requests are taken while health says NOT_SERVING [default: 5s]
    #[arg(long, env = "UNDERSTUDY_DRAIN_DELAY", value_name = "DURATION")]
    pub drain_delay: Option<String>,
    /// Then: how long what is in flight may take [default: 25s]
    #[arg(long, env = "UNDERSTUDY_DRAIN_TIMEOUT", value_name = "DURATION")]
    pub drain_timeout: Option<String>,
    /// How often the golden rows are predicted again [default: 60s]
    #[arg(long, env = "UNDERSTUDY_SELF_TEST_INTERVAL", value_name = "DURATION")]
    pub self_test_interval: Option<String>,
    /// Serve TLS with this certificate and those between it and its authority (PEM), read again when it changes
    #[arg(long, env = "UNDERSTUDY_TLS_CERT", value_name = "FILE")]
    pub tls_cert: Option<PathBuf>,
    /// Its private key (PEM)
    #[arg(long, env = "UNDERSTUDY_TLS_KEY", value_name = "FILE")]
    pub tls_key: Option<PathBuf>,
    /// Ask clients for certificates of these authorities (PEM)
    #[arg(long, env = "UNDERSTUDY_TLS_CLIENT_CA", value_name = "FILE")]
    pub tls_client_ca: Option<PathBuf>,
    /// Whether clients must have one: "required", "optional" [default: required]
    #[arg(long, env = "UNDERSTUDY_TLS_CLIENT_AUTH", value_name = "WHETHER")]
    pub tls_client_auth: Option<String>,
    /// Certificates of clients that are revoked (CRL, PEM)
    #[arg(long, env = "UNDERSTUDY_TLS_CLIENT_CRL", value_name = "FILE")]
    pub tls_client_crl: Option<PathBuf>,
    /// How often certificates, keys and clients are looked at for changes [default: 10s]
    #[arg(long, env = "UNDERSTUDY_TLS_RELOAD_INTERVAL", value_name = "DURATION")]
    pub tls_reload_interval: Option<String>,
    /// Clients with their roles, tokens and certificates (TOML); with it, or with jwt-keys, nobody else may call
    #[arg(long, env = "UNDERSTUDY_CLIENTS", value_name = "FILE")]
    pub clients: Option<PathBuf>,
    /// Who signs tokens (JWT): their "iss"
    #[arg(long, env = "UNDERSTUDY_JWT_ISSUER", value_name = "NAME")]
    pub jwt_issuer: Option<String>,
    /// Whom they are for: among their "aud"
    #[arg(long, env = "UNDERSTUDY_JWT_AUDIENCE", value_name = "NAME")]
    pub jwt_audience: Option<String>,
    /// Their public keys: a file (PEM or JWK set), or the URL of a JWK set
    #[arg(long, env = "UNDERSTUDY_JWT_KEYS", value_name = "FILE|URL")]
    pub jwt_keys: Option<String>,
    /// Who vouches for an https:// URL of them (PEM) [default: the authorities of the system]
    #[arg(long, env = "UNDERSTUDY_JWT_KEYS_CA", value_name = "FILE")]
    pub jwt_keys_ca: Option<PathBuf>,
    /// How often keys are fetched from their URL [default: 5m]
    #[arg(long, env = "UNDERSTUDY_JWT_KEYS_INTERVAL", value_name = "DURATION")]
    pub jwt_keys_interval: Option<String>,
    /// The claim that holds the roles of a token [default: roles]
    #[arg(long, env = "UNDERSTUDY_JWT_ROLES_CLAIM", value_name = "NAME")]
    pub jwt_roles_claim: Option<String>,
    /// Where reflection answers: "off", "local" (Unix socket and loopback), "any" [default: local; any with clients or jwt-keys]
    #[arg(long, env = "UNDERSTUDY_REFLECTION", value_name = "WHO")]
    pub reflection: Option<String>,
    /// Who may load and unload models: as for reflection [default: as there]
    #[arg(long, env = "UNDERSTUDY_CONTROL", value_name = "WHO")]
    pub control: Option<String>,
    /// Whether health answers callers without a token: probes have none [default: true]
    #[arg(long, env = "UNDERSTUDY_HEALTH_OPEN", value_name = "BOOL")]
    pub health_open: Option<bool>,
    /// Who may subscribe to the tap: "off", "local" (Unix socket and loopback), "any"; with clients or jwt-keys it takes the role
    /// observer, too [default: local; any with clients or jwt-keys]
    #[arg(long, env = "UNDERSTUDY_TAP", value_name = "WHO")]
    pub tap: Option<String>,
    /// Subscribers of the tap at the same time; each may keep tap-queue-bytes [default: 16]
    #[arg(long, env = "UNDERSTUDY_TAP_SUBSCRIBERS", value_name = "N")]
    pub tap_subscribers: Option<usize>,
    /// Exchanges that may wait for one subscriber; more are dropped and counted [default: 4096]
    #[arg(long, env = "UNDERSTUDY_TAP_QUEUE", value_name = "N")]
    pub tap_queue: Option<usize>,
    /// Bytes that may wait for one subscriber [default: 33554432]
    #[arg(long, env = "UNDERSTUDY_TAP_QUEUE_BYTES", value_name = "BYTES")]
    pub tap_queue_bytes: Option<usize>,
    /// When ready, the addresses are written here as JSON: for scripts that asked for port 0
    #[arg(long, env = "UNDERSTUDY_PORTS_FILE", value_name = "FILE")]
    pub ports_file: Option<PathBuf>,
    /// What is logged: a level, or levels by module [default: info]
    #[arg(long, env = "UNDERSTUDY_LOG", value_name = "FILTER")]
    pub log: Option<String>,
    /// "json" or "text" [default: json]
    #[arg(long, env = "UNDERSTUDY_LOG_FORMAT", value_name = "FORMAT")]
    pub log_format: Option<String>,
}

/// A configuration that can't be wrong.
#[derive(Clone, Debug)]
pub struct Config {
    /// Directories, at least one.
    pub models: Vec<PathBuf>,
    /// Where gRPC is served.
    pub grpc_listen: Address,
    /// Where metrics and health are served over HTTP.
    pub admin_listen: Address,
    /// Where gRPC is served, too.
    pub unix_socket: UnixSocket,
    /// Threads that serve connections.
    pub workers: usize,
    /// Threads that evaluate.
    pub compute_threads: usize,
    /// Evaluations that may wait.
    pub compute_queue: usize,
    /// How long an evaluation may have to wait.
    pub compute_wait: Duration,
    /// Of the listener.
    pub limits: Limits,
    /// Of all calls together.
    pub in_flight: InFlight,
    /// Of a call.
    pub messages: MessageLimits,
    /// Of every request, beside what its model's package says.
    pub contract: Contract,
    /// Between NOT_SERVING and the end of accepting.
    pub drain_delay: Duration,
    /// Between two runs of the golden rows.
    pub self_test_interval: Duration,
    /// TLS, and who may call what.
    pub identity: identity::settings::Config,
    /// Subscribers at the same time.
    pub tap_subscribers: usize,
    /// Exchanges that may wait for one subscriber.
    pub tap_queue: usize,
    /// Bytes that may wait for one subscriber.
    pub tap_queue_bytes: usize,
    /// Where the addresses are written.
    pub ports_file: Option<PathBuf>,
    /// What is logged.
    pub log: String,
    /// How.
    pub log_format: LogFormat,
}

/// The most that `max-request-bytes` may allow: the five bytes in front of a message reserve what they claim, and reading and
/// decoding one message holds up everybody else on its worker.
const MAX_REQUEST_BYTES: usize = 16 << 20;

/// What an operator says on top of the packages: more rows, and else only stricter.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Contract {
    /// Rows in a request, instead of what the package says.
    pub max_rows: Option<usize>,
    /// Whether numbers that are NaN or infinite are refused.
    pub reject_non_finite: bool,
    /// What becomes of suspicious numbers.
    pub suspicious: Option<OnSuspicious>,
    /// From how many standard deviations on they are.
    pub suspicious_z_score: Option<f64>,
}

/// The Unix socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UnixSocket {
    /// None.
    Off,
    /// In the runtime directory, if there is one; that it can't be bound is only a warning.
    Default,
    /// Here, and it must work.
    At(PathBuf),
}

impl UnixSocket {
    /// Its path, once the TCP port is known.
    pub fn path(&self, port: u16) -> Option<PathBuf> {
        match self {
            Self::Off => None,
            Self::At(path) => Some(path.clone()),
            Self::Default => {
                let directory = std::env::var_os("XDG_RUNTIME_DIR").filter(|directory| !directory.is_empty())?;
                Some(PathBuf::from(directory).join(format!("understudy-{port}.sock")))
            }
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
        let cores = thread::available_parallelism().map_or(1, NonZero::get);
        let (defaults, in_flight) = (Limits::default(), InFlight::default());
        let address = |p: &mut Problems, name: &str, text: Option<String>, default: &str| {
            text.as_deref().unwrap_or(default).parse().unwrap_or_else(|error| {
                p.add(name, error);
                Address::Unix(PathBuf::new())
            })
        };
        let models = self.models.unwrap_or_default();
        if models.is_empty() {
            p.add("models", "expected at least one directory, got none");
        }
        let calls = p.number("max-in-flight", self.max_in_flight, in_flight.calls, 1..=1_000_000);
        let bytes = p.number("max-in-flight-bytes", self.max_in_flight_bytes, in_flight.bytes, 1..=1 << 40);
        let messages = MessageLimits {
            request: p.number("max-request-bytes", self.max_request_bytes, 1 << 20, 1..=MAX_REQUEST_BYTES),
            response: p.number("max-response-bytes", self.max_response_bytes, 16 << 20, 1..=1 << 30),
            time: p.duration("request-timeout", self.request_timeout.as_deref(), Duration::from_secs(30)),
        };
        let config = Config {
            models,
            grpc_listen: address(p, "grpc-listen", self.grpc_listen, "0.0.0.0:8001"),
            admin_listen: address(p, "admin-listen", self.admin_listen, "0.0.0.0:8002"),
            unix_socket: match self.unix_socket.as_deref() {
                None => UnixSocket::Default,
                Some("off") => UnixSocket::Off,
                Some(path) => UnixSocket::At(path.into()),
            },
            workers: p.number("workers", self.workers, cores, 1..=1024),
            compute_threads: p.number("compute-threads", self.compute_threads, cores, 1..=1024),
            compute_queue: p.number("compute-queue", self.compute_queue, 256, 1..=1_000_000),
            compute_wait: p.duration("compute-wait", self.compute_wait.as_deref(), Duration::from_millis(25)),
            limits: Limits {
                connections: p.number("max-connections", self.max_connections, defaults.connections, 1..=1_000_000),
                connections_of_address: p.number(
                    "max-connections-per-address",
                    self.max_connections_per_address,
                    defaults.connections_of_address,
                    1..=1_000_000,
                ),
                queue_wait: p.duration("queue-wait", self.queue_wait.as_deref(), defaults.queue_wait),
                age: p.duration("max-connection-age", self.max_connection_age.as_deref(), defaults.age),
                age_grace: p.duration(
                    "max-connection-age-grace",
                    self.max_connection_age_grace.as_deref(),
                    defaults.age_grace,
                ),
                streams: p.number("max-streams", self.max_streams, defaults.streams, 1..=100_000),
                keepalive_interval: p.duration(
                    "keepalive-interval",
                    self.keepalive_interval.as_deref(),
                    defaults.keepalive_interval,
                ),
                keepalive_timeout: p.duration(
                    "keepalive-timeout",
                    self.keepalive_timeout.as_deref(),
                    defaults.keepalive_timeout,
                ),
                grace: p.duration("drain-timeout", self.drain_timeout.as_deref(), defaults.grace),
                ..defaults
            },
            in_flight: InFlight {
                calls,
                bytes,
                client_calls: Some(p.number(
                    "max-in-flight-per-client",
                    self.max_in_flight_per_client,
                    (calls / 4).max(LEAST_CLIENT_CALLS),
                    1..=1_000_000,
                )),
                client_bytes: Some(p.number(
                    "max-in-flight-bytes-per-client",
                    self.max_in_flight_bytes_per_client,
                    // A message comes compressed and is taken apart, so that both are there.
                    (bytes / 4).max(2 * messages.request).max(messages.response).clamp(1, bytes.max(1)),
                    1..=1 << 40,
                )),
                client_calls_a_minute: self
                    .rate_limit
                    .and_then(|calls| NonZero::new(p.number("rate-limit", Some(calls), calls, 1..=u32::MAX))),
            },
            messages,
            contract: Contract {
                max_rows: self.max_rows.map(|rows| p.number("max-rows", Some(rows), rows, 1..=10_000_000)),
                reject_non_finite: self.reject_non_finite.unwrap_or(false),
                suspicious: match self.suspicious.as_deref() {
                    None => None,
                    Some("ignore") => Some(OnSuspicious::Ignore),
                    Some("flag") => Some(OnSuspicious::Flag),
                    Some("refuse") => Some(OnSuspicious::Refuse),
                    Some(other) => {
                        p.add("suspicious", format_args!("expected ignore, flag or refuse, got {other:?}"));
                        None
                    }
                },
                suspicious_z_score: self.suspicious_z_score.inspect(|z_score| {
                    if z_score.is_nan() || *z_score <= 0.0 {
                        p.add("suspicious-z-score", format_args!("expected a number greater than 0, got {z_score}"));
                    }
                }),
            },
            drain_delay: p.duration("drain-delay", self.drain_delay.as_deref(), Duration::from_secs(5)),
            self_test_interval: p.duration(
                "self-test-interval",
                self.self_test_interval.as_deref(),
                Duration::from_secs(60),
            ),
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
            .validate(p, ("tap", self.tap.as_deref())),
            tap_subscribers: p.number("tap-subscribers", self.tap_subscribers, 16, 1..=1024),
            tap_queue: p.number("tap-queue", self.tap_queue, 4096, 1..=1 << 20),
            tap_queue_bytes: p.number("tap-queue-bytes", self.tap_queue_bytes, 32 << 20, 1..=1 << 40),
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
