//! Where a rehearsal stands: who answers the clients, and which epoch it is.

use std::{
    sync::{Arc, MutexGuard, atomic::Ordering},
    time::Duration,
};

use anyhow::Context as _;
use model::Schema;
use tokio::task::AbortHandle;
use understudy::v1;

use super::{
    Rehearsal,
    epoch::{Epoch, Parts, Primary},
    memory::Memory,
    waiting::Waiting,
};
use crate::{
    candidate::Candidate,
    compare::{self, Comparator, USUAL_DECISION},
    disagreements::{self, Disagreements, Reader, Schemas},
    slicer::Slicing,
    state::{self, Saved},
    tally::{DropReason, Measures},
};

/// Between two attempts to learn who a candidate's server is.
const RETRY: Duration = Duration::from_secs(1);

/// Where a rehearsal stands.
#[derive(Default)]
pub(super) struct Stage {
    /// Who answers the clients.
    pub(super) primary: Option<Arc<Primary>>,
    /// Absent until both models are known.
    pub(super) epoch: Option<Arc<Epoch>>,
    /// The number of the last epoch.
    number: u64,
    /// What was offered before the epoch began.
    pub(super) waiting: Waiting,
    /// Asks the candidate's server who it is.
    pub(super) settling: Option<AbortHandle>,
    /// Why there is no epoch.
    pub(super) problem: String,
    /// Epochs that have ended, also those of an earlier process.
    pub(super) memory: Memory,
}

impl Stage {
    /// An earlier process has counted this.
    pub(super) fn recall(&mut self, saved: Saved) {
        self.number = self.number.max(saved.number);
        self.memory.recall(saved);
    }
}

impl Rehearsal {
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
            let saved = self.saved(&epoch, state::examples(1));
            stage.memory.keep(saved);
        } else {
            stage.memory.forget(&epoch.subject());
        }
    }

    fn begin_epoch(&self, mut stage: MutexGuard<'_, Stage>) {
        let Some(primary) = stage.primary.clone() else { return };
        let epoch = match self.new_epoch(stage.number + 1, primary) {
            Ok(epoch) => Arc::new(match stage.memory.take(&epoch.subject()) {
                Some(saved) => epoch.after(saved),
                None => epoch,
            }),
            Err(error) => {
                tracing::error!(candidate = self.name(), error = format!("{error:#}"), "no epoch can begin");
                stage.problem = format!("{error:#}");
                stage.settling = None;
                self.without_epoch.fetch_add(stage.waiting.give_up(), Ordering::Relaxed);
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
        stage.epoch = Some(epoch.clone());
        let Waiting { offered, lost, .. } = std::mem::take(&mut stage.waiting);
        for (reason, exchanges, rows) in lost {
            epoch.tally().lost(reason, exchanges, rows);
        }
        // Before the stage is left: what comes now comes after them.
        for offered in offered {
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
        let own = self.candidate.task().unwrap_or(primary.task);
        anyhow::ensure!(own == primary.task, "the primary's task is {task:?}, the candidate's {own:?}");
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
            gates: self.gates,
            restarts: self.manual_restarts(),
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

    /// By the primary's schema, which is what its clients send; where nobody knows it, by the candidate's, else by names.
    fn slicing_of(&self, primary: &Primary) -> anyhow::Result<Option<Slicing>> {
        if self.slices.is_empty() {
            return Ok(None);
        }
        let own = self.candidate.schemas().schema;
        let (whose, json) =
            if primary.schema_json.is_empty() { ("candidate", &*own) } else { ("primary", &*primary.schema_json) };
        let slicing = if json.is_empty() {
            Slicing::by_name(&self.slices)
        } else {
            let schema = Schema::parse(json).with_context(|| format!("slices: the {whose}'s schema can't be read"))?;
            Slicing::new(schema, &self.slices)
        };
        slicing.map(Some).map_err(|problems| anyhow::anyhow!(problems.join("; ")))
    }
}
