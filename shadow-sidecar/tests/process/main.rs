//! The real process, beside a real server in this one: killed, stopped, drained, misconfigured.

#![allow(clippy::unwrap_used, reason = "a test says what is wrong by failing")]

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use server::Server;
use tempfile::TempDir;
use tokio::task::JoinHandle;
use tonic::{Status, transport::Endpoint};
use understudy::v1::{
    GetReportRequest, PredictRequest, Report, Row, Value, prediction_service_client::PredictionServiceClient,
    shadow_service_client::ShadowServiceClient, value::Kind,
};

#[allow(dead_code, unreachable_pub, reason = "shared with the harness of the end-to-end tests")]
#[path = "../../../tests/support/process.rs"]
mod process;

use process::{Process, SOON};

mod example;
mod scheduling;
mod state;

fn start(flags: &[&str]) -> Process {
    // Other tests run beside it, and it is waited for.
    Process::start(env!("CARGO_BIN_EXE_shadow-sidecar"), flags, &[("SHADOW_SCHEDULING", "normal")])
}

fn models(name: &str) -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/models")).join(name)
}

/// A server that answers, and its Unix socket.
struct Primary {
    server: Server,
    directory: TempDir,
}

impl Primary {
    async fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let settings = server::Settings {
            models: Some(vec![models("adult")]),
            grpc_listen: Some("127.0.0.1:0".into()),
            admin_listen: Some("127.0.0.1:0".into()),
            unix_socket: Some(directory.path().join("grpc.sock").to_str().unwrap().into()),
            workers: Some(2),
            // A stalled subscriber is soon a full one.
            tap_queue: Some(64),
            ..server::Settings::default()
        };
        Self { server: Server::start(settings.validate().unwrap()).await.unwrap(), directory }
    }

    /// Starts a sidecar beside it.
    fn sidecar(&self, more: &[&str]) -> Process {
        let socket = format!("unix:{}", self.directory.path().join("grpc.sock").display());
        let candidate = models("adult-candidate");
        let mut flags = vec!["--primary", &socket, "--candidate", candidate.to_str().unwrap(), "--min-duration", "0s"];
        flags.extend(more);
        start(&flags)
    }

    /// A client that asks without a pause.
    fn load(&self) -> Load {
        let url = format!("http://{}", self.server.addresses().grpc);
        let (stop, answered) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (stopped, counted) = (stop.clone(), answered.clone());
        let client = tokio::spawn(async move {
            let channel = Endpoint::from_shared(url).unwrap().connect_lazy();
            let mut client = PredictionServiceClient::new(channel);
            let age = |age| Row { values: [("age".to_owned(), Value { kind: Some(Kind::Integer(age)) })].into() };
            let request = PredictRequest { rows: (20..40).map(age).collect(), ..PredictRequest::default() };
            while !stopped.load(Ordering::Relaxed) {
                client.predict(request.clone()).await?;
                counted.fetch_add(1, Ordering::Relaxed);
            }
            Ok(())
        });
        Load { stop, answered, client }
    }
}

struct Load {
    stop: Arc<AtomicBool>,
    answered: Arc<AtomicU64>,
    client: JoinHandle<Result<(), Status>>,
}

