//! Where an exchange goes: into the tally of its epoch, through a bounded queue to the candidate, through the comparator
//! and back into the tally. Every exchange has one ticket, and every ticket ends in one counter.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use anyhow::Context as _;
use model::Schema;
use prost::Message;
use tokio::sync::{Mutex as AsyncMutex, mpsc};
use tonic::{Code, Status};
use understudy::{
    inference::ModelInferResponse,
    v1::{self, Exchange, Method, PredictResponse},
};

use crate::{
    answers,
    candidate::{Candidate, Request},
    compare::{self, Answer, Comparator, Role, RowOutcome, Tolerance},
    history::History,
    metrics::Metrics,
    otlp::Histograms,
    slicer::{Declaration, Slicing},
    tally::{DropReason, Latency, Measures, Outcomes, Tally, Ticket},
    verdict::Gates,
};

/// The primary as the tap describes it.
#[derive(Clone, Debug, PartialEq)]
pub struct Primary {
    /// Name.
    pub name: String,
    /// Version.
    pub version: String,
    /// What it predicts.
    pub task: v1::Task,
    /// In the order of its probabilities.
    pub classes: Vec<String>,
    /// Its schema, as it is in its package.
    pub schema_json: bytes::Bytes,
}

/// One pair of versions under one comparator. Counts never pool across epochs.
#[derive(Debug)]
pub struct Epoch {
    /// From 1.
    pub number: u64,
    /// Who answers the clients.
    pub primary: Primary,
    /// Name and version of who rehearses.
    pub candidate: (String, String),
    /// When it began.
    pub started: Instant,
    /// The same on the wall's clock, in nanoseconds.
    pub started_unix_nanos: u64,
    /// What counts as agreement.
    pub comparator: Comparator,
    /// By which segments rows are counted; absent when none are declared.
    slicing: Option<Slicing>,
    tally: Mutex<Tally>,
    history: Mutex<History>,
}

impl Epoch {
    /// Its counters.
    pub fn tally(&self) -> MutexGuard<'_, Tally> {
        // A panic between two counters can't leave them torn: each method of Tally is one step.
        self.tally.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How it went, for the page; the ticker feeds it.
    pub fn history(&self) -> MutexGuard<'_, History> {
        self.history.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The state of the intake, for the report.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct IntakeState {
    /// Whether the tap is subscribed.
    pub connected: bool,
    /// Subscriptions so far.
    pub subscriptions: u64,
    /// Left out by sampling.
    pub sampled_out: u64,
    /// The last thing that went wrong.
    pub last_error: String,
}

/// An exchange on its way to the candidate.
struct Job {
    exchange: Exchange,
    epoch: Arc<Epoch>,
    ticket: Ticket,
    bytes: usize,
}

/// The rehearsal of one candidate.
pub struct Rehearsal {
    /// Who rehearses.
    pub candidate: Candidate,
    /// What it must prove.
    pub gates: Gates,
    tolerance: Tolerance,
    slices: Vec<Declaration>,
    /// Absent until the primary is known.
    current: Mutex<Option<Arc<Epoch>>>,
    manual_restarts: AtomicUsize,
    intake: Mutex<IntakeState>,
    queue: mpsc::Sender<Job>,
    jobs: AsyncMutex<mpsc::Receiver<Job>>,
    queued_bytes: AtomicUsize,
    max_queued_bytes: usize,
    timeout: Duration,
    metrics: Arc<Metrics>,
    histograms: Histograms,
}

impl std::fmt::Debug for Rehearsal {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Rehearsal").field("candidate", &self.candidate.identity()).finish_non_exhaustive()
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
    /// Nothing is offered yet.
    pub fn new(
        candidate: Candidate,
        gates: Gates,
        tolerance: Tolerance,
        bounds: Bounds,
        metrics: Arc<Metrics>,
        histograms: Histograms,
    ) -> Self {
        let (queue, jobs) = mpsc::channel(bounds.queue);
        Self {
            candidate,
            gates,
            tolerance,
            slices: Vec::new(),
            current: Mutex::default(),
            manual_restarts: AtomicUsize::new(0),
            intake: Mutex::default(),
            queue,
            jobs: AsyncMutex::new(jobs),
            queued_bytes: AtomicUsize::new(0),
            max_queued_bytes: bounds.queue_bytes,
            timeout: bounds.timeout,
            metrics,
            histograms,
        }
    }

