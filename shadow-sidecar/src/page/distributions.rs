//! Distributions as a picture needs them: few bins, and no more than are occupied.

use serde_json::{Value as Json, json};

use crate::{stats::histogram::Histogram, tally::Tally};

/// Buckets of a histogram that become one bin: eight bins to each power of two.
const TOGETHER: u64 = 8;

/// See [`super::Subject::distributions`].
pub(super) fn of(tally: &Tally) -> Json {
    let edge = |edge: f64| edge.is_finite().then_some(edge);
    let bins = tally.spread().bins().into_iter();
    json!({
        "score_delta": bins.map(|bin| json!([edge(bin.lower), edge(bin.upper), bin.count])).collect::<Json>(),
        "primary_latency": latency(tally.primary_latency()),
        "candidate_latency": latency(tally.candidate_latency()),
    })
}

/// Seconds.
fn latency(histogram: &Histogram) -> Json {
    let seconds = |nanos: u64| nanos as f64 / 1e9;
    bins(histogram).into_iter().map(|(lower, upper, count)| json!([seconds(lower), seconds(upper), count])).collect()
}

/// Neighbouring buckets put together; bins without anything in them are left out.
fn bins(histogram: &Histogram) -> Vec<(u64, u64, u64)> {
    let mut bins: Vec<(u64, u64, u64)> = Vec::new();
    for (lower, upper, count) in histogram.buckets() {
        // The width of a bucket is a power of two, and so is that of the bin around it.
        let width = (upper - lower) * TOGETHER;
        let start = lower / width * width;
        match bins.last_mut() {
            Some(last) if last.0 == start => last.2 += count,
            _ => bins.push((start, start + width, count)),
        }
    }
    bins
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bins_hold_everything_once_and_do_not_overlap() {
        let mut histogram = Histogram::default();
        let all: Vec<u64> = (0..60_000).map(|i| i * i % 9_999_991).collect();
        for nanos in &all {
            histogram.record(*nanos);
        }
        let bins = bins(&histogram);
        assert!(bins.len() < 200, "{}", bins.len());
        assert!(bins.windows(2).all(|pair| pair[0].1 <= pair[1].0), "{bins:?}");
        for (lower, upper, count) in bins {
            let inside = all.iter().filter(|nanos| (lower..upper).contains(nanos)).count();
            assert_eq!(count, inside as u64, "[{lower}, {upper})");
        }
    }

    #[test]
    fn what_has_no_edge_is_null_and_seconds_are_seconds() {
        let empty = of(&Tally::new(1, &[]));
        assert_eq!(empty, json!({"score_delta": [], "primary_latency": [], "candidate_latency": []}));
        let mut histogram = Histogram::default();
        histogram.record(1_000_000);
        let bins = latency(&histogram);
        let (lower, upper) = (bins[0][0].as_f64().unwrap(), bins[0][1].as_f64().unwrap());
        assert!(lower <= 0.001 && 0.001 < upper && upper < 0.0013, "{bins}");
    }
}
