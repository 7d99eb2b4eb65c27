//! Predictions as answers of either protocol.

use model::{Model, Task};

use super::{Answered, Refused, refusal::shown};
use crate::{
    inference::{
        InferParameter, InferTensorContents, ModelInferRequest, ModelInferResponse, infer_parameter::ParameterChoice,
        model_infer_response::InferOutputTensor, model_metadata_response::TensorMetadata,
    },
    v1::{PredictResponse, Prediction, Quantile, Warning},
};

pub use written::write_rows;

mod written;

/// Parameter of an answer: how many values of the request were repaired. Absent where none was.
pub const REPAIRED: &str = "repaired_values";
/// Parameter of an answer: how many numbers of the request are suspicious. Absent where none is.
pub const SUSPICIOUS: &str = "suspicious_values";

/// The output tensors that a model can give.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Output {
    /// BYTES [N]: the class, as text.
    Label,
    /// FP64 [N, K]: in the order of the classes.
    Probabilities,
    /// FP64 [N]: in the unit of the label.
    Value,
    /// FP64 [N, L]: in increasing order of level.
    Quantiles,
    /// BYTES [N]: 32 hexadecimal digits.
    PredictionId,
    /// BYTES [N]: what was repaired in the row; empty where nothing was. Only when it is asked for.
    Warnings,
}

impl Output {
    /// The outputs of `task` in their order; [`Output::Warnings`] is not among them.
    pub fn of(task: Task) -> &'static [Self] {
        match task {
            Task::Binary | Task::Multiclass => &[Self::Label, Self::Probabilities, Self::PredictionId],
            Task::Regression => &[Self::Value, Self::PredictionId],
            Task::Quantile => &[Self::Quantiles, Self::PredictionId],
        }
    }

    /// Its name on the wire.
    pub fn name(self) -> &'static str {
        match self {
            Self::Label => "label",
            Self::Probabilities => "probabilities",
            Self::Value => "value",
            Self::Quantiles => "quantiles",
            Self::PredictionId => "prediction_id",
            Self::Warnings => "warnings",
        }
    }

    fn datatype(self) -> &'static str {
        match self {
            Self::Label | Self::PredictionId | Self::Warnings => "BYTES",
            Self::Probabilities | Self::Value | Self::Quantiles => "FP64",
        }
    }

    fn shape(self, rows: i64, width: i64) -> Vec<i64> {
        match self {
            Self::Probabilities | Self::Quantiles => vec![rows, width],
            _ => vec![rows],
        }
    }
}

/// The outputs of `model` as its metadata tells them; -1 is the number of rows.
pub fn metadata(model: &Model) -> Vec<TensorMetadata> {
    let width = match model.task() {
        Task::Binary | Task::Multiclass => model.class_names().len(),
        Task::Regression => 1,
        Task::Quantile => model.manifest().quantile_levels.len(),
    };
    Output::of(model.task())
        .iter()
        .chain(&[Output::Warnings])
        .map(|output| TensorMetadata {
            name: output.name().into(),
            datatype: output.datatype().into(),
            shape: output.shape(-1, width as i64),
        })
        .collect()
}

/// The outputs that `request` asks for, in its order; all of the task's when it names none. An output that the model does
/// not have and one that is named twice go to `refused`.
pub(super) fn wanted(request: &ModelInferRequest, model: &Model, refused: &mut Refused) -> Vec<Output> {
    let known = Output::of(model.task());
    if request.outputs.is_empty() {
        return known.to_vec();
    }
    let mut wanted = Vec::with_capacity(request.outputs.len().min(known.len() + 1));
    for (i, asked) in request.outputs.iter().enumerate() {
        let known = known.iter().copied().chain([Output::Warnings]).find(|output| output.name() == asked.name);
        let (name, model) = (|| shown(&asked.name), model.name());
        let text = match known {
            Some(output) if !wanted.contains(&output) => {
                wanted.push(output);
                continue;
            }
            Some(_) => format!("inference output '{}' is requested twice for model '{model}'", name()),
            None => format!("unexpected inference output '{}' for model '{model}'", name()),
        };
        refused.field(format!("outputs[{i}].name"), text);
    }
    wanted
}

