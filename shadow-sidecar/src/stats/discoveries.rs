//! Many questions at once: which answers still count.

/// The indices of the hypotheses that may be rejected so that the expected share of wrong ones among them is at most
/// alpha, from the logs of their e-values; the strongest first. All questions asked belong into `log_e`, those without
/// an answer with -infinity.
///
/// e-BH: the k largest, for the largest k with e_(k) >= K / (k alpha). Valid however the e-values depend on each other
/// (Wang and Ramdas, "False discovery rate control with e-values", JRSS-B 2022, arXiv 2009.02824).
pub fn discoveries(log_e: &[f64], alpha: f64) -> Vec<usize> {
    if !(alpha > 0.0 && alpha < 1.0) {
        return Vec::new();
    }
    let mut order: Vec<usize> = (0..log_e.len()).filter(|&index| !log_e[index].is_nan()).collect();
    order.sort_by(|&a, &b| log_e[b].total_cmp(&log_e[a]));
    let all = log_e.len() as f64;
    let enough = |k: usize| log_e[order[k - 1]] >= (all / (k as f64 * alpha)).ln();
    let k = (1..=order.len()).rev().find(|&k| enough(k)).unwrap_or(0);
    order.truncate(k);
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_threshold_falls_with_the_number_of_discoveries() {
        let e = |values: &[f64]| -> Vec<f64> { values.iter().map(|value: &f64| value.ln()).collect() };
        // K = 4: thresholds 80, 40, 26.7, 20 at alpha = 0.05.
        assert_eq!(discoveries(&e(&[1.0, 79.0, 2.0, 1.0]), 0.05), [] as [usize; 0]);
        assert_eq!(discoveries(&e(&[1.0, 80.0, 2.0, 1.0]), 0.05), [1]);
        // Neither would do alone.
        assert_eq!(discoveries(&e(&[41.0, 79.0, 2.0, 1.0]), 0.05), [1, 0]);
        assert_eq!(discoveries(&e(&[20.0, 20.0, 20.0, 20.0]), 0.05), [0, 1, 2, 3]);
        assert_eq!(discoveries(&[f64::NAN, f64::INFINITY, f64::NEG_INFINITY], 0.05), [1]);
        assert_eq!(discoveries(&[], 0.05), [] as [usize; 0]);
        assert_eq!(discoveries(&[9.0], f64::NAN), [] as [usize; 0]);
    }
}
