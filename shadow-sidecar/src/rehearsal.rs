//! The rehearsal of one candidate. An exchange goes into the tally of its epoch, through a bounded queue to the candidate, through
//! the comparator and back into the tally.
//!
//! * `stage` — which [`Epoch`] it is
//! * `memory` — epochs that may come back
//! * `waiting` — what is offered before that
//! * `work` — the way of one exchange
//! * `differing` — what is said of a row on which the models differ

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use tokio::sync::{Mutex as AsyncMutex, mpsc};

use crate::{
    candidate::Candidate,
    compare::Tolerance,
    disagreements,
    history::History,
    intake::IntakeState,
    metrics::Metrics,
    otlp::{DisagreementLogs, Histograms},
    slicer::Declaration,
    state::Saved,
    tally::{DropReason, Tally},
    verdict::Gates,
};

mod differing;
mod epoch;
mod memory;
mod stage;
mod waiting;
mod work;

pub use epoch::{Epoch, Primary};
use stage::Stage;
use work::Job;

/// The rehearsal of one candidate.
pub struct Rehearsal {
    /// As it is configured; empty: its model's own.
    label: String,
    /// Who rehearses.
    pub candidate: Candidate,
    /// What it must prove.
    pub gates: Gates,
    /// How many rehearse side by side.
    pub among: usize,
    tolerance: Tolerance,
    slices: Vec<Declaration>,
    stage: Mutex<Stage>,
    manual_restarts: AtomicUsize,
    /// Exchanges that came while no epoch could begin.
    without_epoch: AtomicU64,
    intake: Arc<Mutex<IntakeState>>,
    queue: mpsc::Sender<Job>,
    jobs: AsyncMutex<mpsc::Receiver<Job>>,
    queued_bytes: AtomicUsize,
    bounds: Bounds,
    metrics: Arc<Metrics>,
    histograms: Histograms,
    /// What is kept of disagreements.
    pub disagreements: disagreements::Config,
    logs: DisagreementLogs,
}

impl std::fmt::Debug for Rehearsal {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Rehearsal").field("candidate", &self.identity()).finish_non_exhaustive()
    }
}

/// Sizes and times of a rehearsal.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Exchanges that may wait.
    pub queue: usize,
    /// Bytes that may wait.
    pub queue_bytes: usize,
    /// What the candidate may take for one exchange.
    pub timeout: Duration,
}

impl Rehearsal {
    /// Nothing is offered yet. `label` is the candidate's name in reports; empty: as its model is called.
    pub fn new(
        label: &str,
        candidate: Candidate,
        (gates, tolerance): (Gates, Tolerance),
        bounds: Bounds,
        intake: Arc<Mutex<IntakeState>>,
        metrics: Arc<Metrics>,
        histograms: Histograms,
    ) -> Self {
        let (queue, jobs) = mpsc::channel(bounds.queue);
        Self {
            label: label.to_owned(),
            candidate,
            gates,
            among: 1,
            tolerance,
            slices: Vec::new(),
            stage: Mutex::default(),
            manual_restarts: AtomicUsize::new(0),
            without_epoch: AtomicU64::new(0),
            intake,
            queue,
            jobs: AsyncMutex::new(jobs),
            queued_bytes: AtomicUsize::new(0),
            bounds,
            metrics,
            histograms,
            disagreements: disagreements::Config::default(),
            logs: DisagreementLogs::default(),
        }
    }

    /// The same, as one of so many.
    #[must_use]
    pub fn among(self, among: usize) -> Self {
        Self { among, ..self }
    }

    /// The same, counting these segments of rows by themselves.
    #[must_use]
    pub fn slicing(self, slices: Vec<Declaration>) -> Self {
        Self { slices, ..self }
    }

    /// The same, keeping so much of what the models differ on, and telling `logs` of it.
    #[must_use]
    pub fn noting(self, disagreements: disagreements::Config, logs: DisagreementLogs) -> Self {
        Self { disagreements, logs, ..self }
    }

