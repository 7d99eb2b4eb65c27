//! What was found in rows that were accepted. Kept compactly while they are read, and put into words only when somebody is
//! told: a batch in which every value was repaired costs no more than its answer shows.

use model::{Model, Repair, RepairKind};

use super::refusal::shown;
use crate::v1::{Warning, warning::Kind};

/// Findings of one row that are named; how many more it has is said.
pub const FINDINGS_OF_ROW: usize = 8;
/// Findings of one request that are named, over all rows: the places of each row are fewer where there are many rows, so that
/// the first rows, or the first tensor, can't take those of others.
const FINDINGS_OF_REQUEST: usize = 8 * 1024;

/// What was repaired in the rows of one request, or is suspicious in them.
#[derive(Debug, Default)]
pub struct Findings {
    /// In increasing order of rows once [`Findings::sort`] was called.
    named: Vec<Finding>,
    /// How many each row has, named or not; as long as the last row that has any.
    of_row: Vec<u32>,
    /// How many of each row are named.
    places: usize,
}

#[derive(Debug)]
struct Finding {
    row: u32,
    what: What,
}

/// With the position of the feature in the row, where the model has it.
#[derive(Debug)]
enum What {
    Repaired(u32, Repair),
    Suspicious(u32, f64),
    /// Its name, as it may be shown.
    UnknownFeature(Box<str>),
}

impl Findings {
    /// Forgets what it held, for a request of `rows`.
    pub(super) fn begin(&mut self, rows: usize) {
        self.named.clear();
        self.of_row.clear();
        self.places = (FINDINGS_OF_REQUEST / rows.max(1)).min(FINDINGS_OF_ROW);
    }

    pub(super) fn repaired(&mut self, row: usize, feature: usize, repair: Repair) {
        self.add(row, || What::Repaired(feature as u32, repair));
    }

    pub(super) fn suspicious(&mut self, row: usize, feature: usize, number: f64) {
        self.add(row, || What::Suspicious(feature as u32, number));
    }

    pub(super) fn unknown_feature(&mut self, row: usize, name: &str) {
        self.add(row, || What::UnknownFeature(shown(name).into()));
    }

    fn add(&mut self, row: usize, what: impl FnOnce() -> What) {
        if self.of_row.len() <= row {
            self.of_row.resize(row + 1, 0);
        }
        let before = self.of_row[row] as usize;
        self.of_row[row] += 1;
        if before < self.places {
            self.named.push(Finding { row: row as u32, what: what() });
        }
    }

    /// To be called before they are read: tensors bring them one feature after another.
    pub(super) fn sort(&mut self) {
        if !self.named.is_sorted_by_key(|finding| finding.row) {
            // Stable: within a row in the order in which they were found.
            self.named.sort_by_key(|finding| finding.row);
        }
    }

    /// What to tell of `row`, whose features `model` has: at most [`FINDINGS_OF_ROW`] findings, and how many more there are.
    pub fn of_row<'a>(&'a self, row: usize, model: &'a Model) -> impl Iterator<Item = Warning> + 'a {
        let count = self.of_row.get(row).map_or(0, |count| *count as usize);
        let first = if count == 0 { 0 } else { self.named.partition_point(|finding| (finding.row as usize) < row) };
        let named = &self.named[first..first + count.min(self.places)];
        let more = count - named.len();
        let rest = (more > 0).then(|| {
            let message = match named {
                [] => format!("{more} values were repaired or are suspicious; too many rows to name them"),
                _ => format!("and {more} more"),
            };
            Warning { kind: Kind::More.into(), feature: String::new(), message }
        });
        named.iter().map(|finding| finding.what.warning(model)).chain(rest)
    }
}

impl What {
    fn warning(&self, model: &Model) -> Warning {
        let name = |feature: u32| shown(model.schema().features()[feature as usize].name());
        let (kind, feature, message) = match self {
            Self::Repaired(feature, repair) => (kind(repair.kind), name(*feature), repair.message()),
            Self::Suspicious(feature, number) => {
                (Kind::Suspicious, name(*feature), model.suspicion().message(*feature as usize, *number))
            }
            Self::UnknownFeature(name) => {
                let message = "the model has no such feature; it was left out".into();
                (Kind::UnknownFeature, name.to_string(), message)
            }
        };
        Warning { kind: kind.into(), feature, message }
    }
}

fn kind(repair: RepairKind) -> Kind {
    match repair {
        RepairKind::Clamped => Kind::Clamped,
        RepairKind::Truncated => Kind::Truncated,
        RepairKind::Coerced => Kind::Coerced,
        RepairKind::UnknownCategory => Kind::UnknownCategory,
    }
}
