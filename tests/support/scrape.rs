//! The admin port, read by a client of twenty lines: HTTP/1.1 GET and Prometheus text.

use std::{collections::BTreeMap, net::SocketAddr};

use anyhow::Context as _;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

/// Status code and body of `path`.
///
/// # Errors
/// Nobody listens, or what comes is no HTTP answer.
pub async fn get(address: SocketAddr, path: &str) -> anyhow::Result<(u16, String)> {
    let mut stream = TcpStream::connect(address).await?;
    let request = format!("GET {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    let (head, body) = answer.split_once("\r\n\r\n").with_context(|| format!("no end of headers in {answer:?}"))?;
    let code = head.split(' ').nth(1).and_then(|code| code.parse().ok()).with_context(|| head.to_owned())?;
    Ok((code, body.to_owned()))
}

/// What `/metrics` said.
#[derive(Debug)]
pub struct Scrape(Vec<Sample>);

/// One line.
#[derive(Debug)]
pub struct Sample {
    /// With its suffix: `_bucket`, `_count`, `_sum`.
    pub name: String,
    /// By name.
    pub labels: BTreeMap<String, String>,
    /// As it is.
    pub value: f64,
}

impl Scrape {
    /// Asks `address`.
    ///
    /// # Panics
    /// As [`Self::try_of`] fails.
    pub async fn of(address: SocketAddr) -> Self {
        Self::try_of(address).await.expect("the admin port answers")
    }

    /// The same, where nobody may answer.
    ///
    /// # Errors
    /// Nobody listens, or what comes are no metrics.
    pub async fn try_of(address: SocketAddr) -> anyhow::Result<Self> {
        let (code, text) = get(address, "/metrics").await?;
        anyhow::ensure!(code == 200, "{code} {text}");
        Ok(Self(text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')).map(sample).collect()))
    }

    /// Every series.
    pub fn samples(&self) -> &[Sample] {
        &self.0
    }

    /// The sum over the series of `name` that have `labels`; 0 without any.
    pub fn sum(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let matches = |sample: &&Sample| {
            sample.name == name
                && labels.iter().all(|(label, value)| sample.labels.get(*label).is_some_and(|it| it == value))
        };
        self.0.iter().filter(matches).map(|sample| sample.value).sum()
    }
}

/// `name{label="value",...} number`; none of our label values has a quote or a comma in it.
fn sample(line: &str) -> Sample {
    let (series, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("no sample: {line}"));
    let (name, labels) = series.split_once('{').unwrap_or((series, "}"));
    let labels = labels.trim_end_matches('}').split(',').filter_map(|pair| pair.split_once('='));
    Sample {
        name: name.to_owned(),
        labels: labels.map(|(label, value)| (label.to_owned(), value.trim_matches('"').to_owned())).collect(),
        value: value.parse().unwrap_or_else(|error| panic!("{line}: {error}")),
    }
}
