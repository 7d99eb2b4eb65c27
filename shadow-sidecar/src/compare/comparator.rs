//! The comparator: what two models' answers have in common is worked out once, not for each row.

use std::collections::HashMap;
use std::fmt;

use super::{Answer, Incomparable, Role, RowOutcome, Task, Tolerance};

/// Compares answers of one pair of model versions. Made once for each epoch.
#[derive(Debug, Clone)]
pub struct Comparator {
    task: Task,
    tolerance: Tolerance,
    /// The primary's, then those that only the candidate knows.
    classes: Vec<String>,
    primary: Side,
    candidate: Side,
    /// Columns that mean the same: for a class of `classes`, or for a quantile level.
    columns: Vec<Option<(usize, usize)>>,
}

/// How one model's answers are to be read.
#[derive(Debug, Clone)]
struct Side {
    role: Role,
    /// Scores a row; None when any number will do.
    width: Option<usize>,
    labels: HashMap<String, u32>,
    /// From this model's class to the one in `Comparator::classes`.
    common: Vec<u32>,
    /// Binary: the label is the positive class when its probability is greater than this.
    decision_threshold: f64,
}

/// Why two models can't be compared.
#[derive(Debug, Clone, PartialEq)]
pub enum ComparatorError {
    /// A binary model has two classes, a multiclass model at least two.
    Classes {
        /// Whose.
        role: Role,
        /// How many there are.
        got: usize,
    },
    /// A class or level is listed twice.
    Duplicate {
        /// Whose.
        role: Role,
        /// Its name.
        name: String,
    },
    /// The models have no quantile level in common.
    NoCommonLevel,
    /// A tolerance is finite and not negative.
    Tolerance(Tolerance),
}

impl Comparator {
    /// Classes in the order of the probabilities, the positive class of a binary model second. For `Quantile` the names
    /// of the levels, by which columns are matched; without names on both sides they are matched by position. Ignored
    /// for `Regression`.
    pub fn new(
        task: Task,
        primary_classes: &[String],
        candidate_classes: &[String],
        tolerance: Tolerance,
    ) -> Result<Self, ComparatorError> {
        let valid = |v: f64| v.is_finite() && v >= 0.0;
        if !(valid(tolerance.absolute) && valid(tolerance.relative)) {
            return Err(ComparatorError::Tolerance(tolerance));
        }
        let mut primary = Side::new(Role::Primary, task, primary_classes)?;
        let mut candidate = Side::new(Role::Candidate, task, candidate_classes)?;

        let mut classes = primary_classes.to_vec();
        candidate.common.clear();
        for name in candidate_classes {
            let known = primary.labels.get(name).copied();
            candidate.common.push(known.unwrap_or(classes.len() as u32));
            if known.is_none() {
                classes.push(name.clone());
            }
        }
        let column = |side: &Side, name: &String| side.labels.get(name).map(|&index| index as usize);
        let mut columns: Vec<_> =
            classes.iter().map(|name| column(&primary, name).zip(column(&candidate, name))).collect();

        match task {
            Task::Binary | Task::Multiclass => {}
            Task::Regression => {
                classes.clear();
                columns = vec![Some((0, 0))];
            }
            Task::Quantile => {
                classes.clear();
                if primary_classes.is_empty() || candidate_classes.is_empty() {
                    columns.clear();
                    let width = primary.width.or(candidate.width);
                    (primary.width, candidate.width) = (width, width);
                } else {
                    columns.retain(Option::is_some);
                    if columns.is_empty() {
                        return Err(ComparatorError::NoCommonLevel);
                    }
                }
            }
        }
        Ok(Self { task, tolerance, classes, primary, candidate, columns })
    }

    /// For binary models whose labels are not decided at 0.5 (`decision_threshold` in the manifest). It matters
    /// only for answers that have probabilities and no labels.
    #[must_use]
    pub fn with_decision_thresholds(mut self, primary: f64, candidate: f64) -> Self {
        self.primary.decision_threshold = primary;
        self.candidate.decision_threshold = candidate;
        self
    }

