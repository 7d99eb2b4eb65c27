//! Where the collector is, by the settings and the standard variables. The way there over TLS is ours, so that its authority may
//! be a private one, and files are read again when they change; in plain text the SDK finds it by itself.

use std::{env, fmt};

use anyhow::bail;
use tonic::transport::Channel;
use understudy::identity::credentials::Credentials;

use crate::config::Config;

/// What is sent; each may have a collector of its own.
#[derive(Clone, Copy, Debug)]
pub(super) enum Signal {
    Metrics,
    Logs,
}

impl fmt::Display for Signal {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Metrics => "METRICS",
            Self::Logs => "LOGS",
        })
    }
}

/// The standard variable of the signal, else the one of all signals.
fn variable(signal: Signal, name: &str) -> Option<String> {
    let of = |variable: String| env::var(variable).ok().filter(|value| !value.is_empty());
    of(format!("OTEL_EXPORTER_OTLP_{signal}_{name}")).or_else(|| of(format!("OTEL_EXPORTER_OTLP_{name}")))
}

fn endpoint(config: &Config, signal: Signal) -> Option<String> {
    config.otlp_endpoint.clone().or_else(|| variable(signal, "ENDPOINT"))
}

/// Whether the setting or the standard variables name a collector.
pub(super) fn is_named(config: &Config, signal: Signal) -> bool {
    let off = env::var("OTEL_SDK_DISABLED").is_ok_and(|value| value.eq_ignore_ascii_case("true"));
    !off && endpoint(config, signal).is_some()
}

/// The way to a collector that speaks TLS; nothing for one that does not. Must run on a tokio runtime.
///
/// # Errors
/// It is no address, or a file can't be read or used.
pub(super) fn encrypted(config: &Config, signal: Signal) -> anyhow::Result<Option<Channel>> {
    let Some(endpoint) = endpoint(config, signal) else { return Ok(None) };
    let insecure = || variable(signal, "INSECURE").is_some_and(|value| value.eq_ignore_ascii_case("true"));
    let url = match endpoint.split_once("://") {
        Some(("https", _)) => endpoint,
        // As the specification has it.
        None if !endpoint.starts_with("unix:") && !insecure() => format!("https://{endpoint}"),
        _ => return Ok(None),
    };
    let set = config.otlp_credentials.clone();
    let (certificate, key) = if set.certificate.is_some() {
        (set.certificate, set.key)
    } else {
        let file = |name| variable(signal, name).map(Into::into);
        (file("CLIENT_CERTIFICATE"), file("CLIENT_KEY"))
    };
    if certificate.is_some() != key.is_some() {
        bail!("otlp: expected OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE and _CLIENT_KEY together, got one of them");
    }
    let ca = set.ca.or_else(|| variable(signal, "CERTIFICATE").map(Into::into));
    let dialer = Credentials { ca, certificate, key, token: None }.dialer(&url);
    Ok(Some(dialer.map_err(|error| anyhow::anyhow!("otlp: {error}"))?.connect_lazy()))
}
