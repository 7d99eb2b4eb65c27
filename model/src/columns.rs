//! Columns: what is computed from a row, value by value, before a model reads it.
//!
//! A trainer's pipeline (imputers, scalers, encoders) is written down in the package as columns with their operations, so
//! that there is one place that prepares values, and it knows nothing of the trainer. A row and its columns lie side by
//! side in a *wide* row; every node reads its features by their position in it.

mod date;
mod op;
mod quantiles;

use std::collections::HashMap;

use serde::Deserialize;

use crate::LoadError;
use crate::error::ensure;
use crate::json::Few;
use crate::package::GRAPH;
use crate::text::shown;
use op::Op;
pub(crate) use op::RawOp;

/// Columns of a package, at most, over all nodes: each is a double for each row.
const MAX_COLUMNS: usize = 1 << 16;
/// Bytes of a name.
const MAX_NAME: usize = 256;

/// Operations on one value, one after another.
#[derive(Debug, Default)]
pub(crate) struct Ops(Box<[Op]>);

/// A column of `graph.json`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawColumn {
    name: String,
    from: Option<String>,
    node: Option<String>,
    index: Option<usize>,
    #[serde(default)]
    ops: Few<RawOp>,
}

/// One computed column.
#[derive(Debug)]
pub(crate) struct Column {
    source: Source,
    ops: Ops,
    /// Its place in the wide row.
    place: usize,
}

/// Where a column's value comes from.
#[derive(Debug, Clone, Copy)]
enum Source {
    /// A place in the wide row.
    Place(usize),
    /// An output of a node before.
    Node { node: usize, index: usize, width: usize },
}

/// The names that a place in `graph.json` can see, and where they lie in the wide row.
#[derive(Debug)]
pub(crate) struct Names {
    shared: HashMap<String, usize>,
    own: HashMap<String, usize>,
    /// Places given so far.
    width: usize,
}

/// A node that a column may read: its number and its outputs for a row.
pub(crate) type FindNode<'a> = &'a dyn Fn(&str) -> Option<(usize, usize)>;

impl Names {
    /// The features of a schema, in their order.
    pub(crate) fn new<'a>(features: impl Iterator<Item = &'a str>) -> Self {
        let shared: HashMap<String, usize> =
            features.enumerate().map(|(place, name)| (name.to_owned(), place)).collect();
        Self { width: shared.len(), shared, own: HashMap::new() }
    }

    /// Doubles of a wide row.
    pub(crate) fn width(&self) -> usize {
        self.width
    }

    /// The place of a feature or column.
    pub(crate) fn place(&self, name: &str) -> Option<usize> {
        self.own.get(name).or_else(|| self.shared.get(name)).copied()
    }

    /// Forgets the columns of the node before.
    pub(crate) fn forget_own(&mut self) {
        self.own.clear();
    }

    /// Adds columns; `node`: finds the nodes that they may read, for a node's own ones.
    pub(crate) fn add(
        &mut self,
        at: &str,
        columns: Vec<RawColumn>,
        node: Option<FindNode<'_>>,
    ) -> Result<Vec<Column>, LoadError> {
        let mut added = Vec::with_capacity(columns.len());
        for raw in columns {
            let place = self.width;
            let what = format!("{at}column {}", shown(&raw.name));
            let fits = (1..=MAX_NAME).contains(&raw.name.len());
            ensure(fits, GRAPH, &what, &format!("a name of 1 to {MAX_NAME} bytes"), || format!("{}", raw.name.len()))?;
            let free = self.place(&raw.name).is_none();
            ensure(free, GRAPH, &what, "a name that no feature or column has", || shown(&raw.name))?;
            ensure(place < MAX_COLUMNS, GRAPH, &what, &format!("at most {MAX_COLUMNS} columns"), || "more".to_owned())?;
            let source = self.source(&what, &raw, node)?;
            let ops = Ops::new(&what, raw.ops.0)?;
            let names = if node.is_some() { &mut self.own } else { &mut self.shared };
            names.insert(raw.name, place);
            self.width += 1;
            added.push(Column { source, ops, place });
        }
        Ok(added)
    }

    fn source(&self, what: &str, raw: &RawColumn, node: Option<FindNode<'_>>) -> Result<Source, LoadError> {
        let wrong = |expected: &str, got: String| LoadError::invalid(GRAPH, what, expected, got);
        match (&raw.from, &raw.node) {
            (Some(from), None) if raw.index.is_none() => {
                let place = self.place(from);
                place.map(Source::Place).ok_or_else(|| wrong("a feature or a column before it", shown(from)))
            }
            (None, Some(name)) => {
                let found = node.and_then(|find| find(name));
                let (node, width) = found.ok_or_else(|| wrong("a node before it", shown(name)))?;
                let index = raw.index.unwrap_or(0);
                if index >= width {
                    return Err(wrong(&format!("an index below {width}"), index.to_string()));
                }
                Ok(Source::Node { node, index, width })
            }
            _ => Err(wrong("either from, or node with index", "neither or both".to_owned())),
        }
    }
}

impl Ops {
    /// `what`: whose operations they are.
    pub(crate) fn new(what: &str, raw: Vec<RawOp>) -> Result<Self, LoadError> {
        let op = |raw: RawOp| {
            Op::new(raw).map_err(|(expected, got)| LoadError::invalid(GRAPH, format!("{what}, ops"), expected, got))
        };
        Ok(Self(raw.into_iter().map(op).collect::<Result<_, _>>()?))
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// By how much the operations stretch a difference.
    pub(crate) fn stretch(&self) -> f64 {
        self.0.iter().map(Op::stretch).product()
    }

    /// The value after all operations.
    #[inline]
    pub(crate) fn apply(&self, value: f64) -> f64 {
        self.0.iter().fold(value, |value, op| op.apply(value))
    }
}

impl Column {
    /// The node that the column reads.
    pub(crate) fn input(&self) -> Option<usize> {
        match self.source {
            Source::Place(_) => None,
            Source::Node { node, .. } => Some(node),
        }
    }

    /// Computes the column of wide rows, `[rows, width]`; `outputs`: of the nodes before.
    pub(crate) fn compute(&self, wide: &mut [f64], width: usize, outputs: &[Vec<f64>]) {
        match self.source {
            Source::Place(from) => {
                for row in wide.chunks_exact_mut(width) {
                    row[self.place] = self.ops.apply(row[from]);
                }
            }
            Source::Node { node, index, width: outputs_width } => {
                let given = outputs[node].chunks_exact(outputs_width);
                for (row, given) in wide.chunks_exact_mut(width).zip(given) {
                    row[self.place] = self.ops.apply(given[index]);
                }
            }
        }
    }
}
