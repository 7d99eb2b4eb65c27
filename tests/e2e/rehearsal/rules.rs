//! The rules for Prometheus in `deploy/` speak of what a real sidecar exports, and of nothing else.

use std::collections::{BTreeMap, BTreeSet};

use support::{Primary, Rehearsal, SOON, adult, eventually, examples, load};

/// Labels that Prometheus adds.
const ADDED: [&str; 3] = ["namespace", "job", "instance"];

/// Words of `text` that begin with `prefix`.
fn words<'a>(text: &'a str, prefix: &'a str) -> impl Iterator<Item = &'a str> {
    let word = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
    text.split(move |c| !word(c)).filter(move |it| it.starts_with(prefix))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_rules_name_what_a_sidecar_exports() {
    let rules = std::fs::read_to_string(examples().join("../deploy/prometheus-rules.yaml")).unwrap();
    let lines = rules.lines().filter(|line| !line.trim_start().starts_with('#'));
    let rules: String = lines.flat_map(|line| [line, "\n"]).collect();

    // A sidecar that has seen everything there is: comparisons, refusals, and a candidate that has gone.
    let (primary, candidate) = (Primary::start().await, Primary::start().await);
    let url = candidate.url();
    let rehearsal = Rehearsal::beside(&primary, |settings| settings.candidate = Some(url)).await;
    load::once(&primary, 0..300, 3).await;
    primary.prediction().predict(adult::refused()).await.unwrap_err();
    rehearsal.settled(101).await;
    candidate.drain().await;
    load::once(&primary, 300..330, 3).await;
    rehearsal.settled(111).await;
    let exported = eventually(SOON, async || {
        let scrape = rehearsal.scrape().await;
        let failed = scrape.sum("shadow_candidate_errors_total", &[]);
        anyhow::ensure!(failed == 10.0, "{failed} of 10 failures are published");
        let mut exported = BTreeMap::<String, BTreeSet<String>>::new();
        let mut reasons = BTreeSet::new();
        for sample in scrape.samples() {
            reasons.extend(sample.labels.get("reason").cloned());
            exported.entry(sample.name.clone()).or_default().extend(sample.labels.keys().cloned());
        }
        Ok((exported, reasons))
    });
    let (exported, reasons) = exported.await;

    let used: BTreeSet<&str> = words(&rules, "shadow_").collect();
    assert!(used.len() > 15, "{used:?}");
    for name in &used {
        assert!(exported.contains_key(*name), "no {name} among {:?}", exported.keys());
    }
    // Whatever is added up by labels has them: of `OP by (LABELS) (... METRIC ...)`, up to the next `by`.
    let mut checked = 0;
    for part in rules.split(" by (").skip(1) {
        let (labels, rest) = part.split_once(')').unwrap();
        let rest = rest.split(" by (").next().unwrap_or_default();
        let rest = rest.split("- record:").next().unwrap_or_default();
        let Some(name) = words(rest, "shadow_").next() else { continue };
        for label in labels.split(',').map(str::trim).filter(|label| !ADDED.contains(label)) {
            assert!(exported[name].contains(label), "{name} has no label {label} but {:?}", exported[name]);
            checked += 1;
        }
    }
    assert!(checked > 100, "{checked}");
    for list in rules.split("reason=~\"").skip(1) {
        for reason in list.split('"').next().unwrap_or_default().split('|') {
            assert!(reasons.contains(reason), "no reason {reason} among {reasons:?}");
        }
    }
    // What is recorded under a name is what the other rules ask for.
    let recorded: BTreeSet<&str> = rules.lines().filter_map(|line| line.trim().strip_prefix("- record: ")).collect();
    for name in words(&rules, "understudy:") {
        assert!(recorded.contains(name), "no rule records {name}");
    }
}

/// Pooled sums of the rules are those of the pooled report, to a millionth for each replica.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_rules_add_up_is_what_the_report_holds() {
    let primary = Primary::start().await;
    let rehearsal = Rehearsal::beside(&primary, |settings| {
        settings.gate = Some(0.97);
        settings.abort = Some(0.95);
        settings.alpha = Some(0.01);
    })
    .await;
    load::once(&primary, 0..600, 3).await;
    let agreement = rehearsal.settled(200).await.agreement.unwrap();
    eventually(SOON, async || {
        let scrape = rehearsal.scrape().await;
        let of = |name: &str| scrape.sum(name, &[("epoch", "1"), ("candidate", "adult-candidate")]);
        anyhow::ensure!(of("shadow_observations_total") == 200.0, "not published yet");
        let below = agreement.shares - of("shadow_shares_millionths_total") / 1e6;
        assert!((0.0..1e-6).contains(&below), "{below}: rounded down");
        assert!(of("shadow_variance_millionths_total") > 0.0);
        let proven = ["shadow_agreement_gate", "shadow_agreement_abort", "shadow_agreement_alpha"].map(of);
        assert_eq!(proven, [0.97, 0.95, 0.01]);
        Ok(())
    })
    .await;
}
