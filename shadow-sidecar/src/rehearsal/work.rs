//! The way of one exchange: through the queue to the candidate and the comparator, and back into the tally. Every exchange has
//! one ticket, and every ticket ends in one counter.

use std::{
    panic::AssertUnwindSafe,
    sync::{Arc, atomic::Ordering},
    time::Instant,
};

use futures_util::FutureExt as _;
use tokio::sync::mpsc;
use tonic::{Code, Status};

use super::{Epoch, Rehearsal, differing::Compared};
use crate::{
    candidate::{Candidate, Failure},
    compare::{Answer, RowOutcome},
    exchange::{Offered, Request},
    tally::{DropReason, Latency, Outcomes, Ticket},
};

/// Exchanges that a worker takes from the queue at once, for a candidate in this process.
const AT_ONCE: usize = 16;

/// An exchange on its way to the candidate.
pub(super) struct Job {
    offered: Arc<Offered>,
    epoch: Arc<Epoch>,
    ticket: Ticket,
    bytes: usize,
}

/// Exchanges that wait where a candidate keeps up.
const FEW: usize = 128;

impl Rehearsal {
    /// Takes one exchange. Never waits.
    pub fn offer(&self, offered: &Arc<Offered>) {
        let mut stage = self.stage();
        if let Some(epoch) = stage.epoch.clone() {
            drop(stage);
            return self.enqueue(offered.clone(), epoch);
        }
        let hopeful = stage.settling.is_some();
        self.without_epoch.fetch_add(u64::from(!hopeful), Ordering::Relaxed);
        stage.waiting.offer(offered, if hopeful { Some(self.bounds) } else { None });
    }

    /// Whether what is offered now will wait for many others.
    pub(crate) fn is_behind(&self) -> bool {
        self.queue.max_capacity() - self.queue.capacity() > FEW
    }

    pub(super) fn enqueue(&self, offered: Arc<Offered>, epoch: Arc<Epoch>) {
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
            None => {
                self.without_epoch.fetch_add(exchanges, Ordering::Relaxed);
                stage.waiting.add(DropReason::NoEpoch, exchanges, rows);
            }
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

    /// Reads what must be known of an exchange before the candidate is asked: the primary's answer, the slices of its rows, and the
    /// request where the candidate needs it.
    fn read(
        &self,
        offered: &Offered,
        epoch: &Epoch,
        primary: &mut Answer,
        slices: &mut Vec<u16>,
    ) -> anyhow::Result<()> {
        epoch.read_primary(offered.response()?, primary)?;
        slices.clear();
        if let Some(slicing) = &epoch.slicing {
            match offered.request()? {
                Request::Tensors(request) => slicing.of_tensors(request, primary.rows, slices),
                Request::Rows(request) => slicing.of_rows(&request.rows, slices),
            }
        }
        Ok(self.candidate.prepare(offered)?)
    }

    async fn compare(&self, offered: &Offered, mut unfinished: Unfinished<'_>, buffers: &mut Buffers) {
        let epoch = unfinished.epoch;
        let Buffers { primary, candidate, outcomes, again, levels, slices } = buffers;
        if let Err(error) = self.read(offered, epoch, primary, slices) {
            return unfinished.undecodable(&error);
        }
        again.clear();
        if let Some(second) = &offered.again {
            epoch.compare_itself(primary, second, again);
        }
        let (started, timeout) = (now(), self.bounds.timeout);
        let asked = self.candidate.answer(offered, primary.rows, epoch, candidate);
        let answered = match tokio::time::timeout(timeout, asked).await {
            Ok(Err(Failure::Undecodable(error))) => return unfinished.undecodable(&error.into()),
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

    fn undecodable(&mut self, error: &anyhow::Error) {
        tracing::debug!(error = format!("{error:#}"), "an exchange can't be decoded");
        self.dropped(DropReason::Undecodable);
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
