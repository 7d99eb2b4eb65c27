//! In the path of the calls: every method of whatever service, byte for byte, frame by frame, trailers and compression
//! included. What is to be compared is noted as it goes by, by reference and within bounds, and offered when the answer has
//! gone; whatever fails in noting it costs the exchange and never the call.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Instant,
};

use bytes::Bytes;
use http::{
    HeaderMap, Request, Response, Uri, Version,
    request::Parts,
    uri::{PathAndQuery, Scheme},
};
use http_body::{Body as HttpBody, Frame, SizeHint};
use hyper::body::Incoming;
use tonic::{Code, Status};
use understudy::edge::{self, Body, Inbound};

use super::{
    capture::{Answered, Capture, Captures, Noted},
    is_marked, method,
    mirror::is_denied,
    reach::Reach,
};
use crate::{config::Config, rehearsals::Rehearsals};

mod pool;

use pool::{Lease, Pool};

/// The proxy. Shared by all threads that serve connections.
#[derive(Debug)]
pub(crate) struct Proxy {
    pool: Pool,
    rehearsals: Arc<Rehearsals>,
    captures: Arc<Captures>,
    sample_rate: f64,
    deny_methods: Vec<String>,
}

impl Proxy {
    pub(crate) fn new(config: &Config, reach: &Reach, rehearsals: &Arc<Rehearsals>, captures: &Arc<Captures>) -> Self {
        Self {
            pool: Pool::new(reach),
            rehearsals: rehearsals.clone(),
            captures: captures.clone(),
            sample_rate: config.sample_rate,
            deny_methods: config.deny_methods.clone(),
        }
    }

    /// Passes a call on to the primary.
    pub(crate) async fn call(&self, request: Request<Inbound>) -> Response<Body> {
        let (mut parts, body) = request.into_parts();
        let capture = self.watch(&parts);
        if upstream(&mut parts, self.pool.scheme()).is_none() {
            return refused(&Status::invalid_argument("the path of the call can't be passed on"));
        }
        // The answer's half is noted elsewhere; both meet in the same place.
        let noted = capture.as_ref().map(Capture::noted);
        let mut request = Request::from_parts(parts, RequestBody { body, capture });
        // A connection that has ended before it took the request gives it back; nothing is ever sent twice.
        for _ in 0..=RETRIES {
            let mut connection = match self.pool.connection().await {
                Ok(connection) => connection,
                Err(error) => return refused(&Status::unavailable(format!("no connection to the primary: {error}"))),
            };
            match connection.send(request).await {
                Ok(response) => return passed(response, noted, connection),
                Err((_, Some(unsent))) => request = unsent,
                Err((error, None)) => return refused(&failed(&error)),
            }
        }
        refused(&Status::unavailable("the primary closes every connection"))
    }

    /// The place where the call is noted; none when it is not to be compared.
    fn watch(&self, parts: &Parts) -> Option<Capture> {
        let path = parts.uri.path();
        let marked = is_marked(&parts.headers);
        let denied = is_denied(&self.deny_methods, path);
        let method = method(path).filter(|_| !marked && !denied);
        if let Some(method) = method
            && (self.sample_rate >= 1.0 || fastrand::f64() < self.sample_rate)
        {
            return Some(self.captures.begin(method, &parts.headers));
        }
        let mut state = self.rehearsals.intake();
        state.requests += 1;
        match method {
            _ if marked => state.looped += 1,
            None => state.denied += 1,
            Some(_) => state.sampled_out += 1,
        }
        None
    }
}

/// Connections that may turn out to have ended.
const RETRIES: usize = 2;

