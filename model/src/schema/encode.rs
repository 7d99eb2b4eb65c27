//! A typed value becomes a number of the row: the one place where that happens.

use std::fmt::{self, Display, Formatter};

use super::{Feature, Kind, Limits, Policy};
use crate::text::{Escaped, capped};

/// The code of a category that is not in the schema.
const UNSEEN: f64 = -1.0;

/// One input value with its type.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Value<'a> {
    /// Sent, and nothing: missing.
    Null,
    /// A whole number.
    Int(i64),
    /// A number; NaN is missing.
    Float(f64),
    /// True or false.
    Bool(bool),
    /// A text.
    Text(&'a str),
}

/// Why a value cannot be a value of its feature.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected {expected}, got {got}")]
pub struct Refusal {
    /// What the feature takes.
    pub expected: String,
    /// What came: escaped, and capped at 64 characters.
    pub got: String,
}

/// What was changed so that a value fits its feature. [`Display`] names what came and what is used instead.
#[derive(Debug, Clone, PartialEq)]
pub struct Repair {
    /// The kind of change.
    pub kind: RepairKind,
    got: Got,
    used: Used,
}

/// The kinds of change, for counters and warnings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum RepairKind {
    /// A number out of bounds became the nearest bound.
    Clamped,
    /// A text over the limit was cut.
    Truncated,
    /// A fractional number became a whole one.
    Coerced,
    /// A category that is not in the schema is treated as unseen.
    UnknownCategory,
}

impl RepairKind {
    /// A name for labels and messages.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Clamped => "clamped",
            Self::Truncated => "truncated",
            Self::Coerced => "coerced",
            Self::UnknownCategory => "unknown_category",
        }
    }
}

/// A value as it came, owned and capped: formatted only when somebody reads it.
#[derive(Debug, Clone, PartialEq)]
enum Got {
    Int(i64),
    Float(f64),
    Bool(bool),
    /// The beginning of a text and its whole length in bytes.
    Text(Box<str>, usize),
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Used {
    Number(f64),
    /// That many bytes of the text.
    Bytes(usize),
    Unseen,
    /// Cut to that many bytes, and unseen all the same.
    UnseenOf(usize),
}

impl Repair {
    fn new(kind: RepairKind, got: Value<'_>, used: Used) -> Self {
        Self { kind, got: Got::from(got), used }
    }

    /// The cut that came before, of a text that was cut and is unknown all the same: a change of its own.
    pub fn cut(&self) -> Option<Self> {
        match self.used {
            Used::UnseenOf(bytes) => {
                Some(Self { kind: RepairKind::Truncated, got: self.got.clone(), used: Used::Bytes(bytes) })
            }
            Used::Number(_) | Used::Bytes(_) | Used::Unseen => None,
        }
    }

    /// What came and what is used instead, for a warning on the row.
    pub fn message(&self) -> String {
        self.to_string()
    }
}

impl Display for Repair {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self.used {
            Used::Number(number) => write!(f, "got {}, used {number:?}", self.got),
            Used::Bytes(bytes) => write!(f, "got {}, used its first {bytes} bytes", self.got),
            Used::Unseen | Used::UnseenOf(_) => {
                write!(f, "got {}, which is not a known category, used as unseen", self.got)
            }
        }
    }
}

impl From<Value<'_>> for Got {
    fn from(value: Value<'_>) -> Self {
        match value {
            // A missing value is filled or refused, never repaired.
            Value::Null => Self::Float(f64::NAN),
            Value::Int(number) => Self::Int(number),
            Value::Float(number) => Self::Float(number),
            Value::Bool(truth) => Self::Bool(truth),
            Value::Text(text) => Self::Text(capped(text).into(), text.len()),
        }
    }
}

impl Display for Got {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Int(number) => write!(f, "{number}"),
            Self::Float(number) => write!(f, "{number:?}"),
            Self::Bool(truth) => write!(f, "{truth}"),
            Self::Text(start, bytes) if start.len() < *bytes => {
                write!(f, "{}... ({bytes} bytes)", Escaped(start))
            }
            Self::Text(start, _) => write!(f, "{}", Escaped(start)),
        }
    }
}

