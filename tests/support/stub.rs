//! A server of the Open Inference Protocol that answers as a test wants it to: a candidate that fails, hangs or lies.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::{net::TcpListener, task::JoinHandle};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status, metadata::MetadataMap, transport::Server};
use understudy::inference::{
    ModelInferRequest, ModelInferResponse, ModelMetadataRequest, ModelMetadataResponse,
    grpc_inference_service_server::{GrpcInferenceService, GrpcInferenceServiceServer},
};

/// A server on a free port.
#[derive(Debug)]
pub struct Stub {
    address: SocketAddr,
    asked: Arc<Mutex<Vec<(MetadataMap, ModelInferRequest)>>>,
    task: JoinHandle<()>,
}

impl Stub {
    /// Version 1 of whatever it is asked for; answers by `answer`, or never when that says `None`.
    pub async fn start<A>(answer: A) -> Self
    where
        A: Fn(&ModelInferRequest) -> Option<Result<ModelInferResponse, Status>> + Send + Sync + 'static,
    {
        let metadata = ModelMetadataResponse { versions: vec!["1".into()], ..ModelMetadataResponse::default() };
        Self::describing(metadata, answer).await
    }

    /// The same, with metadata of its own; the name is what it is asked for.
    pub async fn describing<A>(metadata: ModelMetadataResponse, answer: A) -> Self
    where
        A: Fn(&ModelInferRequest) -> Option<Result<ModelInferResponse, Status>> + Send + Sync + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let asked = Arc::default();
        let service = GrpcInferenceServiceServer::new(Service { metadata, answer, asked: Arc::clone(&asked) });
        let serving = Server::builder().add_service(service).serve_with_incoming(TcpListenerStream::new(listener));
        let task = tokio::spawn(async move { serving.await.expect("the stub serves") });
        Self { address, asked, task }
    }

    /// `http://IP:PORT`.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Every request for an answer so far.
    pub fn asked(&self) -> Vec<(MetadataMap, ModelInferRequest)> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for Stub {
    fn drop(&mut self) {
        self.task.abort();
    }
}

struct Service<A> {
    metadata: ModelMetadataResponse,
    answer: A,
    asked: Arc<Mutex<Vec<(MetadataMap, ModelInferRequest)>>>,
}

#[tonic::async_trait]
impl<A> GrpcInferenceService for Service<A>
where
    A: Fn(&ModelInferRequest) -> Option<Result<ModelInferResponse, Status>> + Send + Sync + 'static,
{
    async fn model_metadata(
        &self,
        request: Request<ModelMetadataRequest>,
    ) -> Result<Response<ModelMetadataResponse>, Status> {
        let name = request.into_inner().name;
        Ok(Response::new(ModelMetadataResponse { name, ..self.metadata.clone() }))
    }

    async fn model_infer(&self, request: Request<ModelInferRequest>) -> Result<Response<ModelInferResponse>, Status> {
        let (metadata, _, request) = request.into_parts();
        let answer = (self.answer)(&request);
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).push((metadata, request));
        match answer {
            Some(answer) => answer.map(Response::new),
            None => std::future::pending().await,
        }
    }
}
