//! P5: what a client gets is to the byte what it would have got without shadowing.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use http::HeaderMap;
use support::{
    adult::{refused, stress_set, test_set},
    grpc::{Call, Connection, MODEL_INFER, PREDICT, frame},
    promises::Report,
    tensors::{RAW, TYPED, ask},
};
use tokio::task::JoinSet;

use crate::{
    candidate::{Behaviour, Candidate},
    stage::{Cast, Stage, package, patiently},
};

/// Requests of each pass.
const REQUESTS: usize = 10_000;
const CONNECTIONS: usize = 4;
const IN_FLIGHT: usize = 4;
/// Digits of a prediction id that are the process's, and those that count.
const ID: (usize, usize) = (20, 12);

/// All that a client can see of an answer, but the number in its prediction ids.
#[derive(Clone, Debug, Default, PartialEq)]
struct Answer {
    http: u16,
    status: Option<i32>,
    metadata: HeaderMap,
    body: Vec<u8>,
    reset: bool,
}

/// Both protocols, good rows and strange ones, errors of several kinds.
fn requests() -> Vec<Call> {
    let (calm, stress) = (test_set(), stress_set());
    let call = |n: usize| {
        let (row, strange) = (n * 7 % 3_900, n * 3 % 450);
        match n % 10 {
            0 => Call::new(PREDICT, &calm.predict(row..row + 1)),
            1 => Call::new(PREDICT, &stress.predict(strange..strange + 5)),
            2 => Call::new(MODEL_INFER, &calm.columns(row..row + 1 + n % 9, RAW)),
            3 => Call::new(MODEL_INFER, &stress.columns(strange..strange + 3, TYPED)),
            4 => {
                let mut request = calm.matrix(row..row + 20, true);
                ask(&mut request, &["label", "probabilities"]);
                Call::new(MODEL_INFER, &request)
            }
            5 if n % 100 == 5 => Call::new(PREDICT, &refused()),
            5 if n % 100 == 15 => Call::bytes(MODEL_INFER, frame(0, b"\xff\xff")),
            5 if n % 100 == 25 => Call::new(PREDICT, &calm.predict(0..101)),
            5 if n % 100 == 35 => Call::bytes("/nobody.Knows/This", frame(0, b"")),
            _ => Call::new(MODEL_INFER, &calm.matrix(row..row + 1, n.is_multiple_of(2))),
        }
    };
    (0..REQUESTS).map(call).collect()
}

async fn ask_all(address: std::net::SocketAddr, calls: &Arc<[Call]>) -> anyhow::Result<Vec<Answer>> {
    let next = Arc::new(AtomicUsize::new(0));
    let mut clients = JoinSet::new();
    for _ in 0..CONNECTIONS {
        let connection = Arc::new(Connection::open(address).await);
        for _ in 0..IN_FLIGHT {
            let (connection, calls, next) = (connection.clone(), calls.clone(), next.clone());
            clients.spawn(async move {
                let mut answers = Vec::new();
                loop {
                    let n = next.fetch_add(1, Ordering::Relaxed);
                    let Some(call) = calls.get(n) else { return answers };
                    let reply = patiently(&connection, call).await;
                    let reset = reply.reset.is_some();
                    let body = reply.body.to_vec();
                    answers.push((
                        n,
                        Answer { http: reply.http, status: reply.status, metadata: reply.metadata, body, reset },
                    ));
                }
            });
        }
    }
    let mut all = vec![Answer::default(); calls.len()];
    for (n, answer) in clients.join_all().await.into_iter().flatten() {
        all[n] = answer;
    }
    let process = all.iter().find_map(|answer| process_of(&answer.body)).unwrap_or_default();
    anyhow::ensure!(!process.is_empty(), "no answer has a prediction id");
    for answer in &mut all {
        mask(&mut answer.body, &process);
    }
    Ok(all)
}

/// The digits that all prediction ids of the process begin with, from the first answer with one.
fn process_of(body: &[u8]) -> Option<Vec<u8>> {
    let (own, counted) = ID;
    let is_id = |window: &&[u8]| window.iter().all(u8::is_ascii_hexdigit);
    body.windows(own + counted).find(is_id).map(|id| id[..own].to_vec())
}

fn mask(body: &mut [u8], process: &[u8]) {
    let (own, counted) = ID;
    let mut at = 0;
    while let Some(found) = body[at..].windows(own).position(|window| window == process) {
        let number = at + found + own;
        let end = body.len().min(number + counted);
        body[number..end].fill(b'0');
        at = end;
    }
}

fn compare(report: &mut Report, what: &str, off: &[Answer], on: &[Answer]) {
    let differ: Vec<usize> = (0..off.len()).filter(|&n| off[n] != on[n]).collect();
    let good = off.iter().filter(|answer| answer.status == Some(0)).count();
    let bytes: usize = off.iter().map(|answer| answer.body.len()).sum();
    let text = format!("{} differ; {good} of {} OK, {bytes} bytes", differ.len(), off.len());
    report.line("P5", what, "10000 answers, 0 differ", &text, differ.is_empty() && good > off.len() / 2);
    if let Some(&n) = differ.first() {
        println!("     request {n}: {:?}\n     became     {:?}", off[n], on[n]);
    }
}

pub(crate) async fn equal(report: &mut Report, cast: &Cast) -> anyhow::Result<()> {
    let stage = Stage::open(cast).await?;
    let calls: Arc<[Call]> = requests().into();
    let address = stage.server.grpc;
    let off = ask_all(address, &calls).await?;
    let again = ask_all(address, &calls).await?;
    compare(report, "without shadowing, twice", &off, &again);
    let candidate = Candidate::start();
    for (behaviour, what) in [
        (Some(Behaviour::Hangs), "candidate hangs"),
        (Some(Behaviour::Fails), "candidate fails"),
        (Some(Behaviour::Lies), "candidate lies"),
        (None, "candidate in process, a bad one"),
    ] {
        candidate.behave(behaviour.unwrap_or(Behaviour::Answers));
        let who = if behaviour.is_some() { candidate.url() } else { package("adult-candidate-bad") };
        let sidecar = stage.sidecar(&who, &[]).await?;
        compare(report, what, &off, &ask_all(address, &calls).await?);
        drop(sidecar);
    }
    candidate.behave(Behaviour::Hangs);
    let proxy = stage.proxy(&candidate.url(), &[]).await?;
    compare(report, "through the proxy, candidate hangs", &off, &ask_all(proxy.grpc, &calls).await?);
    Ok(())
}
