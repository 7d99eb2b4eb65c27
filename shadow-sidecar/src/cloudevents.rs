//! Exchanges as CloudEvents (1.0, HTTP binary mode) with the attributes that KServe's payload logger gives them, so that
//! whatever reads its events reads these: `org.kubeflow.serving.inference.request` and `.response`, with the same `id`.
//!
//! Bodies are JSON: the Open Inference Protocol's, or, for `Predict`, rows as objects. They hold what clients sent: the sink is
//! configuration, and there is none by default. One queue, bounded; one event at a time; nothing is sent twice. What does not fit
//! or is refused is counted.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Uri, header::CONTENT_TYPE};
use http_body_util::Full;
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use prost::Message as _;
use serde_json::{Map, Value, json};
use tokio::sync::mpsc;
use understudy::{
    inference::{ModelInferRequest, ModelInferResponse},
    v1::{Exchange, Method, PredictRequest, PredictResponse, value::Kind},
};

mod tensors;
#[cfg(test)]
mod tests;

/// Exchanges that may wait for the sink.
const QUEUE: usize = 1_024;
/// For one event.
const TIMEOUT: Duration = Duration::from_secs(5);
/// KServe's names.
const REQUEST: &str = "org.kubeflow.serving.inference.request";
const RESPONSE: &str = "org.kubeflow.serving.inference.response";

/// Where events go, and what they say of where they come from.
#[derive(Clone, Debug)]
pub struct Sink {
    /// `http://HOST:PORT/PATH`.
    pub url: Uri,
    /// `source`, as KServe: the service's own address.
    pub source: String,
    /// `inferenceservicename`; empty: the model's name.
    pub service: String,
    /// `namespace`.
    pub namespace: String,
}

/// What became of exchanges: offered = sent + dropped + failed, once the queue is empty.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Offered.
    pub offered: u64,
    /// Both events were taken.
    pub sent: u64,
    /// No place in the queue.
    pub dropped: u64,
    /// The sink refused one of the two, or was not there.
    pub failed: u64,
}

#[derive(Debug, Default)]
struct Shared {
    offered: AtomicU64,
    sent: AtomicU64,
    dropped: AtomicU64,
    failed: AtomicU64,
}

/// Sends events until it is dropped.
#[derive(Clone, Debug)]
pub struct CloudEvents {
    queue: mpsc::Sender<Exchange>,
    shared: Arc<Shared>,
}

impl CloudEvents {
    /// Starts a task on the current runtime.
    pub fn start(sink: Sink) -> Self {
        let (queue, mut exchanges) = mpsc::channel::<Exchange>(QUEUE);
        let shared = Arc::new(Shared::default());
        let counts = shared.clone();
        tokio::spawn(async move {
            let client = Client::builder(TokioExecutor::new()).build_http();
            let mut refused = false;
            while let Some(exchange) = exchanges.recv().await {
                match send(&client, &sink, &exchange).await {
                    Ok(()) => {
                        counts.sent.fetch_add(1, Ordering::Relaxed);
                        if std::mem::replace(&mut refused, false) {
                            tracing::info!(sink = %sink.url, "the sink takes events again");
                        }
                    }
                    Err(error) => {
                        counts.failed.fetch_add(1, Ordering::Relaxed);
                        // Once, and once more when it is over.
                        if !std::mem::replace(&mut refused, true) {
                            tracing::warn!(sink = %sink.url, error = format!("{error:#}"), "the sink does not take events");
                        }
                    }
                }
            }
        });
        Self { queue, shared }
    }

