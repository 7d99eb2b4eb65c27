//! The model that rehearses: in this process, or on a server of the Open Inference Protocol. It is asked once and never
//! again, with a deadline of its own; whatever it does, nobody waits for it but a place among the concurrent exchanges.

use std::sync::Arc;

use model::Model;
use tonic::Status;
use understudy::{encode::RequestError, v1};

use crate::{
    answers::Reading,
    compare::Answer,
    config::{CandidateSource, Rehearsing},
    disagreements::Schemas,
    exchange::Offered,
    rehearsal::{Epoch, Primary},
};

mod backoff;
mod forward;
mod package;
mod remote;
mod versions;

pub(crate) use versions::MAX_VERSION;

/// Why there is no answer of the candidate that rehearses.
#[derive(Debug)]
pub enum Failure {
    /// It has failed.
    Failed(Status),
    /// Its server has answered as another version.
    OtherVersion,
    /// It was not asked: the request is not what its method says.
    Undecodable(Arc<RequestError>),
}

impl From<Arc<RequestError>> for Failure {
    fn from(error: Arc<RequestError>) -> Self {
        Self::Undecodable(error)
    }
}

impl From<Status> for Failure {
    fn from(status: Status) -> Self {
        Self::Failed(status)
    }
}

/// Who rehearses.
#[derive(Debug)]
pub enum Candidate {
    /// In this process.
    Package(Box<Model>),
    /// On a server.
    Server(Box<remote::Server>),
}

impl Candidate {
    /// Loads the package and predicts its golden rows, or prepares the connection to the server. `primary_model` is the name of a
    /// model of which nothing else is known.
    ///
    /// # Errors
    /// The package may not serve here.
    pub fn open(configured: &Rehearsing, primary_model: Option<&str>) -> anyhow::Result<Self> {
        match &configured.source {
            CandidateSource::Package(path) => package::open(path).map(|model| Self::Package(Box::new(model))),
            CandidateSource::Server { url, model, version } => {
                let name = model.as_deref().or(primary_model).map(str::to_owned);
                remote::Server::new(url, name, version, configured).map(|server| Self::Server(Box::new(server)))
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

    /// What it predicts; a server is taken to predict what the primary does, unless it is configured.
    pub fn task(&self) -> Option<v1::Task> {
        match self {
            Self::Package(model) => Some(match model.task() {
                model::Task::Binary => v1::Task::Binary,
                model::Task::Multiclass => v1::Task::Multiclass,
                model::Task::Regression => v1::Task::Regression,
                model::Task::Quantile => v1::Task::Quantile,
            }),
            Self::Server(server) => server.task(),
        }
    }

    /// Its classes in the order of its probabilities; a server's are taken to be the primary's, unless it is configured.
    pub fn classes(&self, primary: &[String]) -> Vec<String> {
        match self {
            Self::Package(model) => model.class_names().to_vec(),
            Self::Server(server) => server.classes().unwrap_or(primary).to_vec(),
        }
    }

    /// Binary: above what probability it says the second class. None where it does not say: a server's configured decision is in
    /// [`Self::reading`].
    pub(crate) fn decision_threshold(&self) -> Option<f64> {
        match self {
            Self::Package(model) => Some(model.manifest().decision_threshold),
            Self::Server(_) => None,
        }
    }

    /// Its schema and the profile of its training data, where it is a package.
    pub(crate) fn schemas(&self) -> Schemas<'_> {
        match self {
            Self::Package(model) => {
                Schemas { schema: model.schema_json().into(), reference: model.reference_json().into() }
            }
            Self::Server(_) => Schemas::default(),
        }
    }

    /// How its answers are read, where it is a server.
    pub fn reading(&self) -> Reading {
        match self {
            Self::Package(_) => Reading::default(),
            Self::Server(server) => server.reading(),
        }
    }

    /// Where its latency is measured, for the report.
    pub fn observed_via(&self) -> &'static str {
        match self {
            Self::Package(_) => "in-process",
            Self::Server(_) => "shadow call",
        }
    }

    /// Asks a server for its version and its outputs; nothing to do for a package.
    ///
    /// # Errors
    /// It does not answer, or has outputs that can't be told apart without configuration; to be tried again.
    pub async fn settle(&self, primary: &Primary) -> Result<(), String> {
        match self {
            Self::Package(_) => Ok(()),
            Self::Server(server) => server.resolve(primary).await,
        }
    }

    /// What must be known of an exchange before it is asked, and is not its time.
    ///
    /// # Errors
    /// The request is not what its method says.
    pub(crate) fn prepare(&self, offered: &Offered) -> Result<(), Arc<RequestError>> {
        match self {
            // Nobody looks into it here: the bytes go on.
            Self::Server(_) if offered.exchange.method() == v1::Method::ModelInfer => Ok(()),
            Self::Server(_) | Self::Package(_) => offered.request().map(drop),
        }
    }

    /// Answers the request of one exchange, to which the primary has answered with `rows` rows, into `out`. A server is told via which
    /// sidecars it comes, this one the last of them.
    ///
    /// # Errors
    /// The candidate's status, or DEADLINE_EXCEEDED after its own deadline; or another version has answered, or the request can't be decoded.
    pub async fn answer(&self, offered: &Offered, rows: usize, epoch: &Epoch, out: &mut Answer) -> Result<(), Failure> {
        match self {
            Self::Package(model) => Ok(package::answer(model, offered.request()?, out)?),
            Self::Server(server) => server.answer(offered, rows, epoch, out).await,
        }
    }
}
