//! The body of a request.

use std::{
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;

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
pub struct Inbound(Option<Incoming>);

impl From<Incoming> for Inbound {
    fn from(body: Incoming) -> Self {
        Self(Some(body))
    }
}

impl Body for Inbound {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let Some(body) = &mut self.0 else { return Poll::Ready(None) };
        let polled = Pin::new(body).poll_frame(context);
        if matches!(polled, Poll::Ready(None | Some(Err(_)))) {
            self.0 = None;
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.0.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.0.as_ref().map_or_else(|| SizeHint::with_exact(0), Body::size_hint)
    }
}

impl Drop for Inbound {
    fn drop(&mut self) {
        let Some(body) = self.0.take().filter(|body| !body.is_end_stream()) else { return };
        // A worker that ends drops what is on it, and nobody is there to read.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(tokio::time::timeout(PASSING_OVER, pass_over(body)));
        }
    }
}

async fn pass_over(mut body: Incoming) {
    let mut bytes = 0;
    while let Some(Ok(frame)) = body.frame().await {
        bytes += frame.data_ref().map_or(0, Bytes::len);
        if bytes > MOST_PASSED_OVER {
            // Better to have it stop.
            return;
        }
    }
}
