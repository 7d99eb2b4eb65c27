//! Another version than the epoch's has answered: when that is the next candidate, and when it is a server that is being replaced, or
//! one that lies. An epoch for every answer would mean as many verdicts, each with a chance alpha of its own to be wrong.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

/// Bytes of a version's name. It is a label of some forty series.
pub(crate) const MAX_VERSION: usize = 256;
/// Answers of one version, one after the other, that are enough when they took long enough.
const ANSWERS: u32 = 20;
/// How long a version must have answered alone at first, and at most: twice as long with every change, so that a server that never
/// settles begins at most one epoch a minute.
const ALONE: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));
/// So many times as long is enough for two answers, where requests are few.
const FEW: u32 = 10;
/// A version that has stayed for so long begins with the shortest again.
const SETTLED: Duration = Duration::from_hours(1);

/// What answers beside the epoch's version.
#[derive(Debug, Default)]
pub(super) struct Versions(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    rival: Option<Rival>,
    /// The last change: when, and how long the version before it had to answer alone.
    changed: Option<(Instant, Duration)>,
}

#[derive(Debug)]
struct Rival {
    version: String,
    since: Instant,
    answers: u32,
}

impl Versions {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The epoch's version has answered: no other one is alone.
    pub(super) fn expected(&self) {
        self.state().rival = None;
    }

    /// Another version has answered. True when it has done so alone for long enough: it is the candidate from now on.
    pub(super) fn other(&self, version: &str, now: Instant) -> bool {
        let mut state = self.state();
        let rival = match &mut state.rival {
            Some(rival) if rival.version == version => rival,
            other => other.insert(Rival { version: version.to_owned(), since: now, answers: 0 }),
        };
        rival.answers = rival.answers.saturating_add(1);
        let (alone, answers) = (now.saturating_duration_since(rival.since), rival.answers);
        let needed = match state.changed {
            Some((when, needed)) if now.saturating_duration_since(when) < SETTLED => (needed * 2).min(ALONE.1),
            _ => ALONE.0,
        };
        let enough = (answers >= ANSWERS && alone >= needed) || (answers > 1 && alone >= needed * FEW);
        if enough {
            *state = State { rival: None, changed: Some((now, needed)) };
        }
        enough
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(start: Instant, millis: u64) -> Instant {
        start + Duration::from_millis(millis)
    }

    #[test]
    fn a_version_that_answers_alone_is_the_next_one() {
        let (versions, start) = (Versions::default(), Instant::now());
        // Every 50 ms: twenty answers take 950 ms, and a second is needed.
        let taken: Vec<u64> = (0..40).filter(|n| versions.other("2", at(start, 50 * n))).collect();
        assert_eq!(taken, [20], "once, and not at the twentieth answer, which is early");
        let slow = Versions::default();
        let taken: Vec<u64> = (0..4).filter(|n| slow.other("2", at(start, 4_000 * n))).collect();
        assert_eq!(taken, [3], "few answers take ten times as long");
    }

    #[test]
    fn while_two_versions_answer_nothing_changes() {
        let (versions, start) = (Versions::default(), Instant::now());
        for n in 0..10_000 {
            if n % 15 == 0 {
                versions.expected();
            }
            assert!(!versions.other("2", at(start, n * 10)), "answer {n}");
        }
        let liar = Versions::default();
        for n in 0..100_000_u64 {
            assert!(!liar.other(&n.to_string(), at(start, n)), "a version for each answer");
        }
    }

    #[test]
    fn one_that_never_settles_takes_longer_every_time() {
        let (versions, start) = (Versions::default(), Instant::now());
        let (mut version, mut changes) = (0, Vec::new());
        // Ten minutes of a server that becomes another one whenever the last one was taken.
        for millis in (0..600_000).step_by(10) {
            if versions.other(&version.to_string(), at(start, millis)) {
                version += 1;
                changes.push(millis / 1_000);
            }
        }
        assert_eq!(changes[..5], [1, 3, 7, 15, 31]);
        assert!(changes.len() < 16, "{changes:?}");
        let later = at(start, 600_000) + SETTLED;
        assert!((0..101).any(|n| versions.other("new", at(later, 10 * n))), "forgiven");
    }
}
