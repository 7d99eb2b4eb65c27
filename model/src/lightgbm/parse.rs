//! The text of a model becomes trees that cannot be wrong.
//!
//! Nothing is allocated by a number that the text only claims: every list is as long as the text that holds it.

use super::Objective;
use super::section::{Lines, Section};
use crate::TextError;
use crate::engine::ensemble::{Child, Ensemble, Missing, Node, Split, Tree};
use crate::text::shown;

/// Levels of a tree. LightGBM's leaf-wise trees of 63 leaves are about 20 deep; a chain of thousands of nodes is an
/// attack on the latency of every request.
const MAX_DEPTH: u32 = 512;

/// Values this near to zero are zero. LightGBM's constant (`kZeroThreshold`, meta.h) is a float widened to a double.
const ZERO: f64 = 1e-35_f32 as f64;

const HEADER_KEYS: [&str; 11] = [
    "version",
    "num_class",
    "num_tree_per_iteration",
    "label_index",
    "max_feature_idx",
    "objective",
    "average_output",
    "feature_names",
    "monotone_constraints",
    "feature_infos",
    "tree_sizes",
];

const TREE_KEYS: [&str; 22] = [
    "num_leaves",
    "num_cat",
    "split_feature",
    "split_gain",
    "threshold",
    "decision_type",
    "left_child",
    "right_child",
    "leaf_value",
    "leaf_weight",
    "leaf_count",
    "internal_value",
    "internal_weight",
    "internal_count",
    "cat_boundaries",
    "cat_threshold",
    "is_linear",
    "shrinkage",
    // Only in linear trees, which are refused by `is_linear`.
    "leaf_const",
    "num_features",
    "leaf_features",
    "leaf_coeff",
];

/// A model as it was read.
#[derive(Debug)]
pub(super) struct Parsed {
    pub(super) ensemble: Ensemble,
    pub(super) columns: usize,
    pub(super) objective: Objective,
    pub(super) average: bool,
}

/// Reads and checks a whole text.
pub(super) fn parse(bytes: &[u8]) -> Result<Parsed, TextError> {
    let text = std::str::from_utf8(bytes).map_err(|error| {
        TextError::new("header", "text", "UTF-8", format!("other bytes at {}", error.valid_up_to()))
    })?;
    let mut lines = Lines { rest: text };
    let (first, _) = lines.next().unwrap_or_default();
    if first != "tree" {
        return Err(TextError::new("header", "first line", "\"tree\"", shown(first)));
    }
    let header = Section::read("header", &mut lines, &HEADER_KEYS)?;
    let version = header.get("version")?;
    if !matches!(version, "v3" | "v4") {
        return Err(TextError::new("header", "version", "v3 or v4", shown(version)));
    }
    let outputs: usize = header.number("num_tree_per_iteration")?;
    let classes: usize = header.number("num_class")?;
    if outputs == 0 || classes != outputs {
        let expected = format!("{outputs} (num_tree_per_iteration) and at least 1");
        return Err(TextError::new("header", "num_class", expected, classes));
    }
    let columns = header.number::<usize>("max_feature_idx")?.saturating_add(1);
    let names = header.get("feature_names")?.split(' ').filter(|name| !name.is_empty()).count();
    if names != columns {
        return Err(TextError::new("header", "feature_names", format!("{columns} (max_feature_idx + 1)"), names));
    }
    let objective = match header.find("objective") {
        None => Objective::Identity,
        Some(text) => Objective::parse(text, outputs)
            .map_err(|expected| TextError::new("header", "objective", expected, shown(text)))?,
    };
    let sizes: Vec<usize> = header.list("tree_sizes")?;
    let trees = trees(&mut lines, &sizes, columns)?;
    if trees.is_empty() || !trees.len().is_multiple_of(outputs) {
        let expected = format!("a multiple of {outputs} (num_tree_per_iteration), at least one");
        return Err(TextError::new("end", "number of trees", expected, trees.len()));
    }
    let average = header.find("average_output").is_some();
    let ensemble = Ensemble { tiny: ZERO, ..Ensemble::new(trees, outputs) };
    Ok(Parsed { ensemble, columns, objective, average })
}

