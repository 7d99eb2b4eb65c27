//! `graph.json`: what is computed from a row, node by node.
//!
//! A node reads features, columns and the outputs of nodes before it, and gives a few numbers for each row. Nothing here
//! knows a trainer's library: [`node`] reads the files, [`evaluator`] is what it asks of a model, [`combine`] is the arithmetic of the nodes
//! that only read nodes.

mod combine;
mod evaluator;
mod node;

use std::collections::HashMap;

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::batch::Rows;
use crate::columns::{Column, Names, RawColumn};
use crate::error::ensure;
use crate::json::{self, Few};
use crate::output::Output;
use crate::package::files::Files;
use crate::package::{GRAPH, Manifest};
use crate::text::shown;
use crate::{LoadError, Schema};
pub(crate) use node::Node;

/// Rows whose wide rows are in work together, and their doubles: they should stay in a core's caches.
const BLOCK: usize = 512;
const BLOCK_DOUBLES: usize = 1 << 17;

/// The nodes of a model in topological order.
#[derive(Debug)]
pub(crate) struct Graph {
    /// Columns that all nodes see.
    columns: Vec<Column>,
    nodes: Vec<Node>,
    by_name: HashMap<String, usize>,
    output: usize,
    /// Whether a node reads the columns that all nodes see: they are computed for it.
    wide: bool,
    /// Doubles of a row: features, and all columns.
    width: usize,
}

/// Memory of an evaluation, reused from call to call.
#[derive(Debug, Clone, Default)]
pub(crate) struct Scratch {
    /// `[rows, width]`.
    wide: Vec<f64>,
    /// For each node its outputs.
    outputs: Vec<Vec<f64>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawGraph<'a> {
    #[serde(default)]
    columns: Few<RawColumn>,
    #[serde(borrow)]
    nodes: Vec<&'a RawValue>,
    output: String,
}

impl Graph {
    /// Parses the file's bytes, and the files that the nodes name.
    pub(crate) fn load(files: &mut Files, manifest: &Manifest, schema: &Schema) -> Result<Self, LoadError> {
        let bytes = files.get(GRAPH)?.to_vec();
        let raw: RawGraph<'_> = json::parse(GRAPH, &bytes)?;
        let mut names = Names::new(schema.features().iter().map(crate::Feature::name));
        let columns = names.add("", raw.columns.0, None)?;
        let mut by_name: HashMap<String, usize> = HashMap::new();
        let mut nodes: Vec<Node> = Vec::with_capacity(raw.nodes.len());
        for text in raw.nodes {
            let find = |name: &str| by_name.get(name).map(|&index| (index, nodes[index].width()));
            let node = Node::load(text.get(), &mut names, &find, &nodes, files)?;
            by_name.insert(node.name().to_owned(), nodes.len());
            nodes.push(node);
        }
        let Some(&output) = by_name.get(&raw.output) else {
            return Err(LoadError::invalid(GRAPH, "output", "the name of a node", shown(&raw.output)));
        };
        check_output(&nodes[output], manifest)?;
        // Backwards through the topological order: who reads a node comes after it.
        let mut needed = vec![false; nodes.len()];
        needed[output] = true;
        for index in (0..=output).rev() {
            if needed[index] {
                nodes[index].inputs().for_each(|input| needed[input] = true);
                nodes[index].need();
            }
        }
        let features = schema.features().len();
        let wide = nodes.iter().any(Node::has_columns) || !columns.is_empty();
        let width = if wide { names.width() } else { features };
        Ok(Self { columns, nodes, by_name, output, wide, width })
    }

    /// The nodes, in order.
    pub(crate) fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// A node's place.
    pub(crate) fn place(&self, name: &str) -> Option<usize> {
        self.by_name.get(name).copied()
    }

    /// The node whose output is the model's.
    pub(crate) fn output(&self) -> &Node {
        &self.nodes[self.output]
    }

    /// Evaluates what the output needs, block by block, and hands on the output node's numbers of each block, `[rows, width]`.
    pub(crate) fn evaluate(&self, rows: Rows<'_>, scratch: &mut Scratch, mut hand_on: impl FnMut(&[f64])) {
        scratch.outputs.resize_with(self.nodes.len(), Vec::new);
        for rows in rows.blocks(self.block(rows)) {
            let Scratch { wide, outputs } = &mut *scratch;
            self.widen(rows, wide);
            for index in (0..self.nodes.len()).filter(|&index| self.nodes[index].is_needed()) {
                let (before, rest) = outputs.split_at_mut(index);
                rest[0].clear();
                self.node(index, rows, wide, before, &mut rest[0]);
            }
            hand_on(&outputs[self.output]);
        }
    }

    /// Evaluates each node by itself, given what the trainer's library says the nodes before it answer; `given`: for each
    /// node `[rows, width]`. Gives each node's own answer.
    pub(crate) fn evaluate_each(&self, rows: Rows<'_>, given: &[Vec<f64>]) -> Vec<Vec<f64>> {
        let mut wide = Vec::new();
        let mut before: Vec<Vec<f64>> = self.nodes.iter().map(|_| Vec::new()).collect();
        let mut answers = before.clone();
        let mut start = 0;
        for rows in rows.blocks(self.block(rows)) {
            let end = start + rows.len();
            for ((before, given), node) in before.iter_mut().zip(given).zip(&self.nodes) {
                before.clear();
                before.extend_from_slice(&given[start * node.width()..end * node.width()]);
            }
            self.widen(rows, &mut wide);
            for (index, answer) in answers.iter_mut().enumerate() {
                self.node(index, rows, &mut wide, &before, answer);
            }
            start = end;
        }
        answers
    }

    /// Rows that are evaluated together.
    fn block(&self, rows: Rows<'_>) -> usize {
        // Without columns there is nothing to keep near: engines have blocks of their own.
        if self.wide { (BLOCK_DOUBLES / self.width.max(1)).clamp(1, BLOCK) } else { rows.len().max(1) }
    }

    /// Rows with room for all columns, and the columns that all nodes see.
    fn widen(&self, rows: Rows<'_>, wide: &mut Vec<f64>) {
        wide.clear();
        if !self.wide {
            return;
        }
        for row in rows.iter() {
            let start = wide.len();
            wide.extend_from_slice(row);
            wide.resize(start + self.width, 0.0);
        }
        for column in &self.columns {
            column.compute(wide, self.width, &[]);
        }
    }

    /// Appends a node's output.
    fn node(&self, index: usize, rows: Rows<'_>, wide: &mut [f64], before: &[Vec<f64>], out: &mut Vec<f64>) {
        let node = &self.nodes[index];
        if self.wide {
            node.compute_columns(wide, self.width, before);
            node.evaluate(Rows::new(wide, self.width), before, out);
        } else {
            node.evaluate(rows, before, out);
        }
    }
}

/// The output must be what the task is about.
fn check_output(node: &Node, manifest: &Manifest) -> Result<(), LoadError> {
    let (task, output) = (manifest.task, Output::new(manifest));
    let what = format!("output {}", node.name());
    let expected = format!("{} numbers for task {}", output.node_width(), task.as_str());
    ensure(output.takes(node.width()), GRAPH, &what, &expected, || node.width().to_string())?;
    let expected = format!("one that gives probabilities for task {}", task.as_str());
    let fits = !task.is_classification() || node.gives_probabilities();
    ensure(fits, GRAPH, &format!("{what}, objective"), &expected, || "numbers that are none".to_owned())
}
