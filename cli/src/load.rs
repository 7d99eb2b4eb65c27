//! `understudy load`: how much a server takes, and what it costs it. A closed loop: each lane sends its next request when
//! the last one was answered. Different rows in every request, encoded before the clock starts.

use std::{
    path::PathBuf,
    process::ExitCode,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};
use prost::Message as _;
use shadow_sidecar::stats::histogram::Histogram;
use tokio::task::JoinSet;
use tonic::{Code, Request, Status, client::Grpc, codegen::http::uri::PathAndQuery};
use understudy::{
    raw::Raw,
    source, status,
    v1::{PredictRequest, Row},
};

use crate::{
    connect::{Service, Shown},
    output,
    predict::input,
    words::count,
};

const PREDICT: &str = "/understudy.v1.PredictionService/Predict";
const MODEL_INFER: &str = "/inference.GRPCInferenceService/ModelInfer";
mod tensors;

/// Before the clock starts: connections, caches, branch predictors.
const WARM_UP: Duration = Duration::from_secs(1);

/// Send rows in a closed loop and show rate, latency and what it cost the server
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// HOST:PORT, http://HOST:PORT or unix:PATH
    #[arg(long, env = "UNDERSTUDY_SERVER", value_name = "ADDRESS", default_value = "http://127.0.0.1:8001")]
    server: String,
    #[command(flatten)]
    shown: Shown,
    /// Which model; for `predict` not needed when the server has one only
    #[arg(long, value_name = "NAME", default_value = "")]
    model: String,
    /// How rows travel: as named values, as a tensor for each feature, or as one matrix of numbers
    #[arg(long, value_enum, default_value_t = Protocol::Predict)]
    protocol: Protocol,
    /// The model's package, for the protocols of tensors: its schema says what a feature is
    #[arg(long, value_name = "DIR", required_if_eq_any([("protocol", "v2"), ("protocol", "v2-matrix")]))]
    package: Option<PathBuf>,
    /// Rows in a request
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    rows: u32,
    /// Connections
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=1024))]
    connections: u32,
    /// Requests in flight on each connection
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=128))]
    in_flight: u32,
    /// For how long
    #[arg(long, value_name = "DURATION", default_value = "5s", value_parser = humantime::parse_duration)]
    duration: Duration,
    /// The server's process on this machine: shows its CPU time for each 1,000 requests
    #[arg(long, value_name = "PID")]
    pid: Option<u32>,
    /// Rows: as for `understudy predict`
    #[arg(value_name = "INPUT")]
    input: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Protocol {
    /// `understudy.v1.PredictionService/Predict`.
    Predict,
    /// `inference.GRPCInferenceService/ModelInfer`, a raw tensor [N] for each feature.
    V2,
    /// The same with one raw FP64 matrix [N,F], in which a category is its position in the schema.
    V2Matrix,
}

/// What one lane has seen.
#[derive(Default)]
struct Seen {
    latencies: Histogram,
    /// By gRPC code.
    codes: [u64; 17],
}

