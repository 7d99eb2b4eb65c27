//! Logs and the Prometheus recorder, the same for both processes.

use std::{panic::Location, str::FromStr};

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
        panicked(panic.payload_as_str().unwrap_or("no message"), panic.location());
    }));
}

/// `panic`, because `message` is the name of an event's own text.
fn panicked(panic: &str, location: Option<&Location<'_>>) {
    let place = location.map(ToString::to_string);
    tracing::error!(panic, place, thread = std::thread::current().name(), "a bug: panicked");
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

#[cfg(test)]
mod tests {
    use std::{
        io::{self, Write},
        sync::{Arc, Mutex},
    };

    use super::*;

    #[derive(Clone, Default)]
    struct Log(Arc<Mutex<Vec<u8>>>);

    impl Write for Log {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().expect("no panic").write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// P46: a name that is there twice makes the line no object that every reader takes.
    #[test]
    fn a_panic_is_one_object_with_each_name_once() {
        let log = Log::default();
        let writer = log.clone();
        let layer = fmt::layer().json().flatten_event(true).with_writer(move || writer.clone());
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), || {
            panicked("index out of bounds", Some(Location::caller()));
        });
        let line = String::from_utf8(log.0.lock().expect("no panic").clone()).expect("text");
        let object: serde_json::Value = serde_json::from_str(&line).expect("JSON");
        assert_eq!((&object["message"], &object["panic"]), (&"a bug: panicked".into(), &"index out of bounds".into()));
        for name in ["message", "panic", "place", "thread"] {
            assert_eq!(line.matches(&format!("\"{name}\":")).count(), 1, "{line}");
        }
    }
}
