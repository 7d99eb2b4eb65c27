//! What a request may ask for, which is only ever stricter, and that all that is wrong with it is told together.

use support::{
    Primary, adult,
    package::Package,
    tensors::{RAW, ask},
};
use tonic::{Code, Status};
use tonic_types::StatusExt as _;
use understudy::{
    inference::{InferParameter, ModelInferRequest, infer_parameter::ParameterChoice},
    v1::{Policy, PredictRequest, Suspicious, Value, value::Kind, warning},
};

fn fields(status: &Status) -> Vec<String> {
    assert_eq!(status.code(), Code::InvalidArgument, "{status:?}");
    let details = status.get_details_bad_request().unwrap_or_else(|| panic!("no details: {status:?}"));
    details.field_violations.into_iter().map(|violation| violation.field).collect()
}

/// A good row with another value.
fn row(name: &str, kind: Kind) -> PredictRequest {
    let mut request = adult::test_set().predict(0..1);
    request.rows[0].values.insert(name.into(), Value { kind: Some(kind) });
    request
}

/// A good row as tensors with another number.
fn tensors(name: &str, number: i64, parameters: &[(&str, ParameterChoice)]) -> ModelInferRequest {
    let mut request = adult::test_set().columns(0..1, RAW);
    let i = request.inputs.iter().position(|input| input.name == name).unwrap();
    request.raw_input_contents[i] = number.to_le_bytes().to_vec().into();
    for (name, choice) in parameters {
        request.parameters.insert((*name).into(), InferParameter { parameter_choice: Some(choice.clone()) });
    }
    request
}

fn text(text: &str) -> ParameterChoice {
    ParameterChoice::StringParam(text.into())
}

/// Within the bounds and far from the training data.
const RICH: (&str, i64) = ("capital_gain", 99_999);

#[tokio::test]
async fn a_request_may_refuse_what_its_model_would_flag_or_take() {
    let primary = Primary::start().await;
    let mut client = primary.prediction();
    let mut request = row(RICH.0, Kind::Integer(RICH.1));
    assert!(client.predict(request.clone()).await.is_ok());
    request.set_suspicious(Suspicious::Refuse);
    assert_eq!(fields(&client.predict(request).await.unwrap_err()), ["rows[0].capital_gain"]);
    for number in [f64::NAN, f64::INFINITY] {
        let mut request = row("age", Kind::Number(number));
        assert!(client.predict(request.clone()).await.is_ok(), "{number}");
        request.reject_non_finite = Some(true);
        assert_eq!(fields(&client.predict(request).await.unwrap_err()), ["rows[0].age"], "{number}");
    }
    let refuse = tensors(RICH.0, RICH.1, &[("suspicious", text("refuse"))]);
    let status = primary.inference().model_infer(refuse).await.unwrap_err();
    assert_eq!(fields(&status), ["rows[0].capital_gain"]);

    // Where the model does not look at all.
    let package = Package::copy(&support::examples().join("models/adult/1"), "adult");
    package.edit("schema.json", |schema| schema["suspicious"] = "ignore".into());
    package.list();
    let blind = Primary::with(|settings| settings.models = Some(vec![package.repository().to_owned()])).await;
    let mut request = row(RICH.0, Kind::Integer(RICH.1));
    for (asked, expected) in [(Suspicious::Unspecified, None), (Suspicious::Flag, Some(warning::Kind::Suspicious))] {
        request.set_suspicious(asked);
        let answer = blind.prediction().predict(request.clone()).await.unwrap().into_inner();
        let warnings: Vec<_> = answer.predictions[0].warnings.iter().map(understudy::v1::Warning::kind).collect();
        assert_eq!(warnings, Vec::from_iter(expected), "{asked:?}");
    }
}