    /// An earlier process has counted this: an epoch about the same goes on with it. Of several the newest comes first.
    pub fn resume(&self, mut saved: Saved) {
        self.manual_restarts.fetch_max(saved.manual_restarts as usize, Ordering::Relaxed);
        // Before anything is written again.
        saved.disagreements = saved.disagreements.allowed(&self.disagreements);
        self.stage().recall(saved);
    }

    /// What a later process is to go on with: the epoch now, then those that have ended and may come back, the newest first. Of all
    /// together at most `bytes` of examples.
    pub fn save(&self, bytes: usize) -> Vec<Saved> {
        let stage = self.stage();
        let (epoch, ended) = (stage.epoch.clone(), stage.memory.saved().cloned().collect::<Vec<_>>());
        drop(stage);
        let mut all: Vec<_> = epoch.iter().map(|epoch| self.saved(epoch, bytes)).chain(ended).collect();
        memory::bound(&mut all, bytes);
        all
    }

    /// What has been counted in the epoch now.
    pub(crate) fn counted(&self) -> Option<Saved> {
        // Counters add up, and are all that is asked for.
        self.epoch().map(|epoch| Saved { history: History::default(), ..self.saved(&epoch, 0) })
    }

    /// At most `bytes` of examples.
    fn saved(&self, epoch: &Epoch, bytes: usize) -> Saved {
        let tally = epoch.tally().clone();
        Saved {
            name: self.name(),
            subject: epoch.subject(),
            number: epoch.number,
            manual_restarts: self.manual_restarts(),
            started_unix_nanos: epoch.started_unix_nanos,
            observed_nanos: epoch.started.elapsed().as_nanos() as u64,
            tally,
            disagreements: epoch.disagreements.save(bytes),
            history: epoch.history().clone(),
        }
    }

    fn stage(&self) -> MutexGuard<'_, Stage> {
        self.stage.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the candidate is called here.
    pub fn name(&self) -> String {
        self.identity().0
    }

    /// What the candidate is called here, and its version.
    pub fn identity(&self) -> (String, String) {
        let (name, version) = self.candidate.identity();
        (if self.label.is_empty() { name } else { self.label.clone() }, version)
    }

    /// The epoch now, if both models are known.
    pub fn epoch(&self) -> Option<Arc<Epoch>> {
        self.stage().epoch.clone()
    }

    /// The state of the intake, with what keeps this rehearsal from beginning.
    pub fn intake(&self) -> IntakeState {
        let mut state = self.intake.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let problem = &self.stage().problem;
        if !problem.is_empty() {
            state.last_error.clone_from(problem);
        }
        state
    }

    /// What was offered while there is no epoch, and what became of it. None where there is one, or where nothing came.
    pub fn before_epoch(&self) -> Option<Tally> {
        let stage = self.stage();
        if stage.epoch.is_some() { None } else { stage.waiting.tally() }
    }

    /// Exchanges that came while no epoch could begin, since the process has started.
    pub fn without_epoch(&self) -> u64 {
        self.without_epoch.load(Ordering::Relaxed)
    }

    /// What keeps this rehearsal from beginning; empty when nothing does.
    pub fn problem(&self) -> String {
        self.stage().problem.clone()
    }

    /// Whether the primary has said who it is.
    pub fn has_primary(&self) -> bool {
        self.stage().primary.is_some()
    }

    /// How often an epoch was begun by hand.
    pub fn manual_restarts(&self) -> u64 {
        self.manual_restarts.load(Ordering::Relaxed) as u64
    }

    /// Notes the pace, at every tick. The evidence needs nobody to look at it: every exchange is a look.
    pub fn mark(&self) {
        if let Some(epoch) = self.epoch() {
            epoch.tally().mark(epoch.started.elapsed());
        }
    }

    /// Waits until nothing is in flight, at most `limit`; what is left is counted as dropped.
    pub async fn finish(&self, limit: Duration) {
        let Some(epoch) = self.epoch() else { return };
        let idle = async {
            while epoch.tally().exchanges().in_flight() > 0 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        if tokio::time::timeout(limit, idle).await.is_err() {
            tracing::warn!(?limit, "comparisons in flight are dropped");
        }
        epoch.tally().close(DropReason::Shutdown);
    }
}

/// Nanoseconds since the epoch.
pub(crate) fn unix_nanos() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos() as u64
}
