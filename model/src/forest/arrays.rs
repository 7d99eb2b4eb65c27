//! The arrays of a forest become trees that cannot be wrong.
//!
//! Nothing is allocated by a number that the file only claims: every list is as long as the array that holds it.

use std::collections::HashMap;

use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};

use super::Spec;
use crate::TextError;
use crate::engine::deep::{Node, SET_WORDS, Split, Test, Trees};
use crate::json;
use crate::text::shown;

/// Levels of a tree. scikit-learn's unlimited trees on tens of thousands of rows are about 75 deep; a chain of thousands
/// of nodes is an attack on the latency of every request.
const MAX_DEPTH: u32 = 512;
/// Trees, for the same reason.
const MAX_TREES: usize = 1 << 20;
/// Bytes of the container's header, which names nine arrays.
const MAX_HEADER: u64 = 1 << 16;
/// Digits of a number in the header: far more than a file has bytes, far less than what overflows a sum.
const MAX_DIGITS: usize = 15;

const NAMES: [&str; 9] =
    ["offsets", "left", "right", "feature", "threshold", "missing_left", "category", "sets", "value"];
/// Beside [`NAMES`].
const OUTPUT: &str = "output";

/// Reads and checks a whole file.
pub(super) fn read(bytes: &[u8], spec: Spec, positions: &[usize]) -> Result<Trees, TextError> {
    let container = open(bytes)?;
    for (name, _) in container.iter() {
        if !NAMES.contains(&name) && name != OUTPUT {
            return Err(TextError::new("header", "array", format!("{} or {OUTPUT}", NAMES.join(", ")), shown(name)));
        }
    }
    let arrays = Arrays::new(&container, spec.start.len())?;
    let mut trees = Trees {
        offsets: arrays.offsets()?,
        nodes: Vec::with_capacity(arrays.nodes),
        values: Vec::new(),
        width: arrays.width,
        outputs: Vec::new(),
        start: spec.start,
        sets: arrays.sets(),
        precision: spec.input,
    };
    trees.outputs = arrays.outputs(trees.len(), trees.start.len())?;
    let mut rows = HashMap::new();
    let mut depths = Vec::new();
    for tree in 0..trees.len() {
        let (first, end) = (trees.offsets[tree] as usize, trees.offsets[tree + 1] as usize);
        depths.clear();
        depths.resize(end - first, 0);
        for index in 0..end - first {
            let node = arrays.node(tree, first, index, &mut depths, positions, &mut rows)?;
            trees.nodes.push(node);
        }
    }
    let mut values = vec![0.0; rows.len() * trees.width];
    for (bytes, row) in rows {
        let row = row as usize * trees.width;
        for (value, bytes) in values[row..].iter_mut().zip(bytes.as_chunks().0) {
            *value = f64::from_le_bytes(*bytes);
        }
    }
    trees.values = values;
    Ok(trees)
}

/// Opens the container.
fn open(bytes: &[u8]) -> Result<SafeTensors<'_>, TextError> {
    let size = bytes.first_chunk().map(|size| u64::from_le_bytes(*size));
    let header = size.filter(|size| *size <= MAX_HEADER).and_then(|size| bytes.get(8..8 + size as usize));
    let Some(header) = header else {
        let got = size.map_or_else(|| format!("a file of {} bytes", bytes.len()), |size| size.to_string());
        return Err(TextError::new("header", "length", format!("at most {MAX_HEADER} bytes of this file"), got));
    };
    // The reader adds such numbers without care.
    if let Some(digits) = header.split(|byte| !byte.is_ascii_digit()).find(|digits| digits.len() > MAX_DIGITS) {
        let expected = format!("at most {MAX_DIGITS} digits");
        return Err(TextError::new("header", "number", expected, format!("{} digits", digits.len())));
    }
    json::keys_once(header).map_err(|error| TextError::new("header", "container", "each name once in JSON", error))?;
    SafeTensors::deserialize(bytes).map_err(|error| {
        let text = error.to_string();
        TextError::new("header", "container", "safetensors without gaps, overlaps and rest", shown(&text))
    })
}

/// The arrays, of lengths that agree. Bytes are little-endian.
struct Arrays<'a> {
    nodes: usize,
    width: usize,
    offsets: &'a [[u8; 8]],
    left: &'a [[u8; 4]],
    right: &'a [[u8; 4]],
    feature: &'a [[u8; 4]],
    threshold: &'a [[u8; 8]],
    missing_left: Option<&'a [u8]>,
    category: Option<&'a [[u8; 4]]>,
    sets: &'a [[u8; 4]],
    /// `[nodes, width]`.
    value: &'a [u8],
    output: Option<&'a [[u8; 4]]>,
}

