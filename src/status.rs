//! The one mapping from our errors to gRPC codes. The client sees the outer text; a log sees the whole chain, once.
//!
//! A contradiction within the request is INVALID_ARGUMENT, an unknown name NOT_FOUND, something known that may not serve now
//! UNAVAILABLE, size RESOURCE_EXHAUSTED, bytes that are no message INTERNAL (as every gRPC library does).

use std::{error::Error, fmt};

use tonic::{Code, Status, metadata::MetadataValue};
use tonic_types::{ErrorDetails, FieldViolation, StatusExt};

use crate::encode::{Refused, RequestError, Violation};

impl From<RequestError> for Status {
    fn from(error: RequestError) -> Self {
        let text = cut(error.to_string());
        match &error {
            RequestError::Undecodable(source) => Self::internal(format!("{text}: {source}")),
            RequestError::UnknownModel(_) | RequestError::UnknownVersion { .. } => Self::not_found(text),
            RequestError::NotReady { .. } => {
                let mut status = Self::unavailable(text);
                status.metadata_mut().insert("grpc-retry-pushback-ms", MetadataValue::from_static(LOADING));
                status
            }
            RequestError::TooManyRows { .. } => Self::resource_exhausted(text),
            RequestError::Invalid(_) => Self::invalid_argument(text),
            RequestError::Refused(refused) => {
                let details = violations(refused, &text);
                Self::with_error_details(Code::InvalidArgument, text, details)
            }
        }
    }
}

/// Milliseconds after which a model that may not serve now may be asked again (gRFC A6): about what loading takes.
const LOADING: &str = "1000";

/// Bytes of a status on the wire: its text, percent-encoded, and its details, which hold the text once more, in base64. Clients
/// built on gRPC's C core (Python's) and Java's take 8 KiB of metadata in all and report RESOURCE_EXHAUSTED in place of what
/// the status says when there is more.
const WIRE_BYTES: usize = 6 << 10;
/// Of these: the text, percent-encoded.
const TEXT_BYTES: usize = 1536;
/// Bytes of details apart from the text and the violations: code, tags, lengths, and the name of the type.
const FRAME: usize = 64;

/// `google.rpc.BadRequest` beside `text`: `rows[3].age`, "expected a number, got text 'abc'"; as many of them as fit, and how
/// many more there are.
fn violations(refused: &Refused, text: &str) -> ErrorDetails {
    // Tag and length of each field and of the violation itself.
    let size = |violation: &FieldViolation| violation.field.len() + violation.description.len() + 10;
    let mut left = ((WIRE_BYTES - escaped(text)) / 4 * 3).saturating_sub(text.len() + FRAME);
    let mut violations: Vec<FieldViolation> = refused
        .violations
        .iter()
        .flat_map(|violation| match violation {
            Violation::Value { row, feature, expected, got } => {
                vec![FieldViolation::new(format!("rows[{row}].{feature}"), format!("expected {expected}, got {got}"))]
            }
            Violation::Field { fields, message } => {
                fields.iter().map(|field| FieldViolation::new(field, cut(message.clone()))).collect()
            }
        })
        .collect();
    let rest = |more: usize| FieldViolation::new("", format!("and {more} more"));
    left = left.saturating_sub(size(&rest(usize::MAX)));
    let fitting = violations.iter().take_while(|violation| match left.checked_sub(size(violation)) {
        Some(rest) => {
            left = rest;
            true
        }
        None => false,
    });
    let fitting = fitting.count();
    let more = violations.len() - fitting + refused.more;
    violations.truncate(fitting);
    violations.extend((more > 0).then(|| rest(more)));
    ErrorDetails::with_bad_request(violations)
}

/// The beginning of a text, if it is too long for a trailer.
fn cut(mut text: String) -> String {
    let mut bytes = 0;
    let end = text.char_indices().find(|(at, char)| {
        bytes += escaped(&text[*at..*at + char.len_utf8()]);
        bytes > TEXT_BYTES
    });
    if let Some((end, _)) = end {
        text.truncate(end);
        text.push_str("...");
    }
    text
}

/// Bytes of `text` in `grpc-message`: the specification has everything but visible ASCII escaped, and tonic a little more.
fn escaped(text: &str) -> usize {
    let plain = |byte: u8| byte.is_ascii_graphic() && !b"\"#%<>`?{}".contains(&byte);
    text.bytes().map(|byte| if plain(byte) { 1 } else { 3 }).sum()
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

#[cfg(test)]
mod tests {
    use http::HeaderMap;
    use tonic_types::StatusExt as _;

    use super::*;

    /// As HTTP/2 counts a header list.
    fn on_the_wire(status: &Status) -> usize {
        let mut headers = HeaderMap::new();
        status.add_header(&mut headers).expect("headers");
        headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 32).sum()
    }

    #[test]
    fn a_refusal_fits_into_what_clients_take_in_any_script() {
        for sample in ["x", " ", "\"", "é", "語", "🦀", "\u{1b}"] {
            for violations in [1, 3, 100] {
                let text: String = sample.repeat(64).chars().flat_map(char::escape_debug).collect();
                let of = |row| Violation::Value {
                    row,
                    feature: text.clone(),
                    expected: "a text, one of 9 known categories".into(),
                    got: format!("text \"{text}\""),
                };
                let refused = Refused { violations: (0..violations).map(of).collect(), more: 900 };
                let status = Status::from(RequestError::from(refused));
                let size = on_the_wire(&status);
                assert!(size < 7 << 10, "{sample:?} {violations}: {size} bytes");
                let details = status.get_details_bad_request().expect("details").field_violations;
                let [named @ .., rest] = &details[..] else { panic!("nothing is named") };
                assert!(!named.is_empty() && named[0].field.starts_with("rows[0]."), "{sample:?} {violations}");
                assert_eq!(rest.description, format!("and {} more", 900 + violations - named.len()));
            }
        }
        // What is refused for itself alone.
        for error in [RequestError::UnknownModel("語".repeat(3_000)), RequestError::field("id", "語".repeat(3_000))] {
            let size = on_the_wire(&Status::from(error));
            assert!(size < 7 << 10, "{size} bytes");
        }
    }

    #[test]
    fn a_text_is_cut_by_its_size_on_the_wire() {
        assert_eq!(cut("x".repeat(TEXT_BYTES)), "x".repeat(TEXT_BYTES));
        assert_eq!(cut("x".repeat(TEXT_BYTES + 1)), format!("{}...", "x".repeat(TEXT_BYTES)));
        assert_eq!(cut("語".repeat(1_000)), format!("{}...", "語".repeat(TEXT_BYTES / 9)));
    }
}
