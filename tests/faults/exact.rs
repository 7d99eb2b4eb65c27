//! P8: N injected disagreements of M pairs are N of M in the report.

use std::{collections::BTreeSet, net::SocketAddr, sync::Arc, time::Duration};

use serde_json::Value as Json;
use support::{
    adult,
    grpc::{Call, Connection, MODEL_INFER},
    promises::Report,
    sidecar::{Counts, Sidecar},
    stub::Stub,
};
use tokio::task::JoinSet;
use understudy::inference::{
    ModelInferRequest, ModelInferResponse, ModelMetadataResponse, model_infer_request::InferInputTensor,
    model_infer_response::InferOutputTensor, model_metadata_response::TensorMetadata,
};

use crate::{
    candidate::Candidate,
    stage::{Cast, Stage, patiently, row},
};

/// Pairs: every row of the test set.
const PAIRS: usize = 4_000;
const SOON: Duration = Duration::from_secs(20);
/// Calls at the same time: few enough that no queue fills.
const CLIENTS: usize = 8;

pub(crate) async fn counted(report: &mut Report, cast: &Cast) -> anyhow::Result<()> {
    let stage = Stage::open(cast).await?;
    for (what, proxied) in [("tap", false), ("proxy", true)] {
        for injected in [0, 1, 137, PAIRS] {
            let candidate = Candidate::start();
            // Spread over the rows, each once.
            let rows: BTreeSet<usize> = (0..injected).map(|n| n * 1_009 % PAIRS).collect();
            anyhow::ensure!(rows.len() == injected, "1009 and {PAIRS} have a divisor in common");
            candidate.disagree_on(rows.iter().copied().collect());
            let (sidecar, address) = if proxied {
                let sidecar = stage.proxy(&candidate.url(), &[]).await?;
                let address = sidecar.grpc;
                (sidecar, address)
            } else {
                (stage.sidecar(&candidate.url(), &[]).await?, stage.server.grpc)
            };
            ask(address, (0..PAIRS).map(row).collect()).await?;
            let told = all(&sidecar, PAIRS).await?;
            let (agreed, compared) = agreement(&told);
            let text = format!("{} of {compared}; flips as injected: {}", compared - agreed, flips(&told, &rows));
            let kept = (agreed, compared) == (PAIRS - injected, PAIRS) && flips(&told, &rows);
            report.line("P8", what, &format!("{injected} of {PAIRS} disagree, class by class"), &text, kept);
        }
    }
    numbers(report, cast).await
}

async fn ask(address: SocketAddr, calls: Arc<[Call]>) -> anyhow::Result<()> {
    let mut clients = JoinSet::new();
    for client in 0..CLIENTS {
        let calls = calls.clone();
        clients.spawn(async move {
            let connection = Connection::open(address).await;
            for call in calls.iter().skip(client).step_by(CLIENTS) {
                let reply = patiently(&connection, call).await;
                anyhow::ensure!(reply.status == Some(0), "{reply:?}");
            }
            Ok(())
        });
    }
    clients.join_all().await.into_iter().collect()
}

/// The report when `pairs` exchanges have been compared and none is on its way. More may have been offered: what the primary
/// was too busy for was asked again.
async fn all(sidecar: &Sidecar, pairs: usize) -> anyhow::Result<Json> {
    let done = |report: &Json| {
        Counts::of(report, "exchanges").is_some_and(|it| it.compared >= pairs as u64 && it.in_flight == 0)
    };
    sidecar.report_when(SOON, done).await
}

/// Rows that agreed, and rows.
fn agreement(report: &Json) -> (usize, usize) {
    let number = |name: &str| report["agreement"][name].as_u64().unwrap_or(0) as usize;
    (number("agreed"), number("compared"))
}

