//! Every answer is LightGBM's own, to the bit, whichever way the rows are sent.

use std::{collections::HashSet, ops::Range};

use support::{
    Primary,
    adult::{self, CLASSES, label},
    examples,
    package::Package,
    tensors::{Output, RAW, Style, TYPED, ask},
};
use understudy::{
    inference::{ModelInferRequest, ModelInferResponse},
    v1::{PredictRequest, PredictResponse, Prediction, Warning, warning::Kind},
};

/// Rows in a request.
const BATCH: usize = 100;

fn batches(rows: usize, size: usize) -> impl Iterator<Item = Range<usize>> {
    (0..rows).step_by(size).map(move |start| start..rows.min(start + size))
}

/// 32 hexadecimal digits that were not seen before.
fn check_id(id: &str, seen: &mut HashSet<String>) {
    assert!(id.len() == 32 && id.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')), "{id:?}");
    assert!(seen.insert(id.to_owned()), "{id} twice");
}

fn check_prediction(prediction: &Prediction, probability: f64, place: &str) {
    let [low, high] = CLASSES.map(|class| prediction.probabilities[class]);
    assert_eq!(high.to_bits(), probability.to_bits(), "{place}: expected {probability:?}, got {high:?}");
    assert_eq!(low.to_bits(), (1.0 - probability).to_bits(), "{place}: P({}) is {low:?}", CLASSES[0]);
    assert_eq!(prediction.label, label(probability), "{place}");
    assert_eq!(prediction.value, None, "{place}: a classification has no value");
}

/// Warnings of something that was changed. What is suspicious is not: some of the people in the data are rich.
fn repairs(prediction: &Prediction) -> impl Iterator<Item = &Warning> {
    prediction.warnings.iter().filter(|warning| warning.kind() != Kind::Suspicious)
}

#[tokio::test]
async fn rows_by_name_are_answered_as_by_lightgbm() {
    let primary = Primary::start().await;
    let mut client = primary.prediction();
    let table = adult::test_set();
    let mut ids = HashSet::new();
    let all = batches(table.rows.len(), BATCH).chain(batches(200, 1)).enumerate();
    for (n, rows) in all {
        let request = PredictRequest { request_id: format!("request {n}"), ..table.predict(rows.clone()) };
        let response: PredictResponse = client.predict(request).await.unwrap().into_inner();
        assert_eq!(response.request_id, format!("request {n}"));
        assert_eq!((response.model.as_str(), response.version.as_str()), ("adult", "1"));
        assert_eq!(response.predictions.len(), rows.len());
        for (row, prediction) in rows.zip(&response.predictions) {
            check_prediction(prediction, table.primary()[row], &format!("row {row}"));
            let repaired: Vec<_> = repairs(prediction).collect();
            assert!(repaired.is_empty(), "row {row}: {repaired:?}");
            check_id(&prediction.prediction_id, &mut ids);
        }
    }
    assert_eq!(ids.len(), 4_200);
}

#[tokio::test]
async fn tensors_are_answered_as_by_lightgbm() {
    type Make = fn(Range<usize>) -> ModelInferRequest;
    let ways: [(&str, bool, Make); 6] = [
        ("raw [N]", true, |rows| adult::test_set().columns(rows, RAW)),
        ("raw [N,1]", true, |rows| adult::test_set().columns(rows, Style { column: true, ..RAW })),
        ("typed [N]", false, |rows| adult::test_set().columns(rows, TYPED)),
        ("typed [N,1]", false, |rows| adult::test_set().columns(rows, Style { column: true, ..TYPED })),
        ("raw [N,F]", true, |rows| adult::test_set().matrix(rows, true)),
        ("typed [N,F]", false, |rows| adult::test_set().matrix(rows, false)),
    ];
    let primary = Primary::start().await;
    let mut client = primary.inference();
    let answers = adult::test_set().primary();
    let mut ids = HashSet::new();
    for (way, raw, make) in ways {
        for rows in batches(answers.len(), BATCH).chain(batches(20, 1)) {
            let request = ModelInferRequest { id: format!("{way} {rows:?}"), ..make(rows.clone()) };
            let response: ModelInferResponse = client.model_infer(request).await.unwrap().into_inner();
            assert_eq!(response.id, format!("{way} {rows:?}"));
            assert_eq!((response.model_name.as_str(), response.model_version.as_str()), ("adult", "1"));
            assert_eq!(response.raw_output_contents.len(), if raw { 3 } else { 0 }, "{way} in, {way} out");
            let names: Vec<&str> = response.outputs.iter().map(|output| output.name.as_str()).collect();
            assert_eq!(names, ["label", "probabilities", "prediction_id"]);
            assert_eq!(response.outputs[1].shape, [rows.len() as i64, 2], "{way}");
            let expected = &answers[rows.clone()];
            let bits = |numbers: &[f64]| numbers.iter().map(|number| number.to_bits()).collect::<Vec<_>>();
            let pairs: Vec<f64> = expected.iter().flat_map(|high| [1.0 - high, *high]).collect();
            let got = Output::of(&response, "probabilities").numbers();
            assert_eq!(bits(&got), bits(&pairs), "{way}, rows {rows:?}");
            let labels = Output::of(&response, "label").texts();
            assert!(labels.iter().eq(expected.iter().map(|high| label(*high))), "{way}, rows {rows:?}");
            for id in Output::of(&response, "prediction_id").texts() {
                check_id(&id, &mut ids);
            }
        }
    }
    assert_eq!(ids.len(), 6 * 4_020);
}

#[tokio::test]
async fn only_the_outputs_that_are_asked_for_come_in_that_order() {
    let primary = Primary::start().await;
    let mut client = primary.inference();
    for outputs in [&["prediction_id", "label"][..], &["probabilities"], &["label", "warnings", "probabilities"]] {
        for style in [RAW, TYPED] {
            let mut request = adult::test_set().columns(0..3, style);
            ask(&mut request, outputs);
            let response = client.model_infer(request).await.unwrap().into_inner();
            let names: Vec<&str> = response.outputs.iter().map(|output| output.name.as_str()).collect();
            assert_eq!(names, outputs);
            if let Some(at) = outputs.iter().position(|output| *output == "warnings") {
                assert_eq!(response.outputs[at].shape, [3]);
                assert_eq!(Output::of(&response, "warnings").texts(), [""; 3], "nothing was repaired");
            }
        }
    }
}

#[tokio::test]
async fn a_package_of_policy_autogluon_takes_every_value_as_it_is() {
    let package = Package::copy(&examples().join("models/adult/1"), "adult");
    package.edit("schema.json", |schema| schema["policy"] = "autogluon".into());
    package.list();
    let primary = Primary::with(|settings| settings.models = Some(vec![package.repository().to_owned()])).await;
    let table = adult::stress_set();
    for rows in batches(table.rows.len(), BATCH) {
        let response = primary.prediction().predict(table.predict(rows.clone())).await.unwrap().into_inner();
        for (row, prediction) in rows.zip(&response.predictions) {
            check_prediction(prediction, table.primary()[row], &format!("stress row {row}"));
            let repaired: Vec<_> = repairs(prediction).collect();
            assert!(repaired.is_empty(), "stress row {row}: {repaired:?}");
        }
    }
}

/// What the policy "sanitize" must say about a cell, by the words of the protocol.
fn expected_repair(feature: &adult::Feature, cell: &str) -> Option<Kind> {
    let code = feature.code(cell);
    match feature.bounds {
        _ if cell.is_empty() => None,
        None => (code == -1.0).then_some(Kind::UnknownCategory),
        Some((low, high)) if code.trunc() < low || code.trunc() > high => Some(Kind::Clamped),
        Some(_) => (code.fract() != 0.0).then_some(Kind::Coerced),
    }
}

#[tokio::test]
async fn what_is_repaired_is_told_on_its_row_and_answered_as_if_it_had_come_so() {
    let primary = Primary::start().await;
    let table = adult::stress_set();
    let mut told = 0;
    for row in 0..table.rows.len() {
        let response = primary.prediction().predict(table.predict(row..row + 1)).await.unwrap().into_inner();
        let [prediction] = response.predictions.as_slice() else { panic!("one row, one answer") };
        let cells = || table.features.iter().zip(&table.rows[row]);
        let mut expected: Vec<(i32, &str)> = cells()
            .filter_map(|(feature, cell)| Some((expected_repair(feature, cell)?.into(), feature.name.as_str())))
            .collect();
        let mut got: Vec<(i32, &str)> =
            repairs(prediction).map(|warning| (warning.kind, warning.feature.as_str())).collect();
        expected.sort_unstable();
        got.sort_unstable();
        assert_eq!(got, expected, "stress row {row}: {:?}", table.rows[row]);
        told += got.len();
        // Unknown categories reach the model as they are; numbers do not.
        if expected.iter().all(|(kind, _)| *kind == i32::from(Kind::UnknownCategory)) {
            check_prediction(prediction, table.primary()[row], &format!("stress row {row}"));
            continue;
        }
        let mut repaired = table.predict(row..row + 1);
        for (feature, cell) in cells().filter(|(feature, cell)| feature.bounds.is_some() && !cell.is_empty()) {
            let (low, high) = feature.bounds.unwrap();
            let number = feature.code(cell).trunc().clamp(low, high) as i64;
            let value = understudy::v1::value::Kind::Integer(number);
            repaired.rows[0].values.get_mut(&feature.name).unwrap().kind = Some(value);
        }
        let again = primary.prediction().predict(repaired).await.unwrap().into_inner();
        assert_eq!(again.predictions[0].probabilities, prediction.probabilities, "stress row {row}");
    }
    assert!(told > 500, "the stress rows exercise nothing: {told} repairs");
}

#[tokio::test]
async fn warnings_come_as_a_tensor_when_asked_for() {
    let primary = Primary::start().await;
    let mut request = adult::test_set().columns(0..3, TYPED);
    let age = request.inputs.iter_mut().find(|input| input.name == "age").unwrap();
    age.contents.as_mut().unwrap().int64_contents[1] = 200;
    ask(&mut request, &["warnings"]);
    let response = primary.inference().model_infer(request).await.unwrap().into_inner();
    assert_eq!(Output::of(&response, "warnings").texts(), ["", "age: got 200, used 90.0", ""]);
}
