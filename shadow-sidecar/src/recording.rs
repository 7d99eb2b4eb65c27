//! Exchanges on disk, so that a candidate that does not exist yet can rehearse on yesterday's traffic. A recording is a
//! directory of Parquet files, each complete in itself: any tool that reads Parquet reads them.
//!
//! One row is one exchange as the tap gave it. What the server said of its models (schema, classes) is in the file's
//! metadata under `understudy.description`, as JSON; when that changes, a new file begins. What was lost before it could be recorded
//! while a file was written is there under `understudy.lost`: exchanges and rows by reason, so that a replay knows what it misses.
//!
//! | column | type | |
//! |---|---|---|
//! | `sequence` | UINT64 | within the subscription |
//! | `arrived` | TIMESTAMP(NANOS, UTC) | when the request had arrived |
//! | `method` | STRING | `ModelInfer` or `Predict` |
//! | `model`, `version` | STRING | who answered |
//! | `status`, `rows` | INT32 | gRPC code; rows in the request |
//! | `latency_nanos`, `deadline_nanos` | INT64 | 0 without a deadline |
//! | `request_id`, `shadow_id`, `traceparent` | STRING | empty where they did not come |
//! | `request`, `response` | BYTE_ARRAY | protobuf as it went over the wire |

mod columns;
mod read;
mod recorder;
#[cfg(test)]
mod tests;
mod write;

pub use read::{Part, Reader};
pub use recorder::{Counts, Recorder};
pub use write::{Bounds, Writer};

/// Files are called so, with the time at which they began in between; a file that is not finished ends in `.partial`.
const PREFIX: &str = "exchanges-";
const SUFFIX: &str = ".parquet";
/// Where the description is in a file's metadata.
const DESCRIPTION: &str = "understudy.description";
/// Where what was lost is.
const LOST: &str = "understudy.lost";

/// By the name of the reason: exchanges and rows.
type Lost = std::collections::BTreeMap<String, (u64, u64)>;

/// Why a recording can't be written or read.
#[derive(Debug, thiserror::Error)]
pub enum RecordingError {
    /// A file or directory.
    #[error("{}: {source}", path.display())]
    Io {
        /// Which.
        path: std::path::PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A file is no Parquet file, or none of ours.
    #[error("{}: not a recording: {reason}", path.display())]
    Format {
        /// Which.
        path: std::path::PathBuf,
        /// Why.
        reason: String,
    },
}
