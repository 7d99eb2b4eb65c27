//! Epochs that have ended. A pair of versions that comes back goes on with what it has proven and disproven: to begin anew would give it
//! another chance alpha of a wrong verdict, as often as it likes.

use std::collections::VecDeque;

use crate::{
    disagreements::Examples,
    state::{self, Saved, Subject},
};

/// Epochs that are remembered, those that ended last: a roll-out that is taken back and tried again, several times over. Each
/// takes up to 300 kB.
const MOST: usize = 8;

/// The newest first.
#[derive(Default)]
pub(super) struct Memory(VecDeque<Saved>);

impl Memory {
    /// An epoch has ended. What was known of the same subject before is in it, or was given up by hand.
    pub(super) fn keep(&mut self, saved: Saved) {
        self.forget(&saved.subject);
        self.0.push_front(saved);
        self.0.truncate(MOST);
        bound(&mut self.0, state::examples(1));
    }

    /// One that an earlier process has kept, in the order in which [`Self::saved`] told them.
    pub(super) fn recall(&mut self, saved: Saved) {
        if self.0.len() < MOST {
            self.0.push_back(saved);
        }
    }

    /// The newest epoch that was about this.
    pub(super) fn take(&mut self, subject: &Subject) -> Option<Saved> {
        let known = self.0.iter().position(|saved| saved.subject.covers(subject))?;
        self.0.remove(known)
    }

    /// What was about exactly this is not gone on with.
    pub(super) fn forget(&mut self, subject: &Subject) {
        self.0.retain(|saved| saved.subject != *subject);
    }

    /// The newest first.
    pub(super) fn saved(&self) -> impl Iterator<Item = &Saved> {
        self.0.iter()
    }
}

/// At most so many bytes of examples: those that come first have theirs, where all of them fit.
pub(super) fn bound<'a>(all: impl IntoIterator<Item = &'a mut Saved>, bytes: usize) {
    let mut left = bytes;
    for Saved { disagreements, .. } in all {
        match left.checked_sub(disagreements.bytes()) {
            Some(rest) => left = rest,
            None => *disagreements = Examples::default(),
        }
    }
}
