//! Named tensors: `inference.ModelInferRequest`. Each feature comes as a tensor [N] or [N,1] named after it and holds
//! values; or all of them as one matrix [N,F] named `input`, in which a category is its code.

use model::{Feature, Kind, Model, Refusal, Value};

use super::{
    Asked, Encoded, MAX_VIOLATIONS, Refused, RequestError, Rules,
    answer::{self, Output},
    refusal::{field_of_parameter, listed, shown, sizes},
    rules::{self, check_id},
    tensor::{Head, SHARED_MEMORY, Tensor},
};
use crate::inference::{ModelInferRequest, infer_parameter::ParameterChoice, model_infer_request::InferInputTensor};

/// The name of the matrix input; `input__0` is what Triton's forest backend calls it.
const MATRIX: [&str; 2] = ["input", "input__0"];

/// Parameters that would change the meaning of the request if they were honoured, and that we do not honour.
const REFUSED_PARAMETERS: [&str; 6] =
    ["priority", "timeout", "sequence_id", "sequence_start", "sequence_end", "classification"];

/// Encodes the inputs of `request` into `out`, whose former contents are lost.
///
/// # Errors
/// Everything in which its inputs contradict each other or the schema, and every value that the schema does not allow.
pub fn encode_tensors(
    request: &ModelInferRequest,
    model: &Model,
    rules: Rules<'_>,
    out: &mut Encoded,
) -> Result<(), RequestError> {
    encode(request, model, rules, out, Refused::default())
}

/// As [`encode_tensors`], for who is going to answer: by the stricter rules that the request may ask for, with the outputs that
/// it asks for, in its order.
///
/// # Errors
/// As [`encode_tensors`], with everything else that is wrong with the request: outputs that the model does not have or that are
/// named twice, rules that are laxer than `rules` or not known, an id that is too long.
pub fn read_tensors(
    request: &ModelInferRequest,
    model: &Model,
    rules: Rules<'_>,
    out: &mut Encoded,
) -> Result<Vec<Output>, RequestError> {
    let mut refused = Refused::default();
    check_id(&request.id, "id", &mut refused);
    let rules = rules.with(Asked::of_tensors(request, &mut refused), &mut refused);
    let outputs = answer::wanted(request, model, &mut refused);
    encode(request, model, rules, out, refused)?;
    Ok(outputs)
}

fn encode(
    request: &ModelInferRequest,
    model: &Model,
    rules: Rules<'_>,
    out: &mut Encoded,
    mut refused: Refused,
) -> Result<(), RequestError> {
    out.reset(model.schema().features().len());
    check_parameters(request, &mut refused);
    let (inputs, raw) = (&request.inputs, &request.raw_input_contents);
    // Without a partner for each input nothing can be said about the data of any.
    let paired = raw.is_empty() || raw.len() == inputs.len();
    if !paired {
        let text = format!(
            "the number of inputs ({}) does not match the expected number of raw input contents ({}) for model '{}'.",
            inputs.len(),
            raw.len(),
            model.name()
        );
        refused.field("raw_input_contents", text);
    }
    match inputs.as_slice() {
        [input] if MATRIX.contains(&&*input.name) && model.schema().index_of(&input.name).is_none() => {
            let head = Head::read(input, 0, model.name(), &mut refused).filter(|_| paired);
            let raw = raw.first().map(AsRef::as_ref);
            let tensor = head.and_then(|head| Tensor::new((0, input), head, raw, model.name(), &mut refused));
            if let Some(tensor) = tensor {
                matrix(&tensor, model, rules, out, &mut refused)?;
            }
        }
        _ => columns(request, paired, model, rules, out, &mut refused)?,
    }
    out.findings.sort();
    refused.into_result()
}

