//! Named tensors: `inference.ModelInferRequest`. Each feature comes as a tensor [N] or [N,1] named after it and holds
//! values; or all of them as one matrix [N,F] named `input`, in which a category is its code.

use model::{Feature, Kind, Model, Refusal, Value};

use super::{Encoded, Refused, RequestError, Rules, refusal::shown, tensor::Tensor};
use crate::inference::{ModelInferRequest, infer_parameter::ParameterChoice};

/// The name of the matrix input; `input__0` is what Triton's forest backend calls it.
const MATRIX: [&str; 2] = ["input", "input__0"];

/// Parameters that would change the meaning of the request if they were honoured, and that we do not honour.
const REFUSED_PARAMETERS: [&str; 6] =
    ["priority", "timeout", "sequence_id", "sequence_start", "sequence_end", "classification"];

/// Encodes the inputs of `request` into `out`, whose former contents are lost.
///
/// # Errors
/// Inputs that contradict each other or the schema, or every value that the schema does not allow.
pub fn encode_tensors(
    request: &ModelInferRequest,
    model: &Model,
    rules: Rules,
    out: &mut Encoded,
) -> Result<(), RequestError> {
    out.reset(model.schema().features().len());
    check_parameters(request)?;
    let raw = &request.raw_input_contents;
    if !raw.is_empty() && raw.len() != request.inputs.len() {
        return Err(RequestError::invalid(format!(
            "the number of inputs ({}) does not match the expected number of raw input contents ({}) for model '{}'.",
            request.inputs.len(),
            raw.len(),
            model.name()
        )));
    }
    let mut tensors = Vec::with_capacity(request.inputs.len());
    for (i, input) in request.inputs.iter().enumerate() {
        tensors.push(Tensor::new(input, raw.get(i).map(AsRef::as_ref), model.name())?);
    }
    let mut refused = Refused::default();
    match (request.inputs.as_slice(), tensors.as_slice()) {
        ([input], [tensor]) if MATRIX.contains(&&*input.name) && model.schema().index_of(&input.name).is_none() => {
            matrix(tensor, model, rules, out, &mut refused)?;
        }
        _ => columns(request, &tensors, model, rules, out, &mut refused)?,
    }
    refused.into_result()
}

fn check_parameters(request: &ModelInferRequest) -> Result<(), RequestError> {
    let outputs = request.outputs.iter().flat_map(|output| &output.parameters);
    for (name, parameter) in request.parameters.iter().chain(outputs) {
        let known_and_refused = REFUSED_PARAMETERS.contains(&name.as_str()) || name.starts_with("shared_memory");
        let set = !matches!(parameter.parameter_choice, None | Some(ParameterChoice::BoolParam(false)));
        if known_and_refused && set {
            return Err(RequestError::invalid(format!("parameter '{}' is not served", shown(name))));
        }
        if parameter.parameter_choice.is_none() {
            return Err(RequestError::invalid(format!("parameter '{}' has no value", shown(name))));
        }
    }
    Ok(())
}

