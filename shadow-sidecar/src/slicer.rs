//! Which slices a row belongs to. Slices are declared before the first exchange, by feature: what is found by looking is
//! no evidence.

use std::fmt::Display;

use model::{Batch, Feature, Kind, Schema};

mod request;

pub use request::Slicing;

/// Slices in all. What does not fit shares one slice for each feature.
pub const MAX_SLICES: usize = 64;
/// Features that can be declared: each has at least two slices.
const MAX_FEATURES: usize = MAX_SLICES / 2;
/// The slice of values that have none of their own, unseen categories among them.
const OTHER: &str = "other";
/// The slice of rows without a value.
const MISSING: &str = "missing";

/// One feature by which rows are sliced, as it was declared: `feature`, `feature:edge,edge,...` or `feature=value,value,...`.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Declaration {
    /// The feature's name.
    pub feature: String,
    /// Of numbers, ascending.
    pub edges: Vec<f64>,
    /// Those that have a slice of their own. Empty, without edges: one slice for each category of the schema.
    pub values: Vec<String>,
}

impl std::str::FromStr for Declaration {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let expected = || format!("expected feature, feature:edge,edge,... or feature=value,value,..., got {text:?}");
        if let Some((feature, values)) = text.split_once('=') {
            let values: Vec<String> = values.split(',').map(|value| value.trim().to_owned()).collect();
            let repeated = values.iter().enumerate().any(|(n, value)| values[..n].contains(value));
            if feature.trim().is_empty() || repeated || values.iter().any(String::is_empty) {
                return Err(expected());
            }
            return Ok(Self { feature: feature.trim().to_owned(), values, ..Self::default() });
        }
        // A name may have colons: edges come after the last one, if these are numbers.
        let (feature, edges) = match text.rsplit_once(':') {
            Some((feature, edges)) => {
                let edge = |edge: &str| edge.trim().parse().map_err(|_| format!("{edge:?} in {text:?} is no number"));
                (feature, edges.split(',').map(edge).collect::<Result<Vec<f64>, _>>()?)
            }
            None => (text, Vec::new()),
        };
        if feature.trim().is_empty() {
            return Err(expected());
        }
        let ascending = edges.is_sorted_by(|a, b| a < b) && edges.iter().all(|edge| edge.is_finite());
        if !ascending {
            return Err(format!("expected finite edges in ascending order, got {text:?}"));
        }
        Ok(Self { feature: feature.trim().to_owned(), edges, ..Self::default() })
    }
}

/// Sorts rows into slices, one for each declared feature.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Slicer {
    features: Vec<Sliced>,
    names: Vec<String>,
}

/// One declared feature. Its slices follow each other: values, then `missing`, then `other` where there may be any.
#[derive(Debug, Clone, PartialEq)]
struct Sliced {
    /// In the row.
    column: usize,
    first: u16,
    by: By,
}

#[derive(Debug, Clone, PartialEq)]
enum By {
    /// Codes below this have a slice of their own.
    Code(u16),
    /// So many slices of values; and for each code its own, or that of others.
    Listed(u16, Vec<u16>),
    Edges(Vec<f64>),
}

impl Slicer {
    /// For rows of this schema.
    ///
    /// # Errors
    /// All that is wrong with the declarations: features that the schema does not have, numbers without edges, categories
    /// with edges, and more edges than there are slices.
    pub fn new(schema: &Schema, declared: &[Declaration]) -> Result<Self, Vec<String>> {
        let mut problems = Vec::new();
        if declared.len() > MAX_FEATURES {
            problems.push(format!("slices: expected at most {MAX_FEATURES} features, got {}", declared.len()));
        }
        let mut slicer = Self::default();
        for (index, Declaration { feature: name, edges, values }) in declared.iter().enumerate() {
            let mut wrong = |what: &dyn Display| problems.push(format!("slices: {name:?} {what}"));
            let Some(column) = schema.index_of(name) else {
                wrong(&"is no feature of the model");
                continue;
            };
            if declared[..index].iter().any(|other| other.feature == *name) {
                wrong(&"is declared twice");
                continue;
            }
            let Some(feature) = schema.features().get(column) else { continue };
            let coded = feature.kind().is_categorical() || feature.kind() == Kind::Bool;
            if coded != edges.is_empty() {
                let kind = feature.kind().as_str();
                let what = if coded { "and takes no edges" } else { "and needs edges: feature:edge,edge,..." };
                wrong(&format_args!("is of kind {kind} {what}"));
                continue;
            }
            let known = values_of(feature);
            let unknown: Vec<&str> = values.iter().filter(|value| !known.contains(value)).map(String::as_str).collect();
            if !unknown.is_empty() {
                wrong(&format_args!("has no {}", unknown.join(", ")));
                continue;
            }
            // Two slices, at least, are kept for each feature still to come.
            let kept = 2 * (declared.len() - index - 1);
            let room = MAX_SLICES.saturating_sub(slicer.names.len() + kept);
            if edges.len().max(values.len()) + 2 > room {
                let (count, what) = if edges.is_empty() { (values.len(), "values") } else { (edges.len(), "edges") };
                wrong(&format_args!("has {count} {what}, which make more than {room} slices"));
                continue;
            }
            slicer.add(column, feature, &declared[index], room);
        }
        if problems.is_empty() { Ok(slicer) } else { Err(problems) }
    }

