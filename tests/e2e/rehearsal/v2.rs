//! The example's model as some other server of the Open Inference Protocol might serve it: outputs of its own names and types,
//! no tap, no class names.

use support::{adult, tensors::RAW};
use understudy::inference::{
    ModelInferRequest, ModelInferResponse, ModelMetadataResponse, model_infer_response::InferOutputTensor,
    model_metadata_response::TensorMetadata,
};

/// One output, of a name that nobody knows: the probability of the positive class in FP32.
pub(super) fn metadata() -> ModelMetadataResponse {
    let output = TensorMetadata { name: "output__0".into(), datatype: "FP32".into(), shape: vec![-1, 1] };
    ModelMetadataResponse { versions: vec!["3".into()], outputs: vec![output], ..ModelMetadataResponse::default() }
}

/// A request for one row of the test set; its number travels as the id.
pub(super) fn columns(row: usize) -> ModelInferRequest {
    let mut request = adult::test_set().columns(row..row + 1, RAW);
    request.model_name = "income".into();
    request.id = row.to_string();
    request
}

/// LightGBM's own answer to the row in the id.
pub(super) fn probability(request: &ModelInferRequest, column: &str) -> f64 {
    adult::test_set().answers[column][request.id.parse::<usize>().unwrap()]
}

/// What the server answers.
pub(super) fn answer(request: &ModelInferRequest) -> ModelInferResponse {
    let probability = probability(request, "adult") as f32;
    outputs("3", &[("output__0", "FP32", &[1, 1], probability.to_le_bytes().to_vec())])
}

/// A raw answer: name, type, shape and bytes of each output.
pub(super) fn outputs(version: &str, outputs: &[(&str, &str, &[i64], Vec<u8>)]) -> ModelInferResponse {
    let output = |(name, datatype, shape, _): &(&str, &str, &[i64], Vec<u8>)| InferOutputTensor {
        name: (*name).into(),
        datatype: (*datatype).into(),
        shape: shape.to_vec(),
        ..InferOutputTensor::default()
    };
    ModelInferResponse {
        model_name: "income".into(),
        model_version: version.into(),
        outputs: outputs.iter().map(output).collect(),
        raw_output_contents: outputs.iter().map(|(.., raw)| raw.clone().into()).collect(),
        ..ModelInferResponse::default()
    }
}
