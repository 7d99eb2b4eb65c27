//! Exchanges as CloudEvents (1.0, over HTTP) with the attributes that KServe's payload logger gives them, so that whatever reads
//! its events reads these: `org.kubeflow.serving.inference.request` and `.response`, with the same `id`, which is the exchange's. The
//! ids that came in headers are in `metadata`. In binary mode, one event a call, or in JSON batches.
//!
//! Bodies are JSON: the Open Inference Protocol's, or, for `Predict`, rows as objects. They hold what clients sent: the sink is
//! configuration, and there is none by default. One bounded queue, a few calls at a time; a call that fails is tried again, a few
//! times at most. What does not fit, or does not arrive, is counted by its reason.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::{HeaderName, Request, StatusCode, Uri, header::CONTENT_TYPE};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_util::{client::legacy::Client, rt::TokioExecutor};
use serde_json::{Map, Value, json};
use tokio::{
    sync::{Mutex as AsyncMutex, mpsc},
    task::JoinSet,
};
use understudy::{
    identity::{client_tls::Protocol, credentials::Credentials, dialer::Connector},
    status::Chain,
    v1::{PredictRequest, PredictResponse, value::Kind},
};

use crate::exchange::{self, Offered, Response};

mod tensors;
#[cfg(test)]
mod tests;

/// Exchanges that may wait for the sink.
const QUEUE: usize = 1_024;
/// Bytes of them.
const QUEUE_BYTES: usize = 32 << 20;
/// Calls at the same time.
const CALLS: usize = 4;
/// For one call.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Before each further try.
const PAUSES: [Duration; 2] = [Duration::from_millis(100), Duration::from_millis(500)];
/// Bytes of an answer that are read, so that the connection can be used again.
const ANSWER: usize = 64 << 10;
/// KServe's names.
const REQUEST: &str = "org.kubeflow.serving.inference.request";
const RESPONSE: &str = "org.kubeflow.serving.inference.response";

/// Which halves of an exchange are sent; the names are KServe's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// Both.
    #[default]
    All,
    /// What clients ask.
    Request,
    /// What they are answered.
    Response,
}

impl std::str::FromStr for Mode {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "all" => Ok(Self::All),
            "request" => Ok(Self::Request),
            "response" => Ok(Self::Response),
            other => Err(format!("expected all, request or response, got {other:?}")),
        }
    }
}

/// Where events go, and what they say of where they come from.
#[derive(Clone, Debug, Default)]
pub struct Sink {
    /// `http(s)://HOST:PORT/PATH`.
    pub url: Uri,
    /// Who vouches for it, and what is shown to it, over https.
    pub credentials: Credentials,
    /// Which halves.
    pub mode: Mode,
    /// Exchanges in a call; more than one make it a JSON batch.
    pub batch: usize,
    /// `source`, as KServe: the service's own address.
    pub source: String,
    /// `inferenceservicename`; empty: the model's name.
    pub service: String,
    /// `namespace`; empty: left out.
    pub namespace: String,
}

/// What became of exchanges: offered = all others, once the queue is empty.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Offered.
    pub offered: u64,
    /// All their events were taken.
    pub sent: u64,
    /// No place in the queue.
    pub dropped: u64,
    /// They are not what their method says.
    pub undecodable: u64,
    /// The sink does not want one of their events (4xx).
    pub refused: u64,
    /// It has failed on one of them (5xx, 429), the last time, too.
    pub failed: u64,
    /// It was not there or did not answer in time, the last time, too.
    pub unreachable: u64,
    /// The process ended before.
    pub shutdown: u64,
}

impl Counts {
    /// By name, but what was offered.
    pub fn outcomes(self) -> impl Iterator<Item = (&'static str, u64)> {
        let Self { offered: _, sent, dropped, undecodable, refused, failed, unreachable, shutdown } = self;
        [
            ("sent", sent),
            ("queue_full", dropped),
            ("undecodable", undecodable),
            ("refused", refused),
            ("failed", failed),
            ("unreachable", unreachable),
            ("shutdown", shutdown),
        ]
        .into_iter()
    }

    /// Those that have come to an end.
    fn ended(self) -> u64 {
        self.outcomes().map(|(_, count)| count).sum()
    }
}