    /// Names of all slices: `feature=value`, `feature<edge`, `edge<=feature<edge`, `feature>=edge`, `feature=missing`,
    /// `feature=other`.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// Whether nothing was declared.
    pub fn is_empty(&self) -> bool {
        self.features.is_empty()
    }

    /// The slices of each row as indices into [`Self::names`], `[rows, features]`, into `out` (emptied first).
    pub fn assign(&self, batch: &Batch, out: &mut Vec<u16>) {
        out.clear();
        for row in 0..batch.rows() {
            let row = batch.row(row);
            out.extend(self.features.iter().map(|sliced| {
                let value = row.get(sliced.column).copied().unwrap_or(f64::NAN);
                sliced.first + sliced.of(value)
            }));
        }
    }

    fn add(&mut self, column: usize, feature: &Feature, declared: &Declaration, room: usize) {
        let first = self.names.len() as u16;
        let name = feature.name();
        let Declaration { edges, values: listed, .. } = declared;
        let by = if !listed.is_empty() {
            let others = listed.len() as u16 + 1;
            let slice = |value: &String| listed.iter().position(|own| own == value).map_or(others, |at| at as u16);
            let slices = values_of(feature).iter().map(slice).collect();
            let named = listed.iter().map(String::as_str).chain([MISSING, OTHER]);
            self.names.extend(named.map(|value| format!("{name}={value}")));
            By::Listed(listed.len() as u16, slices)
        } else if edges.is_empty() {
            let values = values_of(feature);
            let own = values.len().min(room.saturating_sub(2));
            let named = values.iter().take(own).map(String::as_str).chain([MISSING, OTHER]);
            self.names.extend(named.map(|value| format!("{name}={value}")));
            By::Code(own as u16)
        } else {
            let between = edges.windows(2).map(|pair| format!("{}<={name}<{}", pair[0], pair[1]));
            let below = edges.first().map(|edge| format!("{name}<{edge}"));
            let above = edges.last().map(|edge| format!("{name}>={edge}"));
            self.names.extend(below.into_iter().chain(between).chain(above).chain([format!("{name}={MISSING}")]));
            By::Edges(edges.clone())
        };
        self.features.push(Sliced { column, first, by });
    }
}

/// The values of a feature that has codes, in their order.
fn values_of(feature: &Feature) -> Vec<String> {
    match feature.kind() {
        Kind::Bool => vec!["false".to_owned(), "true".to_owned()],
        _ => feature.categories().iter().map(model::Scalar::to_text).collect(),
    }
}

impl Sliced {
    /// Relative to the first slice of the feature.
    fn of(&self, value: f64) -> u16 {
        match &self.by {
            By::Code(own) if value.is_nan() => *own,
            // Codes are whole numbers; -1 is an unseen category.
            By::Code(own) if value >= 0.0 && value < f64::from(*own) => value as u16,
            By::Listed(own, _) if value.is_nan() => *own,
            By::Listed(own, slices) if value >= 0.0 => slices.get(value as usize).copied().unwrap_or(own + 1),
            By::Code(own) | By::Listed(own, _) => own + 1,
            By::Edges(edges) if value.is_nan() => edges.len() as u16 + 1,
            By::Edges(edges) => edges.partition_point(|&edge| edge <= value) as u16,
        }
    }
}

#[cfg(test)]
mod tests;
