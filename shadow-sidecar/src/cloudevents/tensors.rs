//! Messages of the Open Inference Protocol in its JSON form: `data` as a flat list in row-major order.

use serde_json::{Value, json};
use understudy::inference::{InferTensorContents, ModelInferRequest, ModelInferResponse};

use super::number_json;

pub(super) fn request(request: &ModelInferRequest) -> Value {
    let inputs = request.inputs.iter().enumerate().map(|(i, input)| {
        let raw = request.raw_input_contents.get(i).map(AsRef::as_ref);
        tensor(&input.name, &input.datatype, &input.shape, raw, input.contents.as_ref())
    });
    json!({ "id": request.id, "inputs": inputs.collect::<Vec<_>>() })
}

pub(super) fn response(response: &ModelInferResponse) -> Value {
    let outputs = response.outputs.iter().enumerate().map(|(i, output)| {
        let raw = response.raw_output_contents.get(i).map(AsRef::as_ref);
        tensor(&output.name, &output.datatype, &output.shape, raw, output.contents.as_ref())
    });
    json!({
        "id": response.id,
        "model_name": response.model_name,
        "model_version": response.model_version,
        "outputs": outputs.collect::<Vec<_>>(),
    })
}

fn tensor(
    name: &str,
    datatype: &str,
    shape: &[i64],
    raw: Option<&[u8]>,
    contents: Option<&InferTensorContents>,
) -> Value {
    let data = match (raw, contents) {
        (Some(raw), _) => from_raw(datatype, raw),
        (None, Some(contents)) => from_contents(contents),
        (None, None) => Vec::new(),
    };
    json!({ "name": name, "datatype": datatype, "shape": shape, "data": data })
}

fn from_raw(datatype: &str, raw: &[u8]) -> Vec<Value> {
    macro_rules! numbers {
        ($number:ty, $json:expr) => {
            raw.as_chunks().0.iter().map(|bytes| $json(<$number>::from_le_bytes(*bytes))).collect()
        };
    }
    match datatype {
        "BOOL" => raw.iter().map(|byte| Value::Bool(*byte != 0)).collect(),
        "INT8" => numbers!(i8, Value::from),
        "INT16" => numbers!(i16, Value::from),
        "INT32" => numbers!(i32, Value::from),
        "INT64" => numbers!(i64, Value::from),
        "UINT8" => numbers!(u8, Value::from),
        "UINT16" => numbers!(u16, Value::from),
        "UINT32" => numbers!(u32, Value::from),
        "UINT64" => numbers!(u64, Value::from),
        "FP32" => numbers!(f32, |number| number_json(f64::from(number))),
        "FP64" => numbers!(f64, number_json),
        "BYTES" => texts(raw),
        // Two bytes that JSON has no number for: their bits.
        _ => numbers!(u16, Value::from),
    }
}

/// Up to the first length that does not fit: what was refused is not read on.
fn texts(mut raw: &[u8]) -> Vec<Value> {
    let mut texts = Vec::new();
    while let Some((length, rest)) = raw.split_first_chunk() {
        let Some((text, rest)) = rest.split_at_checked(u32::from_le_bytes(*length) as usize) else { break };
        texts.push(text_json(text));
        raw = rest;
    }
    texts
}

fn text_json(bytes: &[u8]) -> Value {
    String::from_utf8_lossy(bytes).into()
}

fn from_contents(contents: &InferTensorContents) -> Vec<Value> {
    // One list has values, the others are empty.
    let bools = contents.bool_contents.iter().map(|flag| Value::Bool(*flag));
    let ints = contents.int_contents.iter().map(|number| Value::from(*number));
    let longs = contents.int64_contents.iter().map(|number| Value::from(*number));
    let unsigned = contents.uint_contents.iter().map(|number| Value::from(*number));
    let unsigned_longs = contents.uint64_contents.iter().map(|number| Value::from(*number));
    let floats = contents.fp32_contents.iter().map(|number| number_json(f64::from(*number)));
    let doubles = contents.fp64_contents.iter().map(|number| number_json(*number));
    let texts = contents.bytes_contents.iter().map(|bytes| text_json(bytes));
    bools
        .chain(ints)
        .chain(longs)
        .chain(unsigned)
        .chain(unsigned_longs)
        .chain(floats)
        .chain(doubles)
        .chain(texts)
        .collect()
}
