//! A node's output becomes what the caller gets: scores for each class, labels, values.

use crate::Scalar;
use crate::graph::Scratch;
use crate::package::Manifest;

/// What a model predicts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Deserialize, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Task {
    /// One of two classes.
    Binary,
    /// One of several classes.
    Multiclass,
    /// A number.
    Regression,
    /// A number for each quantile level.
    Quantile,
}

impl Task {
    /// The name in `manifest.json`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Binary => "binary",
            Self::Multiclass => "multiclass",
            Self::Regression => "regression",
            Self::Quantile => "quantile",
        }
    }

    /// Whether a prediction has a label.
    pub fn is_classification(self) -> bool {
        matches!(self, Self::Binary | Self::Multiclass)
    }
}

/// Predictions for the rows of a batch; the buffers are reused from batch to batch.
#[derive(Debug, Clone, Default)]
pub struct Predictions {
    /// Row-major `[rows, width]`: for classification the probability of each class, for regression the value, for
    /// quantile the value of each level.
    pub scores: Vec<f64>,
    /// `[rows]`, classification only: the index of the class.
    pub labels: Vec<u32>,
    /// Scores for one row: number of classes, 1, or number of levels. 0 before the first prediction.
    pub width: usize,
    /// Memory of the evaluation.
    pub(crate) scratch: Scratch,
}

impl Predictions {
    /// Nothing predicted yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Forgets the predictions, keeps the memory.
    pub fn clear(&mut self) {
        self.scores.clear();
        self.labels.clear();
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.scores.len().checked_div(self.width).unwrap_or(0)
    }

    /// The scores of one row, `[width]`.
    ///
    /// # Panics
    /// When `row` is not below [`rows`](Predictions::rows), as indexing a slice does.
    pub fn scores_of(&self, row: usize) -> &[f64] {
        &self.scores[row * self.width..(row + 1) * self.width]
    }
}

/// How the output node's numbers are read.
#[derive(Debug)]
pub(crate) enum Output {
    /// `[P(positive)]`; the label is 1 if it is strictly greater.
    Binary { threshold: f64 },
    /// `[P(class)]` for each class; the label is the first of the greatest.
    Multiclass { classes: usize },
    /// The numbers are the scores.
    Values { width: usize },
}

impl Output {
    pub(crate) fn new(manifest: &Manifest) -> Self {
        match manifest.task {
            Task::Binary => Self::Binary { threshold: manifest.decision_threshold },
            Task::Multiclass => Self::Multiclass { classes: manifest.classes.len() },
            Task::Regression => Self::Values { width: 1 },
            Task::Quantile => Self::Values { width: manifest.quantile_levels.len() },
        }
    }

    /// Numbers that the output node gives for one row.
    pub(crate) fn node_width(&self) -> usize {
        match self {
            Self::Binary { .. } => 1,
            Self::Multiclass { classes } => *classes,
            Self::Values { width } => *width,
        }
    }

    /// Whether an output node may give so many numbers: for two classes also the probabilities of both.
    pub(crate) fn takes(&self, node_width: usize) -> bool {
        node_width == self.node_width() || (node_width == 2 && matches!(self, Self::Binary { .. }))
    }

    /// Scores for one row.
    pub(crate) fn width(&self) -> usize {
        match self {
            Self::Binary { .. } => 2,
            other => other.node_width(),
        }
    }

    /// Appends the scores and labels of some rows. `node`: `[rows, width]`; `single`: in single precision.
    pub(crate) fn append(&self, node: &[f64], width: usize, single: bool, out: (&mut Vec<f64>, &mut Vec<u32>)) {
        let (scores, labels) = out;
        match self {
            Self::Binary { threshold } if width == 2 => {
                scores.extend_from_slice(node);
                labels.extend(node.chunks_exact(2).map(|row| u32::from(row[1] > *threshold)));
            }
            Self::Binary { threshold } => {
                let other = |p: f64| if single { f64::from(1.0 - p as f32) } else { 1.0 - p };
                scores.extend(node.iter().flat_map(|&positive| [other(positive), positive]));
                labels.extend(node.iter().map(|positive| u32::from(positive > threshold)));
            }
            Self::Multiclass { classes } => {
                scores.extend_from_slice(node);
                labels.extend(node.chunks_exact((*classes).max(1)).map(argmax));
            }
            Self::Values { .. } => scores.extend_from_slice(node),
        }
    }
}

/// The index of the greatest number, the first of equal ones, as numpy has it for numbers.
fn argmax(scores: &[f64]) -> u32 {
    let mut best = 0;
    for (index, score) in scores.iter().enumerate() {
        if *score > scores[best] {
            best = index;
        }
    }
    best as u32
}

/// The class that equals a scalar.
pub(crate) fn class_index(classes: &[Scalar], label: &Scalar) -> Option<u32> {
    classes.iter().position(|class| class.same(label)).map(|index| index as u32)
}
