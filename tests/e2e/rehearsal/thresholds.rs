//! Models that decide elsewhere than at 0.5, and clients that ask for probabilities alone: the label that was not sent is the one
//! that the model would have sent.

use serde_json::json;
use shadow_sidecar::{recording::Reader, replay::replay, report};
use support::{
    Primary, Rehearsal, adult, examples,
    package::Package,
    tensors::{RAW, ask},
};
use understudy::v1::Verdict;

use super::agreement;

/// The example's model, which says ">50K" from 0.3 on.
fn early() -> Package {
    let package = Package::copy(&examples().join("models/adult/1"), "adult");
    package.edit_golden(|rows| {
        for row in rows {
            let high = row["nodes"]["lightgbm"][0].as_f64().unwrap() > 0.3;
            row["label"] = json!(adult::CLASSES[usize::from(high)]);
        }
    });
    package.list();
    package.edit("manifest.json", |manifest| manifest["decision_threshold"] = json!(0.3));
    package
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_package_agrees_with_itself_wherever_it_decides() {
    let (package, directory) = (early(), tempfile::tempdir().unwrap());
    let serve = || Primary::with(|settings| settings.models = Some(vec![package.repository().to_owned()]));
    let (primary, other) = (serve().await, serve().await);
    let between = adult::test_set().primary()[..500].iter().filter(|high| (0.3..=0.5).contains(*high)).count();
    assert!(between > 20, "{between} rows are decided otherwise than at 0.5");
    for (n, candidate) in [package.path().to_string_lossy().into_owned(), other.url()].into_iter().enumerate() {
        let recording = directory.path().join(n.to_string());
        let rehearsal = Rehearsal::beside(&primary, |settings| {
            settings.candidate = Some(candidate.clone());
            settings.record_dir = Some(recording.clone());
        })
        .await;
        for start in (0..500).step_by(5) {
            let mut request = adult::test_set().columns(start..start + 5, RAW);
            ask(&mut request, &["probabilities"]);
            primary.inference().model_infer(request).await.unwrap();
        }
        let report = rehearsal.settled(100).await;
        assert_eq!(agreement(&report), (500, 500), "{candidate}: {:#?}", report.flips);
        assert_ne!(report.verdict(), Verdict::Reject);
        rehearsal.drain().await;
        // A recording knows as much.
        let settings = shadow_sidecar::Settings {
            candidate: Some(package.path().to_string_lossy().into_owned()),
            ..shadow_sidecar::Settings::default()
        };
        let config = settings.validate().unwrap();
        let replayed = replay(&config, Reader::open(&recording).unwrap(), |_| {}).await.unwrap();
        assert_eq!(agreement(&report::report(replayed.named("").unwrap())), (500, 500), "{candidate}, replayed");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_threshold_is_another_model() {
    let package = early();
    let primary = Primary::start().await;
    let candidate = package.path().to_string_lossy().into_owned();
    let rehearsal = Rehearsal::beside(&primary, |settings| settings.candidate = Some(candidate)).await;
    let mut request = adult::test_set().columns(0..100, RAW);
    ask(&mut request, &["probabilities"]);
    primary.inference().model_infer(request).await.unwrap();
    let between = adult::test_set().primary()[..100].iter().filter(|high| **high > 0.3 && **high <= 0.5).count();
    assert_eq!(agreement(&rehearsal.settled(1).await), (100, 100 - between as u64));
}
