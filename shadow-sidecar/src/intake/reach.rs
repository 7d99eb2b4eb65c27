//! How the primary is reached: its address, what it must show, what we show.

use std::time::Duration;

use anyhow::Context as _;
use tonic::{
    service::interceptor::InterceptedService,
    transport::{Channel, Endpoint},
};
use understudy::identity::credentials::{Bearer, Credentials};

use crate::config::Config;

/// What the server's side of the connection must answer within.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// A connection on which every call shows our token, if there is one.
pub(super) type Line = InterceptedService<Channel, Bearer>;

/// The way to the primary. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Reach {
    /// `http(s)://HOST:PORT` or `unix:PATH`.
    pub(super) url: String,
    credentials: Credentials,
    bearer: Bearer,
}

impl Reach {
    /// As configured.
    ///
    /// # Errors
    /// The token's file can't be read.
    pub(crate) fn new(config: &Config) -> Result<Self, String> {
        let credentials = config.primary_credentials.clone();
        let bearer = credentials.bearer().map_err(|error| format!("primary-token-file: {error}"))?;
        Ok(Self { url: config.primary.clone(), credentials, bearer })
    }

    /// A connection for as long as it lasts. Certificates are read anew for each.
    pub(super) async fn connect(&self) -> anyhow::Result<Line> {
        let endpoint = self
            .endpoint()?
            .connect_timeout(CONNECT_TIMEOUT)
            .http2_keep_alive_interval(Duration::from_secs(10))
            .keep_alive_timeout(Duration::from_secs(10))
            .keep_alive_while_idle(true)
            .initial_connection_window_size(8 << 20)
            .initial_stream_window_size(4 << 20);
        let channel = endpoint.connect().await.context("can't connect")?;
        Ok(InterceptedService::new(channel, self.bearer.clone()))
    }

    /// A connection that is made when it is needed, and again.
    ///
    /// # Errors
    /// The address or a certificate can't be used.
    pub(super) fn lazy(&self, connect_timeout: Duration) -> anyhow::Result<Line> {
        let endpoint =
            self.endpoint()?.connect_timeout(connect_timeout).http2_keep_alive_interval(Duration::from_secs(30));
        Ok(InterceptedService::new(endpoint.connect_lazy(), self.bearer.clone()))
    }

    fn endpoint(&self) -> anyhow::Result<Endpoint> {
        self.credentials.endpoint(&self.url).map_err(anyhow::Error::msg)
    }
}