    /// The comparator for the noise floor: the primary's second answer in the place of the candidate's.
    #[must_use]
    pub fn against_itself(&self) -> Self {
        let mut itself = self.clone();
        itself.candidate = Side { role: Role::Candidate, ..self.primary.clone() };
        itself.columns = match self.task {
            Task::Binary | Task::Multiclass => {
                let own = self.primary.common.len();
                (0..self.classes.len()).map(|class| (class < own).then_some((class, class))).collect()
            }
            Task::Regression | Task::Quantile => self.columns.iter().map(|c| c.map(|(own, _)| (own, own))).collect(),
        };
        itself
    }

    /// The classes of both models, each once: the primary's in its order, then those that only the candidate knows. Empty
    /// when it is not a classification.
    pub fn classes(&self) -> &[String] {
        &self.classes
    }

    /// The label to put into [`Answer::labels`] for a class by name.
    pub fn label(&self, role: Role, class: &str) -> u32 {
        self.side(role).labels.get(class).copied().unwrap_or(Answer::UNKNOWN)
    }

    /// What counts as agreement, for people.
    pub fn describe(&self) -> String {
        let Tolerance { absolute, relative } = self.tolerance;
        let within = match (absolute == 0.0, relative == 0.0) {
            (true, true) => "equal".to_owned(),
            (false, true) => format!("within {absolute}"),
            (true, false) => format!("within {relative} of the primary's magnitude"),
            (false, false) => format!("within {absolute} + {relative} of the primary's magnitude"),
        };
        match self.task {
            Task::Binary | Task::Multiclass => "labels are equal, by name of the class".to_owned(),
            Task::Regression => format!("values are {within}"),
            Task::Quantile => format!("all quantiles are {within}"),
        }
    }

    /// One outcome for each row, into `outcomes` (emptied first). When the answers can't be compared `outcomes` stays
    /// empty.
    pub fn compare(
        &self,
        primary: &Answer,
        candidate: &Answer,
        outcomes: &mut Vec<RowOutcome>,
    ) -> Result<(), Incomparable> {
        outcomes.clear();
        let classification = self.is_classification();
        self.primary.check(primary, classification)?;
        self.candidate.check(candidate, classification)?;
        if primary.rows != candidate.rows {
            return Err(Incomparable::Rows { primary: primary.rows, candidate: candidate.rows });
        }
        if self.task == Task::Quantile && self.columns.is_empty() && primary.width != candidate.width {
            let (expected, got) = (primary.scores.len(), candidate.scores.len());
            return Err(Incomparable::Scores { role: Role::Candidate, expected, got });
        }
        outcomes.extend((0..primary.rows).map(|row| {
            let (p, c) = (primary.row(row), candidate.row(row));
            let mut outcome = if classification {
                let classes =
                    (self.primary.class(self.task, primary, row), self.candidate.class(self.task, candidate, row));
                self.classified(classes, p, c)
            } else {
                self.valued(p, c)
            };
            if !p.iter().chain(c).all(|score| score.is_finite()) {
                outcome = RowOutcome { agreed: false, nonfinite: true, delta: None, ..outcome };
            }
            outcome
        }));
        Ok(())
    }

    fn classified(&self, classes: (Option<u32>, Option<u32>), p: &[f64], c: &[f64]) -> RowOutcome {
        let (primary_class, candidate_class) = classes;
        let measured = if self.task == Task::Binary { Some(1) } else { primary_class };
        let columns = measured.and_then(|class| self.columns.get(class as usize).copied().flatten());
        let delta = columns.and_then(|(own, other)| Some(c.get(other)? - p.get(own)?));
        RowOutcome {
            agreed: primary_class.is_some() && primary_class == candidate_class,
            nonfinite: false,
            primary_class,
            candidate_class,
            delta: delta.filter(|delta| delta.is_finite()),
        }
    }

