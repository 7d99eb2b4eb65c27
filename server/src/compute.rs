//! Threads for what would hold up a connection's worker: evaluations of more than about 100 µs.

use std::{io, panic, thread};

use crossbeam_channel::{Sender, TrySendError, bounded};
use tokio::sync::oneshot;
use tonic::Status;

type Job = Box<dyn FnOnce() + Send>;

/// A fixed number of threads behind one bounded queue. Refuses rather than queues without a bound.
#[derive(Clone, Debug)]
pub struct Compute {
    jobs: Sender<Job>,
    capacity: usize,
}

/// Tells a job whether anybody still waits for it.
#[derive(Debug)]
pub struct Caller<'a, T>(&'a oneshot::Sender<T>);

impl<T> Caller<'_, T> {
    /// The client has cancelled, gone or run out of time.
    pub fn has_gone(&self) -> bool {
        self.0.is_closed()
    }
}

impl Compute {
    /// Starts `threads` threads. They end when the last clone is dropped.
    ///
    /// # Errors
    /// A thread can't be started.
    pub fn start(threads: usize, capacity: usize) -> io::Result<Self> {
        let (jobs, queue) = bounded::<Job>(capacity);
        for n in 0..threads {
            let queue = queue.clone();
            thread::Builder::new().name(format!("compute-{n}")).spawn(move || {
                for job in queue {
                    // A bug in one evaluation must not cost the thread; its caller sees the closed channel.
                    if panic::catch_unwind(panic::AssertUnwindSafe(job)).is_err() {
                        tracing::error!("an evaluation has panicked");
                    }
                }
            })?;
        }
        Ok(Self { jobs, capacity })
    }

    /// Runs `work` on a compute thread. It is told when its caller has gone and then returns `None`.
    ///
    /// # Errors
    /// RESOURCE_EXHAUSTED when the queue is full, INTERNAL when `work` panicked.
    pub async fn run<T, W>(&self, work: W) -> Result<T, Status>
    where
        T: Send + 'static,
        W: FnOnce(&Caller<'_, T>) -> Option<T> + Send + 'static,
    {
        let (send, receive) = oneshot::channel();
        let job: Job = Box::new(move || {
            let caller = Caller(&send);
            if caller.has_gone() {
                return;
            }
            if let Some(done) = work(&caller) {
                // An error means that the caller has gone in the meantime.
                drop(send.send(done));
            }
        });
        match self.jobs.try_send(job) {
            Ok(()) => {}
            Err(TrySendError::Full(_)) => {
                let mut busy =
                    Status::resource_exhausted(format!("busy: {} evaluations are waiting already", self.capacity));
                busy.metadata_mut().insert("grpc-retry-pushback-ms", tonic::metadata::MetadataValue::from_static("50"));
                return Err(busy);
            }
            Err(TrySendError::Disconnected(_)) => return Err(Status::unavailable("shutting down")),
        }
        receive.await.map_err(|_| Status::internal("the evaluation has failed"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_panic_costs_one_call_and_no_thread() {
        let compute = Compute::start(1, 4).expect("a thread");
        let failed = compute.run(|_| -> Option<()> { panic!("a bug") }).await;
        assert_eq!(failed.expect_err("panicked").code(), tonic::Code::Internal);
        assert_eq!(compute.run(|_| Some(7)).await.expect("the thread lives"), 7);
    }

    #[tokio::test]
    async fn a_full_queue_refuses_at_once() {
        let compute = Compute::start(1, 1).expect("a thread");
        let (release, blocked) = std::sync::mpsc::channel::<()>();
        let (started, running) = oneshot::channel();
        let busy = tokio::spawn({
            let compute = compute.clone();
            async move {
                compute
                    .run(move |_| {
                        started.send(()).ok()?;
                        blocked.recv().ok()
                    })
                    .await
            }
        });
        running.await.expect("started");
        let waiting = tokio::spawn({
            let compute = compute.clone();
            async move { compute.run(|_| Some(())).await }
        });
        while compute.jobs.is_empty() {
            tokio::task::yield_now().await;
        }
        let refused = compute.run(|_| Some(())).await.expect_err("full");
        assert_eq!(refused.code(), tonic::Code::ResourceExhausted);
        assert!(refused.metadata().contains_key("grpc-retry-pushback-ms"));
        release.send(()).expect("still blocked");
        busy.await.expect("no panic").expect("done");
        waiting.await.expect("no panic").expect("done");
    }
}
