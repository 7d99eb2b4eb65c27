//! A model package in, scores out.
//!
//! The code in the order in which a package passes through it:
//!
//! | module | what it does |
//! |---|---|
//! | `package` | a directory becomes bytes that are what the manifest says; [`check`] tells each step |
//! | `schema` | what a row looks like; a typed value becomes a number of the row ([`Feature::encode`]) |
//! | `reference` | the training data's profile |
//! | `suspicion` | which numbers are far from it |
//! | `columns` | what pipelines make of a row before a model reads it |
//! | `graph` | what is computed, node by node; [`lightgbm`] and [`xgboost`] read kinds of node |
//! | `engine` | how trees are evaluated |
//! | `output` | numbers become scores and labels |
//! | `batch` | the rows |
//!
//! Invariants, kept by what is not here: no tokio, tonic or OpenTelemetry, no clock, no IO after [`Model::load`], and
//! nothing of gRPC. A package is refused as a whole or is right as a whole; no input makes this crate panic. The format
//! is written down in `FORMAT.md`.
#![warn(missing_docs)]
#![expect(clippy::doc_markdown, reason = "LightGBM, AutoGluon and OpenTelemetry are names, not code")]

mod batch;
pub mod catboost;
mod check;
mod columns;
mod engine;
mod error;
pub mod forest;
mod graph;
mod json;
pub mod lightgbm;
mod linear;
mod link;
#[cfg(feature = "neural")]
pub mod mlp;
#[cfg(not(feature = "neural"))]
#[path = "mlp/absent.rs"]
pub mod mlp;
mod output;
mod package;
mod reference;
mod schema;
mod suspicion;
mod text;
pub mod xgboost;

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;

pub use batch::Batch;
pub use check::{Check, check};
pub use error::{LoadError, PredictError, SelfTestError, TextError};
pub use json::Scalar;
pub use link::Link;
pub use output::{Predictions, Task};
pub use package::{Listed, Manifest};
pub use reference::{CountProfile, NumericProfile, Profile, Quantiles, Reference, ScoreProfile};
pub use schema::{
    Bounds, DEFAULT_MAX_ROWS, DEFAULT_MAX_TEXT_BYTES, Feature, Kind, Limits, Policy, Refusal, Repair, RepairKind,
    Schema, Value,
};
pub use suspicion::{DEFAULT_Z_SCORE, OnSuspicious, Suspicion};

use graph::Graph;
use output::Output;
use package::files::{Files, read_manifest};
use package::golden::Golden;
use package::{GOLDEN, MANIFEST, REFERENCE, SCHEMA};

/// A model that was loaded from a package and checked as a whole.
#[derive(Debug)]
pub struct Model {
    manifest: Manifest,
    schema: Schema,
    reference: Reference,
    suspicion: Suspicion,
    graph: Graph,
    golden: Golden,
    output: Output,
    class_names: Vec<String>,
    schema_json: Vec<u8>,
    reference_json: Vec<u8>,
}

impl Model {
    /// Reads a package directory and checks it as a whole: format, files and hashes, schema, graph and its models,
    /// reference profile, golden rows. The golden rows are not predicted here: see [`self_test`](Model::self_test).
    ///
    /// # Errors
    /// When anything is missing, extra, changed or contradictory: names the file and the reason.
    pub fn load(dir: &Path) -> Result<Self, LoadError> {
        let manifest = Manifest::parse(&read_manifest(dir)?)?;
        let files = Files::read(dir, &manifest)?;
        Self::parse(manifest, files)
    }

    /// As [`load`](Model::load), from the contents of a package's files by path, `manifest.json` among them: what came by
    /// another way than a directory.
    ///
    /// # Errors
    /// As [`load`](Model::load).
    pub fn from_files(mut files: BTreeMap<String, Vec<u8>>) -> Result<Self, LoadError> {
        let missing = || LoadError::Missing { file: MANIFEST.to_owned() };
        let manifest = Manifest::parse(&files.remove(MANIFEST).ok_or_else(missing)?)?;
        let files = Files::given(files, &manifest)?;
        Self::parse(manifest, files)
    }

    fn parse(manifest: Manifest, mut files: Files) -> Result<Self, LoadError> {
        let schema = Schema::parse(files.get(SCHEMA)?)?;
        let graph = Graph::load(&mut files, &manifest, &schema)?;
        let reference = Reference::parse(files.get(REFERENCE)?, &schema)?;
        let golden = Golden::parse(files.get(GOLDEN)?, &manifest, &schema, &graph)?;
        Self::assemble(manifest, &mut files, schema, graph, reference, golden)
    }

    fn assemble(
        manifest: Manifest,
        files: &mut Files,
        schema: Schema,
        graph: Graph,
        reference: Reference,
        golden: Golden,
    ) -> Result<Self, LoadError> {
        Ok(Self {
            output: Output::new(&manifest),
            class_names: manifest.classes.iter().map(Scalar::to_text).collect(),
            schema_json: files.take(SCHEMA)?,
            reference_json: files.take(REFERENCE)?,
            suspicion: Suspicion::new(&schema, &reference),
            manifest,
            schema,
            reference,
            graph,
            golden,
        })
    }

