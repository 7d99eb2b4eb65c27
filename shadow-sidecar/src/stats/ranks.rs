//! Quantiles of latencies with an interval, by ranks: no assumption about how they are distributed.
//!
//! Whether a latency is at most the quantile of level p happens with probability p. So the number of those that are is
//! enclosed by the same mixture as the agreement, and with it the rank at which the quantile stands in the sorted
//! latencies (Howard and Ramdas, "Sequential estimation of quantiles", Bernoulli 28(3), 2022, arXiv 1906.09712). Valid at
//! all times at once, as long as the latencies to come are distributed as those before them.

use super::agreement::{Prior, log_m, threshold};
use super::histogram::Histogram;

/// The prior of what is shown.
pub const PRIOR: Prior = Prior::Jeffreys;

/// The counts k, first and last, with ln M(k; p) < ln(1/alpha) among n latencies: the quantile of level p lies between
/// the latency of rank k_lo and that of rank k_hi + 1. Everything (0, n) when p or alpha is not in (0, 1).
pub fn ranks(n: u64, p: f64, alpha: f64, prior: Prior) -> (u64, u64) {
    let Some(threshold) = threshold(alpha).filter(|_| p > 0.0 && p < 1.0) else { return (0, n) };
    let inside = |k: u64| log_m(n, k as f64, p, prior) < threshold;
    // Evidence is least near p n, and grows to both sides.
    let centre = ((p * n as f64).round() as u64).min(n);
    if !inside(centre) {
        return (0, n);
    }
    let end = |outermost: u64| {
        if inside(outermost) {
            return outermost;
        }
        let (mut within, mut outside) = (centre, outermost);
        while within.abs_diff(outside) > 1 {
            let middle = u64::midpoint(within, outside);
            if inside(middle) { within = middle } else { outside = middle }
        }
        within
    };
    (end(0), end(n))
}

/// A quantile in seconds, with its confidence sequence.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Quantile {
    /// The latency at or below which the share of the level lies.
    pub value: f64,
    /// Lower bound; 0 while there are too few for one.
    pub lower: f64,
    /// Upper bound; infinite while there are too few for one.
    pub upper: f64,
}

/// The quantile of level p at level 1 - alpha. The histogram's rounding is not in the bounds: see [`ratio`]. None before
/// the first latency.
pub fn quantile(latencies: &Histogram, p: f64, alpha: f64, prior: Prior) -> Option<Quantile> {
    let n = latencies.count();
    let value = latencies.quantile(p)?.as_secs_f64();
    let (low, high) = ranks(n, p, alpha, prior);
    let at = |rank: u64| latencies.at_rank(rank).map(|duration| duration.as_secs_f64());
    Some(Quantile { value, lower: at(low).unwrap_or(0.0), upper: at(high + 1).unwrap_or(f64::INFINITY) })
}

/// The candidate's quantile over the primary's, with a confidence sequence at level 1 - alpha: each side has alpha/2, and
/// the interval is widened by what the histograms round. None before both have a latency.
pub fn ratio(primary: &Histogram, candidate: &Histogram, p: f64, alpha: f64, prior: Prior) -> Option<Quantile> {
    let below = quantile(primary, p, alpha / 2.0, prior)?;
    let above = quantile(candidate, p, alpha / 2.0, prior)?;
    let g = Histogram::RELATIVE_ERROR;
    let over = |dividend: f64, divisor: f64| if divisor > 0.0 { dividend / divisor } else { f64::INFINITY };
    let lower = if below.upper.is_infinite() { 0.0 } else { over(above.lower, below.upper) };
    Some(Quantile {
        value: over(above.value, below.value),
        lower: if lower.is_finite() { lower * (1.0 - g) / (1.0 + g) } else { 0.0 },
        upper: over(above.upper, below.lower) * (1.0 + g) / (1.0 - g),
    })
    .filter(|ratio| !ratio.value.is_nan())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// p, n, first and last count; alpha = 0.05, Jeffreys' prior.
    const RANKS: [(f64, u64, u64, u64); 9] = [
        (0.5, 1000, 443, 557),
        (0.5, 10_000, 4803, 5197),
        (0.5, 100_000, 49_331, 50_669),
        (0.95, 1000, 923, 973),
        (0.95, 10_000, 9412, 9583),
        (0.95, 100_000, 94_706, 95_289),
        (0.99, 1000, 977, 998),
        (0.99, 10_000, 9859, 9936),
        (0.99, 100_000, 98_864, 99_130),
    ];

    #[test]
    fn ranks_match_the_reference() {
        for (p, n, low, high) in RANKS {
            assert_eq!(ranks(n, p, 0.05, Prior::Jeffreys), (low, high), "{p} {n}");
        }
    }

    #[test]
    fn few_latencies_have_no_bounds() {
        assert_eq!(ranks(5, 0.5, 0.05, Prior::Jeffreys), (0, 5));
        assert_eq!(ranks(5, 1.0, 0.05, Prior::Jeffreys), (0, 5));
        assert_eq!(ranks(0, 0.5, 0.05, Prior::Jeffreys), (0, 0));
        let mut one = Histogram::default();
        assert_eq!(quantile(&one, 0.5, 0.05, Prior::Jeffreys), None);
        one.record(1000);
        let got = quantile(&one, 0.5, 0.05, Prior::Jeffreys);
        assert_eq!(got, Some(Quantile { value: 1e-6, lower: 0.0, upper: f64::INFINITY }));
        let ratio = ratio(&one, &one, 0.5, 0.05, Prior::Jeffreys).unwrap();
        assert_eq!((ratio.value, ratio.lower, ratio.upper), (1.0, 0.0, f64::INFINITY));
    }

    #[test]
    fn a_slower_candidate_has_a_ratio_above_one() {
        let (mut primary, mut candidate) = (Histogram::default(), Histogram::default());
        for i in 0..10_000u64 {
            let nanos = 100_000 + (i * 7919) % 10_007;
            primary.record(nanos);
            candidate.record(nanos * 3 / 2);
        }
        for p in [0.5, 0.95, 0.99] {
            let Quantile { value, lower, upper } = ratio(&primary, &candidate, p, 0.05, Prior::Jeffreys).unwrap();
            assert!(lower < 1.5 && 1.5 < upper && lower > 1.4 && upper < 1.6, "{p}: {lower} {value} {upper}");
        }
        let inner = quantile(&primary, 0.5, 0.05, Prior::Jeffreys).unwrap();
        assert!(inner.lower <= inner.value && inner.value <= inner.upper);
    }
}
