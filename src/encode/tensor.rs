//! One input tensor of the Open Inference Protocol as a sequence of typed values, whichever way it was sent.

use model::{Refusal, Value};

use super::{
    Refused,
    refusal::{shown, sizes},
};
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
    /// Its position among the inputs.
    pub(super) i: usize,
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

/// How Triton's parameters for memory that it shares with its client begin.
pub(super) const SHARED_MEMORY: &str = "shared_memory";

/// What an input says about itself, agreeing with itself.
#[derive(Clone, Copy, Debug)]
pub(super) struct Head {
    pub(super) datatype: Datatype,
    pub(super) elements: usize,
}

impl Head {
    /// What is wrong goes to `refused`.
    pub(super) fn read(input: &InferInputTensor, i: usize, model: &str, refused: &mut Refused) -> Option<Self> {
        let mut wrong = |field: &str, text: String| {
            let text = format!("inference input '{}' {text} for model '{model}'", shown(&input.name));
            refused.field(format!("inputs[{i}].{field}"), text);
        };
        let shared = input.parameters.keys().any(|key| key.starts_with(SHARED_MEMORY));
        if shared {
            wrong("parameters", "uses shared memory, which is not served,".into());
        }
        let datatype = Datatype::parse(&input.datatype);
        if datatype.is_none() {
            wrong("datatype", format!("has the unknown datatype '{}'", shown(&input.datatype)));
        }
        // A shape whose product overflows is as wrong as a negative one.
        let elements =
            input.shape.iter().try_fold(1_usize, |product, size| product.checked_mul(usize::try_from(*size).ok()?));
        if elements.is_none() {
            wrong("shape", format!("has the impossible shape {}", sizes(&input.shape)));
        }
        if shared { None } else { Some(Self { datatype: datatype?, elements: elements? }) }
    }
}

impl<'a> Tensor<'a> {
    /// The `i`th input with its data; what is wrong with that goes to `refused`.
    pub(super) fn new(
        (i, input): (usize, &'a InferInputTensor),
        head: Head,
        raw: Option<&'a [u8]>,
        model: &str,
        refused: &mut Refused,
    ) -> Option<Self> {
        let name = input.name.as_str();
        let Head { datatype, elements } = head;
        let of = || format!("of datatype {} and shape {}", input.datatype, sizes(&input.shape));
        let (field, wrong) = match (raw, &input.contents) {
            (Some(_), Some(_)) => {
                let text = format!(
                    "contents field must not be specified when using raw_input_contents for '{}' for model '{model}'",
                    shown(name)
                );
                refused.field(format!("inputs[{i}].contents"), text);
                return None;
            }
            (Some(raw), None) => match datatype.size() {
                Some(size) if elements.checked_mul(size) != Some(raw.len()) => (
                    format!("raw_input_contents[{i}]"),
                    format!("{} needs {elements} elements of {size} bytes, got {} bytes", of(), raw.len()),
                ),
                _ => return Some(Self { i, name, datatype, shape: &input.shape, elements, data: Data::Raw(raw) }),
            },
            (None, Some(contents)) => {
                let wrong = match typed_len(contents, datatype) {
                    None => format!("of datatype {} must come as raw_input_contents", input.datatype),
                    Some(got) if got != elements || all_lens(contents) != got => format!(
                        "{} needs {elements} elements in its own list and none in others, got {got} and {}",
                        of(),
                        all_lens(contents) - got
                    ),
                    Some(_) => {
                        let data = Data::Typed(contents);
                        return Some(Self { i, name, datatype, shape: &input.shape, elements, data });
                    }
                };
                (format!("inputs[{i}].contents"), wrong)
            }
            (None, None) if elements == 0 => {
                return Some(Self { i, name, datatype, shape: &input.shape, elements, data: Data::Raw(&[]) });
            }
            (None, None) => (format!("inputs[{i}].contents"), "has no data".into()),
        };
        refused.field(field, format!("inference input '{}' {wrong} for model '{model}'", shown(name)));
        None
    }

    /// Whether there is at least a length for each element: rows are only made for data that is there. If not, `refused` is
    /// told.
    pub(super) fn can_hold_its_elements(&self, refused: &mut Refused) -> bool {
        let Data::Raw(bytes) = self.data else { return true };
        let holds = self.datatype != Datatype::Bytes || self.elements <= bytes.len() / 4;
        if !holds {
            let text = format!(
                "expected {} string elements for inference input '{}', got {} bytes",
                self.elements,
                shown(self.name),
                bytes.len()
            );
            refused.field(format!("raw_input_contents[{}]", self.i), text);
        }
        holds
    }

    /// Calls `each` with the position of every element, in row-major order, and its value, or why it has none: a BOOL byte
    /// that is neither 0 nor 1, text that is not UTF-8. BYTES whose lengths do not fit go to `refused`, and the rest of the
    /// tensor is left.
    pub(super) fn for_each(&self, refused: &mut Refused, mut each: impl FnMut(&mut Refused, usize, Read<'a>)) {
        macro_rules! raw {
            ($bytes:expr, $number:ty, $value:expr) => {
                for (i, element) in $bytes.as_chunks().0.iter().enumerate() {
                    each(refused, i, Ok($value(<$number>::from_le_bytes(*element))));
                }
            };
        }
        macro_rules! typed {
            ($list:expr, $value:expr) => {
                for (i, element) in $list.iter().enumerate() {
                    each(refused, i, Ok($value(*element)));
                }
            };
        }
        match (&self.data, self.datatype) {
            (Data::Raw(bytes), Datatype::Bool) => {
                for (i, byte) in bytes.iter().enumerate() {
                    let value = match *byte {
                        0 | 1 => Ok(Value::Bool(*byte == 1)),
                        _ => Err(Refusal { expected: "BOOL as one byte 0 or 1".into(), got: byte.to_string() }),
                    };
                    each(refused, i, value);
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
            (Data::Raw(bytes), Datatype::Bytes) => self.for_each_text(bytes, refused, &mut each),
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
                        each(refused, i, utf8(text));
                    }
                }
                Datatype::Fp16 | Datatype::Bf16 => {}
            },
        }
    }

    fn for_each_text(
        &self,
        mut bytes: &'a [u8],
        refused: &mut Refused,
        each: &mut impl FnMut(&mut Refused, usize, Read<'a>),
    ) {
        let (expected, name) = (self.elements, || shown(self.name));
        let field = || format!("raw_input_contents[{}]", self.i);
        for i in 0..expected {
            let Some((length, rest)) = bytes.split_first_chunk() else {
                let text = format!("expected {expected} string elements for inference input '{}', got {i}", name());
                return refused.field(field(), text);
            };
            let length = u32::from_le_bytes(*length) as usize;
            let Some((text, rest)) = rest.split_at_checked(length) else {
                let refusal = Refusal {
                    expected: "a length that fits".into(),
                    got: format!("{length} with {} bytes left", rest.len()),
                };
                return each(refused, i, Err(refusal));
            };
            each(refused, i, utf8(text));
            bytes = rest;
        }
        if !bytes.is_empty() {
            let text = format!(
                "expected {expected} string elements for inference input '{}', got {} bytes more",
                name(),
                bytes.len()
            );
            refused.field(field(), text);
        }
    }
}

/// An element, or why it is none of its datatype.
pub(super) type Read<'a> = Result<Value<'a>, Refusal>;

fn utf8(bytes: &[u8]) -> Read<'_> {
    std::str::from_utf8(bytes)
        .map(Value::Text)
        .map_err(|error| Refusal { expected: "UTF-8 text".into(), got: format!("{} bytes: {error}", bytes.len()) })
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
