//! One input tensor of the Open Inference Protocol as a sequence of typed values, whichever way it was sent.

use model::Value;

use super::{RequestError, refusal::shown};
use crate::inference::{InferTensorContents, model_infer_request::InferInputTensor};

/// The protocol's datatypes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Datatype {
    Bool,
    Uint8,
    Uint16,
    Uint32,
    Uint64,
    Int8,
    Int16,
    Int32,
    Int64,
    Fp16,
    Bf16,
    Fp32,
    Fp64,
    Bytes,
}

impl Datatype {
    pub(super) fn parse(text: &str) -> Option<Self> {
        Some(match text {
            "BOOL" => Self::Bool,
            "UINT8" => Self::Uint8,
            "UINT16" => Self::Uint16,
            "UINT32" => Self::Uint32,
            "UINT64" => Self::Uint64,
            "INT8" => Self::Int8,
            "INT16" => Self::Int16,
            "INT32" => Self::Int32,
            "INT64" => Self::Int64,
            "FP16" => Self::Fp16,
            "BF16" => Self::Bf16,
            "FP32" => Self::Fp32,
            "FP64" => Self::Fp64,
            "BYTES" => Self::Bytes,
            _ => return None,
        })
    }

    /// Bytes of an element; absent for BYTES, whose elements differ.
    fn size(self) -> Option<usize> {
        Some(match self {
            Self::Bool | Self::Uint8 | Self::Int8 => 1,
            Self::Uint16 | Self::Int16 | Self::Fp16 | Self::Bf16 => 2,
            Self::Uint32 | Self::Int32 | Self::Fp32 => 4,
            Self::Uint64 | Self::Int64 | Self::Fp64 => 8,
            Self::Bytes => return None,
        })
    }

    pub(super) fn is_number(self) -> bool {
        !matches!(self, Self::Bool | Self::Bytes)
    }
}

/// One input whose datatype, shape and size agree with each other.
#[derive(Debug)]
pub(super) struct Tensor<'a> {
    name: &'a str,
    pub(super) datatype: Datatype,
    pub(super) shape: &'a [i64],
    pub(super) elements: usize,
    data: Data<'a>,
}

