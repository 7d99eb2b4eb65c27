//! Which call goes where: the two that predict take the short way, everything else is a tonic service.

use std::{sync::Arc, time::Instant};

use hyper::body::Incoming;
use tonic::service::{Routes, RoutesBuilder};
use understudy::{
    DESCRIPTORS,
    edge::{self, Body, Client, Gate, Peer},
    health::Registry,
    inference::grpc_inference_service_server::GrpcInferenceServiceServer,
    shutdown::Phases,
    v1::tap_service_server::TapServiceServer,
};

use crate::{config::TapAccess, metrics::Metrics, predict::Predictor};

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
    metrics: Arc<Metrics>,
    routes: Routes,
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
        tap: TapAccess,
        phases: &Phases,
    ) -> Result<Self, tonic_reflection::server::Error> {
        let mut exposed = vec![INFERENCE, PREDICTION, HEALTH];
        let mut routes = RoutesBuilder::default();
        let limit = predictor.messages.request;
        routes.add_service(health.service().max_decoding_message_size(limit));
        let inference = inference::Service::new(predictor.models.clone(), health.clone());
        routes.add_service(GrpcInferenceServiceServer::new(inference).max_decoding_message_size(limit));
        if tap != TapAccess::Off {
            exposed.push(TAP);
            let service = tap::Service::new(predictor.clone(), tap, phases.clone());
            routes.add_service(TapServiceServer::new(service).max_decoding_message_size(limit));
        }
        let reflection = || {
            let builder = tonic_reflection::server::Builder::configure()
                .register_encoded_file_descriptor_set(DESCRIPTORS)
                .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET);
            exposed.iter().fold(builder, |builder, name| builder.with_service_name(*name))
        };
        routes.add_service(reflection().build_v1()?);
        routes.add_service(reflection().build_v1alpha()?);
        let inner =
            Inner { predictor: predictor.clone(), gate, metrics: metrics.clone(), routes: routes.routes().prepare() };
        Ok(Self(Arc::new(inner)))
    }
}

impl edge::Front for Front {
    async fn call(&self, request: http::Request<Incoming>, peer: Peer) -> http::Response<Body> {
        let started = Instant::now();
        let Inner { predictor, gate, metrics, routes } = &*self.0;
        let client = || Client::from(&peer);
        let path = request.uri().path();
        match path {
            MODEL_INFER => {
                let (response, code) = edge::unary(request, gate, client, |call| predictor.infer(call)).await;
                metrics.method(MODEL_INFER).ended(code, started);
                response
            }
            PREDICT => {
                let (response, code) = edge::unary(request, gate, client, |call| predictor.predict(call)).await;
                metrics.method(PREDICT).ended(code, started);
                response
            }
            _ => {
                let method = metrics.method(path).clone();
                edge::routed(routes.clone(), request, peer, client, gate, move |code| method.ended(code, started)).await
            }
        }
    }
}