/// Reads the trees up to `end of trees`.
fn trees(lines: &mut Lines<'_>, sizes: &[usize], columns: usize) -> Result<Vec<Tree>, TextError> {
    let mut trees = Vec::new();
    loop {
        let start = lines.skip_empty();
        match lines.next() {
            Some(("end of trees", _)) => break,
            Some((line, _)) if line.strip_prefix("Tree=").is_some_and(|index| index == trees.len().to_string()) => {}
            other => {
                let expected = format!("\"Tree={}\" or \"end of trees\"", trees.len());
                return Err(TextError::new("end", "line", expected, shown(other.unwrap_or_default().0)));
            }
        }
        let place = format!("tree {}", trees.len());
        let section = Section::read(&place, lines, &TREE_KEYS)?;
        trees.push(tree(&section, columns)?);
        // LightGBM finds a tree by these sizes, so a text in which they are wrong is another model to LightGBM.
        lines.skip_empty();
        let (size, expected) = (start - lines.rest.len(), sizes.get(trees.len() - 1));
        if expected != Some(&size) {
            let expected = expected.map_or("no such tree".to_owned(), |size| format!("{size} bytes (tree_sizes)"));
            return Err(TextError::new(&place, "size", expected, format!("{size} bytes")));
        }
    }
    if trees.len() == sizes.len() {
        return Ok(trees);
    }
    Err(TextError::new("end", "number of trees", format!("{} (tree_sizes)", sizes.len()), trees.len()))
}

/// Builds one tree from its section.
fn tree(section: &Section<'_, '_>, columns: usize) -> Result<Tree, TextError> {
    let wrong = |what: &str, expected: String, got: String| TextError::new(section.place, what, expected, got);
    if section.find("is_linear").is_some_and(|flag| flag != "0") {
        return Err(wrong("is_linear", "0: linear trees are not supported".to_owned(), "1".to_owned()));
    }
    let count: usize = section.number("num_leaves")?;
    let leaves: Vec<f64> = section.list("leaf_value")?;
    if count == 0 || leaves.len() != count {
        return Err(wrong("leaf_value", format!("{count} (num_leaves) and at least 1"), leaves.len().to_string()));
    }
    if let Some(value) = leaves.iter().find(|value| !value.is_finite()) {
        return Err(wrong("leaf_value", "finite numbers".to_owned(), value.to_string()));
    }
    if count == 1 {
        return Ok(Tree::new(Vec::new(), leaves));
    }
    let inner = count - 1;
    let features: Vec<u32> = section.list_of("split_feature", inner)?;
    let thresholds: Vec<f64> = section.list_of("threshold", inner)?;
    let left: Vec<i32> = section.list_of("left_child", inner)?;
    let right: Vec<i32> = section.list_of("right_child", inner)?;
    let decisions: Vec<i8> = match section.find("decision_type") {
        Some(_) => section.list_of("decision_type", inner)?,
        None => vec![0; inner],
    };
    let sets = CategorySets::read(section)?;
    let children = children(section.place, &left, &right, count)?;
    let mut nodes = Vec::with_capacity(inner);
    for (index, (left, right)) in children.into_iter().enumerate() {
        let column = features[index];
        if column as usize >= columns {
            return Err(wrong("split_feature", format!("below {columns} (max_feature_idx + 1)"), column.to_string()));
        }
        let split = split(section.place, decisions[index], thresholds[index], &sets)?;
        nodes.push(Node { column, split, left, right });
    }
    Ok(Tree::new(nodes, leaves))
}

