//! What is kept of an epoch, for another process to go on with: bounded in bytes, and never more of the inputs than that
//! process may tell.

use std::{collections::BTreeMap, sync::Arc};

use bytes::Bytes;
use prost::Message as _;
use serde::{Deserialize, Serialize};
use understudy::v1::Disagreement;

use super::{Config, Disagreements, Inputs, Kind, sample::Sample};

/// As it is in the state file. What is not there, as in files of before, is empty.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Examples {
    /// What they hold of the request.
    inputs: String,
    /// All that were seen, by kind.
    seen: BTreeMap<String, u64>,
    /// Of how many places the fair sample is.
    places: usize,
    /// The fair sample; each as `understudy.v1.Disagreement`.
    reservoir: Vec<Bytes>,
    /// The last ones.
    recent: Vec<Bytes>,
}

impl Examples {
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.reservoir.is_empty() && self.recent.is_empty()
    }

    /// How long they are together.
    pub(crate) fn bytes(&self) -> usize {
        self.reservoir.iter().chain(&self.recent).map(Bytes::len).sum()
    }

    /// What of them a process with this configuration may tell, and so write: nothing where it keeps none, and without the
    /// inputs where they were told more freely than they are now.
    #[must_use]
    pub(crate) fn allowed(mut self, config: &Config) -> Self {
        if config.keep == 0 {
            return Self::default();
        }
        // What nobody knows may be anything.
        if self.inputs.parse().unwrap_or(Inputs::Full) > config.inputs {
            for example in self.reservoir.iter_mut().chain(&mut self.recent) {
                let disagreement = Disagreement::decode(&**example).unwrap_or_default();
                let without = Disagreement { features: BTreeMap::new(), ..disagreement };
                *example = without.encode_to_vec().into();
            }
        }
        config.inputs.as_str().clone_into(&mut self.inputs);
        self
    }
}

fn decoded(examples: &[Bytes]) -> Vec<Arc<Disagreement>> {
    examples.iter().filter_map(|example| Disagreement::decode(&**example).ok().map(Arc::new)).collect()
}

impl Disagreements {
    /// What another process is to go on with: the last ones, and of the fair sample a fair part, as far as `bytes` go.
    pub(crate) fn save(&self, bytes: usize) -> Examples {
        if bytes == 0 {
            return Examples::default();
        }
        // A copy, so that nobody waits for it to be written down.
        let Sample { seen, reservoir, recent, .. } = self.sample().clone();
        let mut left = bytes;
        let mut encoded = |each: &Arc<Disagreement>| {
            let example = Bytes::from(each.encode_to_vec());
            left = left.checked_sub(example.len())?;
            Some(example)
        };
        let recent: Vec<Bytes> = recent.iter().rev().map_while(&mut encoded).collect();
        let mut sampled: Vec<_> = reservoir.iter().flatten().collect();
        // In any order: what does not fit is then as likely an early one as a late one.
        fastrand::shuffle(&mut sampled);
        let written: Vec<Bytes> = sampled.iter().copied().map_while(&mut encoded).collect();
        Examples {
            inputs: self.reader.policy().as_str().into(),
            seen: Kind::ALL.map(|kind| (kind.as_str().to_owned(), seen[kind as usize])).into(),
            places: if written.len() < sampled.len() { written.len() } else { reservoir.len() },
            reservoir: written,
            recent: recent.into_iter().rev().collect(),
        }
    }

    /// Goes on with what an earlier process has kept of the same epoch.
    #[must_use]
    pub(crate) fn after(self, examples: &Examples) -> Self {
        let Examples { inputs: _, seen, places, reservoir, recent } = examples;
        let seen = Kind::ALL.map(|kind| seen.get(kind.as_str()).copied().unwrap_or_default());
        self.sample().resume(seen, *places, decoded(reservoir), decoded(recent));
        self
    }
}
