//! What is wrong with a request, with the values that show it. [`crate::status`] turns it into a gRPC status.

use std::fmt;

use model::{Feature, Refusal};

use super::MAX_FINDINGS;

/// A request that can't be answered.
#[derive(Debug, thiserror::Error)]
pub enum RequestError {
    /// The bytes are no such message.
    #[error("request can't be decoded")]
    Undecodable(#[source] prost::DecodeError),
    /// Nothing of this name is configured.
    #[error("Request for unknown model: '{0}' is not found")]
    UnknownModel(String),
    /// The model is there, the version is not.
    #[error("Request for unknown model: '{model}' version {version} is not found")]
    UnknownVersion {
        /// The model that was asked for.
        model: String,
        /// The version that was asked for.
        version: String,
    },
    /// The model is known and may not serve now.
    #[error("Request for model '{model}': version {version} is not at ready state")]
    NotReady {
        /// The model that was asked for.
        model: String,
        /// The version that would have answered.
        version: String,
    },
    /// More rows than the model takes at once.
    #[error("request has too many rows: limit {limit}, got {got}")]
    TooManyRows {
        /// Rows, at most.
        limit: usize,
        /// Rows that came.
        got: usize,
    },
    /// The request contradicts itself or the model, apart from its values.
    #[error("{0}")]
    Invalid(String),
    /// Values that the schema does not allow.
    #[error(transparent)]
    Refused(#[from] Refused),
}

impl RequestError {
    pub(super) fn invalid(text: impl Into<String>) -> Self {
        Self::Invalid(text.into())
    }
}

/// Every value of a request that the schema does not allow, up to [`MAX_FINDINGS`].
#[derive(Debug, Default)]
pub struct Refused {
    /// In the order in which they were found.
    pub violations: Vec<Violation>,
    /// Those that found no place in `violations`.
    pub more: usize,
}

/// One value that the schema does not allow.
#[derive(Debug)]
pub struct Violation {
    /// From 0.
    pub row: usize,
    /// The feature's name, as the schema or the request has it.
    pub feature: String,
    /// What the schema allows.
    pub expected: String,
    /// What came; escaped and cut.
    pub got: String,
}

impl Refused {
    pub(super) fn value(&mut self, row: usize, feature: &Feature, refusal: Refusal) {
        self.add(row, feature.name(), refusal.expected, refusal.got);
    }

    pub(super) fn add(&mut self, row: usize, feature: &str, expected: String, got: String) {
        if self.violations.len() < MAX_FINDINGS {
            self.violations.push(Violation { row, feature: shown(feature), expected, got });
        } else {
            self.more += 1;
        }
    }

    pub(super) fn into_result(self) -> Result<(), RequestError> {
        if self.violations.is_empty() { Ok(()) } else { Err(self.into()) }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { row, feature, expected, got } = self;
        write!(out, "row {row}, feature '{feature}': expected {expected}, got {got}")
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The first few in the text, all of them in the details of the status.
        const SHOWN: usize = 3;
        for (i, violation) in self.violations.iter().take(SHOWN).enumerate() {
            if i > 0 {
                out.write_str("; ")?;
            }
            violation.fmt(out)?;
        }
        match self.violations.len().saturating_sub(SHOWN) + self.more {
            0 => Ok(()),
            more => write!(out, "; and {more} more"),
        }
    }
}

impl std::error::Error for Refused {}

/// Text of a client's as it may stand in a message or a log: escaped and at most 64 characters.
pub(super) fn shown(text: &str) -> String {
    let mut shown: String = text.chars().take(64).flat_map(char::escape_debug).collect();
    if text.chars().nth(64).is_some() {
        shown.push('…');
    }
    shown
}
