//! Whatever happens to the process that observes, no client notices, and nothing goes uncounted.

use std::time::{Duration, Instant};

use support::{Primary, Rehearsal, SOON, load::Load, rehearsal::ended, until, within};
use understudy::v1::{Conservation, Report};

/// P3: "after restart mirroring resumes within 5 s".
const RESUMES: Duration = Duration::from_secs(5);

/// P4: exactly, at any scrape: every `report()` of the harness asserts it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_exchange_is_accounted_for_at_every_moment() {
    // Queues so short that exchanges are lost at every place where they can be.
    let primary = Primary::with(|settings| settings.tap_queue = Some(2)).await;
    let rehearsal = Rehearsal::beside(&primary, |settings| {
        settings.queue = Some(1);
        settings.concurrency = Some(1);
    })
    .await;
    let load = Load::start(&primary, 8);
    let watching = async {
        let (mut polls, mut last) = (0, Conservation::default());
        // Until the load has seen everything that can become of an exchange here.
        while polls < 60 || last.compared < 100 || !last.dropped.contains_key("queue_full") {
            let counts = rehearsal.report().await.exchanges.unwrap();
            assert!(counts.offered >= last.offered, "{counts:?} after {last:?}");
            (polls, last) = (polls + 1, counts);
        }
    };
    within(3 * SOON, watching).await;
    let outcome = load.stop().await;
    assert!(outcome.failures.is_empty(), "{:?}", outcome.failures);
    let report = rehearsal.settled(outcome.answered).await;
    let counts = report.exchanges.unwrap();
    assert_eq!(ended(&counts), outcome.answered);
    assert_eq!(report.rows.unwrap().offered, outcome.answered, "one row a call");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sidecar_that_ends_and_starts_again_costs_no_client_anything() {
    let primary = Primary::start().await;
    let load = Load::start(&primary, 4);
    for round in 0..3 {
        let begun = Instant::now();
        let rehearsal = Rehearsal::beside(&primary, |_| {}).await;
        rehearsal.report_when(|report| report.exchanges.as_ref().is_some_and(|it| it.compared >= 100)).await;
        assert!(begun.elapsed() < RESUMES, "round {round}: {:?}", begun.elapsed());
        if round == 1 {
            rehearsal.drain().await;
        }
    }
    let outcome = load.stop().await;
    assert!(outcome.failures.is_empty(), "{:?}", outcome.failures);
    assert!(outcome.answered > 300, "{}", outcome.answered);
    let subscribers = async || primary.scrape().await.sum("understudy_tap_subscribers", &[]);
    until(RESUMES, "nobody is subscribed", async || subscribers().await == 0.0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_primary_that_starts_again_is_followed_again() {
    let first = Primary::start().await;
    let (grpc, address) = (first.grpc().to_string(), first.url());
    let rehearsal = Rehearsal::beside(&first, |settings| settings.primary = Some(address)).await;
    let load = Load::start(&first, 1);
    let compared = |least: u64| move |report: &Report| report.exchanges.as_ref().is_some_and(|it| it.compared >= least);
    rehearsal.report_when(compared(100)).await;
    load.stop().await;
    let before = rehearsal.compared().await;
    first.drain().await;
    rehearsal.report_when(|report| report.intake.as_ref().is_some_and(|intake| !intake.connected)).await;
    let second = Primary::with(|settings| settings.grpc_listen = Some(grpc)).await;
    let begun = Instant::now();
    let load = Load::start(&second, 1);
    let report = rehearsal.report_when(compared(before + 100)).await;
    assert!(begun.elapsed() < RESUMES, "{:?}", begun.elapsed());
    assert_eq!(report.epoch.unwrap().number, 1, "the same versions are the same epoch");
    assert_eq!(report.intake.unwrap().subscriptions, 2);
    assert!(load.stop().await.failures.is_empty());
}
