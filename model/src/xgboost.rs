//! XGBoost's models as JSON and UBJSON: read, checked, and evaluated with XGBoost's own arithmetic.
//!
//! Read at the source of XGBoost 1.6 to 3.2: `learner.cc`, `gbtree_model.cc` and `tree_model.cc` (the file), `json.cc` (its two
//! forms), `predict_fn.h` (a node), `predictor.cc` (where a sum begins), `objective/*` and `math.h` (links).
//!
//! Everything is in single precision: a row's values are rounded to it, go left if they are below the threshold, and the
//! leaves are added to the base margin in the order of the trees. NaN is missing and goes to the node's default side.

mod objective;
mod parse;
mod raw;
mod ubjson;

pub use crate::TextError;
use crate::batch::Rows;
pub use crate::engine::Way;
use crate::engine::{self, Engine};
use crate::{Batch, PredictError};
pub(crate) use objective::Objective;

/// Trees and number of columns of a model.
#[cfg(test)]
pub(crate) fn ensemble(bytes: &[u8]) -> Result<(engine::ensemble::Ensemble, usize), TextError> {
    parse::parse(bytes).map(|parsed| (parsed.ensemble, parsed.columns))
}

/// An XGBoost model (`gbtree`).
#[derive(Debug)]
pub struct Booster {
    engine: Box<dyn Engine>,
    shape: Shape,
}

/// The sizes of a model, and how its margins become its output.
#[derive(Debug, Clone)]
struct Shape {
    columns: usize,
    outputs: usize,
    trees: usize,
    leaves: usize,
    objective: Objective,
}

impl Shape {
    fn new(parsed: &parse::Parsed) -> Self {
        let trees = parsed.ensemble.trees();
        Self {
            columns: parsed.columns,
            outputs: parsed.ensemble.outputs(),
            trees: trees.len(),
            leaves: trees.iter().map(|tree| tree.leaves().len()).sum(),
            objective: parsed.objective,
        }
    }
}

impl Booster {
    /// Reads a model as JSON or UBJSON, told apart by the first bytes, whose columns are the values of a row, in order.
    ///
    /// # Errors
    /// When the bytes are not a model, or one that cannot be evaluated exactly; says where and why.
    pub fn parse(bytes: &[u8]) -> Result<Self, TextError> {
        let parsed = parse::parse(bytes)?;
        let columns = (0..parsed.columns).collect();
        Ok(Self::new(parsed, columns))
    }

    /// As [`parse`](Booster::parse), to be evaluated in one way only; nothing when the model is not for that way, as with
    /// trees of very many leaves. For comparisons and benchmarks.
    ///
    /// # Errors
    /// As [`parse`](Booster::parse).
    pub fn parse_in(bytes: &[u8], way: Way) -> Result<Option<Self>, TextError> {
        let parsed = parse::parse(bytes)?;
        let columns = (0..parsed.columns).collect();
        let shape = Shape::new(&parsed);
        Ok(engine::build(parsed.ensemble, columns, way).map(|engine| Self { engine, shape }))
    }

    /// As [`parse`](Booster::parse), for rows in which the model's columns lie at the given positions.
    pub(crate) fn parse_for(bytes: &[u8], positions: Vec<usize>) -> Result<Self, TextError> {
        let parsed = parse::parse(bytes)?;
        if parsed.columns != positions.len() {
            let expected = format!("{} columns (features of the node)", positions.len());
            let got = format!("{} columns", parsed.columns);
            return Err(TextError::new("learner_model_param", "num_feature", expected, got));
        }
        Ok(Self::new(parsed, positions))
    }

    fn new(parsed: parse::Parsed, positions: Vec<usize>) -> Self {
        let shape = Shape::new(&parsed);
        Self { engine: engine::fastest(parsed.ensemble, positions), shape }
    }

    /// How the trees are evaluated, and what that takes, for people.
    pub fn engine(&self) -> String {
        self.engine.describe()
    }

    /// Columns of the model.
    pub fn columns(&self) -> usize {
        self.shape.columns
    }

    /// Numbers that the model gives for a row.
    pub fn outputs(&self) -> usize {
        self.shape.outputs
    }

    /// Number of trees.
    pub fn trees(&self) -> usize {
        self.shape.trees
    }

    /// Number of leaves in all trees.
    pub fn leaves(&self) -> usize {
        self.shape.leaves
    }

    /// Whether each output is a probability.
    pub(crate) fn is_probability(&self) -> bool {
        self.shape.objective.is_probability()
    }

    /// Appends the raw margins of a batch, `[rows, outputs]`: what XGBoost predicts with `output_margin=True`. They are
    /// of single precision.
    ///
    /// # Errors
    /// When the batch is not as wide as the model has columns.
    pub fn margins(&self, batch: &Batch, out: &mut Vec<f64>) -> Result<(), PredictError> {
        self.engine.margins(self.rows(batch)?, out);
        Ok(())
    }

    /// Appends the outputs of a batch, `[rows, outputs]`: what XGBoost predicts, of single precision. `multi:softmax` gives
    /// the probabilities, too.
    ///
    /// # Errors
    /// When the batch is not as wide as the model has columns.
    pub fn predict(&self, batch: &Batch, out: &mut Vec<f64>) -> Result<(), PredictError> {
        self.evaluate(self.rows(batch)?, out);
        Ok(())
    }

    fn rows<'a>(&self, batch: &'a Batch) -> Result<Rows<'a>, PredictError> {
        let wrong = PredictError::Width { expected: self.shape.columns, got: batch.width() };
        if batch.width() != self.shape.columns {
            return Err(wrong);
        }
        batch.view(0..batch.rows()).ok_or(wrong)
    }

    /// Appends the outputs of rows that hold the model's columns at their positions.
    pub(crate) fn evaluate(&self, rows: Rows<'_>, out: &mut Vec<f64>) {
        let start = out.len();
        self.engine.margins(rows, out);
        for row in out[start..].chunks_exact_mut(self.shape.outputs.max(1)) {
            self.shape.objective.convert(row);
        }
    }
}
