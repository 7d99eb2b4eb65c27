//! The body of a request.

use std::{
    pin::Pin,
    task::{Context, Poll, Waker, ready},
    time::Duration,
};

use bytes::Bytes;
use h2::{Reason, RecvStream};
use http_body::{Body, Frame};

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
pub struct Inbound(Option<RecvStream>);

impl From<RecvStream> for Inbound {
    fn from(body: RecvStream) -> Self {
        Self(Some(body).filter(|body| !body.is_end_stream()))
    }
}

impl Inbound {
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, h2::Error>>> {
        let Some(body) = &mut self.0 else { return Poll::Ready(None) };
        Poll::Ready(match ready!(body.poll_data(context)) {
            Some(Ok(data)) => {
                // It can't fail: what has been received can be given back.
                drop(body.flow_control().release_capacity(data.len()));
                Some(Ok(Frame::data(data)))
            }
            Some(Err(error)) => Some(Err(error)),
            None => ready!(body.poll_trailers(context)).transpose().map(|trailers| trailers.map(Frame::trailers)),
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
        self.0.as_ref().is_none_or(RecvStream::is_end_stream)
    }
}

impl Drop for Inbound {
    fn drop(&mut self) {
        let Some(body) = self.0.take().filter(|body| !body.is_end_stream()) else { return };
        let mut rest = Rest { body, passed_over: 0 };
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
    body: RecvStream,
    passed_over: usize,
}

impl Future for Rest {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        loop {
            let Some(Ok(data)) = ready!(self.body.poll_data(context)) else { return Poll::Ready(()) };
            self.passed_over += data.len();
            if self.passed_over > MOST_PASSED_OVER {
                // Better to have it stop.
                return Poll::Ready(());
            }
            // It can't fail: what has been received can be given back.
            drop(self.body.flow_control().release_capacity(data.len()));
        }
    }
}
