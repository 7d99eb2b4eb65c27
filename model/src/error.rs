//! What can go wrong, each with the values that show why. `Display` says one level; `source` says the next.

use std::fmt::Display;

use crate::text::shown;

/// Why a package was not loaded. Every message names the file, relative to the package.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoadError {
    /// The operating system did not give the file.
    #[error("{file}: cannot be read")]
    Io {
        /// Path in the package.
        file: String,
        /// The operating system's reason.
        source: std::io::Error,
    },
    /// Something that the package needs is not there.
    #[error("{file}: missing")]
    Missing {
        /// Path in the package.
        file: String,
    },
    /// Something is there that the manifest does not list.
    #[error("{file}: not listed in manifest.json")]
    Extra {
        /// Path in the package.
        file: String,
    },
    /// A symbolic link, device, socket or pipe.
    #[error("{file}: expected a regular file, got {got}")]
    NotRegular {
        /// Path in the package.
        file: String,
        /// What it is.
        got: &'static str,
    },
    /// A file, or all of them, over a cap.
    #[error("{file}: expected at most {limit} bytes, got {got}")]
    TooLarge {
        /// Path in the package.
        file: String,
        /// The cap in bytes.
        limit: u64,
        /// The size in bytes.
        got: u64,
    },
    /// Not JSON, or not the keys and types of the format.
    #[error("{file}: not as the package format has it")]
    Json {
        /// Path in the package.
        file: String,
        /// What the parser says, with line and column.
        source: serde_json::Error,
    },
    /// A value that contradicts the format or another value.
    #[error("{file}: {what}: expected {expected}, got {got}")]
    Invalid {
        /// Path in the package.
        file: String,
        /// Where in the file.
        what: String,
        /// What would fit.
        expected: String,
        /// What is there.
        got: String,
    },
    /// A model of a node that cannot be used.
    #[error("{file}: not a usable {what}")]
    Model {
        /// Path in the package.
        file: String,
        /// What it should be.
        what: &'static str,
        /// Where and why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl LoadError {
    /// A contradiction, with its values.
    pub(crate) fn invalid(
        file: &str,
        what: impl Into<String>,
        expected: impl Into<String>,
        got: impl Into<String>,
    ) -> Self {
        Self::Invalid { file: file.to_owned(), what: what.into(), expected: expected.into(), got: got.into() }
    }

    /// An error of the operating system.
    pub(crate) fn io(file: impl Into<String>, source: std::io::Error) -> Self {
        Self::Io { file: file.into(), source }
    }
}

/// Why a file is not a model that can be evaluated exactly.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{place}: {what}: expected {expected}, got {got}")]
pub struct TextError {
    /// Where in the file: `header`, `tree 17`, `end`.
    pub place: String,
    /// The key, or the thing.
    pub what: String,
    /// What would fit.
    pub expected: String,
    /// What is there.
    pub got: String,
}

impl TextError {
    pub(crate) fn new(place: &str, what: impl Into<String>, expected: impl Into<String>, got: impl Display) -> Self {
        Self { place: place.to_owned(), what: what.into(), expected: expected.into(), got: got.to_string() }
    }
}

/// Fails with a contradiction unless the condition holds.
pub(crate) fn ensure(
    holds: bool,
    file: &str,
    what: &str,
    expected: &str,
    got: impl FnOnce() -> String,
) -> Result<(), LoadError> {
    if holds { Ok(()) } else { Err(LoadError::invalid(file, what, expected, got())) }
}

/// Why a batch was not predicted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PredictError {
    /// The batch's rows are not the model's rows.
    #[error("expected rows of {expected} features, got {got}")]
    Width {
        /// Features of the schema.
        expected: usize,
        /// Width of the batch.
        got: usize,
    },
    /// A range that reaches past the batch.
    #[error("expected a range within {rows} rows, got {start}..{end}")]
    Range {
        /// Rows in the batch.
        rows: usize,
        /// First row asked for.
        start: usize,
        /// End of the range, exclusive.
        end: usize,
    },
}

/// Which golden row this machine does not predict as the trainer's own library did.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum SelfTestError {
    /// A node's output differs.
    #[error("golden row {row}: node {node}, output {index}: expected {expected:?}, got {got:?}")]
    Output {
        /// Row in `golden.jsonl`, from 1.
        row: usize,
        /// The node's name.
        node: String,
        /// Index in the node's output, from 0.
        index: usize,
        /// The trainer's value.
        expected: f64,
        /// Ours.
        got: f64,
    },
    /// The label differs.
    #[error("golden row {row}: label: expected {}, got {}", shown(.expected), shown(.got))]
    Label {
        /// Row in `golden.jsonl`, from 1.
        row: usize,
        /// The trainer's class, as text.
        expected: String,
        /// Ours.
        got: String,
    },
    /// The row could not be predicted at all.
    #[error("golden rows cannot be predicted")]
    Predict(#[from] PredictError),
}

/// An error with all its sources, on one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(source) = next {
        text.push_str(": ");
        text.push_str(&source.to_string());
        next = source.source();
    }
    text
}
