//! A candidate on a server of the Open Inference Protocol. Requests go there as they came, under the candidate's name;
//! rows become tensors by the primary's schema.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use anyhow::Context;
use http::uri::PathAndQuery;
use model::{Kind, Schema};
use prost::Message as _;
use tonic::{
    Code, Status, client::Grpc, metadata::MetadataValue, service::interceptor::InterceptedService, transport::Channel,
};
use understudy::{
    VIA,
    identity::credentials::Bearer,
    inference::{
        InferTensorContents, ModelInferRequest, ModelInferResponse, ModelMetadataRequest,
        grpc_inference_service_client::GrpcInferenceServiceClient, model_infer_request::InferInputTensor,
    },
    raw::Raw,
    v1::{Method, PredictRequest, Row, Task, value},
};

use super::{
    Failure,
    backoff::{Backoff, told},
    forward,
    versions::{MAX_VERSION, Versions},
};
use crate::{
    answers::{self, Outputs, Reading},
    compare::{Answer, Role},
    config::Rehearsing,
    exchange::{Offered, Request},
    intake::{MARKER, path},
    rehearsal::{Epoch, Primary},
};

/// Bytes of an answer, whatever it is to.
const MAX_ANSWER: usize = 64 << 20;
/// Bytes of an answer to no rows, and of an answer for each row: a candidate that sends as much as it may to every call
/// that it may have at the same time must not take the sidecar's memory.
const ANSWER: (usize, usize) = (256 << 10, 64 << 10);
/// Bytes of an answer, and of all on a connection, that may be on their way before they are asked for. Most answers are smaller; of one
/// that is refused for its length, more would come for nothing, and what it costs to take them the primary may feel.
const WINDOWS: (u32, u32) = (64 << 10, 1 << 20);

/// The server.
#[derive(Debug)]
pub struct Server {
    line: InterceptedService<Channel, Bearer>,
    timeout: Duration,
    /// As it was configured; empty: the newest.
    asked_version: String,
    /// Name and version: both may be learned later.
    identity: Mutex<Identity>,
    versions: Versions,
    /// As configured.
    task: Option<Task>,
    /// As configured.
    outputs: Outputs,
    /// How its answers are read, once it has described them.
    reading: Mutex<Reading>,
    /// The primary's schema, parsed once for each that was seen last.
    schema: Mutex<Option<(bytes::Bytes, std::sync::Arc<Schema>)>>,
    backoff: Backoff,
}

#[derive(Debug)]
struct Identity {
    name: String,
    version: String,
    /// Whether its answers have said the version, which know it better than its metadata.
    answered: bool,
}

impl Server {
    pub(super) fn new(url: &str, name: Option<String>, version: &str, configured: &Rehearsing) -> anyhow::Result<Self> {
        let Rehearsing { task, outputs, credentials, bounds, .. } = configured;
        let timeout = bounds.timeout;
        let dialer = credentials.dialer(url).map_err(anyhow::Error::msg).context("candidate")?;
        let bearer = credentials.bearer().map_err(anyhow::Error::msg).context("candidate-token-file")?;
        let (stream, connection) = WINDOWS;
        let dialer = dialer
            .connect_timeout(timeout)
            .with(|endpoint| endpoint.initial_stream_window_size(stream).initial_connection_window_size(connection));
        let channel = dialer.connect_lazy();
        Ok(Self {
            line: InterceptedService::new(channel, bearer),
            timeout,
            asked_version: version.to_owned(),
            identity: Mutex::new(Identity {
                name: name.unwrap_or_default(),
                version: version.to_owned(),
                answered: false,
            }),
            versions: Versions::default(),
            task: *task,
            outputs: outputs.clone(),
            reading: Mutex::default(),
            schema: Mutex::default(),
            backoff: Backoff::default(),
        })
    }

    fn who(&self) -> MutexGuard<'_, Identity> {
        self.identity.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn identity(&self) -> (String, String) {
        let identity = self.who();
        (identity.name.clone(), identity.version.clone())
    }

    /// As configured.
    pub(super) fn task(&self) -> Option<Task> {
        self.task
    }

    /// As configured.
    pub(super) fn classes(&self) -> Option<&[String]> {
        Some(self.outputs.classes.as_slice()).filter(|classes| !classes.is_empty())
    }

