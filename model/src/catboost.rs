//! CatBoost's JSON model: read, checked, and evaluated with CatBoost's own arithmetic.
//!
//! Read at the source of CatBoost 1.2: `json_model_helpers.cpp` (the file), `evaluator_impl.cpp` and `quantization.h` (the
//! trees), `ctr_provider` and `online_ctr.h` (the statistics of categories), `eval_helpers.cpp` and `fast_exp` (the
//! output). CatBoost itself reads the file's decimals with errors in the last place: a model that went through its JSON
//! reader is not quite the model that was trained. This reads them exactly, and gives what the trained model gives.

mod build;
mod model;
mod objective;
mod parse;
mod raw;
mod reference;

pub(crate) use objective::Objective;

use std::fmt::Display;

use crate::batch::Rows;
use crate::engine::Engine;
use crate::engine::oblivious::{Oblivious, Rowwise, Walk, WalkTree};
use crate::{Batch, PredictError};
use build::Slots;
use model::{Model, Tree};
use parse::Parsed;
use reference::Reference;

/// Bytes that the tables of codes may take for each byte of the file and of the hashes.
const BUDGET: usize = 4;

/// Why a file is not a model that can be evaluated exactly.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ParseError {
    /// Not JSON, or not the keys and types of CatBoost's format.
    #[error("not CatBoost's JSON format: {0}")]
    Json(serde_json::Error),
    /// A value that contradicts the format or another value.
    #[error("{place}: {what}: expected {expected}, got {got}")]
    Invalid {
        /// `float feature 3`, `ctr 12`, `tree 17`.
        place: String,
        /// The key.
        what: String,
        /// What would fit.
        expected: String,
        /// What is there.
        got: String,
    },
}

impl ParseError {
    fn invalid(place: impl Into<String>, what: &str, expected: impl Into<String>, got: impl Display) -> Self {
        let got = got.to_string();
        Self::Invalid { place: place.into(), what: what.to_owned(), expected: expected.into(), got }
    }
}

/// CatBoost's 32-bit hashes of a categorical feature's values: the low half of the CityHash64 (version 1.0) of their text.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Hashes {
    /// Of each category, by code.
    pub codes: Vec<u32>,
    /// Of a missing value.
    pub missing: u32,
    /// Of a value that is none of the categories.
    pub unseen: u32,
}

/// How a model is evaluated. All ways give the same bits; they differ in speed and memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum Way {
    /// What is cheapest for the model and the number of rows.
    #[default]
    Fastest,
    /// Oblivious trees, row by row.
    Rows,
    /// Oblivious trees, blocks of rows.
    Blocks,
    /// Node by node over codes.
    Walk,
    /// As CatBoost wrote it, condition by condition.
    Reference,
}

/// A CatBoost model.
#[derive(Debug)]
pub struct Booster {
    engine: Box<dyn Engine>,
    shape: Shape,
}

impl Booster {
    /// Reads a JSON model whose columns, by flat feature index, are the values of a row, in order. `hashes`: for each
    /// categorical feature, in the order of the file.
    ///
    /// A number is rounded to single precision first. A category is its code: a whole number from 0 on; NaN is missing,
    /// anything else unseen.
    ///
    /// # Errors
    /// When the file is not a model, or one that cannot be evaluated exactly; says where and why.
    pub fn parse(bytes: &[u8], hashes: &[Hashes]) -> Result<Self, ParseError> {
        let parsed = parse::parse(bytes, hashes, None)?;
        Ok(Self::new(parsed, budget(bytes, hashes)))
    }

    /// As [`parse`](Booster::parse), to be evaluated in one way only; nothing when the model is not for that way, as with
    /// trees that are not symmetric. For comparisons and benchmarks.
    ///
    /// # Errors
    /// As [`parse`](Booster::parse).
    pub fn parse_in(bytes: &[u8], hashes: &[Hashes], way: Way) -> Result<Option<Self>, ParseError> {
        let parsed = parse::parse(bytes, hashes, None)?;
        Ok(Self::build(parsed, budget(bytes, hashes), way))
    }

    /// As [`parse`](Booster::parse), for rows in which the column of each flat feature index lies at the given position.
    pub(crate) fn parse_for(bytes: &[u8], positions: &[usize], hashes: &[Hashes]) -> Result<Self, ParseError> {
        let parsed = parse::parse(bytes, hashes, Some(positions))?;
        Ok(Self::new(parsed, budget(bytes, hashes)))
    }

    fn new(parsed: Parsed, budget: usize) -> Self {
        let Parsed { model, columns, objective, scale, bias } = parsed;
        let shape = Shape::new(&model, columns, objective, scale, bias);
        Self { engine: fastest(model, budget), shape }
    }

