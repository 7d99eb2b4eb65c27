//! The way to the OpenTelemetry collector.

use std::net::SocketAddr;

use support::{Primary, Rehearsal, SOON, adult, collector::Collector, eventually, load, until, within};
use tokio::net::TcpListener;

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
