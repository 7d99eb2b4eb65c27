//! The way to the OpenTelemetry collector.

use std::net::SocketAddr;

use anyhow::Context as _;
use support::{Primary, Rehearsal, SOON, adult, collector::Collector, eventually, load, scrape::Sample, until, within};
use tokio::net::TcpListener;
use understudy::v1::StartEpochRequest;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_sums_that_arrive_are_what_was_sent() {
    let (collector, primary) = (Collector::start().await, Primary::start().await);
    let _rehearsal = Rehearsal::beside(&primary, |settings| {
        settings.otlp_endpoint = Some(collector.url());
        settings.otlp_interval = Some("100ms".into());
    })
    .await;
    load::once(&primary, 0..1_500, 1).await;
    load::once(&primary, 1_500..1_600, 100).await;
    primary.prediction().predict(adult::refused()).await.expect_err("an age that is no number");
    let pair = [("model", "adult"), ("candidate", "adult-candidate"), ("primary_version", "1"), ("epoch", "1")];
    let agreed = adult::test_set().agreed("adult_candidate", 0..1_600);
    eventually(SOON, async || {
        let got = ["shadow.exchanges", "shadow.compared", "shadow.agreed"].map(|name| collector.sum(name, &pair));
        anyhow::ensure!(got == [1_502, 1_600, agreed], "{got:?}");
        Ok(())
    })
    .await;
    let refused = [pair.as_slice(), &[("reason", "primary_error")]].concat();
    assert_eq!(collector.sum("shadow.unmatched", &refused), 1);
    assert_eq!(collector.sum("shadow.unmatched", &pair), 1, "no other losses");
    assert_eq!(collector.sum("shadow.candidate.errors", &pair), 0);
    let flipped = [pair.as_slice(), &[("primary_class", "<=50K"), ("candidate_class", ">50K")]].concat();
    let back = [pair.as_slice(), &[("primary_class", ">50K"), ("candidate_class", "<=50K")]].concat();
    let flips = collector.sum("shadow.flips", &flipped) + collector.sum("shadow.flips", &back);
    assert_eq!((collector.sum("shadow.flips", &pair), flips), (1_600, 1_600 - agreed));
    assert!(collector.sums("shadow.compared", &pair).is_sorted(), "cumulative");
    for name in ["shadow.agreement.lower", "shadow.agreement.upper", "shadow.score.delta", "shadow.latency"] {
        assert!(collector.names().contains(&name.to_owned()), "no {name} in {:?}", collector.names());
    }
    let resource = collector.resource();
    assert_eq!(resource["service.name"], "shadow-sidecar");
    assert!(resource["service.instance.id"].len() >= 16, "replicas must be told apart: {resource:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_last_figures_are_sent_before_the_end() {
    let (collector, primary) = (Collector::start().await, Primary::start().await);
    let rehearsal = Rehearsal::beside(&primary, |settings| {
        settings.otlp_endpoint = Some(collector.url());
        settings.otlp_interval = Some("1h".into());
    })
    .await;
    load::once(&primary, 0..100, 100).await;
    rehearsal.settled(1).await;
    assert_eq!(collector.exports(), 0);
    let seconds = within(SOON, rehearsal.drain()).await;
    assert!(seconds < 3.0, "{seconds} s");
    assert_eq!((collector.exports(), collector.sum("shadow.compared", &[])), (1, 100));
}

/// P7: nobody waits for a collector that refuses or does not answer.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_collector_that_is_down_costs_nothing() {
    let primary = Primary::start().await;
    let refusing = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    // Connections are taken by the kernel, and nobody ever looks at them.
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let beside = async |address: SocketAddr| {
        Rehearsal::beside(&primary, |settings| {
            settings.otlp_endpoint = Some(format!("http://{address}"));
            settings.otlp_interval = Some("100ms".into());
        })
        .await
    };
    let both = [beside(refusing).await, beside(silent.local_addr().unwrap()).await];
    let outcome = load::once(&primary, 0..200, 1).await;
    assert_eq!((outcome.answered, outcome.failures.len()), (200, 0));
    for rehearsal in &both {
        assert_eq!(rehearsal.settled(200).await.exchanges.unwrap().compared, 200);
    }
    let failed = async || both[0].scrape().await.sum("shadow_otlp_exports_total", &[("outcome", "failed")]);
    until(SOON, "an export has failed", async || failed().await > 0.0).await;
    let [refusing, silent] = both;
    let (refused, unanswered) = within(SOON, async { tokio::join!(refusing.drain(), silent.drain()) }).await;
    assert!(refused < 6.0 && unanswered < 6.0, "the end took {refused} s and {unanswered} s");
}

/// By which sums of replicas are added up, whatever the numbers of their epochs.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replicas_are_told_apart_by_what_they_must_prove() {
    let (collector, primary) = (Collector::start().await, Primary::start().await);
    let beside = async |gate: f64| {
        Rehearsal::beside(&primary, |settings| {
            settings.gate = Some(gate);
            settings.otlp_endpoint = Some(collector.url());
            settings.otlp_interval = Some("100ms".into());
        })
        .await
    };
    let (one, other, stricter) = (beside(0.98).await, beside(0.98).await, beside(0.985).await);
    let labels = async |rehearsal: &Rehearsal, epoch: &'static str| {
        eventually(SOON, async || {
            let scrape = rehearsal.scrape().await;
            let own = |sample: &&Sample| sample.name == "shadow_observations_total" && sample.labels["epoch"] == epoch;
            let labels = &scrape.samples().iter().find(own).context("not published yet")?.labels;
            Ok((labels["subject"].clone(), labels["restarts"].clone()))
        })
        .await
    };
    let first = labels(&one, "1").await;
    assert_eq!((first.0.len(), first.1.as_str()), (12, "0"), "{first:?}");
    assert_eq!(first, labels(&other, "1").await);
    assert_ne!(first.0, labels(&stricter, "1").await.0);
    let request = StartEpochRequest { reason: "a test".into(), ..StartEpochRequest::default() };
    one.shadow().start_epoch(request).await.unwrap();
    assert_eq!(labels(&one, "2").await, (first.0.clone(), "1".to_owned()));
    until(SOON, "the collector is told, too", async || {
        let of = |restarts: &'static str, epoch: &'static str| {
            collector.sums("shadow.exchanges", &[("subject", &first.0), ("restarts", restarts), ("epoch", epoch)])
        };
        !of("0", "1").is_empty() && !of("1", "2").is_empty()
    })
    .await;
}
