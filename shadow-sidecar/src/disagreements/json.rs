//! Disagreements for programs. The names are those of `shadow.proto`; what is absent is null.

use serde_json::{Value as Json, json};
use understudy::v1;

/// A page of them.
pub fn response(response: &v1::ListDisagreementsResponse) -> Json {
    json!({
        "disagreements": response.disagreements.iter().map(disagreement).collect::<Json>(),
        "next_page_token": response.next_page_token,
        "epoch": response.epoch.as_ref().map(crate::report_json::epoch),
        "seen": response.seen,
        "inputs": response.inputs,
        "kinds": response.kinds,
    })
}

/// One of them.
pub fn disagreement(one: &v1::Disagreement) -> Json {
    let text = |text: &str| if text.is_empty() { Json::Null } else { text.into() };
    let scores = |scores: &[v1::Score]| -> Json {
        scores.iter().map(|score| json!({"name": score.name, "value": score.value})).collect()
    };
    json!({
        "number": one.number,
        "arrived_unix_nanos": one.arrived_unix_nanos,
        "kind": one.kind,
        "difference": one.difference,
        "row": one.row,
        "primary_label": text(&one.primary_label),
        "candidate_label": text(&one.candidate_label),
        "primary_score": one.primary_score,
        "candidate_score": one.candidate_score,
        "delta": one.delta,
        "primary_scores": scores(&one.primary_scores),
        "candidate_scores": scores(&one.candidate_scores),
        "candidate_status": text(&one.candidate_status),
        "slices": one.slices,
        "features": one.features,
        "join_id": text(&one.join_id),
        "request_id": text(&one.request_id),
        "prediction_id": text(&one.prediction_id),
        "traceparent": text(&one.traceparent),
        "primary_latency_nanos": one.primary_latency_nanos,
        "candidate_latency_nanos": one.candidate_latency_nanos,
    })
}
