//! The slices of a request as it came: only the values of the declared features are read, by the primary's schema, by the
//! candidate's where nobody knows that, and by the names of inputs where there is none at all.

use model::{Batch, Feature, Policy, Refusal, Repair, Schema, Value};
use serde_json::json;
use understudy::{
    inference::{InferTensorContents, ModelInferRequest, model_infer_request::InferInputTensor},
    v1::{Row, value::Kind},
};

use super::{Declaration, Slicer};

/// A slicer with the schema that its rows are read by.
#[derive(Debug)]
pub struct Slicing {
    schema: Schema,
    slicer: Slicer,
    /// The schema is made of the declarations: it knows neither the other features nor their order, and a number is no code.
    by_name: bool,
}

impl Slicing {
    /// For rows of this schema.
    ///
    /// # Errors
    /// As [`Slicer::new`].
    pub fn new(schema: Schema, declared: &[Declaration]) -> Result<Self, Vec<String>> {
        let slicer = Slicer::new(&schema, declared)?;
        Ok(Self { schema, slicer, by_name: false })
    }

    /// For rows of which nothing is known but what is declared: inputs, or named values, that are numbers where edges are
    /// declared, and compared as texts with the values that are.
    ///
    /// # Errors
    /// As [`Slicer::new`]; and a feature without edges and values.
    pub fn by_name(declared: &[Declaration]) -> Result<Self, Vec<String>> {
        let undeclared = declared.iter().filter(|one| one.edges.is_empty() && one.values.is_empty());
        let problems: Vec<String> = undeclared
            .map(|one| {
                let name = &one.feature;
                format!(
                    "slices: {name:?} needs its values, {name}=value,value,..., or edges, because nobody has a schema"
                )
            })
            .collect();
        if !problems.is_empty() {
            return Err(problems);
        }
        let first =
            |(index, one): &(usize, &Declaration)| !declared[..*index].iter().any(|it| it.feature == one.feature);
        let features = declared.iter().enumerate().filter(first).map(|(_, one)| match one.values.as_slice() {
            [] => json!({ "name": one.feature, "kind": "float" }),
            values => json!({ "name": one.feature, "kind": "text", "categories": values }),
        });
        let schema = json!({ "features": features.collect::<Vec<_>>() }).to_string();
        let schema = Schema::parse(schema.as_bytes()).map_err(|error| vec![format!("slices: {error}")])?;
        Ok(Self { by_name: true, ..Self::new(schema, declared)? })
    }

    /// The slices.
    pub fn slicer(&self) -> &Slicer {
        &self.slicer
    }

    /// The slices of rows of named values, `[rows, features]`, into `out` (emptied first).
    pub fn of_rows(&self, rows: &[Row], out: &mut Vec<u16>) {
        let mut batch = self.batch(rows.len());
        for (index, row) in rows.iter().enumerate() {
            for sliced in &self.slicer.features {
                let Some(feature) = self.schema.features().get(sliced.column) else { continue };
                let value = row.values.get(feature.name()).and_then(|value| value.kind.as_ref());
                let value = match value {
                    None | Some(Kind::Null(_)) => Value::Null,
                    Some(Kind::Number(number)) => Value::Float(*number),
                    Some(Kind::Integer(integer)) => Value::Int(*integer),
                    Some(Kind::Text(text)) => Value::Text(text),
                    Some(Kind::Boolean(boolean)) => Value::Bool(*boolean),
                };
                self.put(&mut batch, index, sliced.column, value);
            }
        }
        self.slicer.assign(&batch, out);
    }

    /// The slices of a request of tensors: one for each feature, of shape [N] or [N, 1], or one of shape [N, features].
    /// `[rows, features]` into `out` (emptied first). A tensor that can't be read is missing in all rows: the primary has
    /// accepted it, so that is for a schema that is not the primary's.
    pub fn of_tensors(&self, request: &ModelInferRequest, rows: usize, out: &mut Vec<u16>) {
        let mut batch = self.batch(rows);
        let width = self.schema.features().len();
        for (index, input) in request.inputs.iter().enumerate() {
            let raw = request.raw_input_contents.get(index).map(AsRef::as_ref);
            if self.by_name && input.shape.get(1..).unwrap_or_default().iter().any(|width| *width != 1) {
                continue;
            }
            let matrix = !self.by_name
                && input.shape.get(1) == Some(&(width as i64))
                && width > 1
                && self.schema.index_of(&input.name).is_none();
            for sliced in &self.slicer.features {
                let column = sliced.column;
                let named = self.schema.features().get(column).is_some_and(|feature| feature.name() == input.name);
                if !matrix && !named {
                    continue;
                }
                // Every element of a column, or every width-th of a matrix.
                let (first, step) = if matrix { (column, width) } else { (0, 1) };
                read(input, raw, |element, value| {
                    if let Some(index) = element.checked_sub(first).filter(|after| after % step == 0) {
                        self.put(&mut batch, index / step, column, value);
                    }
                });
            }
        }
        self.slicer.assign(&batch, out);
    }

