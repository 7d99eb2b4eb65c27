//! Which call goes where: the two that predict take the short way, everything else is a tonic service.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Instant,
};

use tonic::service::{Routes, RoutesBuilder};
use understudy::{
    DESCRIPTORS, MARKER,
    edge::{self, Body, Gate, Inbound, Peer, Turn},
    health::Registry,
    identity::{Identity, Role},
    inference::grpc_inference_service_server::GrpcInferenceServiceServer,
    shutdown::Phases,
    v1::tap_service_server::TapServiceServer,
};

use crate::{metrics::Metrics, predict::Predictor};

mod inference;
mod tap;

const MODEL_INFER: &str = "/inference.GRPCInferenceService/ModelInfer";
const PREDICT: &str = "/understudy.v1.PredictionService/Predict";

/// What reflection and the readiness name tell.
pub const INFERENCE: &str = "inference.GRPCInferenceService";
const PREDICTION: &str = "understudy.v1.PredictionService";
const TAP: &str = "understudy.v1.TapService";
const HEALTH: &str = "grpc.health.v1.Health";

/// What stands behind the server's edge. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Front(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    predictor: Arc<Predictor>,
    gate: Gate,
    identity: Identity,
    metrics: Arc<Metrics>,
    routes: Routes,
    /// Whether it was said that a mark is not believed: once is enough.
    disbelieved: AtomicBool,
}

impl Front {
    /// All services of the server.
    ///
    /// # Errors
    /// The descriptors can't be read by reflection: the build is broken.
    pub fn new(
        predictor: &Arc<Predictor>,
        gate: Gate,
        metrics: &Arc<Metrics>,
        health: &Registry,
        identity: Identity,
        phases: &Phases,
    ) -> Result<Self, tonic_reflection::server::Error> {
        let mut exposed = vec![INFERENCE, PREDICTION, HEALTH];
        if !identity.is_off(Role::Observer) {
            exposed.push(TAP);
        }
        let mut routes = RoutesBuilder::default();
        let limit = predictor.messages.request;
        routes.add_service(health.service().max_decoding_message_size(limit));
        let inference = inference::Service::new(predictor.models.clone(), health.clone());
        routes.add_service(GrpcInferenceServiceServer::new(inference).max_decoding_message_size(limit));
        let tap = tap::Service::new(predictor.clone(), phases.clone());
        routes.add_service(TapServiceServer::new(tap).max_decoding_message_size(limit));
        let reflection = || {
            let builder = tonic_reflection::server::Builder::configure()
                .register_encoded_file_descriptor_set(DESCRIPTORS)
                .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET);
            exposed.iter().fold(builder, |builder, name| builder.with_service_name(*name))
        };
        routes.add_service(reflection().build_v1()?);
        routes.add_service(reflection().build_v1alpha()?);
        let (predictor, metrics, routes) = (predictor.clone(), metrics.clone(), routes.routes().prepare());
        let disbelieved = AtomicBool::new(false);
        Ok(Self(Arc::new(Inner { predictor, gate, identity, metrics, routes, disbelieved })))
    }
}

impl edge::Front for Front {
    async fn call(&self, mut request: http::Request<Inbound>, peer: Peer, turn: Turn) -> http::Response<Body> {
        let started = Instant::now();
        let Inner { predictor, gate, identity, metrics, routes, disbelieved } = &*self.0;
        let path = request.uri().path();
        let caller = match identity.admit(path, request.headers(), &peer) {
            Ok(caller) => caller,
            Err(status) => {
                let status = gate.admission.denied(&peer).err().unwrap_or(status);
                metrics.method(path).ended(status.code(), started);
                return edge::denied(&request, &status);
            }
        };
        if matches!(path, MODEL_INFER | PREDICT) && !identity.believes(&caller, &peer) {
            let was_marked = request.headers_mut().remove(MARKER).is_some();
            if was_marked && !disbelieved.swap(true, Ordering::Relaxed) {
                tracing::warn!(
                    "calls come with {MARKER} from a caller that may not observe: they are rehearsed all the same; a sidecar \
                     that asks this server needs the role observer, or the Unix socket or loopback where there is no identity"
                );
            }
        }
        let path = request.uri().path();
        let from = &peer;
        let client = || caller.client(from);
        match path {
            MODEL_INFER => {
                let (response, code) =
                    edge::unary(request, gate, client, turn, |call, turn| predictor.infer(call, turn)).await;
                metrics.method(MODEL_INFER).ended(code, started);
                response
            }
            PREDICT => {
                let (response, code) =
                    edge::unary(request, gate, client, turn, |call, turn| predictor.predict(call, turn)).await;
                metrics.method(PREDICT).ended(code, started);
                response
            }
            _ => {
                let method = metrics.method(path).clone();
                edge::routed(routes.clone(), request, peer.clone(), client, gate, turn, move |code| {
                    method.ended(code, started);
                })
                .await
            }
        }
    }

    fn token<'a>(&self, headers: &'a http::HeaderMap) -> Option<&'a [u8]> {
        self.0.identity.token(headers)
    }
}
