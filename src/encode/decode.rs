//! Bytes become a request, after a look at what decoding them would allocate.

use bytes::Bytes;
use prost::Message;

use super::{RequestError, scan};
use crate::{inference::ModelInferRequest, v1::PredictRequest};

/// Decodes a `ModelInferRequest`. Both processes do it here: neither may be made to allocate more than about 16 times what
/// was sent.
///
/// # Errors
/// The bytes are no such message, or hold more of something than a request may have.
pub fn decode_tensors(message: &Bytes) -> Result<ModelInferRequest, RequestError> {
    scan::tensors(message)?;
    decode(message)
}

/// Decodes a `PredictRequest` of at most `max_rows` rows.
///
/// # Errors
/// As [`decode_tensors`].
pub fn decode_rows(message: &Bytes, max_rows: usize) -> Result<PredictRequest, RequestError> {
    scan::rows(message, max_rows)?;
    decode(message)
}

pub(super) fn decode<M: Message + Default>(message: &Bytes) -> Result<M, RequestError> {
    // A clone is a reference: byte fields become slices of it.
    M::decode(message.clone()).map_err(RequestError::Undecodable)
}
