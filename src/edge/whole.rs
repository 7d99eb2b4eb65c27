//! A call's message out of its whole body, for whoever only watches calls: mirrored or passed on, never answered from here.

use bytes::{Buf, Bytes, BytesMut};
use http::{HeaderMap, HeaderValue};
use http_body_util::BodyExt;
use tonic::Status;

use super::{
    Inbound,
    compression::decompress,
    unary::{PREFIX, too_large},
};

/// Why a body could not be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unread {
    /// Over the limit.
    TooLarge,
    /// `hold` had no room.
    Refused,
    /// The caller has gone.
    Broken,
}

/// Reads a body of one message of at most `limit` bytes, with its prefix. `hold` is told how many bytes it keeps.
///
/// # Errors
/// The body is then dropped, which resets the stream.
pub async fn read_body(
    mut body: Inbound,
    limit: usize,
    mut hold: impl FnMut(usize) -> Result<(), Status>,
) -> Result<Bytes, Unread> {
    let mut whole = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(|_| Unread::Broken)?.into_data() else { continue };
        if whole.len() + data.len() > limit.saturating_add(PREFIX) {
            return Err(Unread::TooLarge);
        }
        hold(whole.len() + data.len()).map_err(|_| Unread::Refused)?;
        whole.extend_from_slice(&data);
    }
    Ok(whole.freeze())
}

/// The one message in `body`, decompressed: at most `limit` bytes.
///
/// # Errors
/// It is none, there is more than one, or it is compressed in a way that we don't know.
pub fn unframe(body: &Bytes, headers: &HeaderMap, limit: usize) -> Result<Bytes, Status> {
    let mut rest = body.clone();
    if rest.len() < PREFIX {
        return Err(Status::internal(format!("{} bytes are no message", rest.len())));
    }
    let (flag, length) = (rest.get_u8(), rest.get_u32() as usize);
    if length > limit {
        return Err(too_large("message", Some(length), limit));
    }
    if rest.len() != length {
        return Err(Status::internal(format!("expected one message of {length} bytes, got {}", rest.len())));
    }
    match (flag, headers.get("grpc-encoding").map(HeaderValue::as_bytes)) {
        (0, _) => Ok(rest),
        (1, Some(encoding)) if encoding != b"identity" => decompress(&String::from_utf8_lossy(encoding), &rest, limit),
        _ => Err(Status::internal(format!("message flag {flag} without an encoding"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_message_and_nothing_else() {
        let none = HeaderMap::new();
        let of = |bytes: &'static [u8]| unframe(&Bytes::from_static(bytes), &none, 3);
        assert_eq!(of(b"\0\0\0\0\x02ab").expect("a message"), "ab");
        assert_eq!(of(b"\0\0\0\0\0").expect("an empty message"), "");
        for wrong in
            [&b""[..], b"\0\0\0\0", b"\0\0\0\0\x02a", b"\0\0\0\0\x01ab", b"\0\0\0\0\x04abcd", b"\x01\0\0\0\x01a"]
        {
            assert!(unframe(&Bytes::from_static(wrong), &none, 3).is_err(), "{wrong:?}");
        }
    }
}
