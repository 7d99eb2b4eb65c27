//! Counts that survive a restart: a small local file, written every few seconds and at the end, replaced in one step. It holds
//! the tally of each candidate's epoch with what the epoch is about; a process that finds the same pair of versions under the
//! same comparator goes on with it, and what was in flight is lost and counted as that.

use std::{
    fs::{self, File, Permissions},
    io::{self, Write as _},
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use sha2::{Digest, Sha256};

use crate::{disagreements::Examples, history::History, tally::Tally};

/// What the file begins with. Another version is another format.
const MAGIC: &[u8] = b"understudy rehearsal state 1\n";
/// Nobody but the owner reads or writes it.
const PRIVATE: u32 = 0o600;
/// Bytes of a digest.
const DIGEST: usize = 32;
/// More is no file of ours: a tally and how it went take less than 300 kB, of which each candidate has up to nine, and examples what [`examples`] says.
const MAX_BYTES: u64 = 64 << 20;
/// Bytes of the examples of all candidates, and of one.
const EXAMPLES: (usize, usize) = (32 << 20, 4 << 20);

/// Bytes of examples that each of so many candidates may save, of all its epochs together: they are written every few seconds.
pub(crate) fn examples(candidates: usize) -> usize {
    let (all, most) = EXAMPLES;
    most.min(all / candidates.max(1))
}

/// What an epoch is about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subject {
    /// Name and version of the primary.
    pub primary: (String, String),
    /// Name and version of the candidate.
    pub candidate: (String, String),
    /// What both predict, and the classes they know together.
    pub task: i32,
    /// As [`crate::compare::Comparator::classes`] has them.
    pub classes: Vec<String>,
    /// What counts as agreement, and how outputs are read.
    pub comparator: String,
    /// What a verdict must prove, see [`crate::verdict::Gates::question`]. None in what was written before it was a part of this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proves: Option<String>,
}

impl Subject {
    /// The first 12 digits of a digest of everything but the names and versions: for labels, which have these anyway.
    pub(crate) fn key(&self) -> String {
        let Self { primary: _, candidate: _, task, classes, comparator, proves } = self;
        let digest = Sha256::digest(format!("{task} {classes:?} {comparator} {proves:?}"));
        let first = digest.first_chunk().copied().map_or(0, u64::from_be_bytes);
        format!("{:012x}", first >> 16)
    }

    /// Whether counts about this are counts about `other`, which may not know its versions yet. Where this does not say what was to
    /// be proven, it was the same.
    pub(crate) fn covers(&self, other: &Self) -> bool {
        let version = |known: &str, other: &str| if other.is_empty() { known.to_owned() } else { other.to_owned() };
        let named = Self {
            primary: (other.primary.0.clone(), version(&self.primary.1, &other.primary.1)),
            candidate: (other.candidate.0.clone(), version(&self.candidate.1, &other.candidate.1)),
            proves: self.proves.as_ref().and(other.proves.clone()),
            ..other.clone()
        };
        *self == named
    }
}

/// One candidate's epoch: the one that is going on, or one that has ended and may come back.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Saved {
    /// What the candidate is called in reports.
    pub name: String,
    /// What the counts are about.
    pub subject: Subject,
    /// The epoch's.
    pub number: u64,
    /// How often an epoch was begun by hand.
    pub manual_restarts: u64,
    /// When it began, in nanoseconds since 1970.
    pub started_unix_nanos: u64,
    /// How long it was observed, in nanoseconds; time without a sidecar does not count.
    pub observed_nanos: u64,
    /// Its counters.
    pub tally: Tally,
    /// On what the models differed; files of before have none.
    #[serde(default, skip_serializing_if = "Examples::is_empty")]
    pub disagreements: Examples,
    /// How it went; files of before have none.
    #[serde(default, skip_serializing_if = "History::is_empty")]
    pub history: History,
}

/// Why a file is not used.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// It can't be read.
    #[error("can't be read: {0}")]
    Io(#[from] io::Error),
    /// It was not written by this program, or by another version of it.
    #[error("is no state of this version")]
    Foreign,
    /// It is not what was written.
    #[error("is torn or changed: its digest does not match")]
    Torn,
    /// It does not hold what it should.
    #[error("can't be decoded: {0}")]
    Undecodable(String),
}

/// The file.
#[derive(Debug)]
pub struct StateFile {
    path: PathBuf,
    writing: Mutex<()>,
}

impl StateFile {
    /// At `path`; it need not exist.
    pub fn new(path: &Path) -> Self {
        Self { path: path.to_owned(), writing: Mutex::default() }
    }

