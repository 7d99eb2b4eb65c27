//! A server on free ports, in this process.

use std::{net::SocketAddr, path::Path, time::Instant};

use server::{Server, Settings, StartError};
use tempfile::TempDir;
use tonic::transport::{Channel, Endpoint};
use tonic_health::pb::health_client::HealthClient;
use understudy::{
    inference::grpc_inference_service_client::GrpcInferenceServiceClient,
    v1::{prediction_service_client::PredictionServiceClient, tap_service_client::TapServiceClient},
};

use crate::{examples, grpc::Connection, scrape::Scrape};

/// A server that serves `examples/models/adult` unless told otherwise. Dropping it ends it at once.
#[derive(Debug)]
pub struct Primary {
    server: Server,
    grpc: SocketAddr,
    admin: SocketAddr,
    channel: Channel,
    /// Holds the Unix socket.
    directory: TempDir,
}

/// Settings for a test: free ports on loopback, a socket in `directory`, no delay before the drain.
pub fn settings(directory: &Path) -> Settings {
    Settings {
        models: Some(vec![examples().join("models/adult")]),
        grpc_listen: Some("127.0.0.1:0".into()),
        admin_listen: Some("127.0.0.1:0".into()),
        unix_socket: Some(directory.join("grpc.sock").to_string_lossy().into()),
        workers: Some(2),
        compute_threads: Some(1),
        drain_delay: Some("0s".into()),
        drain_timeout: Some("5s".into()),
        // A busy machine is no overload; who tests overload says so.
        queue_wait: Some("30s".into()),
        ..Settings::default()
    }
}

impl Primary {
    /// As the settings above have it.
    pub async fn start() -> Self {
        Self::with(|_| {}).await
    }

    /// With other settings.
    pub async fn with(change: impl FnOnce(&mut Settings)) -> Self {
        Self::try_with(change).await.expect("the server starts")
    }

    /// With settings that may keep it from starting.
    ///
    /// # Errors
    /// As [`Server::start`].
    pub async fn try_with(change: impl FnOnce(&mut Settings)) -> Result<Self, StartError> {
        let directory = tempfile::tempdir().expect("a directory");
        let mut settings = settings(directory.path());
        change(&mut settings);
        let server = Server::start(settings.validate().expect("valid settings")).await?;
        let grpc = server.addresses().grpc.parse().expect("an address");
        let admin = server.addresses().admin.parse().expect("an address");
        let channel = endpoint(&format!("http://{grpc}")).connect_lazy();
        Ok(Self { server, grpc, admin, channel, directory })
    }

    /// Where gRPC is served.
    pub fn grpc(&self) -> SocketAddr {
        self.grpc
    }

    /// Where metrics and health are served over HTTP.
    pub fn admin(&self) -> SocketAddr {
        self.admin
    }

    /// `http://IP:PORT` of gRPC.
    pub fn url(&self) -> String {
        format!("http://{}", self.grpc)
    }

    /// `unix:PATH` of gRPC.
    pub fn unix_url(&self) -> String {
        format!("unix:{}", self.directory.path().join("grpc.sock").display())
    }

    /// The one connection that the clients below share.
    pub fn channel(&self) -> Channel {
        self.channel.clone()
    }

    /// A connection of its own over the Unix socket.
    pub fn unix_channel(&self) -> Channel {
        endpoint(&self.unix_url()).connect_lazy()
    }

    /// A connection of its own for calls that are none.
    pub async fn connect(&self) -> Connection {
        Connection::open(self.grpc).await
    }

    /// The Open Inference Protocol.
    pub fn inference(&self) -> GrpcInferenceServiceClient<Channel> {
        GrpcInferenceServiceClient::new(self.channel())
    }

    /// Our own protocol.
    pub fn prediction(&self) -> PredictionServiceClient<Channel> {
        PredictionServiceClient::new(self.channel())
    }

    /// The copy.
    pub fn tap(&self) -> TapServiceClient<Channel> {
        TapServiceClient::new(self.channel())
    }

    /// `grpc.health.v1`.
    pub fn health(&self) -> HealthClient<Channel> {
        HealthClient::new(self.channel())
    }

    /// What `/metrics` says now.
    pub async fn scrape(&self) -> Scrape {
        Scrape::of(self.admin).await
    }

    /// Drains it; how long that took, in seconds.
    pub async fn drain(self) -> f64 {
        let started = Instant::now();
        self.server.drain().await;
        started.elapsed().as_secs_f64()
    }
}

/// Where a client connects to.
pub fn endpoint(url: &str) -> Endpoint {
    Endpoint::from_shared(url.to_owned()).expect("a URL")
}
