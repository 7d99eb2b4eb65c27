//! Outputs of any meaning: a row agrees when all of its elements do.

use shadow_sidecar::{Settings, recording::Reader, replay::replay, report};
use support::{Rehearsal, endpoint, stub::Stub, tensors::text_to_raw};
use understudy::{
    inference::{
        InferTensorContents, ModelInferRequest, ModelInferResponse, ModelMetadataResponse,
        grpc_inference_service_client::GrpcInferenceServiceClient, model_infer_request::InferInputTensor,
        model_infer_response::InferOutputTensor, model_metadata_response::TensorMetadata,
    },
    v1::{ListDisagreementsRequest, Report, Task},
};

use super::{agreement, v2};

/// Name, type, shape and bytes.
type Output = (&'static str, &'static str, Vec<i64>, Vec<u8>);

fn described(outputs: &[Output]) -> ModelMetadataResponse {
    let output = |(name, datatype, shape, _): &Output| TensorMetadata {
        name: (*name).into(),
        datatype: (*datatype).into(),
        shape: shape.clone(),
    };
    ModelMetadataResponse {
        versions: vec!["1".into()],
        outputs: outputs.iter().map(output).collect(),
        ..ModelMetadataResponse::default()
    }
}

fn answer(outputs: &[Output]) -> ModelInferResponse {
    let outputs: Vec<_> =
        outputs.iter().map(|(name, kind, shape, raw)| (*name, *kind, &shape[..], raw.clone())).collect();
    v2::outputs("1", &outputs)
}

/// A server that always answers the same.
async fn saying(outputs: Vec<Output>) -> Stub {
    Stub::describing(described(&outputs), move |_| Some(Ok(answer(&outputs)))).await
}

/// A call of `rows` rows through a proxy, and what the sidecar says of it.
async fn compare(
    primary: &Stub,
    candidate: &Stub,
    rows: i64,
    change: impl FnOnce(&mut Settings),
) -> (Rehearsal, Report) {
    let rehearsal = Rehearsal::alone(|settings| {
        settings.primary = Some(primary.url());
        settings.primary_model = Some("income".into());
        settings.primary_task = Some("tensor".into());
        settings.candidate = Some(candidate.url());
        settings.intake = Some("proxy".into());
        settings.tolerance_absolute = Some(0.5);
        settings.tolerance_relative = Some(0.0);
        change(settings);
    })
    .await;
    rehearsal.report_when(|report| report.intake.as_ref().is_some_and(|it| it.connected)).await;
    let contents = InferTensorContents { fp32_contents: vec![0.0; rows as usize], ..Default::default() };
    let input = InferInputTensor {
        name: "x".into(),
        datatype: "FP32".into(),
        shape: vec![rows, 1],
        contents: Some(contents),
        ..InferInputTensor::default()
    };
    let request =
        ModelInferRequest { model_name: "income".into(), inputs: vec![input], ..ModelInferRequest::default() };
    let channel = endpoint(&format!("http://{}", rehearsal.grpc())).connect_lazy();
    GrpcInferenceServiceClient::new(channel).model_infer(request).await.unwrap();
    let report = rehearsal.settled(1).await;
    (rehearsal, report)
}

fn fp32(numbers: &[f32]) -> Vec<u8> {
    numbers.iter().flat_map(|number| number.to_le_bytes()).collect()
}

fn int64(numbers: &[i64]) -> Vec<u8> {
    numbers.iter().flat_map(|number| number.to_le_bytes()).collect()
}

