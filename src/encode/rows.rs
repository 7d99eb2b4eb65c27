//! Rows of named, typed values: `understudy.v1.PredictRequest`.

use model::{Model, Policy, Refusal, Value};

use super::{Asked, Encoded, Refused, RequestError, Rules, rules::check_id};
use crate::v1::{PredictRequest, Row, value::Kind};

/// Encodes `rows` into `out`, whose former contents are lost.
///
/// # Errors
/// Too many rows, or every value that the schema does not allow.
pub fn encode_rows(rows: &[Row], model: &Model, rules: Rules<'_>, out: &mut Encoded) -> Result<(), RequestError> {
    encode(rows, model, rules, out, Refused::default())
}

/// As [`encode_rows`], for who is going to answer: the rows of `request`, by the stricter rules that it may ask for.
///
/// # Errors
/// As [`encode_rows`]; with what is wrong with the request apart from its rows.
pub fn read_rows(
    request: &PredictRequest,
    model: &Model,
    rules: Rules<'_>,
    out: &mut Encoded,
) -> Result<(), RequestError> {
    let mut refused = Refused::default();
    check_id(&request.request_id, "request_id", &mut refused);
    let rules = rules.with(Asked::of_rows(request, &mut refused), &mut refused);
    encode(&request.rows, model, rules, out, refused)
}

fn encode(
    rows: &[Row],
    model: &Model,
    rules: Rules<'_>,
    out: &mut Encoded,
    mut refused: Refused,
) -> Result<(), RequestError> {
    if let Err(error) = rules.check_rows(rows.len()) {
        // What contradicts itself is wrong at any size.
        return refused.into_result().and(Err(error));
    }
    let schema = model.schema();
    let features = schema.features();
    out.reset(features.len());
    out.findings.begin(rows.len());
    for (r, row) in rows.iter().enumerate() {
        out.batch.push_row();
        let mut known = 0;
        for (f, feature) in features.iter().enumerate() {
            let sent = row.values.get(feature.name());
            known += usize::from(sent.is_some());
            match sent.and_then(|value| value.kind.as_ref()) {
                None => out.missing(r, f, feature, &mut refused),
                Some(kind) => {
                    let value = value(kind);
                    let encoded = feature.encode(value, rules.policy, schema.limits());
                    out.place((r, f), feature, value, encoded, &rules, &mut refused);
                }
            }
        }
        if known < row.values.len() {
            let mut unknown: Vec<&String> = row.values.keys().filter(|name| schema.index_of(name).is_none()).collect();
            // A map has no order; two answers to one request shall be equal.
            unknown.sort_unstable();
            for name in unknown {
                if rules.policy == Policy::Strict {
                    let refusal =
                        Refusal { expected: "a feature of the model".into(), got: "an unknown feature".into() };
                    refused.value(r, name, refusal);
                } else {
                    out.unknown_feature(r, name);
                }
            }
        }
    }
    refused.into_result()
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
