//! What goes by in the proxy, kept by reference until the answer has gone, and then made an exchange of, on another thread
//! than the call's.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Instant, SystemTime, UNIX_EPOCH},
};

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, response};
use tokio::sync::{Mutex as AsyncMutex, Notify, mpsc};
use tonic::Code;
use understudy::{
    edge,
    v1::{Exchange, Method},
};

use super::{Side, Unmatched, header, proxy::status};
use crate::{
    candidate::MAX_VERSION,
    config::Config,
    exchange::{Offered, Request, Response},
    rehearsals::Rehearsals,
};

/// The prefix of a message.
const PREFIX: usize = 5;

/// Where captured calls become exchanges.
#[derive(Debug)]
pub(crate) struct Captures {
    rehearsals: Arc<Rehearsals>,
    limits: Limits,
    /// Kept in memory by all captures.
    bytes: AtomicUsize,
    queue: mpsc::Sender<Finished>,
    finished: AsyncMutex<mpsc::Receiver<Finished>>,
    /// Told when another version has answered than the one that is followed.
    news: Arc<Notify>,
}

#[derive(Clone, Copy, Debug)]
struct Limits {
    /// Of each body.
    message: usize,
    /// Of all.
    all: usize,
}

/// One half of a call: chunks as they went by.
#[derive(Debug, Default)]
struct Half {
    headers: HeaderMap,
    chunks: Vec<Bytes>,
    length: usize,
}

/// What has been noted of a call.
#[derive(Debug)]
struct Call {
    method: Method,
    arrived: Instant,
    request: Half,
    answer: Answered,
    /// Why nothing will come of it.
    lost: Option<Unmatched>,
    /// What it has taken of [`Captures::bytes`].
    held: usize,
}

/// What has been noted of an answer.
#[derive(Debug, Default)]
pub(super) struct Answered {
    half: Half,
    /// Not read into `half` yet: its chunks are taken by [`Noted::answer`], which knows the limits.
    fresh: Option<Bytes>,
    ended: Option<(u32, Instant)>,
}

impl Answered {
    /// The headers have come; they may be all there is.
    pub(super) fn begin(&mut self, parts: &response::Parts) {
        if let Some(encoding) = parts.headers.get("grpc-encoding") {
            self.half.headers.insert("grpc-encoding", encoding.clone());
        }
        if !parts.status.is_success() {
            self.end(Code::Unknown as u32, Instant::now());
        } else if parts.headers.contains_key("grpc-status") {
            self.end(status(&parts.headers), Instant::now());
        }
    }

    /// A part of the body has come.
    pub(super) fn push(&mut self, data: &Bytes) {
        self.fresh = Some(data.clone());
    }

    /// The call has ended with this code.
    pub(super) fn end(&mut self, status: u32, now: Instant) {
        self.ended.get_or_insert((status, now));
    }
}

/// The request's side of a call that is noted.
#[derive(Debug)]
pub(super) struct Capture(Noted);

/// A call that is noted. When the last of its two sides lets go of it without [`Noted::finish`], nothing was answered.
#[derive(Clone, Debug)]
pub(super) struct Noted(Arc<Slot>);

#[derive(Debug)]
struct Slot {
    captures: Arc<Captures>,
    call: Mutex<Option<Box<Call>>>,
}

/// A call whose answer has gone.
#[derive(Debug)]
struct Finished {
    captures: Arc<Captures>,
    call: Box<Call>,
}

impl Captures {
    pub(crate) fn new(config: &Config, rehearsals: &Arc<Rehearsals>, news: &Arc<Notify>) -> Self {
        let (queue, finished) = mpsc::channel(config.queue);
        Self {
            rehearsals: rehearsals.clone(),
            limits: Limits { message: config.capture_bytes, all: config.queue_bytes },
            bytes: AtomicUsize::new(0),
            queue,
            finished: AsyncMutex::new(finished),
            news: news.clone(),
        }
    }

