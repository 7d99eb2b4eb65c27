//! Compressed request messages: gzip and deflate, as gRPC clients send them. Answers are never compressed: for the few
//! hundred bytes of a prediction it costs more than it saves.

use std::io::Read;

use bytes::Bytes;
// Over a slice these stop where the stream ends, so that what follows it is seen.
use flate2::bufread::{GzDecoder, ZlibDecoder};
use tonic::Status;

/// What `grpc-accept-encoding` says.
pub(super) const ACCEPTED: &str = "identity,gzip,deflate";

/// Decompresses one message of at most `limit` bytes.
///
/// # Errors
/// INTERNAL for what is no such stream or goes on after its end, RESOURCE_EXHAUSTED over the limit.
pub(super) fn decompress(encoding: &str, message: &[u8], limit: usize) -> Result<Bytes, Status> {
    match encoding {
        "gzip" => {
            let mut decoder = GzDecoder::new(message);
            let out = read(&mut decoder, limit)?;
            whole(decoder.into_inner(), out)
        }
        "deflate" => {
            let mut decoder = ZlibDecoder::new(message);
            let out = read(&mut decoder, limit)?;
            whole(decoder.into_inner(), out)
        }
        _ => Err(Status::unimplemented(format!(
            "message compressed with {}, accepted are {ACCEPTED}",
            encoding.escape_debug()
        ))),
    }
}

fn read(decoder: &mut impl Read, limit: usize) -> Result<Vec<u8>, Status> {
    let mut out = Vec::new();
    match decoder.take(limit as u64 + 1).read_to_end(&mut out) {
        Err(error) => Err(Status::internal(format!("message can't be decompressed: {error}"))),
        Ok(_) if out.len() > limit => Err(super::unary::too_large("decompressed message", None, limit)),
        Ok(_) => Ok(out),
    }
}

fn whole(rest: &[u8], out: Vec<u8>) -> Result<Bytes, Status> {
    if rest.is_empty() {
        Ok(out.into())
    } else {
        Err(Status::internal(format!("{} bytes follow the compressed message", rest.len())))
    }
}
