//! Threads for what would hold up a connection's worker, and is worth a core of its own: evaluations of more than half a millisecond.

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
use understudy::edge::{Cores, Instruments, Refusal, busy};

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
    cores: Arc<Cores>,
    /// Jobs that wait or run.
    unfinished: Arc<AtomicU64>,
    /// Expected nanoseconds of work that no thread has begun, and of work that is done a slice at a time where it was read.
    waiting: Arc<AtomicU64>,
    pace: Arc<Pace>,
    instruments: Arc<Instruments>,
}

/// What a job adds to a sum while this is kept.
#[derive(Debug)]
pub struct Added {
    amount: u64,
    sum: Arc<AtomicU64>,
}

impl Added {
    /// With what the sum was before.
    fn to(sum: &Arc<AtomicU64>, amount: u64) -> (Self, u64) {
        let before = sum.fetch_add(amount, Ordering::Relaxed);
        (Self { amount, sum: sum.clone() }, before)
    }
}

impl Drop for Added {
    fn drop(&mut self) {
        self.sum.fetch_sub(self.amount, Ordering::Relaxed);
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
        cores: Arc<Cores>,
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
            cores,
            unfinished: Arc::default(),
            waiting: Arc::default(),
            pace: Arc::new(Pace(AtomicU64::new(Pace::ONE))),
            instruments,
        })
    }

    /// Whether a thread would begin at once, on a core that has nothing else to do.
    pub fn has_core(&self) -> bool {
        self.unfinished.load(Ordering::Relaxed) < self.threads && self.cores.has_idle()
    }

    /// Work that is expected to take `cost` will be done where it was read. It is ahead of all others for as long as the answer is
    /// kept.
    ///
    /// # Errors
    /// RESOURCE_EXHAUSTED when what is ahead of it takes longer than it may wait.
    pub fn elsewhere(&self, cost: Duration) -> Result<Added, Status> {
        self.admit(cost.as_nanos() as u64).map(|(added, _)| added)
    }

    fn admit(&self, nanos: u64) -> Result<(Added, Duration), Status> {
        let (waiting, ahead) = Added::to(&self.waiting, nanos);
        let wait = self.pace.real(ahead / self.threads);
        if wait > self.longest_wait {
            return Err(self.busy(wait));
        }
        Ok((waiting, wait))
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
        let (waiting, wait) = self.admit(nanos)?;
        let (send, receive) = oneshot::channel();
        let pace = self.pace.clone();
        let (unfinished, _) = Added::to(&self.unfinished, 1);
        let at_work = self.cores.work();
        let job: Job = Box::new(move || {
            let _until_it_ends = (unfinished, at_work);
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
        Compute::start(1, capacity, longest_wait, instruments, Cores::of(2)).expect("a thread")
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

    #[tokio::test]
    async fn there_is_a_core_while_neither_thread_nor_cores_are_busy() {
        let instruments = Arc::new(Instruments::new(&metrics::NoopRecorder));
        let cores = Cores::of(2);
        let compute = Compute::start(1, 4, Duration::MAX, instruments, cores.clone()).expect("a thread");
        assert!(compute.has_core());
        let worker = cores.work();
        assert!(compute.has_core());
        let another = cores.work();
        assert!(!compute.has_core(), "both are taken");
        drop((worker, another));
        let (release, blocked) = std::sync::mpsc::channel::<()>();
        let job = tokio::spawn({
            let compute = compute.clone();
            async move { compute.run(QUICK, move |_| blocked.recv().ok()).await }
        });
        while compute.has_core() {
            tokio::task::yield_now().await;
        }
        release.send(()).expect("still blocked");
        job.await.expect("no panic").expect("done");
        while !compute.has_core() {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn what_is_done_elsewhere_is_ahead_of_others() {
        let compute = compute(100, QUICK);
        let first = compute.elsewhere(QUICK).expect("nothing is ahead");
        let second = compute.elsewhere(QUICK).expect("no longer than it may wait");
        assert_eq!(compute.elsewhere(QUICK).expect_err("too long").code(), tonic::Code::ResourceExhausted);
        let refused = compute.run(QUICK, |_| Some(())).await.expect_err("too long");
        assert_eq!(refused.code(), tonic::Code::ResourceExhausted);
        drop(first);
        compute.run(QUICK, |_| Some(())).await.expect("one is done");
        drop(second);
        assert_eq!(compute.waiting.load(Ordering::Relaxed), 0);
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
