//! Answers as they went over the wire, read into what can be compared.

use understudy::{
    inference::{ModelInferResponse, model_infer_response::InferOutputTensor},
    v1::PredictResponse,
};

use crate::compare::{Answer, Comparator, Role};

mod elements;
mod reading;

pub use reading::{Decision, Outputs, Reading, task};

/// An answer that is not in the form that the protocol gives it.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Unreadable(String);

/// Reads the outputs that `reading` names; others are passed over.
///
/// # Errors
/// An output whose data does not fit its shape, or is of a type that is neither a class nor a number.
pub fn read_tensors(
    response: &ModelInferResponse,
    reading: &Reading,
    comparator: &Comparator,
    role: Role,
    out: &mut Answer,
) -> Result<(), Unreadable> {
    out.clear();
    if !reading.tensors().is_empty() {
        return elements::read(response, reading, out);
    }
    let mut rows_read = None;
    for (i, output) in response.outputs.iter().enumerate() {
        let raw = response.raw_output_contents.get(i).map(AsRef::as_ref);
        let rows = output.shape.first().copied().unwrap_or(1);
        let rows = usize::try_from(rows).map_err(|_| unreadable(output, "a negative number of rows"))?;
        if reading.is_label(&output.name) {
            read_labels(output, raw, reading, comparator, role, out)?;
        } else if reading.is_scores(&output.name) {
            let widths = output.shape.get(1..).unwrap_or_default().iter();
            let width = widths
                .map(|width| usize::try_from(*width).ok())
                .try_fold(1, |all: usize, width| all.checked_mul(width?));
            out.width = width.ok_or_else(|| unreadable(output, "an impossible width"))?;
            read_numbers(output, raw, &mut out.scores)?;
        } else {
            out.rows = rows;
            continue;
        }
        rows_read = Some(rows);
    }
    out.rows = rows_read.unwrap_or(out.rows);
    if reading.is_binary() && out.width == 1 {
        // The probability of the positive class says the other one, too.
        out.scores = out.scores.iter().flat_map(|positive| [1.0 - positive, *positive]).collect();
        out.width = 2;
    }
    if let Some(decision) = reading.decision()
        && out.labels.is_empty()
        && out.width > 0
    {
        let decided = out.scores.chunks_exact(out.width).map(|row| decision.class(row).unwrap_or(Answer::UNKNOWN));
        out.labels.extend(decided);
    }
    Ok(())
}

fn read_labels(
    output: &InferOutputTensor,
    raw: Option<&[u8]>,
    reading: &Reading,
    comparator: &Comparator,
    role: Role,
    out: &mut Answer,
) -> Result<(), Unreadable> {
    if output.datatype != "BYTES" {
        let mut numbers = Vec::new();
        read_numbers(output, raw, &mut numbers)?;
        let class = |number: f64| (number.fract() == 0.0).then(|| reading.class_of(number as i64)).flatten();
        out.labels.extend(numbers.into_iter().map(|number| class(number).unwrap_or(Answer::UNKNOWN)));
        return Ok(());
    }
    let mut push = |bytes: &[u8]| {
        let label = std::str::from_utf8(bytes).map_or(Answer::UNKNOWN, |class| comparator.label(role, class));
        out.labels.push(label);
    };
    match (raw, &output.contents) {
        (Some(mut rest), _) => {
            while let Some((length, after)) = rest.split_first_chunk() {
                let (text, after) = after
                    .split_at_checked(u32::from_le_bytes(*length) as usize)
                    .ok_or_else(|| unreadable(output, "a text that is longer than the data"))?;
                push(text);
                rest = after;
            }
            if !rest.is_empty() {
                return Err(unreadable(output, "bytes after its last text"));
            }
        }
        (None, Some(contents)) => contents.bytes_contents.iter().for_each(|text| push(text)),
        (None, None) => return Err(unreadable(output, "no data")),
    }
    Ok(())
}