    /// A call begins.
    pub(super) fn begin(self: &Arc<Self>, method: Method, headers: &HeaderMap) -> Capture {
        let mut kept = HeaderMap::new();
        for name in ["grpc-encoding", "x-request-id", "x-shadow-id", "traceparent"] {
            if let Some(value) = headers.get(name) {
                kept.insert(name, value.clone());
            }
        }
        let call = Call {
            method,
            arrived: Instant::now(),
            request: Half { headers: kept, ..Half::default() },
            answer: Answered::default(),
            lost: None,
            held: 0,
        };
        let mut state = self.rehearsals.intake();
        state.requests += 1;
        state.under_way += 1;
        drop(state);
        Capture(Noted(Arc::new(Slot { captures: self.clone(), call: Mutex::new(Some(Box::new(call))) })))
    }

    /// Makes exchanges of what has gone by, one at a time, for ever.
    pub(crate) async fn work(self: Arc<Self>) {
        loop {
            let next = self.finished.lock().await.recv().await;
            // The sender is ours, so the queue never ends.
            let Some(finished) = next else { return };
            let assembled = self.assemble(&finished.call);
            self.release(&finished.call);
            match assembled {
                Ok(offered) => {
                    self.settle(|state| match offered.exchange.status {
                        0 => state.matched += 1,
                        _ => state.unmatched(Side::Mirror, Unmatched::PrimaryError, 1),
                    });
                    self.rehearsals.refresh();
                    self.rehearsals.offer_shared(&offered);
                }
                Err(reason) => self.lose(reason),
            }
        }
    }

    fn assemble(&self, call: &Call) -> Result<Arc<Offered>, Unmatched> {
        if let Some(reason) = call.lost {
            return Err(reason);
        }
        let primary = self.rehearsals.primary();
        let (model, version) =
            primary.map(|primary| (primary.name.clone(), primary.version.clone())).unwrap_or_default();
        // Gone before the end of the answer: then there is none.
        let (status, ended) = call.answer.ended.unwrap_or((Code::Cancelled as u32, Instant::now()));
        let latency = ended.saturating_duration_since(call.arrived);
        let mut exchange = Exchange {
            method: call.method.into(),
            model,
            version,
            status,
            arrived_unix_nanos: unix_nanos(call.arrived),
            latency_nanos: latency.as_nanos() as u64,
            request_id: header(&call.request.headers, "x-request-id"),
            shadow_id: header(&call.request.headers, "x-shadow-id"),
            traceparent: header(&call.request.headers, "traceparent"),
            // Whatever came marked is not here.
            shadow_via: self.rehearsals.via("").unwrap_or_default(),
            ..Exchange::default()
        };
        let message = |half: &Half| {
            edge::unframe(&half.joined(), &half.headers, self.limits.message).map_err(|_| Unmatched::Undecodable)
        };
        if status != 0 {
            let request = message(&call.request).ok().and_then(|message| Request::decode(call.method, &message).ok());
            exchange.rows = request.as_ref().map_or(0, Request::rows);
            if let Some(asked) = request.as_ref().map(Request::model).filter(|model| !model.is_empty()) {
                asked.clone_into(&mut exchange.model);
            }
            return Ok(Offered::new(exchange));
        }
        exchange.request = message(&call.request)?;
        exchange.response = message(&call.answer.half)?;
        let request = Request::decode(call.method, &exchange.request).map_err(|_| Unmatched::Undecodable)?;
        let response = Response::decode(call.method, exchange.response.clone()).map_err(|_| Unmatched::Undecodable)?;
        exchange.rows = request.rows();
        let (model, version) = response.identity();
        if version.len() > MAX_VERSION {
            return Err(Unmatched::Undecodable);
        }
        if !model.is_empty() && !exchange.model.is_empty() && model != exchange.model {
            model.clone_into(&mut exchange.model);
            self.news.notify_one();
        } else if !version.is_empty() && version != exchange.version {
            self.rehearsals.answered(version);
            if !exchange.version.is_empty() {
                self.news.notify_one();
            }
        }
        if !version.is_empty() {
            version.clone_into(&mut exchange.version);
        }
        Ok(self.rehearsals.decoded(exchange, (request, response), None))
    }

