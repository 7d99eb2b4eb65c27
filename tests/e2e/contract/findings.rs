//! Values that nobody should send and everybody does: repaired, flagged or refused, and each time named.

use std::time::Duration;

use support::{
    Primary, adult, eventually,
    package::Package,
    tensors::{Output, RAW, ask, text_to_raw},
};
use tonic::{Code, Status};
use tonic_types::StatusExt as _;
use understudy::{
    inference::{
        InferParameter, ModelInferResponse, infer_parameter::ParameterChoice, model_infer_request::InferInputTensor,
    },
    v1::{Policy, PredictRequest, Value, Warning, value::Kind, warning},
};

const SOON: Duration = support::SOON;

fn text(text: &str) -> Kind {
    Kind::Text(text.into())
}

/// A good row with other values.
fn row(values: &[(&str, Kind)]) -> PredictRequest {
    let mut request = adult::test_set().predict(0..1);
    for (name, kind) in values {
        request.rows[0].values.insert((*name).into(), Value { kind: Some(kind.clone()) });
    }
    request
}

/// What the notebook that began all this had found that its service let in.
fn notebook() -> PredictRequest {
    row(&[
        ("age", Kind::Integer(150)),
        ("education_num", Kind::Integer(-5)),
        ("hours_per_week", Kind::Integer(200)),
        ("workclass", text("Private; DROP TABLE users;--")),
        ("comment", text("<script>alert(1)</script>")),
    ])
}

/// Fields of the details, with what is said of them.
fn violations(status: &Status) -> Vec<(String, String)> {
    let details = status.get_details_bad_request().unwrap_or_else(|| panic!("no details: {status:?}"));
    details.field_violations.into_iter().map(|violation| (violation.field, violation.description)).collect()
}

fn fields(status: &Status) -> Vec<String> {
    violations(status).into_iter().map(|(field, _)| field).collect()
}

#[tokio::test]
async fn the_notebooks_own_cases_are_repaired_and_said() {
    let primary = Primary::start().await;
    let response = primary.prediction().predict(notebook()).await.unwrap().into_inner();
    let warnings = &response.predictions[0].warnings;
    let said: Vec<_> = warnings.iter().map(|w| (w.kind(), w.feature.as_str(), w.message.as_str())).collect();
    let unseen = r#"got "Private; DROP TABLE users;--", which is not a known category, used as unseen"#;
    assert_eq!(
        said,
        [
            (warning::Kind::Clamped, "age", "got 150, used 90.0"),
            (warning::Kind::UnknownCategory, "workclass", unseen),
            (warning::Kind::Clamped, "education_num", "got -5, used 1.0"),
            (warning::Kind::Clamped, "hours_per_week", "got 200, used 99.0"),
            (warning::Kind::UnknownFeature, "comment", "the model has no such feature; it was left out"),
        ]
    );
    // The answer is that of the values it says it used.
    let mut used = row(&[
        ("age", Kind::Integer(90)),
        ("education_num", Kind::Integer(1)),
        ("hours_per_week", Kind::Integer(99)),
        ("workclass", text("no such class")),
    ]);
    used.rows[0].values.remove("comment");
    let same = primary.prediction().predict(used).await.unwrap().into_inner();
    assert_eq!(response.predictions[0].probabilities, same.predictions[0].probabilities);
}

