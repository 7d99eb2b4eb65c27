//! The comparator: what two models' answers have in common is worked out once, not for each row.

use std::collections::HashMap;
use std::fmt;

use super::{Answer, Distance, Incomparable, Role, RowOutcome, Task, Tolerance};

/// Where a binary model decides that does not say it.
pub const USUAL_DECISION: f64 = 0.5;

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
    /// Classification: columns of classes that the other model doesn't know.
    only_primary: Vec<usize>,
    only_candidate: Vec<usize>,
    level_names: Vec<String>,
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
        let only = |side: &Side, other: &Side, names: &[String]| -> Vec<usize> {
            names.iter().filter(|name| column(other, name).is_none()).filter_map(|name| column(side, name)).collect()
        };
        let only_primary = only(&primary, &candidate, primary_classes);
        let only_candidate = only(&candidate, &primary, candidate_classes);
        let mut level_names = Vec::new();

        match task {
            Task::Binary | Task::Multiclass => {}
            Task::Regression => {
                classes.clear();
                columns = vec![Some((0, 0))];
            }
            Task::Tensor => {
                classes.clear();
                columns.clear();
            }
            Task::Quantile => {
                classes.clear();
                if primary_classes.is_empty() || candidate_classes.is_empty() {
                    columns.clear();
                    let width = primary.width.or(candidate.width);
                    (primary.width, candidate.width) = (width, width);
                } else {
                    let common = primary_classes.iter().filter(|name| candidate.labels.contains_key(*name));
                    level_names = common.cloned().collect();
                    columns.retain(Option::is_some);
                    if columns.is_empty() {
                        return Err(ComparatorError::NoCommonLevel);
                    }
                }
            }
        }
        Ok(Self { task, tolerance, classes, primary, candidate, columns, only_primary, only_candidate, level_names })
    }

    /// For binary models whose labels are not decided at 0.5 (`decision_threshold` in the manifest). It matters
    /// only for answers that have probabilities and no labels.
    #[must_use]
    pub fn with_decision_thresholds(mut self, primary: f64, candidate: f64) -> Self {
        self.primary.decision_threshold = primary;
        self.candidate.decision_threshold = candidate;
        self
    }

    /// Where the models decide, if that is not at 0.5; empty where it is, which every state from before says of itself.
    pub(crate) fn decisions(&self) -> String {
        let decisions = [&self.primary, &self.candidate].map(|side| side.decision_threshold);
        if decisions == [USUAL_DECISION; 2] { String::new() } else { format!("; decided at {decisions:?}") }
    }

    /// The comparator for the noise floor: the primary's second answer in the place of the candidate's.
    #[must_use]
    pub fn against_itself(&self) -> Self {
        let mut itself = self.clone();
        itself.candidate = Side { role: Role::Candidate, ..self.primary.clone() };
        itself.only_primary.clear();
        itself.only_candidate.clear();
        itself.columns = match self.task {
            Task::Binary | Task::Multiclass => {
                let own = self.primary.common.len();
                (0..self.classes.len()).map(|class| (class < own).then_some((class, class))).collect()
            }
            Task::Regression | Task::Quantile | Task::Tensor => {
                self.columns.iter().map(|c| c.map(|(own, _)| (own, own))).collect()
            }
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
            Task::Tensor => format!("all floats are {within}, all integers, booleans and texts equal"),
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
        if matches!(self.task, Task::Quantile | Task::Tensor)
            && self.columns.is_empty()
            && primary.width != candidate.width
        {
            let (expected, got) = (primary.scores.len(), candidate.scores.len());
            return Err(Incomparable::Scores { role: Role::Candidate, expected, got });
        }
        if primary.exact_width != candidate.exact_width {
            let (expected, got) = (primary.exact.len(), candidate.exact.len());
            return Err(Incomparable::Scores { role: Role::Candidate, expected, got });
        }
        outcomes.extend((0..primary.rows).map(|row| {
            let (p, c) = (primary.row(row), candidate.row(row));
            let mut outcome = if classification {
                let classes =
                    (self.primary.class(self.task, primary, row), self.candidate.class(self.task, candidate, row));
                self.classified(classes, p, c)
            } else {
                self.valued((p, primary.exact_row(row)), (c, candidate.exact_row(row)))
            };
            if !p.iter().chain(c).all(|score| score.is_finite()) {
                let RowOutcome { primary_class, candidate_class, .. } = outcome;
                outcome = RowOutcome { nonfinite: true, primary_class, candidate_class, ..RowOutcome::default() };
            }
            outcome
        }));
        Ok(())
    }

    fn classified(&self, classes: (Option<u32>, Option<u32>), p: &[f64], c: &[f64]) -> RowOutcome {
        let (primary_class, candidate_class) = classes;
        let measured = if self.task == Task::Binary { Some(1) } else { primary_class };
        let columns = measured.and_then(|class| self.columns.get(class as usize).copied().flatten());
        let scores = columns.and_then(|(own, other)| Some((*p.get(own)?, *c.get(other)?)));
        let delta = scores.map(|(primary, candidate)| candidate - primary).filter(|delta| delta.is_finite());
        RowOutcome {
            agreed: primary_class.is_some() && primary_class == candidate_class,
            nonfinite: false,
            primary_class,
            candidate_class,
            delta,
            scores: scores.filter(|_| delta.is_some()),
            distance: if p.is_empty() || c.is_empty() { None } else { self.distance(p, c) },
        }
    }

    /// Over the classes that both know, and those that only one does.
    fn distance(&self, p: &[f64], c: &[f64]) -> Option<Distance> {
        let common = self.columns.iter().flatten();
        let both = common.filter_map(|&(own, other)| Some((*p.get(own)?, *c.get(other)?)));
        if self.only_primary.is_empty() && self.only_candidate.is_empty() {
            return Distance::between(both);
        }
        let first = self.only_primary.iter().filter_map(|&own| Some((*p.get(own)?, 0.0)));
        let second = self.only_candidate.iter().filter_map(|&other| Some((0.0, *c.get(other)?)));
        Distance::between(both.chain(first).chain(second))
    }

    /// Quantiles: candidate minus primary for each level, `[rows, levels]`, into `out` (emptied first); NaN where it is
    /// not finite. Empty for other tasks, and when the answers can't be compared.
    pub fn levels(&self, primary: &Answer, candidate: &Answer, out: &mut Vec<f64>) {
        out.clear();
        if self.task != Task::Quantile || primary.rows != candidate.rows {
            return;
        }
        let levels = if self.columns.is_empty() { primary.width.min(candidate.width) } else { self.columns.len() };
        for row in 0..primary.rows.min(primary.scores.len()) {
            let (p, c) = (primary.row(row), candidate.row(row));
            out.extend((0..levels).map(|level| {
                let (own, other) = self.columns.get(level).copied().flatten().unwrap_or((level, level));
                match (p.get(own), c.get(other)) {
                    (Some(p), Some(c)) if (c - p).is_finite() => c - p,
                    _ => f64::NAN,
                }
            }));
        }
    }

    /// The names of the quantile levels that both models have, in the order of [`Self::levels`]; empty when they have
    /// none, or for other tasks.
    pub fn level_names(&self) -> &[String] {
        &self.level_names
    }

    /// What is compared.
    pub fn task(&self) -> Task {
        self.task
    }

    fn valued(&self, (p, exact): (&[f64], &[i128]), (c, other_exact): (&[f64], &[i128])) -> RowOutcome {
        let (mut agreed, mut count) = (true, 0.0);
        let (mut own_sum, mut other_sum, mut largest) = (0.0, 0.0, 0f64);
        let mut value = |primary: f64, candidate: f64| {
            agreed &= self.tolerance.allows(primary, candidate);
            let difference = candidate - primary;
            own_sum += primary;
            other_sum += candidate;
            largest = if difference.abs() > largest.abs() { difference } else { largest };
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
        let mut texts_differ = false;
        for (&own, &other) in exact.iter().zip(other_exact) {
            agreed &= own == other;
            if own < Answer::TEXTS && other < Answer::TEXTS {
                let difference = other.saturating_sub(own) as f64;
                largest = if difference.abs() > largest.abs() { difference } else { largest };
            } else {
                texts_differ |= own != other;
            }
            count += 1.0;
        }
        let scores = Some((own_sum / count, other_sum / count)).filter(|_| self.task != Task::Tensor);
        let delta = scores.map_or(largest, |(primary, candidate)| candidate - primary);
        // How far apart texts are is not known.
        let delta = Some(delta).filter(|delta| delta.is_finite() && !(texts_differ && *delta == 0.0));
        // Without a single value there is nothing that could agree; `check` has seen to it that this doesn't happen.
        RowOutcome {
            agreed: agreed && count > 0.0,
            delta,
            scores: scores.filter(|_| delta.is_some()),
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
            Task::Tensor => None,
        };
        let mut labels = HashMap::with_capacity(got);
        for (index, name) in classes.iter().enumerate() {
            if labels.insert(name.clone(), index as u32).is_some() {
                return Err(ComparatorError::Duplicate { role, name: name.clone() });
            }
        }
        Ok(Self { role, width, labels, common: (0..got as u32).collect(), decision_threshold: USUAL_DECISION })
    }

    /// That the answer has what the task needs, in the right number.
    fn check(&self, answer: &Answer, classification: bool) -> Result<(), Incomparable> {
        let role = self.role;
        let has_labels = classification && !answer.labels.is_empty();
        if answer.rows > 0 && !has_labels && answer.scores.is_empty() && answer.exact.is_empty() {
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
        let (expected, got) = (answer.rows.saturating_mul(answer.exact_width), answer.exact.len());
        if got != expected {
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
