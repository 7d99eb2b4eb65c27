//! An epoch, and what it is about.

use std::{
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
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
    /// Binary: above what probability a row is of the second class, in [0, 1]; none where nobody says it.
    pub decision_threshold: Option<f64>,
    /// How its answers are read.
    pub reading: Reading,
}

impl Primary {
    /// Whether this is `other`, which may not have said its version yet.
    pub(super) fn is(&self, other: &Self) -> bool {
        let unnamed = || Self { version: String::new(), ..self.clone() };
        self == other || (other.version.is_empty() && unnamed() == *other)
    }
}

/// One pair of versions under one comparator. Counts never pool across epochs.
#[derive(Debug)]
pub struct Epoch {
    /// From 1.
    pub number: u64,
    /// Who answers the clients; its version is [`Self::primary_version`].
    pub primary: Arc<Primary>,
    /// Name and version of who rehearses, as they were known when it began.
    candidate: (String, String),
    /// The versions of both, where it began without: those that the first answers named.
    named: [OnceLock<String>; 2],
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
    /// What a verdict must prove.
    gates: Gates,
    /// How often an epoch was begun by hand, up to this one.
    pub restarts: u64,
    /// See [`Self::subject_key`].
    key: String,
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
    /// How often an epoch was begun by hand, up to this one.
    pub(super) restarts: u64,
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
            restarts,
            comparisons,
            disagreements,
        } = parts;
        let epoch = Self {
            number,
            primary,
            candidate,
            named: Default::default(),
            started: Instant::now(),
            started_unix_nanos: unix_nanos(),
            tally: Mutex::new(Tally::new(number, comparator.classes()).measuring(&measures).judging(&gates)),
            comparator,
            reading,
            itself,
            slicing,
            measures,
            gates,
            restarts,
            key: String::new(),
            comparisons,
            disagreements,
            history: Mutex::default(),
        };
        let key = epoch.subject().key();
        Self { key, ..epoch }
    }

    /// What its counts are about, besides both versions, as a short text: the same in all replicas whose counts may be added up, which
    /// their numbers of epochs are not.
    pub fn subject_key(&self) -> &str {
        &self.key
    }

    /// The primary's version; empty while nobody has said it.
    pub fn primary_version(&self) -> &str {
        known(&self.primary.version, &self.named[0])
    }

    /// What the candidate is called.
    pub fn candidate_name(&self) -> &str {
        &self.candidate.0
    }

    /// Its version; empty while nobody has said it.
    pub fn candidate_version(&self) -> &str {
        known(&self.candidate.1, &self.named[1])
    }

    /// Whether an exchange with this version of the primary is one of this epoch. One that names no version is taken to be.
    pub(super) fn is_primary(&self, version: &str) -> bool {
        is(version, &self.primary.version, &self.named[0])
    }

    /// Whether an answer of this version of the candidate is one of this epoch. The first version that is named is the epoch's, if it
    /// began without; an answer that names none is taken to be.
    pub(crate) fn is_candidate(&self, version: &str) -> bool {
        is(version, &self.candidate.1, &self.named[1])
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
            primary: (self.primary.name.clone(), self.primary_version().to_owned()),
            candidate: (self.candidate.0.clone(), self.candidate_version().to_owned()),
            task: self.primary.task as i32,
            classes: self.comparator.classes().to_vec(),
            comparator: format!(
                "{}; {:?}; {:?}; {:?}{}",
                self.comparator.describe(),
                self.primary.reading,
                self.reading,
                self.measures,
                self.comparator.decisions()
            ),
            proves: Some(self.gates.question()),
        }
    }

    /// This epoch, going on with what was counted when it was about the same before.
    pub(super) fn after(self, saved: Saved) -> Self {
        let Some(tally) = saved.tally.resumed().filter(|tally| tally.epoch() == saved.number) else {
            tracing::warn!(epoch = saved.number, "what was counted before does not add up: a new epoch begins");
            return self;
        };
        tracing::info!(epoch = saved.number, compared = tally.exchanges().compared(), "the epoch goes on");
        for (named, (_, version)) in self.named.iter().zip([saved.subject.primary, saved.subject.candidate]) {
            // It counts where it began without one.
            drop(named.set(version));
        }
        Self {
            number: saved.number,
            // Only time in which somebody has observed counts.
            started: self.started.checked_sub(Duration::from_nanos(saved.observed_nanos)).unwrap_or(self.started),
            started_unix_nanos: saved.started_unix_nanos,
            // Where nobody had said what is to be proven yet, the evidence along the way begins here.
            tally: Mutex::new(tally.judging(&self.gates)),
            disagreements: self.disagreements.after(&saved.disagreements),
            history: Mutex::new(saved.history),
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

/// The version that was known at the beginning, else the one that was named first.
fn known<'a>(version: &'a str, named: &'a OnceLock<String>) -> &'a str {
    if version.is_empty() { named.get().map_or("", String::as_str) } else { version }
}

/// Whether `said` is the epoch's version.
fn is(said: &str, version: &str, named: &OnceLock<String>) -> bool {
    said.is_empty() || if version.is_empty() { named.get_or_init(|| said.to_owned()) == said } else { version == said }
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
