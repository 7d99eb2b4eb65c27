//! What can be set, raw ([`Settings`]) and validated ([`Config`]).

use std::{num::NonZero, path::PathBuf, thread, time::Duration};

use understudy::{
    edge::{Address, Limits},
    identity::{self, credentials::Credentials},
    telemetry::LogFormat,
    v1,
};

use crate::{
    answers::Outputs,
    compare::Tolerance,
    disagreements,
    intake::{Kind, join},
    outlets,
    rehearsal::Bounds,
    scheduling::Scheduling,
    slicer::Declaration,
    verdict::Gates,
};

mod candidates;
mod settings;
mod validate;

pub use candidates::{Entry, Table};
pub use settings::Settings;
pub(crate) use validate::Shown;

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
#[derive(Clone, Debug)]
pub struct Rehearsing {
    /// Its name in reports; empty: as its model is called.
    pub name: String,
    /// Where it is.
    pub source: CandidateSource,
    /// What it predicts, where it is on a server; absent: what the primary does.
    pub task: Option<v1::Task>,
    /// How its outputs are read, where it is on a server.
    pub outputs: Outputs,
    /// What is shown to its server, and to nobody else's.
    pub credentials: Credentials,
    /// When its values agree with the primary's.
    pub tolerance: Tolerance,
    /// What may wait for it, and how long it may take.
    pub bounds: Bounds,
    /// Exchanges at the same time with it.
    pub concurrency: usize,
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
    /// The features by which rows are sliced; whether the model has them is known once it is.
    pub slices: Vec<Declaration>,
    /// Exchanges that may wait.
    pub queue: usize,
    /// Bytes that may wait.
    pub queue_bytes: usize,
    /// For one exchange; a candidate may have a time of its own.
    pub candidate_timeout: Duration,
    /// A collector; absent: as the standard variables say.
    pub otlp_endpoint: Option<String>,
    /// Who vouches for it and what is shown to it, where the standard variables do not say.
    pub otlp_credentials: Credentials,
    /// Between two exports; absent: as the standard variables say.
    pub otlp_interval: Option<Duration>,
    /// What is kept, and told, of disagreements.
    pub disagreements: disagreements::Config,
    /// Where copies of exchanges go.
    pub outlets: outlets::Config,
    /// What is shown to the primary.
    pub primary_credentials: Credentials,
    /// TLS, and who may call what.
    pub identity: identity::settings::Config,
    /// Of the listener.
    pub limits: Limits,
    /// How much the process gives way to others on its cores, as nice(2) has it.
    pub nice: i32,
    /// How its threads share their cores.
    pub scheduling: Scheduling,
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
