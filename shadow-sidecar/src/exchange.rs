//! One exchange, shared by all candidates that rehearse on it: each of its messages is decoded at most once, by whoever needs it first.

use std::sync::{Arc, OnceLock};

use prost::{DecodeError, Message};
use understudy::{
    encode::{RequestError, decode_rows, decode_tensors},
    inference::{ModelInferRequest, ModelInferResponse},
    v1::{Exchange, Method, PredictRequest, PredictResponse},
};

/// A request, decoded.
#[derive(Clone, Debug)]
pub enum Request {
    /// Of `inference.GRPCInferenceService`.
    Tensors(ModelInferRequest),
    /// Of `understudy.v1.PredictionService`.
    Rows(PredictRequest),
}

/// The primary's answer, decoded.
#[derive(Clone, Debug)]
pub enum Response {
    /// Of `inference.GRPCInferenceService`.
    Tensors(ModelInferResponse),
    /// Of `understudy.v1.PredictionService`.
    Rows(PredictResponse),
}

impl Request {
    /// Decodes a request of `method`.
    ///
    /// # Errors
    /// It is no such message.
    pub fn decode(method: Method, message: &bytes::Bytes) -> Result<Self, RequestError> {
        match method {
            // The primary has decided how many rows are too many.
            Method::Predict => decode_rows(message, usize::MAX).map(Self::Rows),
            // A method that a newer server may add fails to decode or to compare; it is then counted as such.
            Method::ModelInfer | Method::Unspecified => decode_tensors(message).map(Self::Tensors),
        }
    }

    /// The model that is asked for; empty: the only one.
    pub fn model(&self) -> &str {
        match self {
            Self::Tensors(request) => &request.model_name,
            Self::Rows(request) => &request.model,
        }
    }

    /// Rows: the first dimension of the first tensor, or the number of rows.
    pub fn rows(&self) -> u32 {
        let rows = match self {
            Self::Tensors(request) => {
                let first = request.inputs.first().and_then(|input| input.shape.first().copied());
                first.map_or(0, |rows| u64::try_from(rows).unwrap_or_default())
            }
            Self::Rows(request) => request.rows.len() as u64,
        };
        u32::try_from(rows).unwrap_or(u32::MAX)
    }
}

impl Response {
    /// Decodes an answer of `method`.
    ///
    /// # Errors
    /// It is no such message.
    pub fn decode(method: Method, message: bytes::Bytes) -> Result<Self, DecodeError> {
        match method {
            Method::Predict => PredictResponse::decode(message).map(Self::Rows),
            Method::ModelInfer | Method::Unspecified => ModelInferResponse::decode(message).map(Self::Tensors),
        }
    }

    /// The model that has answered, and its version; empty where the server does not say.
    pub fn identity(&self) -> (&str, &str) {
        match self {
            Self::Tensors(response) => (&response.model_name, &response.model_version),
            Self::Rows(response) => (&response.model, &response.version),
        }
    }
}

/// Both, decoded.
pub type Decoded = (Request, Response);

/// What a message is, or why it can't be decoded.
type Read<T> = Result<T, Arc<RequestError>>;

/// One exchange on its way to the candidates.
#[derive(Debug)]
pub struct Offered {
    /// As the intake got it.
    pub exchange: Exchange,
    request: OnceLock<Read<Request>>,
    response: OnceLock<Read<Response>>,
    /// The primary's second answer to the same request, where it was asked twice: for the noise floor.
    pub again: Option<Response>,
}

impl Offered {
    /// Not decoded yet.
    pub fn new(exchange: Exchange) -> Arc<Self> {
        Self::with(exchange, None, None)
    }

    /// The same, where the intake may have `decoded` it, and may have asked the primary `again`.
    pub(crate) fn with(exchange: Exchange, decoded: Option<Decoded>, again: Option<Response>) -> Arc<Self> {
        let (request, response) = decoded.map_or_else(Default::default, |(request, response)| {
            (OnceLock::from(Ok(request)), OnceLock::from(Ok(response)))
        });
        Arc::new(Self { exchange, request, response, again })
    }

    /// What was asked.
    ///
    /// # Errors
    /// It is not what the method says.
    pub fn request(&self) -> Result<&Request, Arc<RequestError>> {
        let decode = || Request::decode(self.exchange.method(), &self.exchange.request).map_err(Arc::new);
        self.request.get_or_init(decode).as_ref().map_err(Clone::clone)
    }

    /// What the primary has answered.
    ///
    /// # Errors
    /// As [`Offered::request`].
    pub fn response(&self) -> Result<&Response, Arc<RequestError>> {
        let decode = || {
            let response = Response::decode(self.exchange.method(), self.exchange.response.clone());
            response.map_err(|error| Arc::new(RequestError::Undecodable(error)))
        };
        self.response.get_or_init(decode).as_ref().map_err(Clone::clone)
    }

    /// Bytes that it keeps in memory while it is not decoded, about.
    pub fn bytes(&self) -> usize {
        size_of::<Self>() + self.exchange.request.len() + self.exchange.response.len()
    }
}
