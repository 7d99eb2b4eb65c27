//! Outputs of other servers, as the configuration says what they are.

use shadow_sidecar::Settings;
use support::{
    Primary, Rehearsal, adult,
    grpc::{Call, MODEL_INFER},
    stub::Stub,
};
use understudy::inference::{
    ModelInferRequest, ModelInferResponse, ModelMetadataResponse, model_metadata_response::TensorMetadata,
};

use super::{agreement, columns, v2};

const ROWS: usize = 200;

fn described(outputs: &[(&str, &str)]) -> ModelMetadataResponse {
    let output = |&(name, datatype): &(&str, &str)| TensorMetadata {
        name: name.into(),
        datatype: datatype.into(),
        shape: vec![-1],
    };
    ModelMetadataResponse { outputs: outputs.iter().map(output).collect(), ..ModelMetadataResponse::default() }
}

fn high(request: &ModelInferRequest) -> f64 {
    v2::probability(request, "adult_candidate")
}

/// Name and type of each output.
type Described = &'static [(&'static str, &'static str)];
type Answer = fn(&ModelInferRequest) -> ModelInferResponse;
type Configure = fn(&mut Settings);

/// IEEE 754 binary16, rounded towards zero; for numbers in [2^-14, 1].
fn half(number: f64) -> [u8; 2] {
    let bits = (number as f32).to_bits();
    let exponent = (bits >> 23) as i32 - 127 + 15;
    (((exponent as u16) << 10) | (bits >> 13 & 0x3ff) as u16).to_le_bytes()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn label_and_scores_are_what_the_configuration_calls_them() {
    let cases: [(&str, Described, Answer, Configure); 6] = [
        (
            "an integer label, and nothing else",
            &[("class", "INT64")],
            |request| {
                v2::outputs("", &[("class", "INT64", &[1], i64::from(high(request) > 0.5).to_le_bytes().to_vec())])
            },
            |_| {},
        ),
        (
            "Triton's FIL backend: one column in FP32",
            &[("output__0", "FP32")],
            |request| {
                v2::outputs("1", &[("output__0", "FP32", &[1, 1], (high(request) as f32).to_le_bytes().to_vec())])
            },
            |_| {},
        ),
        (
            "two columns in the other order, and a label that lies",
            &[("lie", "INT32"), ("p", "FP64"), ("other", "FP64")],
            |request| {
                let scores = [high(request), 1.0 - high(request)].map(f64::to_le_bytes).concat();
                v2::outputs(
                    "1",
                    &[
                        ("lie", "INT32", &[1, 1], vec![1, 0, 0, 0]),
                        ("p", "FP64", &[1, 2], scores),
                        ("other", "FP64", &[7], vec![0; 56]),
                    ],
                )
            },
            |settings| {
                settings.candidate_scores_output = Some("p".into());
                settings.candidate_decision = Some("argmax".into());
                settings.candidate_classes = Some(vec![">50K".into(), "<=50K".into()]);
            },
        ),
        (
            "half precision and a threshold of its own",
            &[("p", "FP16")],
            |request| v2::outputs("1", &[("p", "FP16", &[1], half(high(request) / 2.0).to_vec())]),
            |settings| settings.candidate_decision = Some("threshold=0.25".into()),
        ),
        (
            "MLServer with scikit-learn: the label as text",
            &[("predict", "BYTES")],
            |request| {
                let label = adult::label(high(request));
                let raw = [&(label.len() as u32).to_le_bytes()[..], label.as_bytes()].concat();
                v2::outputs("1", &[("predict", "BYTES", &[1, 1], raw)])
            },
            |_| {},
        ),
        (
            "several outputs, one of them configured",
            &[("a", "FP32"), ("b", "FP32"), ("c", "INT8")],
            |request| {
                v2::outputs(
                    "1",
                    &[
                        ("a", "FP32", &[1], vec![0; 4]),
                        ("b", "FP32", &[1], vec![0; 4]),
                        ("c", "INT8", &[1], vec![u8::from(high(request) > 0.5)]),
                    ],
                )
            },
            |settings| settings.candidate_label_output = Some("c".into()),
        ),
    ];
    let primary = Primary::start().await;
    for (what, outputs, answer, configure) in cases {
        let stub = Stub::describing(described(outputs), move |request| Some(Ok(answer(request)))).await;
        let rehearsal = Rehearsal::beside(&primary, |settings| {
            settings.candidate = Some(stub.url());
            configure(settings);
        })
        .await;
        let connection = primary.connect().await;
        for row in 0..ROWS {
            let request = ModelInferRequest { model_name: "adult".into(), ..columns(row) };
            assert_eq!(connection.call(&Call::new(MODEL_INFER, &request)).await.status, Some(0));
        }
        let report = rehearsal.settled(ROWS as u64).await;
        let expected = adult::test_set().agreed("adult_candidate", 0..ROWS);
        let (compared, agreed) = agreement(&report);
        // Half a precision may move a probability that is all but on the threshold.
        let slack = u64::from(what.starts_with("half"));
        assert!(compared == ROWS as u64 && agreed.abs_diff(expected) <= slack, "{what}: {report:#?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_could_be_one_thing_or_another_is_asked_for() {
    let primary = Primary::start().await;
    let outputs = described(&[("left", "FP32"), ("right", "FP32")]);
    let stub = Stub::describing(outputs.clone(), |_| None).await;
    let rehearsal = Rehearsal::beside(&primary, |settings| settings.candidate = Some(stub.url())).await;
    let says = |words: &'static [&'static str]| {
        move |report: &understudy::v1::Report| {
            let (intake, reason) = (report.intake.as_ref().unwrap(), report.reasons.first().unwrap());
            words.iter().all(|word| intake.last_error.contains(word) && reason.contains(word))
        }
    };
    rehearsal.report_when(says(&["candidate-label-output", "candidate-scores-output", "'left'", "'right'"])).await;

    let stub = Stub::describing(outputs, |_| None).await;
    for (classes, words) in [
        (None, &["primary-task", "'left'", "'right'"][..]),
        (Some(adult::CLASSES), &["primary-label-output", "primary-scores-output", "'left'", "'right'"]),
    ] {
        let rehearsal = Rehearsal::alone(|settings| {
            settings.primary = Some(stub.url());
            settings.primary_model = Some("income".into());
            settings.primary_classes = classes.map(|classes| classes.map(String::from).to_vec());
            settings.intake = Some("proxy".into());
        })
        .await;
        rehearsal.report_when(says(words)).await;
    }
}

/// Of values nothing bounds how far their mean may have moved: the setting would hold every promotion back for ever.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_limit_of_probabilities_is_refused_for_values() {
    let settings = |task: &str| Settings {
        candidate: Some("models".into()),
        primary_task: Some(task.into()),
        max_score_shift: Some(0.01),
        ..Settings::default()
    };
    for task in ["regression", "quantile", "tensor"] {
        let problems = settings(task).validate().expect_err("refused").to_string();
        assert!(problems.contains("max-score-shift") && problems.contains(task), "{problems}");
    }
    assert!(settings("binary").validate().is_ok());
    // Where only the primary knows what it predicts, nothing begins, and the report says why.
    let stub = Stub::describing(described(&[("value", "FP64")]), |_| None).await;
    let rehearsal = Rehearsal::alone(|settings| {
        settings.primary = Some(stub.url());
        settings.primary_model = Some("price".into());
        settings.intake = Some("proxy".into());
        settings.candidate = Some(stub.url());
        settings.max_score_shift = Some(0.01);
    })
    .await;
    let why = "no epoch can begin: max-score-shift is only for a classification, the primary's task is Regression";
    rehearsal.report_when(|report| report.reasons[0].starts_with(why)).await;
}
