//! The one place where protobuf meets the model: requests become a [`Batch`] by the rules of the schema, predictions
//! become answers. Both processes use it, because a comparison is only fair if both sides read a request the same way.

use model::{Batch, Feature, Model, OnSuspicious, Predictions, Refusal, Repair, RepairKind, Value};

pub use refusal::{Refused, RequestError, Violation};

pub mod answer;
mod decode;
mod findings;
mod message;
mod refusal;
mod rows;
mod rules;
mod scan;
mod tensor;
mod tensors;

pub use decode::{decode_rows, decode_tensors};
pub use findings::{FINDINGS_OF_ROW, Findings};
pub use message::RowsMessage;
pub use rows::{encode_rows, read_rows};
pub use rules::{Asked, POLICY, Rules};
pub use scan::asked;
pub use tensors::{datatype, encode_tensors, read_tensors};

/// A request whose rows were all accepted. Reused from request to request, so that a small one allocates nothing.
#[derive(Debug)]
pub struct Encoded {
    /// One row for each row of the request.
    pub batch: Batch,
    /// What was repaired or is suspicious, by row.
    pub findings: Findings,
    /// Repairs by kind, the ones that are not named in `findings` included.
    pub repairs: RepairCounts,
    /// Suspicious values, the ones that are not named in `findings` included.
    pub suspicious: SuspiciousCounts,
}

/// Things that are wrong with a request and are named; of the rest it is said how many they are.
pub const MAX_VIOLATIONS: usize = 100;

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

impl RepairCounts {
    /// Of every kind.
    pub fn total(&self) -> u64 {
        let Self { clamped, truncated, coerced, unknown_category, unknown_feature } = self;
        clamped + truncated + coerced + unknown_category + unknown_feature
    }
}

/// How often a feature's value was suspicious.
#[derive(Debug, Default)]
pub struct SuspiciousCounts {
    total: u64,
    /// By feature; as long as the row once anything was suspicious.
    by_feature: Vec<u64>,
}

impl SuspiciousCounts {
    fn add(&mut self, feature: usize, width: usize) {
        if self.total == 0 {
            self.by_feature.clear();
            self.by_feature.resize(width, 0);
        }
        self.total += 1;
        self.by_feature[feature] += 1;
    }

    /// Of every feature.
    pub fn total(&self) -> u64 {
        self.total
    }

    /// The position of each feature of which a value was suspicious, and how often.
    pub fn features(&self) -> impl Iterator<Item = (usize, u64)> {
        let counts: &[u64] = if self.total == 0 { &[] } else { &self.by_feature };
        counts.iter().copied().enumerate().filter(|(_, count)| *count > 0)
    }
}

impl Encoded {
    /// For rows of `width` features.
    pub fn new(width: usize) -> Self {
        Self {
            batch: Batch::new(width),
            findings: Findings::default(),
            repairs: RepairCounts::default(),
            suspicious: SuspiciousCounts::default(),
        }
    }

    fn reset(&mut self, width: usize) {
        if self.batch.width() == width {
            self.batch.clear();
        } else {
            self.batch = Batch::new(width);
        }
        self.findings.begin(0);
        self.repairs = RepairCounts::default();
        self.suspicious.total = 0;
    }

    /// Makes room for all `rows` of a request at once.
    fn begin(&mut self, rows: usize) {
        self.findings.begin(rows);
        for _ in 0..rows {
            self.batch.push_row();
        }
    }

    /// Takes a value that was sent: `encoded` is what the schema makes of it.
    fn place(
        &mut self,
        (row, f): (usize, usize),
        feature: &Feature,
        value: Value<'_>,
        encoded: Result<(f64, Option<Repair>), Refusal>,
        rules: &Rules<'_>,
        refused: &mut Refused,
    ) {
        if rules.refuses_non_finite && matches!(value, Value::Float(number) if !number.is_finite()) {
            let refusal = Refusal { expected: "a finite number".into(), got: value.to_string() };
            return refused.value(row, feature.name(), refusal);
        }
        let (number, repair) = match encoded {
            Ok(encoded) => encoded,
            Err(refusal) => return refused.value(row, feature.name(), refusal),
        };
        self.batch.row_mut(row)[f] = number;
        let moved = repair.as_ref().is_some_and(|repair| repair.kind == RepairKind::Clamped);
        if let Some(repair) = repair {
            self.repaired(row, f, repair);
        }
        if rules.on_suspicious != OnSuspicious::Ignore && rules.suspicion.doubts(f, number) && !moved {
            self.doubted((row, f), feature, value, number, rules, refused);
        }
    }

    /// A value that was not sent.
    fn missing(&mut self, row: usize, f: usize, feature: &Feature, refused: &mut Refused) {
        match feature.encode_missing() {
            Ok(number) => self.batch.row_mut(row)[f] = number,
            Err(refusal) => refused.value(row, feature.name(), refusal),
        }
    }

    #[cold]
    fn doubted(
        &mut self,
        (row, f): (usize, usize),
        feature: &Feature,
        value: Value<'_>,
        number: f64,
        rules: &Rules<'_>,
        refused: &mut Refused,
    ) {
        // What fills a gap is the package's word, not the client's.
        let filled = matches!(value, Value::Null) || matches!(value, Value::Float(number) if number.is_nan());
        if filled {
            return;
        }
        if rules.on_suspicious == OnSuspicious::Refuse {
            let refusal = Refusal { expected: rules.suspicion.expected(f), got: value.to_string() };
            return refused.value(row, feature.name(), refusal);
        }
        self.suspicious.add(f, self.batch.width());
        self.findings.suspicious(row, f, number);
    }

    #[cold]
    fn repaired(&mut self, row: usize, f: usize, repair: Repair) {
        if let Some(cut) = repair.cut() {
            self.repaired(row, f, cut);
        }
        *match repair.kind {
            RepairKind::Clamped => &mut self.repairs.clamped,
            RepairKind::Truncated => &mut self.repairs.truncated,
            RepairKind::Coerced => &mut self.repairs.coerced,
            RepairKind::UnknownCategory => &mut self.repairs.unknown_category,
        } += 1;
        self.findings.repaired(row, f, repair);
    }

    fn unknown_feature(&mut self, row: usize, name: &str) {
        self.repairs.unknown_feature += 1;
        self.findings.unknown_feature(row, name);
    }
}

/// What a model said about the rows of one request, ready to be written into either kind of answer.
#[derive(Debug)]
pub struct Answered<'a> {
    /// Who answered.
    pub model: &'a Model,
    /// One for each row.
    pub predictions: &'a Predictions,
    /// What was repaired or is suspicious.
    pub encoded: &'a Encoded,
}
