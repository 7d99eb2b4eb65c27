//! The real process: what it refuses to serve, what it says then, and how it ends.

#![allow(clippy::unwrap_used, reason = "a test says what is wrong by failing")]

use std::path::PathBuf;

use tonic::transport::{Channel, Endpoint};
use understudy::v1::{PredictRequest, Row, Value, prediction_service_client::PredictionServiceClient, value::Kind};

mod addresses;
mod configuration;
mod identity;
mod logs;
#[cfg(target_os = "linux")]
mod memory;
#[allow(dead_code, unreachable_pub, reason = "shared with the harness of the end-to-end tests")]
#[path = "../../../tests/support/package.rs"]
mod package;
mod packages;
#[allow(dead_code, unreachable_pub, reason = "shared with the harness of the end-to-end tests")]
#[path = "../../../tests/support/process.rs"]
mod process;
mod signals;

use process::Process;

/// The example's model, with its only version.
fn adult() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/models/adult"))
}

fn start(flags: &[&str], environment: &[(&str, &str)]) -> Process {
    Process::start(env!("CARGO_BIN_EXE_understudy-server"), flags, environment)
}

/// Serves the example's model and drains without delay, unless `more` says otherwise.
fn serving(more: &[&str]) -> Process {
    let models = adult();
    let mut flags = vec!["--models", models.to_str().unwrap()];
    if !more.contains(&"--drain-delay") {
        flags.extend(["--drain-delay", "0s"]);
    }
    flags.extend(more);
    start(&flags, &[])
}

fn client(process: &Process) -> PredictionServiceClient<Channel> {
    PredictionServiceClient::new(channel(process))
}

fn channel(process: &Process) -> Channel {
    Endpoint::from_shared(format!("http://{}", process.grpc())).unwrap().connect_lazy()
}

/// A row of which nearly everything is missing.
fn young() -> PredictRequest {
    let row = Row { values: [("age".to_owned(), Value { kind: Some(Kind::Integer(25)) })].into() };
    PredictRequest { rows: vec![row], ..PredictRequest::default() }
}
