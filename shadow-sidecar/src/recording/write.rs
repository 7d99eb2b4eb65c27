//! Writing: row groups of a thousand exchanges, files of a size and an age, a directory of a size.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use parquet::file::{metadata::KeyValue, writer::SerializedFileWriter};
use serde::{Deserialize, Serialize};
use understudy::v1::{Exchange, ModelDescription, TapDescription};

use super::{LOST, Lost, PREFIX, RecordingError, SUFFIX, columns};
use crate::tally::DropReason;

/// Exchanges in a row group: what is lost at most when the process is killed is what is not yet a whole file, and what a
/// reader holds in memory at once.
const GROUP: usize = 1_000;
/// Bytes in a row group, for large requests.
const GROUP_BYTES: usize = 16 << 20;

/// What a recording may take.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Bytes of a file, about: compared before compression.
    pub file_bytes: u64,
    /// Nanoseconds from the first to the last exchange of a file.
    pub file_nanos: u64,
    /// Bytes of all files; the oldest are deleted.
    pub directory_bytes: u64,
}

impl Default for Bounds {
    fn default() -> Self {
        Self { file_bytes: 64 << 20, file_nanos: 300 * 1_000_000_000, directory_bytes: 4 << 30 }
    }
}

/// A description as it is in a file.
#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Described {
    server_instance_id: String,
    models: Vec<DescribedModel>,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct DescribedModel {
    name: String,
    version: String,
    task: i32,
    classes: Vec<String>,
    /// The package's files, as they are.
    schema: String,
    reference: String,
    /// Not in recordings from before it was told, nor where nobody says it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    decision_threshold: Option<f64>,
}

impl From<&TapDescription> for Described {
    fn from(description: &TapDescription) -> Self {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let model = |model: &ModelDescription| DescribedModel {
            name: model.name.clone(),
            version: model.version.clone(),
            task: model.task,
            classes: model.classes.clone(),
            schema: text(&model.schema_json),
            reference: text(&model.reference_json),
            decision_threshold: model.decision_threshold,
        };
        Self {
            server_instance_id: description.server_instance_id.clone(),
            models: description.models.iter().map(model).collect(),
        }
    }
}

impl From<Described> for TapDescription {
    fn from(described: Described) -> Self {
        let model = |model: DescribedModel| ModelDescription {
            name: model.name,
            version: model.version,
            task: model.task,
            classes: model.classes,
            schema_json: model.schema.into(),
            reference_json: model.reference.into(),
            decision_threshold: model.decision_threshold,
        };
        Self {
            server_instance_id: described.server_instance_id,
            models: described.models.into_iter().map(model).collect(),
        }
    }
}

/// Writes exchanges, in the order in which they come. A file appears when it is complete.
#[derive(Debug)]
pub struct Writer {
    directory: PathBuf,
    bounds: Bounds,
    description: String,
    /// Since the last file was complete.
    lost: Lost,
    open: Option<Open>,
}

struct Open {
    file: SerializedFileWriter<fs::File>,
    partial: PathBuf,
    began: u64,
    bytes: u64,
    group: Vec<Exchange>,
    group_bytes: usize,
}

impl std::fmt::Debug for Open {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Open").field("partial", &self.partial).finish_non_exhaustive()
    }
}

fn io(path: &Path) -> impl Fn(std::io::Error) -> RecordingError + '_ {
    |source| RecordingError::Io { path: path.into(), source }
}

fn parquet(path: &Path) -> impl Fn(parquet::errors::ParquetError) -> RecordingError + '_ {
    |error| RecordingError::Io { path: path.into(), source: std::io::Error::other(error) }
}

impl Writer {
    /// Writes into `directory`, which is made if it is not there. What an earlier process left half-written is removed.
    ///
    /// # Errors
    /// The directory can't be made or read.
    pub fn create(directory: &Path, bounds: Bounds) -> Result<Self, RecordingError> {
        fs::create_dir_all(directory).map_err(io(directory))?;
        for entry in fs::read_dir(directory).map_err(io(directory))? {
            let path = entry.map_err(io(directory))?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            if name.starts_with(PREFIX) && name.ends_with(".partial") {
                fs::remove_file(&path).map_err(io(&path))?;
            }
        }
        Ok(Self { directory: directory.into(), bounds, description: String::new(), lost: Lost::new(), open: None })
    }

