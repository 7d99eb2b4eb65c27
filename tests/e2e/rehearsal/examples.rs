//! Examples of what the models differ on, over a restart of the sidecar.

use std::{fs, path::Path};

use support::{
    Primary, Rehearsal, SOON, adult,
    grpc::{Call, PREDICT},
    rehearsal::package,
    until,
};
use understudy::v1::{ListDisagreementsResponse, PredictRequest, Row, Value, value};

use super::disagreements::listed;

/// A category that no schema lists.
const NAME: &str = "Jane Doe, 12 Elm Street";
const ROWS: usize = 400;

async fn beside(primary: &Primary, state: &Path, change: impl FnOnce(&mut shadow_sidecar::Settings)) -> Rehearsal {
    Rehearsal::beside(primary, |settings| {
        settings.candidate = Some(package("adult-candidate-bad"));
        settings.state_file = Some(state.into());
        settings.state_interval = Some("50ms".into());
        change(settings);
    })
    .await
}

/// Rows on which the models differ, each with a text that is nobody's business.
async fn ask(primary: &Primary) {
    let (connection, table) = (primary.connect().await, adult::test_set());
    for row in 0..ROWS {
        let mut request: PredictRequest = table.predict(row..row + 1);
        let Row { values } = &mut request.rows[0];
        values.insert("native_country".into(), Value { kind: Some(value::Kind::Text(NAME.into())) });
        assert_eq!(connection.call(&Call::new(PREDICT, &request)).await.status, Some(0));
    }
}

/// What must be the same before and after.
fn lasting(listed: &ListDisagreementsResponse) -> impl PartialEq + std::fmt::Debug {
    let epoch = listed.epoch.as_ref().map(|epoch| (epoch.number, epoch.started_unix_nanos));
    (listed.disagreements.clone(), listed.seen.clone(), epoch)
}

/// Of the page's chart, once there is one.
async fn first_point(rehearsal: &Rehearsal) -> serde_json::Value {
    let mut first = serde_json::Value::Null;
    until(SOON, "the chart has begun", async || {
        first = rehearsal.page("/history.json").await["candidates"][0]["points"][0].clone();
        !first.is_null()
    })
    .await;
    first
}

fn holds(path: &Path, text: &str) -> bool {
    let bytes = fs::read(path).unwrap();
    bytes.windows(text.len()).any(|window| window == text.as_bytes())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn examples_survive_a_restart_and_new_ones_follow() {
    let (primary, directory) = (Primary::start().await, tempfile::tempdir().unwrap());
    let state = directory.path().join("state");
    let rehearsal = beside(&primary, &state, |_| {}).await;
    ask(&primary).await;
    rehearsal.settled(ROWS as u64).await;
    let before = listed(&rehearsal, 1_000).await;
    assert!(before.disagreements.len() > 10, "{}", before.disagreements.len());
    let beginning = first_point(&rehearsal).await;
    rehearsal.drain().await;
    assert!(!holds(&state, NAME), "it is redacted there, too");

    let rehearsal = beside(&primary, &state, |_| {}).await;
    rehearsal.report_when(|report| report.exchanges.is_some()).await;
    let after = listed(&rehearsal, 1_000).await;
    assert_eq!(format!("{:?}", lasting(&after)), format!("{:?}", lasting(&before)));
    assert_eq!(first_point(&rehearsal).await, beginning, "and so does the chart");
    ask(&primary).await;
    rehearsal.settled(2 * ROWS as u64).await;
    let more = listed(&rehearsal, 1_000).await;
    let last = before.disagreements[0].number;
    assert!(more.disagreements[0].number > last, "numbers go on");
    assert_eq!(more.seen["flip"], 2 * before.seen["flip"], "the same requests once more");

    // Another epoch is about something else.
    rehearsal.shadow().start_epoch(understudy::v1::StartEpochRequest::default()).await.unwrap();
    rehearsal.drain().await;
    let rehearsal = beside(&primary, &state, |_| {}).await;
    rehearsal.report_when(|report| report.exchanges.is_some()).await;
    let another = listed(&rehearsal, 1_000).await;
    assert_eq!((another.disagreements.len(), another.seen.len()), (0, 0));
    assert_eq!(another.epoch.unwrap().number, 2);
}

/// A file never tells more than its process may: inputs in full go when the policy does, before anything is compared.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn inputs_that_may_not_be_told_any_more_leave_the_file() {
    let (primary, directory) = (Primary::start().await, tempfile::tempdir().unwrap());
    let state = directory.path().join("state");
    let policy = |inputs: &str| {
        let inputs = inputs.to_owned();
        move |settings: &mut shadow_sidecar::Settings| settings.disagreement_inputs = Some(inputs)
    };
    let rehearsal = beside(&primary, &state, policy("full")).await;
    ask(&primary).await;
    rehearsal.settled(ROWS as u64).await;
    let before = listed(&rehearsal, 1_000).await;
    rehearsal.drain().await;
    assert!(holds(&state, NAME), "as it is configured");

    // A primary that is not there: no epoch begins, and the file is written all the same, before anything else happens.
    let alone = Rehearsal::alone(|settings| {
        settings.primary = Some("http://127.0.0.1:1".into());
        settings.candidate = Some(package("adult-candidate-bad"));
        settings.state_file = Some(state.clone());
        settings.state_interval = Some("1h".into());
        policy("redacted")(settings);
    })
    .await;
    assert!(!holds(&state, NAME));
    alone.drain().await;
    assert!(!holds(&state, NAME));

    let rehearsal = beside(&primary, &state, policy("redacted")).await;
    rehearsal.report_when(|report| report.exchanges.is_some()).await;
    let after = listed(&rehearsal, 1_000).await;
    let numbers = |listed: &ListDisagreementsResponse| -> Vec<u64> {
        listed.disagreements.iter().map(|each| each.number).collect()
    };
    assert_eq!((numbers(&after), after.inputs.as_str()), (numbers(&before), "redacted"));
    assert!(after.disagreements.iter().all(|each| each.features.is_empty()));
    rehearsal.drain().await;

    // Who wants none keeps none.
    let none = beside(&primary, &state, |settings| settings.disagreements = Some(0)).await;
    none.report_when(|report| report.exchanges.is_some()).await;
    none.drain().await;
    let again = beside(&primary, &state, |_| {}).await;
    again.report_when(|report| report.exchanges.is_some()).await;
    assert!(listed(&again, 1_000).await.disagreements.is_empty());
}
