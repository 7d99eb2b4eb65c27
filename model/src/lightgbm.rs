//! LightGBM's text model: read, checked, and evaluated with LightGBM's own arithmetic.
//!
//! Read at the source of LightGBM 4.x: `gbdt_model_text.cpp` (the file), `tree.h` and `tree.cpp` (a tree),
//! `gbdt_prediction.cpp` (sum, average, conversion) and `objective/*.hpp` (conversion).

mod objective;
mod parse;
mod section;

pub(crate) use objective::Objective;

pub use crate::TextError;
use crate::batch::Rows;
pub use crate::engine::Way;
#[cfg(test)]
use crate::engine::ensemble::Ensemble;
use crate::engine::{self, Engine};
use crate::{Batch, PredictError};

/// Trees and number of columns of a text model.
#[cfg(test)]
pub(crate) fn ensemble(text: &[u8]) -> Result<(Ensemble, usize), TextError> {
    parse::parse(text).map(|parsed| (parsed.ensemble, parsed.columns))
}

/// A LightGBM model.
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
    /// Iterations to divide by, for random forests.
    average: Option<f64>,
}

impl Shape {
    fn new(parsed: &parse::Parsed) -> Self {
        let trees = parsed.ensemble.trees().len();
        let outputs = parsed.ensemble.outputs();
        Self {
            columns: parsed.columns,
            outputs,
            trees,
            leaves: parsed.ensemble.trees().iter().map(|tree| tree.leaves().len()).sum(),
            objective: parsed.objective,
            average: parsed.average.then_some((trees / outputs) as f64),
        }
    }
}

impl Booster {
    /// Reads a text model (`version=v3` or `v4`) whose columns are the values of a row, in order.
    ///
    /// # Errors
    /// When the text is not a model, or one that cannot be evaluated exactly; says where and why.
    pub fn parse(text: &[u8]) -> Result<Self, TextError> {
        let parsed = parse::parse(text)?;
        let columns = (0..parsed.columns).collect();
        Ok(Self::new(parsed, columns))
    }

    /// As [`parse`](Booster::parse), to be evaluated in one way only; nothing when the model is not for that way, as with
    /// trees of very many leaves. For comparisons and benchmarks.
    ///
    /// # Errors
    /// As [`parse`](Booster::parse).
    pub fn parse_in(text: &[u8], way: Way) -> Result<Option<Self>, TextError> {
        let parsed = parse::parse(text)?;
        let columns = (0..parsed.columns).collect();
        Ok(Self::build(parsed, columns, way))
    }

    /// As [`parse`](Booster::parse), for rows in which the model's columns lie at the given positions.
    pub(crate) fn parse_for(text: &[u8], positions: Vec<usize>) -> Result<Self, TextError> {
        let parsed = parse::parse(text)?;
        if parsed.columns != positions.len() {
            let expected = format!("{} columns (features of the node)", positions.len());
            return Err(TextError::new("header", "max_feature_idx", expected, format!("{} columns", parsed.columns)));
        }
        Ok(Self::new(parsed, positions))
    }

    fn new(parsed: parse::Parsed, positions: Vec<usize>) -> Self {
        let shape = Shape::new(&parsed);
        Self { engine: engine::fastest(parsed.ensemble, positions), shape }
    }

    fn build(parsed: parse::Parsed, positions: Vec<usize>, way: Way) -> Option<Self> {
        let shape = Shape::new(&parsed);
        Some(Self { engine: engine::build(parsed.ensemble, positions, way)?, shape })
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

    /// How margins become the output.
    pub(crate) fn objective(&self) -> Objective {
        self.shape.objective
    }

    /// Appends the raw margins of a batch, `[rows, outputs]`: what LightGBM predicts with `raw_score=True`.
    ///
    /// # Errors
    /// When the batch is not as wide as the model has columns.
    pub fn margins(&self, batch: &Batch, out: &mut Vec<f64>) -> Result<(), PredictError> {
        self.engine.margins(self.rows(batch)?, out);
        Ok(())
    }

    /// Appends the outputs of a batch, `[rows, outputs]`: what LightGBM predicts.
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
            if let Some(iterations) = self.shape.average {
                for margin in &mut *row {
                    *margin /= iterations;
                }
            }
            self.shape.objective.convert(row);
        }
    }
}
