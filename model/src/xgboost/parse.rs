//! A file becomes trees that cannot be wrong.

use super::Objective;
use super::raw::{self, Flag};
use super::ubjson;
use crate::TextError;
use crate::engine::ensemble::{Child, Ensemble, Missing, Node, Precision, Split, Tree};
use crate::text::shown;

/// Levels of a tree: a chain of thousands of nodes is an attack on the latency of every request.
const MAX_DEPTH: u32 = 512;

/// Columns of a model: nothing else in a file bounds them.
const MAX_COLUMNS: usize = 1 << 20;

/// A model as it was read.
#[derive(Debug)]
pub(super) struct Parsed {
    pub(super) ensemble: Ensemble,
    pub(super) columns: usize,
    pub(super) objective: Objective,
}

/// Reads and checks a whole file.
pub(super) fn parse(bytes: &[u8]) -> Result<Parsed, TextError> {
    check(read(bytes)?)
}

/// UBJSON begins with `{` and the type of the first key's length, JSON with `{` and a quote, or with white space.
fn read(bytes: &[u8]) -> Result<raw::Model, TextError> {
    match bytes {
        [b'{', kind, ..] if kind.is_ascii_alphabetic() => ubjson::read(bytes).map_err(|(offset, error)| {
            TextError::new("UBJSON", format!("byte {offset}"), "an XGBoost model", said(&error.to_string()))
        }),
        _ => serde_json::from_slice(bytes).map_err(|error| {
            let place = format!("line {} column {}", error.line(), error.column());
            TextError::new("JSON", place, "an XGBoost model", said(&error.to_string()))
        }),
    }
}

/// A parser's message, which may quote the file.
fn said(message: &str) -> String {
    message.chars().take(200).flat_map(char::escape_debug).collect()
}

fn check(model: raw::Model) -> Result<Parsed, TextError> {
    let raw::Learner { learner_model_param: params, objective, gradient_booster: booster } = model.learner;
    let major = model.version.first().copied().unwrap_or(0);
    if !(1..=3).contains(&major) {
        return Err(TextError::new(
            "model",
            "version",
            "1.6 to 3",
            format!("{:?}", &model.version[..model.version.len().min(3)]),
        ));
    }
    if booster.name != "gbtree" {
        return Err(TextError::new("gradient_booster", "name", "gbtree", shown(&booster.name)));
    }
    let Some(trees) = booster.model else {
        return Err(TextError::new("gradient_booster", "model", "trees", "nothing"));
    };
    if let Some(weight) = trees.weight_drop.iter().find(|weight| **weight != 1.0) {
        return Err(TextError::new(
            "gradient_booster",
            "weight_drop",
            "1 for each tree: dart is not supported",
            weight,
        ));
    }
    let outputs = params.num_class.0.max(params.num_target.0).max(1);
    if params.num_class.0 > 1 && params.num_target.0 > 1 {
        let got = format!("num_class {} and num_target {}", params.num_class.0, params.num_target.0);
        return Err(TextError::new("learner_model_param", "outputs", "several classes or several targets", got));
    }
    let objective = Objective::parse(&objective.name, major, params.num_class.0)
        .map_err(|expected| TextError::new("objective", "name", expected, shown(&objective.name)))?;
    let columns = params.num_feature.0;
    if columns == 0 || columns > MAX_COLUMNS {
        return Err(TextError::new("learner_model_param", "num_feature", format!("1 to {MAX_COLUMNS}"), columns));
    }
    let trees = dealt(trees, outputs, columns)?;
    let start = start(&params.base_score, objective, outputs)?;
    let ensemble = Ensemble { trees, start, sum: Precision::Single, input: Precision::Single, tiny: -1.0 };
    Ok(Parsed { ensemble, columns, objective })
}