    /// Takes a copy of one exchange. Never waits.
    pub fn offer(&self, exchange: &Exchange) {
        self.shared.offered.fetch_add(1, Ordering::Relaxed);
        if self.queue.try_send(exchange.clone()).is_err() {
            self.shared.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// What became of them so far.
    pub fn counts(&self) -> Counts {
        let of = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let Shared { offered, sent, dropped, failed } = &*self.shared;
        Counts { offered: of(offered), sent: of(sent), dropped: of(dropped), failed: of(failed) }
    }
}

async fn send(client: &Client<HttpConnector, Full<Bytes>>, sink: &Sink, exchange: &Exchange) -> anyhow::Result<()> {
    // Whatever joins the two: the client's own id, else the time at which it came.
    let id = match (&*exchange.shadow_id, &*exchange.request_id) {
        ("", "") => format!("{}-{}", exchange.arrived_unix_nanos, exchange.sequence),
        ("", id) | (id, _) => id.to_owned(),
    };
    let mut bodies = vec![(REQUEST, request_json(exchange)?)];
    if exchange.status == 0 {
        bodies.push((RESPONSE, response_json(exchange)?));
    }
    for (kind, body) in bodies {
        let service = if sink.service.is_empty() { &exchange.model } else { &sink.service };
        let request = Request::post(sink.url.clone())
            .header(CONTENT_TYPE, "application/json")
            .header("ce-specversion", "1.0")
            .header("ce-type", kind)
            .header("ce-id", id.escape_default().to_string())
            .header("ce-source", &sink.source)
            .header("ce-time", time(exchange.arrived_unix_nanos))
            .header("ce-inferenceservicename", service)
            .header("ce-namespace", &sink.namespace)
            .header("ce-component", "predictor")
            .header("ce-endpoint", &exchange.version)
            .body(Full::new(Bytes::from(body.to_string())))?;
        let response = tokio::time::timeout(TIMEOUT, client.request(request)).await??;
        anyhow::ensure!(response.status().is_success(), "{kind}: {}", response.status());
    }
    Ok(())
}

/// RFC 3339.
fn time(unix_nanos: u64) -> String {
    let at = std::time::UNIX_EPOCH + Duration::from_nanos(unix_nanos);
    humantime::format_rfc3339_nanos(at).to_string()
}

fn request_json(exchange: &Exchange) -> anyhow::Result<Value> {
    Ok(match exchange.method() {
        Method::Predict => {
            let request = PredictRequest::decode(exchange.request.clone())?;
            let rows = request.rows.iter().map(|row| {
                // In order of name: maps of the protocol have none.
                let mut values: Vec<_> = row.values.iter().collect();
                values.sort_by_key(|(name, _)| *name);
                Value::Object(
                    values.into_iter().map(|(name, value)| (name.clone(), plain(value.kind.as_ref()))).collect(),
                )
            });
            json!({ "id": request.request_id, "instances": rows.collect::<Vec<_>>() })
        }
        Method::ModelInfer | Method::Unspecified => {
            tensors::request(&ModelInferRequest::decode(exchange.request.clone())?)
        }
    })
}

fn plain(kind: Option<&Kind>) -> Value {
    match kind {
        None | Some(Kind::Null(_)) => Value::Null,
        Some(Kind::Number(number)) => number_json(*number),
        Some(Kind::Integer(integer)) => (*integer).into(),
        Some(Kind::Text(text)) => text.as_str().into(),
        Some(Kind::Boolean(flag)) => (*flag).into(),
    }
}

/// JSON has no NaN and no infinities; as the protocol's REST form of other servers, they are texts.
fn number_json(number: f64) -> Value {
    serde_json::Number::from_f64(number).map_or_else(|| number.to_string().into(), Value::Number)
}

fn response_json(exchange: &Exchange) -> anyhow::Result<Value> {
    Ok(match exchange.method() {
        Method::Predict => {
            let response = PredictResponse::decode(exchange.response.clone())?;
            let predictions = response.predictions.iter().map(|prediction| {
                let mut object = Map::new();
                object.insert("prediction_id".into(), prediction.prediction_id.as_str().into());
                if !prediction.label.is_empty() {
                    let mut probabilities: Vec<_> = prediction.probabilities.iter().collect();
                    probabilities.sort_by_key(|(class, _)| *class);
                    let probabilities =
                        probabilities.into_iter().map(|(class, p)| (class.clone(), number_json(*p))).collect();
                    object.insert("label".into(), prediction.label.as_str().into());
                    object.insert("probabilities".into(), Value::Object(probabilities));
                }
                if let Some(value) = prediction.value {
                    object.insert("value".into(), number_json(value));
                }
                if !prediction.quantiles.is_empty() {
                    let quantiles = prediction.quantiles.iter();
                    let quantiles = quantiles.map(|q| json!({ "level": q.level, "value": number_json(q.value) }));
                    object.insert("quantiles".into(), quantiles.collect());
                }
                Value::Object(object)
            });
            let predictions: Vec<Value> = predictions.collect();
            json!({
                "id": response.request_id,
                "model_name": response.model,
                "model_version": response.version,
                "predictions": predictions,
            })
        }
        Method::ModelInfer | Method::Unspecified => {
            tensors::response(&ModelInferResponse::decode(exchange.response.clone())?)
        }
    })
}
