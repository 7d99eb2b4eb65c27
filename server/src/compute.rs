//! Threads for what would hold up a connection's worker: evaluations of more than about 100 µs.

use std::{
    io, panic,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use crossbeam_channel::{Sender, TrySendError, bounded};
use tokio::sync::oneshot;
use tonic::Status;
use understudy::edge::{Instruments, Refusal, busy};

type Job = Box<dyn FnOnce() + Send>;

/// What is expected of work was measured with a core for itself, which it seldom has: waits are told in real time.
#[derive(Debug)]
struct Pace(AtomicU64);

impl Pace {
    /// Real time for each part of the expected, in parts of this.
    const ONE: u64 = 1 << 10;
    /// Jobs on which it is based.
    const REMEMBERED: u64 = 16;
    /// A thread that was held up for long says little about the next job.
    const SLOWEST: u64 = 64 * Self::ONE;

    /// Work that was expected to take `nanos` took `elapsed`. Threads that tell at the same time may forget one another.
    fn learn(&self, nanos: u64, elapsed: Duration) {
        let parts = (elapsed.as_nanos() as u64).saturating_mul(Self::ONE) / nanos.max(1);
        let before = self.0.load(Ordering::Relaxed);
        let now = before - before / Self::REMEMBERED + parts.min(Self::SLOWEST) / Self::REMEMBERED;
        self.0.store(now.max(Self::ONE), Ordering::Relaxed);
    }

    fn real(&self, nanos: u64) -> Duration {
        let parts = u128::from(nanos) * u128::from(self.0.load(Ordering::Relaxed)) / u128::from(Self::ONE);
        Duration::from_nanos(u64::try_from(parts).unwrap_or(u64::MAX))
    }
}

/// A fixed number of threads behind one queue, bounded in jobs and in the time that its last job would wait: what would
/// wait longer is refused at once, while whoever asked can still ask somebody else.
#[derive(Clone, Debug)]
pub struct Compute {
    jobs: Sender<Job>,
    threads: u64,
    longest_wait: Duration,
    /// Expected nanoseconds of work that no thread has begun.
    waiting: Arc<AtomicU64>,
    pace: Arc<Pace>,
    instruments: Arc<Instruments>,
}

/// The work of a job while it waits.
struct Waiting {
    nanos: u64,
    waiting: Arc<AtomicU64>,
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.waiting.fetch_sub(self.nanos, Ordering::Relaxed);
    }
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
    pub fn start(
        threads: usize,
        capacity: usize,
        longest_wait: Duration,
        instruments: Arc<Instruments>,
    ) -> io::Result<Self> {
        let (jobs, queue) = bounded::<Job>(capacity);
        for n in 0..threads {
            let queue = queue.clone();
            thread::Builder::new().name(format!("compute-{n}")).spawn(move || {
                for job in queue {
                    // A bug in one evaluation must not cost the thread; its caller sees the closed channel.
                    drop(panic::catch_unwind(panic::AssertUnwindSafe(job)));
                }
            })?;
        }
        Ok(Self {
            jobs,
            threads: threads.max(1) as u64,
            longest_wait,
            waiting: Arc::default(),
            pace: Arc::new(Pace(AtomicU64::new(Pace::ONE))),
            instruments,
        })
    }

    /// Runs `work`, which is expected to take `cost`, on a compute thread. It is told when its caller has gone and then
    /// returns `None`.
    ///
    /// # Errors
    /// RESOURCE_EXHAUSTED when it would wait too long, INTERNAL when `work` panicked.
    pub async fn run<T, W>(&self, cost: Duration, work: W) -> Result<T, Status>
    where
        T: Send + 'static,
        W: FnOnce(&Caller<'_, T>) -> Option<T> + Send + 'static,
    {
        let nanos = cost.as_nanos() as u64;
        let ahead = self.waiting.fetch_add(nanos, Ordering::Relaxed);
        let waiting = Waiting { nanos, waiting: self.waiting.clone() };
        let wait = self.pace.real(ahead / self.threads);
        if wait > self.longest_wait {
            return Err(self.busy(wait));
        }
        let (send, receive) = oneshot::channel();
        let pace = self.pace.clone();
        let job: Job = Box::new(move || {
            drop(waiting);
            let caller = Caller(&send);
            if caller.has_gone() {
                return;
            }
            let began = Instant::now();
            if let Some(done) = work(&caller) {
                pace.learn(nanos, began.elapsed());
                // An error means that the caller has gone in the meantime.
                drop(send.send(done));
            }
        });
        match self.jobs.try_send(job) {
            Ok(()) => {}
            Err(TrySendError::Full(_)) => return Err(self.busy(wait)),
            Err(TrySendError::Disconnected(_)) => return Err(Status::unavailable("shutting down")),
        }
        receive.await.map_err(|_| Status::internal("internal error"))
    }

    fn busy(&self, wait: Duration) -> Status {
        self.instruments.refused(Refusal::Work);
        busy(&format!("evaluations wait for {wait:.1?} already"), wait)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUICK: Duration = Duration::from_millis(1);

    fn compute(capacity: usize, longest_wait: Duration) -> Compute {
        let instruments = Arc::new(Instruments::new(&metrics::NoopRecorder));
        Compute::start(1, capacity, longest_wait, instruments).expect("a thread")
    }

    #[tokio::test]
    async fn a_panic_costs_one_call_and_no_thread() {
        let compute = compute(4, Duration::MAX);
        let failed = compute.run(QUICK, |_| -> Option<()> { panic!("a bug") }).await;
        assert_eq!(failed.expect_err("panicked").code(), tonic::Code::Internal);
        assert_eq!(compute.run(QUICK, |_| Some(7)).await.expect("the thread lives"), 7);
    }

    /// Fills `compute` with one job that runs and one that waits, and asks for a third.
    async fn third(compute: Compute) {
        let (release, blocked) = std::sync::mpsc::channel::<()>();
        let (started, running) = oneshot::channel();
        let busy = tokio::spawn({
            let compute = compute.clone();
            async move {
                compute
                    .run(QUICK, move |_| {
                        started.send(()).ok()?;
                        blocked.recv().ok()
                    })
                    .await
            }
        });
        running.await.expect("started");
        let waiting = tokio::spawn({
            let compute = compute.clone();
            async move { compute.run(QUICK, |_| Some(())).await }
        });
        while compute.jobs.is_empty() {
            tokio::task::yield_now().await;
        }
        let refused = compute.run(QUICK, |_| Some(())).await.expect_err("full");
        assert_eq!(refused.code(), tonic::Code::ResourceExhausted);
        assert_eq!(
            refused.metadata().get("grpc-retry-pushback-ms").map(tonic::metadata::MetadataValue::as_bytes),
            Some(&b"1"[..])
        );
        release.send(()).expect("still blocked");
        busy.await.expect("no panic").expect("done");
        waiting.await.expect("no panic").expect("done");
        assert_eq!(compute.waiting.load(Ordering::Relaxed), 0);
    }

    #[tokio::test]
    async fn a_full_queue_refuses_at_once() {
        third(compute(1, Duration::MAX)).await;
    }

    #[tokio::test]
    async fn who_would_wait_too_long_is_refused_at_once() {
        third(compute(100, QUICK / 2)).await;
    }

    #[test]
    fn waits_are_told_in_the_time_that_work_takes() {
        let pace = Pace(AtomicU64::new(Pace::ONE));
        assert_eq!(pace.real(1_000_000), QUICK);
        // Three times as long as expected, again and again.
        (0..100).for_each(|_| pace.learn(1_000_000, 3 * QUICK));
        let real = pace.real(1_000_000);
        assert!(real > 2 * QUICK && real <= 3 * QUICK, "{real:?}");
        // One that was held up for a minute, and what can't be told.
        pace.learn(1_000_000, Duration::from_mins(1));
        assert!(pace.real(1_000_000) < 8 * QUICK);
        pace.learn(0, Duration::MAX);
        // Never less than what was measured with a core for itself.
        (0..1_000).for_each(|_| pace.learn(1_000_000, Duration::ZERO));
        assert_eq!(pace.real(1_000_000), QUICK);
        assert!(pace.real(u64::MAX) >= Duration::from_nanos(u64::MAX));
    }
}
