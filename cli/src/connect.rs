//! An address becomes a channel, a status an error for people.

use std::{path::PathBuf, time::Duration};

use anyhow::{Context as _, bail};
use tonic::{
    Code, Status,
    service::interceptor::InterceptedService,
    transport::{Channel, Endpoint},
};
use tonic_types::StatusExt as _;
use understudy::{
    identity::credentials::{Bearer, Credentials},
    status,
};

use crate::words::shown;

/// On one machine a connection takes microseconds, across the world under a second.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// A connection, and the token on each of its calls.
pub(crate) type Service = InterceptedService<Channel, Bearer>;

/// What is shown to the other side
#[derive(Clone, Debug, Default, clap::Args)]
pub(crate) struct Shown {
    /// Who vouches for an https:// address (PEM) [default: the authorities of the system]
    #[arg(long, env = "UNDERSTUDY_CA", value_name = "FILE")]
    ca: Option<PathBuf>,
    /// The certificate that is shown to it (PEM)
    #[arg(long, env = "UNDERSTUDY_CERT", value_name = "FILE", requires = "key")]
    cert: Option<PathBuf>,
    /// Its private key (PEM)
    #[arg(long, env = "UNDERSTUDY_KEY", value_name = "FILE", requires = "cert")]
    key: Option<PathBuf>,
    /// A file with the token that is sent to it
    #[arg(long, env = "UNDERSTUDY_TOKEN_FILE", value_name = "FILE")]
    token_file: Option<PathBuf>,
}

impl Shown {
    /// Connects to `HOST:PORT`, `http://HOST:PORT`, `https://HOST:PORT` or `unix:PATH`.
    ///
    /// # Errors
    /// It is no such address, nobody listens there, or a file can't be used.
    pub(crate) async fn connect(&self, address: &str) -> anyhow::Result<Service> {
        self.connect_as(address, None).await
    }

    /// The same, where `address` is one of those that `name` stands for: a certificate must be for that name.
    ///
    /// # Errors
    /// As [`Self::connect`].
    pub(crate) async fn connect_as(&self, address: &str, name: Option<&str>) -> anyhow::Result<Service> {
        let Self { ca, cert, key, token_file } = self.clone();
        let credentials = Credentials { ca, certificate: cert, key, token: token_file };
        let bearer = credentials.bearer().map_err(anyhow::Error::msg)?;
        let dialer = credentials.dialer_as(&url(address)?, name).map_err(anyhow::Error::msg)?;
        let channel = dialer.connect_timeout(CONNECT_TIMEOUT).connect().await;
        Ok(InterceptedService::new(channel.with_context(|| format!("can't connect to {address}"))?, bearer))
    }
}

/// Connects, showing nothing.
///
/// # Errors
/// It is no address, or nobody listens there.
pub(crate) async fn connect(address: &str) -> anyhow::Result<Channel> {
    let dialer = Credentials::default().dialer(&url(address)?).map_err(anyhow::Error::msg)?;
    let connected = dialer.connect_timeout(CONNECT_TIMEOUT).connect().await;
    connected.with_context(|| format!("can't connect to {address}"))
}

fn url(address: &str) -> anyhow::Result<String> {
    const EXPECTED: &str = "expected HOST:PORT, http://HOST:PORT, https://HOST:PORT or unix:PATH";
    let url = match address.split_once("://") {
        _ if address.starts_with("unix:") => address.to_owned(),
        None => format!("http://{address}"),
        Some(("http" | "https", _)) => address.to_owned(),
        Some(_) => bail!("{address}: {EXPECTED}"),
    };
    Endpoint::from_shared(url.clone()).with_context(|| format!("{address}: {EXPECTED}"))?;
    Ok(url)
}

/// The error of a call: code and message, then one line for each field that is wrong. `first` is the row with which the
/// request began, so that the rows are those of the input.
pub(crate) fn failed(status: &Status, first: usize) -> anyhow::Error {
    let details = status.get_details_bad_request();
    let message = match (status.message(), &details, first) {
        ("", ..) if status.code() == Code::Unimplemented => "nobody there offers this service".into(),
        // What the message says of rows counts from the beginning of the request.
        (_, Some(_), 1..) => format!("in the request that begins with row {first}"),
        (message, ..) => shown(message),
    };
    let mut lines = vec![format!("{}: {message}", status::name(status.code()))];
    lines.extend(
        details.iter().flat_map(|bad| &bad.field_violations).map(|violation| {
            format!("  {}: {}", shown(&moved(&violation.field, first)), shown(&violation.description))
        }),
    );
    anyhow::Error::msg(lines.join("\n"))
}

/// `rows[3].age` of a request that began with row 100 is `rows[103].age`.
fn moved(field: &str, first: usize) -> String {
    let parsed = field.strip_prefix("rows[").and_then(|rest| rest.split_once(']'));
    match parsed.and_then(|(row, rest)| Some((row.parse::<usize>().ok()?, rest))) {
        Some((row, rest)) => format!("rows[{}]{rest}", row + first),
        None => field.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use tonic_types::{ErrorDetails, FieldViolation};

    use super::*;

    #[test]
    fn addresses_of_every_kind_are_taken() {
        for address in ["localhost:8001", "127.0.0.1:8001", "[::1]:8001", "http://x:1", "https://x:1", "unix:/tmp/x"] {
            assert!(url(address).is_ok(), "{address}");
        }
        for address in ["ftp://x:1", "a b:1"] {
            assert!(url(address).is_err(), "{address}");
        }
    }

    #[test]
    fn a_status_is_shown_with_its_fields() {
        let details = ErrorDetails::with_bad_request(vec![FieldViolation::new("rows[3].age", "expected a number")]);
        let status = Status::with_error_details(Code::InvalidArgument, "1 value", details);
        assert_eq!(failed(&status, 0).to_string(), "INVALID_ARGUMENT: 1 value\n  rows[3].age: expected a number");
        let later = "INVALID_ARGUMENT: in the request that begins with row 100\n  rows[103].age: expected a number";
        assert_eq!(failed(&status, 100).to_string(), later);
        assert_eq!(failed(&Status::unavailable("not yet"), 7).to_string(), "UNAVAILABLE: not yet");
        let unknown = Status::unimplemented("");
        assert_eq!(failed(&unknown, 0).to_string(), "UNIMPLEMENTED: nobody there offers this service");
    }
}
