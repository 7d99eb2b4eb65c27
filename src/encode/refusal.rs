//! What is wrong with a request, with the values that show it. [`crate::status`] turns it into a gRPC status.

use std::fmt;

use model::Refusal;

use super::MAX_VIOLATIONS;

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
    /// A name that can't be one.
    #[error("{0}")]
    Invalid(String),
    /// The request's fields contradict each other or the model, or its values are not what the schema allows.
    #[error(transparent)]
    Refused(#[from] Refused),
}

impl RequestError {
    /// One thing that is wrong with `field` of the request.
    pub fn field(field: impl Into<String>, message: impl Into<String>) -> Self {
        let mut refused = Refused::default();
        refused.field(field, message);
        Self::Refused(refused)
    }
}

/// Everything that is wrong with a request, up to [`MAX_VIOLATIONS`].
#[derive(Debug, Default)]
pub struct Refused {
    /// In the order in which they were found.
    pub violations: Vec<Violation>,
    /// Those that found no place in `violations`.
    pub more: usize,
}

/// One thing that is wrong with a request.
#[derive(Debug)]
pub enum Violation {
    /// A value that the schema does not allow.
    Value {
        /// From 0.
        row: usize,
        /// The feature's name, as the schema or the request has it.
        feature: String,
        /// What the schema allows.
        expected: String,
        /// What came; escaped and cut.
        got: String,
    },
    /// A contradiction within the request or with the model, apart from values.
    Field {
        /// Paths in the request: `inputs[2].datatype`, `inputs["age"]`.
        fields: Vec<String>,
        /// A sentence.
        message: String,
    },
}

impl Refused {
    pub(super) fn value(&mut self, row: usize, feature: &str, refusal: Refusal) {
        let Refusal { expected, got } = refusal;
        self.add(|| Violation::Value { row, feature: shown(feature), expected, got });
    }

    pub(super) fn field(&mut self, field: impl Into<String>, message: impl Into<String>) {
        self.fields(vec![field.into()], message);
    }

    pub(super) fn fields(&mut self, fields: Vec<String>, message: impl Into<String>) {
        self.add(|| Violation::Field { fields, message: message.into() });
    }

    fn add(&mut self, violation: impl FnOnce() -> Violation) {
        if self.violations.len() < MAX_VIOLATIONS {
            self.violations.push(violation());
        } else {
            self.more += 1;
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.violations.is_empty()
    }

    pub(super) fn into_result(self) -> Result<(), RequestError> {
        if self.is_empty() { Ok(()) } else { Err(self.into()) }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Value { row, feature, expected, got } => {
                write!(out, "row {row}, feature '{feature}': expected {expected}, got {got}")
            }
            Self::Field { message, .. } => out.write_str(message),
        }
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

/// The path of a parameter in its message.
pub(super) fn field_of_parameter(name: &str) -> String {
    format!("parameters[\"{}\"]", shown(name))
}

/// Names of a client's as they may stand in a message: the first few, each escaped and cut.
pub(super) fn listed<'a>(names: impl ExactSizeIterator<Item = &'a str>) -> String {
    const SHOWN: usize = 16;
    let more = names.len().saturating_sub(SHOWN);
    let names: Vec<String> = names.take(SHOWN).map(|name| format!("\"{}\"", shown(name))).collect();
    let more = if more > 0 { format!(", and {more} more") } else { String::new() };
    format!("[{}{more}]", names.join(", "))
}

/// A shape as it may stand in a message: as many sizes as any tensor needs.
pub(super) fn sizes(shape: &[i64]) -> String {
    const SHOWN: usize = 8;
    if shape.len() <= SHOWN {
        return format!("{shape:?}");
    }
    let sizes: Vec<String> = shape[..SHOWN].iter().map(i64::to_string).collect();
    format!("[{}, ... ({} sizes)]", sizes.join(", "), shape.len())
}
