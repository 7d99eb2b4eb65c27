//! The methods of the Open Inference Protocol that only tell. `ModelInfer` never comes here: [`super::Front`] takes it.

use std::sync::Arc;

use model::Schema;
use tonic::{Request, Response, Status};
use understudy::{
    VERSION,
    encode::{answer, datatype},
    health::Registry,
    inference::{
        ModelMetadataRequest, ModelMetadataResponse, ModelReadyRequest, ModelReadyResponse, ServerLiveRequest,
        ServerLiveResponse, ServerMetadataRequest, ServerMetadataResponse, ServerReadyRequest, ServerReadyResponse,
        grpc_inference_service_server::GrpcInferenceService, model_metadata_response::TensorMetadata,
    },
};

use crate::models::Models;

#[derive(Debug)]
pub(super) struct Service {
    models: Arc<Models>,
    health: Registry,
}

impl Service {
    pub(super) fn new(models: Arc<Models>, health: Registry) -> Self {
        Self { models, health }
    }
}

#[tonic::async_trait]
impl GrpcInferenceService for Service {
    async fn server_live(&self, _: Request<ServerLiveRequest>) -> Result<Response<ServerLiveResponse>, Status> {
        Ok(Response::new(ServerLiveResponse { live: self.health.serving("liveness") == Some(true) }))
    }

    async fn server_ready(&self, _: Request<ServerReadyRequest>) -> Result<Response<ServerReadyResponse>, Status> {
        Ok(Response::new(ServerReadyResponse { ready: self.health.serving("") == Some(true) }))
    }

    async fn model_ready(&self, request: Request<ModelReadyRequest>) -> Result<Response<ModelReadyResponse>, Status> {
        let ModelReadyRequest { name, version } = request.into_inner();
        let served = self.models.known(&name, &version, true)?;
        // While draining, no model is ready.
        let ready = served.is_ready() && self.health.serving(&format!("model/{name}")) == Some(true);
        Ok(Response::new(ModelReadyResponse { ready }))
    }

    async fn server_metadata(
        &self,
        _: Request<ServerMetadataRequest>,
    ) -> Result<Response<ServerMetadataResponse>, Status> {
        Ok(Response::new(ServerMetadataResponse {
            name: "understudy".into(),
            version: VERSION.into(),
            extensions: vec!["binary_tensor_data".into(), "parameters".into()],
        }))
    }

    async fn model_metadata(
        &self,
        request: Request<ModelMetadataRequest>,
    ) -> Result<Response<ModelMetadataResponse>, Status> {
        let ModelMetadataRequest { name, version } = request.into_inner();
        let served = self.models.known(&name, &version, true)?;
        let model = &served.model;
        Ok(Response::new(ModelMetadataResponse {
            name: model.name().into(),
            versions: self.models.versions(model.name()),
            platform: "understudy".into(),
            inputs: inputs(model.schema()),
            outputs: answer::metadata(model),
        }))
    }
}

fn inputs(schema: &Schema) -> Vec<TensorMetadata> {
    let input = |feature: &model::Feature| TensorMetadata {
        name: feature.name().into(),
        datatype: datatype(feature).into(),
        shape: vec![-1],
    };
    schema.features().iter().map(input).collect()
}
