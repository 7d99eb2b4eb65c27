//! The end of the process.

use std::time::{Duration, Instant};

use crate::{adult, client, package::Package, process::SOON, serving, start, young};

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_signal_drains_and_ends_with_success() {
    for signal in ["TERM", "INT"] {
        let process = serving(&["--drain-delay", "700ms"]);
        let socket = process.directory().join(format!("understudy-{}.sock", process.grpc().port()));
        let mut client = client(&process);
        client.predict(young()).await.unwrap();
        assert!(socket.exists());
        process.signal(signal);
        let signalled = Instant::now();
        let mut answered = 0;
        // P41: until it stops accepting, no client sees an error.
        while signalled.elapsed() < Duration::from_millis(500) {
            client.predict(young()).await.unwrap_or_else(|status| panic!("after {answered} answers: {status:?}"));
            answered += 1;
        }
        assert!(answered > 10, "{answered} answers in 0.5 s");
        let ended = process.wait(SOON);
        let took = signalled.elapsed();
        assert_eq!(ended.code, Some(0), "SIG{signal}: {}", ended.stderr);
        assert!((700..3_000).contains(&took.as_millis()), "SIG{signal}: {took:?}");
        assert!(!socket.exists(), "the socket's file is left behind");
        assert!(ended.stderr.contains("drained"), "{}", ended.stderr);
    }
}

/// Loading is given up, not waited for.
#[test]
fn a_signal_ends_a_server_that_loads() {
    let packages: Vec<Package> = (0..40).map(|n| Package::copy(&adult().join("1"), &format!("adult{n}"))).collect();
    let models: Vec<&str> = packages.iter().map(|package| package.repository().to_str().unwrap()).collect();
    for signals in [1, 2] {
        let process = start(&["--models", &models.join(",")], &[]);
        process.wait_for_log("model loaded");
        let signalled = Instant::now();
        let mut signalled_at_all = false;
        for _ in 0..signals {
            // The second may find nobody.
            signalled_at_all |= process.try_signal("TERM");
        }
        let ended = process.wait(SOON);
        assert!(signalled_at_all && signalled.elapsed() < Duration::from_secs(1), "{:?}", signalled.elapsed());
        assert!(matches!(ended.code, Some(0 | 130)), "{:?} {}", ended.code, ended.stderr);
        assert!(!ended.was_ready && ended.stderr.matches("model loaded").count() < 40, "{}", ended.stderr);
    }
}

#[test]
fn a_second_signal_ends_at_once() {
    for (first, second) in [("TERM", "TERM"), ("INT", "TERM")] {
        let process = serving(&["--drain-delay", "60s"]);
        process.grpc();
        process.signal(first);
        process.wait_for_log("shutting down");
        process.signal(second);
        let signalled = Instant::now();
        assert_eq!(process.wait(SOON).code, Some(130), "{first}, {second}");
        assert!(signalled.elapsed() < Duration::from_secs(1), "{:?}", signalled.elapsed());
    }
}
