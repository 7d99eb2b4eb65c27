//! Gamma and beta functions in log space, accurate also where counts are large.
//!
//! The textbook form `ln B(x, y) - x ln p - y ln q` subtracts numbers of the size of n and loses all digits by n = 1e9.
//! Here it is written as a deviance, n times a Kullback-Leibler divergence, plus Stirling corrections (Loader, "Fast and
//! accurate computation of binomial probabilities", 2000), which keeps about twelve digits at any n that a u64 counter
//! will reach in practice.

use std::f64::consts::PI;

/// From here on the Stirling series is exact to f64.
const STIRLING_FROM: f64 = 10.0;

/// The continued fraction needs about sqrt(n) steps next to the mean and few elsewhere. This is enough for n = 1e11; it
/// is there so that no input, however odd, can hold up a report.
const MAX_STEPS: u32 = 2_000_000;

/// ln Γ(x) for x > 0; NaN elsewhere.
pub fn ln_gamma(x: f64) -> f64 {
    if x.is_nan() || x <= 0.0 {
        return f64::NAN;
    }
    if x < STIRLING_FROM {
        // Γ(x) = Γ(x + k) / (x (x + 1) ... (x + k - 1))
        let (mut shifted, mut product) = (x, 1.0);
        while shifted < STIRLING_FROM {
            product *= shifted;
            shifted += 1.0;
        }
        return stirling(shifted) + stirling_series(shifted) - product.ln();
    }
    stirling(x) + stirling_series(x)
}

/// ln B(x, y) for x, y > 0.
pub fn ln_beta(x: f64, y: f64) -> f64 {
    let n = x + y;
    let (small, large) = if x < y { (x, y) } else { (y, x) };
    small * (small / n).ln() + large * (-small / n).ln_1p() + ln_beta_corrections(x, y, n)
}

/// ln B(x, y) - x ln p - y ln q, where q = 1 - p is given because subtraction would lose it.
///
/// Its negative is the log of the beta density at p, times p q.
#[expect(clippy::many_single_char_names, reason = "the names in the literature")]
pub fn ln_beta_over(x: f64, y: f64, p: f64, q: f64) -> f64 {
    let n = x + y;
    deviance(x, n * p) + deviance(y, n * q) + ln_beta_corrections(x, y, n)
}

/// ln `I_x(a, b)`, the regularised incomplete beta function, where y = 1 - x. It doesn't underflow.
pub fn ln_incomplete_beta(a: f64, b: f64, x: f64, y: f64) -> f64 {
    if x.is_nan() || x <= 0.0 {
        f64::NEG_INFINITY
    } else if y <= 0.0 {
        0.0
    } else if is_lower_tail(a, b, x) {
        ln_lower_tail(a, b, x, y)
    } else {
        ln_one_minus_exp(ln_lower_tail(b, a, y, x))
    }
}

/// Whether x lies so low that the continued fraction converges fast (Numerical Recipes, section 6.4).
pub(super) fn is_lower_tail(a: f64, b: f64, x: f64) -> bool {
    x < (a + 1.0) / (a + b + 2.0)
}

/// ln `I_x(a, b)` for x in the lower tail: the density times the continued fraction.
pub(super) fn ln_lower_tail(a: f64, b: f64, x: f64, y: f64) -> f64 {
    -ln_beta_over(a, b, x, y) + ln_tail_fraction(a, b, x)
}

/// ln of the continued fraction of `I_x(a, b)` over a, by the modified Lentz method (Numerical Recipes, section 6.4;
/// Didonato and Morris, 1992).
#[expect(clippy::many_single_char_names, reason = "the names in the literature")]
pub(super) fn ln_tail_fraction(a: f64, b: f64, x: f64) -> f64 {
    const TINY: f64 = 1e-300;
    let away_from_zero = |v: f64| if v.abs() < TINY { TINY } else { v };
    let n = a + b;
    let mut c = 1.0;
    let mut d = 1.0 / away_from_zero(1.0 - n * x / (a + 1.0));
    let mut fraction = d;
    for step in 1..=MAX_STEPS {
        let m = f64::from(step);
        let twice = 2.0 * m;
        let even = m * (b - m) * x / ((a + twice - 1.0) * (a + twice));
        d = 1.0 / away_from_zero(1.0 + even * d);
        c = away_from_zero(1.0 + even / c);
        fraction *= d * c;
        let odd = -(a + m) * (n + m) * x / ((a + twice) * (a + twice + 1.0));
        d = 1.0 / away_from_zero(1.0 + odd * d);
        c = away_from_zero(1.0 + odd / c);
        let change = d * c;
        fraction *= change;
        // NaN stays NaN: it ends it, too.
        if (change - 1.0).abs() <= f64::EPSILON || change.is_nan() {
            break;
        }
    }
    fraction.ln() - a.ln()
}