    /// What the package says about itself.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// The model's name.
    pub fn name(&self) -> &str {
        &self.manifest.name
    }

    /// The version, a decimal integer.
    pub fn version(&self) -> &str {
        &self.manifest.version
    }

    /// What the model predicts.
    pub fn task(&self) -> Task {
        self.manifest.task
    }

    /// What a row looks like.
    pub fn schema(&self) -> &Schema {
        &self.schema
    }

    /// The training data's profile.
    pub fn reference(&self) -> &Reference {
        &self.reference
    }

    /// Which numbers are suspicious by the package, and what becomes of them.
    pub fn suspicion(&self) -> &Suspicion {
        &self.suspicion
    }

    /// The bytes of `schema.json`.
    pub fn schema_json(&self) -> &[u8] {
        &self.schema_json
    }

    /// The bytes of `reference.json`.
    pub fn reference_json(&self) -> &[u8] {
        &self.reference_json
    }

    /// The classes as text, in the order of the probabilities: strings as they are, others as JSON text. Empty unless
    /// the task is a classification.
    pub fn class_names(&self) -> &[String] {
        &self.class_names
    }

    /// Scores for one row: number of classes, 1, or number of quantile levels.
    pub fn width(&self) -> usize {
        self.output.width()
    }

    /// Predicts the package's golden rows on this machine and compares every node's output (to the bit, but for neural networks
    /// and linear models; see `FORMAT.md`), given the golden outputs of the nodes before it, and every label. Gives the number of rows.
    ///
    /// # Errors
    /// When a number or label differs from what the trainer's own library answered: the first one.
    pub fn self_test(&self) -> Result<usize, SelfTestError> {
        let batch = &self.golden.batch;
        let rows = batch.rows();
        let wrong = PredictError::Range { rows, start: 0, end: rows };
        let view = batch.view(0..rows).ok_or(wrong)?;
        let answers = self.graph.evaluate_each(view, &self.golden.nodes);
        for ((node, expected), answers) in self.graph.nodes().iter().zip(&self.golden.nodes).zip(answers) {
            for (position, (&expected, got)) in expected.iter().zip(answers).enumerate() {
                if !near(expected, got, node.tolerance()) {
                    let (row, index) = (position / node.width() + 1, position % node.width());
                    return Err(SelfTestError::Output { row, node: node.name().to_owned(), index, expected, got });
                }
            }
        }
        let mut predictions = Predictions::new();
        self.predict(batch, &mut predictions)?;
        for (index, (&expected, &got)) in self.golden.labels.iter().zip(&predictions.labels).enumerate() {
            if expected != got {
                let class = |label: u32| self.class_names.get(label as usize).cloned().unwrap_or_default();
                return Err(SelfTestError::Label { row: index + 1, expected: class(expected), got: class(got) });
            }
        }
        Ok(rows)
    }

    /// Predicts the rows of a batch, `[rows, features]`, in the order and units of the schema. `out` is cleared first.
    ///
    /// # Errors
    /// When the batch is not as wide as the schema.
    pub fn predict(&self, batch: &Batch, out: &mut Predictions) -> Result<(), PredictError> {
        out.clear();
        self.predict_rows(batch, 0..batch.rows(), out)
    }

    /// Predicts some rows of a batch and appends them to `out`, so that a caller can stop between blocks. `out` is
    /// cleared when it holds another model's predictions of another width.
    ///
    /// # Errors
    /// When the batch is not as wide as the schema, or the range reaches past its rows.
    pub fn predict_rows(&self, batch: &Batch, rows: Range<usize>, out: &mut Predictions) -> Result<(), PredictError> {
        let expected = self.schema.features().len();
        if batch.width() != expected {
            return Err(PredictError::Width { expected, got: batch.width() });
        }
        let (start, end) = (rows.start, rows.end);
        let view = batch.view(rows).ok_or(PredictError::Range { rows: batch.rows(), start, end })?;
        if out.width != self.output.width() {
            out.clear();
            out.width = self.output.width();
        }
        let Predictions { scores, labels, scratch, .. } = out;
        let (width, single) = (self.graph.output().width(), self.graph.output().is_single());
        self.graph
            .evaluate(view, scratch, |node| self.output.append(node, width, single, (&mut *scores, &mut *labels)));
        Ok(())
    }
}

/// Whether an answer is the trainer's: NaN equals NaN, and 0.0 equals -0.0.
fn near(expected: f64, got: f64, tolerance: f64) -> bool {
    let same = expected == got || (expected.is_nan() && got.is_nan());
    same || (tolerance > 0.0 && (expected - got).abs() <= tolerance * expected.abs().max(1.0))
}
