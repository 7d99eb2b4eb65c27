//! What is said of a row on which the two models differ, or of an exchange that can't be compared.

use std::time::Instant;

use tonic::Status;
use understudy::{status, v1};

use super::{Epoch, Rehearsal};
use crate::{
    compare::{Answer, Incomparable, RowOutcome, Task},
    disagreements::Kind,
    exchange::{Offered, Response},
    tally::Latency,
};

/// Scores that are told of one answer.
const MOST_SCORES: usize = 16;
/// Characters of an id that came in a header.
const MOST_CHARACTERS: usize = 256;

/// Both answers to one request, as they were compared.
pub(super) struct Compared<'a> {
    pub(super) primary: &'a Answer,
    pub(super) candidate: &'a Answer,
    pub(super) outcomes: &'a [RowOutcome],
    /// `[rows, declared features]`.
    pub(super) slices: &'a [u16],
}

impl Rehearsal {
    /// Notes each row on which the models differ.
    pub(super) fn differ(&self, epoch: &Epoch, offered: &Offered, latency: Latency, compared: &Compared<'_>) {
        for (row, outcome) in compared.outcomes.iter().enumerate().filter(|(_, outcome)| !outcome.agreed) {
            let kind = match epoch.comparator.task() {
                _ if outcome.nonfinite => Kind::Nonfinite,
                Task::Binary | Task::Multiclass => Kind::Flip,
                Task::Regression | Task::Quantile | Task::Tensor => Kind::Delta,
            };
            self.note(epoch, kind, || of_row(epoch, offered, latency, compared, row, outcome));
        }
    }

    /// Notes that the candidate gave no answer.
    pub(super) fn fails(&self, epoch: &Epoch, offered: &Offered, latency: Latency, status: &Status) {
        // The code alone: what a status says of a request may quote it.
        let code = status::name(status.code());
        self.note(epoch, Kind::Status, || v1::Disagreement {
            difference: code.into(),
            candidate_status: code.into(),
            ..of_exchange(offered, latency)
        });
    }

    /// Notes that the answers can't be compared.
    pub(super) fn differ_in_shape(&self, epoch: &Epoch, offered: &Offered, latency: Latency, why: &Incomparable) {
        self.note(epoch, Kind::Shape, || v1::Disagreement {
            difference: why.to_string(),
            ..of_exchange(offered, latency)
        });
    }

    fn note(&self, epoch: &Epoch, kind: Kind, describe: impl FnOnce() -> v1::Disagreement) {
        if self.disagreements.keep == 0 {
            return;
        }
        let tell = |disagreement: &v1::Disagreement| self.logs.tell(epoch, disagreement);
        let told = self.logs.wanted(Instant::now());
        epoch.disagreements.note(kind, told.then_some(&tell as &dyn Fn(&v1::Disagreement)), describe);
    }
}

fn of_exchange(offered: &Offered, latency: Latency) -> v1::Disagreement {
    let exchange = &offered.exchange;
    let id = |text: &str| text.chars().take(MOST_CHARACTERS).collect::<String>();
    let join_id = if exchange.shadow_id.is_empty() { &exchange.request_id } else { &exchange.shadow_id };
    v1::Disagreement {
        arrived_unix_nanos: exchange.arrived_unix_nanos,
        request_id: id(&exchange.request_id),
        join_id: id(join_id),
        traceparent: id(&exchange.traceparent),
        candidate_status: "OK".into(),
        primary_latency_nanos: latency.primary,
        candidate_latency_nanos: latency.candidate,
        ..v1::Disagreement::default()
    }
}