    pub(super) fn reading(&self) -> Reading {
        self.reading.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Learns name, version and outputs.
    ///
    /// # Errors
    /// What it said instead, or what its outputs leave open.
    pub(super) async fn resolve(&self, primary: &Primary) -> Result<(), String> {
        let name = {
            let mut identity = self.who();
            if identity.name.is_empty() {
                identity.name.clone_from(&primary.name);
            }
            identity.name.clone()
        };
        let mut request = tonic::Request::new(ModelMetadataRequest { name, version: self.asked_version.clone() });
        request.set_timeout(self.timeout);
        let client = GrpcInferenceServiceClient::new(self.line.clone());
        let (versions, outputs) = match client.max_decoding_message_size(MAX_ANSWER).model_metadata(request).await {
            Ok(response) => {
                let response = response.into_inner();
                (response.versions, response.outputs)
            }
            // It answers all the same: then the configuration must say all.
            Err(status) if status.code() == Code::Unimplemented => (Vec::new(), Vec::new()),
            Err(status) => return Err(format!("{:?}: {}", status.code(), status.message().escape_debug())),
        };
        let classes = self.classes().unwrap_or(&primary.classes);
        let reading = Reading::resolve("candidate", &self.outputs, &outputs, primary.task, classes)?;
        *self.reading.lock().unwrap_or_else(PoisonError::into_inner) = reading;
        // Numbers in order; other servers may call their versions what they like.
        let named = versions.into_iter().filter(|version| version.len() <= MAX_VERSION);
        let newest = named.max_by_key(|version| version.parse::<u64>().unwrap_or(0));
        let mut identity = self.who();
        if let Some(version) = newest.filter(|_| self.asked_version.is_empty() && !identity.answered) {
            identity.version = version;
        }
        Ok(())
    }

    pub(super) async fn answer(
        &self,
        offered: &Offered,
        rows: usize,
        epoch: &Epoch,
        out: &mut Answer,
    ) -> Result<(), Failure> {
        self.backoff.check(Instant::now())?;
        let (least, for_row) = ANSWER;
        let limit = for_row.saturating_mul(rows).saturating_add(least).min(MAX_ANSWER);
        let name = self.who().name.clone();
        let message = if offered.exchange.method() == Method::Predict
            && let Request::Rows(request) = offered.request()?
        {
            let request = to_tensors(request, &*self.schema_of(epoch)?);
            let model_version = self.asked_version.clone();
            ModelInferRequest { model_name: name, model_version, ..request }.encode_to_vec().into()
        } else {
            forward::tensors(&offered.exchange.request, &name, &self.asked_version)?
        };
        let mut request = tonic::Request::new(message);
        request.set_timeout(self.timeout);
        // So that whoever sees it there neither bills nor mirrors it again.
        request.metadata_mut().insert(MARKER, MetadataValue::from_static("1"));
        // Whoever has sent it may have written anything into it that is a header.
        if let Ok(via) = MetadataValue::try_from(offered.exchange.shadow_via.as_str()) {
            request.metadata_mut().insert(VIA, via);
        }
        let mut client = Grpc::new(self.line.clone()).max_decoding_message_size(limit);
        let answered = match client.ready().await {
            Ok(()) => client.unary(request, PathAndQuery::from_static(path(Method::ModelInfer)), Raw).await,
            Err(error) => Err(Status::from_error(Box::new(error))),
        };
        self.backoff.ended(answered.as_ref().map(drop), Instant::now());
        let response = answered.map_err(told)?.into_inner();
        let response = ModelInferResponse::decode(response)
            .map_err(|error| Status::internal(format!("the answer can't be decoded: {error}")))?;
        self.heard(&response.model_version, epoch)?;
        answers::read_tensors(&response, &epoch.reading, &epoch.comparator, Role::Candidate, out)
            .map_err(|error| Status::data_loss(error.to_string()).into())
    }

    /// Whether an answer of `version` is one of this epoch. Counts of two versions never pool: what another one has answered is of no
    /// epoch, and when it is the only one that answers any more it is the next epoch's.
    fn heard(&self, version: &str, epoch: &Epoch) -> Result<(), Failure> {
        if version.len() > MAX_VERSION {
            return Err(Status::data_loss(format!("a version of {} bytes", version.len())).into());
        }
        if epoch.is_candidate(version) {
            self.versions.expected();
            let mut identity = self.who();
            if identity.version.is_empty() {
                version.clone_into(&mut identity.version);
            }
            return Ok(());
        }
        // Until the next epoch has begun there is nothing more to find out.
        if self.who().version != version && self.versions.other(version, Instant::now()) {
            let mut identity = self.who();
            version.clone_into(&mut identity.version);
            identity.answered = true;
        }
        Err(Failure::OtherVersion)
    }

    fn schema_of(&self, epoch: &Epoch) -> Result<std::sync::Arc<Schema>, Status> {
        let json = &epoch.primary.schema_json;
        let mut cached = self.schema.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((known, schema)) = &*cached
            && known == json
        {
            return Ok(schema.clone());
        }
        let schema = Schema::parse(json)
            .map_err(|error| Status::failed_precondition(format!("the primary's schema can't be read: {error}")))?;
        let schema = std::sync::Arc::new(schema);
        *cached = Some((json.clone(), schema.clone()));
        Ok(schema)
    }
}

/// One typed tensor of N elements for each feature that any row has. A number that is missing in some rows travels as NaN, a text
/// as the empty text; a feature that no row has is left out.
fn to_tensors(request: &PredictRequest, schema: &Schema) -> ModelInferRequest {
    let rows = &request.rows;
    let shape = vec![rows.len() as i64];
    let inputs = schema.features().iter().filter_map(|feature| {
        let of = |row: &Row| row.values.get(feature.name()).and_then(|value| value.kind.clone());
        let values: Vec<Option<value::Kind>> = rows.iter().map(of).collect();
        let present = |kind: &Option<value::Kind>| !matches!(kind, None | Some(value::Kind::Null(_)));
        if !values.iter().any(present) {
            return None;
        }
        let complete = values.iter().all(present);
        let (datatype, contents) = tensor(feature.kind(), &values, complete);
        Some(InferInputTensor {
            name: feature.name().into(),
            datatype: datatype.into(),
            shape: shape.clone(),
            parameters: HashMap::new(),
            contents: Some(contents),
        })
    });
    ModelInferRequest { inputs: inputs.collect(), ..ModelInferRequest::default() }
}

fn tensor(kind: Kind, values: &[Option<value::Kind>], complete: bool) -> (&'static str, InferTensorContents) {
    let mut contents = InferTensorContents::default();
    let integers = || values.iter().all(|value| matches!(value, Some(value::Kind::Integer(_))));
    let datatype = match kind {
        Kind::Int | Kind::Datetime if complete && integers() => {
            contents.int64_contents = values.iter().map(|value| number(value.as_ref()) as i64).collect();
            "INT64"
        }
        Kind::Int | Kind::Float => {
            contents.fp64_contents = values.iter().map(|value| number(value.as_ref())).collect();
            "FP64"
        }
        Kind::Bool if complete => {
            contents.bool_contents = values.iter().map(|value| number(value.as_ref()) != 0.0).collect();
            "BOOL"
        }
        Kind::Bool | Kind::Category | Kind::Text | Kind::Datetime => {
            contents.bytes_contents = values.iter().map(|value| text(value.as_ref()).into()).collect();
            "BYTES"
        }
    };
    (datatype, contents)
}

fn number(value: Option<&value::Kind>) -> f64 {
    match value {
        Some(value::Kind::Number(number)) => *number,
        Some(value::Kind::Integer(integer)) => *integer as f64,
        Some(value::Kind::Boolean(flag)) => f64::from(u8::from(*flag)),
        None | Some(value::Kind::Null(_) | value::Kind::Text(_)) => f64::NAN,
    }
}

fn text(value: Option<&value::Kind>) -> String {
    match value {
        Some(value::Kind::Text(text)) => text.clone(),
        Some(value::Kind::Number(number)) => number.to_string(),
        Some(value::Kind::Integer(integer)) => integer.to_string(),
        Some(value::Kind::Boolean(flag)) => flag.to_string(),
        None | Some(value::Kind::Null(_)) => String::new(),
    }
}
