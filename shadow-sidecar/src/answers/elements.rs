//! Outputs that are neither labels nor scores: all elements of the configured ones, row by row. Floating-point numbers are
//! compared within the tolerance; integers, booleans and texts are the same or not.

use std::hash::{DefaultHasher, Hasher as _};

use understudy::inference::{ModelInferResponse, model_infer_response::InferOutputTensor};

use super::{Reading, Unreadable, read_numbers, reading, unreadable};
use crate::compare::Answer;

/// The elements of one output.
struct Elements {
    floats: Vec<f64>,
    exact: Vec<i128>,
    rows: usize,
    /// Of a row.
    width: usize,
}

/// Reads the outputs that `reading` names, one after the other within each row. An answer without one of them has nothing that
/// can be compared.
pub(super) fn read(response: &ModelInferResponse, reading: &Reading, out: &mut Answer) -> Result<(), Unreadable> {
    let mut all = Vec::with_capacity(reading.tensors().len());
    for name in reading.tensors() {
        let Some(index) = response.outputs.iter().position(|output| output.name == *name) else {
            let first = response.outputs.first().and_then(|output| output.shape.first());
            out.rows = first.and_then(|rows| usize::try_from(*rows).ok()).unwrap_or(1);
            return Ok(());
        };
        let output = &response.outputs[index];
        let elements = elements(output, response.raw_output_contents.get(index).map(AsRef::as_ref))?;
        if all.first().is_some_and(|first: &Elements| first.rows != elements.rows) {
            return Err(unreadable(output, "another number of rows than the output before"));
        }
        all.push(elements);
    }
    out.rows = all.first().map_or(0, |first| first.rows);
    for Elements { floats, exact, width, .. } in &all {
        let width_of = |len: usize| if len > 0 { *width } else { 0 };
        out.width += width_of(floats.len());
        out.exact_width += width_of(exact.len());
    }
    match all.as_mut_slice() {
        [only] => {
            std::mem::swap(&mut out.scores, &mut only.floats);
            std::mem::swap(&mut out.exact, &mut only.exact);
        }
        several => {
            for row in 0..out.rows {
                for Elements { floats, exact, width, .. } in several.iter() {
                    // Each has as many elements as its rows make, or none.
                    let of_row = row * width..(row + 1) * width;
                    out.scores.extend_from_slice(floats.get(of_row.clone()).unwrap_or_default());
                    out.exact.extend_from_slice(exact.get(of_row).unwrap_or_default());
                }
            }
        }
    }
    Ok(())
}

fn elements(output: &InferOutputTensor, raw: Option<&[u8]>) -> Result<Elements, Unreadable> {
    let length = |length: &i64| usize::try_from(*length).ok();
    let (rows, rest) = output.shape.split_first().map_or((Some(1), &[][..]), |(rows, rest)| (length(rows), rest));
    let width = rest.iter().map(length).try_fold(1, |all: usize, length| all.checked_mul(length?));
    let (Some(rows), Some(width)) = (rows, width) else { return Err(unreadable(output, "an impossible shape")) };
    let (mut floats, mut exact) = (Vec::new(), Vec::new());
    match output.datatype.as_str() {
        "BYTES" => read_texts(output, raw, &mut exact)?,
        datatype if reading::is_float(datatype) => read_numbers(output, raw, &mut floats)?,
        _ => read_integers(output, raw, &mut exact)?,
    }
    let (expected, got) = (rows.checked_mul(width), floats.len() + exact.len());
    if expected != Some(got) {
        return Err(unreadable(output, &format!("{got} elements, its shape is {:?}", output.shape)));
    }
    Ok(Elements { floats, exact, rows, width })
}

/// A text as a number that no integer is: two are the same when the texts are, but for one chance in 2^64.
fn text(bytes: &[u8]) -> i128 {
    // Its keys are always the same.
    let mut hasher = DefaultHasher::new();
    hasher.write(bytes);
    Answer::TEXTS + i128::from(hasher.finish())
}

fn read_texts(output: &InferOutputTensor, raw: Option<&[u8]>, out: &mut Vec<i128>) -> Result<(), Unreadable> {
    match (raw, &output.contents) {
        (Some(mut rest), _) => {
            while let Some((length, after)) = rest.split_first_chunk() {
                let (bytes, after) = after
                    .split_at_checked(u32::from_le_bytes(*length) as usize)
                    .ok_or_else(|| unreadable(output, "a text that is longer than the data"))?;
                out.push(text(bytes));
                rest = after;
            }
            if rest.is_empty() { Ok(()) } else { Err(unreadable(output, "bytes after its last text")) }
        }
        (None, Some(contents)) => {
            out.extend(contents.bytes_contents.iter().map(|bytes| text(bytes)));
            Ok(())
        }
        (None, None) => Err(unreadable(output, "no data")),
    }
}

fn read_integers(output: &InferOutputTensor, raw: Option<&[u8]>, out: &mut Vec<i128>) -> Result<(), Unreadable> {
    /// Elements of N bytes; what is left over is not a whole one.
    fn each<const N: usize>(raw: &[u8], out: &mut Vec<i128>, read: impl Fn([u8; N]) -> i128) -> bool {
        let (elements, rest) = raw.as_chunks();
        out.extend(elements.iter().map(|bytes| read(*bytes)));
        rest.is_empty()
    }
    let wrong = || unreadable(output, &format!("datatype {}", output.datatype.escape_debug()));
    let datatype = output.datatype.as_str();
    if let Some(raw) = raw {
        let whole = match datatype {
            "INT64" => each(raw, out, |bytes| i64::from_le_bytes(bytes).into()),
            "INT32" => each(raw, out, |bytes| i32::from_le_bytes(bytes).into()),
            "INT16" => each(raw, out, |bytes| i16::from_le_bytes(bytes).into()),
            "INT8" => each(raw, out, |bytes| i8::from_le_bytes(bytes).into()),
            "UINT64" => each(raw, out, |bytes| u64::from_le_bytes(bytes).into()),
            "UINT32" => each(raw, out, |bytes| u32::from_le_bytes(bytes).into()),
            "UINT16" => each(raw, out, |bytes| u16::from_le_bytes(bytes).into()),
            "UINT8" => each(raw, out, |[byte]: [u8; 1]| byte.into()),
            "BOOL" => each(raw, out, |[byte]: [u8; 1]| (byte != 0).into()),
            _ => return Err(wrong()),
        };
        return if whole { Ok(()) } else { Err(unreadable(output, "a number that is cut off")) };
    }
    let Some(contents) = &output.contents else { return Err(unreadable(output, "no data")) };
    match datatype {
        "INT64" => out.extend(contents.int64_contents.iter().copied().map(i128::from)),
        "INT32" | "INT16" | "INT8" => out.extend(contents.int_contents.iter().copied().map(i128::from)),
        "UINT64" => out.extend(contents.uint64_contents.iter().copied().map(i128::from)),
        "UINT32" | "UINT16" | "UINT8" => out.extend(contents.uint_contents.iter().copied().map(i128::from)),
        "BOOL" => out.extend(contents.bool_contents.iter().copied().map(i128::from)),
        _ => return Err(wrong()),
    }
    Ok(())
}
