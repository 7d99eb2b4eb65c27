//! The body of a request.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker, ready},
    time::{Duration, Instant},
};

use bytes::Bytes;
use h2::{Reason, RecvStream};
use http_body::{Body, Frame};

use super::meter::State;

/// Of a body of which nobody wants to know: so much is on its way before its sender can have heard that...
const MOST_PASSED_OVER: usize = 256 << 10;
/// ...and for so long.
const PASSING_OVER: Duration = Duration::from_secs(1);

/// The body of a request, of which the rest is passed over when nobody wants to know it: refused, denied, too large.
///
/// To reset the stream instead would be the end of the connection where that happens by the thousand: the library below us remembers
/// few of the streams that it has reset, takes the DATA that is on its way for the others as an attack (MadeYouReset), and hangs up with
/// ENHANCE_YOUR_CALM.
#[derive(Debug)]
pub struct Inbound(Option<Coming>);

#[derive(Debug)]
struct Coming {
    body: RecvStream,
    connection: Arc<State>,
    /// Bytes that have come.
    bytes: usize,
    /// Somebody waits for the rest.
    is_wanted: bool,
}

impl Coming {
    fn poll_data(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Bytes, h2::Error>>> {
        let polled = self.body.poll_data(context);
        if let Poll::Ready(Some(Ok(data))) = &polled {
            self.bytes += data.len();
            // It can't fail: what has been received can be given back.
            drop(self.body.flow_control().release_capacity(data.len()));
        }
        polled
    }

    fn want(&mut self) {
        if !std::mem::replace(&mut self.is_wanted, true) {
            self.connection.windows.want(self.body.stream_id().as_u32(), Instant::now);
        }
    }
}

impl Drop for Coming {
    fn drop(&mut self) {
        if self.is_wanted {
            self.connection.windows.ended(self.body.stream_id().as_u32());
        }
    }
}

impl Inbound {
    /// What comes with a call on `connection`.
    pub(super) fn new(body: RecvStream, connection: &Arc<State>) -> Self {
        let is_coming = !body.is_end_stream();
        Self(is_coming.then(|| Coming { body, connection: connection.clone(), bytes: 0, is_wanted: false }))
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, h2::Error>>> {
        let Some(coming) = &mut self.0 else { return Poll::Ready(None) };
        let polled = coming.poll_data(context);
        if polled.is_pending() {
            coming.want();
        }
        Poll::Ready(match ready!(polled) {
            Some(data) => Some(data.map(Frame::data)),
            None => {
                ready!(coming.body.poll_trailers(context)).transpose().map(|trailers| trailers.map(Frame::trailers))
            }
        })
    }
}

impl Body for Inbound {
    type Data = Bytes;
    type Error = h2::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, h2::Error>>> {
        let frame = match ready!(self.poll(context)) {
            // Its sender has learnt enough from the answer (RFC 9113, 8.1).
            Some(Err(error)) if error.reason() == Some(Reason::NO_ERROR) => None,
            frame => frame,
        };
        if matches!(&frame, None | Some(Err(_))) {
            self.0 = None;
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.0.as_ref().is_none_or(|coming| coming.body.is_end_stream())
    }
}

impl Drop for Inbound {
    fn drop(&mut self) {
        let Some(coming) = self.0.take().filter(|coming| !coming.body.is_end_stream()) else { return };
        let mut rest = Rest { most: coming.bytes + MOST_PASSED_OVER, coming };
        // Nearly always all that will come is there.
        if Pin::new(&mut rest).poll(&mut Context::from_waker(Waker::noop())).is_pending()
            // A worker that ends drops what is on it, and nobody is there to read.
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
        {
            runtime.spawn(tokio::time::timeout(PASSING_OVER, rest));
        }
    }
}

/// What is left of a body.
struct Rest {
    coming: Coming,
    /// Bytes of all of it, of which more are not passed over.
    most: usize,
}

impl Future for Rest {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let Self { coming, most } = &mut *self;
        loop {
            match coming.poll_data(context) {
                // Better to have it stop than to pass over more.
                Poll::Ready(Some(Ok(_))) if coming.bytes > *most => return Poll::Ready(()),
                Poll::Ready(Some(Ok(_))) => {}
                Poll::Ready(_) => return Poll::Ready(()),
                // With nothing on its way the stream can be reset without harm.
                Poll::Pending if !coming.is_wanted && coming.connection.windows.is_shut(coming.bytes) => {
                    return Poll::Ready(());
                }
                Poll::Pending => return Poll::Pending,
            }
        }
    }
}
