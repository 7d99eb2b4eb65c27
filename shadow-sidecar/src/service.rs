//! `understudy.v1.ShadowService`, and the front that stands behind the sidecar's edge.

use std::{sync::Arc, time::Duration};

use hyper::body::Incoming;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{
    Request, Response, Status,
    codegen::BoxStream,
    service::{Routes, RoutesBuilder},
};
use understudy::{
    DESCRIPTORS,
    edge::{self, Body, Gate, MessageLimits, Peer},
    health::Registry,
    identity::Identity,
    shutdown::{Phase, Phases},
    v1::{
        GetReportRequest, Report, StartEpochRequest, StartEpochResponse, WatchReportRequest,
        shadow_service_server::{ShadowService, ShadowServiceServer},
    },
};

use crate::{rehearsal::Rehearsal, report};

/// Between two reports of a watch, where the caller does not say.
const INTERVAL: Duration = Duration::from_secs(1);
/// Requests are small; reports are streams of small messages.
pub(crate) const MESSAGES: MessageLimits =
    MessageLimits { request: 1 << 20, response: 16 << 20, time: Duration::from_secs(30) };
/// The shortest that a caller may ask for.
const SHORTEST: Duration = Duration::from_millis(100);

#[derive(Debug)]
struct Service {
    rehearsal: Arc<Rehearsal>,
    phases: Phases,
}

#[tonic::async_trait]
impl ShadowService for Service {
    async fn get_report(&self, _: Request<GetReportRequest>) -> Result<Response<Report>, Status> {
        Ok(Response::new(report::report(&self.rehearsal)))
    }

    async fn watch_report(&self, request: Request<WatchReportRequest>) -> Result<Response<BoxStream<Report>>, Status> {
        let interval = match request.into_inner().interval_millis {
            0 => INTERVAL,
            millis => Duration::from_millis(millis.into()).max(SHORTEST),
        };
        let (rehearsal, phases) = (self.rehearsal.clone(), self.phases.clone());
        let (send, receive) = mpsc::channel(1);
        tokio::spawn(async move {
            let mut ticks = tokio::time::interval(interval);
            let mut last = Report::default();
            loop {
                tokio::select! {
                    _ = ticks.tick() => {}
                    () = send.closed() => return,
                    () = phases.reached(Phase::Closing) => {
                        // An error means that the caller has gone, too.
                        drop(send.send(Err(Status::unavailable("shutting down"))).await);
                        return;
                    }
                }
                let now = report::report(&rehearsal);
                last.generated_unix_nanos = now.generated_unix_nanos;
                if now != last {
                    last = now.clone();
                    if send.send(Ok(now)).await.is_err() {
                        return;
                    }
                }
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(receive))))
    }

    async fn start_epoch(&self, request: Request<StartEpochRequest>) -> Result<Response<StartEpochResponse>, Status> {
        let reason = request.into_inner().reason;
        let local = |error: anyhow::Error| Status::failed_precondition(error.to_string());
        self.rehearsal.restart().map_err(local)?;
        tracing::warn!(reason = %reason.chars().take(256).collect::<String>().escape_debug(), "an epoch was begun by hand");
        let epoch = self.rehearsal.epoch().map(|epoch| report::describe(&self.rehearsal, &epoch));
        Ok(Response::new(StartEpochResponse { epoch }))
    }
}

/// What stands behind the sidecar's edge. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Front {
    routes: Routes,
    gate: Gate,
    identity: Arc<Identity>,
}

impl Front {
    pub(crate) fn new(
        rehearsal: &Arc<Rehearsal>,
        gate: Gate,
        identity: Identity,
        health: &Registry,
        phases: &Phases,
    ) -> Result<Self, tonic_reflection::server::Error> {
        let service = Service { rehearsal: rehearsal.clone(), phases: phases.clone() };
        let reflection = || {
            tonic_reflection::server::Builder::configure()
                .register_encoded_file_descriptor_set(DESCRIPTORS)
                .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
                .with_service_name("understudy.v1.ShadowService")
                .with_service_name("grpc.health.v1.Health")
        };
        let mut routes = RoutesBuilder::default();
        routes
            .add_service(health.service())
            .add_service(ShadowServiceServer::new(service))
            .add_service(reflection().build_v1()?)
            .add_service(reflection().build_v1alpha()?);
        Ok(Self { routes: routes.routes().prepare(), gate, identity: Arc::new(identity) })
    }
}

impl edge::Front for Front {
    async fn call(&self, request: http::Request<Incoming>, peer: Peer) -> http::Response<Body> {
        let caller = match self.identity.admit(request.uri().path(), request.headers(), &peer) {
            Ok(caller) => caller,
            Err(status) => return edge::denied(&request, &status),
        };
        let client = || caller.client(&peer);
        edge::routed(self.routes.clone(), request, peer.clone(), client, &self.gate, |_| {}).await
    }
}
