//! Who connects must say so: a socket on which the HTTP/2 preface never arrives would keep its place for ever, and no
//! library below us hangs up on it.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Bytes of the preface of a client.
const PREFACE: usize = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".len();

/// A socket whose received bytes are counted until the greeting is complete.
#[derive(Debug)]
pub(super) struct Greeted<I> {
    io: I,
    received: Arc<AtomicUsize>,
}

/// The side that waits for the greeting.
#[derive(Debug)]
pub(super) struct Greeting(Arc<AtomicUsize>);

impl<I> Greeted<I> {
    pub(super) fn new(io: I) -> (Self, Greeting) {
        let received = Arc::new(AtomicUsize::new(0));
        (Self { io, received: received.clone() }, Greeting(received))
    }
}

impl Greeting {
    /// Completes after `limit` if the greeting is not there by then; else never.
    pub(super) async fn missed(&self, limit: Duration) {
        tokio::time::sleep(limit).await;
        if self.0.load(Ordering::Relaxed) >= PREFACE {
            std::future::pending::<()>().await;
        }
    }
}

impl<I: AsyncRead + Unpin> AsyncRead for Greeted<I> {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, to: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = to.filled().len();
        ready!(Pin::new(&mut self.io).poll_read(context, to))?;
        if self.received.load(Ordering::Relaxed) < PREFACE {
            self.received.fetch_add(to.filled().len() - before, Ordering::Relaxed);
        }
        Poll::Ready(Ok(()))
    }
}

impl<I: AsyncWrite + Unpin> AsyncWrite for Greeted<I> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(context, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(context)
    }
}
