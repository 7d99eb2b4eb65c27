//! W: calls that go wrong before anybody looks at the message's meaning.

use std::io::Write;

use bytes::Bytes;
use flate2::{Compression, write::GzEncoder};
use http::Method;
use prost::Message;
use support::grpc::{Call, frame};

use super::{Case, Expected};

/// Bytes of a request message, by default.
const LIMIT: usize = 1 << 20;

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// `message` and an unknown field, `total` bytes in all: what a newer client might send.
fn padded(message: &[u8], total: usize) -> Vec<u8> {
    // Field 1000, length-delimited; the length is written in four bytes.
    let (tag, rest) = ([0xc2, 0x3e], total - message.len() - 6);
    let length = [0, 7, 14, 21].map(|shift| (rest >> shift) as u8 & 0x7f | if shift < 21 { 0x80 } else { 0 });
    [message, &tag, &length, &vec![b'x'; rest]].concat()
}

/// What is the same for every unary method: `path` is one, `good` a request of it.
pub(super) fn cases(path: &str, good: &impl Message) -> Vec<Case> {
    let message = good.encode_to_vec();
    // A probe is a name; it is let in however busy the server is, so it may not be large.
    let limit = if path.starts_with("/grpc.health.v1.Health/") { 4096 } else { LIMIT };
    let (at, over) = (limit.to_string(), (limit + 1).to_string());
    let call = || Call::bytes(path, frame(0, &message));
    let body = |body: Vec<u8>| Call::bytes(path, body);
    let raw = |message: &[u8]| body(frame(0, message));
    let name = |name: &str| format!("{name} {path}");
    let code = |title: &str, call: Call, code: i32, words: &[&str]| Case::code(name(title), call, code, words);
    let http = |title: &str, call: Call, status: u16| Case::http(name(title), call, status);
    let content = |value: &str| call().header("content-type", value);

    let mut cases = vec![
        code("W0 good", call(), 0, &[]),
        http("W1 GET", call().method(Method::GET), 405),
        http("W2 JSON", content("application/json"), 415),
        http("W3 no content-type", call().without("content-type"), 415),
        code("W4 +json", content("application/grpc+json"), 12, &["application/grpc+json"]),
        code("W4 +proto", content("application/grpc+proto"), 0, &[]),
        code("W4 with a parameter", content("application/grpc; charset=utf-8"), 0, &[]),
        http("W5 grpc-web", content("application/grpc-web"), 415),
        code("W6 no te", call().without("te"), 0, &[]),
        code("W10 garbage", raw(b"\xff\xff\xff\xff garbage"), 13, &[]),
        code("W11 invalid UTF-8 in a string", raw(b"\x0a\x04\xff\xfe\xfd\xfc"), 13, &[]),
        code("W12 truncated within the message", body(frame(0, &[0; 20])[..15].to_vec()), 13, &[]),
        code("W12 truncated within the prefix", body(vec![0, 0, 0]), 13, &[]),
        code("W13 no body", body(Vec::new()), 13, &[]),
        code("W14 two messages", body([frame(0, &message), frame(0, &message)].concat()), 12, &[]),
        code("W15 4 GiB announced", body(vec![0, 255, 255, 255, 255, 1, 2]), 8, &[&at, "4294967295"]),
        code("W16 limit + 1", raw(&padded(&message, limit + 1)), 8, &[&at, &over]),
        code("W17 the limit", raw(&padded(&message, limit)), 0, &[]),
        code("W18 compressed by nothing", body(frame(1, &message)), 13, &["grpc-encoding"]),
        code("W19 flag 7", body(frame(7, &message)), 13, &["7"]),
        code("W20 snappy", body(frame(1, &message)).header("grpc-encoding", "snappy"), 12, &["snappy"]),
        code("W24 groups nested 500 deep", raw(&[0xa3, 0x06].repeat(500)), 13, &[]),
        code("W25 unknown fields", raw(&[&message[..], &[0xf8, 7, 0].repeat(limit * 2 / 7)].concat()), 0, &[]),
        code("W29 varint of 11 bytes", raw(&[&[0xf8, 7][..], &[255; 11]].concat()), 13, &[]),
        code("W29 tag 0", raw(&[0, 0]), 13, &[]),
        code("W29 field 2^29", raw(&[0x80, 0x80, 0x80, 0x80, 0x10, 0]), 13, &[]),
        code("W30 wrong wire type", raw(&[0x0d, 0, 0, 0, 0]), 13, &[]),
        code("W32 timeout 0n", call().header("grpc-timeout", "0n"), 4, &[]),
        code("W32 timeout 1n", call().header("grpc-timeout", "1n"), 4, &[]),
        code("W33 timeout of 11,000 years", call().header("grpc-timeout", "99999999H"), 0, &[]),
        code("W36 broken base64 that nobody reads", call().header("x-any-bin", "!!!"), 0, &[]),
    ];
    for timeout in ["abc", "-1S", "123456789S", "1X", "S", ""] {
        let call = call().header("grpc-timeout", timeout);
        let name = name(&format!("W31 timeout {timeout:?}"));
        cases.push(Case { name, call, expected: Expected::HttpWith(400, 13) });
    }
    cases
}

/// The methods that predict take compressed messages, too.
pub(super) fn compressed(path: &str, good: &impl Message) -> Vec<Case> {
    let message = good.encode_to_vec();
    let zipped = |bytes: &[u8]| Call::bytes(path, frame(1, bytes)).header("grpc-encoding", "gzip");
    let code = |title: &str, call: Call, code: i32| Case::code(format!("{title} {path}"), call, code, &[]);
    let trailing = [gzip(&message), vec![0; 3]].concat();
    let members = [gzip(&message), gzip(&message)].concat();
    let plain = Call::bytes(path, frame(0, &message)).header("grpc-encoding", "gzip");
    vec![
        code("W20 gzip", zipped(&gzip(&message)), 0),
        code("W20 not compressed in spite of the header", plain, 0),
        code("W21 gzip garbage", zipped(b"no gzip at all"), 13),
        code("W21 gzip truncated", zipped(&gzip(&message)[..12]), 13),
        code("W22 gzip bomb", zipped(&gzip(&vec![0; 2 * LIMIT])), 8),
        code("W23 gzip and trailing bytes", zipped(&trailing), 13),
        code("W23 gzip of two members", zipped(&members), 13),
    ]
}

/// W7 to W9: nothing is served there.
pub(super) fn unknown_paths() -> Vec<Case> {
    let long = format!("/{}", "x".repeat(8 << 10));
    let paths = [
        ("W7 unknown service", "/nobody.Nothing/Do"),
        ("W8 unknown method", "/inference.GRPCInferenceService/Train"),
        ("W8 unknown method", "/understudy.v1.PredictionService/Train"),
        ("W8 described, but not served", "/inference.GRPCInferenceService/RepositoryModelLoad"),
        ("W9 other case", "/inference.grpcinferenceservice/ModelInfer"),
        ("W9 double slash", "//inference.GRPCInferenceService/ModelInfer"),
        ("W9 trailing slash", "/inference.GRPCInferenceService/ModelInfer/"),
        ("W9 8 KB", &long),
        ("W9 root", "/"),
    ];
    let call = |path: &str| Call::bytes(path, Bytes::from(frame(0, &[])));
    paths.into_iter().map(|(name, path)| Case::code(name, call(path), 12, &[])).collect()
}
