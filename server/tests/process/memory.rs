//! What a client can make the process allocate.

use std::fs;

use bytes::Bytes;
use http::uri::PathAndQuery;
use prost::Message as _;
use tonic::{Code, Request, Response, client::Grpc};
use understudy::{
    inference::{InferTensorContents, ModelInferRequest, model_infer_request::InferInputTensor},
    raw::Raw,
};

use crate::{channel, process::Process, serving};

/// Bytes of a message on the wire: a limit that an operator might raise the default to.
const WIRE: usize = 4 << 20;

fn peak_kib(process: &Process) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", process.id())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

async fn call(process: &Process, path: &'static str, message: Vec<u8>) -> Code {
    let mut client = Grpc::new(channel(process));
    client.ready().await.unwrap();
    let sent = client.unary(Request::new(message.into()), PathAndQuery::from_static(path), Raw).await;
    sent.map_or_else(|status| status.code(), |_: Response<Bytes>| Code::Ok)
}

fn field(key: u8, content: &[u8]) -> Vec<u8> {
    let mut length = Vec::new();
    prost::encoding::encode_varint(content.len() as u64, &mut length);
    [&[key], &length[..], content].concat()
}

/// An input called `x` with contents of `element`, again and again.
fn within_contents(element: &[u8], bytes: usize) -> Vec<u8> {
    let contents = field(0x2a, &element.repeat(bytes / element.len()));
    [&b"\x0a\x05adult"[..], &field(0x2a, &[&b"\x0a\x01x"[..], &contents].concat())].concat()
}

/// An input called `x` with an INT64 list of ones, of a byte each.
fn packed(bytes: usize) -> Vec<u8> {
    let list = field(0x1a, &vec![1; bytes]);
    within_contents(&list, list.len())
}

/// P15, D13, cases W26 to W28: stock prost needs 156 times the bytes on the wire.
#[tokio::test]
async fn no_message_makes_the_process_grow_by_more_than_sixteen_times_its_size() {
    const INFER: &str = "/inference.GRPCInferenceService/ModelInfer";
    const PREDICT: &str = "/understudy.v1.PredictionService/Predict";
    let good = {
        let contents = InferTensorContents { int64_contents: vec![25], ..InferTensorContents::default() };
        let age =
            InferInputTensor { name: "age".into(), datatype: "INT64".into(), shape: vec![1], ..Default::default() };
        let inputs = vec![InferInputTensor { contents: Some(contents), ..age }];
        ModelInferRequest { model_name: "adult".into(), inputs, ..ModelInferRequest::default() }.encode_to_vec()
    };
    // parameters { key: ".....", value { bool_param: true } }
    let parameter =
        |key: u32| [&b"\x22\x0b\x0a\x05"[..], format!("{key:05x}").as_bytes(), b"\x12\x02\x08\x01"].concat();
    let parameters: Vec<u8> = (0..300_000).flat_map(parameter).collect();
    // Each 4 MiB at most, and what must be answered.
    let floods = [
        ("W26 empty inputs", INFER, b"\x2a\x00".repeat(WIRE / 2), Code::InvalidArgument),
        ("W26 empty raw inputs", INFER, b"\x3a\x00".repeat(WIRE / 2), Code::InvalidArgument),
        ("W26 empty outputs", INFER, b"\x32\x00".repeat(WIRE / 2), Code::InvalidArgument),
        ("W28 parameters", INFER, [good, parameters].concat(), Code::InvalidArgument),
        ("D13 empty texts", INFER, within_contents(b"\x42\x00", WIRE - 64), Code::InvalidArgument),
        ("W27 numbers of a byte", INFER, packed(WIRE - 64), Code::InvalidArgument),
        ("rows of one empty value", PREDICT, b"\x1a\x02\x0a\x00".repeat(WIRE / 4), Code::ResourceExhausted),
        ("empty rows", PREDICT, b"\x1a\x00".repeat(WIRE / 2), Code::ResourceExhausted),
    ];
    let mut complaints = Vec::new();
    for (name, path, flood, expected) in floods {
        assert!(flood.len() <= WIRE, "{name}: {} bytes", flood.len());
        let process = serving(&["--max-request-bytes", "4194304"]);
        // What one big and harmless message takes is not what is looked for.
        let plain = ModelInferRequest { model_name: "x".repeat(WIRE - 64), ..ModelInferRequest::default() };
        assert_eq!(call(&process, INFER, plain.encode_to_vec()).await, Code::InvalidArgument);
        let before = peak_kib(&process);
        let code = call(&process, path, flood).await;
        let grown = peak_kib(&process) - before;
        if code != expected || grown > (16 * WIRE as u64 + (1 << 20)) / 1024 {
            complaints.push(format!("{name}: {code:?}, {grown} KiB more"));
        }
    }
    assert!(complaints.is_empty(), "expected at most 66,560 KiB each: {complaints:#?}");
}
