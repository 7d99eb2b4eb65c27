//! Rows as the tensors of the Open Inference Protocol.

use anyhow::Context as _;
use model::{Kind, Model, Policy};
use understudy::{
    encode::{Encoded, Rules, datatype, encode_rows},
    inference::{ModelInferRequest, model_infer_request::InferInputTensor},
    v1::{Row, value},
};

/// A raw tensor [N] for each feature, in the datatype of the model's metadata.
pub(super) fn named(name: &str, rows: &[Row], model: &Model) -> ModelInferRequest {
    let shape = vec![rows.len() as i64];
    let mut request = ModelInferRequest { model_name: name.into(), ..Default::default() };
    for feature in model.schema().features() {
        let values = rows.iter().map(|row| row.values.get(feature.name()).and_then(|value| value.kind.as_ref()));
        let raw: Vec<u8> = match feature.kind() {
            // A missing integer has no other way to travel than as a number that is none.
            Kind::Int | Kind::Float => values.flat_map(|value| number(value).to_le_bytes()).collect(),
            Kind::Bool => values.map(|value| u8::from(number(value) == 1.0)).collect(),
            Kind::Category | Kind::Text | Kind::Datetime => values
                .flat_map(|value| {
                    let text = text(value);
                    [&(text.len() as u32).to_le_bytes()[..], text.as_bytes()].concat()
                })
                .collect(),
        };
        let datatype = if feature.kind() == Kind::Int { "FP64" } else { datatype(feature) };
        request.inputs.push(InferInputTensor {
            name: feature.name().into(),
            datatype: datatype.into(),
            shape: shape.clone(),
            ..Default::default()
        });
        request.raw_input_contents.push(raw.into());
    }
    request
}

/// One raw FP64 matrix [N,F], a category as its position.
///
/// # Errors
/// A row that the schema refuses.
pub(super) fn matrix(name: &str, rows: &[Row], model: &Model) -> anyhow::Result<ModelInferRequest> {
    let width = model.schema().features().len();
    let mut encoded = Encoded::new(width);
    let rules = Rules { max_rows: rows.len(), policy: Policy::Sanitize, ..Rules::of(model) };
    encode_rows(rows, model, rules, &mut encoded).context("the model does not take a row")?;
    let numbers = (0..rows.len()).flat_map(|row| encoded.batch.row(row).iter().copied());
    Ok(ModelInferRequest {
        model_name: name.into(),
        inputs: vec![InferInputTensor {
            name: "input".into(),
            datatype: "FP64".into(),
            shape: vec![rows.len() as i64, width as i64],
            ..Default::default()
        }],
        raw_input_contents: vec![numbers.flat_map(f64::to_le_bytes).collect::<Vec<u8>>().into()],
        ..Default::default()
    })
}

fn number(value: Option<&value::Kind>) -> f64 {
    match value {
        Some(value::Kind::Number(number)) => *number,
        Some(value::Kind::Integer(integer)) => *integer as f64,
        Some(value::Kind::Boolean(flag)) => f64::from(u8::from(*flag)),
        None | Some(value::Kind::Null(_) | value::Kind::Text(_)) => f64::NAN,
    }
}

fn text(value: Option<&value::Kind>) -> String {
    match value {
        Some(value::Kind::Text(text)) => text.clone(),
        Some(value::Kind::Number(number)) => number.to_string(),
        Some(value::Kind::Integer(integer)) => integer.to_string(),
        Some(value::Kind::Boolean(flag)) => flag.to_string(),
        None | Some(value::Kind::Null(_)) => String::new(),
    }
}