/// Why events did not arrive.
#[derive(Debug, thiserror::Error)]
enum Lost {
    #[error("the sink answers {0}")]
    Refused(StatusCode),
    #[error("the sink answers {0}, after {tries} tries", tries = PAUSES.len() + 1)]
    Failed(StatusCode),
    #[error("the sink can't be reached: {0}")]
    Unreachable(String),
}

#[derive(Debug, Default)]
struct Shared {
    offered: AtomicU64,
    sent: AtomicU64,
    dropped: AtomicU64,
    undecodable: AtomicU64,
    refused: AtomicU64,
    failed: AtomicU64,
    unreachable: AtomicU64,
    shutdown: AtomicU64,
    queued_bytes: AtomicUsize,
    /// Nothing is taken any more.
    closed: AtomicBool,
    /// The last call did not succeed.
    away: AtomicBool,
}

impl Shared {
    fn counts(&self) -> Counts {
        let of = |count: &AtomicU64| count.load(Ordering::Relaxed);
        Counts {
            offered: of(&self.offered),
            sent: of(&self.sent),
            dropped: of(&self.dropped),
            undecodable: of(&self.undecodable),
            refused: of(&self.refused),
            failed: of(&self.failed),
            unreachable: of(&self.unreachable),
            shutdown: of(&self.shutdown),
        }
    }
}

/// Sends events until it is dropped.
#[derive(Debug)]
pub struct CloudEvents {
    queue: mpsc::Sender<Arc<Offered>>,
    shared: Arc<Shared>,
    calls: Mutex<JoinSet<()>>,
}

impl CloudEvents {
    /// Starts some tasks on the current runtime.
    ///
    /// # Errors
    /// A file for TLS can't be read or used.
    pub fn start(sink: Sink) -> Result<Self, String> {
        let connector = sink.credentials.connector(&sink.url, Protocol::Http1)?;
        let (queue, offered) = mpsc::channel(QUEUE);
        let (offered, sink) = (Arc::new(AsyncMutex::new(offered)), Arc::new(sink));
        let shared = Arc::new(Shared::default());
        let client = Client::builder(TokioExecutor::new()).build(connector);
        let mut calls = JoinSet::new();
        for _ in 0..CALLS {
            let caller = Caller { client: client.clone(), sink: sink.clone(), shared: shared.clone() };
            calls.spawn(caller.run(offered.clone()));
        }
        Ok(Self { queue, shared, calls: Mutex::new(calls) })
    }