/// ln(e^x x^-a γ(a, x)) for a, x > 0, where γ is the lower incomplete gamma function: the series, or what Legendre's
/// continued fraction leaves of Γ (Numerical Recipes, section 6.2).
pub(super) fn ln_scaled_lower_gamma(a: f64, x: f64) -> f64 {
    if x < a + 1.0 {
        let (mut term, mut sum) = (1.0 / a, 1.0 / a);
        for step in 1..=MAX_STEPS {
            term *= x / (a + f64::from(step));
            sum += term;
            // NaN ends it, too.
            if term <= sum * f64::EPSILON || term.is_nan() {
                break;
            }
        }
        return sum.ln();
    }
    // ln(e^x x^-a Γ(a)): a deviance, so that nothing cancels.
    let whole = deviance(a, x) + 0.5 * (2.0 * PI / a).ln() + stirling_error(a);
    whole + ln_one_minus_exp(ln_upper_gamma_fraction(a, x) - whole)
}

/// ln of e^x x^-a Γ(a, x), the upper incomplete gamma function, for x >= a + 1, by the modified Lentz method.
#[expect(clippy::many_single_char_names, reason = "the names in the literature")]
fn ln_upper_gamma_fraction(a: f64, x: f64) -> f64 {
    const TINY: f64 = 1e-300;
    let away_from_zero = |v: f64| if v.abs() < TINY { TINY } else { v };
    let mut b = x + 1.0 - a;
    let mut c = 1.0 / TINY;
    let mut d = 1.0 / away_from_zero(b);
    let mut fraction = d;
    for step in 1..=MAX_STEPS {
        let m = f64::from(step);
        let numerator = m * (a - m);
        b += 2.0;
        d = 1.0 / away_from_zero(numerator * d + b);
        c = away_from_zero(b + numerator / c);
        let change = d * c;
        fraction *= change;
        if (change - 1.0).abs() <= f64::EPSILON || change.is_nan() {
            break;
        }
    }
    fraction.ln()
}

/// ln(1 - e^v) for v <= 0, without cancellation (Mächler, "Accurately computing log(1 - exp(-|a|))", 2012).
pub(super) fn ln_one_minus_exp(v: f64) -> f64 {
    if v >= 0.0 {
        f64::NEG_INFINITY
    } else if v > -std::f64::consts::LN_2 {
        (-v.exp_m1()).ln()
    } else {
        (-v.exp()).ln_1p()
    }
}

/// x ln(x / m) + m - x >= 0, by a series where x and m are close (Loader's bd0).
fn deviance(x: f64, m: f64) -> f64 {
    let (difference, sum) = (x - m, x + m);
    if difference.abs() >= 0.1 * sum {
        return if x > 0.0 { x * (x / m).ln() - difference } else { m };
    }
    let v = difference / sum;
    let mut total = difference * v;
    let mut term = 2.0 * x * v;
    let mut odd = 3.0;
    loop {
        term *= v * v;
        let next = total + term / odd;
        // |v| < 0.1: at most ten rounds. NaN ends it, too.
        if next == total || next.is_nan() {
            return next;
        }
        total = next;
        odd += 2.0;
    }
}

/// What ln B(x, y) has besides x ln(x/n) + y ln(y/n).
fn ln_beta_corrections(x: f64, y: f64, n: f64) -> f64 {
    0.5 * (2.0 * PI * (n / x) / y).ln() + stirling_error(x) + stirling_error(y) - stirling_error(n)
}

/// (x - 1/2) ln x - x + ln(2 pi) / 2
fn stirling(x: f64) -> f64 {
    (x - 0.5) * x.ln() - x + 0.5 * (2.0 * PI).ln()
}

/// ln Γ(x) minus Stirling's formula.
fn stirling_error(x: f64) -> f64 {
    if x < STIRLING_FROM { ln_gamma(x) - stirling(x) } else { stirling_series(x) }
}

/// The asymptotic series of `stirling_error`: the sum of `B_2k` / (2k (2k - 1) x^(2k - 1)).
fn stirling_series(x: f64) -> f64 {
    const COEFFICIENTS: [f64; 7] =
        [1.0 / 12.0, -1.0 / 360.0, 1.0 / 1260.0, -1.0 / 1680.0, 1.0 / 1188.0, -691.0 / 360_360.0, 1.0 / 156.0];
    let square = 1.0 / (x * x);
    COEFFICIENTS.iter().rev().fold(0.0, |sum, coefficient| sum * square + coefficient) / x
}

