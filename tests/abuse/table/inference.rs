//! Cases of `ModelInfer` and `Predict` that need more than one call: values against the reference, and a server's beginning
//! and end.

use std::{net::TcpListener, time::Duration};

use prost::Message;
use support::{
    adult::test_set,
    examples,
    grpc::{Call, Connection, MODEL_INFER, PREDICT, Reply},
    package::Package,
    target::{How, Target},
    tensors::{Output, RAW},
};
use tokio::{net::TcpStream, time::sleep};
use understudy::{
    inference::ModelInferResponse,
    v1::{NullValue, PredictRequest, PredictResponse, Value, value::Kind},
};

use super::{Try, word};

/// I28, I29: what a number becomes is what the schema says, and the answer is that of the number that it becomes.
pub(super) async fn values(target: &Target) -> Vec<Try> {
    let connection = target.connect().await;
    let bounds = test_set().features.iter().find(|feature| feature.name == "capital_gain").and_then(|gain| gain.bounds);
    let (least, greatest) = bounds.expect("capital_gain has bounds");
    let number = Kind::Number;
    let pairs = [
        ("I28 NaN is missing", number(f64::NAN), Kind::Null(NullValue::Unspecified.into())),
        ("I28 infinity is clamped", number(f64::INFINITY), number(greatest)),
        ("I28 -infinity is clamped", number(f64::NEG_INFINITY), number(least)),
        ("I28 -0 is 0", number(-0.0), number(0.0)),
        ("I28 f32::MAX is clamped", number(f32::MAX.into()), number(greatest)),
        ("I28 a subnormal is 0", number(f64::from_bits(1)), number(0.0)),
        ("I29 2^53 + 1 is clamped", Kind::Integer((1 << 53) + 1), number(greatest)),
        ("I29 i64::MIN is clamped", Kind::Integer(i64::MIN), number(least)),
    ];
    let mut tries = Vec::new();
    for (name, sent, same_as) in pairs {
        let (reply, reference) = (ask(&connection, sent).await, ask(&connection, same_as).await);
        let (seen, expected) = (probability(&reply), probability(&reference));
        let mut tried = Try::expect(name, word(&reply), &["0"]);
        let same = seen.is_some() && seen.map(f64::to_bits) == expected.map(f64::to_bits);
        tried.require(same, format!("expected P = {expected:?}, got {seen:?}"));
        tries.push(tried);
    }
    tries.push(stress_rows(&connection).await);
    tries
}

async fn ask(connection: &Connection, gain: Kind) -> Reply {
    let mut request = PredictRequest { model: "adult".into(), ..test_set().predict(0..1) };
    request.rows[0].values.insert("capital_gain".into(), Value { kind: Some(gain) });
    connection.call(&Call::new(PREDICT, &request)).await
}

fn probability(reply: &Reply) -> Option<f64> {
    let answer = PredictResponse::decode(reply.body.clone()).ok()?;
    answer.predictions.first()?.probabilities.get(">50K").copied()
}

/// Missing, unseen and out-of-range values through tensors, against LightGBM's own answers.
async fn stress_rows(connection: &Connection) -> Try {
    let table = support::adult::stress_set();
    let reply = connection.call(&Call::new(MODEL_INFER, &table.columns(0..100, RAW))).await;
    let mut tried = Try::expect("I30 unseen categories and values out of range", word(&reply), &["0"]);
    let answer = ModelInferResponse::decode(reply.body).unwrap_or_default();
    if answer.outputs.iter().any(|output| output.name == "probabilities") {
        let seen = Output::of(&answer, "probabilities").numbers();
        // Numbers that are repaired have an answer of their own; unknown categories reach the model as they are.
        let as_sent = |n: &usize| {
            table.features.iter().zip(&table.rows[*n]).all(|(feature, cell)| {
                let within = |(low, high)| cell.is_empty() || (low..=high).contains(&feature.code(cell));
                feature.bounds.is_none_or(|bounds| within(bounds) && !cell.contains('.'))
            })
        };
        let compared: Vec<usize> = (0..100).filter(as_sent).collect();
        let equal = |n: &usize| seen.get(2 * n + 1).map(|p| p.to_bits()) == Some(table.primary()[*n].to_bits());
        tried.require(!compared.is_empty() && compared.iter().all(equal), "expected LightGBM's own probabilities");
    }
    tried
}

/// I6, I7, I40.
pub(super) async fn beginning_and_end(how: &How) -> Vec<Try> {
    vec![
        loading(how).await,
        Try::absent("I7 unloaded", "this server has no RepositoryModelUnload: a model goes with its process"),
        draining(how).await,
    ]
}

fn good() -> Call {
    Call::new(MODEL_INFER, &test_set().columns(0..1, RAW))
}

/// So many models that loading them takes a while.
async fn loading(how: &How) -> Try {
    const NAME: &str = "I6 while eight models are loaded";
    let of = examples().join("models/adult/1");
    let packages: Vec<Package> = (0..8).map(|n| Package::copy(&of, &format!("adult{n}"))).collect();
    let paths: Vec<String> = packages.iter().map(|package| package.repository().display().to_string()).collect();
    let free = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a free port");
    let (how, models, listen) = (how.clone(), paths.join(","), free.to_string());
    let starting =
        tokio::spawn(async move { how.start(&["--models", &models, "--grpc-listen", &listen]).await.map(drop) });
    let mut early = None;
    for _ in 0..5_000 {
        if starting.is_finished() {
            break;
        }
        if TcpStream::connect(free).await.is_ok() {
            early = Some(Connection::open(free).await.call(&good()).await);
            break;
        }
        sleep(Duration::from_millis(2)).await;
    }
    let started = starting.await.unwrap_or_else(|error| Err(error.to_string()));
    match early {
        Some(reply) => {
            let mut tried = Try::expect(NAME, word(&reply), &["14"]);
            tried.require(started.is_ok(), format!("the server starts, {started:?}"));
            tried.require(reply.metadata.contains_key("grpc-retry-pushback-ms"), "expected grpc-retry-pushback-ms");
            tried
        }
        None => Try::absent(NAME, "loading was too quick to see anything"),
    }
}

/// While it drains a server answers as long as it takes calls; after that a call gets a status for which clients go elsewhere.
async fn draining(how: &How) -> Try {
    const NAME: &str = "I40 after the GOAWAY";
    let target = how.start(&["--drain-delay", "0s"]).await.expect("the server starts");
    let connection = target.connect().await;
    let before = word(&connection.call(&good()).await);
    let draining = target.drain();
    let mut seen = String::new();
    for _ in 0..2_000 {
        seen = word(&connection.call(&good()).await);
        if seen != "0" {
            break;
        }
        sleep(Duration::from_millis(1)).await;
    }
    drop(draining.ended(Duration::from_secs(10)).await);
    // A stream that the GOAWAY left out was not processed, and every gRPC library says UNAVAILABLE for it.
    let seen = if matches!(seen.as_str(), "closed" | "RST 0" | "RST 7") { "14".into() } else { seen };
    let mut tried = Try::expect(NAME, seen, &["14"]);
    tried.require(before == "0", format!("expected 0 before the drain, {before}"));
    tried
}