impl Display for Value<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Null => f.write_str("null"),
            Self::Text(text) => write!(f, "text {}", Got::from(Self::Text(text))),
            Self::Bool(truth) => write!(f, "boolean {truth}"),
            Self::Int(_) | Self::Float(_) => write!(f, "number {}", Got::from(*self)),
        }
    }
}

/// A number of the row, and what was changed on the way.
type Encoded = Result<(f64, Option<Repair>), Refusal>;

impl Feature {
    /// Turns a typed value into a number of the row.
    ///
    /// A number is itself, a boolean 0 or 1, a category its code, a missing value NaN or the feature's fill. What does
    /// not fit is refused, repaired or passed, by the policy; the numbers 0 and 1 are booleans under every policy.
    ///
    /// # Errors
    /// When the value is of a type that the feature never takes, or the policy does not repair it.
    pub fn encode(&self, value: Value<'_>, policy: Policy, limits: &Limits) -> Encoded {
        match value {
            Value::Null => self.missing(value),
            Value::Float(number) if number.is_nan() => self.missing(value),
            _ => match self.kind {
                Kind::Int | Kind::Float => self.number(value, policy),
                Kind::Bool => self.truth(value, policy),
                Kind::Category | Kind::Text => self.category(value, policy, limits),
                Kind::Datetime => self.datetime(value, policy),
            },
        }
    }

    /// Turns a category's code, sent as a number, into a number of the row; for features that are not categorical it
    /// is [`encode`](Feature::encode) of the number.
    ///
    /// A code of the schema is itself, NaN is missing, -1 and every other whole number is an unseen category.
    ///
    /// # Errors
    /// When the code is fractional or infinite, or unseen and the policy is strict.
    pub fn encode_code(&self, code: f64, policy: Policy) -> Encoded {
        let value = Value::Float(code);
        if !self.kind.is_categorical() || code.is_nan() {
            return self.encode(value, policy, &Limits::default());
        }
        if code >= 0.0 && code < self.categories.len() as f64 && code.trunc() == code {
            return Ok((code + 0.0, None));
        }
        if code.is_infinite() || code.trunc() != code {
            return Err(self.refusal(value));
        }
        self.unseen(value, policy)
    }

    /// What the row holds when nothing was sent for this feature: the fill, or NaN.
    ///
    /// # Errors
    /// When the feature is required.
    pub fn encode_missing(&self) -> Result<f64, Refusal> {
        match self.fill {
            Some(fill) => Ok(fill),
            None if self.required => Err(Refusal { expected: self.expected(), got: "nothing".to_owned() }),
            None => Ok(f64::NAN),
        }
    }

    fn missing(&self, value: Value<'_>) -> Encoded {
        match self.encode_missing() {
            Ok(number) => Ok((number, None)),
            Err(_) => Err(self.refusal(value)),
        }
    }

    fn number(&self, value: Value<'_>, policy: Policy) -> Encoded {
        let number = match value {
            Value::Int(number) => number as f64,
            Value::Float(number) => number,
            Value::Bool(truth) if policy == Policy::Autogluon => {
                return Ok((f64::from(truth), None));
            }
            _ => return Err(self.refusal(value)),
        };
        if policy == Policy::Autogluon {
            return Ok((number, None));
        }
        // An infinite value is not fractional: its `trunc` is itself.
        let fractional = self.kind == Kind::Int && number.trunc() != number;
        let unbounded = self.kind == Kind::Int && number.is_infinite();
        // -0.5 becomes 0.0, not -0.0.
        let kept = if fractional { number.trunc() + 0.0 } else { number };
        let (low, high) = self.bounds.unwrap_or((None, None));
        let clamped = match (low, high) {
            (Some(low), _) if kept < low => Some(low),
            (_, Some(high)) if kept > high => Some(high),
            _ => None,
        };
        if policy == Policy::Strict {
            let refused = fractional || unbounded || clamped.is_some();
            return if refused { Err(self.refusal(value)) } else { Ok((number, None)) };
        }
        let repair = |kind, used| Repair::new(kind, value, Used::Number(used));
        Ok(match clamped {
            Some(bound) => (bound, Some(repair(RepairKind::Clamped, bound))),
            None if fractional => (kept, Some(repair(RepairKind::Coerced, kept))),
            None => (number, None),
        })
    }

