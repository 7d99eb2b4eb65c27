//! The one mapping from our errors to gRPC codes. The client sees the outer text; a log sees the whole chain, once.
//!
//! A contradiction within the request is INVALID_ARGUMENT, an unknown name NOT_FOUND, something known that may not serve now
//! UNAVAILABLE, size RESOURCE_EXHAUSTED, bytes that are no message INTERNAL (as every gRPC library does).

use std::{error::Error, fmt};

use tonic::{Code, Status};
use tonic_types::{ErrorDetails, FieldViolation, StatusExt};

use crate::encode::{Refused, RequestError, Violation};

impl From<RequestError> for Status {
    fn from(error: RequestError) -> Self {
        let text = cut(error.to_string());
        match &error {
            RequestError::Undecodable(source) => Self::internal(format!("{text}: {source}")),
            RequestError::UnknownModel(_) | RequestError::UnknownVersion { .. } => Self::not_found(text),
            RequestError::NotReady { .. } => Self::unavailable(text),
            RequestError::TooManyRows { .. } => Self::resource_exhausted(text),
            RequestError::Invalid(_) => Self::invalid_argument(text),
            RequestError::Refused(refused) => {
                Self::with_error_details(Code::InvalidArgument, text, violations(refused))
            }
        }
    }
}

/// Bytes of the details of a status. They travel in a trailer, in base64, beside the text: some clients (Java's, Python's) take
/// no more than 8 KiB of trailers and would otherwise report that instead.
const DETAIL_BYTES: usize = 4096;
/// Bytes of the text of a status, before what is not ASCII is escaped.
const TEXT_BYTES: usize = 1024;

/// `google.rpc.BadRequest`: `rows[3].age`, "expected a number, got text 'abc'"; as many of them as fit.
fn violations(refused: &Refused) -> ErrorDetails {
    // Tag and length of each field and of the violation itself.
    const FRAME: usize = 10;
    let mut left = DETAIL_BYTES;
    let violations = refused.violations.iter().flat_map(|violation| match violation {
        Violation::Value { row, feature, expected, got } => {
            vec![FieldViolation::new(format!("rows[{row}].{feature}"), format!("expected {expected}, got {got}"))]
        }
        Violation::Field { fields, message } => {
            fields.iter().map(|field| FieldViolation::new(field, cut(message.clone()))).collect()
        }
    });
    let fitting = violations.take_while(|violation: &FieldViolation| {
        let size = violation.field.len() + violation.description.len() + FRAME;
        let fits = size <= left;
        left = left.saturating_sub(size);
        fits
    });
    ErrorDetails::with_bad_request(fitting.collect::<Vec<_>>())
}

/// The beginning of a text, if it is too long for a trailer.
fn cut(mut text: String) -> String {
    if text.len() > TEXT_BYTES {
        text.truncate(text.floor_char_boundary(TEXT_BYTES));
        text.push_str("...");
    }
    text
}

/// Words for the `kind` label of the error counter: whose fault it is and what was wrong.
pub fn kind(code: Code) -> &'static str {
    match code {
        Code::Ok => "none",
        Code::InvalidArgument | Code::OutOfRange | Code::FailedPrecondition => "invalid_request",
        Code::NotFound => "unknown_model",
        Code::ResourceExhausted => "too_large_or_busy",
        Code::DeadlineExceeded => "deadline",
        Code::Cancelled => "cancelled",
        Code::Unavailable => "not_ready",
        Code::PermissionDenied | Code::Unauthenticated => "not_allowed",
        Code::Unimplemented => "unimplemented",
        Code::Internal | Code::Unknown | Code::DataLoss | Code::Aborted | Code::AlreadyExists => "internal",
    }
}

/// An error with all its causes, for the log: "outer: cause: cause of the cause". One that only repeats is left out.
#[derive(Debug)]
pub struct Chain<'a>(pub &'a (dyn Error + 'static));

impl fmt::Display for Chain<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut told = self.0.to_string();
        out.write_str(&told)?;
        let mut source = self.0.source();
        while let Some(cause) = source {
            let text = cause.to_string();
            if text != told {
                write!(out, ": {text}")?;
                told = text;
            }
            source = cause.source();
        }
        Ok(())
    }
}

/// The name of a code as gRPC writes it: `OK`, `INVALID_ARGUMENT`.
pub fn name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}