    /// What was written last; nothing when there is no file. A file that is refused is moved aside, so that the next one does
    /// not replace it unseen.
    ///
    /// # Errors
    /// It can't be used.
    pub fn read(&self) -> Result<Vec<Saved>, Refused> {
        let read = self.try_read();
        if read.is_err() {
            // Should that fail, too, then it is replaced.
            drop(fs::rename(&self.path, self.beside("refused")));
        }
        read
    }

    fn try_read(&self) -> Result<Vec<Saved>, Refused> {
        let bytes = match fs::metadata(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error.into()),
            Ok(metadata) if metadata.len() > MAX_BYTES => return Err(Refused::Foreign),
            Ok(_) => fs::read(&self.path)?,
        };
        unseal(MAGIC, &bytes)
    }

    /// Replaces the file in one step: whoever reads it, also after a crash, finds the old one or the new one. One after the other, and
    /// each asks for what is to be written when it is its turn: what was counted earlier never replaces what was counted later.
    ///
    /// # Errors
    /// The old one is still there.
    pub fn write(&self, saved: impl FnOnce() -> Vec<Saved>) -> io::Result<()> {
        // Nobody can have left anything half done that the next one does not do anew.
        let _turn = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let sealed = seal(MAGIC, &saved())?;
        let written = self.beside("new");
        let mut file = File::options().write(true).create(true).truncate(true).mode(PRIVATE).open(&written)?;
        // Also where one is left of before.
        file.set_permissions(Permissions::from_mode(PRIVATE))?;
        file.write_all(&sealed)?;
        file.sync_all()?;
        drop(file);
        fs::rename(&written, &self.path)?;
        let directory = self.path.parent().filter(|parent| !parent.as_os_str().is_empty());
        File::open(directory.unwrap_or(Path::new(".")))?.sync_all()
    }

    fn beside(&self, suffix: &str) -> PathBuf {
        let mut name = self.path.clone().into_os_string();
        name.push(".");
        name.push(suffix);
        name.into()
    }
}

/// `format`, which is a line that names it, SHA-256 of the rest, and `value` as CBOR.
pub(crate) fn seal(format: &[u8], value: &(impl Serialize + ?Sized)) -> io::Result<Vec<u8>> {
    let mut body = Vec::new();
    ciborium::into_writer(value, &mut body).map_err(io::Error::other)?;
    Ok([format, Sha256::digest(&body).as_slice(), &body].concat())
}

