//! Rows of named, typed values: `understudy.v1.PredictRequest`.

use model::{Model, Policy, Value};

use super::{Encoded, Refused, RequestError, Rules};
use crate::v1::{Row, value::Kind};

/// Encodes `rows` into `out`, whose former contents are lost.
///
/// # Errors
/// Too many rows, or every value that the schema does not allow.
pub fn encode_rows(rows: &[Row], model: &Model, rules: Rules, out: &mut Encoded) -> Result<(), RequestError> {
    rules.check_rows(rows.len())?;
    let schema = model.schema();
    let features = schema.features();
    out.reset(features.len());
    let mut refused = Refused::default();
    for (r, row) in rows.iter().enumerate() {
        out.batch.push_row();
        let mut known = 0;
        for (f, feature) in features.iter().enumerate() {
            let sent = row.values.get(feature.name());
            known += usize::from(sent.is_some());
            let encoded = match sent.and_then(|value| value.kind.as_ref()) {
                None => feature.encode_missing().map(|value| (value, None)),
                Some(kind) => feature.encode(value(kind), rules.policy, schema.limits()),
            };
            match encoded {
                Ok((value, repair)) => {
                    out.batch.row_mut(r)[f] = value;
                    if let Some(repair) = repair {
                        out.repaired(r, feature.name(), &repair);
                    }
                }
                Err(refusal) => refused.value(r, feature, refusal),
            }
        }
        if known < row.values.len() {
            for name in row.values.keys().filter(|name| schema.index_of(name).is_none()) {
                if rules.policy == Policy::Strict {
                    refused.add(r, name, "a feature of the model".into(), "an unknown feature".into());
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
