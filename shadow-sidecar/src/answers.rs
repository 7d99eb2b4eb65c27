//! Answers as they went over the wire, read into what can be compared.

use understudy::{
    inference::{ModelInferResponse, model_infer_response::InferOutputTensor},
    v1::PredictResponse,
};

use crate::compare::{Answer, Comparator, Role};

/// An answer that is not in the form that the protocol gives it.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Unreadable(String);

/// Reads outputs named `label`, and `probabilities`, `value` or `quantiles`; others are passed over.
///
/// # Errors
/// An output whose data does not fit its shape.
pub fn read_tensors(
    response: &ModelInferResponse,
    comparator: &Comparator,
    role: Role,
    out: &mut Answer,
) -> Result<(), Unreadable> {
    out.clear();
    for (i, output) in response.outputs.iter().enumerate() {
        let raw = response.raw_output_contents.get(i).map(AsRef::as_ref);
        let rows = output.shape.first().copied().unwrap_or_default();
        out.rows = usize::try_from(rows).map_err(|_| unreadable(output, "a negative number of rows"))?;
        match output.name.as_str() {
            "label" => read_labels(output, raw, comparator, role, out)?,
            "probabilities" | "value" | "quantiles" => {
                let width = output.shape.get(1).copied().unwrap_or(1);
                out.width = usize::try_from(width).map_err(|_| unreadable(output, "a negative width"))?;
                read_numbers(output, raw, &mut out.scores)?;
            }
            _ => {}
        }
    }
    Ok(())
}

fn read_labels(
    output: &InferOutputTensor,
    raw: Option<&[u8]>,
    comparator: &Comparator,
    role: Role,
    out: &mut Answer,
) -> Result<(), Unreadable> {
    let mut push = |bytes: &[u8]| {
        let label = std::str::from_utf8(bytes).map_or(Answer::UNKNOWN, |class| comparator.label(role, class));
        out.labels.push(label);
    };
    match (output.datatype.as_str(), raw, &output.contents) {
        ("BYTES", Some(mut rest), _) => {
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
        ("BYTES", None, Some(contents)) => contents.bytes_contents.iter().for_each(|text| push(text)),
        (other, _, _) => return Err(unreadable(output, &format!("datatype {other}, expected BYTES"))),
    }
    Ok(())
}

fn read_numbers(output: &InferOutputTensor, raw: Option<&[u8]>, out: &mut Vec<f64>) -> Result<(), Unreadable> {
    match (output.datatype.as_str(), raw, &output.contents) {
        ("FP64", Some(raw), _) => out.extend(raw.as_chunks().0.iter().map(|bytes| f64::from_le_bytes(*bytes))),
        ("FP32", Some(raw), _) => {
            out.extend(raw.as_chunks().0.iter().map(|bytes| f64::from(f32::from_le_bytes(*bytes))));
        }
        ("FP64", None, Some(contents)) => out.extend_from_slice(&contents.fp64_contents),
        ("FP32", None, Some(contents)) => out.extend(contents.fp32_contents.iter().copied().map(f64::from)),
        (other, _, _) => return Err(unreadable(output, &format!("datatype {other}, expected FP64 or FP32"))),
    }
    Ok(())
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