    fn valued(&self, p: &[f64], c: &[f64]) -> RowOutcome {
        let (mut agreed, mut sum, mut count) = (true, 0.0, 0.0);
        let mut value = |primary: f64, candidate: f64| {
            agreed &= self.tolerance.allows(primary, candidate);
            sum += candidate - primary;
            count += 1.0;
        };
        if self.columns.is_empty() {
            p.iter().zip(c).for_each(|(&p, &c)| value(p, c));
        } else {
            for &(own, other) in self.columns.iter().flatten() {
                if let (Some(&p), Some(&c)) = (p.get(own), c.get(other)) {
                    value(p, c);
                }
            }
        }
        // Without a single value there is nothing that could agree; `check` has seen to it that this doesn't happen.
        RowOutcome {
            agreed: agreed && count > 0.0,
            delta: Some(sum / count).filter(|d| d.is_finite()),
            ..RowOutcome::default()
        }
    }

    fn is_classification(&self) -> bool {
        matches!(self.task, Task::Binary | Task::Multiclass)
    }

    fn side(&self, role: Role) -> &Side {
        match role {
            Role::Primary => &self.primary,
            Role::Candidate => &self.candidate,
        }
    }
}

impl Side {
    fn new(role: Role, task: Task, classes: &[String]) -> Result<Self, ComparatorError> {
        let got = classes.len();
        let width = match task {
            Task::Binary if got != 2 => return Err(ComparatorError::Classes { role, got }),
            Task::Multiclass if got < 2 => return Err(ComparatorError::Classes { role, got }),
            Task::Binary | Task::Multiclass => Some(got),
            Task::Regression => Some(1),
            Task::Quantile => (got > 0).then_some(got),
        };
        let mut labels = HashMap::with_capacity(got);
        for (index, name) in classes.iter().enumerate() {
            if labels.insert(name.clone(), index as u32).is_some() {
                return Err(ComparatorError::Duplicate { role, name: name.clone() });
            }
        }
        Ok(Self { role, width, labels, common: (0..got as u32).collect(), decision_threshold: 0.5 })
    }

    /// That the answer has what the task needs, in the right number.
    fn check(&self, answer: &Answer, classification: bool) -> Result<(), Incomparable> {
        let role = self.role;
        let has_labels = classification && !answer.labels.is_empty();
        if answer.rows > 0 && !has_labels && answer.scores.is_empty() {
            return Err(Incomparable::Nothing { role });
        }
        if has_labels && answer.labels.len() != answer.rows {
            return Err(Incomparable::Labels { role, expected: answer.rows, got: answer.labels.len() });
        }
        let width = self.width.unwrap_or(answer.width);
        let expected = answer.rows.saturating_mul(width);
        let got = answer.scores.len();
        if got > 0 && (got != expected || answer.width != width) {
            return Err(Incomparable::Scores { role, expected, got });
        }
        Ok(())
    }

    /// The class of a row as an index into the common classes: the label if there is one, else what the scores say.
    fn class(&self, task: Task, answer: &Answer, row: usize) -> Option<u32> {
        let own = match answer.labels.get(row) {
            Some(&label) => label as usize,
            None => self.decide(task, answer.row(row))?,
        };
        self.common.get(own).copied()
    }

    /// As the trainer does: the positive class if its probability is greater than the threshold; the first of the largest.
    fn decide(&self, task: Task, scores: &[f64]) -> Option<usize> {
        if task == Task::Binary {
            return scores.get(1).filter(|p| !p.is_nan()).map(|&p| usize::from(p > self.decision_threshold));
        }
        let largest = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        scores.iter().position(|&score| score == largest)
    }
}

impl fmt::Display for ComparatorError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Classes { role, got } => write!(f, "{role}: {got} classes don't make a classification of this kind"),
            Self::Duplicate { role, name } => write!(f, "{role}: {name:?} is listed twice"),
            Self::NoCommonLevel => f.write_str("the models have no quantile level in common"),
            Self::Tolerance(Tolerance { absolute, relative }) => {
                write!(f, "tolerances must be finite and not negative, got absolute {absolute}, relative {relative}")
            }
        }
    }
}

impl std::error::Error for ComparatorError {}
