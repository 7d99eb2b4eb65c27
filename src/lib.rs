//! What the process that answers and the process that observes have in common. A closed list, in the order in which a
//! process starts and a request travels:
//!
//! * [`settings`] — a flag, an environment variable and a TOML key for each setting, merged and then validated
//! * [`telemetry`] — logs and the Prometheus recorder
//! * [`source`] — where a model comes from
//! * [`reload`] — files that are read again when they change
//! * [`edge`] — the listener: connection and stream limits, TLS, deadlines, message framing
//! * [`identity`] — who calls, and what they may
//! * [`inference`], [`v1`] — the generated protocol
//! * [`encode`] — the one place where protobuf meets the model
//! * [`status`] — the one mapping from errors to gRPC codes
//! * [`health`] — `grpc.health.v1`
//! * [`admin`] — metrics and health over HTTP, on a thread of its own
//! * [`shutdown`] — signals and the phases of a drain

#![warn(missing_docs)]

pub mod admin;
pub mod edge;
pub mod encode;
pub mod health;
pub mod identity;
pub mod raw;
pub mod reload;
pub mod settings;
pub mod shutdown;
pub mod source;
pub mod status;
pub mod telemetry;

/// The Open Inference Protocol, version 2: `proto/inference`.
#[allow(missing_docs, missing_debug_implementations, unreachable_pub, clippy::all, clippy::pedantic)]
pub mod inference {
    tonic::include_proto!("inference");
}

/// Our own protocol: `proto/understudy/v1`.
#[allow(missing_docs, missing_debug_implementations, unreachable_pub, clippy::all, clippy::pedantic)]
pub mod v1 {
    tonic::include_proto!("understudy.v1");
}

/// All of `proto/` as a serialised `FileDescriptorSet`, for reflection.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));

/// The header that marks a request as part of a rehearsal: it is never rehearsed itself.
pub const MARKER: &str = "x-shadow";

/// The header that names the sidecars from whose rehearsals a request comes, the first one first, with commas between them. One that
/// finds itself among them does not rehearse the request, whether the mark was believed on the way or not: a name is known to whom
/// its owner asks and who may read its reports, so no client can hide with it. (What CDN-Loop is to HTTP caches, RFC 8586.)
pub const VIA: &str = "x-shadow-via";

/// The version of this build.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
