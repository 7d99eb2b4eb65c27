//! A request that is part of a rehearsal is not rehearsed again: from A to B and back stops at one hop.

use support::{
    Primary, Rehearsal, SOON, adult,
    grpc::{Call, Connection, MODEL_INFER, PREDICT},
    load,
    tensors::RAW,
    until,
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_that_rehearse_on_each_other_stop_at_one_hop() {
    let (a, b) = (Primary::start().await, Primary::start().await);
    let (to_a, to_b) = (a.url(), b.url());
    let beside_a = Rehearsal::beside(&a, |settings| settings.candidate = Some(to_b)).await;
    let beside_b = Rehearsal::beside(&b, |settings| settings.candidate = Some(to_a)).await;
    assert_eq!(load::once(&a, 0..100, 1).await.answered, 100);
    let report = beside_a.settled(100).await;
    assert_eq!(report.exchanges.unwrap().compared, 100);
    let report = beside_b.report_when(|report| report.intake.as_ref().is_some_and(|it| it.looped == 100)).await;
    assert_eq!(report.exchanges.unwrap().offered, 0);
    let answers = async |primary: &Primary| primary.scrape().await.sum("understudy_requests_total", &[]);
    until(SOON, "each was asked once for each request", async || {
        answers(&a).await >= 100.0 && answers(&b).await >= 100.0
    })
    .await;
    assert_eq!(report.intake.unwrap().looped, 100, "and no more");
    assert_eq!(beside_a.report().await.intake.unwrap().looped, 0);
}

/// The same through two proxies: the candidate of each is the other one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_proxies_in_front_of_each_other_stop_at_one_hop() {
    let primary = Primary::start().await;
    let proxy = async |candidate: Option<String>| {
        let url = primary.url();
        let rehearsal = Rehearsal::alone(|settings| {
            settings.primary = Some(url);
            settings.intake = Some("proxy".into());
            settings.candidate = candidate.or(settings.candidate.take());
        })
        .await;
        rehearsal.report_when(|report| report.intake.as_ref().is_some_and(|it| it.connected)).await;
        rehearsal
    };
    let second = proxy(None).await;
    let first = proxy(Some(format!("http://{}", second.grpc()))).await;
    let connection = Connection::open(first.grpc()).await;
    let table = adult::test_set();
    for call in [Call::new(PREDICT, &table.predict(0..5)), Call::new(MODEL_INFER, &table.columns(0..5, RAW))] {
        assert_eq!(connection.call(&call).await.status, Some(0));
    }
    assert_eq!(first.settled(2).await.exchanges.unwrap().compared, 2);
    let report = second.report_when(|report| report.intake.as_ref().is_some_and(|it| it.looped == 2)).await;
    assert_eq!(report.exchanges.unwrap_or_default().offered, 0);
}
