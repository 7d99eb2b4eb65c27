//! Where calls run.

use std::{
    pin::Pin,
    sync::{Arc, atomic::Ordering},
    task::{Context, Waker},
};

use hyper::rt::Executor;

use super::Turns;

/// Runs each call as a task of its own; but a refusal at once, within the connection's, so that refusals that were read
/// together are written together.
#[derive(Clone, Debug)]
pub(in crate::edge) struct CallExecutor(pub(in crate::edge) Arc<Turns>);

impl<F: Future<Output = ()> + Send + 'static> Executor<F> for CallExecutor {
    fn execute(&self, call: F) {
        if !self.0.refused.swap(false, Ordering::Relaxed) {
            tokio::spawn(call);
            return;
        }
        let mut call: Pin<Box<F>> = Box::pin(call);
        if call.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending() {
            // Polled again with a waker that wakes.
            tokio::spawn(call);
        }
    }
}
