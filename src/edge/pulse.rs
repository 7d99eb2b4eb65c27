//! Whether the threads that serve still turn. A thread that a bug holds up answers nobody, not even a probe that asks it: so
//! somebody else must look.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use crate::{
    health::Registry,
    shutdown::{Phase, Phases},
};

/// Between two beats, and between two looks.
const BEAT: Duration = Duration::from_secs(1);
/// A thread that has not beaten for so long is stuck.
const STUCK: Duration = Duration::from_secs(5);

/// The last beat of each thread.
#[derive(Clone, Debug)]
pub struct Pulse(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    began: Instant,
    /// Milliseconds from `began`.
    beats: Vec<AtomicU64>,
}

impl Pulse {
    pub(super) fn new(threads: usize) -> Self {
        Self(Arc::new(Inner { began: Instant::now(), beats: (0..threads).map(|_| AtomicU64::new(0)).collect() }))
    }

    /// Beats on the runtime that polls it.
    pub(super) fn beat(&self, thread: usize) -> impl Future<Output = ()> + use<> {
        let inner = self.0.clone();
        async move {
            loop {
                inner.beats[thread].store(inner.began.elapsed().as_millis() as u64, Ordering::Relaxed);
                tokio::time::sleep(BEAT).await;
            }
        }
    }

    /// The threads that do not turn, by their number; the last one is that of the runtime which accepts.
    fn stuck(&self) -> Vec<usize> {
        let now = self.0.began.elapsed();
        let late = |beat: &AtomicU64| now.saturating_sub(Duration::from_millis(beat.load(Ordering::Relaxed))) > STUCK;
        self.0.beats.iter().enumerate().filter(|(_, beat)| late(beat)).map(|(thread, _)| thread).collect()
    }

    /// Makes every name follow the threads, from a thread that has nothing else to do, until [`Phase::Closing`].
    ///
    /// # Errors
    /// The thread can't be started.
    pub fn watch(self, health: &Registry, phases: &Phases) -> io::Result<()> {
        let (health, phases) = (health.clone(), phases.clone());
        thread::Builder::new().name("pulse".into()).spawn(move || {
            let mut looked = Instant::now();
            let mut said = Vec::new();
            while phases.now() < Phase::Closing {
                thread::sleep(BEAT);
                // Who was stopped as a whole (SIGSTOP, a suspended machine) finds every thread late, and none stuck.
                let stopped = looked.elapsed() > 2 * BEAT;
                looked = Instant::now();
                let stuck = if stopped { Vec::new() } else { self.stuck() };
                if stuck != said {
                    tracing::error!(threads = ?stuck, after = ?STUCK, "threads that do not turn have changed");
                    health.set_turning(stuck.is_empty());
                    said = stuck;
                }
            }
        })?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_thread_that_does_not_beat_is_stuck() {
        let pulse = Pulse::new(2);
        let beating = tokio::spawn(pulse.beat(0));
        tokio::task::yield_now().await;
        assert!(pulse.stuck().is_empty());
        let early = Pulse(Arc::new(Inner {
            began: Instant::now().checked_sub(STUCK + BEAT).expect("the machine is up for longer"),
            beats: vec![AtomicU64::new(STUCK.as_millis() as u64), AtomicU64::new(0)],
        }));
        assert_eq!(early.stuck(), [1]);
        beating.abort();
    }
}
