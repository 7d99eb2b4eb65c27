//! Where an exchange goes: into the tally of its epoch, through a bounded queue to the candidate, through the comparator
//! and back into the tally. Every exchange has one ticket, and every ticket ends in one counter.

use std::{
    panic::AssertUnwindSafe,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use anyhow::Context as _;
use futures_util::FutureExt as _;
use model::Schema;
use tokio::{
    sync::{Mutex as AsyncMutex, mpsc},
    task::AbortHandle,
};
use tonic::{Code, Status};
use understudy::v1;

use crate::{
    candidate::{Candidate, Failure},
    compare::{self, Answer, Comparator, RowOutcome, Tolerance, USUAL_DECISION},
    disagreements::{self, Disagreements, Reader, Schemas},
    exchange::{Offered, Request},
    intake::IntakeState,
    metrics::Metrics,
    otlp::{DisagreementLogs, Histograms},
    slicer::{Declaration, Slicing},
    state::Saved,
    tally::{DropReason, Latency, Measures, Outcomes, Ticket},
    verdict::Gates,
};

mod differing;
mod epoch;
mod memory;

use differing::Compared;
use epoch::Parts;
pub use epoch::{Epoch, Primary};
use memory::Memory;

/// An exchange on its way to the candidate.
struct Job {
    offered: Arc<Offered>,
    epoch: Arc<Epoch>,
    ticket: Ticket,
    bytes: usize,
}

/// Where a rehearsal stands.
#[derive(Default)]
struct Stage {
    /// Who answers the clients.
    primary: Option<Arc<Primary>>,
    /// Absent until both models are known.
    epoch: Option<Arc<Epoch>>,
    /// The number of the last epoch.
    number: u64,
    /// What was offered before the epoch began.
    waiting: Waiting,
    /// Asks the candidate's server who it is.
    settling: Option<AbortHandle>,
    /// Why there is no epoch.
    problem: String,
    /// Epochs that have ended, also those of an earlier process.
    memory: Memory,
}

/// Exchanges that wait for an epoch, and those for which there was no room.
#[derive(Default)]
struct Waiting {
    offered: Vec<Arc<Offered>>,
    bytes: usize,
    /// By reason: exchanges and rows.
    lost: Vec<(DropReason, u64, u64)>,
}

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

/// Between two attempts to learn who a candidate's server is.
const RETRY: Duration = Duration::from_secs(1);

/// Exchanges that a worker takes from the queue at once, for a candidate in this process.
const AT_ONCE: usize = 16;

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
    pub fn resume(&self, saved: Saved) {
        self.manual_restarts.fetch_max(saved.manual_restarts as usize, Ordering::Relaxed);
        let mut stage = self.stage();
        stage.number = stage.number.max(saved.number);
        stage.memory.recall(saved);
    }

    /// What a later process is to go on with: the epoch now, then those that have ended and may come back, the newest first.
    pub fn save(&self) -> Vec<Saved> {
        let stage = self.stage();
        let (epoch, ended) = (stage.epoch.clone(), stage.memory.saved().cloned().collect::<Vec<_>>());
        drop(stage);
        epoch.iter().map(|epoch| self.saved(epoch)).chain(ended).collect()
    }

    /// What has been counted in the epoch now.
    pub(crate) fn counted(&self) -> Option<Saved> {
        self.epoch().map(|epoch| self.saved(&epoch))
    }

    fn saved(&self, epoch: &Epoch) -> Saved {
        let tally = epoch.tally().clone();
        Saved {
            name: self.name(),
            subject: epoch.subject(),
            number: epoch.number,
            manual_restarts: self.manual_restarts(),
            started_unix_nanos: epoch.started_unix_nanos,
            observed_nanos: epoch.started.elapsed().as_nanos() as u64,
            tally,
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

    /// The primary is this one from now on; begins a new epoch when that, or the candidate's version, is news. A server is
    /// first asked who it is, however long that takes.
    pub fn follow(self: &Arc<Self>, primary: &Arc<Primary>) {
        let mut stage = self.stage();
        if stage.primary.as_ref().is_some_and(|known| Arc::ptr_eq(known, primary) || known == primary) {
            let version = self.identity().1;
            let other = |epoch: &Arc<Epoch>| ![epoch.candidate_version(), ""].contains(&version.as_str());
            let asking = stage.settling.as_ref().is_some_and(|settling| !settling.is_finished());
            // What answers as another version may have other outputs, too.
            if !asking && stage.epoch.as_ref().is_some_and(other) {
                self.settle(stage, primary);
            }
            return;
        }
        stage.primary = Some(primary.clone());
        self.end_epoch(&mut stage, true);
        if let Some(settling) = stage.settling.take() {
            settling.abort();
        }
        self.settle(stage, primary);
    }

    /// Begins an epoch, once the candidate has said who it is. Until then the one that there is goes on.
    fn settle(self: &Arc<Self>, mut stage: MutexGuard<'_, Stage>, primary: &Arc<Primary>) {
        if matches!(self.candidate, Candidate::Package(_)) {
            return self.begin_epoch(stage);
        }
        let (rehearsal, primary) = (self.clone(), primary.clone());
        let settling = tokio::spawn(async move {
            while let Err(problem) = rehearsal.candidate.settle(&primary).await {
                tracing::warn!(candidate = rehearsal.name(), problem, "the candidate is not known yet");
                rehearsal.stage().problem = format!("candidate: {problem}");
                tokio::time::sleep(RETRY).await;
            }
            let mut stage = rehearsal.stage();
            if stage.primary.as_ref().is_some_and(|now| now.is(&primary)) {
                rehearsal.end_epoch(&mut stage, true);
                rehearsal.begin_epoch(stage);
            }
        });
        stage.settling = Some(settling.abort_handle());
    }

    /// The primary had not said its version, and has answered as this one: the epoch is still the same.
    pub fn name_primary(&self, named: &Arc<Primary>) {
        let mut stage = self.stage();
        if stage.primary.as_ref().is_some_and(|known| named.is(known)) {
            stage.primary = Some(named.clone());
        }
    }

    /// Begins counting anew, with the same models.
    ///
    /// # Errors
    /// There is no epoch yet.
    pub fn restart(&self) -> anyhow::Result<()> {
        let mut stage = self.stage();
        anyhow::ensure!(stage.epoch.is_some(), "no epoch can begin before the primary is known");
        self.manual_restarts.fetch_add(1, Ordering::Relaxed);
        self.end_epoch(&mut stage, false);
        self.begin_epoch(stage);
        Ok(())
    }

    /// Ends the epoch, if there is one; `may_return`: when the same pair of versions does, it goes on.
    fn end_epoch(&self, stage: &mut Stage, may_return: bool) {
        let Some(epoch) = stage.epoch.take() else { return };
        epoch.tally().close(DropReason::Shutdown);
        if may_return {
            stage.memory.keep(self.saved(&epoch), std::mem::take(&mut *epoch.history()));
        } else {
            stage.memory.forget(&epoch.subject());
        }
    }

    fn begin_epoch(&self, mut stage: MutexGuard<'_, Stage>) {
        let Some(primary) = stage.primary.clone() else { return };
        let epoch = match self.new_epoch(stage.number + 1, primary) {
            Ok(epoch) => Arc::new(match stage.memory.take(&epoch.subject()) {
                Some((saved, history)) => epoch.after(saved, history),
                None => epoch,
            }),
            Err(error) => {
                tracing::error!(candidate = self.name(), error = format!("{error:#}"), "no epoch can begin");
                stage.problem = format!("{error:#}");
                // Nothing waits for what will not begin.
                (stage.waiting, stage.settling) = (Waiting::default(), None);
                return;
            }
        };
        tracing::info!(
            epoch = epoch.number,
            primary = epoch.primary.name,
            primary_version = epoch.primary_version(),
            candidate = epoch.candidate_name(),
            candidate_version = epoch.candidate_version(),
            "epoch begins"
        );
        stage.problem.clear();
        stage.number = stage.number.max(epoch.number);
        let waiting = std::mem::take(&mut stage.waiting);
        stage.epoch = Some(epoch.clone());
        drop(stage);
        for (reason, exchanges, rows) in waiting.lost {
            epoch.tally().lost(reason, exchanges, rows);
        }
        for offered in waiting.offered {
            self.enqueue(offered, epoch.clone());
        }
    }

    fn new_epoch(&self, number: u64, primary: Arc<Primary>) -> anyhow::Result<Epoch> {
        let task = match primary.task {
            v1::Task::Binary => compare::Task::Binary,
            v1::Task::Multiclass => compare::Task::Multiclass,
            v1::Task::Regression => compare::Task::Regression,
            v1::Task::Quantile => compare::Task::Quantile,
            v1::Task::Tensor => compare::Task::Tensor,
            v1::Task::Unspecified => anyhow::bail!("the primary does not say what it predicts"),
        };
        let own = match self.candidate.task() {
            None => task,
            Some(model::Task::Binary) => compare::Task::Binary,
            Some(model::Task::Multiclass) => compare::Task::Multiclass,
            Some(model::Task::Regression) => compare::Task::Regression,
            Some(model::Task::Quantile) => compare::Task::Quantile,
        };
        anyhow::ensure!(own == task, "the primary's task is {task:?}, the candidate's {own:?}");
        anyhow::ensure!(
            self.gates.max_score_shift.is_none() || matches!(task, compare::Task::Binary | compare::Task::Multiclass),
            "max-score-shift is only for a classification, the primary's task is {task:?}: of values there is no such bound"
        );
        let classes = self.candidate.classes(&primary.classes);
        let comparator = Comparator::new(task, &primary.classes, &classes, self.tolerance)?.with_decision_thresholds(
            primary.decision_threshold.unwrap_or(USUAL_DECISION),
            self.candidate.decision_threshold().unwrap_or(USUAL_DECISION),
        );
        let slicing = self.slicing_of(&primary)?;
        let measures = Measures {
            task,
            levels: comparator.level_names().to_vec(),
            slices: slicing.as_ref().map_or_else(Vec::new, |slicing| slicing.slicer().names().to_vec()),
            latency_ratio: self.gates.max_latency_ratio.unwrap_or(1.0),
        };
        let candidate = self.identity();
        let parts = Parts {
            comparisons: self.metrics.comparisons(&candidate.0),
            disagreements: self.disagreements_of(&primary, classes),
            itself: comparator.against_itself(),
            slicing,
            measures,
            proves: self.gates.question(),
            primary,
            candidate,
            comparator,
            reading: self.candidate.reading(),
        };
        Ok(Epoch::new(number, parts))
    }

    /// Inputs are told by the primary's schema, which is what its clients send; where nobody knows it, by the candidate's.
    fn disagreements_of(&self, primary: &Primary, classes: Vec<String>) -> Disagreements {
        let known = Schemas { schema: (&*primary.schema_json).into(), reference: (&*primary.reference_json).into() };
        let schemas = if primary.schema_json.is_empty() { self.candidate.schemas() } else { known };
        let disagreements::Config { keep, inputs, .. } = self.disagreements;
        Disagreements::new(keep, Reader::new(inputs, &schemas), [primary.classes.clone(), classes])
    }

    /// By the primary's schema, which is what its clients send.
    fn slicing_of(&self, primary: &Primary) -> anyhow::Result<Option<Slicing>> {
        if self.slices.is_empty() {
            return Ok(None);
        }
        let schema = Schema::parse(&primary.schema_json).context("slices: the primary's schema can't be read")?;
        let slicing = Slicing::new(schema, &self.slices).map_err(|problems| anyhow::anyhow!(problems.join("; ")))?;
        Ok(Some(slicing))
    }

    /// Takes one exchange. Never waits.
    pub fn offer(&self, offered: &Arc<Offered>) {
        let mut stage = self.stage();
        if let Some(epoch) = stage.epoch.clone() {
            drop(stage);
            return self.enqueue(offered.clone(), epoch);
        }
        if stage.primary.is_none() || stage.settling.is_none() {
            return;
        }
        let rows = u64::from(offered.exchange.rows);
        let waiting = &mut stage.waiting;
        let bytes = waiting.bytes + offered.bytes();
        if waiting.offered.len() < self.bounds.queue && bytes <= self.bounds.queue_bytes {
            waiting.bytes = bytes;
            waiting.offered.push(offered.clone());
        } else {
            waiting.add(DropReason::QueueFull, 1, rows);
        }
    }

    fn enqueue(&self, offered: Arc<Offered>, epoch: Arc<Epoch>) {
        let exchange = &offered.exchange;
        let ticket = epoch.tally().begin(u64::from(exchange.rows));
        if exchange.model != epoch.primary.name || !epoch.is_primary(&exchange.version) {
            return epoch.tally().dropped(ticket, DropReason::OtherModel);
        }
        if exchange.status != 0 {
            return epoch.tally().dropped(ticket, DropReason::PrimaryError);
        }
        let bytes = size_of::<Job>() + offered.bytes();
        let fits = self.queued_bytes.fetch_add(bytes, Ordering::Relaxed) + bytes <= self.bounds.queue_bytes;
        let job = Job { offered, epoch, ticket, bytes };
        let refused = if fits {
            self.queue.try_send(job).map_err(mpsc::error::TrySendError::into_inner).err()
        } else {
            Some(job)
        };
        if let Some(Job { epoch, ticket, .. }) = refused {
            self.queued_bytes.fetch_sub(bytes, Ordering::Relaxed);
            epoch.tally().dropped(ticket, DropReason::QueueFull);
        }
    }

    /// Exchanges that were lost before they came here.
    pub fn lost(&self, reason: DropReason, exchanges: u64, rows: u64) {
        let mut stage = self.stage();
        match &stage.epoch {
            Some(epoch) => epoch.tally().lost(reason, exchanges, rows),
            None if stage.settling.is_some() => stage.waiting.add(reason, exchanges, rows),
            None => {}
        }
    }

    /// Takes exchanges from the queue and compares them, one at a time, for ever. Several run side by side.
    pub async fn work(self: Arc<Self>) {
        let mut buffers = Buffers::default();
        // Waking another worker takes longer than what a candidate in this process does with an exchange. One that is
        // waited for gets what it can be asked at once: one by each worker.
        let most = if matches!(self.candidate, Candidate::Package(_)) { AT_ONCE } else { 1 };
        let mut jobs = Vec::with_capacity(most);
        loop {
            // The sender is ours, so the queue never ends.
            if self.jobs.lock().await.recv_many(&mut jobs, most).await == 0 {
                return;
            }
            for Job { offered, epoch, ticket, bytes } in jobs.drain(..) {
                let guard = Unfinished { epoch: &epoch, ticket: Some(ticket) };
                let compared = AssertUnwindSafe(self.compare(&offered, guard, &mut buffers)).catch_unwind().await;
                self.queued_bytes.fetch_sub(bytes, Ordering::Relaxed);
                if compared.is_err() {
                    // The hook has logged what and where; the ticket was handed back on the way.
                    buffers = Buffers::default();
                }
            }
        }
    }

    async fn compare(&self, offered: &Offered, mut unfinished: Unfinished<'_>, buffers: &mut Buffers) {
        let epoch = unfinished.epoch;
        let Buffers { primary, candidate, outcomes, again, levels, slices } = buffers;
        let read = offered.decode().map_err(anyhow::Error::from).and_then(|(request, response)| {
            epoch.read_primary(response, primary)?;
            Ok(request)
        });
        let request = match read {
            Ok(request) => request,
            Err(error) => {
                tracing::debug!(error = format!("{error:#}"), "an exchange can't be decoded");
                return unfinished.dropped(DropReason::Undecodable);
            }
        };
        again.clear();
        if let Some(second) = &offered.again {
            epoch.compare_itself(primary, second, again);
        }
        slices.clear();
        if let Some(slicing) = &epoch.slicing {
            match request {
                Request::Tensors(request) => slicing.of_tensors(request, primary.rows, slices),
                Request::Rows(request) => slicing.of_rows(&request.rows, slices),
            }
        }
        let (started, timeout) = (now(), self.bounds.timeout);
        let answered = match tokio::time::timeout(timeout, self.candidate.answer(request, epoch, candidate)).await {
            Ok(Err(Failure::OtherVersion)) => {
                epoch.tally().noise(again);
                return unfinished.dropped(DropReason::OtherVersion);
            }
            // tonic's client calls its own timer, which is the same deadline, a cancellation.
            Ok(Err(Failure::Failed(status))) if status.code() == Code::Cancelled && started.elapsed() >= timeout => {
                Err(late())
            }
            Ok(Err(Failure::Failed(status))) => Err(status),
            Ok(Ok(())) => Ok(()),
            Err(_) => Err(late()),
        };
        let latency =
            Latency { primary: offered.exchange.latency_nanos, candidate: started.elapsed().as_nanos() as u64 };
        if let Err(status) = answered {
            // What is said of a wrong request quotes it, and that is somebody's data.
            let message = if status.code() == Code::InvalidArgument { "" } else { status.message() };
            tracing::debug!(code = ?status.code(), message, "the candidate has failed");
            epoch.tally().noise(again);
            self.fails(epoch, offered, latency, &status);
            return unfinished.failed(&status);
        }
        if let Err(error) = epoch.comparator.compare(primary, candidate, outcomes) {
            tracing::debug!(%error, "two answers can't be compared");
            epoch.tally().noise(again);
            self.differ_in_shape(epoch, offered, latency, &error);
            return unfinished.dropped(DropReason::Incomparable);
        }
        epoch.comparator.levels(primary, candidate, levels);
        self.histograms.compared(epoch, outcomes, latency);
        epoch.comparisons.compared(outcomes, latency);
        if outcomes.iter().any(|outcome| !outcome.agreed) {
            self.differ(epoch, offered, latency, &Compared { primary, candidate, outcomes, slices });
        }
        let mut all = Outcomes::of(outcomes).with_levels(levels).with_slices(slices);
        if !again.is_empty() {
            all = all.with_noise(again);
        }
        unfinished.compared(all, latency);
    }

    /// Looks at the evidence: at every tick, because more looks lose nothing.
    pub fn look(&self) {
        if let Some(epoch) = self.epoch() {
            let mut tally = epoch.tally();
            tally.look(&self.gates);
            tally.mark(epoch.started.elapsed());
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
        let mut tally = epoch.tally();
        tally.look(&self.gates);
        tally.close(DropReason::Shutdown);
    }
}

/// What one worker uses again and again.
#[derive(Default)]
struct Buffers {
    primary: Answer,
    candidate: Answer,
    outcomes: Vec<RowOutcome>,
    /// The primary's second answer against its first.
    again: Vec<RowOutcome>,
    levels: Vec<f64>,
    slices: Vec<u16>,
}

impl Waiting {
    fn add(&mut self, reason: DropReason, exchanges: u64, rows: u64) {
        match self.lost.iter_mut().find(|(known, ..)| *known == reason) {
            Some((_, all, all_rows)) => (*all, *all_rows) = (*all + exchanges, *all_rows + rows.max(exchanges)),
            None => self.lost.push((reason, exchanges, rows.max(exchanges))),
        }
    }
}

/// A ticket that is handed back even when a bug panics or a task is dropped in between.
struct Unfinished<'a> {
    epoch: &'a Epoch,
    ticket: Option<Ticket>,
}

impl Unfinished<'_> {
    fn compared(&mut self, outcomes: Outcomes<'_>, latency: Latency) {
        if let Some(ticket) = self.ticket.take() {
            self.epoch.tally().compared(ticket, outcomes, latency);
        }
    }

    fn dropped(&mut self, reason: DropReason) {
        if let Some(ticket) = self.ticket.take() {
            self.epoch.tally().dropped(ticket, reason);
        }
    }

    fn failed(&mut self, status: &Status) {
        if let Some(ticket) = self.ticket.take() {
            self.epoch.tally().failed(ticket, status.code() as u32);
        }
    }
}

impl Drop for Unfinished<'_> {
    fn drop(&mut self) {
        self.dropped(DropReason::Shutdown);
    }
}

fn late() -> Status {
    Status::deadline_exceeded("the candidate did not answer in time")
}

fn now() -> Instant {
    Instant::now()
}

/// Nanoseconds since the epoch.
pub(crate) fn unix_nanos() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos() as u64
}