#[tokio::test]
async fn a_request_may_not_be_laxer_than_its_model() {
    let primary = Primary::with(|settings| {
        settings.suspicious = Some("refuse".into());
        settings.reject_non_finite = Some(true);
    })
    .await;
    let mut request = row("age", Kind::Integer(30));
    request.set_policy(Policy::Autogluon);
    request.set_suspicious(Suspicious::Flag);
    request.reject_non_finite = Some(false);
    let status = primary.prediction().predict(request).await.unwrap_err();
    assert_eq!(fields(&status), ["policy", "suspicious", "reject_non_finite"]);
    assert!(status.message().contains("suspicious 'flag' is laxer than 'refuse'"), "{status:?}");
    let asked = [
        ("policy", text("autogluon")),
        ("suspicious", text("ignore")),
        ("reject_non_finite", ParameterChoice::BoolParam(false)),
    ];
    let status = primary.inference().model_infer(tensors("age", 30, &asked)).await.unwrap_err();
    assert_eq!(fields(&status), ["policy", "suspicious", "reject_non_finite"]);
    // As strict as the model is fine.
    let asked = [("suspicious", text("refuse")), ("reject_non_finite", ParameterChoice::BoolParam(true))];
    assert!(primary.inference().model_infer(tensors("age", 30, &asked)).await.is_ok());
    let asked = [
        ("policy", text("lenient")),
        ("suspicious", ParameterChoice::BoolParam(true)),
        ("reject_non_finite", text("true")),
    ];
    let status = primary.inference().model_infer(tensors("age", 30, &asked)).await.unwrap_err();
    assert_eq!(fields(&status), ["policy", "suspicious", "reject_non_finite"]);
}

#[tokio::test]
async fn what_is_wrong_with_a_request_is_told_with_what_is_wrong_with_its_values() {
    let primary = Primary::start().await;
    let mut request = row("age", Kind::Text("old".into()));
    request.request_id = "x".repeat(257);
    request.policy = 99;
    request.suspicious = 99;
    let status = primary.prediction().predict(request).await.unwrap_err();
    assert_eq!(fields(&status), ["request_id", "policy", "suspicious", "rows[0].age"]);

    let mut request = tensors("age", 30, &[("policy", text("lenient"))]);
    request.id = "x".repeat(257);
    let shared = InferParameter { parameter_choice: Some(text("region")) };
    let classification = InferParameter { parameter_choice: Some(ParameterChoice::Int64Param(3)) };
    request.inputs[0].parameters.insert("classification".into(), classification);
    request.inputs[1].parameters.insert("colour".into(), InferParameter::default());
    request.inputs[2].parameters.insert("shared_memory_region".into(), shared);
    let i = request.inputs.iter().position(|input| input.name == "hours_per_week").unwrap();
    request.inputs[i].shape = vec![1, 2];
    ask(&mut request, &["label", "colour"]);
    let status = primary.inference().model_infer(request).await.unwrap_err();
    let expected = [
        "id".to_owned(),
        "policy".into(),
        "outputs[1].name".into(),
        r#"inputs[0].parameters["classification"]"#.into(),
        r#"inputs[1].parameters["colour"]"#.into(),
        "inputs[2].parameters".into(),
        format!("inputs[{i}].shape"),
    ];
    assert_eq!(fields(&status), expected);
}

#[tokio::test]
async fn a_text_that_was_cut_and_is_unknown_all_the_same_is_told_as_both() {
    let primary = Primary::start().await;
    let answer = primary.prediction().predict(row("workclass", Kind::Text("x".repeat(1_500)))).await;
    let answer = answer.unwrap().into_inner();
    let warnings = &answer.predictions[0].warnings;
    let kinds: Vec<_> = warnings.iter().map(|warning| (warning.feature.as_str(), warning.kind())).collect();
    assert_eq!(kinds, [("workclass", warning::Kind::Truncated), ("workclass", warning::Kind::UnknownCategory)]);
    assert!(warnings[0].message.ends_with("(1500 bytes), used its first 1000 bytes"), "{warnings:?}");
}
