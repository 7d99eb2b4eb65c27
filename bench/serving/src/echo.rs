//! The least that a gRPC server in Rust can do: tonic as it comes, on one thread, which decodes a request and answers it
//! with an answer of the usual size. Nothing is looked at, checked, predicted, counted or copied.

use tonic::{Request, Response, Status, transport::Server};
use understudy::inference::{
    ModelInferRequest, ModelInferResponse, ModelMetadataRequest, ModelMetadataResponse, ModelReadyRequest,
    ModelReadyResponse, ServerLiveRequest, ServerLiveResponse, ServerMetadataRequest, ServerMetadataResponse,
    ServerReadyRequest, ServerReadyResponse,
    grpc_inference_service_server::{GrpcInferenceService, GrpcInferenceServiceServer},
    model_infer_response::InferOutputTensor,
};

struct Echo;

fn output(name: &str, datatype: &str, shape: Vec<i64>) -> InferOutputTensor {
    InferOutputTensor { name: name.into(), datatype: datatype.into(), shape, ..Default::default() }
}

#[tonic::async_trait]
impl GrpcInferenceService for Echo {
    async fn model_infer(&self, request: Request<ModelInferRequest>) -> Result<Response<ModelInferResponse>, Status> {
        let request = request.into_inner();
        let rows = request.inputs.first().and_then(|input| input.shape.first()).copied().unwrap_or(1);
        let text = |bytes: usize| vec![0_u8; (4 + bytes) * rows as usize].into();
        Ok(Response::new(ModelInferResponse {
            model_name: request.model_name,
            model_version: "1".into(),
            id: request.id,
            outputs: vec![
                output("label", "BYTES", vec![rows]),
                output("probabilities", "FP64", vec![rows, 2]),
                output("prediction_id", "BYTES", vec![rows]),
            ],
            raw_output_contents: vec![text(5), vec![0; 16 * rows as usize].into(), text(32)],
            ..Default::default()
        }))
    }

    async fn server_live(&self, _: Request<ServerLiveRequest>) -> Result<Response<ServerLiveResponse>, Status> {
        Ok(Response::new(ServerLiveResponse { live: true }))
    }

    async fn server_ready(&self, _: Request<ServerReadyRequest>) -> Result<Response<ServerReadyResponse>, Status> {
        Ok(Response::new(ServerReadyResponse { ready: true }))
    }

    async fn model_ready(&self, _: Request<ModelReadyRequest>) -> Result<Response<ModelReadyResponse>, Status> {
        Ok(Response::new(ModelReadyResponse { ready: true }))
    }

    async fn server_metadata(
        &self,
        _: Request<ServerMetadataRequest>,
    ) -> Result<Response<ServerMetadataResponse>, Status> {
        Ok(Response::new(ServerMetadataResponse::default()))
    }

    async fn model_metadata(
        &self,
        _: Request<ModelMetadataRequest>,
    ) -> Result<Response<ModelMetadataResponse>, Status> {
        Ok(Response::new(ModelMetadataResponse::default()))
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let address = std::env::args().nth(1).ok_or("usage: echo IP:PORT")?.parse()?;
    Server::builder().add_service(GrpcInferenceServiceServer::new(Echo)).serve(address).await?;
    Ok(())
}