/// What a node asks, from its decision type (bit 0: categorical, bit 1: default left, bits 2 and 3: missing type).
fn split(place: &str, decision: i8, threshold: f64, sets: &CategorySets) -> Result<Split, TextError> {
    let missing = match decision >> 2 {
        0 => Missing::Nothing,
        1 => Missing::Zero,
        2 => Missing::NaN,
        _ => return Err(TextError::new(place, "decision_type", "0 to 11", decision)),
    };
    if decision & 1 == 1 {
        let words =
            (threshold >= 0.0 && threshold.trunc() == threshold).then(|| sets.get(threshold as usize)).flatten();
        let expected = || format!("a whole number below {} (num_cat)", sets.len());
        let words = words.ok_or_else(|| TextError::new(place, "threshold of a category", expected(), threshold))?;
        return Ok(Split::Category { words: words.into() });
    }
    if threshold.is_nan() {
        return Err(TextError::new(place, "threshold", "a number", "nan"));
    }
    Ok(Split::Numeric { threshold, missing, default_left: decision & 2 == 2 })
}

/// The children of each node, after a proof that they make one tree.
///
/// LightGBM appends a node whenever it splits a leaf, so a child's number is greater than its parent's. With one
/// parent for each node but the first, and one for each leaf, that leaves neither cycles nor islands.
fn children(place: &str, left: &[i32], right: &[i32], leaves: usize) -> Result<Vec<(Child, Child)>, TextError> {
    let nodes = left.len();
    let mut depths = vec![0_u32; nodes];
    let mut has_parent = vec![false; nodes];
    let mut leaf_has_parent = vec![false; leaves];
    let mut pairs = Vec::with_capacity(nodes);
    for (index, (&left, &right)) in left.iter().zip(right).enumerate() {
        let depth = depths[index] + 1;
        if depth > MAX_DEPTH {
            return Err(TextError::new(place, "depth", format!("at most {MAX_DEPTH}"), depth));
        }
        let mut child = |code: i32| {
            let (child, seen) = if code < 0 {
                (Child::Leaf(!code as u32), leaf_has_parent.get_mut(!code as usize))
            } else {
                let after = code as usize > index;
                (Child::Node(code as u32), has_parent.get_mut(code as usize).filter(|_| after))
            };
            let Some(seen) = seen else {
                let expected = format!("a node after {index} and below {nodes}, or one of {leaves} leaves");
                return Err(TextError::new(place, format!("child of node {index}"), expected, code));
            };
            if std::mem::replace(seen, true) {
                let expected = "a child without another parent";
                return Err(TextError::new(place, format!("child of node {index}"), expected, code));
            }
            if let Child::Node(node) = child {
                depths[node as usize] = depth;
            }
            Ok(child)
        };
        pairs.push((child(left)?, child(right)?));
    }
    // `nodes` pairs gave 2 * nodes distinct children, and there are nodes - 1 + leaves = 2 * nodes of them.
    Ok(pairs)
}

/// The bit sets of a tree's categorical splits.
struct CategorySets {
    boundaries: Vec<usize>,
    words: Vec<u32>,
}

impl CategorySets {
    fn read(section: &Section<'_, '_>) -> Result<Self, TextError> {
        let count: usize = section.number("num_cat")?;
        if count == 0 {
            return Ok(Self { boundaries: vec![0], words: Vec::new() });
        }
        let boundaries: Vec<usize> = section.list_of("cat_boundaries", count.saturating_add(1))?;
        let words: Vec<u32> = section.list("cat_threshold")?;
        let rising = boundaries.windows(2).all(|pair| pair[0] < pair[1]);
        if !rising || boundaries.first() != Some(&0) || boundaries.last() != Some(&words.len()) {
            let expected = format!("increasing numbers from 0 to {} (cat_threshold)", words.len());
            let got = shown(section.get("cat_boundaries")?);
            return Err(TextError::new(section.place, "cat_boundaries", expected, got));
        }
        Ok(Self { boundaries, words })
    }

    fn len(&self) -> usize {
        self.boundaries.len() - 1
    }

    fn get(&self, index: usize) -> Option<&[u32]> {
        let (start, end) = (*self.boundaries.get(index)?, *self.boundaries.get(index.checked_add(1)?)?);
        self.words.get(start..end)
    }
}