impl<'a> Arrays<'a> {
    /// `sums`: for how many outputs the trees add up.
    fn new(container: &'a SafeTensors<'_>, sums: usize) -> Result<Self, TextError> {
        let find = |name: &str, dtype: Dtype| -> Result<Option<TensorView<'a>>, TextError> {
            let Ok(view) = container.tensor(name) else { return Ok(None) };
            if view.dtype() == dtype {
                return Ok(Some(view));
            }
            Err(TextError::new(name, "type", dtype.to_string(), view.dtype()))
        };
        let get = |name: &str, dtype: Dtype| {
            find(name, dtype)?.ok_or_else(|| TextError::new(name, "array", "it in the file", "nothing"))
        };
        let left = get("left", Dtype::I32)?;
        let nodes = left.shape().first().copied().unwrap_or(0);
        if nodes > i32::MAX as usize {
            return Err(TextError::new("left", "shape", format!("at most {} nodes", i32::MAX), nodes));
        }
        let of = |name: &str, view: TensorView<'a>, shape: &[usize]| {
            let got = view.shape();
            if got == shape {
                return Ok(view.data());
            }
            Err(TextError::new(name, "shape", format!("{shape:?}"), format!("{got:?}")))
        };
        let for_each = |name: &str, dtype: Dtype| of(name, get(name, dtype)?, &[nodes]);
        let value = get("value", Dtype::F64)?;
        let width = value.shape().get(1).copied().unwrap_or(0);
        if width != 1 && width != sums {
            let expected = format!("1 or {sums} numbers (start) for each leaf");
            return Err(TextError::new("value", "shape", expected, format!("{:?}", value.shape())));
        }
        let offsets = get("offsets", Dtype::I64)?;
        let trees = offsets.shape().first().map_or(0, |ends| ends.saturating_sub(1));
        if trees == 0 || trees > MAX_TREES || offsets.shape().len() != 1 {
            let expected = format!("[trees + 1] for 1 to {MAX_TREES} trees");
            return Err(TextError::new("offsets", "shape", expected, format!("{:?}", offsets.shape())));
        }
        let sets = match find("sets", Dtype::U32)? {
            Some(sets) => {
                let count = sets.shape().first().copied().unwrap_or(0);
                of("sets", sets, &[count, SET_WORDS])?
            }
            None => &[],
        };
        let category = match find("category", Dtype::I32)? {
            Some(category) => Some(of("category", category, &[nodes])?.as_chunks().0),
            None => None,
        };
        let missing_left = match find("missing_left", Dtype::U8)? {
            Some(missing) => Some(of("missing_left", missing, &[nodes])?),
            None => None,
        };
        let output = match find(OUTPUT, Dtype::I32)? {
            Some(output) if width == 1 => Some(of(OUTPUT, output, &[trees])?.as_chunks().0),
            Some(_) => return Err(TextError::new(OUTPUT, "array", "none if leaves hold several numbers", "one")),
            None if sums == width => None,
            None => {
                let expected = format!("it in the file, as there are {sums} sums and one number for each leaf");
                return Err(TextError::new(OUTPUT, "array", expected, "nothing"));
            }
        };
        Ok(Self {
            nodes,
            width,
            offsets: offsets.data().as_chunks().0,
            left: of("left", left, &[nodes])?.as_chunks().0,
            right: for_each("right", Dtype::I32)?.as_chunks().0,
            feature: for_each("feature", Dtype::I32)?.as_chunks().0,
            threshold: for_each("threshold", Dtype::F64)?.as_chunks().0,
            missing_left,
            category,
            sets: sets.as_chunks().0,
            value: of("value", value, &[nodes, width])?,
            output,
        })
    }

    /// The nodes of tree `t` are `offsets[t]..offsets[t + 1]`, at least one.
    fn offsets(&self) -> Result<Vec<u32>, TextError> {
        let mut offsets = Vec::with_capacity(self.offsets.len());
        for bytes in self.offsets {
            let offset = i64::from_le_bytes(*bytes);
            let rises = offsets.last().map_or(offset == 0, |last| offset > i64::from(*last));
            if !rises || offset > self.nodes as i64 {
                let expected = format!("ascending numbers from 0 to {} nodes", self.nodes);
                return Err(TextError::new("offsets", format!("number {}", offsets.len()), expected, offset));
            }
            offsets.push(offset as u32);
        }
        match offsets.last() {
            Some(&last) if last as usize == self.nodes => Ok(offsets),
            last => {
                let got = last.copied().unwrap_or_default();
                Err(TextError::new("offsets", "last number", format!("{} nodes", self.nodes), got))
            }
        }
    }

    fn sets(&self) -> Vec<[u32; SET_WORDS]> {
        self.sets.as_chunks().0.iter().map(|set| set.map(u32::from_le_bytes)).collect()
    }

    /// The first output that each tree adds to.
    fn outputs(&self, trees: usize, sums: usize) -> Result<Vec<u32>, TextError> {
        let Some(output) = self.output else { return Ok(vec![0; trees]) };
        let mut outputs = Vec::with_capacity(trees);
        for (tree, output) in output.iter().enumerate() {
            let output = i32::from_le_bytes(*output);
            if usize::try_from(output).is_ok_and(|output| output < sums) {
                outputs.push(output as u32);
            } else {
                return Err(TextError::new(OUTPUT, format!("of tree {tree}"), format!("0 to {}", sums - 1), output));
            }
        }
        Ok(outputs)
    }

    /// Node `index` of the tree whose nodes begin at `first`.
    ///
    /// Children come after their parent, and have one; every node but the first has one: that leaves neither cycles nor
    /// islands. `depths`: for each node of the tree its level if a parent of it was seen, else 0. `rows`: the distinct
    /// leaves' bytes, numbered.
    fn node(
        &self,
        tree: usize,
        first: usize,
        index: usize,
        depths: &mut [u32],
        positions: &[usize],
        rows: &mut HashMap<&'a [u8], u32>,
    ) -> Result<Node, TextError> {
        let wrong = |what: String, expected: String, got: String| {
            Err(TextError::new(&format!("tree {tree}"), what, expected, got))
        };
        let at = first + index;
        let depth = depths[index] + 1;
        if index > 0 && depth == 1 {
            return wrong(format!("node {index}"), "a parent before it".to_owned(), "none".to_owned());
        }
        let (left, right) = (i32::from_le_bytes(self.left[at]), i32::from_le_bytes(self.right[at]));
        if left == -1 && right == -1 {
            let value = &self.value[at * self.width * 8..][..self.width * 8];
            let values = value.as_chunks().0.iter().map(|bytes| f64::from_le_bytes(*bytes));
            if let Some(value) = values.into_iter().find(|value| !value.is_finite()) {
                return wrong(format!("value of leaf {index}"), "finite numbers".to_owned(), value.to_string());
            }
            let next = rows.len() as u32;
            return Ok(Node::Leaf { row: *rows.entry(value).or_insert(next) });
        }
        // The root is level 1.
        if depth > MAX_DEPTH {
            return wrong("depth".to_owned(), format!("at most {MAX_DEPTH}"), depth.to_string());
        }
        for child in [left, right] {
            let seen = usize::try_from(child).ok().filter(|child| *child > index).and_then(|c| depths.get_mut(c));
            let Some(seen) = seen else {
                let expected = format!("a node after {index} and below {}, or -1 twice", depths.len());
                return wrong(format!("child of node {index}"), expected, child.to_string());
            };
            if *seen != 0 {
                let expected = "a child without another parent".to_owned();
                return wrong(format!("child of node {index}"), expected, child.to_string());
            }
            *seen = depth;
        }
        let feature = i32::from_le_bytes(self.feature[at]);
        let Some(&position) = usize::try_from(feature).ok().and_then(|feature| positions.get(feature)) else {
            let expected = format!("0 to {} (features of the node)", positions.len() as i64 - 1);
            return wrong(format!("feature of node {index}"), expected, feature.to_string());
        };
        let missing_left = match self.missing_left.map_or(0, |missing| missing[at]) {
            0 => false,
            1 => true,
            other => {
                return wrong(format!("missing_left of node {index}"), "0 or 1".to_owned(), other.to_string());
            }
        };
        let test = match self.category.map_or(-1, |category| i32::from_le_bytes(category[at])) {
            -1 => {
                let threshold = f64::from_le_bytes(self.threshold[at]);
                if threshold.is_nan() {
                    return wrong(format!("threshold of node {index}"), "a number".to_owned(), "nan".to_owned());
                }
                Test::AtMost(threshold)
            }
            category if usize::try_from(category).is_ok_and(|set| set < self.sets.len() / SET_WORDS) => {
                Test::Within(category as u32)
            }
            other => {
                let expected = format!("-1, or the number of one of {} sets", self.sets.len() / SET_WORDS);
                return wrong(format!("category of node {index}"), expected, other.to_string());
            }
        };
        let split = Split { position: position as u32, test, missing_left, left: left as u32, right: right as u32 };
        Ok(Node::Split(split))
    }
}
