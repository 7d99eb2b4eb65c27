//! The body of an answer: ours for unary calls, tonic's for everything else.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::{HeaderMap, Response};
use http_body::{Frame, SizeHint};
use tonic::{Code, Status};

use super::{
    admission::Permit,
    meter::{Answering, State},
    stream::{Until, Verdict},
};

/// The body of an answer.
#[derive(Debug)]
pub struct Body(Kind);

#[derive(Debug)]
enum Kind {
    /// One message, then the trailers: nothing to box and nothing to poll twice.
    Unary {
        message: Option<Bytes>,
        trailers: Option<HeaderMap>,
        /// The bytes of the call: kept until the message has left this process's memory.
        permit: Option<Permit>,
    },
    Tonic {
        body: tonic::body::Body,
        ended: Ended,
    },
    Stream(Box<Stream>),
}

/// An answer of many messages.
#[derive(Debug)]
struct Stream {
    body: tonic::body::Body,
    ended: Ended,
    until: Option<Until>,
    /// Why its request was broken off.
    verdict: Verdict,
    is_over: bool,
    connection: Option<Arc<State>>,
    /// A message is on its way. What is below asks for the next one as soon as the reader has a window for it, and never in vain: who
    /// reads nothing is found out by that, and would keep the stream past its deadline.
    unread: Option<Answering>,
}

impl Stream {
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        self.unread = None;
        if self.is_over {
            return Poll::Ready(None);
        }
        if let Some(Poll::Ready(status)) = self.until.as_mut().map(|until| until.poll(context)) {
            return Poll::Ready(Some(Ok(self.end(&status))));
        }
        let polled = ready!(http_body::Body::poll_frame(Pin::new(&mut self.body), context));
        let is_data = matches!(&polled, Some(Ok(frame)) if frame.is_data());
        if is_data {
            self.unread = self.connection.as_ref().map(State::answering);
        } else if let Some(status) = self.verdict.get().cloned() {
            return Poll::Ready(Some(Ok(self.end(&status))));
        } else if let Some(Ok(frame)) = &polled
            && let Some(trailers) = frame.trailers_ref()
        {
            self.is_over = true;
            self.ended.with(code(trailers));
        }
        Poll::Ready(polled)
    }

    fn end(&mut self, status: &Status) -> Frame<Bytes> {
        // Whoever writes to it learns now that nobody reads.
        self.body = tonic::body::Body::empty();
        self.is_over = true;
        let mut trailers = HeaderMap::new();
        if status.add_header(&mut trailers).is_err() {
            trailers.insert(STATUS, http::HeaderValue::from_static("13"));
        }
        self.ended.with(code(&trailers));
        Frame::trailers(trailers)
    }
}

/// Bytes, and what is given back with them.
struct Kept {
    bytes: Bytes,
    _answering: Answering,
    _permit: Option<Permit>,
}

impl AsRef<[u8]> for Kept {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

/// Tells how a call has ended: by its trailers, or by being dropped before them.
struct Ended(Option<Box<dyn FnOnce(Code) + Send>>);

impl Ended {
    fn with(&mut self, code: Code) {
        if let Some(tell) = self.0.take() {
            tell(code);
        }
    }
}

impl Drop for Ended {
    fn drop(&mut self) {
        self.with(Code::Cancelled);
    }
}

impl std::fmt::Debug for Ended {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_tuple("Ended").field(&self.0.is_some()).finish()
    }
}

impl Body {
    /// A framed message and the trailers that follow it.
    pub(super) fn unary(message: Bytes, trailers: HeaderMap, permit: Permit) -> Self {
        Self(Kind::Unary { message: Some(message), trailers: Some(trailers), permit: Some(permit) })
    }

    /// No body: the headers say it all.
    pub(super) fn empty() -> Self {
        Self(Kind::Unary { message: None, trailers: None, permit: None })
    }

    /// The message and the trailers of an answer that has no more than that.
    ///
    /// # Errors
    /// It is one of many messages, and comes back.
    pub(super) fn into_unary(self) -> Result<(Option<Bytes>, Option<HeaderMap>), Self> {
        match self.0 {
            Kind::Unary { message, trailers, .. } => Ok((message, trailers)),
            other => Err(Self(other)),
        }
    }

    /// Keeps the call's bytes, and tells the connection that an answer waits, until the last byte was given to the socket.
    /// That is later than the end of this body: the library below us buffers what a reader without a window can't take.
    pub(super) fn kept_until_sent(mut self, connection: &Arc<State>) -> Self {
        match &mut self.0 {
            Kind::Unary { message, permit, .. } => {
                if let Some(bytes) = message.take() {
                    let kept = Kept { bytes, _answering: connection.answering(), _permit: permit.take() };
                    *message = Some(Bytes::from_owner(kept));
                }
            }
            Kind::Stream(stream) => {
                stream.unread = Some(connection.answering());
                stream.connection = Some(connection.clone());
            }
            Kind::Tonic { .. } => {}
        }
        self
    }
}

/// An answer that somebody else has written, as it is.
pub fn passed(response: Response<tonic::body::Body>) -> Response<Body> {
    observed(response, |_| {})
}

/// An answer of tonic's; `ended` is called once, with the code that the client sees, or CANCELLED when it sees none.
pub(super) fn observed(
    response: Response<tonic::body::Body>,
    ended: impl FnOnce(Code) + Send + 'static,
) -> Response<Body> {
    let mut ended = Ended(Some(Box::new(ended)));
    if response.headers().contains_key(STATUS) {
        ended.with(code(response.headers()));
    }
    response.map(|body| Body(Kind::Tonic { body, ended }))
}

/// As [`observed`], until a deadline; `verdict` overrules what its service says at the end.
pub(super) fn streamed(response: Response<Body>, until: Option<Until>, verdict: Verdict) -> Response<Body> {
    response.map(|body| match body.0 {
        Kind::Tonic { body, ended } => Body(Kind::Stream(Box::new(Stream {
            // Nothing but a status in the headers.
            is_over: http_body::Body::is_end_stream(&body),
            body,
            ended,
            until,
            verdict,
            connection: None,
            unread: None,
        }))),
        other => Body(other),
    })
}

const STATUS: &str = "grpc-status";

pub(super) fn code(headers: &HeaderMap) -> Code {
    headers.get(STATUS).map_or(Code::Unknown, |status| Code::from_bytes(status.as_bytes()))
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        match &mut self.get_mut().0 {
            Kind::Unary { message, trailers, .. } => Poll::Ready(
                message
                    .take()
                    .map(|message| Ok(Frame::data(message)))
                    .or_else(|| trailers.take().map(|trailers| Ok(Frame::trailers(trailers)))),
            ),
            Kind::Tonic { body, ended } => {
                let polled = Pin::new(body).poll_frame(context);
                if let Poll::Ready(Some(Ok(frame))) = &polled
                    && let Some(trailers) = frame.trailers_ref()
                {
                    ended.with(code(trailers));
                }
                polled
            }
            Kind::Stream(stream) => stream.poll(context),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            Kind::Unary { message, trailers, .. } => message.is_none() && trailers.is_none(),
            Kind::Tonic { body, .. } => body.is_end_stream(),
            // What its service thinks is not the last word.
            Kind::Stream(stream) => stream.is_over,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Kind::Unary { message, .. } => SizeHint::with_exact(message.as_ref().map_or(0, |m| m.len() as u64)),
            Kind::Tonic { body, .. } => body.size_hint(),
            Kind::Stream(_) => SizeHint::default(),
        }
    }
}