fn of_row(
    epoch: &Epoch,
    offered: &Offered,
    latency: Latency,
    compared: &Compared<'_>,
    row: usize,
    outcome: &RowOutcome,
) -> v1::Disagreement {
    let &Compared { primary, candidate, slices, outcomes } = compared;
    let numbers = [(primary, primary.row(row)), (candidate, candidate.row(row))].map(|(answer, scores)| {
        // Texts are told apart, not told.
        let exact = answer.exact_row(row).iter().map(|&n| if n < Answer::TEXTS { n as f64 } else { f64::NAN });
        scores.iter().copied().chain(exact).collect::<Vec<f64>>()
    });
    let [p, c] = numbers.each_ref().map(Vec::as_slice);
    let label = |class: Option<u32>| {
        let known = class.and_then(|class| epoch.comparator.classes().get(class as usize));
        known.cloned().unwrap_or_default()
    };
    let (primary_label, candidate_label) = (label(outcome.primary_class), label(outcome.candidate_class));
    let [own, other] = &epoch.disagreements.names;
    let (mine, theirs) = match epoch.comparator.task() {
        Task::Tensor => {
            // Where both are texts there is no number to tell.
            let apart = |column: usize| match (p[column], c[column]) {
                (own, other) if own.is_nan() && other.is_nan() => -1.0,
                (own, other) if own.is_nan() || other.is_nan() => f64::INFINITY,
                (own, other) => (other - own).abs(),
            };
            let mut columns = most(p.len().min(c.len()), apart);
            columns.retain(|column| !(p[*column].is_nan() && c[*column].is_nan()));
            (columns.clone(), columns)
        }
        _ => (most(p.len(), |column| p[column].abs()), most(c.len(), |column| c[column].abs())),
    };
    let named = epoch.slicing.as_ref().map(|slicing| slicing.slicer().names()).unwrap_or_default();
    let a_row = slices.len().checked_div(outcomes.len()).unwrap_or(0);
    let slices = slices.get(row * a_row..(row + 1) * a_row).unwrap_or_default();
    let (request, response) = (offered.request().ok(), offered.response().ok());
    v1::Disagreement {
        difference: difference(outcome, (&primary_label, &candidate_label), p, c),
        row: Some(row as u32),
        primary_label,
        candidate_label,
        primary_score: outcome.scores.map(|(primary, _)| primary),
        candidate_score: outcome.scores.map(|(_, candidate)| candidate),
        delta: outcome.delta,
        primary_scores: scores(own, p, &mine),
        candidate_scores: scores(other, c, &theirs),
        slices: slices.iter().filter_map(|slice| named.get(usize::from(*slice)).cloned()).collect(),
        prediction_id: response.and_then(|response| prediction_id(response, row)).unwrap_or_default(),
        features: request.map(|request| epoch.disagreements.reader.of(request, row)).unwrap_or_default(),
        ..of_exchange(offered, latency)
    }
}

/// For people.
fn difference(outcome: &RowOutcome, (primary, candidate): (&str, &str), p: &[f64], c: &[f64]) -> String {
    let known = |label: &str| if label.is_empty() { "unknown".to_owned() } else { label.to_owned() };
    match (outcome.scores, outcome.delta) {
        _ if outcome.nonfinite => {
            let odd = |scores: &[f64]| {
                let odd = scores.iter().find(|score| !score.is_finite());
                odd.or(scores.first()).map_or_else(|| "nothing".into(), f64::to_string)
            };
            format!("{} -> {}", odd(p), odd(c))
        }
        _ if !(primary.is_empty() && candidate.is_empty()) => format!("{} -> {}", known(primary), known(candidate)),
        (Some((primary, candidate)), _) => format!("{primary} -> {candidate}"),
        (None, Some(delta)) => format!("by up to {}", delta.abs()),
        (None, None) => "texts differ".into(),
    }
}

/// The columns in which `size` is largest, in ascending order.
fn most(columns: usize, size: impl Fn(usize) -> f64) -> Vec<usize> {
    let mut all: Vec<usize> = (0..columns).collect();
    if columns > MOST_SCORES {
        all.select_nth_unstable_by(MOST_SCORES - 1, |a, b| size(*b).total_cmp(&size(*a)));
        all.truncate(MOST_SCORES);
        all.sort_unstable();
    }
    all
}

fn scores(names: &[String], scores: &[f64], columns: &[usize]) -> Vec<v1::Score> {
    let name = |column: usize| match names.get(column).filter(|_| names.len() == scores.len()) {
        Some(name) => name.clone(),
        None if scores.len() == 1 => "value".into(),
        None => format!("[{column}]"),
    };
    let told = columns.iter().filter_map(|&column| Some((column, *scores.get(column)?)));
    told.map(|(column, value)| v1::Score { name: name(column), value }).collect()
}

/// The output `prediction_id` of understudy-server.
fn prediction_id(response: &Response, row: usize) -> Option<String> {
    match response {
        Response::Rows(response) => response.predictions.get(row).map(|prediction| prediction.prediction_id.clone()),
        Response::Tensors(response) => {
            let index = response.outputs.iter().position(|output| output.name == "prediction_id")?;
            let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).ok();
            let Some(mut raw) = response.raw_output_contents.get(index).map(AsRef::as_ref) else {
                return text(response.outputs[index].contents.as_ref()?.bytes_contents.get(row)?);
            };
            for passed in 0.. {
                let (length, after): (&[u8; 4], &[u8]) = <[u8]>::split_first_chunk(raw)?;
                let (id, after) = after.split_at_checked(u32::from_le_bytes(*length) as usize)?;
                if passed == row {
                    return text(id);
                }
                raw = after;
            }
            None
        }
    }
}
