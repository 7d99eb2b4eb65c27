//! A look at a message before anything is allocated for it. An empty input takes two bytes on the wire and 312 in memory:
//! decoded blindly, four megabytes of them become 624. So every field is passed over once, counted, and what decoding
//! would allocate for it is added up; a message that would grow to more than [`TIMES`] its size is refused.

use bytes::Bytes;

use super::RequestError;
use crate::{
    inference::{
        InferParameter,
        model_infer_request::{InferInputTensor, InferRequestedOutputTensor},
    },
    v1::{Row, Value},
};

/// Inputs and raw contents of a request: a wide table has as many columns.
const MAX_INPUTS: usize = 4096;
/// Outputs that a request names.
const MAX_OUTPUTS: usize = 64;
/// Parameters of a request, of an input, of an output.
const MAX_PARAMETERS: usize = 64;
/// Elements of BYTES tensors that are not raw, all tensors together.
const MAX_TEXTS: usize = 1 << 20;
/// Values of a row of named values.
const MAX_VALUES: usize = 4096;

/// What decoding may allocate: so many times the bytes on the wire...
const TIMES: usize = 16;
/// ...and so much on top, which lets pass everything that is small.
const BASE: usize = 960 << 10;

/// Walks a `ModelInferRequest`.
///
/// # Errors
/// More of something than a request may have. What is no protobuf passes: decoding says so better.
pub(super) fn tensors(message: &[u8]) -> Result<(), RequestError> {
    let (mut parameters, mut inputs, mut outputs, mut raw) = (0, 0, 0, 0);
    let mut texts = 0;
    let mut cost = 0;
    for field in Fields(message) {
        match field.number {
            4 => {
                count(&mut parameters, "parameters", MAX_PARAMETERS, || "parameters".into())?;
                cost += strings(field.content);
            }
            5 => {
                count(&mut inputs, "inputs", MAX_INPUTS, || "inputs".into())?;
                cost += input(field.content, inputs - 1, &mut texts)?;
            }
            6 => {
                count(&mut outputs, "outputs", MAX_OUTPUTS, || "outputs".into())?;
                cost += output(field.content, outputs - 1)?;
            }
            7 => count(&mut raw, "raw_input_contents", MAX_INPUTS, || "raw_input_contents".into())?,
            1..=3 => cost += strings(field.content),
            _ => {}
        }
    }
    cost += map::<InferParameter>(parameters);
    cost += list::<InferInputTensor>(inputs) + list::<InferRequestedOutputTensor>(outputs) + list::<Bytes>(raw);
    affordable(cost, message, "send numbers and texts as raw_input_contents, or fewer rows at once")
}

/// Walks a `PredictRequest`.
///
/// # Errors
/// As [`tensors`], and more rows than `max_rows`.
pub(super) fn rows(message: &[u8], max_rows: usize) -> Result<(), RequestError> {
    let (mut rows, mut cost) = (0_usize, 0);
    for field in Fields(message) {
        match field.number {
            3 => {
                rows += 1;
                if rows <= max_rows {
                    cost += row(field.content, rows - 1)?;
                }
            }
            1 | 2 | 4 => cost += strings(field.content),
            _ => {}
        }
    }
    if rows > max_rows {
        return Err(RequestError::TooManyRows { limit: max_rows, got: rows });
    }
    affordable(cost + list::<Row>(rows), message, "send fewer rows at once")
}

fn affordable(cost: usize, message: &[u8], instead: &str) -> Result<(), RequestError> {
    let (size, limit) = (message.len(), TIMES * message.len() + BASE);
    if cost <= limit {
        return Ok(());
    }
    Err(RequestError::Invalid(format!(
        "request of {size} bytes would take {cost} bytes of memory: limit {limit}; {instead}"
    )))
}

fn count(so_far: &mut usize, name: &str, limit: usize, field: impl FnOnce() -> String) -> Result<(), RequestError> {
    *so_far += 1;
    if *so_far > limit {
        let text = format!("request has too many {name}: limit {limit}");
        return Err(RequestError::field(field(), text));
    }
    Ok(())
}

