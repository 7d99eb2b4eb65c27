//! `graph.json`: what is computed from a row, node by node.

use std::collections::HashMap;

use serde::Deserialize;

use crate::batch::Rows;
use crate::error::ensure;
use crate::json;
use crate::lightgbm::Booster;
use crate::output::Output;
use crate::package::files::Files;
use crate::package::{GRAPH, Manifest};
use crate::text::shown;
use crate::{LoadError, Schema};

/// The nodes of a model in topological order.
#[derive(Debug)]
pub(crate) struct Graph {
    nodes: Vec<Node>,
    output: usize,
}

#[derive(Debug)]
pub(crate) struct Node {
    name: String,
    kind: NodeKind,
    /// Whether the output depends on it.
    needed: bool,
}

/// The node types. A new one adds a variant here and in [`RawNode`], reads the outputs of nodes before it in
/// [`Node::evaluate`], and names them in [`NodeKind::inputs`].
#[derive(Debug)]
enum NodeKind {
    LightGbm(Booster),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawGraph {
    nodes: Vec<RawNode>,
    output: String,
}

#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "lowercase", deny_unknown_fields)]
enum RawNode {
    LightGbm(RawLightGbm),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawLightGbm {
    name: String,
    model: String,
    features: Vec<String>,
}

impl Graph {
    /// Parses the file's bytes, and the files that the nodes name.
    pub(crate) fn load(files: &mut Files, manifest: &Manifest, schema: &Schema) -> Result<Self, LoadError> {
        let raw: RawGraph = json::parse(GRAPH, files.get(GRAPH)?)?;
        let mut by_name = HashMap::new();
        let mut nodes: Vec<Node> = Vec::with_capacity(raw.nodes.len());
        for RawNode::LightGbm(node) in raw.nodes {
            let expected = "[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}";
            ensure(is_node_name(&node.name), GRAPH, "a node's name", expected, || shown(&node.name))?;
            let again = || format!("{} twice", shown(&node.name));
            let before = by_name.insert(node.name.clone(), nodes.len());
            ensure(before.is_none(), GRAPH, "nodes", "each name once", again)?;
            let name = node.name.clone();
            nodes.push(Node { name, kind: NodeKind::LightGbm(node.load(files, schema)?), needed: false });
        }
        let Some(&output) = by_name.get(&raw.output) else {
            return Err(LoadError::invalid(GRAPH, "output", "the name of a node", shown(&raw.output)));
        };
        check_output(&nodes[output], manifest)?;
        // Backwards through the topological order: who reads a node comes after it.
        nodes[output].needed = true;
        for index in (0..=output).rev().filter(|&index| nodes[index].needed).collect::<Vec<_>>() {
            for input in nodes[index].kind.inputs().to_vec() {
                nodes[input].needed = true;
            }
        }
        Ok(Self { nodes, output })
    }

    /// The nodes, in order.
    pub(crate) fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// Evaluates what the output needs and gives the output node's numbers, `[rows, width]`.
    ///
    /// `outputs`: a buffer for each node, reused from call to call.
    pub(crate) fn evaluate<'a>(&self, rows: Rows<'_>, outputs: &'a mut Vec<Vec<f64>>) -> &'a [f64] {
        outputs.resize_with(self.nodes.len(), Vec::new);
        for (index, node) in self.nodes.iter().enumerate().filter(|(_, node)| node.needed) {
            let (before, rest) = outputs.split_at_mut(index);
            rest[0].clear();
            node.evaluate(rows, before, &mut rest[0]);
        }
        &outputs[self.output]
    }
}

impl Node {
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Numbers that the node gives for a row.
    pub(crate) fn width(&self) -> usize {
        match &self.kind {
            NodeKind::LightGbm(booster) => booster.outputs(),
        }
    }

    /// Trees and leaves.
    pub(crate) fn size(&self) -> (usize, usize) {
        match &self.kind {
            NodeKind::LightGbm(booster) => (booster.trees(), booster.leaves()),
        }
    }

    /// Appends the node's output, `[rows, width]`. `_before`: the outputs of the nodes before it.
    pub(crate) fn evaluate(&self, rows: Rows<'_>, _before: &[Vec<f64>], out: &mut Vec<f64>) {
        match &self.kind {
            NodeKind::LightGbm(booster) => booster.evaluate(rows, out),
        }
    }
}

impl NodeKind {
    /// The nodes that this one reads, all before it.
    fn inputs(&self) -> &[usize] {
        match self {
            Self::LightGbm(_) => &[],
        }
    }
}

impl RawLightGbm {
    fn load(self, files: &mut Files, schema: &Schema) -> Result<Booster, LoadError> {
        let place = format!("node {}", self.name);
        let inside = self.model.starts_with(&format!("nodes/{}/", self.name));
        let expected = format!("a path inside nodes/{}/", self.name);
        ensure(inside, GRAPH, &format!("{place}, model"), &expected, || shown(&self.model))?;
        let mut positions = Vec::with_capacity(self.features.len());
        for name in &self.features {
            let unknown =
                || LoadError::invalid(GRAPH, format!("{place}, features"), "a feature of schema.json", shown(name));
            positions.push(schema.index_of(name).ok_or_else(unknown)?);
        }
        let text = files.take(&self.model)?;
        Booster::parse_for(&text, positions).map_err(|source| LoadError::LightGbm { file: self.model, source })
    }
}

/// The output must be what the task is about.
fn check_output(node: &Node, manifest: &Manifest) -> Result<(), LoadError> {
    let (task, width) = (manifest.task, Output::new(manifest).node_width());
    let expected = format!("{width} numbers for task {}", task.as_str());
    ensure(node.width() == width, GRAPH, &format!("output {}", node.name), &expected, || node.width().to_string())?;
    let NodeKind::LightGbm(booster) = &node.kind;
    let probabilities = !task.is_classification() || booster.objective().is_probability();
    let what = format!("output {}, objective", node.name);
    let expected = format!("one that gives probabilities for task {}", task.as_str());
    ensure(probabilities, GRAPH, &what, &expected, || format!("{:?}", booster.objective()))
}

fn is_node_name(name: &str) -> bool {
    let tail = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    let first = |first: char| first.is_ascii_alphanumeric() || first == '_';
    name.len() <= 128 && name.starts_with(first) && name.bytes().all(tail)
}
