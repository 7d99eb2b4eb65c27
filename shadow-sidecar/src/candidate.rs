//! The model that rehearses: in this process, or on a server of the Open Inference Protocol. It is asked once and never
//! again, with a deadline of its own; whatever it does, nobody waits for it but a place among the concurrent exchanges.

use model::{Model, Task};
use tonic::Status;
use understudy::{
    encode::{RequestError, decode_rows, decode_tensors},
    inference::ModelInferRequest,
    v1::{Exchange, Method, PredictRequest},
};

use crate::{
    compare::Answer,
    config::{CandidateSource, Config},
    rehearsal::Epoch,
};

mod package;
mod remote;

/// Who rehearses.
#[derive(Debug)]
pub enum Candidate {
    /// In this process.
    Package(Box<Model>),
    /// On a server.
    Server(Box<remote::Server>),
}

/// A request of the tap, decoded.
#[derive(Debug)]
pub enum Request {
    /// Of `inference.GRPCInferenceService`.
    Tensors(ModelInferRequest),
    /// Of `understudy.v1.PredictionService`.
    Rows(PredictRequest),
}

impl Request {
    /// Decodes the request of an exchange.
    ///
    /// # Errors
    /// It is of no method we know, or no such message.
    pub fn decode(exchange: &Exchange) -> Result<Self, RequestError> {
        match exchange.method() {
            // The primary has decided how many rows are too many.
            Method::Predict => decode_rows(&exchange.request, usize::MAX).map(Self::Rows),
            // A method that a newer server may add fails to decode or to compare; it is then counted as such.
            Method::ModelInfer | Method::Unspecified => decode_tensors(&exchange.request).map(Self::Tensors),
        }
    }
}

impl Candidate {
    /// Loads the package and predicts its golden rows, or prepares the connection to the server.
    ///
    /// # Errors
    /// The package may not serve here.
    pub fn open(config: &Config) -> anyhow::Result<Self> {
        match &config.candidate {
            CandidateSource::Package(path) => package::open(path).map(|model| Self::Package(Box::new(model))),
            CandidateSource::Server { url, model, version } => {
                let name = model.clone().or_else(|| config.primary_model.clone());
                remote::Server::new(url, name, version, config.candidate_timeout, &config.candidate_credentials)
                    .map(|server| Self::Server(Box::new(server)))
            }
        }
    }

    /// Name and version; a server's version is empty until it has said it, its name until the primary's is known.
    pub fn identity(&self) -> (String, String) {
        match self {
            Self::Package(model) => (model.name().to_owned(), model.version().to_owned()),
            Self::Server(server) => server.identity(),
        }
    }

    /// What it predicts; a server is taken to predict what the primary does.
    pub fn task(&self) -> Option<Task> {
        match self {
            Self::Package(model) => Some(model.task()),
            Self::Server(_) => None,
        }
    }

    /// Its classes in the order of its probabilities; a server's are taken to be the primary's.
    pub fn classes<'a>(&'a self, primary: &'a [String]) -> &'a [String] {
        match self {
            Self::Package(model) => model.class_names(),
            Self::Server(_) => primary,
        }
    }

    /// Where its latency is measured, for the report.
    pub fn observed_via(&self) -> &'static str {
        match self {
            Self::Package(_) => "in-process",
            Self::Server(_) => "shadow call",
        }
    }

    /// Asks a server for its version until it says so; at once for a package. `epoch` must then begin anew.
    pub async fn settle(&self, primary: &str) {
        if let Self::Server(server) = self {
            server.resolve(primary).await;
        }
    }

    /// Answers one request into `out`.
    ///
    /// # Errors
    /// The candidate's status, or DEADLINE_EXCEEDED after its own deadline.
    pub async fn answer(&self, request: Request, epoch: &Epoch, out: &mut Answer) -> Result<(), Status> {
        match self {
            Self::Package(model) => package::answer(model, &request, out),
            Self::Server(server) => server.answer(request, epoch, out).await,
        }
    }
}