/// The answer to a request of tensors: raw if it came raw, typed if it came typed.
pub fn tensors(
    request: &ModelInferRequest,
    answered: &Answered<'_>,
    outputs: &[Output],
    mut id: impl FnMut() -> String,
) -> ModelInferResponse {
    let raw = !request.raw_input_contents.is_empty();
    let Answered { model, predictions, encoded } = answered;
    let rows = predictions.rows();
    let mut response = ModelInferResponse {
        model_name: model.name().into(),
        model_version: model.version().into(),
        id: request.id.clone(),
        ..ModelInferResponse::default()
    };
    // For clients that do not ask for the output `warnings`: nothing is changed without a word.
    for (name, count) in [(REPAIRED, encoded.repairs.total()), (SUSPICIOUS, encoded.suspicious.total())] {
        if count > 0 {
            let count = ParameterChoice::Int64Param(i64::try_from(count).unwrap_or(i64::MAX));
            response.parameters.insert(name.into(), InferParameter { parameter_choice: Some(count) });
        }
    }
    for output in outputs {
        let contents = match output {
            Output::Probabilities | Output::Value | Output::Quantiles => Contents::Numbers(&predictions.scores),
            Output::Label => Contents::Texts(
                predictions.labels.iter().map(|label| model.class_names()[*label as usize].clone()).collect(),
            ),
            Output::PredictionId => Contents::Texts((0..rows).map(|_| id()).collect()),
            Output::Warnings => Contents::Texts((0..rows).map(|row| warnings_of(row, answered)).collect()),
        };
        let mut tensor = InferOutputTensor {
            name: output.name().into(),
            datatype: output.datatype().into(),
            shape: output.shape(rows as i64, predictions.width as i64),
            ..InferOutputTensor::default()
        };
        if raw {
            response.raw_output_contents.push(contents.raw().into());
        } else {
            tensor.contents = Some(contents.typed());
        }
        response.outputs.push(tensor);
    }
    response
}

enum Contents<'a> {
    Numbers(&'a [f64]),
    Texts(Vec<String>),
}

impl Contents<'_> {
    fn raw(&self) -> Vec<u8> {
        match self {
            Self::Numbers(numbers) => numbers.iter().flat_map(|number| number.to_le_bytes()).collect(),
            Self::Texts(texts) => {
                let mut raw = Vec::with_capacity(texts.iter().map(|text| 4 + text.len()).sum());
                for text in texts {
                    raw.extend_from_slice(&(text.len() as u32).to_le_bytes());
                    raw.extend_from_slice(text.as_bytes());
                }
                raw
            }
        }
    }

    fn typed(self) -> InferTensorContents {
        match self {
            Self::Numbers(numbers) => InferTensorContents { fp64_contents: numbers.to_vec(), ..Default::default() },
            Self::Texts(texts) => InferTensorContents {
                bytes_contents: texts.into_iter().map(Into::into).collect(),
                ..Default::default()
            },
        }
    }
}

fn warnings_of(row: usize, answered: &Answered<'_>) -> String {
    let warnings = answered.encoded.findings.of_row(row, answered.model);
    let texts: Vec<String> = warnings
        .map(
            |Warning { feature, message, .. }| {
                if feature.is_empty() { message } else { format!("{feature}: {message}") }
            },
        )
        .collect();
    texts.join("; ")
}

/// The answer to a request of rows.
pub fn rows(request_id: String, answered: &Answered<'_>, mut id: impl FnMut() -> String) -> PredictResponse {
    let Answered { model, predictions, encoded } = answered;
    let predictions = (0..predictions.rows())
        .map(|row| {
            let scores = predictions.scores_of(row);
            let mut prediction = Prediction { prediction_id: id(), ..Prediction::default() };
            match model.task() {
                Task::Binary | Task::Multiclass => {
                    let classes = model.class_names();
                    prediction.label.clone_from(&classes[predictions.labels[row] as usize]);
                    prediction.probabilities = classes.iter().cloned().zip(scores.iter().copied()).collect();
                }
                Task::Regression => prediction.value = scores.first().copied(),
                Task::Quantile => {
                    let levels = &model.manifest().quantile_levels;
                    prediction.quantiles = levels
                        .iter()
                        .zip(scores)
                        .map(|(level, value)| Quantile { level: *level, value: *value })
                        .collect();
                }
            }
            prediction.warnings.extend(encoded.findings.of_row(row, model));
            prediction
        })
        .collect();
    PredictResponse { model: model.name().into(), version: model.version().into(), predictions, request_id }
}
