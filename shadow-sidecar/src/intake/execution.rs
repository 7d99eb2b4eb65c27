//! A primary without a tap is asked once more what it answers to a mirrored request, off the user's path; a share of the
//! requests goes to it twice, which shows how often it disagrees with itself.

use std::{
    error::Error as _,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use tokio::sync::{Mutex as AsyncMutex, Notify, mpsc};
use tonic::{Code, Status, client::Grpc, metadata::MetadataValue};
use understudy::{
    raw::Raw,
    v1::{Exchange, Method},
};

use super::{
    MARKER, Side, Unmatched, path,
    reach::{Line, Reach},
};
use crate::{
    candidate::MAX_VERSION,
    config::Config,
    exchange::{Request, Response},
    rehearsals::Rehearsals,
};

/// Requests that are with the primary at the same time: it has users to serve.
const CONCURRENCY: usize = 8;

/// A mirrored request that waits for the primary.
#[derive(Debug)]
pub(super) struct Requested {
    pub(super) method: Method,
    pub(super) message: Bytes,
    pub(super) arrived_unix_nanos: u64,
    pub(super) request_id: String,
    pub(super) shadow_id: String,
    pub(super) traceparent: String,
}

/// The way to the primary, once more.
#[derive(Debug)]
pub(crate) struct Execution {
    rehearsals: Arc<Rehearsals>,
    line: Line,
    timeout: Duration,
    noise_rate: f64,
    queue: mpsc::Sender<Requested>,
    requests: AsyncMutex<mpsc::Receiver<Requested>>,
    queued_bytes: AtomicUsize,
    max_queued_bytes: usize,
    /// Told when another version has answered than the one that is followed.
    pub(super) news: Arc<Notify>,
}

/// An answer of the primary.
struct Answer {
    message: Bytes,
    status: Code,
    nanos: u64,
}

impl Execution {
    pub(crate) fn new(config: &Config, reach: &Reach, rehearsals: &Arc<Rehearsals>, news: &Arc<Notify>) -> Self {
        let (queue, requests) = mpsc::channel(config.queue);
        Self {
            rehearsals: rehearsals.clone(),
            line: reach.lazy(config.candidate_timeout),
            timeout: config.candidate_timeout,
            noise_rate: config.noise_rate,
            queue,
            requests: AsyncMutex::new(requests),
            queued_bytes: AtomicUsize::new(0),
            max_queued_bytes: config.queue_bytes,
            news: news.clone(),
        }
    }

    /// Tasks that it takes.
    pub(crate) const WORKERS: usize = CONCURRENCY;

    /// Takes a request. Never waits.
    pub(super) fn take(&self, request: Requested) {
        let bytes = request.message.len();
        let fits = self.queued_bytes.fetch_add(bytes, Ordering::Relaxed) + bytes <= self.max_queued_bytes;
        // Under the lock, so that nobody sees it end before it has begun.
        let mut state = self.rehearsals.intake();
        state.requests += 1;
        if fits && self.queue.try_send(request).is_ok() {
            state.under_way += 1;
            return;
        }
        state.unmatched(Side::Mirror, Unmatched::Shed, 1);
        drop(state);
        self.queued_bytes.fetch_sub(bytes, Ordering::Relaxed);
        self.rehearsals.lost(Unmatched::Shed.into(), 1, 1);
    }

    /// Takes requests from the queue, one at a time, for ever. Several run side by side.
    pub(crate) async fn work(self: Arc<Self>) {
        loop {
            let next = self.requests.lock().await.recv().await;
            // The sender is ours, so the queue never ends.
            let Some(request) = next else { return };
            let bytes = request.message.len();
            let ended = self.execute(request).await;
            self.queued_bytes.fetch_sub(bytes, Ordering::Relaxed);
            let mut state = self.rehearsals.intake();
            state.under_way -= 1;
            match ended {
                Ended::Matched => state.matched += 1,
                Ended::Denied => state.denied += 1,
                Ended::Unmatched(reason, _) => state.unmatched(Side::Mirror, reason, 1),
            }
            drop(state);
            match ended {
                // Those have been offered.
                Ended::Matched | Ended::Denied | Ended::Unmatched(Unmatched::PrimaryError, _) => {}
                Ended::Unmatched(reason, rows) => self.rehearsals.lost(reason.into(), 1, rows),
            }
        }
    }

    async fn execute(&self, requested: Requested) -> Ended {
        let Some(primary) = self.rehearsals.primary() else { return Ended::Unmatched(Unmatched::Shed, 1) };
        let Ok(request) = Request::decode(requested.method, &requested.message) else {
            return Ended::Unmatched(Unmatched::Undecodable, 1);
        };
        let rows = u64::from(request.rows());
        if !request.model().is_empty() && request.model() != primary.name {
            return Ended::Denied;
        }
        let first = self.ask(&requested).await;
        self.rehearsals.intake().executed += 1;
        let mut exchange = Exchange {
            method: requested.method.into(),
            model: primary.name.clone(),
            version: primary.version.clone(),
            request: requested.message.clone(),
            status: first.status as u32,
            rows: request.rows(),
            arrived_unix_nanos: requested.arrived_unix_nanos,
            latency_nanos: first.nanos,
            request_id: requested.request_id.clone(),
            shadow_id: requested.shadow_id.clone(),
            traceparent: requested.traceparent.clone(),
            // Whatever came marked is not here.
            shadow_via: self.rehearsals.via("").unwrap_or_default(),
            ..Exchange::default()
        };
        if let Some(reason) = unmatched(first.status) {
            if reason == Unmatched::PrimaryError {
                self.rehearsals.offer(exchange);
            }
            return Ended::Unmatched(reason, rows);
        }
        exchange.response = first.message;
        let Ok(response) = Response::decode(requested.method, exchange.response.clone()) else {
            return Ended::Unmatched(Unmatched::Undecodable, rows);
        };
        let (_, version) = response.identity();
        if version.len() > MAX_VERSION {
            return Ended::Unmatched(Unmatched::Undecodable, rows);
        }
        if !version.is_empty() && version != exchange.version {
            self.rehearsals.answered(version);
            if !exchange.version.is_empty() {
                self.news.notify_one();
            }
            version.clone_into(&mut exchange.version);
        }
        let mut again = None;
        if self.noise_rate > 0.0 && fastrand::f64() < self.noise_rate {
            let second = self.ask(&requested).await;
            self.rehearsals.intake().repeated += 1;
            again = Some(second).filter(|second| second.status == Code::Ok);
        }
        let again = again.and_then(|second| Response::decode(requested.method, second.message).ok());
        self.rehearsals.refresh();
        self.rehearsals.offer_shared(&self.rehearsals.decoded(exchange, (request, response), again));
        Ended::Matched
    }

    async fn ask(&self, requested: &Requested) -> Answer {
        let started = Instant::now();
        let answered = match tokio::time::timeout(self.timeout, self.call(requested)).await {
            Ok(answered) => answered,
            Err(_) => Err(Status::deadline_exceeded("the primary did not answer in time")),
        };
        let nanos = started.elapsed().as_nanos() as u64;
        match answered {
            Ok(message) => Answer { message, status: Code::Ok, nanos },
            Err(status) => {
                let status = match status.code() {
                    // tonic's client calls its own timer, which is the same deadline, a cancellation.
                    Code::Cancelled if started.elapsed() >= self.timeout => Code::DeadlineExceeded,
                    // There was no answer on the wire: whatever code that was given is not the primary's.
                    _ if status.source().is_some() => Code::Unavailable,
                    code => code,
                };
                Answer { message: Bytes::new(), status, nanos }
            }
        }
    }

    async fn call(&self, requested: &Requested) -> Result<Bytes, Status> {
        let mut request = tonic::Request::new(requested.message.clone());
        request.set_timeout(self.timeout);
        let metadata = request.metadata_mut();
        metadata.insert(MARKER, MetadataValue::from_static("1"));
        for (name, value) in [("x-request-id", &requested.request_id), ("traceparent", &requested.traceparent)] {
            if let Ok(value) = value.parse::<MetadataValue<_>>()
                && !value.is_empty()
            {
                metadata.insert(name, value);
            }
        }
        let mut client = Grpc::new(self.line.clone()).max_decoding_message_size(MAX_ANSWER);
        client.ready().await.map_err(|error| Status::unavailable(error.to_string()))?;
        let path = http::uri::PathAndQuery::from_static(path(requested.method));
        client.unary(request, path, Raw).await.map(tonic::Response::into_inner)
    }
}

/// Bytes of an answer.
const MAX_ANSWER: usize = 64 << 20;

#[derive(Clone, Copy)]
enum Ended {
    Matched,
    Denied,
    /// Why, and the rows of the request, one where they are not known.
    Unmatched(Unmatched, u64),
}

/// What it means that the primary did not answer the sidecar's own question; nothing where it did. Too late, too busy, not reached, not
/// allowed: the user may have got an answer, with which the candidate might have differed. Anything else it says of the request.
fn unmatched(status: Code) -> Option<Unmatched> {
    match status {
        Code::Ok => None,
        Code::DeadlineExceeded => Some(Unmatched::Ttl),
        Code::Unavailable
        | Code::ResourceExhausted
        | Code::Cancelled
        | Code::PermissionDenied
        | Code::Unauthenticated => Some(Unmatched::Shed),
        _ => Some(Unmatched::PrimaryError),
    }
}