/// Numbers of any type. Integers beyond 2^53 lose their last digits.
fn read_numbers(output: &InferOutputTensor, raw: Option<&[u8]>, out: &mut Vec<f64>) -> Result<(), Unreadable> {
    /// Elements of N bytes; what is left over is not a whole one.
    fn elements<const N: usize>(raw: &[u8], out: &mut Vec<f64>, read: impl Fn([u8; N]) -> f64) -> bool {
        let (elements, rest) = raw.as_chunks();
        out.extend(elements.iter().map(|bytes| read(*bytes)));
        rest.is_empty()
    }
    let other =
        |kind: &str| Err(unreadable(output, &format!("datatype {}, expected {kind}", output.datatype.escape_debug())));
    let datatype = output.datatype.as_str();
    if let Some(raw) = raw {
        let whole = match datatype {
            "FP64" => elements(raw, out, f64::from_le_bytes),
            "FP32" => elements(raw, out, |bytes| f32::from_le_bytes(bytes).into()),
            "FP16" => elements(raw, out, |bytes| half(u16::from_le_bytes(bytes))),
            "BF16" => elements(raw, out, |bytes| f32::from_bits(u32::from(u16::from_le_bytes(bytes)) << 16).into()),
            "INT64" => elements(raw, out, |bytes| i64::from_le_bytes(bytes) as f64),
            "INT32" => elements(raw, out, |bytes| i32::from_le_bytes(bytes).into()),
            "INT16" => elements(raw, out, |bytes| i16::from_le_bytes(bytes).into()),
            "INT8" => elements(raw, out, |bytes| i8::from_le_bytes(bytes).into()),
            "UINT64" => elements(raw, out, |bytes| u64::from_le_bytes(bytes) as f64),
            "UINT32" => elements(raw, out, |bytes| u32::from_le_bytes(bytes).into()),
            "UINT16" => elements(raw, out, |bytes| u16::from_le_bytes(bytes).into()),
            "UINT8" | "BOOL" => elements(raw, out, |[byte]: [u8; 1]| byte.into()),
            _ => return other("a number"),
        };
        return if whole { Ok(()) } else { Err(unreadable(output, "a number that is cut off")) };
    }
    let Some(contents) = &output.contents else { return Err(unreadable(output, "no data")) };
    match datatype {
        "FP64" => out.extend_from_slice(&contents.fp64_contents),
        "FP32" => out.extend(contents.fp32_contents.iter().copied().map(f64::from)),
        "INT64" => out.extend(contents.int64_contents.iter().map(|number| *number as f64)),
        "INT32" | "INT16" | "INT8" => out.extend(contents.int_contents.iter().copied().map(f64::from)),
        "UINT64" => out.extend(contents.uint64_contents.iter().map(|number| *number as f64)),
        "UINT32" | "UINT16" | "UINT8" => out.extend(contents.uint_contents.iter().copied().map(f64::from)),
        "BOOL" => out.extend(contents.bool_contents.iter().map(|flag| f64::from(u8::from(*flag)))),
        _ => return other("a number that `contents` can hold"),
    }
    Ok(())
}

/// IEEE 754 binary16.
fn half(bits: u16) -> f64 {
    let (exponent, fraction) = (i32::from(bits >> 10 & 0x1f), f64::from(bits & 0x3ff) / 1024.0);
    let magnitude = match exponent {
        0 => fraction * 2f64.powi(-14),
        0x1f if fraction == 0.0 => f64::INFINITY,
        0x1f => f64::NAN,
        _ => (1.0 + fraction) * 2f64.powi(exponent - 15),
    };
    if bits >> 15 == 1 { -magnitude } else { magnitude }
}

fn unreadable(output: &InferOutputTensor, what: &str) -> Unreadable {
    Unreadable(format!("output '{}' has {what}", output.name.escape_debug()))
}

