//! What is told of the inputs of a row. By default nothing that is only this row's: of numbers the range of the training data
//! that they are in, of categories those that the schema lists, of texts nothing.

use std::{borrow::Cow, collections::BTreeMap, str::FromStr};

use model::{Feature, Kind, Policy, Profile, Reference, Schema, Value};
use understudy::{
    inference::{InferTensorContents, ModelInferRequest, model_infer_request::InferInputTensor},
    v1::{Row, value},
};

use crate::exchange::Request;

/// Features that are told of one row.
const MOST_FEATURES: usize = 64;
/// Characters of a name or a text.
const MOST_CHARACTERS: usize = 128;

/// The policy; of two the greater one tells more.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Inputs {
    /// Nothing.
    None,
    /// What does not tell one person from another: see the module.
    #[default]
    Redacted,
    /// As they came.
    Full,
}

impl Inputs {
    /// The name in the configuration and in answers.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Redacted => "redacted",
            Self::Full => "full",
        }
    }
}

impl FromStr for Inputs {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = [Self::None, Self::Redacted, Self::Full].into_iter().find(|inputs| inputs.as_str() == text);
        found.ok_or_else(|| format!("expected none, redacted or full, got {text:?}"))
    }
}

/// What is known of the rows: `schema.json` and `reference.json` of a package. Either may be empty.
#[derive(Clone, Debug, Default)]
pub struct Schemas<'a> {
    /// The schema.
    pub schema: Cow<'a, [u8]>,
    /// The profile of the training data.
    pub reference: Cow<'a, [u8]>,
}

/// Reads the inputs of single rows.
#[derive(Debug)]
pub(crate) struct Reader {
    policy: Inputs,
    /// Absent where nobody knows it.
    schema: Option<Schema>,
    /// For each feature, ascending; empty: none are known.
    edges: Vec<Vec<f64>>,
}

impl Reader {
    /// What can't be read is taken for absent: numbers are then rounded instead of binned.
    pub(crate) fn new(policy: Inputs, schemas: &Schemas<'_>) -> Self {
        let schema = if policy == Inputs::None { None } else { Schema::parse(&schemas.schema).ok() };
        let reference = schema.as_ref().and_then(|schema| Reference::parse(&schemas.reference, schema).ok());
        let edges = reference.iter().flat_map(Reference::features).map(edges).collect();
        Self { policy, schema, edges }
    }

    /// The policy.
    pub(crate) fn policy(&self) -> Inputs {
        self.policy
    }

    /// The kinds of the features, by name.
    pub(crate) fn kinds(&self) -> BTreeMap<String, String> {
        let features = self.schema.iter().flat_map(Schema::features);
        features.map(|feature| (feature.name().to_owned(), feature.kind().as_str().to_owned())).collect()
    }

    /// One row, by name of the feature.
    pub(crate) fn of(&self, request: &Request, row: usize) -> BTreeMap<String, String> {
        match (self.policy, request) {
            (Inputs::None, _) => BTreeMap::new(),
            (_, Request::Rows(request)) => request.rows.get(row).map(|row| self.of_row(row)).unwrap_or_default(),
            (_, Request::Tensors(request)) => self.of_tensors(request, row),
        }
    }

    fn of_row(&self, row: &Row) -> BTreeMap<String, String> {
        // Names that the schema does not have are the client's, and may be anything.
        let known = |name: &str| match &self.schema {
            Some(schema) => schema.index_of(name).map(Some),
            None => Some(None),
        };
        let values = row.values.iter().filter_map(|(name, sent)| {
            let feature = known(name)?;
            Some((cut(name), self.text(feature, Told::sent(sent.kind.as_ref()))))
        });
        values.take(MOST_FEATURES).collect()
    }

