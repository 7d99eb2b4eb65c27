//! A `PredictRequest` whose rows are read where they lie. Decoded, a hundred rows of fourteen named values are three thousand
//! allocations that live for as long as one loop over them: half of what such a call costs.

use bytes::Bytes;
use model::Value;
use prost::Message as _;

use super::{
    RequestError,
    decode::decode,
    rows::Sent,
    scan::{self, Fields, varint},
};
use crate::v1::PredictRequest;

/// A request of rows.
#[derive(Debug)]
pub struct RowsMessage<'m> {
    message: &'m Bytes,
    /// With its rows where they had to be decoded; `rows` has none then.
    head: PredictRequest,
    rows: Vec<&'m [u8]>,
}

impl<'m> RowsMessage<'m> {
    /// Reads everything but the rows of `message`, of which there may be `max_rows`.
    ///
    /// # Errors
    /// As [`decode_rows`](super::decode_rows), except that rows which can't be decoded are only found by who reads them.
    pub fn read(message: &'m Bytes, max_rows: usize) -> Result<Self, RequestError> {
        scan::rows(message, max_rows)?;
        let (mut head, mut rows) = (Vec::new(), Vec::new());
        let mut fields = Fields::of(message);
        while !fields.rest().is_empty() {
            let from = fields.rest();
            match fields.next() {
                Some(field) if field.number == 3 && field.has_length => rows.push(field.content),
                Some(_) => head.extend_from_slice(&from[..from.len() - fields.rest().len()]),
                // It is broken here. What is wrong is said of the whole message.
                None => return Self::decoded(message),
            }
        }
        match PredictRequest::decode(head.as_slice()) {
            Ok(head) => Ok(Self { message, head, rows }),
            Err(_) => Self::decoded(message),
        }
    }

    fn decoded(message: &'m Bytes) -> Result<Self, RequestError> {
        Ok(Self { message, head: decode(message)?, rows: Vec::new() })
    }

    /// What it says apart from its rows, which are there or not.
    pub fn head(&self) -> &PredictRequest {
        &self.head
    }

    pub(super) fn rows(&self) -> &[&'m [u8]] {
        &self.rows
    }

    /// With its rows.
    pub(super) fn whole(&self) -> Result<PredictRequest, RequestError> {
        decode(self.message)
    }
}

/// Reads a `Row`. False when it is none, or written as nobody writes it: it may be one all the same.
pub(super) fn read_row<'m>(mut row: &'m [u8], sent: &mut Sent<'m, '_>) -> bool {
    while !row.is_empty() {
        if read_entry(&mut row, sent).is_none() {
            return false;
        }
    }
    true
}

/// One entry of the map, `values`: the name, then the value.
fn read_entry<'m>(row: &mut &'m [u8], sent: &mut Sent<'m, '_>) -> Option<()> {
    let mut entry = text(row, 0x0a)?;
    let name = text(&mut entry, 0x0a)?;
    let value = text(&mut entry, 0x12)?;
    if !entry.is_empty() {
        return None;
    }
    // A `Value` may be empty, too.
    let value = if value.is_empty() { None } else { Some(read_value(value)?) };
    sent.put(name, value)
}

/// A `Value` of exactly one kind.
fn read_value(mut rest: &[u8]) -> Option<Value<'_>> {
    let value = match rest.split_off_first()? {
        0x09 => {
            let number = f64::from_le_bytes(*rest.first_chunk()?);
            rest = &rest[8..];
            Value::Float(number)
        }
        0x10 => Value::Int(varint(&mut rest)? as i64),
        0x1a => {
            let text = prefixed(&mut rest)?;
            Value::Text(std::str::from_utf8(text).ok()?)
        }
        0x20 => Value::Bool(varint(&mut rest)? != 0),
        0x28 => {
            varint(&mut rest)?;
            Value::Null
        }
        _ => return None,
    };
    rest.is_empty().then_some(value)
}

/// The content of the field with this key, which is next.
fn text<'m>(message: &mut &'m [u8], key: u8) -> Option<&'m [u8]> {
    (*message.split_off_first()? == key).then(|| prefixed(message))?
}

/// As many bytes as the number before them says.
fn prefixed<'m>(message: &mut &'m [u8]) -> Option<&'m [u8]> {
    let length = usize::try_from(varint(message)?).ok()?;
    message.split_off(..length)
}