    fn truth(&self, value: Value<'_>, policy: Policy) -> Encoded {
        match value {
            Value::Bool(truth) => Ok((f64::from(truth), None)),
            // A tensor of numbers has no other way to say it.
            Value::Int(number @ (0 | 1)) => Ok((number as f64, None)),
            Value::Float(number) if number == 0.0 || number == 1.0 => Ok((number + 0.0, None)),
            Value::Int(number) if policy == Policy::Autogluon => Ok((number as f64, None)),
            Value::Float(number) if policy == Policy::Autogluon => Ok((number, None)),
            _ => Err(self.refusal(value)),
        }
    }

    fn datetime(&self, value: Value<'_>, policy: Policy) -> Encoded {
        let nanoseconds = match value {
            Value::Text(text) => super::datetime::nanoseconds(text),
            Value::Int(number) => Some(number as f64),
            Value::Float(number) if number.is_finite() && number.trunc() == number => Some(number),
            _ => None,
        };
        match nanoseconds {
            Some(nanoseconds) => Ok((nanoseconds, None)),
            // pandas makes "not a time" of what it cannot read.
            None if policy == Policy::Autogluon => self.missing(value),
            None => Err(self.refusal(value)),
        }
    }

    fn category(&self, value: Value<'_>, policy: Policy, limits: &Limits) -> Encoded {
        let code = match value {
            Value::Text(text) if text.len() > limits.max_text_bytes && policy != Policy::Autogluon => {
                return self.long_text(text, policy, limits);
            }
            Value::Text(text) => self.categories.text(text),
            _ if self.kind == Kind::Text && policy != Policy::Autogluon => {
                return Err(self.refusal(value));
            }
            Value::Int(number) => self.categories.int(number),
            Value::Float(number) => self.categories.float(number),
            Value::Bool(truth) => self.categories.truth(truth),
            Value::Null => None,
        };
        match code {
            Some(code) => Ok((f64::from(code), None)),
            None => self.unseen(value, policy),
        }
    }

    /// Under a policy that is not the trainer's library's.
    fn long_text(&self, text: &str, policy: Policy, limits: &Limits) -> Encoded {
        if policy == Policy::Strict {
            return Err(Refusal {
                expected: format!("a text of at most {} bytes", limits.max_text_bytes),
                got: Value::Text(text).to_string(),
            });
        }
        let cut = &text[..text.floor_char_boundary(limits.max_text_bytes)];
        match self.categories.text(cut) {
            Some(code) => {
                let repair = Repair::new(RepairKind::Truncated, Value::Text(text), Used::Bytes(cut.len()));
                Ok((f64::from(code), Some(repair)))
            }
            None => {
                let used = Used::UnseenOf(cut.len());
                Ok((UNSEEN, Some(Repair::new(RepairKind::UnknownCategory, Value::Text(text), used))))
            }
        }
    }

    fn unseen(&self, value: Value<'_>, policy: Policy) -> Encoded {
        match policy {
            Policy::Strict => Err(self.refusal(value)),
            Policy::Sanitize => {
                let repair = Repair::new(RepairKind::UnknownCategory, value, Used::Unseen);
                Ok((UNSEEN, Some(repair)))
            }
            Policy::Autogluon => Ok((UNSEEN, None)),
        }
    }

    fn refusal(&self, value: Value<'_>) -> Refusal {
        Refusal { expected: self.expected(), got: value.to_string() }
    }

    /// What the feature takes, in words.
    fn expected(&self) -> String {
        let what = match self.kind {
            Kind::Int => "a whole number",
            Kind::Float => "a number",
            Kind::Bool => "a boolean",
            Kind::Datetime => "a date or time in ISO 8601, or whole nanoseconds since 1970",
            Kind::Category => return format!("one of {} known categories", self.categories.len()),
            Kind::Text => {
                return format!("a text, one of {} known categories", self.categories.len());
            }
        };
        match self.bounds {
            Some((Some(low), Some(high))) => format!("{what} from {low:?} to {high:?}"),
            Some((Some(low), None)) => format!("{what} of at least {low:?}"),
            Some((None, Some(high))) => format!("{what} of at most {high:?}"),
            _ => what.to_owned(),
        }
    }
}