    fn of_tensors(&self, request: &ModelInferRequest, row: usize) -> BTreeMap<String, String> {
        let mut features = BTreeMap::new();
        let width = self.schema.as_ref().map_or(0, |schema| schema.features().len());
        for (index, input) in request.inputs.iter().enumerate() {
            let raw = request.raw_input_contents.get(index).map(AsRef::as_ref);
            let element =
                |at: Option<usize>| Told::of(at.and_then(|at| element(input, raw, at)).unwrap_or(Value::Null));
            let of_row = input.shape.get(1..).unwrap_or_default().iter();
            let of_row = of_row
                .map(|length| usize::try_from(*length).ok())
                .try_fold(1, |all: usize, length| all.checked_mul(length?));
            let Some(of_row) = of_row else { continue };
            let start = row.checked_mul(of_row);
            let at = |column: usize| start.and_then(|start| start.checked_add(column));
            let named = self.schema.as_ref().and_then(|schema| schema.index_of(&input.name));
            match (&self.schema, named) {
                (_, Some(feature)) => {
                    features.insert(cut(&input.name), self.text(Some(feature), element(at(0))));
                }
                (Some(schema), None) if of_row == width => {
                    for (column, feature) in schema.features().iter().enumerate().take(MOST_FEATURES) {
                        features.insert(cut(feature.name()), self.text(Some(column), element(at(column)).coded()));
                    }
                }
                (_, None) if of_row == 1 => {
                    features.insert(cut(&input.name), self.text(None, element(at(0))));
                }
                (_, None) => {
                    for column in 0..of_row.min(MOST_FEATURES) {
                        let name = format!("{}[{column}]", cut(&input.name));
                        features.insert(name, self.text(None, element(at(column))));
                    }
                }
            }
            if features.len() >= MOST_FEATURES {
                break;
            }
        }
        features
    }

    fn text(&self, feature: Option<usize>, told: Told<'_>) -> String {
        let Told::Value { value, coded } = told else { return "missing".into() };
        let schema = self.schema.as_ref();
        let known = feature.and_then(|index| Some((index, schema?, schema?.features().get(index)?)));
        let Some((index, schema, feature)) = known else { return self.foreign(value) };
        let categorical = feature.kind().is_categorical();
        if self.policy == Inputs::Full && !(coded && categorical) {
            return full(value);
        }
        let read = match value {
            Value::Float(code) if categorical => feature.encode_code(code, Policy::Autogluon),
            value => feature.encode(value, Policy::Autogluon, schema.limits()),
        };
        let Ok((number, _)) = read else { return "unreadable".into() };
        match feature.kind() {
            Kind::Category | Kind::Text => category(feature, number),
            Kind::Bool => (number != 0.0).to_string(),
            // A year: of a date the rest may tell a person.
            Kind::Datetime => year(number),
            Kind::Int | Kind::Float => match self.edges.get(index) {
                Some(edges) if !edges.is_empty() => bin(edges, number),
                _ => rounded(number),
            },
        }
    }

    /// Of a feature that nobody knows.
    fn foreign(&self, value: Value<'_>) -> String {
        match value {
            value if self.policy == Inputs::Full => full(value),
            Value::Null => "missing".into(),
            Value::Int(number) => rounded(number as f64),
            Value::Float(number) => rounded(number),
            Value::Bool(truth) => truth.to_string(),
            Value::Text(_) => "text".into(),
        }
    }
}

/// A value on its way into text.
#[derive(Clone, Copy, Debug)]
enum Told<'a> {
    Missing,
    Value {
        value: Value<'a>,
        /// It came in a matrix of numbers: of a category it is the code.
        coded: bool,
    },
}

impl<'a> Told<'a> {
    fn of(value: Value<'a>) -> Self {
        match value {
            Value::Null => Self::Missing,
            Value::Float(number) if number.is_nan() => Self::Missing,
            value => Self::Value { value, coded: false },
        }
    }

    fn sent(kind: Option<&'a value::Kind>) -> Self {
        match kind {
            None | Some(value::Kind::Null(_)) => Self::Missing,
            Some(value::Kind::Number(number)) => Self::of(Value::Float(*number)),
            Some(value::Kind::Integer(integer)) => Self::of(Value::Int(*integer)),
            Some(value::Kind::Text(text)) => Self::of(Value::Text(text)),
            Some(value::Kind::Boolean(truth)) => Self::of(Value::Bool(*truth)),
        }
    }

    fn coded(self) -> Self {
        match self {
            Self::Value { value, .. } => Self::Value { value, coded: true },
            Self::Missing => Self::Missing,
        }
    }
}

/// The ends of the ranges into which the training data's quantiles cut a feature.
fn edges(profile: &Profile) -> Vec<f64> {
    match profile {
        Profile::Numeric(numeric) => {
            let mut edges: Vec<f64> =
                numeric.quantiles.values.iter().copied().filter(|edge| edge.is_finite()).collect();
            edges.dedup();
            edges
        }
        Profile::Counts(_) => Vec::new(),
    }
}

fn bin(edges: &[f64], number: f64) -> String {
    let above = edges.partition_point(|edge| *edge <= number);
    match (above.checked_sub(1).and_then(|below| edges.get(below)), edges.get(above)) {
        (Some(from), Some(to)) => format!("[{from}, {to})"),
        (None, Some(to)) => format!("< {to}"),
        (Some(from), None) => format!(">= {from}"),
        (None, None) => rounded(number),
    }
}