impl Load {
    /// Waits until `count` more calls were answered.
    async fn wait(&self, count: u64) {
        let until = self.answered.load(Ordering::Relaxed) + count;
        let started = Instant::now();
        while self.answered.load(Ordering::Relaxed) < until {
            assert!(started.elapsed() < SOON, "{count} more answers take too long");
            assert!(!self.client.is_finished(), "a client has seen an error");
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    /// How many calls were answered, when all of them were.
    async fn stop(self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        self.client.await.unwrap().expect("no client may notice anything");
        self.answered.load(Ordering::Relaxed)
    }
}

/// The first report of which `enough` is true.
async fn report_when(process: &Process, enough: impl Fn(&Report) -> bool) -> Report {
    let started = Instant::now();
    let channel = Endpoint::from_shared(format!("http://{}", process.grpc())).unwrap().connect_lazy();
    let mut client = ShadowServiceClient::new(channel);
    loop {
        let report = client.get_report(GetReportRequest::default()).await.unwrap().into_inner();
        if enough(&report) {
            return report;
        }
        assert!(started.elapsed() < SOON, "not within {SOON:?}: {report:#?}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

fn compared(report: &Report) -> u64 {
    report.exchanges.as_ref().map_or(0, |counts| counts.compared)
}

/// P3: killed under load, three times; mirroring resumes within 5 s.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_sidecar_costs_no_client_anything() {
    let primary = Primary::start().await;
    let load = primary.load();
    for round in 0..3 {
        let begun = Instant::now();
        let sidecar = primary.sidecar(&[]);
        report_when(&sidecar, |report| compared(report) >= 50).await;
        assert!(begun.elapsed() < Duration::from_secs(5), "round {round}: {:?}", begun.elapsed());
        sidecar.signal("KILL");
        load.wait(100).await;
        assert_eq!(sidecar.wait(SOON).code, None, "a signal has ended it");
    }
    load.wait(100).await;
    load.stop().await;
}

/// P3: stopped, so that its socket is open and nobody reads from it. It learns of every exchange that it has missed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stopped_sidecar_costs_no_client_anything() {
    let primary = Primary::start().await;
    let sidecar = primary.sidecar(&[]);
    report_when(&sidecar, |report| report.intake.as_ref().is_some_and(|intake| intake.connected)).await;
    let load = primary.load();
    load.wait(50).await;
    sidecar.signal("STOP");
    // More than fits into all the queues and buffers between the two.
    load.wait(600).await;
    sidecar.signal("CONT");
    load.wait(50).await;
    let answered = load.stop().await;
    let settled = |report: &Report| {
        report.exchanges.as_ref().is_some_and(|counts| counts.offered == answered && counts.in_flight == 0)
    };
    let counts = report_when(&sidecar, settled).await.exchanges.unwrap();
    let lost = counts.dropped.get("server_queue_full").copied().unwrap_or_default();
    assert!(lost > 0, "it was not stopped for long enough: {counts:?}");
    assert_eq!(counts.compared + counts.dropped.values().sum::<u64>(), answered, "{counts:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_signal_drains_and_ends_with_success() {
    let primary = Primary::start().await;
    for signal in ["TERM", "INT"] {
        let load = primary.load();
        let sidecar = primary.sidecar(&[]);
        report_when(&sidecar, |report| compared(report) >= 50).await;
        sidecar.signal(signal);
        let signalled = Instant::now();
        let ended = sidecar.wait(SOON);
        assert_eq!(ended.code, Some(0), "SIG{signal}: {}", ended.stderr);
        assert!(signalled.elapsed() < Duration::from_secs(3), "SIG{signal}: {:?}", signalled.elapsed());
        assert!(ended.stderr.contains("drained"), "{}", ended.stderr);
        load.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_signal_ends_at_once() {
    let primary = Primary::start().await;
    let sidecar = primary.sidecar(&["--drain-delay", "60s"]);
    sidecar.grpc();
    sidecar.signal("TERM");
    sidecar.wait_for_log("shutting down");
    sidecar.signal("TERM");
    let signalled = Instant::now();
    assert_eq!(sidecar.wait(SOON).code, Some(130));
    assert!(signalled.elapsed() < Duration::from_secs(1), "{:?}", signalled.elapsed());
}

#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_gives_way_unless_clients_wait_for_it() {
    let primary = Primary::start().await;
    for (flags, expected) in [(&[][..], 10), (&["--intake", "proxy"], 0), (&["--nice", "3"], 3)] {
        let sidecar = primary.sidecar(flags);
        sidecar.grpc();
        for thread in std::fs::read_dir(format!("/proc/{}/task", sidecar.id())).unwrap() {
            let stat = std::fs::read_to_string(thread.unwrap().path().join("stat")).unwrap();
            // Behind the name, which may have spaces in it: state is the third field, nice the nineteenth.
            let nice = stat.rsplit_once(')').unwrap().1.split_whitespace().nth(16).unwrap();
            assert_eq!(nice, expected.to_string(), "{flags:?}: {stat}");
        }
    }
}

#[test]
fn what_is_wrong_is_told_before_anything_runs() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap().to_string();
    let (good, none) = (models("adult-candidate"), models("nobody"));
    let (good, none, several) = (good.to_str().unwrap(), none.to_str().unwrap(), models(""));
    for (flags, code, words) in [
        (
            &["--gate", "1.5", "--alpha", "0", "--primary", "localhost:1", "--drain-delay", "soon"][..],
            78,
            &["candidate: ", "gate: ", "alpha: ", "primary: ", "drain-delay: "][..],
        ),
        (&["--candidate", good, "--candidate-version", "3"], 78, &["candidate-version: "]),
        (
            &["--candidates", "a=x,a=y,b", "--intake", "pipe", "--primary-task", "guess", "--primary-decision", "mean"],
            78,
            &["two are called \"a\"", "got \"b\"", "intake: ", "primary-task: ", "primary-decision: "],
        ),
        (&["--candidate", good, "--candidates", "a=x", "--primary-tap", "off"], 78, &["not both", "primary-tap: "]),
        (&["--candidate", none], 65, &["nobody"]),
        (&["--candidate", several.to_str().unwrap()], 65, &["several models"]),
        (&["--candidate", good, "--grpc-listen", &taken], 69, &[&taken, "in use"]),
        (&["--candidate", good, "--admin-listen", &taken], 69, &[&taken, "in use"]),
        (&["--candidate", good, "--check-config"], 0, &["valid"]),
        (&["--candidat", good], 64, &["--candidat"]),
    ] {
        let ended = start(flags).wait(SOON);
        assert_eq!((ended.code, ended.was_ready), (Some(code), false), "{flags:?}: {}", ended.stderr);
        for word in words {
            assert!(ended.stderr.contains(word), "{flags:?}: no {word:?} in {}", ended.stderr);
        }
    }
}
