//! What a client can make the process allocate.

use std::fs;

use bytes::{Buf as _, BufMut as _, Bytes};
use http::uri::PathAndQuery;
use prost::Message as _;
use tonic::{
    Code, Request, Status,
    client::Grpc,
    codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder},
};
use understudy::inference::ModelInferRequest;

use crate::{channel, serving, spawned::Process};

/// Sends and receives messages as bytes.
#[derive(Clone, Copy, Debug, Default)]
struct Verbatim;

impl Codec for Verbatim {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        *self
    }

    fn decoder(&mut self) -> Self {
        *self
    }
}

impl Encoder for Verbatim {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, message: Bytes, to: &mut EncodeBuf<'_>) -> Result<(), Status> {
        to.put(message);
        Ok(())
    }
}

impl Decoder for Verbatim {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(from.copy_to_bytes(from.remaining())))
    }
}

fn peak_kib(process: &Process) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", process.id())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

async fn infer(process: &Process, message: Bytes) -> Code {
    let mut client = Grpc::new(channel(process));
    client.ready().await.unwrap();
    let path = PathAndQuery::from_static("/inference.GRPCInferenceService/ModelInfer");
    client.unary(Request::new(message), path, Verbatim).await.map_or_else(|status| status.code(), |_| Code::Ok)
}

/// P15, D13, cases W26 to W28: stock prost needs 156 times the bytes on the wire.
#[tokio::test]
async fn no_message_makes_the_process_grow_by_more_than_sixteen_times_its_size() {
    const WIRE: usize = 4 << 20;
    let entry = |key: u32| {
        // parameters { key: "....", value { bool_param: true } }
        let entry = [&b"\x0a\x04"[..], format!("{key:04x}").as_bytes(), b"\x12\x02\x08\x01"].concat();
        [&[0x22, entry.len() as u8][..], &entry].concat()
    };
    let floods: [(&str, Vec<u8>); 4] = [
        ("empty inputs", b"\x2a\x00".repeat(WIRE / 2)),
        ("empty raw inputs", b"\x3a\x00".repeat(WIRE / 2)),
        ("empty outputs", b"\x32\x00".repeat(WIRE / 2)),
        ("parameters", (0..65_536).flat_map(entry).collect::<Vec<_>>().repeat(5)),
    ];
    let mut complaints = Vec::new();
    for (name, flood) in floods {
        assert!(flood.len() <= WIRE, "{name}: {} bytes", flood.len());
        let process = serving(&[]);
        let plain = ModelInferRequest { model_name: "x".repeat(WIRE - 64), ..Default::default() };
        assert_eq!(infer(&process, plain.encode_to_vec().into()).await, Code::InvalidArgument);
        let before = peak_kib(&process);
        let code = infer(&process, flood.into()).await;
        let grown = peak_kib(&process) - before;
        if code != Code::InvalidArgument || grown > (16 * WIRE as u64 + (1 << 20)) / 1024 {
            complaints.push(format!("{name}: {code:?}, {grown} KiB more"));
        }
    }
    assert!(complaints.is_empty(), "4 MiB on the wire each: {complaints:#?}");
}