#[derive(Debug)]
enum Data<'a> {
    Raw(&'a [u8]),
    Typed(&'a InferTensorContents),
}

impl<'a> Tensor<'a> {
    pub(super) fn new(input: &'a InferInputTensor, raw: Option<&'a [u8]>, model: &str) -> Result<Self, RequestError> {
        let name = input.name.as_str();
        let wrong = |text: String| {
            RequestError::invalid(format!("inference input '{}' {text} for model '{model}'", shown(name)))
        };
        if input.parameters.keys().any(|key| key.starts_with("shared_memory")) {
            return Err(wrong("uses shared memory, which is not served,".into()));
        }
        let datatype = Datatype::parse(&input.datatype)
            .ok_or_else(|| wrong(format!("has the unknown datatype '{}'", shown(&input.datatype))))?;
        // A shape whose product overflows is as wrong as a negative one.
        let elements = input
            .shape
            .iter()
            .try_fold(1_usize, |product, size| product.checked_mul(usize::try_from(*size).ok()?))
            .ok_or_else(|| wrong(format!("has the impossible shape {:?}", input.shape)))?;
        let data = match (raw, &input.contents) {
            (Some(_), Some(_)) => {
                return Err(RequestError::invalid(format!(
                    "contents field must not be specified when using raw_input_contents for '{}' for model '{model}'",
                    shown(name)
                )));
            }
            (Some(raw), None) => {
                if let Some(size) = datatype.size()
                    && elements.checked_mul(size) != Some(raw.len())
                {
                    return Err(wrong(format!(
                        "of datatype {} and shape {:?} needs {elements} elements of {size} bytes, got {} bytes",
                        input.datatype,
                        input.shape,
                        raw.len()
                    )));
                }
                Data::Raw(raw)
            }
            (None, Some(contents)) => {
                let got = typed_len(contents, datatype)
                    .ok_or_else(|| wrong(format!("of datatype {} must come as raw_input_contents", input.datatype)))?;
                if got != elements || all_lens(contents) != got {
                    return Err(wrong(format!(
                        "of datatype {} and shape {:?} needs {elements} elements in its own list and none in others, got {got} \
                         and {}",
                        input.datatype,
                        input.shape,
                        all_lens(contents) - got
                    )));
                }
                Data::Typed(contents)
            }
            (None, None) if elements == 0 => Data::Raw(&[]),
            (None, None) => return Err(wrong("has no data".into())),
        };
        Ok(Self { name, datatype, shape: &input.shape, elements, data })
    }

    /// Calls `each` with the position and the value of every element, in row-major order.
    ///
    /// # Errors
    /// BYTES whose lengths do not fit, a BOOL byte that is neither 0 nor 1, text that is not UTF-8; or what `each` says.
    pub(super) fn for_each(
        &self,
        mut each: impl FnMut(usize, Value<'a>) -> Result<(), RequestError>,
    ) -> Result<(), RequestError> {
        macro_rules! raw {
            ($bytes:expr, $number:ty, $value:expr) => {
                for (i, element) in $bytes.as_chunks().0.iter().enumerate() {
                    each(i, $value(<$number>::from_le_bytes(*element)))?;
                }
            };
        }
        macro_rules! typed {
            ($list:expr, $value:expr) => {
                for (i, element) in $list.iter().enumerate() {
                    each(i, $value(*element))?;
                }
            };
        }
        match (&self.data, self.datatype) {
            (Data::Raw(bytes), Datatype::Bool) => {
                for (i, byte) in bytes.iter().enumerate() {
                    if *byte > 1 {
                        return Err(self.wrong(i, &format!("BOOL as one byte 0 or 1, got {byte}")));
                    }
                    each(i, Value::Bool(*byte == 1))?;
                }
            }
            (Data::Raw(bytes), Datatype::Uint8) => raw!(bytes, u8, |x| Value::Int(i64::from(x))),
            (Data::Raw(bytes), Datatype::Uint16) => raw!(bytes, u16, |x| Value::Int(i64::from(x))),
            (Data::Raw(bytes), Datatype::Uint32) => raw!(bytes, u32, |x| Value::Int(i64::from(x))),
            (Data::Raw(bytes), Datatype::Uint64) => raw!(bytes, u64, unsigned),
            (Data::Raw(bytes), Datatype::Int8) => raw!(bytes, i8, |x| Value::Int(i64::from(x))),
            (Data::Raw(bytes), Datatype::Int16) => raw!(bytes, i16, |x| Value::Int(i64::from(x))),
            (Data::Raw(bytes), Datatype::Int32) => raw!(bytes, i32, |x| Value::Int(i64::from(x))),
            (Data::Raw(bytes), Datatype::Int64) => raw!(bytes, i64, Value::Int),
            (Data::Raw(bytes), Datatype::Fp16) => raw!(bytes, u16, |x| Value::Float(half(x))),
            (Data::Raw(bytes), Datatype::Bf16) => {
                raw!(bytes, u16, |x| Value::Float(f64::from(f32::from_bits(u32::from(x) << 16))));
            }
            (Data::Raw(bytes), Datatype::Fp32) => raw!(bytes, f32, |x| Value::Float(f64::from(x))),
            (Data::Raw(bytes), Datatype::Fp64) => raw!(bytes, f64, Value::Float),
            (Data::Raw(bytes), Datatype::Bytes) => self.for_each_text(bytes, &mut each)?,
            (Data::Typed(contents), datatype) => match datatype {
                Datatype::Bool => typed!(contents.bool_contents, Value::Bool),
                Datatype::Int8 | Datatype::Int16 | Datatype::Int32 => {
                    typed!(contents.int_contents, |x| Value::Int(i64::from(x)));
                }
                Datatype::Int64 => typed!(contents.int64_contents, Value::Int),
                Datatype::Uint8 | Datatype::Uint16 | Datatype::Uint32 => {
                    typed!(contents.uint_contents, |x| Value::Int(i64::from(x)));
                }
                Datatype::Uint64 => typed!(contents.uint64_contents, unsigned),
                Datatype::Fp32 => typed!(contents.fp32_contents, |x| Value::Float(f64::from(x))),
                Datatype::Fp64 => typed!(contents.fp64_contents, Value::Float),
                Datatype::Bytes => {
                    for (i, text) in contents.bytes_contents.iter().enumerate() {
                        each(i, self.text(i, text)?)?;
                    }
                }
                Datatype::Fp16 | Datatype::Bf16 => {}
            },
        }
        Ok(())
    }

    fn for_each_text(
        &self,
        mut bytes: &'a [u8],
        each: &mut impl FnMut(usize, Value<'a>) -> Result<(), RequestError>,
    ) -> Result<(), RequestError> {
        for i in 0..self.elements {
            let (length, rest) = bytes.split_first_chunk().ok_or_else(|| {
                RequestError::invalid(format!(
                    "expected {} string elements for inference input '{}', got {i}",
                    self.elements,
                    shown(self.name)
                ))
            })?;
            let length = u32::from_le_bytes(*length) as usize;
            let (text, rest) = rest.split_at_checked(length).ok_or_else(|| {
                self.wrong(i, &format!("a length that fits, got {length} with {} bytes left", rest.len()))
            })?;
            each(i, self.text(i, text)?)?;
            bytes = rest;
        }
        if !bytes.is_empty() {
            return Err(RequestError::invalid(format!(
                "expected {} string elements for inference input '{}', got {} bytes more",
                self.elements,
                shown(self.name),
                bytes.len()
            )));
        }
        Ok(())
    }

    fn text(&self, i: usize, bytes: &'a [u8]) -> Result<Value<'a>, RequestError> {
        std::str::from_utf8(bytes)
            .map(Value::Text)
            .map_err(|error| self.wrong(i, &format!("UTF-8 text, got {} bytes: {error}", bytes.len())))
    }

    fn wrong(&self, element: usize, text: &str) -> RequestError {
        let columns = self.shape.get(1).map_or(1, |columns| (*columns).max(1)) as usize;
        RequestError::invalid(format!("row {}, feature '{}': expected {text}", element / columns, shown(self.name)))
    }
}

/// Past i64 the nearest double is all that a model could use.
fn unsigned<'a>(number: u64) -> Value<'a> {
    i64::try_from(number).map_or(Value::Float(number as f64), Value::Int)
}

/// IEEE 754 binary16.
fn half(bits: u16) -> f64 {
    let sign = if bits & 0x8000 == 0 { 1.0 } else { -1.0 };
    let (exponent, fraction) = (i32::from(bits >> 10 & 0x1f), f64::from(bits & 0x3ff));
    sign * match exponent {
        0 => fraction * 2_f64.powi(-24),
        31 if fraction == 0.0 => f64::INFINITY,
        31 => f64::NAN,
        _ => (1.0 + fraction / 1024.0) * 2_f64.powi(exponent - 15),
    }
}

/// Elements in the list that belongs to `datatype`; absent where the protocol has no list for it.
fn typed_len(contents: &InferTensorContents, datatype: Datatype) -> Option<usize> {
    Some(match datatype {
        Datatype::Bool => contents.bool_contents.len(),
        Datatype::Int8 | Datatype::Int16 | Datatype::Int32 => contents.int_contents.len(),
        Datatype::Int64 => contents.int64_contents.len(),
        Datatype::Uint8 | Datatype::Uint16 | Datatype::Uint32 => contents.uint_contents.len(),
        Datatype::Uint64 => contents.uint64_contents.len(),
        Datatype::Fp32 => contents.fp32_contents.len(),
        Datatype::Fp64 => contents.fp64_contents.len(),
        Datatype::Bytes => contents.bytes_contents.len(),
        Datatype::Fp16 | Datatype::Bf16 => return None,
    })
}

fn all_lens(contents: &InferTensorContents) -> usize {
    contents.bool_contents.len()
        + contents.int_contents.len()
        + contents.int64_contents.len()
        + contents.uint_contents.len()
        + contents.uint64_contents.len()
        + contents.fp32_contents.len()
        + contents.fp64_contents.len()
        + contents.bytes_contents.len()
}

#[cfg(test)]
mod tests {
    use super::half;

    #[test]
    fn halves() {
        for (bits, value) in
            [(0x0000, 0.0), (0x3c00, 1.0), (0xc000, -2.0), (0x7bff, 65504.0), (0x0001, 2_f64.powi(-24))]
        {
            assert_eq!(half(bits), value, "{bits:#06x}");
        }
        assert_eq!(half(0x7c00), f64::INFINITY);
        assert_eq!(half(0xfc00), f64::NEG_INFINITY);
        assert!(half(0x7e00).is_nan());
    }
}