fn columns(
    request: &ModelInferRequest,
    tensors: &[Tensor<'_>],
    model: &Model,
    rules: Rules,
    out: &mut Encoded,
    refused: &mut Refused,
) -> Result<(), RequestError> {
    let schema = model.schema();
    let features = schema.features();
    let name = model.name();
    let mut sent = vec![false; features.len()];
    let mut rows = None;
    for (input, tensor) in request.inputs.iter().zip(tensors) {
        let f = schema.index_of(&input.name).ok_or_else(|| {
            RequestError::invalid(format!("unexpected inference input '{}' for model '{name}'", shown(&input.name)))
        })?;
        let feature = &features[f];
        if std::mem::replace(&mut sent[f], true) {
            return Err(RequestError::invalid(format!("input '{}' is given twice for model '{name}'", feature.name())));
        }
        let expected = accepted(feature);
        if !expected.contains(&input.datatype.as_str()) {
            return Err(RequestError::invalid(format!(
                "inference input '{}' data-type is '{}', but model '{name}' expects '{}'",
                feature.name(),
                input.datatype,
                expected.join("' or '")
            )));
        }
        if !matches!(tensor.shape, [_] | [_, 1]) {
            return Err(RequestError::invalid(format!(
                "unexpected shape for input '{}' for model '{name}'. Expected [-1] or [-1,1], got {:?}.",
                feature.name(),
                tensor.shape
            )));
        }
        match rows {
            None => {
                rules.check_rows(tensor.elements)?;
                for _ in 0..tensor.elements {
                    out.batch.push_row();
                }
                rows = Some(tensor.elements);
            }
            Some(rows) if rows != tensor.elements => {
                return Err(RequestError::invalid(format!(
                    "input '{}' batch size does not match other inputs for '{name}': {} and {rows}",
                    feature.name(),
                    tensor.elements
                )));
            }
            Some(_) => {}
        }
        tensor.for_each(|r, value| {
            place(out, refused, r, f, feature, feature.encode(value, rules.policy, schema.limits()));
            Ok(())
        })?;
    }
    let missing = || features.iter().zip(&sent).enumerate().filter(|(_, (_, sent))| !**sent);
    let required: Vec<&str> = missing().filter(|(_, (f, _))| f.required()).map(|(_, (f, _))| f.name()).collect();
    let Some(rows) = rows.filter(|_| required.is_empty()) else {
        let got: Vec<&str> = request.inputs.iter().map(|input| input.name.as_str()).collect();
        return Err(RequestError::invalid(format!(
            "expected {} inputs but got {} inputs for model '{name}'. Got input(s) {got:?}, but missing required input(s) \
             {required:?}. Please provide all required input(s).",
            features.len(),
            got.len()
        )));
    };
    for (f, (feature, _)) in missing() {
        for r in 0..rows {
            place(out, refused, r, f, feature, feature.encode_missing().map(|value| (value, None)));
        }
    }
    Ok(())
}

fn matrix(
    tensor: &Tensor<'_>,
    model: &Model,
    rules: Rules,
    out: &mut Encoded,
    refused: &mut Refused,
) -> Result<(), RequestError> {
    let schema = model.schema();
    let features = schema.features();
    let name = model.name();
    if !tensor.datatype.is_number() {
        return Err(RequestError::invalid(format!(
            "inference input 'input' data-type is '{:?}', but model '{name}' expects a number",
            tensor.datatype
        )));
    }
    let [rows, width] = *tensor.shape else {
        return Err(RequestError::invalid(format!(
            "unexpected shape for input 'input' for model '{name}'. Expected [-1,{}], got {:?}.",
            features.len(),
            tensor.shape
        )));
    };
    if width as usize != features.len() {
        return Err(RequestError::invalid(format!(
            "unexpected shape for input 'input' for model '{name}'. Expected [-1,{}], got [{rows},{width}].",
            features.len()
        )));
    }
    rules.check_rows(rows as usize)?;
    for _ in 0..rows {
        out.batch.push_row();
    }
    // Counted rather than divided: this is the hot loop of the cheapest request there is.
    let (mut r, mut f) = (0, 0);
    tensor.for_each(|_, value| {
        let feature = &features[f];
        let encoded = match (feature.kind(), value) {
            (Kind::Category | Kind::Text, Value::Int(code)) => feature.encode_code(code as f64, rules.policy),
            (Kind::Category | Kind::Text, Value::Float(code)) => feature.encode_code(code, rules.policy),
            (Kind::Bool, Value::Int(flag)) => flag_of(flag as f64).map(|value| (value, None)),
            (Kind::Bool, Value::Float(flag)) if !flag.is_nan() => flag_of(flag).map(|value| (value, None)),
            (_, value) => feature.encode(value, rules.policy, schema.limits()),
        };
        place(out, refused, r, f, feature, encoded);
        f += 1;
        if f == features.len() {
            (r, f) = (r + 1, 0);
        }
        Ok(())
    })
}

fn place(
    out: &mut Encoded,
    refused: &mut Refused,
    r: usize,
    f: usize,
    feature: &Feature,
    encoded: Result<(f64, Option<model::Repair>), Refusal>,
) {
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

/// A boolean in a matrix of numbers.
fn flag_of(flag: f64) -> Result<f64, Refusal> {
    if flag == 0.0 || flag == 1.0 {
        Ok(flag)
    } else {
        Err(Refusal { expected: "0 or 1".into(), got: flag.to_string() })
    }
}

/// Datatypes that a feature's own tensor may have, the one of the metadata first.
fn accepted(feature: &Feature) -> &'static [&'static str] {
    match feature.kind() {
        Kind::Int => {
            &["INT64", "INT32", "INT16", "INT8", "UINT64", "UINT32", "UINT16", "UINT8", "FP64", "FP32", "FP16", "BF16"]
        }
        Kind::Float => {
            &["FP64", "FP32", "FP16", "BF16", "INT64", "INT32", "INT16", "INT8", "UINT64", "UINT32", "UINT16", "UINT8"]
        }
        Kind::Bool => &["BOOL"],
        Kind::Text => &["BYTES"],
        Kind::Datetime => &["BYTES", "INT64"],
        Kind::Category => &["BYTES", "INT64", "INT32", "INT16", "INT8", "FP64", "FP32", "BOOL"],
    }
}

/// The datatype of the metadata for a feature's own tensor.
pub fn datatype(feature: &Feature) -> &'static str {
    accepted(feature)[0]
}
