//! Logs and the Prometheus recorder, the same for both processes.

use std::str::FromStr;

use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusRecorder};
use tracing_subscriber::{EnvFilter, fmt, prelude::*};

/// How a log line looks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// One JSON object a line.
    #[default]
    Json,
    /// For people.
    Text,
}

impl FromStr for LogFormat {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "json" => Ok(Self::Json),
            "text" => Ok(Self::Text),
            _ => Err(format!("expected json or text, got {text:?}")),
        }
    }
}

/// Parses a filter such as `info` or `info,server=debug`.
///
/// # Errors
/// The text is no filter.
pub fn filter(text: &str) -> Result<EnvFilter, String> {
    EnvFilter::try_new(text)
        .map_err(|error| format!("expected a log filter such as info,server=debug, got {text:?}: {error}"))
}

/// Logs to standard error from now on, panics included. Only `main` calls this, once.
pub fn log(filter: EnvFilter, format: LogFormat) {
    let json =
        (format == LogFormat::Json).then(|| fmt::layer().json().flatten_event(true).with_writer(std::io::stderr));
    let terminal = std::io::IsTerminal::is_terminal(&std::io::stderr());
    let text = (format == LogFormat::Text).then(|| fmt::layer().with_ansi(terminal).with_writer(std::io::stderr));
    tracing_subscriber::registry().with(filter).with(json).with(text).init();
    std::panic::set_hook(Box::new(|panic| {
        let message = panic.payload_as_str().unwrap_or("no message");
        let place = panic.location().map(ToString::to_string);
        tracing::error!(message, place, thread = std::thread::current().name(), "a bug: panicked");
    }));
}

/// Upper bounds of a latency histogram, in seconds: 10 µs to 10 s.
pub const LATENCY_BUCKETS: [f64; 16] = [
    0.00001, 0.000_025, 0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1.0, 10.0,
];

/// A recorder of its own rather than the global one, so that two processes' worth of metrics fit into one (the demo, a
/// test). `buckets` are upper bounds by name of the histogram.
///
/// # Errors
/// An empty list of buckets.
pub fn recorder(buckets: &[(&str, &[f64])]) -> Result<PrometheusRecorder, BuildError> {
    let mut builder = PrometheusBuilder::new();
    for (name, bounds) in buckets {
        builder = builder.set_buckets_for_metric(Matcher::Full((*name).into()), bounds)?;
    }
    Ok(builder.build_recorder())
}