    /// What is known of the models from now on.
    ///
    /// # Errors
    /// The file before can't be finished.
    pub fn describe(&mut self, description: &TapDescription) -> Result<(), RecordingError> {
        // Strings and numbers always serialize.
        let description = serde_json::to_string(&Described::from(description)).unwrap_or_default();
        if description != self.description {
            self.finish()?;
            self.description = description;
        }
        Ok(())
    }

    /// Adds one exchange.
    ///
    /// # Errors
    /// The disk is full or broken; what is in the file that was open is lost.
    pub fn write(&mut self, exchange: Exchange) -> Result<(), RecordingError> {
        let mut open = match self.open.take() {
            Some(open) => open,
            None => self.begin(exchange.arrived_unix_nanos)?,
        };
        let bytes = exchange.request.len() + exchange.response.len();
        let age = exchange.arrived_unix_nanos.saturating_sub(open.began);
        open.group_bytes += bytes;
        open.bytes += bytes as u64;
        open.group.push(exchange);
        if open.group.len() >= GROUP || open.group_bytes >= GROUP_BYTES {
            open.flush()?;
        }
        let full = open.bytes >= self.bounds.file_bytes || age >= self.bounds.file_nanos;
        self.open = Some(open);
        if full { self.finish() } else { Ok(()) }
    }

    /// So much was lost: it is said in the file that is open, or else in the next.
    pub fn lost(&mut self, reason: DropReason, exchanges: u64, rows: u64) {
        let (all, all_rows) = self.lost.entry(reason.as_str().to_owned()).or_default();
        (*all, *all_rows) = (all.saturating_add(exchanges), all_rows.saturating_add(rows));
    }

    /// Completes the file that is open, if one is, and deletes what is over the bounds.
    ///
    /// # Errors
    /// As [`Self::write`].
    pub fn finish(&mut self) -> Result<(), RecordingError> {
        let Some(mut open) = self.open.take() else { return Ok(()) };
        open.flush()?;
        let Open { mut file, partial, .. } = open;
        if !self.lost.is_empty() {
            let lost = serde_json::to_string(&std::mem::take(&mut self.lost)).unwrap_or_default();
            file.append_key_value_metadata(KeyValue::new(LOST.to_owned(), lost));
        }
        let file = file.into_inner().map_err(parquet(&partial))?;
        file.sync_all().map_err(io(&partial))?;
        fs::rename(&partial, partial.with_extension("")).map_err(io(&partial))?;
        self.prune()
    }

    fn begin(&self, now: u64) -> Result<Open, RecordingError> {
        // Names sort by time. Two files of one nanosecond must differ all the same.
        let mut stamp = now;
        let partial = loop {
            let path = self.directory.join(format!("{PREFIX}{stamp:020}{SUFFIX}"));
            if !path.exists() {
                break path.with_extension("parquet.partial");
            }
            stamp += 1;
        };
        let file = fs::File::create(&partial).map_err(io(&partial))?;
        let properties = Arc::new(columns::properties(self.description.clone()));
        let schema = columns::schema().map_err(parquet(&partial))?;
        let file = SerializedFileWriter::new(file, schema, properties).map_err(parquet(&partial))?;
        Ok(Open { file, partial, began: now, bytes: 0, group: Vec::new(), group_bytes: 0 })
    }

    fn prune(&self) -> Result<(), RecordingError> {
        let mut files = Vec::new();
        for path in super::read::files(&self.directory)? {
            files.push((fs::metadata(&path).map_err(io(&path))?.len(), path));
        }
        let mut all: u64 = files.iter().map(|(bytes, _)| bytes).sum();
        // The newest stays, however large.
        files.pop();
        for (bytes, path) in files {
            if all <= self.bounds.directory_bytes {
                break;
            }
            fs::remove_file(&path).map_err(io(&path))?;
            all -= bytes;
        }
        Ok(())
    }
}

impl Open {
    fn flush(&mut self) -> Result<(), RecordingError> {
        if self.group.is_empty() {
            return Ok(());
        }
        let wrong = parquet(&self.partial);
        let mut group = self.file.next_row_group().map_err(&wrong)?;
        columns::write(&mut group, &self.group).map_err(&wrong)?;
        group.close().map_err(&wrong)?;
        self.group.clear();
        self.group_bytes = 0;
        Ok(())
    }
}
