//! Reading, a row group at a time.

use std::{
    fs,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
};

use parquet::file::reader::{FileReader, SerializedFileReader};
use understudy::v1::{Exchange, TapDescription};

use super::{DESCRIPTION, LOST, Lost, PREFIX, RecordingError, SUFFIX, columns, write::Described};
use crate::tally::DropReason;

/// The files of a recording, oldest first.
pub(super) fn files(directory: &Path) -> Result<Vec<PathBuf>, RecordingError> {
    let wrong = |source| RecordingError::Io { path: directory.into(), source };
    let mut files = Vec::new();
    for entry in fs::read_dir(directory).map_err(wrong)? {
        let path = entry.map_err(wrong)?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if name.starts_with(PREFIX) && name.ends_with(SUFFIX) {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

/// A recording that is read from its beginning to its end.
#[derive(Debug)]
pub struct Reader {
    /// Not yet read, newest first.
    files: Vec<PathBuf>,
    exchanges: u64,
    open: Option<Open>,
}

struct Open {
    path: PathBuf,
    file: SerializedFileReader<fs::File>,
    next: usize,
    lost: Vec<(DropReason, u64, u64)>,
}

impl std::fmt::Debug for Open {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Open").field("path", &self.path).field("next", &self.next).finish_non_exhaustive()
    }
}

/// What comes next in a recording.
#[derive(Debug)]
pub enum Part {
    /// What is known of the models from here on.
    Description(TapDescription),
    /// Some exchanges, in the order in which they were recorded.
    Exchanges(Vec<Exchange>),
    /// What was lost while they were recorded: the reason, exchanges and rows.
    Lost(Vec<(DropReason, u64, u64)>),
}

impl Reader {
    /// A file, or a directory of them.
    ///
    /// # Errors
    /// There is no recording, or a file of it is none.
    pub fn open(path: &Path) -> Result<Self, RecordingError> {
        let mut files = if path.is_dir() { files(path)? } else { vec![path.to_owned()] };
        if files.is_empty() {
            return Err(format(path, "no files named exchanges-*.parquet"));
        }
        let mut exchanges = 0;
        for file in &files {
            let rows = open(file)?.metadata().file_metadata().num_rows();
            exchanges += u64::try_from(rows).map_err(|_| format(file, "less than no rows"))?;
        }
        files.reverse();
        Ok(Self { files, exchanges, open: None })
    }

    /// Exchanges in all of it.
    pub fn exchanges(&self) -> u64 {
        self.exchanges
    }

    /// What comes next; nothing at the end.
    ///
    /// # Errors
    /// A file can't be read.
    pub fn read(&mut self) -> Result<Option<Part>, RecordingError> {
        if let Some(Open { path, file, next, lost }) = &mut self.open {
            if *next < file.num_row_groups() {
                let exchanges = guarded(path, || columns::read(&*file.get_row_group(*next)?))?;
                *next += 1;
                return Ok(Some(Part::Exchanges(exchanges)));
            }
            let lost = std::mem::take(lost);
            if !lost.is_empty() {
                return Ok(Some(Part::Lost(lost)));
            }
        }
        let Some(path) = self.files.pop() else {
            self.open = None;
            return Ok(None);
        };
        let file = open(&path)?;
        let (description, lost) = (description(&file, &path)?, lost(&file, &path)?);
        self.open = Some(Open { path, file, next: 0, lost });
        Ok(Some(Part::Description(description)))
    }
}

fn open(path: &Path) -> Result<SerializedFileReader<fs::File>, RecordingError> {
    let file = fs::File::open(path).map_err(|source| RecordingError::Io { path: path.into(), source })?;
    let file = guarded(path, || SerializedFileReader::new(file))?;
    let ours = guarded(path, columns::schema)?;
    let schema = file.metadata().file_metadata().schema();
    if schema.get_fields() != ours.get_fields() {
        return Err(format(path, "its columns are not those of a recording"));
    }
    Ok(file)
}

/// The library panics on some damaged files.
fn guarded<T>(path: &Path, read: impl FnOnce() -> parquet::errors::Result<T>) -> Result<T, RecordingError> {
    match catch_unwind(AssertUnwindSafe(read)) {
        Ok(Ok(read)) => Ok(read),
        Ok(Err(error)) => Err(format(path, error.to_string())),
        Err(_) => Err(format(path, "it is damaged")),
    }
}

fn said<'a>(file: &'a SerializedFileReader<fs::File>, key: &str) -> Option<&'a str> {
    let pairs = file.metadata().file_metadata().key_value_metadata()?;
    pairs.iter().find(|pair| pair.key == key)?.value.as_deref()
}

/// Recordings of before say nothing of it.
fn lost(file: &SerializedFileReader<fs::File>, path: &Path) -> Result<Vec<(DropReason, u64, u64)>, RecordingError> {
    let Some(text) = said(file, LOST) else { return Ok(Vec::new()) };
    let lost: Lost = serde_json::from_str(text).map_err(|error| format(path, error.to_string()))?;
    // A reason that a later version knows is a loss all the same.
    let reason =
        |name: &str| DropReason::ALL.into_iter().find(|known| known.as_str() == name).unwrap_or(DropReason::Shed);
    Ok(lost.into_iter().map(|(name, (exchanges, rows))| (reason(&name), exchanges, rows)).collect())
}

fn description(file: &SerializedFileReader<fs::File>, path: &Path) -> Result<TapDescription, RecordingError> {
    let text = said(file, DESCRIPTION).ok_or_else(|| format(path, "it does not say which models answered"))?;
    let described: Described = serde_json::from_str(text).map_err(|error| format(path, error.to_string()))?;
    Ok(described.into())
}

fn format(path: &Path, reason: impl Into<String>) -> RecordingError {
    RecordingError::Format { path: path.into(), reason: reason.into() }
}