/// The input itself is counted where its list is.
fn input(message: &[u8], i: usize, texts: &mut usize) -> Result<usize, RequestError> {
    let (mut named, mut sizes, mut parameters) = (false, 0, 0);
    let mut lists = [0_usize; 8];
    let mut cost = 0;
    for field in Fields(message) {
        match field.number {
            1 => {
                named = !field.content.is_empty();
                cost += string(field.content);
            }
            2 => cost += string(field.content),
            3 => sizes += field.varints(),
            4 => {
                count(&mut parameters, "parameters of an input", MAX_PARAMETERS, || format!("inputs[{i}].parameters"))?;
                cost += strings(field.content);
            }
            5 => contents(field.content, &mut lists),
            _ => {}
        }
    }
    if !named {
        return Err(RequestError::field(format!("inputs[{i}].name"), format!("input {i} has no name")));
    }
    let [bools, ints, int64s, uints, uint64s, floats, doubles, bytes] = lists;
    *texts += bytes;
    if *texts > MAX_TEXTS {
        let text = format!("request has too many elements in bytes_contents: limit {MAX_TEXTS}");
        return Err(RequestError::field(format!("inputs[{i}].contents"), text));
    }
    cost += list::<i64>(sizes) + map::<InferParameter>(parameters) + list::<bool>(bools);
    cost += list::<u32>(ints) + list::<u32>(uints) + list::<u32>(floats);
    cost += list::<u64>(int64s) + list::<u64>(uint64s) + list::<u64>(doubles);
    Ok(cost + list::<Bytes>(bytes))
}

/// Adds up the elements of an `InferTensorContents`, which may come in pieces.
fn contents(message: &[u8], lists: &mut [usize; 8]) {
    for field in Fields(message) {
        let elements = match field.number {
            1..=5 => field.varints(),
            6 => field.fixed(4),
            7 => field.fixed(8),
            8 => 1,
            _ => continue,
        };
        lists[field.number as usize - 1] += elements;
    }
}

fn output(message: &[u8], i: usize) -> Result<usize, RequestError> {
    let (mut parameters, mut cost) = (0, 0);
    for field in Fields(message) {
        match field.number {
            1 => cost += string(field.content),
            2 => {
                count(&mut parameters, "parameters of an output", MAX_PARAMETERS, || {
                    format!("outputs[{i}].parameters")
                })?;
                cost += strings(field.content);
            }
            _ => {}
        }
    }
    Ok(cost + map::<InferParameter>(parameters))
}

fn row(message: &[u8], r: usize) -> Result<usize, RequestError> {
    let (mut values, mut cost) = (0, 0);
    for field in Fields(message) {
        if field.number == 1 {
            count(&mut values, "values in a row", MAX_VALUES, || format!("rows[{r}].values"))?;
            cost += strings(field.content);
        }
    }
    Ok(cost + map::<Value>(values))
}

/// Of a list that grows by doubling, as `Vec` does.
fn list<T>(elements: usize) -> usize {
    if elements == 0 { 0 } else { elements.max(4).next_power_of_two() * size_of::<T>() }
}

/// Of a `BTreeMap` by text: the first entry takes a node for eleven; once nodes split, each keeps five and one above it.
fn map<V>(entries: usize) -> usize {
    const PLACES: usize = 11;
    let leaf = PLACES * size_of::<(String, V)>() + 16;
    match entries {
        0 => 0,
        1..=PLACES => leaf,
        _ => {
            let leaves = (entries + 1) / 6;
            leaves * leaf + (1 + leaves / 5) * (leaf + (PLACES + 1) * size_of::<usize>())
        }
    }
}

/// Of a text of its own, and what the allocator puts around it.
fn string(text: &[u8]) -> usize {
    text.len().max(8) + 16
}

/// Of what holds at most two texts, whatever they are.
fn strings(message: &[u8]) -> usize {
    message.len() + 32
}

/// A field of a message.
#[derive(Clone, Copy, Debug)]
pub(super) struct Field<'a> {
    pub(super) number: u64,
    /// Of a field with a length; else empty.
    pub(super) content: &'a [u8],
    pub(super) has_length: bool,
}

impl Field<'_> {
    /// Numbers of varying length in it: packed, each ends with a byte without the highest bit.
    fn varints(&self) -> usize {
        if self.has_length { self.content.iter().filter(|byte| **byte < 0x80).count() } else { 1 }
    }

    fn fixed(&self, size: usize) -> usize {
        if self.has_length { self.content.len() / size } else { 1 }
    }
}

/// The fields of a message, up to its end or to where no decoder would go on.
#[derive(Debug)]
pub(super) struct Fields<'a>(&'a [u8]);

impl<'a> Iterator for Fields<'a> {
    type Item = Field<'a>;

    fn next(&mut self) -> Option<Field<'a>> {
        let key = varint(&mut self.0)?;
        let number = key >> 3;
        let (content, has_length) = match key & 7 {
            0 => {
                varint(&mut self.0)?;
                (&[][..], false)
            }
            1 => (self.pass(8).map(|_| &[][..])?, false),
            2 => {
                let length = usize::try_from(varint(&mut self.0)?).ok()?;
                (self.pass(length)?, true)
            }
            3 => {
                self.pass_group()?;
                (&[][..], false)
            }
            5 => (self.pass(4).map(|_| &[][..])?, false),
            _ => return None,
        };
        Some(Field { number, content, has_length })
    }
}

