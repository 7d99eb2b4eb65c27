//! Counts survive the process, however it ends.

use std::path::Path;

use shadow_sidecar::state::StateFile;

use super::*;

/// The file, once it holds what `report` says.
async fn saved(path: &Path, report: &Report) {
    let started = Instant::now();
    loop {
        let saved = StateFile::new(path).read().unwrap();
        if saved.first().is_some_and(|saved| {
            let counts = saved.tally.exchanges();
            (counts.offered(), counts.in_flight()) == (offered(report), 0)
        }) {
            return;
        }
        assert!(started.elapsed() < SOON, "{saved:#?}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

fn offered(report: &Report) -> u64 {
    report.exchanges.as_ref().map_or(0, |counts| counts.offered)
}

fn idle(report: &Report) -> bool {
    report.exchanges.as_ref().is_some_and(|counts| counts.offered > 0 && counts.in_flight == 0)
}

/// What must be the same before and after: all but the intake, the clock, and what follows from it.
fn lasting(report: &Report) -> impl PartialEq + std::fmt::Debug {
    let Report { epoch, exchanges, rows, agreement, flips, score_delta, primary_latency, candidate_latency, .. } =
        report.clone();
    (epoch, exchanges, rows, agreement, flips, score_delta, primary_latency, candidate_latency)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn counts_survive_being_killed() {
    let primary = Primary::start().await;
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("state");
    let flags = ["--state-file", path.to_str().unwrap(), "--state-interval", "50ms"];
    let mut before: Option<Report> = None;
    for round in 0..3 {
        let sidecar = primary.sidecar(&flags);
        let connected =
            |report: &Report| report.intake.as_ref().is_some_and(|it| it.connected) && report.epoch.is_some();
        let report = report_when(&sidecar, |report| connected(report) && report.exchanges.is_some()).await;
        if let Some(before) = &before {
            assert_eq!(format!("{:?}", lasting(&report)), format!("{:?}", lasting(before)), "round {round}");
        }
        let load = primary.load();
        load.wait(100).await;
        let all = offered(&report) + load.stop().await;
        let report = report_when(&sidecar, |report| offered(report) == all && idle(report)).await;
        saved(&path, &report).await;
        sidecar.signal("KILL");
        assert_eq!(sidecar.wait(SOON).code, None, "a signal has ended it");
        before = Some(report);
    }
    let before = before.unwrap();

    // Killed while it counts: nothing is torn, and the law holds.
    let sidecar = primary.sidecar(&flags);
    let load = primary.load();
    report_when(&sidecar, |report| offered(report) >= offered(&before) + 200).await;
    sidecar.signal("KILL");
    sidecar.wait(SOON);
    load.stop().await;
    let sidecar = primary.sidecar(&flags);
    let report = report_when(&sidecar, idle).await;
    let counts = report.exchanges.clone().unwrap();
    assert_eq!(
        counts.offered,
        counts.compared + counts.dropped.values().sum::<u64>() + counts.failed.values().sum::<u64>()
    );
    assert!(counts.offered >= offered(&before), "{counts:?}");
    assert_eq!(report.epoch.unwrap().number, 1);

    // Drained: everything is kept.
    sidecar.signal("TERM");
    assert_eq!(sidecar.wait(SOON).code, Some(0));
    let sidecar = primary.sidecar(&flags);
    let report = report_when(&sidecar, |report| report.exchanges.is_some()).await;
    assert_eq!((report.epoch.as_ref().unwrap().number, offered(&report)), (1, counts.offered));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_pair_begins_another_epoch_and_a_torn_file_is_refused() {
    let primary = Primary::start().await;
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("state");
    let flags = ["--state-file", path.to_str().unwrap(), "--state-interval", "50ms"];
    let sidecar = primary.sidecar(&flags);
    report_when(&sidecar, |report| report.exchanges.is_some()).await;
    let load = primary.load();
    load.wait(50).await;
    let all = load.stop().await;
    let report = report_when(&sidecar, |report| offered(report) == all && idle(report)).await;
    saved(&path, &report).await;
    sidecar.signal("TERM");
    assert_eq!(sidecar.wait(SOON).code, Some(0));

    // As if another version had answered then.
    let mut changed = StateFile::new(&path).read().unwrap();
    changed[0].subject.primary.1 = "0".into();
    StateFile::new(&path).write(|| changed).unwrap();
    let sidecar = primary.sidecar(&flags);
    let report = report_when(&sidecar, |report| report.exchanges.is_some()).await;
    assert_eq!((report.epoch.as_ref().unwrap().number, offered(&report)), (2, 0));
    sidecar.signal("TERM");
    assert_eq!(sidecar.wait(SOON).code, Some(0));

    // Nor may a gate be chosen after looking. Whoever goes back to the first one goes back to its counts, in whatever process.
    let mut gates: Vec<&str> = flags.to_vec();
    gates.extend(["--gate", "0.5"]);
    let sidecar = primary.sidecar(&gates);
    let report = report_when(&sidecar, |report| report.exchanges.is_some()).await;
    assert_eq!((report.epoch.as_ref().unwrap().number, offered(&report)), (3, 0));
    sidecar.signal("TERM");
    assert_eq!(sidecar.wait(SOON).code, Some(0));
    let mut older = StateFile::new(&path).read().unwrap();
    let numbers: Vec<u64> = older.iter().map(|saved| saved.number).collect();
    assert_eq!(numbers, [3, 2, 1], "the newest first");
    // As it was written before gates were a part of what an epoch is about.
    older.remove(0);
    older[0].subject.proves = None;
    StateFile::new(&path).write(|| older).unwrap();
    let sidecar = primary.sidecar(&flags);
    let report = report_when(&sidecar, |report| report.exchanges.is_some()).await;
    assert_eq!(report.epoch.as_ref().unwrap().number, 2);
    sidecar.signal("TERM");
    assert_eq!(sidecar.wait(SOON).code, Some(0));

    let whole = std::fs::read(&path).unwrap();
    std::fs::write(&path, &whole[..whole.len() / 2]).unwrap();
    let sidecar = primary.sidecar(&flags);
    let report = report_when(&sidecar, |report| report.exchanges.is_some()).await;
    assert_eq!(report.epoch.unwrap().number, 1);
    sidecar.wait_for_log("what was counted before is not used");
    assert!(path.with_extension("refused").exists());
}
