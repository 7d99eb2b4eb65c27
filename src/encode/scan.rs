//! A look at a message before anything is allocated for it. An empty input takes two bytes on the wire and 312 in memory:
//! decoded blindly, four megabytes of them become 624.

use super::RequestError;

/// `field` of `inference.ModelInferRequest`, its name, and how many of it a request may have. Inputs may be as many as a
/// wide table has columns.
const LIMITS: [(u64, &str, usize); 4] =
    [(4, "parameters", 64), (5, "inputs", 4096), (6, "outputs", 64), (7, "raw_input_contents", 4096)];

/// Counts what a `ModelInferRequest` repeats.
///
/// # Errors
/// More of something than a request may have. What is no protobuf passes: decoding says so better.
pub fn scan_tensors(mut message: &[u8]) -> Result<(), RequestError> {
    let mut counts = [0_usize; LIMITS.len()];
    while let Some(field) = next_field(&mut message) {
        let Some(at) = LIMITS.iter().position(|(number, ..)| *number == field) else { continue };
        counts[at] += 1;
        let (_, name, limit) = LIMITS[at];
        if counts[at] > limit {
            return Err(RequestError::invalid(format!("request has too many {name}: limit {limit}")));
        }
    }
    Ok(())
}

/// The number of the next field, which is then passed over. None at the end, or where the message is broken.
fn next_field(message: &mut &[u8]) -> Option<u64> {
    let key = varint(message)?;
    let length = match key & 7 {
        0 => {
            varint(message)?;
            0
        }
        1 => 8,
        2 => usize::try_from(varint(message)?).ok()?,
        5 => 4,
        _ => return None,
    };
    *message = message.get(length..)?;
    Some(key >> 3)
}

fn varint(message: &mut &[u8]) -> Option<u64> {
    let mut value = 0_u64;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = message.split_first()?;
        *message = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use prost::Message as _;

    use super::*;
    use crate::inference::{ModelInferRequest, model_infer_request::InferInputTensor};

    fn request(inputs: usize) -> Vec<u8> {
        let input = InferInputTensor { name: "age".into(), shape: vec![1, 300], ..Default::default() };
        let model_name = "adult".into();
        ModelInferRequest { model_name, inputs: vec![input; inputs], ..Default::default() }.encode_to_vec()
    }

    #[test]
    fn as_many_as_allowed_pass_and_one_more_does_not() {
        assert!(scan_tensors(&request(4096)).is_ok());
        let refused = scan_tensors(&request(4097)).expect_err("one too many").to_string();
        assert_eq!(refused, "request has too many inputs: limit 4096");
    }

    #[test]
    fn what_is_broken_passes_to_the_decoder() {
        for broken in
            [&b"\xff"[..], b"\x2a\xff\xff\xff\xff\x7f", b"\x0b", b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"]
        {
            assert!(scan_tensors(broken).is_ok(), "{broken:x?}");
        }
    }
}
