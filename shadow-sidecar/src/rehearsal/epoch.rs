//! An epoch, and what it is about.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use understudy::v1;

use super::unix_nanos;
use crate::{
    answers::{self, Reading},
    compare::{Answer, Comparator, Role, RowOutcome},
    disagreements::Disagreements,
    exchange::Response,
    history::History,
    metrics::Comparisons,
    slicer::Slicing,
    state::{Saved, Subject},
    tally::{Measures, Tally},
    verdict::Gates,
};

/// The primary as its tap, its metadata or the configuration describes it.
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
    /// Its schema, as it is in its package; empty where nobody knows it.
    pub schema_json: bytes::Bytes,
    /// The profile of its training data, as it is in its package; empty where nobody knows it.
    pub reference_json: bytes::Bytes,
    /// How its answers are read.
    pub reading: Reading,
}

/// One pair of versions under one comparator. Counts never pool across epochs.
#[derive(Debug)]
pub struct Epoch {
    /// From 1.
    pub number: u64,
    /// Who answers the clients.
    pub primary: Arc<Primary>,
    /// Name and version of who rehearses.
    pub candidate: (String, String),
    /// When it began.
    pub started: Instant,
    /// The same on the wall's clock, in nanoseconds.
    pub started_unix_nanos: u64,
    /// What counts as agreement.
    pub comparator: Comparator,
    /// How the candidate's answers are read.
    pub reading: Reading,
    /// Compares the primary with itself.
    itself: Comparator,
    /// By which segments rows are counted; absent when none are declared.
    pub(super) slicing: Option<Slicing>,
    measures: Measures,
    gates: Gates,
    pub(super) comparisons: Comparisons,
    /// On what the models differ, by examples.
    pub disagreements: Disagreements,
    tally: Mutex<Tally>,
    history: Mutex<History>,
}

/// What an epoch is made of.
pub(super) struct Parts {
    pub(super) primary: Arc<Primary>,
    pub(super) candidate: (String, String),
    pub(super) comparator: Comparator,
    /// Compares the primary with itself.
    pub(super) itself: Comparator,
    pub(super) reading: Reading,
    pub(super) slicing: Option<Slicing>,
    pub(super) measures: Measures,
    /// What a verdict must prove.
    pub(super) gates: Gates,
    pub(super) comparisons: Comparisons,
    pub(super) disagreements: Disagreements,
}

impl Epoch {
    pub(super) fn new(number: u64, parts: Parts) -> Self {
        let Parts {
            primary,
            candidate,
            comparator,
            itself,
            reading,
            slicing,
            measures,
            gates,
            comparisons,
            disagreements,
        } = parts;
        Self {
            number,
            primary,
            candidate,
            started: Instant::now(),
            started_unix_nanos: unix_nanos(),
            tally: Mutex::new(Tally::new(number, comparator.classes()).measuring(&measures).judging(&gates)),
            comparator,
            reading,
            itself,
            slicing,
            measures,
            gates,
            comparisons,
            disagreements,
            history: Mutex::default(),
        }
    }

    /// Reads an answer of the primary.
    pub(super) fn read_primary(&self, response: &Response, out: &mut Answer) -> Result<(), answers::Unreadable> {
        read(response, self, &self.comparator, Role::Primary, out)
    }

    /// Its counters.
    pub fn tally(&self) -> MutexGuard<'_, Tally> {
        // A panic between two counters can't leave them torn: each method of Tally is one step.
        self.tally.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How it went, for the page; the ticker feeds it.
    pub fn history(&self) -> MutexGuard<'_, History> {
        self.history.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What its counts are about.
    pub(super) fn subject(&self) -> Subject {
        Subject {
            primary: (self.primary.name.clone(), self.primary.version.clone()),
            candidate: self.candidate.clone(),
            task: self.primary.task as i32,
            classes: self.comparator.classes().to_vec(),
            comparator: format!(
                "{}; {:?}; {:?}; {:?}",
                self.comparator.describe(),
                self.primary.reading,
                self.reading,
                self.measures
            ),
        }
    }

    /// This epoch, which is the first of its process, after what an earlier process has counted: the same one, if that was
    /// about the same, else the next one.
    pub(super) fn after(self, saved: Saved) -> Self {
        let next = saved.number.saturating_add(1);
        let same = saved.subject == self.subject();
        let Some(tally) = saved.tally.resumed().filter(|tally| same && tally.epoch() == saved.number) else {
            tracing::info!(epoch = saved.number, "what was counted before is about something else: a new epoch begins");
            let tally = Tally::new(next, self.comparator.classes()).measuring(&self.measures).judging(&self.gates);
            return Self { number: next, tally: Mutex::new(tally), ..self };
        };
        tracing::info!(epoch = saved.number, compared = tally.exchanges().compared(), "the epoch goes on");
        Self {
            number: saved.number,
            // Only time in which somebody has observed counts.
            started: self.started.checked_sub(Duration::from_nanos(saved.observed_nanos)).unwrap_or(self.started),
            started_unix_nanos: saved.started_unix_nanos,
            tally: Mutex::new(tally),
            disagreements: self.disagreements.after(&saved.disagreements),
            ..self
        }
    }

    /// Compares the primary's second answer with its first, row by row; nothing where that can't be done.
    pub(super) fn compare_itself(&self, primary: &Answer, again: &Response, out: &mut Vec<RowOutcome>) {
        let mut second = Answer::default();
        let read = read(again, self, &self.itself, Role::Candidate, &mut second);
        if read.is_err() || self.itself.compare(primary, &second, out).is_err() {
            out.clear();
        }
    }
}

/// Reads an answer of the primary.
fn read(
    response: &Response,
    epoch: &Epoch,
    comparator: &Comparator,
    role: Role,
    out: &mut Answer,
) -> Result<(), answers::Unreadable> {
    match response {
        Response::Rows(response) => answers::read_rows(response, &epoch.primary.classes, comparator, role, out),
        Response::Tensors(response) => answers::read_tensors(response, &epoch.primary.reading, comparator, role, out),
    }
}
