//! A request for another model, of the bytes of the one that came.

use std::sync::Arc;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use prost::encoding::{DecodeContext, WireType, decode_key, encode_key, encode_varint, skip_field};
use understudy::encode::RequestError;

/// Fields of a `ModelInferRequest`.
const MODEL_NAME: u32 = 1;
const MODEL_VERSION: u32 = 2;
const OUTPUTS: u32 = 6;
/// What a name and a version take beside themselves.
const HEADS: usize = 2 * 11;

/// The `ModelInferRequest` in `message` for `version` of `name`, and for all outputs: what the client did not ask for can still be
/// compared. Nothing else is read: to decode it and to encode it again takes as long as to ask.
///
/// # Errors
/// It is no message.
pub(super) fn tensors(message: &[u8], name: &str, version: &str) -> Result<Bytes, Arc<RequestError>> {
    let mut out = BytesMut::with_capacity(HEADS + name.len() + version.len() + message.len());
    for (field, text) in [(MODEL_NAME, name), (MODEL_VERSION, version)] {
        if !text.is_empty() {
            encode_key(field, WireType::LengthDelimited, &mut out);
            encode_varint(text.len() as u64, &mut out);
            out.put_slice(text.as_bytes());
        }
    }
    let mut left = message;
    while left.has_remaining() {
        let from = left;
        let read = decode_key(&mut left).and_then(|(field, wire)| {
            skip_field(wire, field, &mut left, DecodeContext::default())?;
            Ok(field)
        });
        let field = read.map_err(|error| Arc::new(RequestError::Undecodable(error)))?;
        if !matches!(field, MODEL_NAME | MODEL_VERSION | OUTPUTS) {
            out.put_slice(&from[..from.len() - left.len()]);
        }
    }
    Ok(out.freeze())
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};
    use prost::Message as _;
    use understudy::inference::{
        InferParameter, InferTensorContents, ModelInferRequest,
        infer_parameter::ParameterChoice,
        model_infer_request::{InferInputTensor, InferRequestedOutputTensor},
    };

    use super::*;

    fn request() -> impl Strategy<Value = ModelInferRequest> {
        let input =
            ("[a-z]{0,5}", vec(any::<i64>(), 0..3), vec(any::<f64>(), 0..4)).prop_map(|(name, shape, numbers)| {
                let contents = InferTensorContents { fp64_contents: numbers, ..InferTensorContents::default() };
                InferInputTensor { name, shape, contents: Some(contents), ..InferInputTensor::default() }
            });
        let texts = ["[a-z]{0,3}", "[0-9]{0,3}", ".{0,9}"];
        (texts, vec(input, 0..4), vec("[a-z]{0,5}", 0..3), vec(vec(any::<u8>(), 0..9), 0..4)).prop_map(
            |([model_name, model_version, id], inputs, outputs, raw)| ModelInferRequest {
                model_name,
                model_version,
                parameters: [(
                    "id".into(),
                    InferParameter { parameter_choice: Some(ParameterChoice::StringParam(id.clone())) },
                )]
                .into(),
                id,
                inputs,
                outputs: outputs
                    .into_iter()
                    .map(|name| InferRequestedOutputTensor { name, ..Default::default() })
                    .collect(),
                raw_input_contents: raw.into_iter().map(Bytes::from).collect(),
            },
        )
    }

    proptest! {
        #[test]
        fn only_the_model_and_the_outputs_are_others(request in request(), name in "[a-z]{0,9}", version in "[0-9]{0,3}") {
            let sent = tensors(&request.encode_to_vec(), &name, &version).expect("a message");
            let got = ModelInferRequest::decode(sent).expect("a message");
            let expected = ModelInferRequest { model_name: name, model_version: version, outputs: Vec::new(), ..request };
            prop_assert_eq!(got, expected);
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in vec(any::<u8>(), 0..64)) {
            if let Ok(sent) = tensors(&bytes, "adult", "") {
                prop_assert!(sent.len() <= bytes.len() + HEADS + 5);
            }
        }
    }
}
