//! Which of two models is right more often, from the rows on which exactly one of them is.

use super::agreement::{Prior, log_m};

/// The log of the evidence against "both are right equally often"; significant once it has reached ln(1/alpha), at any
/// time and however often it is looked at. It is two-sided: the larger count says who is better.
///
/// `primary_only` (b) and `candidate_only` (c) are the rows on which only that model was right. Given that exactly one
/// is right, it is the candidate with probability 1/2 under the null hypothesis:
/// ln E = ln B(a + c, a + b) - ln B(a, a) + (b + c) ln 2, with a = 1/2 or 1 by the prior. The test of Psychometrika 12
/// (1947) as a Robbins mixture. Counts in the order of arriving labels; replicas are pooled by adding them up.
pub fn log_e(primary_only: u64, candidate_only: u64, prior: Prior) -> f64 {
    log_m(primary_only.saturating_add(candidate_only), candidate_only as f64, 0.5, prior)
}

#[cfg(test)]
#[expect(clippy::unreadable_literal, reason = "vectors, digit by digit")]
mod tests {
    use super::*;

    /// b, c, ln E for Jeffreys and Uniform.
    const VECTORS: &[(u64, u64, f64, f64)] = &[
        (10, 2, 1.4111298751, 1.5631620672),
        (30, 10, 3.1546140254, 3.4543243628),
        (60, 40, -0.5173944830, -0.0909648780),
        (5, 5, -1.4020427181, -0.9958525547),
        (100, 60, 2.2884205940, 2.7048367930),
    ];

    #[test]
    fn matches_the_reference_and_is_symmetric() {
        for &(b, c, jeffreys, uniform) in VECTORS {
            for (prior, expected) in [(Prior::Jeffreys, jeffreys), (Prior::Uniform, uniform)] {
                assert!((log_e(b, c, prior) - expected).abs() < 6e-11, "{b} {c} {prior:?}");
                assert!((log_e(c, b, prior) - expected).abs() < 6e-11, "{c} {b} {prior:?}");
            }
        }
        assert!(log_e(0, 0, Prior::Uniform).abs() < 1e-14);
    }
}