/// # Errors
/// The input is wrong, nobody listens, or nothing was answered.
pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let rows = input::read(&arguments.input)?;
    let bodies: Arc<[bytes::Bytes]> = requests(&rows, arguments)?.into();
    if bodies.is_empty() {
        bail!("{}: no rows", arguments.input);
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("no runtime")?;
    let (seen, took, cpu) = runtime.block_on(measure(arguments, &bodies))?;

    let answered = seen.latencies.count();
    let requests_a_second = answered as f64 / took.as_secs_f64();
    let millis = |q: f64| seen.latencies.quantile(q).unwrap_or_default().as_secs_f64() * 1e3;
    let mut lines = vec![
        format!("requests   {} in {:.2} s", count(answered), took.as_secs_f64()),
        format!(
            "rate       {requests_a_second:.0} requests/s, {:.0} rows/s",
            requests_a_second * f64::from(arguments.rows)
        ),
        format!(
            "latency    p50 {:.3} ms, p95 {:.3} ms, p99 {:.3} ms, p99.9 {:.3} ms",
            millis(0.5),
            millis(0.95),
            millis(0.99),
            millis(0.999)
        ),
    ];
    for (code, seen) in (0..).zip(seen.codes).filter(|(code, seen)| *code > 0 && *seen > 0) {
        lines.push(format!("{:<10} {}", status::name(Code::from_i32(code)), count(seen)));
    }
    if let Some(cpu) = cpu {
        lines.push(format!(
            "server     {:.2} ms CPU for each 1,000 requests",
            cpu.as_secs_f64() * 1e6 / answered as f64
        ));
    }
    output::lines(&lines)?;
    Ok(if seen.codes[1..].iter().any(|failed| *failed > 0) { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// Every request that will be sent, encoded.
///
/// # Errors
/// The package can't be read, or does not take the rows.
fn requests(rows: &[Row], arguments: &Arguments) -> anyhow::Result<Vec<bytes::Bytes>> {
    let all = || rows.iter().cycle().take(rows.len().max(arguments.rows as usize));
    let rows: Vec<Row> = all().cloned().collect();
    let model = arguments.package.as_deref().map(source::load).transpose().context("the package can't be read")?;
    rows.chunks_exact(arguments.rows as usize)
        .map(|rows| {
            let encoded = match (arguments.protocol, &model) {
                (Protocol::V2, Some(model)) => tensors::named(&arguments.model, rows, model).encode_to_vec(),
                (Protocol::V2Matrix, Some(model)) => tensors::matrix(&arguments.model, rows, model)?.encode_to_vec(),
                _ => PredictRequest { model: arguments.model.clone(), rows: rows.to_vec(), ..Default::default() }
                    .encode_to_vec(),
            };
            Ok(encoded.into())
        })
        .collect()
}

async fn measure(
    arguments: &Arguments,
    bodies: &Arc<[bytes::Bytes]>,
) -> anyhow::Result<(Seen, Duration, Option<Duration>)> {
    let mut lanes = JoinSet::new();
    let begin = Instant::now() + WARM_UP;
    let end = begin + arguments.duration;
    for connection in 0..arguments.connections {
        let channel = arguments.shown.connect(&arguments.server).await?;
        for lane in 0..arguments.in_flight {
            let start = (connection * arguments.in_flight + lane) as usize * 61;
            let path = match arguments.protocol {
                Protocol::Predict => PREDICT,
                Protocol::V2 | Protocol::V2Matrix => MODEL_INFER,
            };
            lanes.spawn(drive(channel.clone(), path, bodies.clone(), start, begin, end));
        }
    }
    tokio::time::sleep_until(begin.into()).await;
    let cpu_before = arguments.pid.map(cpu_time).transpose()?;
    let mut seen = Seen::default();
    while let Some(lane) = lanes.join_next().await {
        let lane = lane.context("a lane has failed")??;
        seen.latencies.merge(&lane.latencies);
        for (all, one) in seen.codes.iter_mut().zip(lane.codes) {
            *all += one;
        }
    }
    let took = begin.elapsed();
    let cpu = match (cpu_before, arguments.pid.map(cpu_time).transpose()?) {
        (Some(before), Some(after)) => Some(after.saturating_sub(before)),
        _ => None,
    };
    anyhow::ensure!(seen.latencies.count() > 0, "nothing was answered");
    Ok((seen, took, cpu))
}

async fn drive(
    channel: Service,
    path: &'static str,
    bodies: Arc<[bytes::Bytes]>,
    start: usize,
    begin: Instant,
    end: Instant,
) -> anyhow::Result<Seen> {
    let path = PathAndQuery::from_static(path);
    let mut client = Grpc::new(channel);
    let mut seen = Seen::default();
    for body in bodies.iter().cycle().skip(start % bodies.len()) {
        client.ready().await.context("the connection is lost")?;
        let sent = Instant::now();
        // Encoding and decoding would be the client's cost, not the server's.
        let answered = client.unary(Request::new(body.clone()), path.clone(), Raw).await;
        if sent >= begin {
            let code = answered.as_ref().map_or_else(Status::code, |_| Code::Ok);
            seen.codes[code as usize] += 1;
            seen.latencies.record(sent.elapsed().as_nanos() as u64);
        }
        if Instant::now() >= end {
            break;
        }
    }
    Ok(seen)
}

/// User and system time of a process on this machine.
///
/// # Errors
/// There is no such process, or no procfs.
fn cpu_time(pid: u32) -> anyhow::Result<Duration> {
    // Fields 14 and 15, counted behind the command, which may hold anything; a tick is 10 ms on Linux (USER_HZ).
    const TICK: Duration = Duration::from_millis(10);
    let path = format!("/proc/{pid}/stat");
    let text = std::fs::read_to_string(&path).with_context(|| path.clone())?;
    let fields = text.rsplit_once(')').map_or("", |(_, rest)| rest).split_whitespace();
    let ticks: u32 = fields.skip(11).take(2).filter_map(|field| field.parse::<u32>().ok()).sum();
    Ok(TICK * ticks)
}
