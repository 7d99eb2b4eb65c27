//! Rows of [`Table`](crate::adult::Table) as tensors of the Open Inference Protocol, and answers back from tensors.

use std::ops::Range;

use bytes::Bytes;
use understudy::inference::{
    InferTensorContents, ModelInferRequest, ModelInferResponse,
    model_infer_request::{InferInputTensor, InferRequestedOutputTensor},
};

use crate::adult::{Feature, Table};

/// How a request is written.
#[derive(Clone, Copy, Debug)]
pub struct Style {
    /// In `raw_input_contents` rather than in `contents`.
    pub raw: bool,
    /// Columns of shape [N,1] rather than [N].
    pub column: bool,
}

/// Raw tensors of shape [N].
pub const RAW: Style = Style { raw: true, column: false };
/// Typed tensors of shape [N].
pub const TYPED: Style = Style { raw: false, column: false };

impl Table {
    /// A request with one tensor for each feature.
    pub fn columns(&self, rows: Range<usize>, style: Style) -> ModelInferRequest {
        let mut request = ModelInferRequest { model_name: "adult".into(), ..ModelInferRequest::default() };
        for (i, feature) in self.features.iter().enumerate() {
            let cells: Vec<&str> = self.rows[rows.clone()].iter().map(|row| row[i].as_str()).collect();
            let (datatype, contents) = column(feature, &cells);
            let mut shape = vec![cells.len() as i64];
            if style.column {
                shape.push(1);
            }
            push(&mut request, &feature.name, datatype, shape, contents, style.raw);
        }
        request
    }

    /// A request with one FP64 tensor [N,F] in which a category is its code.
    pub fn matrix(&self, rows: Range<usize>, raw: bool) -> ModelInferRequest {
        let mut request = ModelInferRequest { model_name: "adult".into(), ..ModelInferRequest::default() };
        let shape = vec![rows.len() as i64, self.features.len() as i64];
        let cells = self.rows[rows].iter().flat_map(|row| self.features.iter().zip(row));
        let fp64_contents = cells.map(|(feature, cell)| feature.code(cell)).collect();
        let contents = InferTensorContents { fp64_contents, ..InferTensorContents::default() };
        push(&mut request, "input", "FP64", shape, contents, raw);
        request
    }
}

/// INT64 where it is enough, FP64 with NaN where something is missing or fractional, BYTES for text.
fn column(feature: &Feature, cells: &[&str]) -> (&'static str, InferTensorContents) {
    let mut contents = InferTensorContents::default();
    if feature.categories.is_some() {
        contents.bytes_contents = cells.iter().map(|cell| Bytes::copy_from_slice(cell.as_bytes())).collect();
        return ("BYTES", contents);
    }
    match cells.iter().map(|cell| cell.parse()).collect::<Result<_, _>>() {
        Ok(integers) => {
            contents.int64_contents = integers;
            ("INT64", contents)
        }
        Err(_) => {
            contents.fp64_contents = cells.iter().map(|cell| feature.code(cell)).collect();
            ("FP64", contents)
        }
    }
}

fn push(
    request: &mut ModelInferRequest,
    name: &str,
    datatype: &str,
    shape: Vec<i64>,
    contents: InferTensorContents,
    raw: bool,
) {
    let mut tensor = InferInputTensor { name: name.into(), datatype: datatype.into(), shape, ..Default::default() };
    if raw {
        request.raw_input_contents.push(to_raw(&contents).into());
    } else {
        tensor.contents = Some(contents);
    }
    request.inputs.push(tensor);
}

/// Little-endian, texts preceded by their length.
fn to_raw(contents: &InferTensorContents) -> Vec<u8> {
    let integers = contents.int64_contents.iter().flat_map(|number| number.to_le_bytes());
    let doubles = contents.fp64_contents.iter().flat_map(|number| number.to_le_bytes());
    integers.chain(doubles).chain(contents.bytes_contents.iter().flat_map(|text| text_to_raw(text))).collect()
}

/// One element of a raw BYTES tensor.
pub fn text_to_raw(text: &[u8]) -> Vec<u8> {
    [&(text.len() as u32).to_le_bytes(), text].concat()
}

/// Asks for `outputs` only.
pub fn ask(request: &mut ModelInferRequest, outputs: &[&str]) {
    let asked = |name: &&str| InferRequestedOutputTensor { name: (*name).into(), ..Default::default() };
    request.outputs = outputs.iter().map(asked).collect();
}

/// An output tensor, whichever way it came.
#[derive(Clone, Debug, PartialEq)]
pub enum Output {
    /// FP64.
    Numbers(Vec<f64>),
    /// BYTES.
    Texts(Vec<String>),
}

impl Output {
    /// The output `name` of `response`, whose shape must be the number of its elements.
    pub fn of(response: &ModelInferResponse, name: &str) -> Self {
        let found = response.outputs.iter().position(|output| output.name == name);
        let i = found.unwrap_or_else(|| panic!("no output {name} in {response:?}"));
        let tensor = &response.outputs[i];
        let contents = match &tensor.contents {
            Some(contents) => {
                assert!(response.raw_output_contents.is_empty(), "both raw and typed: {response:?}");
                contents.clone()
            }
            None => from_raw(&tensor.datatype, &response.raw_output_contents[i]),
        };
        let (output, elements) = if tensor.datatype == "FP64" {
            (Self::Numbers(contents.fp64_contents.clone()), contents.fp64_contents.len())
        } else {
            let text = |bytes: &Bytes| String::from_utf8(bytes.to_vec()).expect("UTF-8");
            (Self::Texts(contents.bytes_contents.iter().map(text).collect()), contents.bytes_contents.len())
        };
        assert_eq!(tensor.shape.iter().product::<i64>(), elements as i64, "shape of {name}: {:?}", tensor.shape);
        output
    }

    /// As numbers.
    pub fn numbers(self) -> Vec<f64> {
        match self {
            Self::Numbers(numbers) => numbers,
            Self::Texts(texts) => panic!("expected numbers, got {texts:?}"),
        }
    }

    /// As texts.
    pub fn texts(self) -> Vec<String> {
        match self {
            Self::Texts(texts) => texts,
            Self::Numbers(numbers) => panic!("expected texts, got {numbers:?}"),
        }
    }
}

fn from_raw(datatype: &str, mut raw: &[u8]) -> InferTensorContents {
    let mut contents = InferTensorContents::default();
    match datatype {
        "FP64" => {
            let (doubles, []) = raw.as_chunks() else { panic!("{} bytes are no doubles", raw.len()) };
            contents.fp64_contents = doubles.iter().map(|bytes| f64::from_le_bytes(*bytes)).collect();
        }
        "BYTES" => {
            while let Some((length, rest)) = raw.split_first_chunk() {
                let (text, rest) = rest.split_at(u32::from_le_bytes(*length) as usize);
                contents.bytes_contents.push(Bytes::copy_from_slice(text));
                raw = rest;
            }
            assert!(raw.is_empty(), "{} bytes more than texts", raw.len());
        }
        other => panic!("unexpected datatype {other}"),
    }
    contents
}