/// What was sealed with this `format`.
pub(crate) fn unseal<T: DeserializeOwned>(format: &[u8], sealed: &[u8]) -> Result<T, Refused> {
    let rest = sealed.strip_prefix(format).ok_or(Refused::Foreign)?;
    let (digest, body) = rest.split_at_checked(DIGEST).ok_or(Refused::Torn)?;
    if Sha256::digest(body).as_slice() != digest {
        return Err(Refused::Torn);
    }
    ciborium::from_reader(body).map_err(|error| Refused::Undecodable(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        compare::RowOutcome,
        tally::{DropReason, Latency},
        verdict::Gates,
    };

    fn saved() -> Saved {
        let classes = ["a".to_owned(), "b".to_owned()];
        let mut tally = Tally::new(7, &classes);
        for n in 0..100 {
            let ticket = tally.begin(3);
            let row = |agreed| RowOutcome {
                agreed,
                primary_class: Some(0),
                candidate_class: Some(u32::from(!agreed)),
                delta: Some(0.1 * f64::from(n)),
                ..RowOutcome::default()
            };
            tally.compared(ticket, &[row(true), row(true), row(n % 9 > 0)], Latency { primary: 10, candidate: 20 });
        }
        tally.look(&Gates::default());
        tally.lost(DropReason::Ttl, 5, 5);
        let in_flight = tally.begin(2);
        assert_eq!(in_flight.rows(), 2);
        let pair = |name: &str| (name.to_owned(), "1".to_owned());
        let subject = Subject {
            primary: pair("p"),
            candidate: pair("c"),
            task: 1,
            classes: classes.to_vec(),
            comparator: "labels".into(),
            proves: Some(Gates::default().question()),
        };
        Saved {
            name: "c".into(),
            subject,
            number: 7,
            manual_restarts: 1,
            started_unix_nanos: 2,
            observed_nanos: 3,
            tally,
            disagreements: Examples::default(),
            history: History::default(),
        }
    }

    /// Written by [`saved`] when there were no examples yet, and when it was not said what is to be proven.
    #[test]
    fn files_of_before_stay_readable() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("state");
        fs::write(&path, include_bytes!("state/without-examples")).expect("written");
        let read = StateFile::new(&path).read().expect("as good as ever").remove(0);
        let mut written = saved();
        written.subject.proves = None;
        // Nor was time without traffic told from time with it.
        let written = format!("{written:?}").replace("busy: Some(0ns)", "busy: None");
        assert_eq!(format!("{read:?}"), written);
        assert!(read.disagreements.is_empty());
    }

    #[test]
    fn the_file_is_for_its_owner_only() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("state");
        // As a process left it that was killed, and that knew nothing of examples.
        fs::write(directory.path().join("state.new"), b"half").expect("written");
        StateFile::new(&path).write(|| vec![saved()]).expect("written");
        let mode = fs::metadata(&path).expect("a file").permissions().mode();
        assert_eq!(mode & 0o777, PRIVATE);
    }

    #[test]
    fn what_was_counted_later_stays() {
        let directory = tempfile::tempdir().expect("a directory");
        let file = StateFile::new(&directory.path().join("state"));
        let (asked, later) = std::sync::mpsc::channel();
        std::thread::scope(|threads| {
            let earlier = || {
                let file = &file;
                threads.spawn(move || {
                    let saved = || {
                        asked.send(()).expect("somebody listens");
                        vec![Saved { number: 8, ..saved() }]
                    };
                    file.write(saved).expect("written");
                });
                let turn = later.recv_timeout(std::time::Duration::from_millis(50));
                assert!(turn.is_err(), "it is not its turn yet");
                vec![saved()]
            };
            file.write(earlier).expect("written");
        });
        assert_eq!(file.read().expect("whole").remove(0).number, 8);
    }

    #[test]
    fn examples_of_many_candidates_fit_into_a_file() {
        for candidates in [0, 1, 7, 8, 9, 100, 10_000] {
            let bytes = examples(candidates);
            assert!(bytes * candidates <= (MAX_BYTES / 2) as usize && bytes <= 4 << 20, "{candidates}: {bytes}");
        }
    }

    #[test]
    fn the_key_of_a_subject_is_about_all_but_its_names_and_versions() {
        let subject = saved().subject;
        let rolled_out = Subject { candidate: ("c".into(), "2".into()), ..subject.clone() };
        assert_eq!(subject.key(), rolled_out.key());
        for other in [
            Subject { proves: Some(Gates { gate: 0.5, ..Gates::default() }.question()), ..subject.clone() },
            Subject { comparator: "values".into(), ..subject.clone() },
            Subject { classes: vec!["a".into()], ..subject.clone() },
            Subject { task: 2, ..subject.clone() },
        ] {
            assert_ne!(subject.key(), other.key(), "{other:?}");
        }
    }

    #[test]
    fn counts_come_back_as_they_were_but_for_what_was_in_flight() {
        let directory = tempfile::tempdir().expect("a directory");
        let file = StateFile::new(&directory.path().join("state"));
        assert!(file.read().expect("no file is no error").is_empty());
        let before = saved();
        file.write(|| vec![before.clone()]).expect("written");
        let after = file.read().expect("read").remove(0);
        assert_eq!(format!("{before:?}"), format!("{after:?}"));
        let tally = after.tally.resumed().expect("it adds up");
        assert_eq!((tally.exchanges().in_flight(), tally.exchanges().dropped(DropReason::Shutdown)), (0, 1));
        assert_eq!(tally.rows().dropped(DropReason::Shutdown), 2);
        let gates = Gates::default();
        assert_eq!(tally.evidence(&gates), before.tally.evidence(&gates), "the largest evidence, too");
        assert_eq!((tally.agreed(), tally.shares()), (before.tally.agreed(), before.tally.shares()));
        assert_eq!(tally.candidate_latency(), before.tally.candidate_latency());
    }

    #[test]
    fn what_is_torn_or_foreign_is_refused_and_kept_aside() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("state");
        let file = StateFile::new(&path);
        file.write(|| vec![saved()]).expect("written");
        let whole = fs::read(&path).expect("a file");
        for length in (0..whole.len()).step_by(97) {
            fs::write(&path, &whole[..length]).expect("written");
            assert!(file.read().is_err(), "cut after {length} bytes");
            assert!(!path.exists() && directory.path().join("state.refused").exists());
        }
        for at in (0..whole.len()).step_by(61) {
            let mut changed = whole.clone();
            changed[at] ^= 0x10;
            fs::write(&path, &changed).expect("written");
            assert!(file.read().is_err(), "byte {at} changed");
        }
        fs::write(&path, b"[package]\nname = \"else\"\n").expect("written");
        assert!(matches!(file.read(), Err(Refused::Foreign)));
        let mut foreign = MAGIC.to_vec();
        let body = b"\x01";
        foreign.extend(Sha256::digest(body));
        foreign.extend(body);
        fs::write(&path, &foreign).expect("written");
        assert!(matches!(file.read(), Err(Refused::Undecodable(_))));
    }
}
