//! On one core nothing is handed to another thread: what takes long is done a slice at a time, and others in between.

use std::{
    thread,
    time::{Duration, Instant},
};

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use support::{
    Primary, adult,
    grpc::{Call, Connection, MODEL_INFER, PREDICT},
};
use understudy::inference::ModelInferResponse;

/// How often the rows are in a request.
const TIMES: usize = 25;

/// Runs `test` on one core, with all the threads that it starts.
fn on_one_core<T: Future<Output = ()>>(test: impl FnOnce() -> T + Send + 'static) {
    let alone = thread::spawn(|| {
        let allowed = sched_getaffinity(None).expect("an affinity");
        let first = (0..CpuSet::MAX_CPU).find(|&cpu| allowed.is_set(cpu)).expect("a core");
        let mut one = CpuSet::new();
        one.set(first);
        sched_setaffinity(None, &one).expect("a core of ours");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(test());
    });
    alone.join().unwrap();
}

/// 100,000 rows.
fn large() -> Call {
    let table = adult::test_set();
    let rows = table.rows.len();
    let mut many = table.matrix(0..rows, true);
    many.inputs[0].shape[0] = (rows * TIMES) as i64;
    many.raw_input_contents[0] = many.raw_input_contents[0].repeat(TIMES).into();
    Call::new(MODEL_INFER, &many)
}

async fn primary(compute_wait: &str) -> Primary {
    Primary::with(|settings| {
        settings.workers = Some(1);
        settings.max_rows = Some(100_000);
        settings.max_request_bytes = Some(16 << 20);
        settings.max_response_bytes = Some(16 << 20);
        settings.compute_wait = Some(compute_wait.into());
    })
    .await
}

#[test]
fn a_large_request_behind_a_large_one_is_refused() {
    on_one_core(async || {
        let primary = primary("1ms").await;
        let mut calls = tokio::task::JoinSet::new();
        for _ in 0..2 {
            let connection = Connection::open(primary.grpc()).await;
            calls.spawn(async move { connection.call(&large()).await.status });
        }
        let mut statuses = calls.join_all().await;
        statuses.sort_unstable();
        assert_eq!(statuses, [Some(0), Some(8)]);
        assert_eq!(primary.scrape().await.sum("understudy_refused_calls_total", &[("reason", "work")]), 1.0);
        let asks_alone = primary.connect().await;
        assert_eq!(asks_alone.call(&large()).await.status, Some(0), "what was ahead is done");
    });
}

#[test]
fn a_large_request_lets_small_ones_in_between() {
    on_one_core(async || {
        let primary = primary("25ms").await;
        let table = adult::test_set();
        let rows = table.rows.len();
        let [asks_much, asks_little] = [Connection::open(primary.grpc()).await, primary.connect().await];
        let much = tokio::spawn(async move { asks_much.call(&large()).await });
        let little = Call::new(PREDICT, &table.predict(0..1));
        let (begun, mut longest, mut answered) = (Instant::now(), Duration::ZERO, 0);
        while !much.is_finished() {
            let asked = Instant::now();
            assert_eq!(asks_little.call(&little).await.status, Some(0));
            longest = longest.max(asked.elapsed());
            answered += 1;
        }
        let whole = begun.elapsed();
        let reply = much.await.expect("no panic");
        assert_eq!(reply.status, Some(0), "{}", reply.message);
        // Evaluating is most of it; decoding and writing are not divided.
        assert!(longest < whole / 2, "one of {answered} has waited for {longest:?} of {whole:?}");
        let answer: ModelInferResponse = prost::Message::decode(reply.body).expect("an answer");
        let place = answer.outputs.iter().position(|output| output.name == "probabilities").expect("asked for");
        let raw = answer.raw_output_contents[place].chunks_exact(16);
        let got = raw.map(|row| f64::from_le_bytes(row[8..].try_into().expect("eight bytes")).to_bits());
        let asked = table.primary().iter().map(|p| p.to_bits()).cycle().take(rows * TIMES);
        assert!(got.eq(asked), "each row as LightGBM answers it");
    });
}
