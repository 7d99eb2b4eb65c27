//! Rows of named, typed values: `understudy.v1.PredictRequest`.

use model::{Model, Policy, Refusal, Schema, Value};

use super::{
    Asked, Encoded, Refused, RequestError, Rules,
    message::{RowsMessage, read_row},
    rules::check_id,
};
use crate::v1::{PredictRequest, Row, value::Kind};

/// Encodes `rows` into `out`, whose former contents are lost.
///
/// # Errors
/// Too many rows, or every value that the schema does not allow.
pub fn encode_rows(rows: &[Row], model: &Model, rules: Rules<'_>, out: &mut Encoded) -> Result<(), RequestError> {
    encode_decoded(rows, model, rules, out, Refused::default())
}

/// As [`encode_rows`], for who is going to answer: the rows of `message`, by the stricter rules that it may ask for.
///
/// # Errors
/// As [`encode_rows`]; with what is wrong with the request apart from its rows; or a row is none.
pub fn read_rows(
    message: &RowsMessage<'_>,
    model: &Model,
    rules: Rules<'_>,
    out: &mut Encoded,
) -> Result<(), RequestError> {
    let (stricter, refused) = asked(message.head(), rules);
    if !message.head().rows.is_empty() {
        return encode_decoded(&message.head().rows, model, stricter, out, refused);
    }
    if let Some(outcome) = encode(message.rows().iter().copied(), model, stricter, out, refused) {
        return outcome;
    }
    out.reset(0);
    let request = message.whole()?;
    let (stricter, refused) = asked(&request, rules);
    encode_decoded(&request.rows, model, stricter, out, refused)
}

/// The rules that hold for a request, and what is wrong with it apart from its rows.
fn asked<'r>(request: &PredictRequest, rules: Rules<'r>) -> (Rules<'r>, Refused) {
    let mut refused = Refused::default();
    check_id(&request.request_id, "request_id", &mut refused);
    let rules = rules.with(Asked::of_rows(request, &mut refused), &mut refused);
    (rules, refused)
}

fn encode_decoded(
    rows: &[Row],
    model: &Model,
    rules: Rules<'_>,
    out: &mut Encoded,
    refused: Refused,
) -> Result<(), RequestError> {
    // Whoever has a row can tell its values.
    encode(rows.iter(), model, rules, out, refused).unwrap_or(Ok(()))
}

/// A row, whatever it is made of.
trait Values<'v> {
    /// Puts every value into `sent`; false when it can't.
    fn put(&self, sent: &mut Sent<'v, '_>) -> bool;
}

impl<'m> Values<'m> for &'m [u8] {
    fn put(&self, sent: &mut Sent<'m, '_>) -> bool {
        read_row(self, sent)
    }
}

impl<'v> Values<'v> for &'v Row {
    fn put(&self, sent: &mut Sent<'v, '_>) -> bool {
        let mut values = self.values.iter();
        values.all(|(name, value)| sent.put(name.as_bytes(), value.kind.as_ref().map(self::value)).is_some())
    }
}

/// The values of one row.
#[derive(Debug)]
pub(super) struct Sent<'v, 's> {
    schema: &'s Schema,
    /// By feature. What was sent without a value is missing, as what was not sent.
    values: Vec<Option<Value<'v>>>,
    unknown: Vec<&'v str>,
    /// The features in the order of the row before: most clients send all rows in the same.
    order: Vec<usize>,
    /// How many of this row have come.
    came: usize,
}

impl<'v, 's> Sent<'v, 's> {
    fn new(schema: &'s Schema) -> Self {
        let width = schema.features().len();
        Self { schema, values: vec![None; width], unknown: Vec::new(), order: Vec::with_capacity(width), came: 0 }
    }

    fn clear(&mut self) {
        self.values.fill(None);
        self.unknown.clear();
        self.came = 0;
    }

    /// The value of the feature with this name; of two the last one counts. None when the name is no text.
    pub(super) fn put(&mut self, name: &'v [u8], value: Option<Value<'v>>) -> Option<()> {
        let features = self.schema.features();
        let expected = self.order.get(self.came).copied();
        let feature = match expected.filter(|f| features[*f].name().as_bytes() == name) {
            Some(feature) => feature,
            None => {
                let name = std::str::from_utf8(name).ok()?;
                let Some(feature) = self.schema.index_of(name) else {
                    self.unknown.push(name);
                    return Some(());
                };
                self.order.truncate(self.came);
                self.order.push(feature);
                feature
            }
        };
        self.came += 1;
        self.values[feature] = value;
        Some(())
    }
}

/// None when a row can't tell its values.
fn encode<'v>(
    rows: impl ExactSizeIterator<Item: Values<'v>>,
    model: &Model,
    rules: Rules<'_>,
    out: &mut Encoded,
    mut refused: Refused,
) -> Option<Result<(), RequestError>> {
    if let Err(error) = rules.check_rows(rows.len()) {
        // What contradicts itself is wrong at any size.
        return Some(refused.into_result().and(Err(error)));
    }
    let schema = model.schema();
    out.reset(schema.features().len());
    out.findings.begin(rows.len());
    let mut sent = Sent::new(schema);
    for (r, row) in rows.enumerate() {
        sent.clear();
        if !row.put(&mut sent) {
            return None;
        }
        out.batch.push_row();
        for (f, feature) in schema.features().iter().enumerate() {
            match sent.values[f] {
                None => out.missing(r, f, feature, &mut refused),
                Some(value) => {
                    let encoded = feature.encode(value, rules.policy, schema.limits());
                    out.place((r, f), feature, value, encoded, &rules, &mut refused);
                }
            }
        }
        if !sent.unknown.is_empty() {
            unknown(r, &mut sent.unknown, &rules, out, &mut refused);
        }
    }
    Some(refused.into_result())
}

#[cold]
fn unknown(row: usize, names: &mut Vec<&str>, rules: &Rules<'_>, out: &mut Encoded, refused: &mut Refused) {
    // A map has no order; two answers to one request shall be equal.
    names.sort_unstable();
    names.dedup();
    for name in names {
        if rules.policy == Policy::Strict {
            let refusal = Refusal { expected: "a feature of the model".into(), got: "an unknown feature".into() };
            refused.value(row, name, refusal);
        } else {
            out.unknown_feature(row, name);
        }
    }
}

fn value(kind: &Kind) -> Value<'_> {
    match kind {
        Kind::Number(number) => Value::Float(*number),
        Kind::Integer(integer) => Value::Int(*integer),
        Kind::Text(text) => Value::Text(text),
        Kind::Boolean(boolean) => Value::Bool(*boolean),
        Kind::Null(_) => Value::Null,
    }
}
