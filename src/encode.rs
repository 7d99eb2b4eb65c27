//! The one place where protobuf meets the model: requests become a [`Batch`] by the rules of the schema, predictions
//! become answers. Both processes use it, because a comparison is only fair if both sides read a request the same way.

use model::{Batch, Model, Policy, Predictions, Repair, RepairKind};

pub use refusal::{Refused, RequestError, Violation};

use crate::v1::{Warning, warning::Kind};

pub mod answer;
mod refusal;
mod rows;
mod scan;
mod tensor;
mod tensors;

pub use rows::encode_rows;
pub use scan::scan_tensors;
pub use tensors::{datatype, encode_tensors};

/// A request whose rows were all accepted. Reused from request to request, so that a small one allocates nothing.
#[derive(Debug)]
pub struct Encoded {
    /// One row for each row of the request.
    pub batch: Batch,
    /// What was repaired, by row in increasing order; never more than [`MAX_FINDINGS`] in all.
    pub warnings: Vec<(usize, Warning)>,
    /// Repairs by kind, the ones that found no place in `warnings` included.
    pub repairs: RepairCounts,
}

/// Findings that a request can report; the rest is only counted.
pub const MAX_FINDINGS: usize = 100;

/// How often something was repaired.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RepairCounts {
    /// Numbers moved to a bound.
    pub clamped: u64,
    /// Texts cut.
    pub truncated: u64,
    /// Values converted.
    pub coerced: u64,
    /// Categories the model has never seen.
    pub unknown_category: u64,
    /// Features left out.
    pub unknown_feature: u64,
}

impl Encoded {
    /// For rows of `width` features.
    pub fn new(width: usize) -> Self {
        Self { batch: Batch::new(width), warnings: Vec::new(), repairs: RepairCounts::default() }
    }

    fn reset(&mut self, width: usize) {
        if self.batch.width() == width {
            self.batch.clear();
        } else {
            self.batch = Batch::new(width);
        }
        self.warnings.clear();
        self.repairs = RepairCounts::default();
    }

    fn repaired(&mut self, row: usize, feature: &str, repair: &Repair) {
        let kind = match repair.kind {
            RepairKind::Clamped => {
                self.repairs.clamped += 1;
                Kind::Clamped
            }
            RepairKind::Truncated => {
                self.repairs.truncated += 1;
                Kind::Truncated
            }
            RepairKind::Coerced => {
                self.repairs.coerced += 1;
                Kind::Coerced
            }
            RepairKind::UnknownCategory => {
                self.repairs.unknown_category += 1;
                Kind::UnknownCategory
            }
        };
        self.warn(row, kind, feature, || repair.message());
    }

    fn unknown_feature(&mut self, row: usize, name: &str) {
        self.repairs.unknown_feature += 1;
        self.warn(row, Kind::UnknownFeature, name, || "the model has no such feature; it was left out".into());
    }

    fn warn(&mut self, row: usize, kind: Kind, feature: &str, message: impl FnOnce() -> String) {
        if self.warnings.len() < MAX_FINDINGS {
            let feature = refusal::shown(feature);
            self.warnings.push((row, Warning { kind: kind.into(), feature, message: message() }));
        }
    }
}

/// The rules for one request.
#[derive(Clone, Copy, Debug)]
pub struct Rules {
    /// Rows, at most.
    pub max_rows: usize,
    /// What happens to values that could be repaired.
    pub policy: Policy,
}

impl Rules {
    /// The model's own rules, made stricter by `asked`; never laxer.
    pub fn of(model: &Model, max_rows: Option<usize>, asked: crate::v1::Policy) -> Self {
        let own = model.schema().policy();
        let policy = match asked {
            crate::v1::Policy::Strict => Policy::Strict,
            crate::v1::Policy::Sanitize if own == Policy::Autogluon => Policy::Sanitize,
            _ => own,
        };
        Self { max_rows: max_rows.unwrap_or(model.schema().limits().max_rows), policy }
    }

    fn check_rows(&self, rows: usize) -> Result<(), RequestError> {
        if rows > self.max_rows {
            return Err(RequestError::TooManyRows { limit: self.max_rows, got: rows });
        }
        Ok(())
    }
}

/// What a model said about the rows of one request, ready to be written into either kind of answer.
#[derive(Debug)]
pub struct Answered<'a> {
    /// Who answered.
    pub model: &'a Model,
    /// One for each row.
    pub predictions: &'a Predictions,
    /// What was repaired, by row in increasing order.
    pub warnings: &'a [(usize, Warning)],
}