/// The same call, as a client of the primary makes it: to the authority that the caller has named.
fn upstream(parts: &mut Parts, scheme: Scheme) -> Option<()> {
    let path = parts.uri.path_and_query().cloned().unwrap_or(PathAndQuery::from_static("/"));
    let authority = parts.uri.authority().cloned();
    let authority = authority.or_else(|| parts.headers.get(http::header::HOST)?.to_str().ok()?.parse().ok());
    let mut uri = Uri::builder().scheme(scheme).path_and_query(path);
    uri = match authority {
        Some(authority) => uri.authority(authority),
        None => uri.authority("primary"),
    };
    parts.uri = uri.build().ok()?;
    parts.version = Version::HTTP_2;
    parts.extensions.clear();
    Some(())
}

fn passed(response: Response<Incoming>, noted: Option<Noted>, lease: Lease) -> Response<Body> {
    let (parts, body) = response.into_parts();
    if let Some(noted) = &noted {
        noted.answer(|answered| answered.begin(&parts));
    }
    let body = ResponseBody { body, noted, ended: false, _lease: lease };
    edge::passed(Response::from_parts(parts, tonic::body::Body::new(body)))
}

fn refused(status: &Status) -> Response<Body> {
    edge::passed(status.clone().into_http())
}

/// What a client of the primary would have made of it; the codes are those of gRPC over HTTP/2.
fn failed(error: &hyper::Error) -> Status {
    let mut source: Option<&(dyn std::error::Error + 'static)> = Some(error);
    let mut reason = None;
    while let Some(error) = source {
        reason = reason.or_else(|| error.downcast_ref::<h2::Error>().and_then(h2::Error::reason));
        source = error.source();
    }
    let code = match reason {
        None | Some(h2::Reason::REFUSED_STREAM | h2::Reason::NO_ERROR) => Code::Unavailable,
        Some(h2::Reason::CANCEL) => Code::Cancelled,
        Some(h2::Reason::ENHANCE_YOUR_CALM) => Code::ResourceExhausted,
        Some(h2::Reason::INADEQUATE_SECURITY) => Code::PermissionDenied,
        Some(_) => Code::Internal,
    };
    Status::new(code, format!("the primary has not answered: {error}"))
}

/// The caller's body on its way to the primary.
#[derive(Debug)]
pub(super) struct RequestBody {
    body: Inbound,
    capture: Option<Capture>,
}

impl HttpBody for RequestBody {
    type Data = Bytes;
    type Error = h2::Error;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, h2::Error>>> {
        let this = self.get_mut();
        let polled = Pin::new(&mut this.body).poll_frame(context);
        if let Some(capture) = &mut this.capture
            && let Poll::Ready(Some(Ok(frame))) = &polled
            && let Some(data) = frame.data_ref()
        {
            capture.request(data);
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// The primary's body on its way to the caller.
#[derive(Debug)]
struct ResponseBody {
    body: Incoming,
    noted: Option<Noted>,
    ended: bool,
    /// Its place on the connection.
    _lease: Lease,
}

impl ResponseBody {
    fn note(&self, change: impl FnOnce(&mut Answered)) {
        if let Some(noted) = &self.noted {
            noted.answer(change);
        }
    }
}

impl HttpBody for ResponseBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let this = self.get_mut();
        let polled = Pin::new(&mut this.body).poll_frame(context);
        match &polled {
            Poll::Ready(Some(Ok(frame))) => {
                if let Some(data) = frame.data_ref() {
                    this.note(|answered| answered.push(data));
                } else if let Some(trailers) = frame.trailers_ref() {
                    this.ended = true;
                    this.note(|answered| answered.end(status(trailers), Instant::now()));
                }
            }
            Poll::Ready(Some(Err(_))) => {
                this.ended = true;
                this.note(|answered| answered.end(Code::Unavailable as u32, Instant::now()));
            }
            Poll::Ready(None) | Poll::Pending => {}
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for ResponseBody {
    /// The answer has gone, or its caller.
    fn drop(&mut self) {
        if let Some(noted) = self.noted.take() {
            noted.finish();
        }
    }
}

/// The code in headers or trailers.
pub(super) fn status(headers: &HeaderMap) -> u32 {
    headers.get("grpc-status").map_or(Code::Unknown, |status| Code::from_bytes(status.as_bytes())) as u32
}
