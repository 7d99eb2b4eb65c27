//! What bounds calls of more than one message, which tonic reads and writes: a deadline that holds for the answer, too; the size of each
//! message; where a short request has a long answer, their number. Tonic's services end silently on a request that breaks
//! off, so the reason is kept here and becomes the status.

use std::{
    pin::Pin,
    sync::{Arc, OnceLock},
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};

use bytes::{Buf, Bytes};
use http_body::{Body, Frame};
use tokio::time::Sleep;
use tonic::Status;

use super::{
    Inbound,
    admission::Permit,
    unary::{PREFIX, expired, too_large},
};

/// Why a stream was ended by us: the first reason.
pub(super) type Verdict = Arc<OnceLock<Status>>;

/// When a stream ends, whatever it is doing.
#[derive(Debug)]
pub(super) struct Until {
    sleep: Pin<Box<Sleep>>,
    allowed: Duration,
}

impl Until {
    pub(super) fn new(began: Instant, allowed: Duration) -> Self {
        Self { sleep: Box::pin(tokio::time::sleep_until((began + allowed).into())), allowed }
    }

    /// The status with which it ends now.
    pub(super) fn poll(&mut self, context: &mut Context<'_>) -> Poll<Status> {
        self.sleep.as_mut().poll(context).map(|()| expired(self.allowed))
    }
}

/// What a client may send on one stream.
#[derive(Clone, Copy, Debug)]
pub(super) struct StreamLimits {
    /// Bytes of a message, as it comes.
    pub(super) message: usize,
    /// Messages, and bytes of all of them.
    pub(super) all: Option<(usize, usize)>,
}

/// The messages of a request, as they come.
#[derive(Debug)]
pub(super) struct Messages {
    body: Inbound,
    limits: StreamLimits,
    until: Option<Until>,
    verdict: Verdict,
    /// The call among those of its client, and the bytes of the message that is coming.
    permit: Permit,
    prefix: [u8; PREFIX],
    /// Bytes of `prefix` that are there.
    have: usize,
    /// Bytes of the message that are still to come...
    left: usize,
    /// ...and of which it consists.
    length: usize,
    /// Of all its messages so far: how many...
    count: usize,
    /// ...and their bytes.
    bytes: usize,
}

impl Messages {
    pub(super) fn new(
        body: Inbound,
        limits: StreamLimits,
        until: Option<Until>,
        verdict: &Verdict,
        permit: Permit,
    ) -> Self {
        let verdict = verdict.clone();
        Self {
            body,
            limits,
            until,
            verdict,
            permit,
            prefix: [0; PREFIX],
            have: 0,
            left: 0,
            length: 0,
            count: 0,
            bytes: 0,
        }
    }

    fn received(&mut self, mut data: &[u8]) -> Result<(), Status> {
        self.bytes += data.len();
        while !data.is_empty() {
            if self.left > 0 {
                let passed = self.left.min(data.len());
                data.advance(passed);
                self.left -= passed;
            } else {
                let taken = (PREFIX - self.have).min(data.len());
                data.copy_to_slice(&mut self.prefix[self.have..][..taken]);
                self.have += taken;
                if self.have == PREFIX {
                    self.begin()?;
                }
            }
        }
        self.permit.hold(self.length - self.left)
    }

    fn begin(&mut self) -> Result<(), Status> {
        let [flag, a, b, c, d] = self.prefix;
        let length = u32::from_be_bytes([a, b, c, d]) as usize;
        if flag > 1 {
            return Err(Status::internal(format!("message flag {flag}, expected 0 or 1")));
        }
        if length > self.limits.message {
            return Err(too_large("request message", Some(length), self.limits.message));
        }
        self.permit.has_room_for(length)?;
        self.count += 1;
        if let Some((messages, bytes)) = self.limits.all
            && (self.count > messages || self.bytes > bytes)
        {
            return Err(Status::resource_exhausted(format!(
                "limit {messages} messages and {bytes} bytes on one stream"
            )));
        }
        (self.have, self.left, self.length) = (0, length, length);
        Ok(())
    }

    fn end<T>(&self, status: Status) -> Poll<Option<Result<T, Status>>> {
        let status = self.verdict.get_or_init(|| status).clone();
        Poll::Ready(Some(Err(status)))
    }
}

impl Body for Messages {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let this = self.get_mut();
        if let Some(Poll::Ready(status)) = this.until.as_mut().map(|until| until.poll(context)) {
            return this.end(status);
        }
        match ready!(Pin::new(&mut this.body).poll_frame(context)) {
            None => Poll::Ready(None),
            // Nobody is there any more to be told why.
            Some(Err(error)) => Poll::Ready(Some(Err(Status::cancelled(format!("request ended early: {error}"))))),
            Some(Ok(frame)) => {
                let checked = frame.data_ref().map_or(Ok(()), |data| this.received(data));
                match checked {
                    Ok(()) => Poll::Ready(Some(Ok(frame))),
                    Err(status) => this.end(status),
                }
            }
        }
    }
}