/// Whether the matrix says what LightGBM's own answers and the injected rows say.
fn flips(report: &Json, injected: &BTreeSet<usize>) -> bool {
    let table = adult::test_set();
    let count = |primary: &str, candidate: &str| {
        let flips = report["flips"].as_array().map(Vec::as_slice).unwrap_or_default();
        let found = flips.iter().find(|flip| flip["primary"] == primary && flip["candidate"] == candidate);
        found.map_or(0, |flip| flip["count"].as_u64().unwrap_or(0)) as usize
    };
    adult::CLASSES.iter().all(|&class| {
        let rows = (0..PAIRS).filter(|&row| adult::label(table.primary()[row]) == class);
        let (other, same): (Vec<_>, Vec<_>) = rows.partition(|row| injected.contains(row));
        let against = adult::CLASSES[usize::from(class == adult::CLASSES[0])];
        count(class, class) == same.len() && count(class, against) == other.len()
    })
}

/// What primary and candidate answer, and whether that is agreement within 1e-9 + 1 %.
const NUMBERS: [(f64, f64, bool); 12] = [
    (1.0, 1.0, true),
    (100.0, 100.9, true),
    (100.0, 101.1, false),
    (0.0, -0.0, true),
    (-0.0, 0.0, true),
    (0.0, 1e-12, true),
    (f64::NAN, f64::NAN, false),
    (f64::NAN, 1.0, false),
    (1.0, f64::NAN, false),
    (f64::INFINITY, f64::INFINITY, false),
    (f64::INFINITY, f64::NEG_INFINITY, false),
    (1.0, f64::INFINITY, false),
];
/// Of each.
const TIMES: usize = 50;

/// The rules for -0, NaN and infinities, on a primary that has no tap: answers to the number in the id.
async fn numbers(report: &mut Report, cast: &Cast) -> anyhow::Result<()> {
    let output = |number: f64| ModelInferResponse {
        model_version: "1".into(),
        outputs: vec![InferOutputTensor {
            name: "value".into(),
            datatype: "FP64".into(),
            shape: vec![1],
            ..InferOutputTensor::default()
        }],
        raw_output_contents: vec![number.to_le_bytes().to_vec().into()],
        ..ModelInferResponse::default()
    };
    let case = |request: &ModelInferRequest| NUMBERS[request.id.parse::<usize>().unwrap_or(0) % NUMBERS.len()];
    let metadata = ModelMetadataResponse {
        versions: vec!["1".into()],
        outputs: vec![TensorMetadata { name: "value".into(), datatype: "FP64".into(), shape: vec![-1] }],
        ..ModelMetadataResponse::default()
    };
    let primary = Stub::describing(metadata.clone(), move |request| Some(Ok(output(case(request).0)))).await;
    let candidate = Stub::describing(metadata, move |request| Some(Ok(output(case(request).1)))).await;
    let urls = [primary.url(), candidate.url()];
    let flags = [
        ["--intake", "proxy"],
        ["--primary", &urls[0]],
        ["--primary-model", "numbers"],
        ["--primary-task", "regression"],
        ["--candidate", &urls[1]],
        ["--log", "warn"],
    ];
    let sidecar = Sidecar::start(&cast.sidecar, &cast.setup, flags.as_flattened()).await?;
    sidecar.follows().await?;
    let call = |n: usize| {
        let input =
            InferInputTensor { name: "x".into(), datatype: "FP64".into(), shape: vec![1], ..Default::default() };
        let request = ModelInferRequest {
            model_name: "numbers".into(),
            id: n.to_string(),
            inputs: vec![input],
            raw_input_contents: vec![vec![0; 8].into()],
            ..ModelInferRequest::default()
        };
        Call::new(MODEL_INFER, &request)
    };
    let pairs = NUMBERS.len() * TIMES;
    ask(sidecar.grpc, (0..pairs).map(call).collect()).await?;
    let told = all(&sidecar, pairs).await?;
    let (agreed, compared) = agreement(&told);
    let expected = NUMBERS.iter().filter(|case| case.2).count() * TIMES;
    let odd = NUMBERS.iter().filter(|case| !(case.0.is_finite() && case.1.is_finite())).count() * TIMES;
    let nonfinite = told["agreement"]["nonfinite"].as_u64().unwrap_or(0) as usize;
    let text = format!("{} of {compared}, {nonfinite} not finite", compared - agreed);
    let kept = (agreed, compared, nonfinite) == (expected, pairs, odd);
    let asked = format!("{} of {pairs} disagree, {odd} not finite", pairs - expected);
    report.line("P8", "-0 = 0, NaN and infinities never", &asked, &text, kept);
    Ok(())
}