/// The model and the version that a request asks for, whatever else is wrong with it: both protocols have them in the same
/// fields. Empty where they are not there, or no text.
pub fn asked(message: &[u8]) -> (&str, &str) {
    let (mut model, mut version) = ("", "");
    for field in Fields(message) {
        match field.number {
            1 => model = std::str::from_utf8(field.content).unwrap_or_default(),
            2 => version = std::str::from_utf8(field.content).unwrap_or_default(),
            _ => {}
        }
    }
    (model, version)
}

impl<'a> Fields<'a> {
    pub(super) fn of(message: &'a [u8]) -> Self {
        Self(message)
    }

    /// What was not passed over yet.
    pub(super) fn rest(&self) -> &'a [u8] {
        self.0
    }

    fn pass(&mut self, length: usize) -> Option<&'a [u8]> {
        let (passed, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(passed)
    }

    /// To the end of a group and of those within it, however deep: behind them the message goes on.
    fn pass_group(&mut self) -> Option<()> {
        let mut depth = 1;
        while depth > 0 {
            match varint(&mut self.0)? & 7 {
                0 => drop(varint(&mut self.0)?),
                1 => drop(self.pass(8)?),
                2 => {
                    let length = usize::try_from(varint(&mut self.0)?).ok()?;
                    self.pass(length)?;
                }
                3 => depth += 1,
                4 => depth -= 1,
                5 => drop(self.pass(4)?),
                _ => return None,
            }
        }
        Some(())
    }
}

/// None when it does not end, or is longer than 64 bits.
pub(super) fn varint(message: &mut &[u8]) -> Option<u64> {
    let (first, rest) = message.split_first()?;
    if *first < 0x80 {
        *message = rest;
        return Some(u64::from(*first));
    }
    let mut value = 0_u64;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = message.split_first()?;
        *message = rest;
        if shift == 63 && *byte > 1 {
            return None;
        }
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use prost::Message as _;

    use super::*;
    use crate::inference::ModelInferRequest;

    fn request(inputs: usize) -> Vec<u8> {
        let input = InferInputTensor { name: "age".into(), shape: vec![1, 300], ..Default::default() };
        let model_name = "adult".into();
        ModelInferRequest { model_name, inputs: vec![input; inputs], ..Default::default() }.encode_to_vec()
    }

    fn refused(outcome: Result<(), RequestError>) -> String {
        outcome.expect_err("more than may be").to_string()
    }

    #[test]
    fn as_many_as_allowed_pass_and_one_more_does_not() {
        assert!(tensors(&request(4096)).is_ok());
        assert_eq!(refused(tensors(&request(4097))), "request has too many inputs: limit 4096");
        let good = request(1);
        for (more, limit, text) in [
            (&b"\x22\x02\x0a\x00"[..], 64, "request has too many parameters: limit 64"),
            (b"\x32\x00", 64, "request has too many outputs: limit 64"),
            (b"\x3a\x00", 4096, "request has too many raw_input_contents: limit 4096"),
        ] {
            assert!(tensors(&[&good, &*more.repeat(limit)].concat()).is_ok(), "{text}");
            assert_eq!(refused(tensors(&[&good, &*more.repeat(limit + 1)].concat())), text);
            // Behind an unknown group, which decoders pass over, too.
            let hidden = [&b"\xa3\x06\xab\x06\xac\x06\xa4\x06"[..], &more.repeat(limit + 1)].concat();
            assert_eq!(refused(tensors(&hidden)), text);
        }
        let of_an_input = |entries: usize| {
            let nested = [&b"\x0a\x01x"[..], &b"\x22\x00".repeat(entries)].concat();
            [&[0x2a, 0x80 | (nested.len() & 0x7f) as u8, (nested.len() >> 7) as u8][..], &nested].concat()
        };
        assert!(tensors(&of_an_input(64)).is_ok());
        assert_eq!(refused(tensors(&of_an_input(65))), "request has too many parameters of an input: limit 64");
        assert_eq!(refused(tensors(b"\x2a\x00")), "input 0 has no name");
    }

    #[test]
    fn rows_are_counted_to_the_end() {
        assert!(rows(&b"\x1a\x00".repeat(7), 7).is_ok());
        assert_eq!(refused(rows(&b"\x1a\x00".repeat(9), 7)), "request has too many rows: limit 7, got 9");
    }

    #[test]
    fn what_is_broken_passes_to_the_decoder() {
        for broken in [
            &b"\xff"[..],
            b"\x2a\xff\xff\xff\xff\x7f",
            b"\x0b",
            b"\x0c",
            b"\x0e",
            b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
        ] {
            assert!(tensors(broken).is_ok() && rows(broken, 1).is_ok(), "{broken:x?}");
        }
    }
}