#[tokio::test]
async fn the_notebooks_own_cases_are_refused_by_a_strict_policy_all_at_once() {
    let primary = Primary::start().await;
    let mut request = notebook();
    request.set_policy(Policy::Strict);
    let status = primary.prediction().predict(request).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
    let expected = [
        ("rows[0].age", "expected a whole number from 17.0 to 90.0, got number 150"),
        ("rows[0].workclass", r#"expected a text, one of 9 known categories, got text "Private; DROP TABLE users;--""#),
        ("rows[0].education_num", "expected a whole number from 1.0 to 16.0, got number -5"),
        ("rows[0].hours_per_week", "expected a whole number from 1.0 to 99.0, got number 200"),
        ("rows[0].comment", "expected a feature of the model, got an unknown feature"),
    ];
    let got = violations(&status);
    assert!(got.iter().map(|(field, text)| (field.as_str(), text.as_str())).eq(expected), "{got:#?}");
}

/// As many rows as a package takes, in each of which the same features are wrong.
fn wrong_rows(values: &[(&str, Kind)]) -> PredictRequest {
    let mut request = adult::test_set().predict(0..100);
    for row in &mut request.rows {
        row.values.extend(values.iter().map(|(name, kind)| ((*name).into(), Value { kind: Some(kind.clone()) })));
    }
    request
}

#[tokio::test]
async fn every_row_that_is_repaired_is_told_so_however_many_there_are() {
    let primary = Primary::start().await;
    let wrong = [("age", 150), ("education_num", -5), ("hours_per_week", 200)];
    let request = wrong_rows(&wrong.map(|(name, number)| (name, Kind::Integer(number))));
    let response = primary.prediction().predict(request).await.unwrap().into_inner();
    assert_eq!(response.predictions.len(), 100);
    let clamped = |warnings: &[Warning]| -> Vec<String> {
        let of_kind = warnings.iter().filter(|warning| warning.kind() == warning::Kind::Clamped);
        of_kind.map(|warning| warning.feature.clone()).collect()
    };
    for (row, prediction) in response.predictions.iter().enumerate() {
        assert_eq!(clamped(&prediction.warnings), wrong.map(|(name, _)| name), "row {row}");
    }
    // As tensors, which bring one feature after another.
    let mut request = adult::test_set().columns(0..100, RAW);
    for (name, number) in wrong {
        let i = request.inputs.iter().position(|input| input.name == name).unwrap();
        request.raw_input_contents[i] = number.to_le_bytes().repeat(100).into();
    }
    let hints = |answer: &ModelInferResponse| {
        let parameters = &answer.parameters;
        ["repaired_values", "suspicious_values"].map(|name| {
            parameters.get(name).map(|parameter| match parameter.parameter_choice {
                Some(ParameterChoice::Int64Param(count)) => count,
                ref other => panic!("{name}: {other:?}"),
            })
        })
    };
    let answer = primary.inference().model_infer(request.clone()).await.unwrap().into_inner();
    assert_eq!(hints(&answer)[0], Some(300), "who does not ask for warnings is told that there are some");
    ask(&mut request, &["warnings"]);
    let answer = primary.inference().model_infer(request).await.unwrap().into_inner();
    for (row, text) in Output::of(&answer, "warnings").texts().iter().enumerate() {
        for (name, number) in wrong {
            assert!(text.contains(&format!("{name}: got {number}, used")), "row {row}: {text}");
        }
    }
    let mut rich = adult::test_set().columns(0..1, RAW);
    let i = rich.inputs.iter().position(|input| input.name == "capital_gain").unwrap();
    rich.raw_input_contents[i] = 99_999_i64.to_le_bytes().to_vec().into();
    let answer = primary.inference().model_infer(rich).await.unwrap().into_inner();
    assert_eq!(hints(&answer), [None, Some(1)]);
}

#[tokio::test]
async fn of_a_row_with_many_findings_some_are_named_and_the_rest_is_counted() {
    let primary = Primary::start().await;
    let names: Vec<String> = (0..20).map(|i| format!("unknown_{i:02}")).collect();
    let request = wrong_rows(&names.iter().map(|name| (name.as_str(), Kind::Integer(1))).collect::<Vec<_>>());
    let response = primary.prediction().predict(request).await.unwrap().into_inner();
    for (row, prediction) in response.predictions.iter().enumerate() {
        let [named @ .., last] = prediction.warnings.as_slice() else { panic!("row {row}: nothing was said") };
        assert_eq!(named.len(), 8, "row {row}");
        assert!(last.kind() == warning::Kind::More && last.feature.is_empty(), "row {row}: {last:?}");
        // At least the twenty; what was suspicious in the row comes on top.
        let counted: usize = last.message.strip_prefix("and ").unwrap().strip_suffix(" more").unwrap().parse().unwrap();
        assert!(counted + 8 >= 20, "row {row}: {last:?}");
    }
}

#[tokio::test]
async fn a_refusal_names_some_rows_and_counts_the_rest() {
    let primary = Primary::start().await;
    let mut request = wrong_rows(&[("age", Kind::Integer(150)), ("hours_per_week", Kind::Integer(200))]);
    request.set_policy(Policy::Strict);
    let status = primary.prediction().predict(request).await.unwrap_err();
    assert!(status.message().ends_with("; and 197 more"), "{}", status.message());
    let violations = violations(&status);
    let [named @ .., (field, last)] = violations.as_slice() else { panic!("{status:?}") };
    assert!(named.iter().all(|(field, _)| field.starts_with("rows[")) && named.len() > 10, "{status:?}");
    assert_eq!((field.as_str(), last.clone()), ("", format!("and {} more", 200 - named.len())));
}

/// 99,999 is within the bounds and 13 standard deviations from the mean.
fn rich() -> PredictRequest {
    row(&[("capital_gain", Kind::Integer(99_999)), ("age", Kind::Integer(30))])
}

#[tokio::test]
async fn what_is_far_from_the_training_data_is_flagged_and_counted_but_not_changed() {
    let primary = Primary::start().await;
    let response = primary.prediction().predict(rich()).await.unwrap().into_inner();
    let [warning] = response.predictions[0].warnings.as_slice() else { panic!("{response:?}") };
    assert_eq!((warning.kind(), warning.feature.as_str()), (warning::Kind::Suspicious, "capital_gain"));
    assert!(warning.message.starts_with("got 99999.0, which is 13.4 standard deviations from"), "{warning:?}");
    // As tensors: the same warning, among the outputs.
    let mut request = adult::test_set().columns(0..2, RAW);
    let i = request.inputs.iter().position(|input| input.name == "capital_gain").unwrap();
    request.raw_input_contents[i] = [0_i64.to_le_bytes(), 99_999_i64.to_le_bytes()].concat().into();
    ask(&mut request, &["label", "warnings"]);
    let answer = primary.inference().model_infer(request).await.unwrap().into_inner();
    let texts = Output::of(&answer, "warnings").texts();
    assert!(texts[0].is_empty() && texts[1].starts_with("capital_gain: got 99999.0, which is 13.4"), "{texts:?}");
    // Filled, moved to a bound, or missing: not the client's word.
    for kind in [Kind::Number(f64::NAN), Kind::Null(0)] {
        let response = primary.prediction().predict(row(&[("capital_gain", kind)])).await.unwrap().into_inner();
        assert!(response.predictions[0].warnings.is_empty(), "{response:?}");
    }
    let moved = row(&[("capital_gain", Kind::Integer(1_000_000))]);
    let response = primary.prediction().predict(moved).await.unwrap().into_inner();
    let kinds: Vec<_> = response.predictions[0].warnings.iter().map(Warning::kind).collect();
    assert_eq!(kinds, [warning::Kind::Clamped]);
    eventually(SOON, async || {
        let scrape = primary.scrape().await;
        let labels = [("model", "adult"), ("version", "1"), ("feature", "capital_gain")];
        let counted = scrape.sum("understudy_suspicious_values_total", &labels);
        anyhow::ensure!(counted == 2.0, "{counted}");
        anyhow::ensure!(scrape.sum("understudy_repaired_values_total", &[]) == 1.0, "one was clamped");
        Ok(())
    })
    .await;
}

#[tokio::test]
async fn an_operator_may_be_stricter_than_the_package_and_not_laxer() {
    let strict = Primary::with(|settings| {
        settings.suspicious = Some("refuse".into());
        settings.suspicious_z_score = Some(3.0);
        settings.reject_non_finite = Some(true);
    })
    .await;
    let status = strict.prediction().predict(rich()).await.unwrap_err();
    let [(field, description)] = &violations(&status)[..] else { panic!("{status:?}") };
    assert_eq!(field, "rows[0].capital_gain");
    assert!(
        description.contains("3.0 standard deviations") && description.ends_with("got number 99999"),
        "{description}"
    );
    for (name, number) in [("capital_gain", f64::NAN), ("age", f64::INFINITY)] {
        let status = strict.prediction().predict(row(&[(name, Kind::Number(number))])).await.unwrap_err();
        assert_eq!(violations(&status)[0].0, format!("rows[0].{name}"));
        assert!(status.message().contains("expected a finite number"), "{status:?}");
    }
    let null = strict.prediction().predict(row(&[("age", Kind::Null(0))])).await;
    assert!(null.is_ok(), "null is not a number: {null:?}");

    let package = Package::copy(&support::examples().join("models/adult/1"), "adult");
    package.edit("schema.json", |schema| schema["suspicious"] = "refuse".into());
    package.list();
    let lax = Primary::with(|settings| {
        settings.models = Some(vec![package.repository().to_owned()]);
        settings.suspicious = Some("ignore".into());
        settings.suspicious_z_score = Some(100.0);
    })
    .await;
    let status = lax.prediction().predict(rich()).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
}

#[tokio::test]
async fn every_fault_of_a_request_of_tensors_is_named_at_once() {
    let primary = Primary::start().await;
    let mut request = adult::test_set().columns(0..2, RAW);
    let at = |name: &str| request.inputs.iter().position(|input| input.name == name).unwrap();
    let (age, race, sex, hours) = (at("age"), at("race"), at("sex"), at("hours_per_week"));
    let parameter = InferParameter { parameter_choice: Some(ParameterChoice::StringParam("strict".into())) };
    request.parameters.insert("policy".into(), parameter.clone());
    request.parameters.insert("timeout".into(), parameter);
    request.inputs[age].datatype = "FP99".into();
    request.inputs[race].datatype = "INT64".into();
    request.inputs[hours].shape = vec![1, 2];
    request.raw_input_contents[sex] = [text_to_raw(b"Female"), text_to_raw(b"\xff")].concat().into();
    for name in ["shoe_size", "race"] {
        request.inputs.push(InferInputTensor { name: name.into(), ..request.inputs[sex].clone() });
        request.raw_input_contents.push(request.raw_input_contents[sex].clone());
    }
    ask(&mut request, &["label", "colour", "label"]);
    let status = primary.inference().model_infer(request).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
    let expected = [
        "outputs[1].name".to_owned(),
        "outputs[2].name".into(),
        r#"parameters["timeout"]"#.into(),
        format!("inputs[{age}].datatype"),
        format!("inputs[{race}].datatype"),
        format!("inputs[{hours}].shape"),
        "inputs[13].name".into(),
        "inputs[14].name".into(),
        "rows[1].sex".into(),
    ];
    assert_eq!(fields(&status), expected, "{status:?}");
    assert!(status.message().ends_with("; and 6 more"), "{}", status.message());
}

#[tokio::test]
async fn missing_inputs_are_all_named() {
    let package = Package::copy(&support::examples().join("models/adult/1"), "adult");
    package.edit("schema.json", |schema| {
        for feature in schema["features"].as_array_mut().unwrap() {
            if ["age", "hours_per_week"].contains(&feature["name"].as_str().unwrap()) {
                feature["required"] = true.into();
            }
        }
    });
    package.edit_golden(|rows| {
        rows.retain(|row| row["row"]["age"].is_number() && row["row"]["hours_per_week"].is_number());
    });
    package.list();
    let primary = Primary::with(|settings| settings.models = Some(vec![package.repository().to_owned()])).await;
    let mut request = adult::test_set().columns(0..1, RAW);
    for name in ["age", "hours_per_week"] {
        let i = request.inputs.iter().position(|input| input.name == name).unwrap();
        request.inputs.remove(i);
        request.raw_input_contents.remove(i);
    }
    let status = primary.inference().model_infer(request).await.unwrap_err();
    assert_eq!(fields(&status), [r#"inputs["age"]"#, r#"inputs["hours_per_week"]"#]);
    assert!(status.message().contains(r#"missing required input(s) ["age", "hours_per_week"]"#), "{status:?}");
}

#[tokio::test]
async fn whoever_asks_for_a_strict_policy_gets_it_for_tensors_too() {
    let primary = Primary::start().await;
    let mut request = adult::test_set().columns(0..1, RAW);
    let i = request.inputs.iter().position(|input| input.name == "age").unwrap();
    request.raw_input_contents[i] = 150_i64.to_le_bytes().to_vec().into();
    assert!(primary.inference().model_infer(request.clone()).await.is_ok());
    let strict = InferParameter { parameter_choice: Some(ParameterChoice::StringParam("strict".into())) };
    request.parameters.insert("policy".into(), strict);
    let status = primary.inference().model_infer(request).await.unwrap_err();
    assert_eq!(fields(&status), ["rows[0].age"]);
}
