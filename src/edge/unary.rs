//! Unary calls without tonic's streaming machinery: the body is read under the deadline, its one message is handed over as
//! bytes (so that the tap can keep them by reference), and every case that stock tonic answers wrongly gets the status
//! that the gRPC specification gives it.

use std::{
    future::Future,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode, header::CONTENT_TYPE};
use http_body_util::BodyExt;
use prost::Message;
use tonic::{Code, Status};

use super::{
    Inbound,
    admission::{Admission, Client, Permit},
    arriving::{Arriving, in_time},
    body::Body,
    compression::{self, ACCEPTED},
    timeout,
    turns::Turn,
};

/// The prefix of a message: one byte for "compressed", four for the length.
pub(super) const PREFIX: usize = 5;

/// Bytes and time that one call may take.
#[derive(Clone, Copy, Debug)]
pub struct MessageLimits {
    /// Bytes of a request message, decompressed.
    pub request: usize,
    /// Bytes of an answer.
    pub response: usize,
    /// The longest a call may take, whatever the client allows.
    pub time: Duration,
}

/// What every call must pass. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Gate {
    /// Of each call.
    pub messages: MessageLimits,
    /// Of all calls together.
    pub admission: Arc<Admission>,
}

/// One request whose message has arrived.
#[derive(Debug)]
pub struct Call {
    /// The message, decompressed: a slice of the buffer it was received in.
    pub message: Bytes,
    /// Metadata.
    pub headers: HeaderMap,
    /// When the whole request had arrived.
    pub arrived: Instant,
    /// When the caller stops waiting; always at most [`MessageLimits::time`] away.
    pub deadline: Instant,
    /// What the client allowed on arrival; absent when it set no deadline.
    pub timeout: Option<Duration>,
}

impl Call {
    /// A header as text; empty when it is absent or not ASCII.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }
}

/// An answer, framed once and shared by the connection and the tap.
#[derive(Clone, Debug)]
pub struct Frame(Bytes);

impl Frame {
    /// Encodes `message` behind its prefix, in one allocation of the right size.
    ///
    /// # Errors
    /// RESOURCE_EXHAUSTED when it is over `limit` bytes.
    pub fn encode(message: &impl Message, limit: usize) -> Result<Self, Status> {
        let length = message.encoded_len();
        if length > limit {
            return Err(too_large("answer", Some(length), limit));
        }
        let mut frame = BytesMut::with_capacity(PREFIX + length);
        frame.put_u8(0);
        frame.put_u32(length as u32);
        message.encode(&mut frame).map_err(|error| Status::internal(format!("answer can't be encoded: {error}")))?;
        Ok(Self(frame.freeze()))
    }

    /// What `write` appends behind its prefix.
    ///
    /// # Errors
    /// As [`Frame::encode`].
    pub fn written(write: impl FnOnce(&mut Vec<u8>), limit: usize) -> Result<Self, Status> {
        let mut frame = vec![0; PREFIX];
        write(&mut frame);
        let length = frame.len() - PREFIX;
        if length > limit {
            return Err(too_large("answer", Some(length), limit));
        }
        frame[1..PREFIX].copy_from_slice(&(length as u32).to_be_bytes());
        Ok(Self(frame.into()))
    }

    /// The message without its prefix.
    pub fn message(&self) -> Bytes {
        self.0.slice(PREFIX..)
    }
}

/// A message behind its prefix.
pub(super) fn frame(message: &[u8]) -> Bytes {
    let mut frame = BytesMut::with_capacity(PREFIX + message.len());
    frame.put_u8(0);
    frame.put_u32(message.len() as u32);
    frame.put_slice(message);
    frame.freeze()
}

pub(super) fn too_large(what: &str, size: Option<usize>, limit: usize) -> Status {
    let size = size.map_or_else(|| "more".into(), |size| format!("{size} bytes"));
    Status::resource_exhausted(format!("{what} too large: limit {limit} bytes, got {size}"))
}