    fn build(parsed: Parsed, budget: usize, way: Way) -> Option<Self> {
        let Parsed { model, columns, objective, scale, bias } = parsed;
        let shape = Shape::new(&model, columns, objective, scale, bias);
        let engine = match way {
            Way::Fastest => fastest(model, budget),
            Way::Reference => Box::new(Reference::new(model)),
            Way::Walk => walk(Slots::new(&model, budget)?, model),
            Way::Rows | Way::Blocks => {
                let slots = Slots::new(&model, budget)?;
                let rowwise = if way == Way::Rows { Rowwise::Always } else { Rowwise::Never };
                is_oblivious(&slots, &model).then(|| oblivious(slots, model, rowwise))?
            }
        };
        Some(Self { engine, shape })
    }

    /// How the trees are evaluated, and what that takes, for people.
    pub fn engine(&self) -> String {
        self.engine.describe()
    }

    /// Columns of the model: one more than its last flat feature index.
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

    /// Whether each output is a probability: of the positive class, if there is one output.
    pub fn is_probability(&self) -> bool {
        self.shape.objective.is_probability()
    }

    /// Appends the raw margins of a batch, `[rows, outputs]`: what CatBoost predicts as `RawFormulaVal`.
    ///
    /// # Errors
    /// When the batch is not as wide as the model has columns.
    pub fn margins(&self, batch: &Batch, out: &mut Vec<f64>) -> Result<(), PredictError> {
        let start = out.len();
        self.engine.margins(self.rows(batch)?, out);
        self.shape.scale(&mut out[start..]);
        Ok(())
    }

    /// Appends the outputs of a batch, `[rows, outputs]`: what CatBoost's `predict_proba` gives, without the negative class
    /// if there are two of them, or its `predict` for numbers.
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
        self.shape.scale(&mut out[start..]);
        if self.shape.objective != Objective::Identity {
            for row in out[start..].chunks_exact_mut(self.shape.outputs) {
                self.shape.objective.convert(row);
            }
        }
    }
}

/// The sizes of a model, and how its sums become its output.
#[derive(Debug)]
struct Shape {
    columns: usize,
    outputs: usize,
    trees: usize,
    leaves: usize,
    objective: Objective,
    scale: f64,
    /// For each output.
    bias: Vec<f64>,
}

impl Shape {
    fn new(model: &Model, columns: usize, objective: Objective, scale: f64, bias: Vec<f64>) -> Self {
        let leaves = model.trees.iter().map(|tree| tree.leaves().len() / model.outputs).sum();
        Self { columns, outputs: model.outputs, trees: model.trees.len(), leaves, objective, scale, bias }
    }

    /// The margins of the sums.
    fn scale(&self, sums: &mut [f64]) {
        if self.scale == 1.0 && self.bias.iter().all(|bias| *bias == 0.0) {
            return;
        }
        for row in sums.chunks_exact_mut(self.outputs) {
            for (sum, bias) in row.iter_mut().zip(&self.bias) {
                *sum = self.scale * *sum + bias;
            }
        }
    }
}

fn budget(bytes: &[u8], hashes: &[Hashes]) -> usize {
    let hashes: usize = hashes.iter().map(|hashes| 4 * hashes.codes.len()).sum();
    BUDGET.saturating_mul(bytes.len().saturating_add(hashes))
}

fn fastest(model: Model, budget: usize) -> Box<dyn Engine> {
    match Slots::new(&model, budget) {
        Some(slots) if is_oblivious(&slots, &model) => oblivious(slots, model, Rowwise::Few),
        Some(slots) => walk(slots, model),
        None => Box::new(Reference::new(model)),
    }
}

fn is_oblivious(slots: &Slots, model: &Model) -> bool {
    let takes = |tree: &Tree| matches!(tree, Tree::Oblivious { splits, .. } if Oblivious::takes(splits.len()));
    Oblivious::takes_slots(&slots.codes) && model.trees.iter().all(takes)
}

fn oblivious(slots: Slots, model: Model, rowwise: Rowwise) -> Box<dyn Engine> {
    let tree = |tree| match slots.tree(tree) {
        WalkTree::Levels(tree) => Some(tree),
        WalkTree::Nodes { .. } => None,
    };
    let trees = model.trees.into_iter().filter_map(tree).collect();
    Box::new(Oblivious::new(slots.codes, trees, model.outputs, rowwise))
}

fn walk(slots: Slots, model: Model) -> Box<dyn Engine> {
    let trees = model.trees.into_iter().map(|tree| slots.tree(tree)).collect();
    Box::new(Walk::new(slots.codes, trees, model.outputs))
}