    /// Numbers by what they are called; what is missing travels as the empty text in a tensor.
    fn category(&self, feature: &Feature, value: Value<'_>) -> Result<(f64, Option<Repair>), Refusal> {
        let text = match value {
            Value::Int(number) => number.to_string(),
            Value::Float(number) if !number.is_nan() => number.to_string(),
            Value::Bool(truth) => truth.to_string(),
            Value::Text(text) if !text.is_empty() => text.to_owned(),
            Value::Text(_) | Value::Float(_) | Value::Null => {
                return feature.encode(Value::Null, Policy::Autogluon, self.schema.limits());
            }
        };
        feature.encode(Value::Text(&text), Policy::Autogluon, self.schema.limits())
    }

    fn batch(&self, rows: usize) -> Batch {
        let mut batch = Batch::new(self.schema.features().len());
        for _ in 0..rows {
            batch.push_row();
        }
        batch
    }

    /// By the laxest policy: a value out of bounds stays what it is, an unseen category is one.
    fn put(&self, batch: &mut Batch, row: usize, column: usize, value: Value<'_>) {
        let Some(feature) = self.schema.features().get(column) else { return };
        if row >= batch.rows() {
            return;
        }
        let coded = match value {
            _ if self.by_name && feature.kind().is_categorical() => self.category(feature, value),
            // What a tensor of numbers says of a category is its code.
            Value::Float(code) if feature.kind().is_categorical() => feature.encode_code(code, Policy::Autogluon),
            _ => feature.encode(value, Policy::Autogluon, self.schema.limits()),
        };
        if let (Ok((number, _)), Some(cell)) = (coded, batch.row_mut(row).get_mut(column)) {
            *cell = number;
        }
    }
}

/// Hands out the elements of a tensor with their indices, as far as they can be read.
fn read<'a>(input: &'a InferInputTensor, raw: Option<&'a [u8]>, mut put: impl FnMut(usize, Value<'a>)) {
    fn each<const N: usize>(raw: &[u8], mut put: impl FnMut(usize, [u8; N])) {
        raw.as_chunks().0.iter().enumerate().for_each(|(index, bytes)| put(index, *bytes));
    }
    let text = |bytes: &'a [u8]| std::str::from_utf8(bytes).map_or(Value::Null, Value::Text);
    let Some(mut raw) = raw else {
        if let Some(contents) = &input.contents {
            contained(input.datatype.as_str(), contents, put);
        }
        return;
    };
    match input.datatype.as_str() {
        "BYTES" => {
            let mut index = 0;
            while let Some((length, after)) = raw.split_first_chunk() {
                let Some((bytes, after)) = after.split_at_checked(u32::from_le_bytes(*length) as usize) else { return };
                put(index, text(bytes));
                raw = after;
                index += 1;
            }
        }
        "BOOL" => each(raw, |index, [byte]| put(index, Value::Bool(byte != 0))),
        "INT8" => each(raw, |index, bytes| put(index, Value::Int(i8::from_le_bytes(bytes).into()))),
        "INT16" => each(raw, |index, bytes| put(index, Value::Int(i16::from_le_bytes(bytes).into()))),
        "INT32" => each(raw, |index, bytes| put(index, Value::Int(i32::from_le_bytes(bytes).into()))),
        "INT64" => each(raw, |index, bytes| put(index, Value::Int(i64::from_le_bytes(bytes)))),
        "UINT8" => each(raw, |index, bytes| put(index, Value::Int(u8::from_le_bytes(bytes).into()))),
        "UINT16" => each(raw, |index, bytes| put(index, Value::Int(u16::from_le_bytes(bytes).into()))),
        "UINT32" => each(raw, |index, bytes| put(index, Value::Int(u32::from_le_bytes(bytes).into()))),
        "UINT64" => each(raw, |index, bytes| put(index, Value::Float(u64::from_le_bytes(bytes) as f64))),
        "FP32" => each(raw, |index, bytes| put(index, Value::Float(f32::from_le_bytes(bytes).into()))),
        "FP64" => each(raw, |index, bytes| put(index, Value::Float(f64::from_le_bytes(bytes)))),
        _ => {}
    }
}

/// The same for typed contents.
fn contained<'a>(datatype: &str, contents: &'a InferTensorContents, mut put: impl FnMut(usize, Value<'a>)) {
    let text = |bytes: &'a [u8]| std::str::from_utf8(bytes).map_or(Value::Null, Value::Text);
    match datatype {
        "BYTES" => contents.bytes_contents.iter().enumerate().for_each(|(index, bytes)| put(index, text(bytes))),
        "BOOL" => contents.bool_contents.iter().enumerate().for_each(|(index, &value)| put(index, Value::Bool(value))),
        "INT8" | "INT16" | "INT32" => {
            contents.int_contents.iter().enumerate().for_each(|(index, &value)| put(index, Value::Int(value.into())));
        }
        "INT64" => contents.int64_contents.iter().enumerate().for_each(|(index, &value)| put(index, Value::Int(value))),
        "UINT8" | "UINT16" | "UINT32" => {
            contents.uint_contents.iter().enumerate().for_each(|(index, &value)| put(index, Value::Int(value.into())));
        }
        "UINT64" => {
            let values = contents.uint64_contents.iter().enumerate();
            values.for_each(|(index, &value)| put(index, Value::Float(value as f64)));
        }
        "FP32" => {
            let values = contents.fp32_contents.iter().enumerate();
            values.for_each(|(index, &value)| put(index, Value::Float(value.into())));
        }
        "FP64" => contents.fp64_contents.iter().enumerate().for_each(|(index, &value)| put(index, Value::Float(value))),
        _ => {}
    }
}