fn texts(all: &[&str]) -> Vec<u8> {
    all.iter().flat_map(|text| text_to_raw(text.as_bytes())).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_row_agrees_when_all_of_its_elements_do() {
    const LARGE: i64 = (1 << 53) + 1;
    // Rows, rows that agree, and the largest difference.
    type Case = (&'static str, Vec<Output>, Vec<Output>, u64, u64, f64);
    let cases: Vec<Case> = vec![
        (
            "floats within the tolerance",
            vec![("y", "FP32", vec![3, 2], fp32(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]))],
            vec![("y", "FP32", vec![3, 2], fp32(&[1.5, 2.0, 3.0, 4.75, 5.0, 6.25]))],
            3,
            2,
            0.75,
        ),
        (
            "floats of another name and type",
            vec![("y", "FP32", vec![2, 2, 1], fp32(&[1.0, 2.0, 3.0, 4.0]))],
            vec![("z", "FP64", vec![2, 1, 2], [1.0, 2.0, 3.0, 5.0f64].map(f64::to_le_bytes).concat())],
            2,
            1,
            1.0,
        ),
        (
            "integers are equal or not, to the last digit",
            vec![("n", "INT64", vec![3, 1], int64(&[7, LARGE, -1]))],
            vec![("n", "INT64", vec![3, 1], int64(&[7, LARGE - 1, -1]))],
            3,
            2,
            1.0,
        ),
        (
            "an integer is what it is in any type",
            vec![("n", "INT64", vec![2], int64(&[7, 200]))],
            vec![("n", "UINT8", vec![2], vec![7, 201])],
            2,
            1,
            1.0,
        ),
        (
            "booleans",
            vec![("b", "BOOL", vec![2, 2], vec![1, 0, 1, 1])],
            vec![("b", "BOOL", vec![2, 2], vec![1, 0, 1, 0])],
            2,
            1,
            1.0,
        ),
        (
            "texts, near or far",
            vec![("t", "BYTES", vec![3, 1], texts(&["one", "", "three"]))],
            vec![("t", "BYTES", vec![3, 1], texts(&["one", "", "threE"]))],
            3,
            2,
            0.0,
        ),
    ];
    for (what, own, other, rows, agreed, largest) in cases {
        let (primary, candidate) = (saying(own).await, saying(other).await);
        let (_rehearsal, report) = compare(&primary, &candidate, rows as i64, |_| {}).await;
        assert_eq!(agreement(&report), (rows, agreed), "{what}: {report:#?}");
        assert_eq!(report.score_delta.unwrap().max_absolute, largest, "{what}");
        let epoch = report.epoch.unwrap();
        assert_eq!(epoch.task(), Task::Tensor);
        assert!(epoch.comparator.contains("within 0.5") && epoch.comparator.contains("equal"), "{}", epoch.comparator);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn several_outputs_are_one_row_after_another_and_the_difference_is_told() {
    let boxes = |last: f32| ("boxes", "FP32", vec![2, 4], fp32(&[0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, last]));
    let classes = |last: i64| ("classes", "INT64", vec![2], int64(&[3, last]));
    let names = |last: &str| ("names", "BYTES", vec![2, 1], texts(&["cat", last]));
    let id = |id: &str| ("id", "BYTES", vec![1], texts(&[id]));
    let primary = saying(vec![id("a"), boxes(7.0), classes(5), names("dog")]).await;
    for (what, candidate, agreed, difference) in [
        ("all alike, in another order", vec![names("dog"), classes(5), id("b"), boxes(7.25)], 2, None),
        ("a box", vec![names("dog"), classes(5), boxes(9.0)], 1, Some("by up to 2")),
        ("a class", vec![names("dog"), classes(9), boxes(7.0)], 1, Some("by up to 4")),
        ("a name", vec![names("dig"), classes(5), boxes(7.0)], 1, Some("texts differ")),
    ] {
        let candidate = saying(candidate).await;
        let outputs = Some("boxes, classes,names".to_owned());
        let (rehearsal, report) = compare(&primary, &candidate, 2, |settings| {
            settings.primary_scores_output.clone_from(&outputs);
            settings.candidate_scores_output = outputs;
        })
        .await;
        assert_eq!(agreement(&report), (2, agreed), "{what}: {report:#?}");
        let told = rehearsal.shadow().list_disagreements(ListDisagreementsRequest::default()).await.unwrap();
        let told = told.into_inner().disagreements;
        let said = told.first().map(|one| (one.difference.as_str(), one.kind.as_str(), one.row));
        assert_eq!(said, difference.map(|difference| (difference, "delta", Some(1))), "{what}");
        if let Some(one) = told.first() {
            let scores: Vec<_> = one.primary_scores.iter().map(|score| (&*score.name, score.value)).collect();
            assert_eq!(scores, [("[0]", 4.0), ("[1]", 5.0), ("[2]", 6.0), ("[3]", 7.0), ("[4]", 5.0)], "{what}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_no_tensor_of_the_same_shape_is_dropped_with_its_reason() {
    let y = |shape: &[i64], numbers: &[f32]| vec![("y", "FP32", shape.to_vec(), fp32(numbers))];
    let primary = saying(y(&[2, 2], &[1.0, 2.0, 3.0, 4.0])).await;
    for (what, candidate, dropped, failed) in [
        ("fewer columns", y(&[2, 1], &[1.0, 2.0]), Some("incomparable"), None),
        ("fewer rows", y(&[1, 2], &[1.0, 2.0]), Some("incomparable"), None),
        ("another type", vec![("y", "INT64", vec![2, 2], int64(&[1, 2, 3, 4]))], Some("incomparable"), None),
        ("a shape that lies", y(&[2, 2], &[1.0]), None, Some("DATA_LOSS")),
        ("a shape that can't be", y(&[2, -2], &[1.0]), None, Some("DATA_LOSS")),
        ("a text that is cut off", vec![("y", "BYTES", vec![1], vec![9, 0, 0, 0, 1])], None, Some("DATA_LOSS")),
    ] {
        let candidate = saying(candidate).await;
        let (_rehearsal, report) = compare(&primary, &candidate, 2, |_| {}).await;
        let counts = report.exchanges.unwrap();
        let one = |map: &std::collections::BTreeMap<String, u64>| map.keys().next().cloned();
        assert_eq!((one(&counts.dropped).as_deref(), one(&counts.failed).as_deref()), (dropped, failed), "{what}");
    }
    // NaN agrees with nothing.
    let odd = saying(y(&[2, 2], &[1.0, f32::NAN, 3.0, 4.0])).await;
    let (_rehearsal, report) = compare(&odd, &odd, 2, |_| {}).await;
    assert_eq!((agreement(&report), report.agreement.unwrap().nonfinite), ((2, 1), 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn which_outputs_are_meant_is_asked_for_where_there_are_several() {
    let outputs = vec![("a", "FP32", vec![1], fp32(&[1.0])), ("b", "INT64", vec![1], int64(&[1]))];
    let stub = saying(outputs).await;
    for (configured, words) in
        [(None, ["primary-scores-output", "'a'", "'b'"]), (Some("a,c"), ["primary-scores-output", "\"c\"", "'b'"])]
    {
        let rehearsal = Rehearsal::alone(|settings| {
            settings.primary = Some(stub.url());
            settings.primary_model = Some("income".into());
            settings.primary_task = Some("tensor".into());
            settings.primary_scores_output = configured.map(String::from);
            settings.candidate = Some(stub.url());
            settings.intake = Some("proxy".into());
        })
        .await;
        let says = |report: &Report| words.iter().all(|word| report.intake.as_ref().unwrap().last_error.contains(word));
        rehearsal.report_when(says).await;
    }
}

/// What such servers said is rehearsed again from a recording, when it is told which outputs are meant.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_recording_of_them_replays() {
    let y = |last: f32| vec![("id", "BYTES", vec![1], texts(&["a"])), ("y", "FP32", vec![3], fp32(&[1.0, 2.0, last]))];
    let (primary, candidate) = (saying(y(3.0)).await, saying(y(4.5)).await);
    let directory = tempfile::tempdir().unwrap();
    let (rehearsal, live) = compare(&primary, &candidate, 3, |settings| {
        settings.record_dir = Some(directory.path().to_owned());
        settings.primary_scores_output = Some("y".into());
        settings.candidate_scores_output = Some("y".into());
    })
    .await;
    rehearsal.drain().await;
    let settings = Settings {
        candidate: Some(candidate.url()),
        primary_scores_output: Some("y".into()),
        candidate_scores_output: Some("y".into()),
        tolerance_absolute: Some(0.5),
        tolerance_relative: Some(0.0),
        min_duration: Some("0s".into()),
        ..Settings::default()
    };
    let reader = Reader::open(directory.path()).unwrap();
    let replayed = replay(&settings.validate().unwrap(), reader, |_| {}).await.unwrap();
    let again = report::report(replayed.named("").unwrap());
    assert_eq!((agreement(&again), agreement(&live)), ((3, 2), (3, 2)));
    assert_eq!(again.score_delta.unwrap().max_absolute, 1.5);
}

/// Typed contents are the same as raw ones.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn elements_are_read_however_they_came() {
    let outputs = |raw: bool| {
        let output = |name: &str, datatype: &str, contents: InferTensorContents| InferOutputTensor {
            name: name.into(),
            datatype: datatype.into(),
            shape: vec![2],
            contents: (!raw).then_some(contents),
            ..InferOutputTensor::default()
        };
        let contents = InferTensorContents::default;
        ModelInferResponse {
            outputs: vec![
                output("f", "FP32", InferTensorContents { fp32_contents: vec![1.0, 2.0], ..contents() }),
                output("i", "INT32", InferTensorContents { int_contents: vec![-1, 2], ..contents() }),
                output("b", "BOOL", InferTensorContents { bool_contents: vec![true, false], ..contents() }),
                output(
                    "t",
                    "BYTES",
                    InferTensorContents { bytes_contents: vec!["x".into(), "y".into()], ..contents() },
                ),
            ],
            raw_output_contents: if raw {
                let i32s = [-1i32, 2].map(i32::to_le_bytes).concat();
                vec![fp32(&[1.0, 2.0]).into(), i32s.into(), vec![1, 0].into(), texts(&["x", "y"]).into()]
            } else {
                Vec::new()
            },
            ..ModelInferResponse::default()
        }
    };
    let names = ["f", "i", "b", "t"].map(|name| (name, "FP32", vec![2], Vec::new()));
    let metadata = || described(&names);
    let raw = Stub::describing(metadata(), move |_| Some(Ok(outputs(true)))).await;
    let typed = Stub::describing(metadata(), move |_| Some(Ok(outputs(false)))).await;
    let (_rehearsal, report) = compare(&raw, &typed, 2, |settings| {
        settings.primary_scores_output = Some("f,i,b,t".into());
        settings.candidate_scores_output = Some("t,b,i,f".into());
    })
    .await;
    assert_eq!(agreement(&report), (2, 0), "in another order nothing is the same: {report:#?}");
    let (_rehearsal, report) = compare(&raw, &typed, 2, |settings| {
        settings.primary_scores_output = Some("f,i,b,t".into());
        settings.candidate_scores_output = Some("f,i,b,t".into());
    })
    .await;
    assert_eq!(agreement(&report), (2, 2), "{report:#?}");
}