/// The base margin of each output, from a number or an array of numbers.
fn start(text: &str, objective: Objective, outputs: usize) -> Result<Vec<f64>, TextError> {
    let wrong = |expected: &str| TextError::new("learner_model_param", "base_score", expected, shown(text));
    let inside = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    let numbers: Option<Vec<f32>> = inside.unwrap_or(text).split(',').map(|word| word.trim().parse().ok()).collect();
    let numbers = numbers.filter(|numbers| numbers.iter().all(|number| number.is_finite()));
    let numbers = numbers.ok_or_else(|| wrong("a finite number, or an array of them"))?;
    let margins: Option<Vec<f64>> = numbers.iter().map(|base| objective.margin(*base).map(f64::from)).collect();
    match margins.ok_or_else(|| wrong("numbers in the range of the objective"))? {
        margins if margins.len() == outputs => Ok(margins),
        margins if margins.len() == 1 => Ok(vec![margins[0]; outputs]),
        _ => Err(wrong(&format!("one number, or {outputs}"))),
    }
}

/// The trees in the order of an ensemble.
fn dealt(raw: raw::Trees, outputs: usize, columns: usize) -> Result<Vec<Tree>, TextError> {
    let count = raw.trees.len();
    let claimed = raw.gbtree_model_param.map_or(count, |params| params.num_trees.0);
    for (what, got) in [("num_trees", claimed), ("tree_info", raw.tree_info.len())] {
        if got != count {
            return Err(TextError::new("gradient_booster", what, format!("{count} (trees)"), got));
        }
    }
    let vectors = raw.trees.iter().position(|tree| tree.tree_param.size_leaf_vector.0 > 1);
    if let Some(index) = vectors {
        let expected = "at most 1: vectors in leaves are not supported";
        let got = raw.trees[index].tree_param.size_leaf_vector.0;
        return Err(TextError::new(&format!("tree {index}"), "size_leaf_vector", expected, got));
    }
    // As many for each output, so that what is allocated by output is not more than the file holds.
    let expected = || format!("as many trees for each of {outputs} outputs, at least one");
    if count == 0 || !count.is_multiple_of(outputs) {
        return Err(TextError::new("gradient_booster", "trees", expected(), count));
    }
    let mut counts = vec![0; outputs];
    for output in &raw.tree_info {
        let Some(count) = counts.get_mut(*output as usize) else {
            return Err(TextError::new("gradient_booster", "tree_info", format!("below {outputs}"), output));
        };
        *count += 1;
    }
    if let Some(output) = counts.iter().position(|trees| trees * outputs != count) {
        let got = format!("{} for output {output}", counts[output]);
        return Err(TextError::new("gradient_booster", "tree_info", expected(), got));
    }
    let mut trees = Vec::with_capacity(count);
    for (index, (tree, output)) in raw.trees.into_iter().zip(raw.tree_info).enumerate() {
        trees.push((output as usize, checked(&format!("tree {index}"), &tree, columns)?));
    }
    Ok(Ensemble::deal(trees, outputs))
}

/// Builds one tree: what its root reaches. Pruned nodes stay in XGBoost's arrays and are not reached.
fn checked(place: &str, raw: &raw::Tree, columns: usize) -> Result<Tree, TextError> {
    let wrong = |what: &str, expected: String, got: String| TextError::new(place, what, expected, got);
    let count = raw.tree_param.num_nodes.0;
    let lengths = [
        ("left_children", raw.left_children.len()),
        ("right_children", raw.right_children.len()),
        ("split_indices", raw.split_indices.len()),
        ("split_conditions", raw.split_conditions.len()),
        ("default_left", raw.default_left.len()),
        ("split_type", if raw.split_type.is_empty() { count } else { raw.split_type.len() }),
    ];
    if let Some((what, length)) = lengths.into_iter().find(|(_, length)| *length != count || count == 0) {
        return Err(wrong(what, format!("{count} numbers (num_nodes), at least one"), length.to_string()));
    }
    let mut builder = Builder { place, raw, columns, seen: vec![false; count], nodes: Vec::new(), leaves: Vec::new() };
    let mut reached = 1;
    builder.seen[0] = true;
    if let Child::Node(root) = builder.child(0)? {
        // Nodes in the order in which they are given out: children come after their parent.
        let mut open = vec![(root, 1)];
        let mut next = 0;
        while let Some(&(node, depth)) = open.get(next) {
            next += 1;
            if depth > MAX_DEPTH {
                return Err(wrong("depth", format!("at most {MAX_DEPTH}"), depth.to_string()));
            }
            reached += 2;
            let mut children = [Child::Leaf(0); 2];
            for (child, number) in children.iter_mut().zip(builder.children(node as usize)?) {
                *child = match builder.child(number)? {
                    Child::Leaf(leaf) => Child::Leaf(leaf),
                    Child::Node(node) => {
                        open.push((node, depth + 1));
                        Child::Node(open.len() as u32 - 1)
                    }
                };
            }
            let node = builder.node(node as usize, children)?;
            builder.nodes.push(node);
        }
    }
    if count - reached != raw.tree_param.num_deleted.0 {
        let expected = format!("{} (num_deleted)", raw.tree_param.num_deleted.0);
        return Err(wrong("nodes that the root does not reach", expected, (count - reached).to_string()));
    }
    Ok(Tree::new(builder.nodes, builder.leaves))
}