fn check_parameters(request: &ModelInferRequest, refused: &mut Refused) {
    let of_inputs = request.inputs.iter().enumerate().flat_map(|(i, input)| {
        let parameters = input.parameters.iter();
        // Told where the input is read.
        parameters.filter(|(name, _)| !name.starts_with(SHARED_MEMORY)).map(move |parameter| (Of::Input(i), parameter))
    });
    let of_outputs = request
        .outputs
        .iter()
        .enumerate()
        .flat_map(|(i, output)| output.parameters.iter().map(move |parameter| (Of::Output(i), parameter)));
    // Ours are told where they are read.
    let own = request.parameters.iter().filter(|(name, _)| !rules::is_ours(name));
    let mut wrong = Vec::new();
    for (of, (name, parameter)) in own.map(|parameter| (Of::Request, parameter)).chain(of_inputs).chain(of_outputs) {
        let known_and_refused = REFUSED_PARAMETERS.contains(&name.as_str()) || name.starts_with(SHARED_MEMORY);
        let set = !matches!(parameter.parameter_choice, None | Some(ParameterChoice::BoolParam(false)));
        if known_and_refused && set {
            wrong.push((of, name, "is not served"));
        } else if parameter.parameter_choice.is_none() {
            wrong.push((of, name, "has no value"));
        }
    }
    // A map has no order; two answers to one request shall be equal.
    wrong.sort_unstable();
    for (of, name, what) in wrong {
        let parameter = field_of_parameter(name);
        let field = match of {
            Of::Request => parameter,
            Of::Input(i) => format!("inputs[{i}].{parameter}"),
            Of::Output(i) => format!("outputs[{i}].{parameter}"),
        };
        refused.field(field, format!("parameter '{}' {what}", shown(name)));
    }
}

/// Whose parameter it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Of {
    Request,
    Input(usize),
    Output(usize),
}

