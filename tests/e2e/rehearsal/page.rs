//! What the report page lives on, beside the report that gRPC tells. The page itself: `tests/page`.

use super::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_page_says_what_the_report_says() {
    let primary = Primary::start().await;
    let rehearsal = Rehearsal::beside(&primary, |_| {}).await;
    load::once(&primary, 0..300, 1).await;
    let report = rehearsal.settled(300).await;

    let mut told = rehearsal.page("/report.json").await;
    let mut expected = shadow_sidecar::report_json::report(&report);
    // A report is of its moment, and so is the reason that says how long there was traffic, and the pace, which takes a second.
    for json in [&mut told, &mut expected] {
        json["generated_unix_nanos"] = 0.into();
        json["reasons"] = json["reasons"].as_array().map(Vec::len).into();
        (json["per_second"], json["seconds_needed"]) = (0.into(), 0.into());
    }
    assert_eq!(told, expected);

    let distributions = rehearsal.page("/distributions.json").await;
    for (name, json) in distributions["candidates"][0].as_object().expect("distributions") {
        let bins = json.as_array().expect("bins");
        assert_eq!(bins.iter().filter_map(|bin| bin[2].as_u64()).sum::<u64>(), 300, "{name}: {json}");
    }
    let (agreed, delta) = (&report.agreement.unwrap(), &report.score_delta.unwrap());
    let bins = distributions["candidates"][0]["score_delta"].as_array().unwrap();
    let widest = bins.iter().flat_map(|bin| [&bin[0], &bin[1]]).filter_map(|edge| edge.as_f64().map(f64::abs));
    assert!(widest.fold(0.0, f64::max) >= delta.max_absolute, "{delta:?}: {bins:?}");

    let history = eventually(SOON, async || {
        let history = rehearsal.page("/history.json").await["candidates"][0].clone();
        let last = history["points"].as_array().and_then(|points| points.last()).cloned().unwrap_or_default();
        anyhow::ensure!(last["compared"] == 300 && last["agreed"] == agreed.agreed, "{history}");
        Ok(history)
    })
    .await;
    assert_eq!((&history["epoch"], &history["interval_seconds"]), (&1.into(), &1.0.into()));

    // Counts of different epochs never pool, and neither do their pictures.
    rehearsal
        .shadow()
        .start_epoch(understudy::v1::StartEpochRequest { reason: "test".into(), ..Default::default() })
        .await
        .unwrap();
    eventually(SOON, async || {
        let history = rehearsal.page("/history.json").await["candidates"][0].clone();
        anyhow::ensure!(history["epoch"] == 2, "{history}");
        let points = history["points"].as_array().unwrap();
        anyhow::ensure!(!points.is_empty() && points.iter().all(|point| point["compared"] == 0), "{history}");
        Ok(())
    })
    .await;
}
