//! How the primary is reached: its address, what it must show, what we show.

use std::time::Duration;

use tonic::{service::interceptor::InterceptedService, transport::Channel};
use understudy::{
    identity::{
        credentials::Bearer,
        dialer::{Connector, Dialer},
    },
    status::Chain,
};

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
    dialer: Dialer,
    bearer: Bearer,
}

impl Reach {
    /// As configured.
    ///
    /// # Errors
    /// A certificate's, a key's or the token's file can't be read or used.
    pub(crate) fn new(config: &Config) -> Result<Self, String> {
        let credentials = &config.primary_credentials;
        let dialer = credentials.dialer(&config.primary).map_err(|error| format!("primary: {error}"))?;
        let bearer = credentials.bearer().map_err(|error| format!("primary-token-file: {error}"))?;
        Ok(Self { url: config.primary.clone(), dialer, bearer })
    }

    /// A connection for as long as it lasts.
    pub(super) async fn connect(&self) -> anyhow::Result<Line> {
        let dialer = self.dialer.clone().connect_timeout(CONNECT_TIMEOUT).with(|endpoint| {
            endpoint
                .http2_keep_alive_interval(Duration::from_secs(10))
                .keep_alive_timeout(Duration::from_secs(10))
                .keep_alive_while_idle(true)
                .initial_connection_window_size(8 << 20)
                .initial_stream_window_size(4 << 20)
        });
        let channel = dialer.connect().await;
        let channel = channel.map_err(|error| anyhow::anyhow!("can't connect: {}", Chain(&error)))?;
        Ok(InterceptedService::new(channel, self.bearer.clone()))
    }

    /// A connection that is made when it is needed, and again.
    pub(super) fn lazy(&self, connect_timeout: Duration) -> Line {
        let dialer = self.dialer.clone().connect_timeout(connect_timeout);
        let dialer = dialer.with(|endpoint| endpoint.http2_keep_alive_interval(Duration::from_secs(30)));
        InterceptedService::new(dialer.connect_lazy(), self.bearer.clone())
    }

    /// The way to a TLS primary for whoever speaks HTTP/2 by itself; nothing where it is not to be TLS.
    pub(super) fn tls(&self) -> Option<&Connector> {
        self.dialer.connector()
    }
}
