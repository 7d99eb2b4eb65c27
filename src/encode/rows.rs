//! Rows of named, typed values: `understudy.v1.PredictRequest`.

use model::{Model, Policy, Refusal, Value};

use super::{Encoded, POLICY, Refused, RequestError, Rules};
use crate::v1::{self, PredictRequest, Row, value::Kind};

/// The policy that `request` asks for.
///
/// # Errors
/// One that we do not know: whoever asks for it counts on it.
pub fn policy_of_rows(request: &PredictRequest) -> Result<v1::Policy, RequestError> {
    v1::Policy::try_from(request.policy)
        .map_err(|_| RequestError::field(POLICY, format!("policy {} is not known", request.policy)))
}

/// Encodes `rows` into `out`, whose former contents are lost.
///
/// # Errors
/// Too many rows, or every value that the schema does not allow.
pub fn encode_rows(rows: &[Row], model: &Model, rules: Rules<'_>, out: &mut Encoded) -> Result<(), RequestError> {
    rules.check_rows(rows.len())?;
    let schema = model.schema();
    let features = schema.features();
    out.reset(features.len());
    out.findings.begin(rows.len());
    let mut refused = Refused::default();
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
