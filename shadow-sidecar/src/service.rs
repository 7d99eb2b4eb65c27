//! `understudy.v1.ShadowService`, and the front that stands behind the sidecar's edge.

use std::{sync::Arc, time::Duration};

use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{
    Request, Response, Status,
    codegen::BoxStream,
    service::{Routes, RoutesBuilder},
};
use understudy::{
    DESCRIPTORS,
    edge::{self, Body, Gate, Inbound, MessageLimits, Peer, Turn},
    health::Registry,
    identity::Identity,
    shutdown::{Phase, Phases},
    v1::{
        GetReportRequest, ListCandidatesRequest, ListCandidatesResponse, ListDisagreementsRequest,
        ListDisagreementsResponse, Report, StartEpochRequest, StartEpochResponse, WatchReportRequest,
        shadow_service_server::{ShadowService, ShadowServiceServer},
    },
};

use crate::{
    disagreements,
    intake::{mirror::Mirror, proxy::Proxy},
    pooling,
    rehearsal::Rehearsal,
    rehearsals::Rehearsals,
    report,
};

/// Between two reports of a watch, where the caller does not say.
const INTERVAL: Duration = Duration::from_secs(1);
/// Requests are small; reports are streams of small messages.
pub(crate) const MESSAGES: MessageLimits =
    MessageLimits { request: 1 << 20, response: 16 << 20, time: Duration::from_secs(30) };
/// The shortest that a caller may ask for.
const SHORTEST: Duration = Duration::from_millis(100);

#[derive(Debug)]
struct Service {
    rehearsals: Arc<Rehearsals>,
    phases: Phases,
}

impl Service {
    fn of(&self, candidate: &str) -> Result<Arc<Rehearsal>, Status> {
        let found = self.rehearsals.named(candidate).cloned();
        found
            .map_err(|text| if candidate.is_empty() { Status::invalid_argument(text) } else { Status::not_found(text) })
    }
}

#[tonic::async_trait]
impl ShadowService for Service {
    async fn get_report(&self, request: Request<GetReportRequest>) -> Result<Response<Report>, Status> {
        let GetReportRequest { candidate, counters } = request.into_inner();
        let rehearsal = self.of(&candidate)?;
        let counters = if counters { pooling::counters(&self.rehearsals, &rehearsal) } else { None };
        Ok(Response::new(Report { counters, ..report::report(&rehearsal) }))
    }

    async fn list_candidates(
        &self,
        _: Request<ListCandidatesRequest>,
    ) -> Result<Response<ListCandidatesResponse>, Status> {
        let candidates = self.rehearsals.all().iter().map(|rehearsal| report::brief(rehearsal)).collect();
        Ok(Response::new(ListCandidatesResponse { candidates }))
    }

    async fn watch_report(&self, request: Request<WatchReportRequest>) -> Result<Response<BoxStream<Report>>, Status> {
        let WatchReportRequest { interval_millis, candidate } = request.into_inner();
        let rehearsal = self.of(&candidate)?;
        let interval = match interval_millis {
            0 => INTERVAL,
            millis => Duration::from_millis(millis.into()).max(SHORTEST),
        };
        let phases = self.phases.clone();
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

    async fn list_disagreements(
        &self,
        request: Request<ListDisagreementsRequest>,
    ) -> Result<Response<ListDisagreementsResponse>, Status> {
        let request = request.into_inner();
        let rehearsal = self.of(&request.candidate)?;
        if rehearsal.disagreements.keep == 0 {
            return Err(Status::failed_precondition("none are kept: the setting disagreements is 0"));
        }
        disagreements::list(&rehearsal, &request).map(Response::new).map_err(Status::invalid_argument)
    }

    async fn start_epoch(&self, request: Request<StartEpochRequest>) -> Result<Response<StartEpochResponse>, Status> {
        let StartEpochRequest { reason, candidate } = request.into_inner();
        let rehearsal = self.of(&candidate)?;
        let local = |error: anyhow::Error| Status::failed_precondition(error.to_string());
        rehearsal.restart().map_err(local)?;
        tracing::warn!(reason = %reason.chars().take(256).collect::<String>().escape_debug(), "an epoch was begun by hand");
        let epoch = rehearsal.epoch().map(|epoch| report::describe(&rehearsal, &epoch));
        Ok(Response::new(StartEpochResponse { epoch }))
    }
}

/// What becomes of calls that are not for the sidecar itself.
#[derive(Clone, Debug)]
pub(crate) enum Way {
    /// They are answered as unknown.
    None,
    /// They are a mesh's copies.
    Mirror(Arc<Mirror>),
    /// They are on their way to the primary.
    Proxy(Arc<Proxy>),
}

/// The services that are the sidecar's own, also in the path of the calls.
const OWN: [&str; 1] = ["/understudy.v1.ShadowService/"];
/// Those that it has beside them; a proxy passes them on, because they ask for the primary.
const USUAL: [&str; 2] = ["/grpc.health.v1.Health/", "/grpc.reflection."];

/// What stands behind the sidecar's edge. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Front {
    routes: Routes,
    gate: Gate,
    identity: Arc<Identity>,
    way: Way,
}

impl Front {
    pub(crate) fn new(
        rehearsals: &Arc<Rehearsals>,
        gate: Gate,
        identity: Identity,
        way: Way,
        health: &Registry,
        phases: &Phases,
    ) -> Result<Self, tonic_reflection::server::Error> {
        let service = Service { rehearsals: rehearsals.clone(), phases: phases.clone() };
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
        Ok(Self { routes: routes.routes().prepare(), gate, identity: Arc::new(identity), way })
    }
}

impl edge::Front for Front {
    async fn call(&self, request: http::Request<Inbound>, peer: Peer, turn: Turn) -> http::Response<Body> {
        let is = |services: &[&str]| services.iter().any(|service| request.uri().path().starts_with(service));
        // Whether a client may call the primary is for the primary to say: a mirror only hears copies, a proxy passes calls on.
        match &self.way {
            Way::Mirror(mirror) if !is(&OWN) && !is(&USUAL) => return mirror.call(request, peer).await,
            Way::Proxy(proxy) if !is(&OWN) => return proxy.call(request).await,
            _ => {}
        }
        let caller = match self.identity.admit(request.uri().path(), request.headers(), &peer) {
            Ok(caller) => caller,
            Err(status) => return edge::denied(&request, &status),
        };
        let client = || caller.client(&peer);
        edge::routed(self.routes.clone(), request, peer.clone(), client, &self.gate, turn, |_| {}).await
    }

    fn token<'a>(&self, headers: &'a http::HeaderMap) -> Option<&'a [u8]> {
        self.identity.token(headers)
    }
}