#[cfg(test)]
#[expect(clippy::unreadable_literal, reason = "vectors, digit by digit")]
mod tests {
    use super::*;

    fn close(got: f64, expected: f64, relative: f64) {
        let scale = expected.abs().max(1.0);
        assert!((got - expected).abs() <= relative * scale, "got {got}, expected {expected}");
    }

    /// mpmath 1.3, 50 digits.
    #[test]
    fn gamma_and_beta_match_high_precision() {
        for &(x, expected) in GAMMA {
            close(ln_gamma(x), expected, 1e-14);
        }
        for &(x, y, expected) in BETA {
            close(ln_beta(x, y), expected, 1e-14);
        }
    }

    /// At a billion rows the textbook form would be off in the seventh decimal.
    #[test]
    fn large_counts_keep_their_digits() {
        for &(x, y, p, expected) in BETA_OVER {
            close(ln_beta_over(x, y, p, 1.0 - p), expected, 1e-11);
        }
        for &(a, b, x, expected) in INCOMPLETE {
            close(ln_incomplete_beta(a, b, x, 1.0 - x), expected, 1e-10);
        }
    }

    #[test]
    fn incomplete_beta_has_its_limits_and_symmetry() {
        assert_eq!(ln_incomplete_beta(2.0, 3.0, 0.0, 1.0), f64::NEG_INFINITY);
        assert_eq!(ln_incomplete_beta(2.0, 3.0, 1.0, 0.0), 0.0);
        assert_eq!(ln_incomplete_beta(2.0, 3.0, f64::NAN, f64::NAN), f64::NEG_INFINITY);
        for x in [0.01, 0.3, 0.5, 0.77, 0.999] {
            let (low, high) = (ln_incomplete_beta(4.5, 2.0, x, 1.0 - x), ln_incomplete_beta(2.0, 4.5, 1.0 - x, x));
            close(low.exp() + high.exp(), 1.0, 1e-14);
        }
    }

    #[test]
    fn nonsense_ends_and_is_nan() {
        assert!(ln_gamma(0.0).is_nan());
        assert!(ln_gamma(-1.0).is_nan());
        assert!(ln_gamma(f64::NAN).is_nan());
        assert!(ln_beta_over(f64::NAN, 1.0, 0.5, 0.5).is_nan());
    }

    const GAMMA: &[(f64, f64)] = &[
        (0.001, 6.907178885383853),
        (0.5, 0.5723649429247001),
        (1.0, 0.0),
        (2.0, 0.0),
        (3.7, 1.428072326665388),
        (9.5, 11.689333420797269),
        (10.0, 12.80182748008147),
        (25.25, 55.58568604486943),
        (1000.0, 5905.220423209181),
        (1e9, 19723265827.503716),
        (1e12, 26631021115915.652),
    ];
    const BETA: &[(f64, f64, f64)] = &[
        (0.5, 0.5, 1.1447298858494002),
        (1.0, 1.0, 0.0),
        (1e-6, 1e-8, 18.430631074805518),
        (0.5, 1e9, -9.789267975423506),
        (3.0, 7.0, -5.529429087511423),
        (1e6, 2e6, -1909548.290968533),
        (1000.5, 3.5, -22.982287886060753),
    ];
    const BETA_OVER: &[(f64, f64, f64, f64)] = &[
        (990000000.5, 10000000.5, 0.99, -7.135084128639824),
        (990100000.5, 9900000.5, 0.99, 499.59030121555793),
        (999999000.5, 1000.5, 0.99, 10040108.32816783),
        (95.5, 5.5, 0.9, 1.481390310444493),
        (9900000000.0, 100000000.0, 0.99, -8.286376670011341),
    ];
    const INCOMPLETE: &[(f64, f64, f64, f64)] = &[
        (0.5, 0.5, 0.01, -2.752494986597868),
        (5.5, 95.5, 0.01, -6.583237860040319),
        (95.5, 5.5, 0.99, -0.0013843206299580077),
        (2.0, 3.0, 0.5, -0.3746934494414107),
        (100.5, 9900.5, 0.02, -1.5622799493146345e-15),
        (10000000.5, 990000000.5, 0.01, -0.6931886001969099),
        (10000000.5, 990000000.5, 0.0099, -512.792498681542),
        (10000000.5, 990000000.5, 0.00999, -7.211389381279944),
        (5000.5, 5000.5, 0.1, -5114.06815967178),
    ];
}
