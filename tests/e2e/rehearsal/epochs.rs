//! Counts of different models never pool.

use support::{Primary, Rehearsal, SOON, adult, examples, load, package::Package, within};
use understudy::v1::{PredictRequest, Report, StartEpochRequest, WatchReportRequest};

use super::agreement;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_epoch_begun_by_hand_counts_anew_and_says_so() {
    let primary = Primary::start().await;
    let rehearsal = Rehearsal::beside(&primary, |_| {}).await;
    let request = WatchReportRequest { interval_millis: 100, ..WatchReportRequest::default() };
    let mut reports = rehearsal.shadow().watch_report(request).await.unwrap().into_inner();
    assert_eq!(agreement(&reports.message().await.unwrap().unwrap()), (0, 0));
    load::once(&primary, 0..100, 100).await;
    assert_eq!(rehearsal.settled(1).await.epoch.unwrap().number, 1);
    let request = StartEpochRequest { reason: "a test\u{1b}[31m".into(), ..StartEpochRequest::default() };
    let epoch = rehearsal.shadow().start_epoch(request).await.unwrap().into_inner().epoch.unwrap();
    assert_eq!((epoch.number, epoch.manual_restarts), (2, 1));
    load::once(&primary, 0..50, 50).await;
    let report = rehearsal.settled(1).await;
    assert_eq!(agreement(&report), (50, adult::test_set().agreed("adult_candidate", 0..50)));
    // Whoever watches sees both epochs, and nothing when nothing changes.
    let mut seen = Vec::new();
    while seen.last() != Some(&(2, 50)) {
        let report = within(SOON, reports.message()).await.unwrap().unwrap();
        seen.push((report.epoch.as_ref().unwrap().number, agreement(&report).0));
    }
    assert!(seen.is_sorted() && seen.len() < 20, "{seen:?}");
}

/// Epoch, version of the primary, version of the candidate.
pub(super) fn pair(report: &Report) -> (u64, String, String) {
    let epoch = report.epoch.clone().unwrap_or_default();
    (epoch.number, epoch.primary.unwrap_or_default().version, epoch.candidate.unwrap_or_default().version)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_version_of_the_primary_is_another_epoch() {
    let first = Primary::start().await;
    let (grpc, url) = (first.grpc().to_string(), first.url());
    let rehearsal = Rehearsal::beside(&first, |settings| settings.primary = Some(url)).await;
    load::once(&first, 0..100, 100).await;
    assert_eq!(pair(&rehearsal.settled(1).await), (1, "1".into(), "1".into()));
    first.drain().await;
    let package = Package::version(&examples().join("models/adult/1"), "adult", "2");
    let second = Primary::with(|settings| {
        settings.grpc_listen = Some(grpc);
        settings.models = Some(vec![package.repository().to_owned()]);
    })
    .await;
    let report = rehearsal.report_when(|report| pair(report).0 == 2).await;
    assert_eq!((pair(&report), agreement(&report)), ((2, "2".into(), "1".into()), (0, 0)));
    load::once(&second, 0..50, 50).await;
    assert_eq!(agreement(&rehearsal.settled(1).await).0, 50);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_several_models_one_is_followed() {
    let other = Package::copy(&examples().join("models/adult/1"), "other");
    let models = vec![examples().join("models/adult"), other.repository().to_owned()];
    let primary = Primary::with(|settings| settings.models = Some(models)).await;
    let url = primary.unix_url();
    let unsure = Rehearsal::alone(|settings| settings.primary = Some(url)).await;
    let says =
        |report: &Report| report.intake.as_ref().is_some_and(|intake| intake.last_error.contains("primary-model"));
    let report = unsure.report_when(says).await;
    assert!(!report.intake.unwrap().connected);
    let sure = Rehearsal::beside(&primary, |settings| settings.primary_model = Some("other".into())).await;
    for model in ["adult", "other", "adult"] {
        let request = PredictRequest { model: model.into(), ..adult::test_set().predict(0..10) };
        primary.prediction().predict(request).await.unwrap();
    }
    let report = sure.settled(1).await;
    assert_eq!(agreement(&report).0, 10);
    assert_eq!(report.epoch.unwrap().primary.unwrap().name, "other");
}