/// Reads the one message of `request`, lets `handle` answer it in time and frames the answer. The code is for the metrics. `handle`
/// works in its turn, which it ends before it waits for anybody else.
pub async fn unary<H, A>(
    request: http::Request<Inbound>,
    gate: &Gate,
    client: impl FnOnce() -> Client,
    mut turn: Turn,
    handle: H,
) -> (Response<Body>, Code)
where
    H: FnOnce(Call, Turn) -> A,
    A: Future<Output = Result<Frame, Status>>,
{
    if let Some(refusal) = refuse_http(&request) {
        return (refusal, Code::Unimplemented);
    }
    let (timeout, allowed) = match allowed(request.headers(), gate.messages) {
        Ok(allowed) => allowed,
        Err((http, status)) => return (failure(http, &status), status.code()),
    };
    let deadline = Instant::now() + allowed;
    let arriving = Arriving::default();
    let answered = async {
        let (parts, body) = request.into_parts();
        let mut permit = gate.admission.begin(client)?;
        let message = receive(body, &parts.headers, gate.messages.request, &mut permit, &arriving).await?;
        permit.take_place()?;
        let arrived = Instant::now();
        turn.begin().await?;
        if Instant::now() >= deadline {
            return Err(expired(allowed));
        }
        let frame = handle(Call { message, headers: parts.headers, arrived, deadline, timeout }, turn).await?;
        permit.answered(frame.0.len())?;
        Ok((frame, permit))
    };
    match in_time(deadline, allowed, &arriving, answered).await {
        Ok((frame, permit)) => (success(frame, permit), Code::Ok),
        Err(status) => (failure(StatusCode::OK, &status), status.code()),
    }
}

/// Answers a call that may not be made; its body is not read.
pub fn denied(request: &http::Request<Inbound>, status: &Status) -> Response<Body> {
    refuse_http(request).unwrap_or_else(|| failure(StatusCode::OK, status))
}

/// What the client allows, and what a call may take.
pub(super) fn allowed(
    headers: &HeaderMap,
    limits: MessageLimits,
) -> Result<(Option<Duration>, Duration), (StatusCode, Status)> {
    // As grpc-go does: the header is broken, so the HTTP status says so, too.
    let timeout = timeout::parse(headers).map_err(|text| (StatusCode::BAD_REQUEST, Status::internal(text)))?;
    let allowed = timeout.map_or(limits.time, |timeout| timeout.min(limits.time));
    if allowed < Duration::from_micros(1) {
        return Err((StatusCode::OK, expired(allowed)));
    }
    Ok((timeout, allowed))
}

pub(super) fn expired(allowed: Duration) -> Status {
    Status::deadline_exceeded(format!("not answered within {allowed:?}"))
}

/// What is no gRPC call at all.
pub(super) fn refuse_http(request: &http::Request<Inbound>) -> Option<Response<Body>> {
    let plain = |code: StatusCode, name: HeaderName, value: &'static str| {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = code;
        response.headers_mut().insert(name, HeaderValue::from_static(value));
        Some(response)
    };
    if request.method() != Method::POST {
        return plain(StatusCode::METHOD_NOT_ALLOWED, http::header::ALLOW, "POST");
    }
    let content_type = request.headers().get(CONTENT_TYPE).map_or(&b""[..], HeaderValue::as_bytes);
    let subtype = content_type
        .strip_prefix(b"application/grpc")
        .map(|rest| rest.split(|byte| *byte == b';').next().unwrap_or_default());
    match subtype {
        Some(b"" | b"+proto") => None,
        Some(other) if other.starts_with(b"+") => Some(failure(
            StatusCode::OK,
            &Status::unimplemented(format!(
                "content-type {} is not served, application/grpc+proto is",
                content_type.escape_ascii()
            )),
        )),
        _ => plain(StatusCode::UNSUPPORTED_MEDIA_TYPE, http::header::ACCEPT, "application/grpc"),
    }
}

