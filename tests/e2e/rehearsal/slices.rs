//! What the report says of segments of rows, against what LightGBM's own answers say.

use support::{
    Primary, Rehearsal, adult, load,
    rehearsal::package,
    tensors::{RAW, TYPED},
};
use understudy::v1::{Report, Verdict};

const ROWS: usize = 3_000;

/// Which of the slices below a row is in, by its own cells.
fn slices_of(row: &[String], column: impl Fn(&str) -> usize) -> [String; 2] {
    let age: f64 = row[column("age")].parse().unwrap();
    let by_age = match age {
        age if age < 30.0 => "age<30",
        age if age < 50.0 => "30<=age<50",
        _ => "age>=50",
    };
    [by_age.to_owned(), format!("marital_status={}", row[column("marital_status")])]
}

async fn rehearse(candidate: &str, column: &str, batch: usize) -> Report {
    let table = adult::test_set();
    let primary = Primary::start().await;
    let rehearsal = Rehearsal::beside(&primary, |settings| {
        settings.candidate = Some(package(candidate));
        settings.slices = Some(vec!["age:30,50".into(), "marital_status".into()]);
    })
    .await;
    load::once(&primary, 0..ROWS, batch).await;
    let report = rehearsal.settled((ROWS / batch) as u64).await;
    let index = |name: &str| table.features.iter().position(|feature| feature.name == name).unwrap();
    for slice in &report.slices {
        let mut expected = (0, 0);
        for (row, cells) in table.rows.iter().enumerate().take(ROWS) {
            if slices_of(cells, index).contains(&slice.name) {
                expected.0 += 1;
                expected.1 += table.agreed(column, row..row + 1);
            }
        }
        assert_eq!((slice.compared, slice.agreed), expected, "{}", slice.name);
        assert!(slice.observations <= slice.compared && slice.shares <= slice.observations as f64);
    }
    // 3 of age and what is missing; 7 of marital status, what is missing, and others.
    assert_eq!(report.slices.len(), 4 + 9, "{:?}", report.slices);
    assert_eq!(report.slices.iter().map(|slice| slice.compared).sum::<u64>(), 2 * ROWS as u64);
    assert!(report.slices.is_sorted_by(|a, b| a.upper <= b.upper), "{:?}", report.slices);
    report
}

/// The report names the slices on which the bad candidate differs most, and none of the good one's.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_slices_on_which_a_candidate_differs_are_named() {
    let bad = rehearse("adult-candidate-bad", "adult_candidate_bad", 1).await;
    assert_eq!(bad.verdict(), Verdict::Reject);
    assert!(bad.slices[0].discovered && bad.slices[0].log_e_below > 3.0, "{:?}", bad.slices);
    let good = rehearse("adult-candidate", "adult_candidate", 10).await;
    assert!(good.slices.iter().all(|slice| !slice.discovered), "{:?}", good.slices);
    assert!(good.slices.iter().any(|slice| slice.observations < slice.compared), "one observation an exchange");
}

/// Rows that come as tensors are in the same slices.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tensors_are_sliced_as_rows_are() {
    let primary = Primary::start().await;
    let rehearsal = Rehearsal::beside(&primary, |settings| {
        settings.slices = Some(vec!["age:30,50".into(), "marital_status".into()]);
    })
    .await;
    let count = |report: &Report| -> Vec<(String, u64, u64)> {
        let mut all: Vec<_> = report.slices.iter().map(|it| (it.name.clone(), it.compared, it.agreed)).collect();
        all.sort();
        all
    };
    load::once(&primary, 0..100, 100).await;
    let rows = count(&rehearsal.settled(1).await);
    assert_eq!(rows.iter().map(|slice| slice.1).sum::<u64>(), 200);
    let table = adult::test_set();
    let requests = [table.columns(0..100, RAW), table.columns(0..100, TYPED), table.matrix(0..100, true)];
    for (sent, request) in (1..).zip(requests) {
        primary.inference().model_infer(request).await.unwrap();
        let all = count(&rehearsal.settled(sent + 1).await);
        for (once, all) in rows.iter().zip(&all) {
            assert_eq!(((sent + 1) * once.1, (sent + 1) * once.2), (all.1, all.2), "{sent}: {}", once.0);
        }
    }
}