    /// The same, counting these segments of rows by themselves.
    #[must_use]
    pub fn slicing(self, slices: Vec<Declaration>) -> Self {
        Self { slices, ..self }
    }

    /// The epoch now, if the primary is known.
    pub fn epoch(&self) -> Option<Arc<Epoch>> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The state of the intake.
    pub fn intake(&self) -> MutexGuard<'_, IntakeState> {
        self.intake.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How often an epoch was begun by hand.
    pub fn manual_restarts(&self) -> u64 {
        self.manual_restarts.load(Ordering::Relaxed) as u64
    }

    /// The primary is this one from now on; begins a new epoch when that, or the candidate's version, is news.
    ///
    /// # Errors
    /// The two models can't be compared; then there is no epoch, and nothing is offered.
    pub fn follow(&self, primary: &Primary) -> anyhow::Result<()> {
        let identity = self.candidate.identity();
        let same = |epoch: &Arc<Epoch>| epoch.primary == *primary && epoch.candidate == identity;
        if self.epoch().as_ref().is_some_and(same) {
            return Ok(());
        }
        self.begin_epoch(Some(primary))
    }

    /// Begins counting anew, with the same models.
    ///
    /// # Errors
    /// There is no epoch yet.
    pub fn restart(&self) -> anyhow::Result<()> {
        self.manual_restarts.fetch_add(1, Ordering::Relaxed);
        self.begin_epoch(None)
    }

