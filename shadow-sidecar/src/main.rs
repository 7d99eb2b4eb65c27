//! `shadow-sidecar`: arguments, configuration, logs, run, drain, exit code.

use std::{path::PathBuf, process::ExitCode};

use clap::Parser;
use shadow_sidecar::{Config, Settings, Sidecar};
use understudy::{settings, shutdown, status::Chain, telemetry};

/// Lets a candidate model rehearse beside the primary
///
/// Exit codes: 0 after a drain, 64 for wrong arguments, 65 for a package that is refused, 69 for an address that can't be had, 70
/// when the system fails, 78 for a wrong configuration, 130 after a second signal.
#[derive(Parser)]
#[command(name = "shadow-sidecar", version)]
struct Arguments {
    /// A TOML file with the same settings
    #[arg(long, env = "SHADOW_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    /// Check the configuration, say what is wrong with it, and end
    #[arg(long)]
    check_config: bool,
    #[command(flatten)]
    settings: Settings,
}

fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            // Help and version are no errors; that standard output is closed is nobody's concern.
            drop(error.print());
            return ExitCode::from(if error.use_stderr() { 64 } else { 0 });
        }
    };
    let loaded = settings::load(&arguments.settings, arguments.config.as_deref());
    let config = match loaded.and_then(Settings::validate) {
        Ok(config) => config,
        Err(problems) => {
            eprintln!("{problems}");
            return ExitCode::from(78);
        }
    };
    let warnings = config.identity.warnings(&config.grpc_listen);
    if arguments.check_config {
        for warning in warnings {
            eprintln!("warning: {warning}");
        }
        eprintln!("the configuration is valid");
        return ExitCode::SUCCESS;
    }
    match telemetry::filter(&config.log) {
        Ok(filter) => telemetry::log(filter, config.log_format),
        Err(error) => {
            eprintln!("log: {error}");
            return ExitCode::from(78);
        }
    }
    for warning in warnings {
        tracing::warn!("{warning}");
    }
    // Before there are threads: each inherits it.
    let given_way = rustix::process::nice(config.nice).map_err(|error| format!("nice {}: {error}", config.nice));
    if let Err(error) = given_way.and_then(|_| config.scheduling.apply()) {
        tracing::warn!(error, "the sidecar does not give way to others");
    }
    // Two at least: the exporter's thread blocks on a connection that another thread must drive.
    let threads = std::thread::available_parallelism().map_or(2, |cores| cores.get().max(2));
    match tokio::runtime::Builder::new_multi_thread().worker_threads(threads).enable_all().build() {
        Ok(runtime) => runtime.block_on(run(config)),
        Err(error) => {
            tracing::error!(%error, "no runtime");
            ExitCode::from(70)
        }
    }
}

async fn run(config: Config) -> ExitCode {
    let signal = match shutdown::signal() {
        Ok(signal) => signal,
        Err(error) => {
            tracing::error!(%error, "no signal handlers");
            return ExitCode::from(70);
        }
    };
    tokio::pin!(signal);
    let started = tokio::select! {
        started = Sidecar::start(config) => started,
        () = &mut signal => return ExitCode::SUCCESS,
    };
    match started {
        Ok(sidecar) => {
            signal.await;
            sidecar.drain().await;
            ExitCode::SUCCESS
        }
        Err(error) => {
            tracing::error!(error = %Chain(&error), "the sidecar does not run");
            ExitCode::from(error.exit_code())
        }
    }
}
