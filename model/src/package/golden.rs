//! `golden.jsonl`: rows with what the trainer's own library answered.

use serde::Deserialize;

use super::{GOLDEN, Manifest};
use crate::error::ensure;
use crate::graph::Graph;
use crate::json::{Number, Object, special};
use crate::output::class_index;
use crate::schema::{Feature, Kind, Limits, Policy, Value};
use crate::text::shown;
use crate::{Batch, LoadError, Scalar, Schema};

/// Fewer rows do not show that a model is the trainer's.
const MIN_ROWS: usize = 50;
/// Rows of the self-test: it runs before the server is ready, and stays in memory.
const MAX_ROWS: usize = 10_000;
/// Values of the rows, beyond one for each byte of the file: what a row does not name is missing, and takes room too.
const MAX_ABSENT: usize = 1 << 20;

/// The golden rows, encoded.
#[derive(Debug)]
pub(crate) struct Golden {
    /// The inputs, as they are: nothing repaired.
    pub(crate) batch: Batch,
    /// For each node of the graph its outputs, `[rows, width]`.
    pub(crate) nodes: Vec<Vec<f64>>,
    /// Classification: for each row the index of its class.
    pub(crate) labels: Vec<u32>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    row: Object<Option<Scalar>>,
    nodes: Object<Vec<Number>>,
    label: Option<Scalar>,
}

impl Golden {
    /// Parses the file's bytes and checks them against the schema and the graph.
    pub(crate) fn parse(bytes: &[u8], manifest: &Manifest, schema: &Schema, graph: &Graph) -> Result<Self, LoadError> {
        let width = schema.features().len();
        let nodes = graph.nodes().iter().map(|_| Vec::new()).collect();
        let mut golden = Self { batch: Batch::new(width), nodes, labels: Vec::new() };
        let text = bytes.strip_suffix(b"\n").unwrap_or(bytes);
        for (index, line) in text.split(|&byte| byte == b'\n').enumerate() {
            let row = index + 1;
            ensure(row <= MAX_ROWS, GOLDEN, "rows", &format!("at most {MAX_ROWS}"), || "more".to_owned())?;
            let limit = bytes.len() + MAX_ABSENT;
            let expected = format!("at most {limit} (2^20, and one for each byte)");
            ensure(row.saturating_mul(width) <= limit, GOLDEN, "values", &expected, || "more".to_owned())?;
            let json = |source| LoadError::Json { file: format!("{GOLDEN}: row {row}"), source };
            let line: Line = serde_json::from_slice(line).map_err(json)?;
            golden.push(line, row, manifest, schema, graph)?;
        }
        let rows = golden.batch.rows();
        ensure(rows >= MIN_ROWS, GOLDEN, "rows", &format!("at least {MIN_ROWS}"), || rows.to_string())?;
        Ok(golden)
    }

    fn push(
        &mut self,
        line: Line,
        row: usize,
        manifest: &Manifest,
        schema: &Schema,
        graph: &Graph,
    ) -> Result<(), LoadError> {
        let wrong = |what: &str, expected: &str, got: String| {
            LoadError::invalid(GOLDEN, format!("row {row}, {what}"), expected, got)
        };
        let values = self.batch.push_row();
        let mut given = vec![false; values.len()];
        for (name, value) in line.row.0 {
            let Some(index) = schema.index_of(&name) else {
                return Err(wrong("row", "features of schema.json", shown(&name)));
            };
            given[index] = true;
            let feature = &schema.features()[index];
            values[index] = encode(feature, value.as_ref())
                .map_err(|refusal| wrong(&format!("feature {}", shown(&name)), &refusal.expected, refusal.got))?;
        }
        for (index, _) in given.iter().enumerate().filter(|(_, given)| !**given) {
            let feature = &schema.features()[index];
            let place = || format!("feature {}", shown(feature.name()));
            values[index] =
                feature.encode_missing().map_err(|refusal| wrong(&place(), &refusal.expected, refusal.got))?;
        }
        let mut outputs: Vec<Option<Vec<Number>>> = graph.nodes().iter().map(|_| None).collect();
        for (name, numbers) in line.nodes.0 {
            let Some(index) = graph.place(&name) else {
                return Err(wrong("nodes", "nodes of graph.json", shown(&name)));
            };
            outputs[index] = Some(numbers);
        }
        for ((node, numbers), all) in graph.nodes().iter().zip(outputs).zip(&mut self.nodes) {
            let place = format!("node {}", node.name());
            let numbers = numbers.ok_or_else(|| wrong(&place, "its output", "nothing".to_owned()))?;
            if numbers.len() != node.width() {
                return Err(wrong(&place, &format!("{} numbers", node.width()), numbers.len().to_string()));
            }
            all.extend(numbers.iter().map(|number| number.0));
        }
        match (line.label, manifest.task.is_classification()) {
            (None, false) => {}
            (Some(label), false) => return Err(wrong("label", "nothing", label.to_string())),
            (None, true) => return Err(wrong("label", "one of the classes", "nothing".to_owned())),
            (Some(label), true) => match class_index(&manifest.classes, &label) {
                Some(class) => self.labels.push(class),
                None => return Err(wrong("label", "one of the classes", label.to_string())),
            },
        }
        Ok(())
    }
}

/// Without policy, as the format has it: what a policy would repair stays as it is.
fn encode(feature: &Feature, value: Option<&Scalar>) -> Result<f64, crate::Refusal> {
    let value = match value {
        None => Value::Null,
        Some(Scalar::Int(number)) => Value::Int(*number),
        Some(Scalar::Float(number)) => Value::Float(*number),
        Some(Scalar::Bool(truth)) => Value::Bool(*truth),
        Some(Scalar::Text(text)) => match (feature.kind(), special(text)) {
            (Kind::Int | Kind::Float, Some(number)) => Value::Float(number),
            _ => Value::Text(text),
        },
    };
    feature.encode(value, Policy::Autogluon, &Limits::default()).map(|(number, _)| number)
}