    fn begin_epoch(&self, primary: Option<&Primary>) -> anyhow::Result<()> {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        let before = current.take();
        let Some(primary) = primary.or(before.as_ref().map(|epoch| &epoch.primary)).cloned() else {
            anyhow::bail!("no epoch can begin before the primary is known");
        };
        if let Some(before) = &before {
            before.tally().close(DropReason::Shutdown);
        }
        let task = match primary.task {
            v1::Task::Binary => compare::Task::Binary,
            v1::Task::Multiclass => compare::Task::Multiclass,
            v1::Task::Regression => compare::Task::Regression,
            v1::Task::Quantile => compare::Task::Quantile,
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
        let classes = self.candidate.classes(&primary.classes);
        let comparator = Comparator::new(task, &primary.classes, classes, self.tolerance)?;
        let slicing = self.slicing_of(&primary)?;
        let measures = Measures {
            task,
            levels: comparator.level_names().to_vec(),
            slices: slicing.as_ref().map_or_else(Vec::new, |slicing| slicing.slicer().names().to_vec()),
            latency_ratio: self.gates.max_latency_ratio.unwrap_or(1.0),
        };
        let number = before.map_or(1, |epoch| epoch.number + 1);
        let epoch = Epoch {
            number,
            tally: Mutex::new(Tally::new(number, comparator.classes()).measuring(&measures)),
            slicing,
            history: Mutex::default(),
            candidate: self.candidate.identity(),
            started: now(),
            started_unix_nanos: unix_nanos(),
            comparator,
            primary,
        };
        tracing::info!(
            epoch = number,
            primary = epoch.primary.name,
            primary_version = epoch.primary.version,
            candidate = epoch.candidate.0,
            candidate_version = epoch.candidate.1,
            "epoch begins"
        );
        *current = Some(Arc::new(epoch));
        Ok(())
    }

    /// By the primary's schema, which is what its clients send.
    fn slicing_of(&self, primary: &Primary) -> anyhow::Result<Option<Slicing>> {
        if self.slices.is_empty() {
            return Ok(None);
        }
        let schema = Schema::parse(&primary.schema_json).context("the primary's schema can't be read")?;
        let slicing = Slicing::new(schema, &self.slices).map_err(|problems| anyhow::anyhow!(problems.join("; ")))?;
        Ok(Some(slicing))
    }

    /// Takes one exchange from the tap. Never waits.
    pub fn offer(&self, exchange: Exchange) {
        let Some(epoch) = self.epoch() else { return };
        let ticket = epoch.tally().begin(u64::from(exchange.rows));
        if exchange.model != epoch.primary.name || exchange.version != epoch.primary.version {
            return epoch.tally().dropped(ticket, DropReason::OtherModel);
        }
        if exchange.status != 0 {
            return epoch.tally().dropped(ticket, DropReason::PrimaryError);
        }
        let bytes = size_of::<Job>() + exchange.request.len() + exchange.response.len();
        let fits = self.queued_bytes.fetch_add(bytes, Ordering::Relaxed) + bytes <= self.max_queued_bytes;
        let job = Job { exchange, epoch, ticket, bytes };
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

    /// Exchanges that the server dropped before they came here.
    pub fn lost_on_server(&self, exchanges: u64, rows: u64) {
        if let Some(epoch) = self.epoch() {
            epoch.tally().lost(DropReason::ServerQueueFull, exchanges, rows);
        }
    }

    /// Takes exchanges from the queue and compares them, one at a time, for ever. Several run side by side.
    pub async fn work(self: Arc<Self>) {
        let mut buffers = Buffers::default();
        loop {
            let job = self.jobs.lock().await.recv().await;
            // The sender is ours, so the queue never ends.
            let Some(Job { exchange, epoch, ticket, bytes }) = job else { return };
            let guard = Unfinished { epoch: &epoch, ticket: Some(ticket) };
            self.compare(exchange, guard, &mut buffers).await;
            self.queued_bytes.fetch_sub(bytes, Ordering::Relaxed);
        }
    }

    async fn compare(&self, exchange: Exchange, mut unfinished: Unfinished<'_>, buffers: &mut Buffers) {
        let epoch = unfinished.epoch;
        let Buffers { primary, candidate, outcomes, levels, slices } = buffers;
        let read = Request::decode(&exchange).map_err(anyhow::Error::from).and_then(|request| {
            read_primary(&exchange, epoch, primary)?;
            Ok(request)
        });
        let request = match read {
            Ok(request) => request,
            Err(error) => {
                tracing::debug!(error = format!("{error:#}"), "an exchange can't be decoded");
                return unfinished.dropped(DropReason::Undecodable);
            }
        };
        slices.clear();
        if let Some(slicing) = &epoch.slicing {
            match &request {
                Request::Tensors(request) => slicing.of_tensors(request, primary.rows, slices),
                Request::Rows(request) => slicing.of_rows(&request.rows, slices),
            }
        }
        let started = now();
        let answered = match tokio::time::timeout(self.timeout, self.candidate.answer(request, epoch, candidate)).await
        {
            // tonic's client calls its own timer, which is the same deadline, a cancellation.
            Ok(Err(status)) if status.code() == Code::Cancelled && started.elapsed() >= self.timeout => Err(late()),
            Ok(answered) => answered,
            Err(_) => Err(late()),
        };
        let latency = Latency { primary: exchange.latency_nanos, candidate: started.elapsed().as_nanos() as u64 };
        if let Err(status) = answered {
            // What is said of a wrong request quotes it, and that is somebody's data.
            let message = if status.code() == Code::InvalidArgument { "" } else { status.message() };
            tracing::debug!(code = ?status.code(), message, "the candidate has failed");
            return unfinished.failed(&status);
        }
        if let Err(error) = epoch.comparator.compare(primary, candidate, outcomes) {
            tracing::debug!(%error, "two answers can't be compared");
            return unfinished.dropped(DropReason::Incomparable);
        }
        epoch.comparator.levels(primary, candidate, levels);
        self.histograms.compared(epoch, outcomes, latency);
        self.metrics.compared(outcomes, latency);
        unfinished.compared(Outcomes::of(outcomes).with_levels(levels).with_slices(slices), latency);
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
    levels: Vec<f64>,
    slices: Vec<u16>,
}

fn read_primary(exchange: &Exchange, epoch: &Epoch, out: &mut Answer) -> anyhow::Result<()> {
    match exchange.method() {
        Method::Predict => {
            let response = PredictResponse::decode(exchange.response.clone())?;
            answers::read_rows(&response, &epoch.primary.classes, &epoch.comparator, Role::Primary, out)?;
        }
        Method::ModelInfer | Method::Unspecified => {
            let response = ModelInferResponse::decode(exchange.response.clone())?;
            answers::read_tensors(&response, &epoch.comparator, Role::Primary, out)?;
        }
    }
    Ok(())
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
