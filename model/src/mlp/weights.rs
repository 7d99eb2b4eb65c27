//! A network's tensors: a safetensors file, looked at before anything of it is used.

use std::collections::HashSet;

use safetensors::{Dtype, SafeTensors};

use crate::TextError;
use crate::json;
use crate::text::shown;

/// Bytes of a file's header, at most: the names, types and shapes. A thousand tensors take about a hundred thousand.
const MAX_HEADER: u64 = 1 << 20;

/// Digits of a number in the header, at most.
const MAX_DIGITS: usize = 15;

/// The tensors of a file. Each is taken once.
pub(super) struct Weights<'a> {
    tensors: SafeTensors<'a>,
    taken: HashSet<String>,
}

/// The numbers of a tensor and its shape, `[rows, width]`.
#[derive(Debug)]
pub(super) struct Matrix {
    pub(super) values: Vec<f32>,
    pub(super) rows: usize,
    pub(super) width: usize,
}

impl<'a> Weights<'a> {
    pub(super) fn parse(bytes: &'a [u8]) -> Result<Self, TextError> {
        let length = bytes.first_chunk().map_or(0, |length| u64::from_le_bytes(*length));
        if length > MAX_HEADER {
            return Err(TextError::new("header", "length", format!("at most {MAX_HEADER} bytes"), length));
        }
        // The reader adds offsets without looking for overflow.
        let header = bytes.get(8..8 + length as usize).unwrap_or_default();
        if let Some(long) = header.split(|byte| !byte.is_ascii_digit()).find(|digits| digits.len() > MAX_DIGITS) {
            let expected = format!("at most {MAX_DIGITS} digits");
            return Err(TextError::new("header", "number", expected, format!("{} digits", long.len())));
        }
        json::keys_once(header).map_err(|error| TextError::new("header", "format", "a safetensors file", error))?;
        let tensors = SafeTensors::deserialize(bytes)
            .map_err(|error| TextError::new("header", "format", "a safetensors file", shown(&error.to_string())))?;
        Ok(Self { tensors, taken: HashSet::new() })
    }

    /// A tensor `[rows, width]`. `width`: what it must be, if that is known.
    pub(super) fn matrix(&mut self, place: &str, name: &str, width: Option<usize>) -> Result<Matrix, TextError> {
        let (shape, values) = self.take(place, name)?;
        match shape[..] {
            [rows, got] if rows > 0 && width.unwrap_or(got.max(1)) == got => Ok(Matrix { values, rows, width: got }),
            _ => {
                let width = width.map_or_else(|| "width".to_owned(), |width| width.to_string());
                Err(TextError::new(place, shown(name), format!("shape [rows, {width}], not empty"), list(&shape)))
            }
        }
    }

    /// A tensor `[width]`.
    pub(super) fn vector(&mut self, place: &str, name: &str, width: usize) -> Result<Vec<f32>, TextError> {
        let (shape, values) = self.take(place, name)?;
        if shape[..] == [width] {
            return Ok(values);
        }
        Err(TextError::new(place, shown(name), format!("shape [{width}]"), list(&shape)))
    }

    fn take(&mut self, place: &str, name: &str) -> Result<(Vec<usize>, Vec<f32>), TextError> {
        let Ok(tensor) = self.tensors.tensor(name) else {
            return Err(TextError::new(place, shown(name), "a tensor of the file", "none of this name"));
        };
        if !self.taken.insert(name.to_owned()) {
            return Err(TextError::new(
                place,
                shown(name),
                "a tensor that nothing else uses",
                "one that is used before",
            ));
        }
        if tensor.dtype() != Dtype::F32 {
            return Err(TextError::new(place, shown(name), "type F32", tensor.dtype()));
        }
        let (numbers, _) = tensor.data().as_chunks();
        let values: Vec<f32> = numbers.iter().map(|number| f32::from_le_bytes(*number)).collect();
        match values.iter().find(|value| !value.is_finite()) {
            Some(value) => Err(TextError::new(place, shown(name), "finite numbers", value)),
            None => Ok((tensor.shape().to_vec(), values)),
        }
    }

    /// When all is taken that a network has: nothing may be left.
    pub(super) fn finish(self) -> Result<(), TextError> {
        let mut left: Vec<&str> = self.tensors.names();
        left.retain(|name| !self.taken.contains(*name));
        left.sort_unstable();
        match left.first() {
            Some(name) => Err(TextError::new("end", "tensors", "only those that the node names", shown(name))),
            None => Ok(()),
        }
    }
}

/// A shape for a message: not more of it than one can read.
fn list(shape: &[usize]) -> String {
    let dots = if shape.len() > 4 { ", ..." } else { "" };
    let shape: Vec<String> = shape.iter().take(4).map(usize::to_string).collect();
    format!("[{}{dots}]", shape.join(", "))
}
