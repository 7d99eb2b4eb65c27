//! A primary that is asked once more what it has answered to a mirrored request: what comes of that is about the sidecar's own
//! question, and the user may have got an answer all the same.

use std::collections::BTreeMap;

use support::{
    Rehearsal, adult,
    grpc::{Call, Connection, MODEL_INFER},
    stub::Stub,
};
use tonic::{Code, Status};
use understudy::inference::ModelInferRequest;

use super::{columns, v2};

/// What the primary says to the request of this number; none: it hangs.
const ANSWERS: [Option<Code>; 10] = [
    Some(Code::Ok),
    Some(Code::InvalidArgument),
    Some(Code::NotFound),
    Some(Code::Internal),
    Some(Code::Unavailable),
    Some(Code::ResourceExhausted),
    Some(Code::Cancelled),
    Some(Code::PermissionDenied),
    Some(Code::DeadlineExceeded),
    None,
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_what_the_primary_refuses_is_nothing_that_was_missed() {
    let answer = |request: &ModelInferRequest| match ANSWERS[request.id.parse::<usize>().unwrap()] {
        None => None,
        Some(Code::Ok) => Some(Ok(v2::answer(request))),
        Some(code) => Some(Err(Status::new(code, "as the test has it"))),
    };
    let primary = Stub::describing(v2::metadata(), answer).await;
    let rehearsal = Rehearsal::alone(|settings| {
        settings.primary = Some(primary.url());
        settings.primary_model = Some("income".into());
        settings.primary_classes = Some(adult::CLASSES.map(String::from).to_vec());
        settings.intake = Some("mirror".into());
        settings.candidate_timeout = Some("300ms".into());
        settings.noise_rate = Some(0.0);
    })
    .await;
    rehearsal.report_when(|report| report.epoch.as_ref().is_some_and(|epoch| epoch.number == 1)).await;
    let mirror = Connection::open(rehearsal.grpc()).await;
    for row in 0..ANSWERS.len() {
        assert_eq!(mirror.call(&Call::new(MODEL_INFER, &columns(row))).await.status, Some(0));
    }
    let report = rehearsal.settled(ANSWERS.len() as u64).await;
    let counts = report.exchanges.as_ref().unwrap();
    let expected = [("primary_error", 3), ("shed", 4), ("ttl", 2)].map(|(reason, count)| (reason.to_owned(), count));
    assert_eq!((counts.compared, &counts.dropped), (1, &BTreeMap::from(expected)));
    assert_eq!(counts.coverage, Some(1.0 / 7.0), "six may hide a disagreement");
    let told: BTreeMap<_, _> =
        report.intake.as_ref().unwrap().unmatched.iter().map(|it| (it.reason.clone(), it.count)).collect();
    assert_eq!(told, counts.dropped);
    assert_eq!(report.rows.unwrap().dropped, counts.dropped, "one row each");
}
