//! scikit-learn's forests, extra trees, gradient boosting and histogram gradient boosting, as arrays: read, checked, and
//! evaluated with scikit-learn's own arithmetic.
//!
//! Read at the source of scikit-learn 1.9: `tree/_tree.pyx` (a node), `ensemble/_forest.py` (sums and averages in
//! doubles, tree by tree), `ensemble/_gradient_boosting.pyx` (the initial value, then `learning_rate * value` tree by tree:
//! the arrays hold the product), `ensemble/_hist_gradient_boosting/_predictor.pyx` (categories).
//!
//! | input | `input` | `missing_left` | `start` | `average` |
//! |---|---|---|---|---|
//! | `RandomForest*`, `ExtraTrees*` | single | as in the tree | 0 | true |
//! | `GradientBoosting*` | single | none: NaN goes right | the initial value | false |
//! | `HistGradientBoosting*` | double | as in the tree | the baseline | false |

mod arrays;

use serde::Deserialize;

use crate::batch::Rows;
pub use crate::engine::deep::Way;
pub use crate::engine::ensemble::Precision;
use crate::engine::{Engine, deep};
use crate::{Batch, Link, PredictError, TextError};

/// How many numbers a leaf or a link may give for a row.
const MAX_OUTPUTS: usize = 1 << 16;

/// What `graph.json` says of a forest besides its arrays.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Spec {
    /// The precision to which values are rounded before they are compared with thresholds, which are doubles.
    pub input: Precision,
    /// What each sum begins with, one number for each output.
    pub start: Vec<f64>,
    /// Whether the sums are divided by the number of trees.
    pub average: bool,
    /// What becomes of the sums.
    #[serde(default)]
    pub link: Link,
}

/// A forest.
#[derive(Debug)]
pub struct Forest {
    engine: Box<dyn Engine>,
    columns: usize,
    sums: usize,
    outputs: usize,
    trees: usize,
    leaves: usize,
    average: bool,
    link: Link,
    probability: bool,
}

impl Forest {
    /// Reads the arrays of a model, for rows in which the model's columns lie at the given positions.
    ///
    /// # Errors
    /// When the arrays are not those of a forest, or contradict each other or `spec`; says where and why.
    pub fn load(bytes: &[u8], spec: Spec, positions: &[usize]) -> Result<Self, TextError> {
        let built = Self::load_in(bytes, spec, positions, Way::Fastest)?;
        built.ok_or_else(|| TextError::new("forest", "engine", "one for every forest", "none"))
    }

    /// As [`load`](Forest::load), to be evaluated in one way only; nothing when the forest is not for that way. For
    /// comparisons and benchmarks.
    ///
    /// # Errors
    /// As [`load`](Forest::load).
    pub fn load_in(bytes: &[u8], spec: Spec, positions: &[usize], way: Way) -> Result<Option<Self>, TextError> {
        let outputs = spec.link.outputs(spec.start.len()).filter(|_| (1..=MAX_OUTPUTS).contains(&spec.start.len()));
        let Some(outputs) = outputs else {
            let expected = match spec.link {
                Link::BinarySoftmax => "2 numbers for binary_softmax".to_owned(),
                _ => format!("1 to {MAX_OUTPUTS} numbers"),
            };
            return Err(TextError::new("start", "length", expected, spec.start.len()));
        };
        if let Some(start) = spec.start.iter().find(|start| !start.is_finite()) {
            return Err(TextError::new("start", "number", "finite numbers", start));
        }
        let (sums, average, link) = (spec.start.len(), spec.average, spec.link);
        let trees = arrays::read(bytes, spec, positions)?;
        // A mean of probabilities is one.
        let shares = average
            && link == Link::Identity
            && trees.start.iter().all(|start| *start == 0.0)
            && trees.values.iter().all(|value| (0.0..=1.0).contains(value));
        let (count, leaves) = (trees.len(), trees.leaves());
        let Some(engine) = deep::build(trees, way) else { return Ok(None) };
        Ok(Some(Self {
            engine,
            columns: positions.len(),
            sums,
            outputs,
            trees: count,
            leaves,
            average,
            link,
            probability: shares || link.is_probability(),
        }))
    }

    /// How the trees are evaluated, and what that takes, for people.
    pub fn engine(&self) -> String {
        self.engine.describe()
    }

    /// Columns of the model.
    pub fn columns(&self) -> usize {
        self.columns
    }

    /// Numbers that the model gives for a row.
    pub fn outputs(&self) -> usize {
        self.outputs
    }

    /// Number of trees.
    pub fn trees(&self) -> usize {
        self.trees
    }

    /// Number of leaves in all trees.
    pub fn leaves(&self) -> usize {
        self.leaves
    }

    /// Whether each output is a probability.
    pub fn is_probability(&self) -> bool {
        self.probability
    }

    /// Appends the outputs of a batch, `[rows, outputs]`: what scikit-learn predicts. For a forest that was loaded for
    /// rows that hold its columns and nothing else, in order.
    ///
    /// # Errors
    /// When the batch is not as wide as the model has columns.
    pub fn predict(&self, batch: &Batch, out: &mut Vec<f64>) -> Result<(), PredictError> {
        let wrong = PredictError::Width { expected: self.columns, got: batch.width() };
        if batch.width() != self.columns {
            return Err(wrong);
        }
        self.evaluate(batch.view(0..batch.rows()).ok_or(wrong)?, out);
        Ok(())
    }

    /// Appends the outputs of rows that hold the model's columns at their positions, `[rows, outputs]`.
    pub(crate) fn evaluate(&self, rows: Rows<'_>, out: &mut Vec<f64>) {
        let start = out.len();
        self.engine.margins(rows, out);
        if self.average {
            let trees = self.trees as f64;
            out[start..].iter_mut().for_each(|sum| *sum /= trees);
        }
        self.link.convert(out, start, self.sums);
    }
}
