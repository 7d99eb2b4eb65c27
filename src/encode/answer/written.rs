//! The answer to a request of rows, written at once. Built first and encoded then, each row is a map with texts of its own, which takes
//! as long as evaluating it.

use model::Task;

use super::super::Answered;
use crate::v1::Quantile;

/// Wire types of protobuf.
const FIXED: u8 = 1;
const LENGTH: u8 = 2;

/// Appends the bytes of what [`rows`](super::rows) says to `out`.
pub fn write_rows(request_id: &str, answered: &Answered<'_>, mut id: impl FnMut() -> String, out: &mut Vec<u8>) {
    let Answered { model, predictions, encoded } = answered;
    text(1, model.name(), out);
    text(2, model.version(), out);
    let classes = model.class_names();
    // As maps are written: by name.
    let mut by_name: Vec<usize> = (0..classes.len()).collect();
    by_name.sort_unstable_by_key(|class| &classes[*class]);
    let mut row = Vec::with_capacity(256);
    for r in 0..predictions.rows() {
        row.clear();
        text(1, &id(), &mut row);
        let scores = predictions.scores_of(r);
        match model.task() {
            Task::Binary | Task::Multiclass => {
                text(2, &classes[predictions.labels[r] as usize], &mut row);
                for class in &by_name {
                    probability(&classes[*class], scores[*class], &mut row);
                }
            }
            Task::Regression => {
                if let Some(value) = scores.first() {
                    number(4, *value, &mut row);
                }
            }
            Task::Quantile => {
                for (level, value) in model.manifest().quantile_levels.iter().zip(scores) {
                    message(5, &Quantile { level: *level, value: *value }, &mut row);
                }
            }
        }
        for warning in encoded.findings.of_row(r, model) {
            message(6, &warning, &mut row);
        }
        prefixed(3, &row, out);
    }
    text(4, request_id, out);
}

/// An entry of a map from text to double: as in a message, what is 0 or empty is left out.
fn probability(class: &str, score: f64, out: &mut Vec<u8>) {
    let key = if class.is_empty() { 0 } else { 1 + prost::length_delimiter_len(class.len()) + class.len() };
    let value = if score == 0.0 { 0 } else { 1 + size_of::<f64>() };
    out.push(3 << 3 | LENGTH);
    varint(key + value, out);
    text(1, class, out);
    if score != 0.0 {
        number(2, score, out);
    }
}

fn message(field: u8, message: &impl prost::Message, out: &mut Vec<u8>) {
    out.push(field << 3 | LENGTH);
    varint(message.encoded_len(), out);
    message.encode_raw(out);
}

fn text(field: u8, text: &str, out: &mut Vec<u8>) {
    if !text.is_empty() {
        prefixed(field, text.as_bytes(), out);
    }
}

fn number(field: u8, number: f64, out: &mut Vec<u8>) {
    out.push(field << 3 | FIXED);
    out.extend_from_slice(&number.to_le_bytes());
}

fn prefixed(field: u8, content: &[u8], out: &mut Vec<u8>) {
    out.push(field << 3 | LENGTH);
    varint(content.len(), out);
    out.extend_from_slice(content);
}

fn varint(mut value: usize, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}