fn columns(
    request: &ModelInferRequest,
    paired: bool,
    model: &Model,
    rules: Rules<'_>,
    out: &mut Encoded,
    refused: &mut Refused,
) -> Result<(), RequestError> {
    let schema = model.schema();
    let features = schema.features();
    let name = model.name();
    let mut sent = vec![false; features.len()];
    let mut tensors: Vec<(usize, Tensor<'_>)> = Vec::with_capacity(request.inputs.len());
    for (i, input) in request.inputs.iter().enumerate() {
        let Some(f) = schema.index_of(&input.name) else {
            let text = format!("unexpected inference input '{}' for model '{name}'", shown(&input.name));
            refused.field(format!("inputs[{i}].name"), text);
            continue;
        };
        let feature = &features[f];
        if std::mem::replace(&mut sent[f], true) {
            let text = format!("input '{}' is given twice for model '{name}'", feature.name());
            refused.field(format!("inputs[{i}].name"), text);
            continue;
        }
        let Some(head) = Head::read(input, i, name, refused) else { continue };
        let fits = fits((i, input), feature, name, refused);
        if !fits || !paired {
            continue;
        }
        let raw = request.raw_input_contents.get(i).map(AsRef::as_ref);
        let Some(tensor) = Tensor::new((i, input), head, raw, name, refused) else { continue };
        match tensors.first() {
            Some((_, first)) if first.elements != tensor.elements => {
                let text = format!(
                    "input '{}' batch size does not match other inputs for '{name}': {} and {}",
                    feature.name(),
                    tensor.elements,
                    first.elements
                );
                refused.field(format!("inputs[{i}].shape"), text);
            }
            _ => tensors.push((f, tensor)),
        }
    }
    let missing = || features.iter().zip(&sent).enumerate().filter(|(_, (_, sent))| !**sent);
    let required: Vec<&str> = missing().filter(|(_, (f, _))| f.required()).map(|(_, (f, _))| f.name()).collect();
    if request.inputs.is_empty() || !required.is_empty() {
        let text = format!(
            "expected {} inputs but got {} inputs for model '{name}'. Got input(s) {}, but missing required input(s) {}. \
             Please provide all required input(s).",
            features.len(),
            request.inputs.len(),
            listed(request.inputs.iter().map(|input| input.name.as_str())),
            listed(required.iter().copied()),
        );
        let mut fields: Vec<String> =
            required.iter().take(MAX_VIOLATIONS).map(|name| format!("inputs[\"{}\"]", shown(name))).collect();
        if fields.is_empty() {
            fields.push("inputs".into());
        }
        refused.fields(fields, text);
    }
    let Some((_, first)) = tensors.first() else { return Ok(()) };
    let rows = first.elements;
    if let Err(error) = rules.check_rows(rows) {
        // What contradicts itself is wrong at any size.
        return if refused.is_empty() { Err(error) } else { Ok(()) };
    }
    if tensors.iter().any(|(_, tensor)| !tensor.can_hold_its_elements(refused)) {
        return Ok(());
    }
    out.begin(rows);
    for (f, tensor) in &tensors {
        let feature = &features[*f];
        tensor.for_each(refused, |refused, r, value| match value {
            Ok(value) => {
                let encoded = feature.encode(value, rules.policy, schema.limits());
                out.place((r, *f), feature, value, encoded, &rules, refused);
            }
            Err(refusal) => refused.value(r, feature.name(), refusal),
        });
    }
    for (f, (feature, _)) in missing().filter(|(_, (feature, _))| !feature.required()) {
        for r in 0..rows {
            out.missing(r, f, feature, refused);
        }
    }
    Ok(())
}

/// Whether datatype and shape are those of a tensor of `feature`.
fn fits((i, input): (usize, &InferInputTensor), feature: &Feature, model: &str, refused: &mut Refused) -> bool {
    let expected = accepted(feature);
    let datatype = expected.contains(&input.datatype.as_str());
    if !datatype {
        let text = format!(
            "inference input '{}' data-type is '{}', but model '{model}' expects '{}'",
            feature.name(),
            input.datatype,
            expected.join("' or '")
        );
        refused.field(format!("inputs[{i}].datatype"), text);
    }
    let shape = matches!(*input.shape, [_] | [_, 1]);
    if !shape {
        let text = format!(
            "unexpected shape for input '{}' for model '{model}'. Expected [-1] or [-1,1], got {}.",
            feature.name(),
            sizes(&input.shape)
        );
        refused.field(format!("inputs[{i}].shape"), text);
    }
    datatype && shape
}

fn matrix(
    tensor: &Tensor<'_>,
    model: &Model,
    rules: Rules<'_>,
    out: &mut Encoded,
    refused: &mut Refused,
) -> Result<(), RequestError> {
    let schema = model.schema();
    let features = schema.features();
    let name = model.name();
    if !tensor.datatype.is_number() {
        let text = format!(
            "inference input 'input' data-type is '{:?}', but model '{name}' expects a number",
            tensor.datatype
        );
        refused.field("inputs[0].datatype", text);
    }
    let rows = match *tensor.shape {
        [rows, width] if width as usize == features.len() => rows as usize,
        _ => {
            let text = format!(
                "unexpected shape for input 'input' for model '{name}'. Expected [-1,{}], got {}.",
                features.len(),
                sizes(tensor.shape)
            );
            refused.field("inputs[0].shape", text);
            return Ok(());
        }
    };
    if !tensor.datatype.is_number() {
        return Ok(());
    }
    if let Err(error) = rules.check_rows(rows) {
        return if refused.is_empty() { Err(error) } else { Ok(()) };
    }
    out.begin(rows);
    // Counted rather than divided: this is the hot loop of the cheapest request there is.
    let (mut r, mut f) = (0, 0);
    tensor.for_each(refused, |refused, _, value| {
        let feature = &features[f];
        match value {
            Ok(value) => {
                let encoded = match (feature.kind(), value) {
                    (Kind::Category | Kind::Text, Value::Int(code)) => feature.encode_code(code as f64, rules.policy),
                    (Kind::Category | Kind::Text, Value::Float(code)) => feature.encode_code(code, rules.policy),
                    (Kind::Bool, Value::Int(flag)) => flag_of(flag as f64).map(|value| (value, None)),
                    (Kind::Bool, Value::Float(flag)) if !flag.is_nan() => flag_of(flag).map(|value| (value, None)),
                    (_, value) => feature.encode(value, rules.policy, schema.limits()),
                };
                out.place((r, f), feature, value, encoded, &rules, refused);
            }
            Err(refusal) => refused.value(r, feature.name(), refusal),
        }
        f += 1;
        if f == features.len() {
            (r, f) = (r + 1, 0);
        }
    });
    Ok(())
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