    /// Takes one exchange. Never waits.
    pub fn offer(&self, offered: &Arc<Offered>) {
        let Shared { offered: count, dropped, shutdown, queued_bytes, closed, .. } = &*self.shared;
        count.fetch_add(1, Ordering::Relaxed);
        if closed.load(Ordering::Relaxed) {
            shutdown.fetch_add(1, Ordering::Relaxed);
            return;
        }
        let bytes = offered.bytes();
        let fits = queued_bytes.fetch_add(bytes, Ordering::Relaxed) + bytes <= QUEUE_BYTES;
        if !(fits && self.queue.try_send(offered.clone()).is_ok()) {
            queued_bytes.fetch_sub(bytes, Ordering::Relaxed);
            dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// What became of them so far.
    pub fn counts(&self) -> Counts {
        self.shared.counts()
    }

    /// Sends what waits, at most for `limit`. Nothing is taken afterwards.
    pub async fn finish(&self, limit: Duration) {
        self.shared.closed.store(true, Ordering::Relaxed);
        let until = Instant::now() + limit;
        let waits = |counts: Counts| counts.ended() < counts.offered;
        while waits(self.counts()) && Instant::now() < until {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let mut calls = std::mem::take(&mut *self.calls.lock().unwrap_or_else(PoisonError::into_inner));
        calls.shutdown().await;
        let counts = self.counts();
        self.shared.shutdown.fetch_add(counts.offered.saturating_sub(counts.ended()), Ordering::Relaxed);
    }
}

/// One of those who call the sink.
struct Caller {
    client: Client<Connector, Full<Bytes>>,
    sink: Arc<Sink>,
    shared: Arc<Shared>,
}

/// One event: its attributes, and its data.
struct Event {
    attributes: Vec<(&'static str, String)>,
    data: Value,
}

impl Caller {
    async fn run(self, queue: Arc<AsyncMutex<mpsc::Receiver<Arc<Offered>>>>) {
        let most = self.sink.batch.max(1);
        let mut some = Vec::with_capacity(most);
        while queue.lock().await.recv_many(&mut some, most).await > 0 {
            let (mut events, mut whole) = (Vec::new(), 0);
            for offered in some.drain(..) {
                self.shared.queued_bytes.fetch_sub(offered.bytes(), Ordering::Relaxed);
                match events_of(&self.sink, &offered) {
                    Ok(own) => {
                        events.extend(own);
                        whole += 1;
                    }
                    Err(error) => {
                        tracing::debug!(error = format!("{error:#}"), "an exchange is no event");
                        self.shared.undecodable.fetch_add(1, Ordering::Relaxed);
                    }
                }
            }
            let outcome = self.send(events).await;
            let count = match &outcome {
                Ok(()) => &self.shared.sent,
                Err(Lost::Refused(_)) => &self.shared.refused,
                Err(Lost::Failed(_)) => &self.shared.failed,
                Err(Lost::Unreachable(_)) => &self.shared.unreachable,
            };
            count.fetch_add(whole, Ordering::Relaxed);
            // Once, and once more when it is over.
            let before = self.shared.away.swap(outcome.is_err(), Ordering::Relaxed);
            match outcome {
                Err(error) if !before => tracing::warn!(sink = %self.sink.url, %error, "events are lost"),
                Ok(()) if before => tracing::info!(sink = %self.sink.url, "the sink takes events again"),
                _ => {}
            }
        }
    }

    /// In their order; none after the first that is lost.
    async fn send(&self, events: Vec<Event>) -> Result<(), Lost> {
        if self.sink.batch > 1 {
            let all: Vec<Value> = events.into_iter().map(structured).collect();
            if all.is_empty() {
                return Ok(());
            }
            let body = Bytes::from(Value::Array(all).to_string());
            return self.post("application/cloudevents-batch+json", &[], body).await;
        }
        for Event { attributes, data } in events {
            self.post("application/json", &attributes, Bytes::from(data.to_string())).await?;
        }
        Ok(())
    }

    async fn post(&self, kind: &str, attributes: &[(&'static str, String)], body: Bytes) -> Result<(), Lost> {
        let mut pauses = PAUSES.iter();
        loop {
            let mut request = Request::post(self.sink.url.clone()).header(CONTENT_TYPE, kind);
            for (name, value) in attributes {
                if let Ok(name) = HeaderName::try_from(format!("ce-{name}")) {
                    request = request.header(name, percent_encoded(value));
                }
            }
            let request =
                request.body(Full::new(body.clone())).map_err(|error| Lost::Unreachable(error.to_string()))?;
            let lost = match tokio::time::timeout(TIMEOUT, self.client.request(request)).await {
                Ok(Ok(response)) => {
                    let status = response.status();
                    let rest = Limited::new(response.into_body(), ANSWER).collect();
                    drop(tokio::time::timeout(TIMEOUT, rest).await);
                    match status {
                        status if status.is_success() => return Ok(()),
                        StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT => Lost::Failed(status),
                        status if status.is_server_error() => Lost::Failed(status),
                        status => return Err(Lost::Refused(status)),
                    }
                }
                Ok(Err(error)) => Lost::Unreachable(Chain(&error).to_string()),
                Err(_) => Lost::Unreachable(format!("no answer within {TIMEOUT:?}")),
            };
            let Some(pause) = pauses.next() else { return Err(lost) };
            tokio::time::sleep(pause.mul_f64(0.5 + fastrand::f64())).await;
        }
    }
}

/// As the binding to HTTP has values of attributes: visible ASCII but for the quote and the percent sign, the rest by its bytes in
/// UTF-8.
fn percent_encoded(value: &str) -> String {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    let mut out = String::with_capacity(value.len());
    for byte in value.bytes() {
        if byte.is_ascii_graphic() && !matches!(byte, b'"' | b'%') {
            out.push(char::from(byte));
        } else {
            out.extend(['%', char::from(DIGITS[usize::from(byte >> 4)]), char::from(DIGITS[usize::from(byte & 15)])]);
        }
    }
    out
}

/// The events of one exchange.
fn events_of(sink: &Sink, offered: &Offered) -> anyhow::Result<Vec<Event>> {
    let exchange = &offered.exchange;
    // Of this exchange and no other: calls of one request of a user share its id. Both halves have the same, by which KServe's
    // consumers join them.
    let id = format!("{:032x}", fastrand::u128(..));
    let headers = [("X-Request-Id", &exchange.request_id), ("X-Shadow-Id", &exchange.shadow_id)];
    let headers: Map<String, Value> = headers
        .into_iter()
        .filter(|(_, value)| !value.is_empty())
        .map(|(name, value)| (name.to_owned(), json!([value])))
        .collect();
    // As KServe tells of headers: a JSON text.
    let metadata = if headers.is_empty() { String::new() } else { Value::Object(headers).to_string() };
    let event = |kind: &str, data: Value| {
        let service = if sink.service.is_empty() { &exchange.model } else { &sink.service };
        let all = [
            ("specversion", "1.0".to_owned()),
            ("type", kind.to_owned()),
            ("id", id.clone()),
            ("source", sink.source.clone()),
            ("time", time(exchange.arrived_unix_nanos)),
            ("inferenceservicename", service.clone()),
            ("namespace", sink.namespace.clone()),
            ("component", "predictor".to_owned()),
            ("endpoint", exchange.version.clone()),
            ("metadata", metadata.clone()),
            ("traceparent", exchange.traceparent.clone()),
        ];
        // An attribute that is there says something.
        Event { attributes: all.into_iter().filter(|(_, value)| !value.is_empty()).collect(), data }
    };
    let mut events = Vec::new();
    if exchange.status != 0 {
        // Refused: there is no answer, and the request may be anything.
        if sink.mode != Mode::Response {
            let request = exchange::Request::decode(exchange.method(), &exchange.request)?;
            events.push(event(REQUEST, request_json(&request)));
        }
        return Ok(events);
    }
    let (request, response) = (offered.request()?, offered.response()?);
    if sink.mode != Mode::Response {
        events.push(event(REQUEST, request_json(request)));
    }
    if sink.mode != Mode::Request {
        events.push(event(RESPONSE, response_json(response)));
    }
    Ok(events)
}

/// An event as one JSON object.
fn structured(Event { attributes, data }: Event) -> Value {
    let mut all: Map<String, Value> =
        attributes.into_iter().map(|(name, value)| (name.to_owned(), value.into())).collect();
    all.insert("datacontenttype".into(), "application/json".into());
    all.insert("data".into(), data);
    Value::Object(all)
}

/// RFC 3339.
fn time(unix_nanos: u64) -> String {
    let at = std::time::UNIX_EPOCH + Duration::from_nanos(unix_nanos);
    humantime::format_rfc3339_nanos(at).to_string()
}

fn request_json(request: &exchange::Request) -> Value {
    match request {
        exchange::Request::Rows(PredictRequest { rows, request_id, .. }) => {
            let rows = rows.iter().map(|row| {
                Value::Object(
                    row.values.iter().map(|(name, value)| (name.clone(), plain(value.kind.as_ref()))).collect(),
                )
            });
            json!({ "id": request_id, "instances": rows.collect::<Vec<_>>() })
        }
        exchange::Request::Tensors(request) => tensors::request(request),
    }
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

fn response_json(response: &Response) -> Value {
    match response {
        Response::Rows(response) => rows_json(response),
        Response::Tensors(response) => tensors::response(response),
    }
}

fn rows_json(response: &PredictResponse) -> Value {
    let predictions = response.predictions.iter().map(|prediction| {
        let mut object = Map::new();
        object.insert("prediction_id".into(), prediction.prediction_id.as_str().into());
        if !prediction.label.is_empty() {
            let probabilities = prediction.probabilities.iter();
            let probabilities = probabilities.map(|(class, p)| (class.clone(), number_json(*p))).collect();
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