struct Builder<'a> {
    place: &'a str,
    raw: &'a raw::Tree,
    columns: usize,
    /// Which nodes have a parent.
    seen: Vec<bool>,
    nodes: Vec<Node>,
    leaves: Vec<f64>,
}

impl Builder<'_> {
    /// The numbers of a node's children, which have no other parent.
    fn children(&mut self, node: usize) -> Result<[usize; 2], TextError> {
        let (left, right) = (self.raw.left_children[node], self.raw.right_children[node]);
        let what = || format!("children of node {node}");
        // XGBoost takes the right child to be the one after the left, whatever the file says.
        if left <= 0 || left.checked_add(1) != Some(right) || right as usize >= self.seen.len() {
            let expected = format!("two neighbours from 1, below {}", self.seen.len());
            return Err(TextError::new(self.place, what(), expected, format!("{left} and {right}")));
        }
        let children = [left as usize, right as usize];
        for child in children {
            if std::mem::replace(&mut self.seen[child], true) {
                return Err(TextError::new(self.place, what(), "children without another parent", child));
            }
        }
        Ok(children)
    }

    /// A leaf, whose value is taken; or the number of an inner node.
    fn child(&mut self, node: usize) -> Result<Child, TextError> {
        if self.raw.left_children[node] != -1 {
            return Ok(Child::Node(node as u32));
        }
        let value = self.raw.split_conditions[node];
        if self.raw.right_children[node] != -1 {
            let got = self.raw.right_children[node];
            return Err(TextError::new(self.place, format!("right child of leaf {node}"), "-1", got));
        }
        if !value.is_finite() {
            return Err(TextError::new(self.place, format!("value of leaf {node}"), "a finite number", value));
        }
        self.leaves.push(f64::from(value));
        Ok(Child::Leaf(self.leaves.len() as u32 - 1))
    }

    fn node(&self, node: usize, [left, right]: [Child; 2]) -> Result<Node, TextError> {
        let wrong = |what: &str, expected: &str, got: String| {
            TextError::new(self.place, format!("{what} of node {node}"), expected, got)
        };
        let column = self.raw.split_indices[node];
        if column as usize >= self.columns {
            let expected = format!("below {} (num_feature)", self.columns);
            return Err(wrong("split_indices", &expected, column.to_string()));
        }
        if let Some(kind) = self.raw.split_type.get(node).filter(|kind| **kind != 0) {
            return Err(wrong("split_type", "0: splits by category are not supported", kind.to_string()));
        }
        let threshold = self.raw.split_conditions[node];
        // Below minus infinity is nothing, and there is no number before it.
        if threshold.is_nan() || threshold == f32::NEG_INFINITY {
            return Err(wrong("split_conditions", "a number greater than -inf", threshold.to_string()));
        }
        // Left if below the threshold, thus if at most the float before it.
        let threshold = f64::from(threshold.next_down());
        let Flag(default_left) = self.raw.default_left[node];
        Ok(Node { column, split: Split::Numeric { threshold, missing: Missing::NaN, default_left }, left, right })
    }
}
