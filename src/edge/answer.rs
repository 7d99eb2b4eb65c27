//! An answer on its way into its stream.

use std::{
    error::Error,
    future::poll_fn,
    pin::{Pin, pin},
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use h2::{Reason, SendStream, server::SendResponse};
use http::Response;
use http_body::{Body as _, Frame};
use tonic::Status;

use super::Body;

/// Sends what `call` answers. It is dropped when its caller has reset it or has gone.
pub(super) async fn answer(call: impl Future<Output = Response<Body>>, mut respond: SendResponse<Bytes>) {
    let response = {
        let mut call = pin!(call);
        poll_fn(|context| match call.as_mut().poll(context) {
            Poll::Ready(response) => Poll::Ready(Some(response)),
            Poll::Pending => respond.poll_reset(context).map(|_| None),
        })
        .await
    };
    if let Some(response) = response
        && let Some((body, stream)) = send(response, respond)
        && let Err(error) = pass(body, stream).await
    {
        tracing::debug!(%error, "an answer has ended early");
    }
}

/// Sends what of an answer can be sent at once: its headers, and all there is to a unary one. What is left are the messages of a stream.
pub(super) fn send(response: Response<Body>, mut respond: SendResponse<Bytes>) -> Option<(Body, SendStream<Bytes>)> {
    let (head, body) = response.into_parts();
    let is_whole = body.is_end_stream();
    let mut stream = match respond.send_response(Response::from_parts(head, ()), is_whole) {
        Ok(stream) => stream,
        Err(error) => {
            tracing::debug!(%error, "an answer was not sent");
            respond.send_reset(Reason::INTERNAL_ERROR);
            return None;
        }
    };
    if is_whole {
        return None;
    }
    let (message, trailers) = match body.into_unary() {
        Ok(unary) => unary,
        Err(body) => return Some((body, stream)),
    };
    // What the reader has no window for is kept by the library; the message holds its place among the bytes of answers until then.
    let sent = message.map_or(Ok(()), |message| stream.send_data(message, trailers.is_none()));
    if let Err(error) = sent.and_then(|()| trailers.map_or(Ok(()), |trailers| stream.send_trailers(trailers))) {
        tracing::debug!(%error, "an answer was not sent");
    }
    None
}

/// Passes `body` on, a frame at a time: the next one is asked for when the reader has a window for the one before.
async fn pass(body: Body, mut stream: SendStream<Bytes>) -> Result<(), h2::Error> {
    let mut body = pin!(body);
    loop {
        let frame = match poll_fn(|context| next(body.as_mut(), &mut stream, context)).await? {
            Some(Ok(frame)) => frame,
            Some(Err(status)) => {
                stream.send_reset(reason(&status));
                return Ok(());
            }
            None => return stream.send_data(Bytes::new(), true),
        };
        match frame.into_data() {
            Ok(data) => {
                let is_last = body.is_end_stream();
                if !data.is_empty() {
                    // A byte and no more: others of the connection share its window. What is sent asks for the rest.
                    stream.reserve_capacity(1);
                    if !poll_fn(|context| room(&mut stream, context)).await? {
                        return Ok(());
                    }
                }
                stream.send_data(data, is_last)?;
                if is_last {
                    return Ok(());
                }
            }
            Err(other) => {
                if let Ok(trailers) = other.into_trailers() {
                    // No more is wanted of the connection's window.
                    stream.reserve_capacity(0);
                    return stream.send_trailers(trailers);
                }
            }
        }
    }
}

type NextFrame = Option<Result<Frame<Bytes>, Status>>;

fn next(
    body: Pin<&mut Body>,
    stream: &mut SendStream<Bytes>,
    context: &mut Context<'_>,
) -> Poll<Result<NextFrame, h2::Error>> {
    is_open(stream, context)?;
    body.poll_frame(context).map(Ok)
}

/// Waits until at least a byte may be sent; false when the stream takes no more.
fn room(stream: &mut SendStream<Bytes>, context: &mut Context<'_>) -> Poll<Result<bool, h2::Error>> {
    is_open(stream, context)?;
    while stream.capacity() == 0 {
        if ready!(stream.poll_capacity(context)).transpose()?.is_none() {
            return Poll::Ready(Ok(false));
        }
    }
    Poll::Ready(Ok(true))
}

/// # Errors
/// The reader has reset the stream, or has gone. It is woken for by `context`.
fn is_open(stream: &mut SendStream<Bytes>, context: &mut Context<'_>) -> Result<(), h2::Error> {
    match stream.poll_reset(context) {
        Poll::Ready(reset) => Err(reset.map_or_else(|error| error, h2::Error::from)),
        Poll::Pending => Ok(()),
    }
}

/// That of the stream from which the body came, where it came from one.
fn reason(status: &Status) -> Reason {
    let mut cause: Option<&dyn Error> = Some(status);
    while let Some(error) = cause {
        if let Some(reason) = error.downcast_ref::<h2::Error>().and_then(h2::Error::reason) {
            return reason;
        }
        cause = error.source();
    }
    Reason::INTERNAL_ERROR
}
