//! Files that are read again when they change: certificates, keys, clients. A file that can't be used keeps what was read
//! before it in use; that is logged once and counted.
//!
//! Contents are compared, not times: Kubernetes swaps a symbolic link above its secrets, and an editor may well keep the time.

use std::{
    fmt, fs,
    io::Read,
    path::{Path, PathBuf},
    sync::mpsc::{self, RecvTimeoutError},
    thread,
    time::Duration,
};

use metrics::{Counter, Recorder, counter, describe_counter};
use ring::digest::{Context, SHA256};

const RELOADS: &str = "understudy_reloads_total";
/// No certificate, key, list of clients or list of revoked certificates is larger.
const MAX_FILE: u64 = 16 << 20;

/// Makes something of the contents of files, in the order of their paths, and puts it to use; or says why it can't.
type Apply = Box<dyn FnMut(&[Vec<u8>]) -> Result<(), String> + Send>;

/// Something that is made from files and is in use.
pub struct Source {
    what: &'static str,
    paths: Vec<PathBuf>,
    apply: Apply,
    /// Of the contents that were last seen, good or not; absent after a failure to read them.
    seen: Option<Vec<u8>>,
    /// What was last logged, until it is well again.
    told: Option<String>,
}

impl fmt::Debug for Source {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Source").field("what", &self.what).field("paths", &self.paths).finish_non_exhaustive()
    }
}

impl Source {
    /// Reads `paths` for the first time. `what` names it in errors, logs and metrics.
    ///
    /// # Errors
    /// A file can't be read, or `apply` refuses the contents.
    pub fn load(
        what: &'static str,
        paths: Vec<PathBuf>,
        apply: impl FnMut(&[Vec<u8>]) -> Result<(), String> + Send + 'static,
    ) -> Result<Self, String> {
        let mut source = Self { what, paths, apply: Box::new(apply), seen: None, told: None };
        source.look().map_err(|error| format!("{what}: {error}"))?;
        Ok(source)
    }

    /// Reads the files; whether they had changed.
    fn look(&mut self) -> Result<bool, String> {
        let read = self.paths.iter().map(read).collect::<Result<Vec<_>, _>>();
        let contents = read.inspect_err(|_| self.seen = None)?;
        let seen = Some(digest(&contents));
        if seen == self.seen {
            return Ok(false);
        }
        self.seen = seen;
        (self.apply)(&contents)?;
        Ok(true)
    }

    fn look_again(&mut self, counts: &Counts) {
        match self.look() {
            // What is broken and has not changed is still broken.
            Ok(false) => {}
            Ok(true) => {
                self.told = None;
                counts.done.increment(1);
                tracing::info!(what = self.what, "read again and in use");
            }
            Err(error) => {
                if self.told.as_ref() != Some(&error) {
                    counts.failed.increment(1);
                    tracing::error!(what = self.what, error, "can't be read again; what was read before stays in use");
                    self.told = Some(error);
                }
            }
        }
    }
}

/// A whole file, if it is not too large.
///
/// # Errors
/// With its path.
pub(crate) fn read(path: impl AsRef<Path>) -> Result<Vec<u8>, String> {
    let path = path.as_ref();
    let fail = |error: std::io::Error| format!("{}: {error}", path.display());
    let mut content = Vec::new();
    fs::File::open(path).map_err(fail)?.take(MAX_FILE + 1).read_to_end(&mut content).map_err(fail)?;
    if content.len() as u64 > MAX_FILE {
        return Err(format!("{}: limit {MAX_FILE} bytes, got more", path.display()));
    }
    Ok(content)
}

fn digest(contents: &[Vec<u8>]) -> Vec<u8> {
    let mut digest = Context::new(&SHA256);
    for content in contents {
        digest.update(&content.len().to_be_bytes());
        digest.update(content);
    }
    digest.finish().as_ref().to_vec()
}

/// What became of attempts to read something again.
#[derive(Clone)]
pub(crate) struct Counts {
    pub(crate) done: Counter,
    pub(crate) failed: Counter,
}

impl Counts {
    pub(crate) fn new(what: &'static str, recorder: &dyn Recorder) -> Self {
        metrics::with_local_recorder(recorder, || {
            describe_counter!(RELOADS, "certificates, keys and clients that were read again, by outcome");
            let of = |outcome| counter!(RELOADS, "what" => what, "outcome" => outcome);
            Self { done: of("done"), failed: of("failed") }
        })
    }
}

/// A thread that looks after sources. Dropping this ends it.
#[derive(Debug)]
pub struct Reloading {
    _stop: mpsc::Sender<()>,
}

impl Reloading {
    /// Looks at every source each `interval`.
    ///
    /// # Errors
    /// The thread can't be started.
    pub fn start(mut sources: Vec<Source>, interval: Duration, recorder: &dyn Recorder) -> std::io::Result<Self> {
        let counts: Vec<Counts> = sources.iter().map(|source| Counts::new(source.what, recorder)).collect();
        let (stop, stopped) = mpsc::channel();
        // A file system that hangs holds up this thread and nobody else.
        thread::Builder::new().name("reload".into()).spawn(move || {
            while stopped.recv_timeout(interval) == Err(RecvTimeoutError::Timeout) {
                for (source, counts) in sources.iter_mut().zip(&counts) {
                    source.look_again(counts);
                }
            }
        })?;
        Ok(Self { _stop: stop })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[test]
    fn a_broken_file_keeps_the_one_before_it_in_use() {
        let directory = std::env::temp_dir().join(format!("understudy-reload-{}", std::process::id()));
        fs::create_dir_all(&directory).expect("a directory");
        let path = directory.join("value");
        fs::write(&path, "1").expect("a file");
        let value = Arc::new(Mutex::new(0));
        let set = value.clone();
        let mut source = Source::load("value", vec![path.clone()], move |contents| {
            let text = String::from_utf8_lossy(&contents[0]);
            *set.lock().expect("no panic") = text.parse().map_err(|_| "no number".to_owned())?;
            Ok(())
        })
        .expect("a number");
        assert_eq!((source.look(), *value.lock().expect("no panic")), (Ok(false), 1));
        fs::write(&path, "broken").expect("a file");
        assert_eq!((source.look(), *value.lock().expect("no panic")), (Err("no number".into()), 1));
        assert_eq!(source.look(), Ok(false), "told once");
        fs::remove_file(&path).expect("a file");
        source.look().expect_err("no file");
        fs::write(&path, "1").expect("a file");
        assert_eq!(source.look(), Ok(true), "in use already, but nobody knows");
        fs::write(&path, "2").expect("a file");
        assert_eq!((source.look(), *value.lock().expect("no panic")), (Ok(true), 2));
        fs::remove_dir_all(&directory).expect("a directory");
    }
}