    fn settle(&self, change: impl FnOnce(&mut super::IntakeState)) {
        let mut state = self.rehearsals.intake();
        state.under_way -= 1;
        change(&mut state);
    }

    fn lose(&self, reason: Unmatched) {
        self.settle(|state| state.unmatched(Side::Mirror, reason, 1));
        self.rehearsals.lost(reason.into(), 1, 1);
    }

    fn release(&self, call: &Call) {
        self.bytes.fetch_sub(call.held, Ordering::Relaxed);
    }

    /// Hands over what is noted. Never waits.
    fn finish(self: &Arc<Self>, call: Box<Call>) {
        let finished = Finished { captures: self.clone(), call };
        if let Err(refused) = self.queue.try_send(finished) {
            let (mpsc::error::TrySendError::Full(Finished { captures, call })
            | mpsc::error::TrySendError::Closed(Finished { captures, call })) = refused;
            captures.release(&call);
            captures.lose(call.lost.unwrap_or(Unmatched::Shed));
        }
    }
}

impl Half {
    fn joined(&self) -> Bytes {
        match self.chunks.as_slice() {
            [only] => only.clone(),
            chunks => {
                let mut all = BytesMut::with_capacity(self.length);
                for chunk in chunks {
                    all.extend_from_slice(chunk);
                }
                all.freeze()
            }
        }
    }
}

impl Call {
    /// Notes a chunk of one half, unless that is too much.
    fn note(&mut self, captures: &Captures, data: Bytes, half: fn(&mut Self) -> &mut Half) {
        if self.lost.is_some() {
            return;
        }
        let Limits { message, all } = captures.limits;
        let size = data.len();
        let length = half(self).length + size;
        self.held += size;
        if captures.bytes.fetch_add(size, Ordering::Relaxed) + size > all {
            self.lost = Some(Unmatched::Shed);
        } else if length > message.saturating_add(PREFIX) {
            self.lost = Some(Unmatched::Oversize);
        }
        if self.lost.is_some() {
            // Nothing of it is needed any more.
            (self.request.chunks, self.answer.half.chunks) = (Vec::new(), Vec::new());
            captures.bytes.fetch_sub(std::mem::take(&mut self.held), Ordering::Relaxed);
            return;
        }
        let half = half(self);
        half.length = length;
        half.chunks.push(data);
    }
}

impl Noted {
    fn call(&self) -> MutexGuard<'_, Option<Box<Call>>> {
        self.0.call.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes something about the answer.
    pub(super) fn answer(&self, change: impl FnOnce(&mut Answered)) {
        if let Some(call) = self.call().as_mut() {
            change(&mut call.answer);
            if let Some(data) = call.answer.fresh.take() {
                call.note(&self.0.captures, data, |call| &mut call.answer.half);
            }
        }
    }

    /// The answer has gone.
    pub(super) fn finish(self) {
        if let Some(call) = self.call().take() {
            self.0.captures.finish(call);
        }
    }
}

impl Capture {
    /// The answer's side.
    pub(super) fn noted(&self) -> Noted {
        self.0.clone()
    }

    /// Notes a part of the request's body.
    pub(super) fn request(&mut self, data: &Bytes) {
        if let Some(call) = self.0.call().as_mut() {
            call.note(&self.0.0.captures, data.clone(), |call| &mut call.request);
        }
    }
}

impl Drop for Slot {
    /// The primary was not reached, or the caller has gone before the answer began.
    fn drop(&mut self) {
        let call = self.call.get_mut().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(mut call) = call {
            call.answer.end(Code::Unavailable as u32, Instant::now());
            self.captures.finish(call);
        }
    }
}

fn unix_nanos(then: Instant) -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    now.saturating_sub(then.elapsed()).as_nanos() as u64
}