/// To two significant digits.
fn rounded(number: f64) -> String {
    let rounded = format!("{number:.1e}").parse().unwrap_or(number);
    if rounded == 0.0 || (1e-4..1e15).contains(&rounded.abs()) { rounded.to_string() } else { format!("{rounded:e}") }
}

/// Of nanoseconds since 1970.
fn year(nanos: f64) -> String {
    // The mean year of the calendar.
    let years = nanos / (365.2425 * 86_400e9);
    if years.is_finite() { format!("{:.0}", 1970.0 + years.floor()) } else { "unreadable".into() }
}

fn category(feature: &Feature, code: f64) -> String {
    let known = (code >= 0.0).then(|| feature.categories().get(code as usize)).flatten();
    known.map_or_else(|| "unseen".into(), |category| cut(&category.to_text()))
}

fn full(value: Value<'_>) -> String {
    match value {
        Value::Null => "missing".into(),
        Value::Int(number) => number.to_string(),
        Value::Float(number) => number.to_string(),
        Value::Bool(truth) => truth.to_string(),
        Value::Text(text) => cut(text),
    }
}

/// At most [`MOST_CHARACTERS`], the last one "…" when some are missing.
pub(super) fn cut(text: &str) -> String {
    match text.char_indices().nth(MOST_CHARACTERS) {
        None => text.to_owned(),
        Some(_) => text.chars().take(MOST_CHARACTERS - 1).chain(['…']).collect(),
    }
}

/// One element of a tensor, as far as it can be read.
fn element<'a>(input: &'a InferInputTensor, raw: Option<&'a [u8]>, index: usize) -> Option<Value<'a>> {
    fn nth<const N: usize>(raw: &[u8], index: usize) -> Option<[u8; N]> {
        raw.as_chunks().0.get(index).copied()
    }
    let Some(mut raw) = raw else { return contained(&input.datatype, input.contents.as_ref()?, index) };
    Some(match input.datatype.as_str() {
        "BYTES" => {
            for passed in 0.. {
                let (length, after) = raw.split_first_chunk()?;
                let (bytes, after) = after.split_at_checked(u32::from_le_bytes(*length) as usize)?;
                if passed == index {
                    return std::str::from_utf8(bytes).ok().map(Value::Text);
                }
                raw = after;
            }
            return None;
        }
        "BOOL" => Value::Bool(nth(raw, index)? != [0]),
        "INT8" => Value::Int(i8::from_le_bytes(nth(raw, index)?).into()),
        "INT16" => Value::Int(i16::from_le_bytes(nth(raw, index)?).into()),
        "INT32" => Value::Int(i32::from_le_bytes(nth(raw, index)?).into()),
        "INT64" => Value::Int(i64::from_le_bytes(nth(raw, index)?)),
        "UINT8" => Value::Int(u8::from_le_bytes(nth(raw, index)?).into()),
        "UINT16" => Value::Int(u16::from_le_bytes(nth(raw, index)?).into()),
        "UINT32" => Value::Int(u32::from_le_bytes(nth(raw, index)?).into()),
        "UINT64" => Value::Float(u64::from_le_bytes(nth(raw, index)?) as f64),
        "FP32" => Value::Float(f32::from_le_bytes(nth(raw, index)?).into()),
        "FP64" => Value::Float(f64::from_le_bytes(nth(raw, index)?)),
        _ => return None,
    })
}

/// The same of typed contents.
fn contained<'a>(datatype: &str, contents: &'a InferTensorContents, index: usize) -> Option<Value<'a>> {
    Some(match datatype {
        "BYTES" => Value::Text(std::str::from_utf8(contents.bytes_contents.get(index)?).ok()?),
        "BOOL" => Value::Bool(*contents.bool_contents.get(index)?),
        "INT8" | "INT16" | "INT32" => Value::Int((*contents.int_contents.get(index)?).into()),
        "INT64" => Value::Int(*contents.int64_contents.get(index)?),
        "UINT8" | "UINT16" | "UINT32" => Value::Int((*contents.uint_contents.get(index)?).into()),
        "UINT64" => Value::Float(*contents.uint64_contents.get(index)? as f64),
        "FP32" => Value::Float((*contents.fp32_contents.get(index)?).into()),
        "FP64" => Value::Float(*contents.fp64_contents.get(index)?),
        _ => return None,
    })
}