/// Reads exactly one message, for which `permit` has room.
pub(super) async fn receive(
    mut body: Inbound,
    headers: &HeaderMap,
    limit: usize,
    permit: &mut Permit,
    arriving: &Arriving,
) -> Result<Bytes, Status> {
    let mut chunks = Chunks::default();
    let mut header: Option<(u8, usize)> = None;
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| Status::cancelled(format!("request body ended early: {error}")))?;
        let Ok(data) = frame.into_data() else { continue };
        chunks.push(data);
        if header.is_none() && chunks.len() >= PREFIX {
            let mut prefix = chunks.take(PREFIX);
            let (flag, length) = (prefix.get_u8(), prefix.get_u32() as usize);
            if flag > 1 {
                return Err(Status::internal(format!("message flag {flag}, expected 0 or 1")));
            }
            // Before the bytes arrive, let alone a buffer for them.
            if length > limit {
                return Err(too_large("request message", Some(length), limit));
            }
            permit.has_room_for(length)?;
            header = Some((flag, length));
        }
        if header.is_some_and(|(_, length)| chunks.len() > length) {
            return Err(Status::unimplemented("more than one message in a unary call"));
        }
        // What has come, not what is claimed: a claim costs its maker nothing.
        permit.hold(chunks.len())?;
        arriving.have(chunks.len());
    }
    arriving.is_complete();
    let (flag, length) = header.ok_or_else(|| {
        Status::internal(format!("request ended within a message prefix, after {} of {PREFIX} bytes", chunks.len()))
    })?;
    if chunks.len() < length {
        return Err(Status::internal(format!(
            "request ended within its message, after {} of {length} bytes",
            chunks.len()
        )));
    }
    let message = chunks.take(length);
    if flag == 0 {
        return Ok(message);
    }
    match headers.get("grpc-encoding").map(HeaderValue::as_bytes) {
        None | Some(b"identity") => {
            Err(Status::internal("message is marked as compressed, but grpc-encoding is not set"))
        }
        Some(encoding) => {
            // What it will be is not known before, only what it may be.
            permit.hold(length + limit)?;
            let message = compression::decompress(&String::from_utf8_lossy(encoding), &message, limit)?;
            permit.hold(message.len())?;
            Ok(message)
        }
    }
}

/// What was received: nearly always one chunk, which is then passed on without a copy.
#[derive(Default)]
struct Chunks {
    first: Bytes,
    more: BytesMut,
}

impl Chunks {
    fn len(&self) -> usize {
        self.first.len() + self.more.len()
    }

    fn push(&mut self, data: Bytes) {
        if self.len() == 0 {
            self.first = data;
        } else {
            self.more.extend_from_slice(&data);
        }
    }

    /// The first `count` bytes, which must be there.
    fn take(&mut self, count: usize) -> Bytes {
        if count <= self.first.len() {
            return self.first.split_to(count);
        }
        let mut joined = BytesMut::with_capacity(self.len());
        joined.extend_from_slice(&self.first);
        joined.extend_from_slice(&self.more);
        let mut joined = joined.freeze();
        self.more.clear();
        let taken = joined.split_to(count);
        self.first = joined;
        taken
    }
}

const GRPC: HeaderValue = HeaderValue::from_static("application/grpc");
const STATUS: HeaderName = HeaderName::from_static("grpc-status");

fn success(frame: Frame, permit: Permit) -> Response<Body> {
    let mut trailers = HeaderMap::with_capacity(1);
    trailers.insert(STATUS, HeaderValue::from_static("0"));
    let mut response = Response::new(Body::unary(frame.0, trailers, permit));
    response.headers_mut().insert(CONTENT_TYPE, GRPC);
    response
}

/// An answer of headers only.
pub(super) fn failure(code: StatusCode, status: &Status) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = code;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, GRPC);
    if status.code() == Code::Unimplemented {
        headers.insert("grpc-accept-encoding", HeaderValue::from_static(ACCEPTED));
    }
    if status.add_header(headers).is_err() {
        // Metadata of ours that is no header: never the client's fault.
        headers.insert(STATUS, HeaderValue::from_static("13"));
    }
    response
}
