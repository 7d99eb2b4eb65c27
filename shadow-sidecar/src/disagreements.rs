//! On what the models differ: of each epoch a bounded sample of rows, for people who want to know why a candidate is
//! rejected. The last few are always in it, and of all before them each is as likely as any other, however late it came.
//!
//! It is kept in memory, and in the state file if there is one. What it tells of the inputs is a matter of policy: see [`Inputs`].

use std::{
    collections::BTreeMap,
    str::FromStr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use understudy::v1;

mod allowance;
mod examples;
mod inputs;
mod json;
mod listing;
mod sample;
#[cfg(test)]
mod tests;

pub(crate) use allowance::Allowance;
pub use examples::Examples;
pub(crate) use inputs::Reader;
pub use inputs::{Inputs, Schemas};
pub use json::{disagreement as disagreement_json, response as response_json};
pub(crate) use listing::list;
use sample::Sample;

/// Of what is kept, a tenth are the last ones: at least one and at most so many.
const MOST_RECENT: usize = 20;
/// Where more than so many differ in a second, the last ones need not be the very last: to describe one costs microseconds.
const RECENT_PER_SECOND: u32 = 100;

/// What is kept, and told, of disagreements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Config {
    /// How many of each epoch; 0: none, and none are told.
    pub keep: usize,
    /// What they hold of the request.
    pub inputs: Inputs,
    /// How many go to the collector as log records, at most.
    pub logs_per_second: u32,
}

impl Default for Config {
    fn default() -> Self {
        Self { keep: 200, inputs: Inputs::Redacted, logs_per_second: 10 }
    }
}

/// How the two answers differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The labels are two.
    Flip,
    /// Values differ by more than the tolerance.
    Delta,
    /// A score is NaN or infinite.
    Nonfinite,
    /// The answers can't be compared.
    Shape,
    /// The candidate gave none.
    Status,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Flip, Self::Delta, Self::Nonfinite, Self::Shape, Self::Status];

    /// The name in requests and answers.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Flip => "flip",
            Self::Delta => "delta",
            Self::Nonfinite => "nonfinite",
            Self::Shape => "shape",
            Self::Status => "status",
        }
    }
}

impl FromStr for Kind {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|kind| kind.as_str() == text);
        found.ok_or_else(|| format!("expected a kind among {:?}, got {text:?}", Self::ALL.map(Self::as_str)))
    }
}

/// Those of one epoch.
#[derive(Debug)]
pub struct Disagreements {
    /// Tells what the policy lets through.
    pub(crate) reader: Reader,
    /// The classes or levels of both models, each in its own order.
    pub(crate) names: [Vec<String>; 2],
    sample: Mutex<Sample>,
    recent: Allowance,
    began: Instant,
}

impl Disagreements {
    /// None yet. `names` are the classes or levels of the primary and of the candidate.
    pub(crate) fn new(keep: usize, reader: Reader, names: [Vec<String>; 2]) -> Self {
        let recent = (keep / 10).clamp(1, MOST_RECENT).min(keep);
        Self {
            reader,
            names,
            sample: Mutex::new(Sample::new(keep - recent, recent)),
            recent: Allowance::new(if recent > 0 { RECENT_PER_SECOND } else { 0 }, recent as u32),
            began: Instant::now(),
        }
    }

    /// One more. It is described only when somebody wants to have it: the sample, or whoever is `told`.
    pub(crate) fn note(
        &self,
        kind: Kind,
        told: Option<&dyn Fn(&v1::Disagreement)>,
        describe: impl FnOnce() -> v1::Disagreement,
    ) {
        let (number, place) = self.sample().seen(kind);
        let recent = self.recent.take(self.began.elapsed());
        if place.is_none() && !recent && told.is_none() {
            return;
        }
        let described = Arc::new(v1::Disagreement { number, kind: kind.as_str().into(), ..describe() });
        if let Some(told) = told {
            told(&described);
        }
        self.sample().keep(described, place, recent);
    }

    /// What is kept, the newest first.
    pub fn kept(&self) -> Vec<Arc<v1::Disagreement>> {
        self.sample().kept()
    }

    /// All that were seen, by kind.
    pub fn counts(&self) -> BTreeMap<String, u64> {
        let sample = self.sample();
        let counts = Kind::ALL.into_iter().map(|kind| (kind.as_str().to_owned(), sample.count(kind)));
        counts.filter(|(_, count)| *count > 0).collect()
    }

    fn sample(&self) -> MutexGuard<'_, Sample> {
        self.sample.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