/// Reads predictions; `classes` are the names of the answering model's own classes, in their order.
///
/// # Errors
/// A probability for a class that the model does not have, or a row without what the others have.
pub fn read_rows(
    response: &PredictResponse,
    classes: &[String],
    comparator: &Comparator,
    role: Role,
    out: &mut Answer,
) -> Result<(), Unreadable> {
    out.clear();
    out.rows = response.predictions.len();
    for (row, prediction) in response.predictions.iter().enumerate() {
        let wrong = |what: &str| Unreadable(format!("row {row} has {what}"));
        if !classes.is_empty() {
            out.labels.push(comparator.label(role, &prediction.label));
            for class in classes {
                let probability =
                    prediction.probabilities.get(class).ok_or_else(|| wrong("no probability for a class"))?;
                out.scores.push(*probability);
            }
        } else if prediction.quantiles.is_empty() {
            out.scores.push(prediction.value.ok_or_else(|| wrong("no value"))?);
        } else {
            out.scores.extend(prediction.quantiles.iter().map(|quantile| quantile.value));
        }
        if row == 0 {
            out.width = out.scores.len();
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use understudy::inference::InferTensorContents;

    use super::*;
    use crate::compare::{Task, Tolerance};

    fn answer(
        task: Task,
        classes: &[&str],
        reading: &Outputs,
        response: &ModelInferResponse,
    ) -> Result<Answer, Unreadable> {
        let classes: Vec<String> = classes.iter().map(|class| (*class).to_owned()).collect();
        let comparator = Comparator::new(task, &classes, &classes, Tolerance::default()).expect("a comparator");
        let described: Vec<_> = response
            .outputs
            .iter()
            .map(|output| {
                let (name, datatype, shape) = (output.name.clone(), output.datatype.clone(), output.shape.clone());
                understudy::inference::model_metadata_response::TensorMetadata { name, datatype, shape }
            })
            .collect();
        let task = match task {
            Task::Binary => understudy::v1::Task::Binary,
            Task::Multiclass => understudy::v1::Task::Multiclass,
            Task::Regression => understudy::v1::Task::Regression,
            Task::Quantile => understudy::v1::Task::Quantile,
            Task::Tensor => understudy::v1::Task::Tensor,
        };
        let reading = Reading::resolve("primary", reading, &described, task, &classes).map_err(Unreadable)?;
        let mut out = Answer::default();
        read_tensors(response, &reading, &comparator, Role::Primary, &mut out)?;
        Ok(out)
    }

    fn raw(outputs: &[(&str, &str, &[i64], Vec<u8>)]) -> ModelInferResponse {
        ModelInferResponse {
            outputs: outputs
                .iter()
                .map(|(name, datatype, shape, _)| InferOutputTensor {
                    name: (*name).into(),
                    datatype: (*datatype).into(),
                    shape: shape.to_vec(),
                    ..InferOutputTensor::default()
                })
                .collect(),
            raw_output_contents: outputs.iter().map(|(.., raw)| raw.clone().into()).collect(),
            ..ModelInferResponse::default()
        }
    }

    fn bytes<const N: usize>(elements: &[[u8; N]]) -> Vec<u8> {
        elements.concat()
    }

    #[test]
    fn one_column_is_the_probability_of_the_positive_class() {
        let response = raw(&[("p", "FP32", &[2, 1], bytes(&[0.25f32, 0.75].map(f32::to_le_bytes)))]);
        let got = answer(Task::Binary, &["no", "yes"], &Outputs::default(), &response).expect("readable");
        assert_eq!((got.rows, got.width, got.scores), (2, 2, vec![0.75, 0.25, 0.25, 0.75]));
        assert!(got.labels.is_empty(), "the comparator decides");
        let configured = Outputs { decision: Some(Decision::Threshold(0.8)), ..Outputs::default() };
        assert_eq!(answer(Task::Binary, &["no", "yes"], &configured, &response).expect("readable").labels, [0, 0]);
    }

    #[test]
    fn integer_labels_are_classes() {
        let labels = bytes(&[2i64, 0, 7, -1].map(i64::to_le_bytes));
        let response = raw(&[("c", "INT64", &[4], labels)]);
        let got = answer(Task::Multiclass, &["a", "b", "c"], &Outputs::default(), &response).expect("readable");
        assert_eq!(got.labels, [2, 0, Answer::UNKNOWN, Answer::UNKNOWN]);
        let typed = InferOutputTensor {
            name: "c".into(),
            datatype: "INT32".into(),
            shape: vec![2],
            contents: Some(InferTensorContents { int_contents: vec![1, 2], ..InferTensorContents::default() }),
            ..InferOutputTensor::default()
        };
        let typed = ModelInferResponse { outputs: vec![typed], ..ModelInferResponse::default() };
        let got = answer(Task::Multiclass, &["a", "b", "c"], &Outputs::default(), &typed).expect("readable");
        assert_eq!(got.labels, [1, 2]);
    }

    #[test]
    fn the_largest_score_decides_where_that_is_configured() {
        let scores = bytes(&[0.2f64, 0.5, 0.5, f64::NAN, 1.0, 0.0].map(f64::to_le_bytes));
        let response = raw(&[("s", "FP64", &[2, 3], scores)]);
        let configured = Outputs { decision: Some(Decision::Argmax), ..Outputs::default() };
        let got = answer(Task::Multiclass, &["a", "b", "c"], &configured, &response).expect("readable");
        assert_eq!(got.labels, [1, Answer::UNKNOWN]);
    }

    #[test]
    fn numbers_of_every_type() {
        let one = |datatype: &str, raw_bytes: Vec<u8>| {
            let response = raw(&[("y", datatype, &[1], raw_bytes)]);
            let configured = Outputs { scores: Some("y".into()), ..Outputs::default() };
            answer(Task::Regression, &[], &configured, &response).expect(datatype).scores
        };
        for (datatype, raw_bytes) in [
            ("INT8", vec![5]),
            ("UINT8", vec![5]),
            ("INT16", vec![5, 0]),
            ("UINT16", vec![5, 0]),
            ("INT32", vec![5, 0, 0, 0]),
            ("UINT32", vec![5, 0, 0, 0]),
            ("UINT64", 5u64.to_le_bytes().to_vec()),
            ("FP16", 0x4500u16.to_le_bytes().to_vec()),
            ("BF16", 0x40a0u16.to_le_bytes().to_vec()),
        ] {
            assert_eq!(one(datatype, raw_bytes), [5.0], "{datatype}");
        }
        assert_eq!([0x3c00, 0xc000, 0x0001, 0x7bff].map(half), [1.0, -2.0, 2f64.powi(-24), 65504.0]);
        assert!(half(0x7e00).is_nan() && half(0xfc00) == f64::NEG_INFINITY);
        let cut = raw(&[("value", "FP64", &[1], vec![0; 7])]);
        assert!(answer(Task::Regression, &[], &Outputs::default(), &cut).is_err());
    }
}
