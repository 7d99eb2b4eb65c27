//! Two answers to the same request, row by row: the same, or not, and by how much.
//!
//! Classes are matched by name, because two models may list them in a different order or know different ones. A score
//! that is NaN or infinite, on either side, is a disagreement: a candidate that answers NaN wherever the primary does is
//! not ready.

mod comparator;
mod distance;

pub use comparator::{Comparator, ComparatorError, USUAL_DECISION};
pub use distance::Distance;

/// What the models predict, and so what agreement means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Task {
    /// Two classes, the second is the positive one. Rows agree when the labels are equal.
    Binary,
    /// Rows agree when the labels are equal.
    Multiclass,
    /// One value a row. Rows agree when the candidate's is within the tolerance of the primary's.
    Regression,
    /// One value for each quantile level. Rows agree when all are within the tolerance.
    Quantile,
    /// Any elements, whatever they mean, the same number of them on both sides. Rows agree when all floating-point numbers are
    /// within the tolerance and all integers, booleans and texts are equal.
    Tensor,
}

/// |candidate - primary| <= absolute + relative * |primary|. In the unit of the predicted value, and as a share of it.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Tolerance {
    /// In the unit of the predicted value.
    pub absolute: f64,
    /// As a share of the primary's value.
    pub relative: f64,
}

impl Tolerance {
    /// -0 equals 0; NaN equals nothing; an infinite difference is never tolerated.
    fn allows(self, primary: f64, candidate: f64) -> bool {
        let difference = (candidate - primary).abs();
        difference.is_finite() && difference <= self.absolute + self.relative * primary.abs()
    }
}

/// Which of the two models.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// The one whose answer the client got.
    Primary,
    /// The one that rehearses.
    Candidate,
}

/// One model's answer to one request. Labels, scores or both: clients may ask for only some outputs.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Answer {
    /// Rows of the request.
    pub rows: usize,
    /// Classification: each row's class as an index into this model's own classes, see [`Comparator::label`]. Empty when
    /// the answer has no labels.
    pub labels: Vec<u32>,
    /// Row-major: probabilities in the order of this model's own classes, or the value, or the quantiles. Empty when the
    /// answer has no scores.
    pub scores: Vec<f64>,
    /// Scores a row.
    pub width: usize,
    /// Tensors, row-major: integers and booleans as they are, texts as numbers from [`Answer::TEXTS`] on, which are equal
    /// when the texts are. Empty when there are none.
    pub exact: Vec<i128>,
    /// Of those in a row.
    pub exact_width: usize,
}

impl Answer {
    /// The label of a row whose class this model should not know.
    pub const UNKNOWN: u32 = u32::MAX;
    /// No integer of any type is as large.
    pub const TEXTS: i128 = 1 << 64;

    /// Empties the answer and keeps its memory.
    pub fn clear(&mut self) {
        self.rows = 0;
        self.width = 0;
        self.labels.clear();
        self.scores.clear();
        self.exact.clear();
        self.exact_width = 0;
    }

    /// The scores of one row; empty when there are none.
    pub fn row(&self, row: usize) -> &[f64] {
        let start = row.saturating_mul(self.width);
        self.scores.get(start..start.saturating_add(self.width)).unwrap_or_default()
    }

    /// What is exact of one row; empty when there is none.
    pub fn exact_row(&self, row: usize) -> &[i128] {
        let start = row.saturating_mul(self.exact_width);
        self.exact.get(start..start.saturating_add(self.exact_width)).unwrap_or_default()
    }
}

/// What came out for one row. Classes are indices into [`Comparator::classes`].
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct RowOutcome {
    /// Whether the answers are the same, as far as the task can tell.
    pub agreed: bool,
    /// A score was NaN or infinite on one side; the row did not agree.
    pub nonfinite: bool,
    /// None when it is not a classification or the label is unknown.
    pub primary_class: Option<u32>,
    /// The same for the candidate.
    pub candidate_class: Option<u32>,
    /// Candidate minus primary: probability of the positive class (binary), of the primary's class (multiclass), value
    /// (regression), mean over the levels (quantile), or the difference that is largest in magnitude (tensor). None when a
    /// side has no such number, or it is not finite.
    pub delta: Option<f64>,
    /// What `delta` is between: (primary, candidate). None where there is no delta, and for tensors.
    pub scores: Option<(f64, f64)>,
    /// Classification: how far apart the probabilities are, over all classes of both. None when a side has none, or they
    /// are not finite.
    pub distance: Option<Distance>,
}

/// Why an exchange can't be compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Incomparable {
    /// The answers are to different requests.
    Rows {
        /// Rows in the primary's answer.
        primary: usize,
        /// Rows in the candidate's answer.
        candidate: usize,
    },
    /// An answer doesn't have as many labels as rows.
    Labels {
        /// Whose answer.
        role: Role,
        /// Rows.
        expected: usize,
        /// Labels.
        got: usize,
    },
    /// An answer doesn't have as many scores as its rows and classes (or levels) make.
    Scores {
        /// Whose answer.
        role: Role,
        /// Rows times classes, values or levels.
        expected: usize,
        /// Scores.
        got: usize,
    },
    /// An answer has neither labels nor scores that the task needs.
    Nothing {
        /// Whose answer.
        role: Role,
    },
}

impl std::fmt::Display for Role {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Primary => "primary",
            Self::Candidate => "candidate",
        })
    }
}

impl std::fmt::Display for Incomparable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Rows { primary, candidate } => {
                write!(f, "the primary answered {primary} rows, the candidate {candidate}")
            }
            Self::Labels { role, expected, got } => write!(f, "{role}: expected {expected} labels, got {got}"),
            Self::Scores { role, expected, got } => write!(f, "{role}: expected {expected} scores, got {got}"),
            Self::Nothing { role } => write!(f, "{role}: the answer has nothing that can be compared"),
        }
    }
}

impl std::error::Error for Incomparable {}

#[cfg(test)]
mod tests;
