//! W26 to W28, I35, with the limit at 4 MiB: small on the wire, large in memory.

use prost::Message;
use support::{
    adult::test_set,
    case::Case,
    grpc::{Call, MODEL_INFER, PREDICT, frame},
    target::How,
};
use understudy::inference::{InferTensorContents, ModelInferRequest, model_infer_request::InferInputTensor};

use super::{Try, calls};

/// Bytes of a message.
pub(crate) const LIMIT: usize = 4 << 20;

/// `name`, path and message of everything that a decoder might blow up, each just under [`LIMIT`] bytes.
pub(crate) fn hostile() -> Vec<(&'static str, &'static str, Vec<u8>)> {
    let fill = |unit: &[u8]| unit.repeat(LIMIT / unit.len());
    vec![
        ("W26 empty inputs", MODEL_INFER, fill(&[0x2a, 0])),
        ("W26 empty requested outputs", MODEL_INFER, fill(&[0x32, 0])),
        ("W26 empty raw contents", MODEL_INFER, fill(&[0x3a, 0])),
        ("W26 empty rows", PREDICT, fill(&[0x1a, 0])),
        ("W27 varints, shape [1]", MODEL_INFER, varints(1)),
        ("W27 varints, their shape", MODEL_INFER, varints(LIMIT - 64)),
        ("W27 empty texts", MODEL_INFER, empty_texts()),
        ("W28 parameters", MODEL_INFER, parameters(0x22)),
        ("W28 empty parameters", MODEL_INFER, fill(&[0x22, 0])),
    ]
}

fn one_input(datatype: &str, rows: usize, contents: InferTensorContents) -> Vec<u8> {
    let input = InferInputTensor {
        name: "age".into(),
        datatype: datatype.into(),
        shape: vec![rows as i64],
        contents: Some(contents),
        ..InferInputTensor::default()
    };
    ModelInferRequest { model_name: "adult".into(), inputs: vec![input], ..ModelInferRequest::default() }
        .encode_to_vec()
}

fn varints(rows: usize) -> Vec<u8> {
    one_input("INT64", rows, InferTensorContents { int64_contents: vec![1; LIMIT - 64], ..Default::default() })
}

fn empty_texts() -> Vec<u8> {
    let bytes_contents = vec![bytes::Bytes::new(); LIMIT / 2 - 64];
    one_input("BYTES", 1, InferTensorContents { bytes_contents, ..Default::default() })
}

/// 500,000 entries of a map whose field has this tag.
fn parameters(tag: u8) -> Vec<u8> {
    let letter = |n: usize| b'!' + (n % 90) as u8;
    (0..500_000).flat_map(|n| [tag, 5, 0x0a, 3, letter(n), letter(n / 90), letter(n / 8_100)]).collect()
}

pub(super) async fn tries(how: &How) -> Vec<Try> {
    let limit = LIMIT.to_string();
    let target = how.start(&["--max-request-bytes", &limit]).await.expect("the server starts");
    let cases = hostile().into_iter().map(|(name, path, message)| {
        let call = Call::bytes(path, frame(0, &message));
        // What has a million rows may be too many rows first.
        let codes: &[i32] = match name {
            "W27 varints, their shape" => &[0, 3, 8],
            "W26 empty rows" => &[3, 8],
            _ => &[3],
        };
        Case::codes(name, call, codes, &[])
    });
    let mut tries = calls(&target, cases.collect()).await;
    drop(target);
    let small = how.start(&["--max-response-bytes", "200"]).await.expect("the server starts");
    let call = Call::new(PREDICT, &test_set().predict(0..3));
    tries.extend(calls(&small, vec![Case::code("I35 an answer over 200 bytes", call, 8, &["answer", "200"])]).await);
    tries
}
