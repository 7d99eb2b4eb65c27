//! The mean of scores in [0, 1] whose expectation may drift: what has it been so far, on average?
//!
//! The mixture of [`agreement`](super::agreement) takes one agreement for granted, at least for its two-sided bounds.
//! Traffic changes. This sequence assumes nothing of how the expectations move: it encloses their running mean, at all
//! times at once. The price is width where nearly all agree: complete agreement proves 99 % after 581 exchanges instead of
//! 449 (the example `peeking` has more).
//!
//! With x the score, g the guess made before it was seen, V the sum of (x - g)^2 and u the boundary of a gamma-exponential
//! mixture: |mean of x - mean of E[x | past]| <= u(max(V, 1)) / n, uniformly in n. Howard, Ramdas, McAuliffe and Sekhon,
//! "Time-uniform, nonparametric, nonasymptotic confidence sequences", Annals of Statistics 2021, arXiv 1810.08240, theorem
//! 4, with c = 1.

use super::special::ln_scaled_lower_gamma;

/// The level for which the mixture is tuned (`alpha_opt` in confseq).
const TUNING_ALPHA: f64 = 0.05;

/// Halvings of an interval until neighbours in f64 are left.
const MAX_HALVINGS: u32 = 80;

/// Where the boundary is tightest for agreement: the variance that a few hundred to a few thousand exchanges gather when
/// nearly all agree.
pub const AGREEMENT_V_OPT: f64 = 10.0;

/// The three sums from which the sequence follows. They add up across replicas, of which each keeps its own guesses: these
/// are known before the score is, in the merged order, too.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Bernstein {
    guess: f64,
    count: u64,
    sum: f64,
    variance: f64,
}

impl Bernstein {
    /// Nothing seen. `guess` in [0, 1] stands for the mean before the first score; later it is the mean so far.
    pub fn new(guess: f64) -> Self {
        Self { guess, count: 0, sum: 0.0, variance: 0.0 }
    }

    /// One score in [0, 1]; what lies outside is cut off. NaN counts as 0, the worst.
    pub fn record(&mut self, score: f64) {
        let score = if score.is_nan() { 0.0 } else { score.clamp(0.0, 1.0) };
        let guess = self.mean().unwrap_or(self.guess);
        self.variance += (score - guess) * (score - guess);
        self.sum += score;
        self.count += 1;
    }

    /// Adds what another replica has seen.
    pub fn merge(&mut self, other: &Self) {
        self.count = self.count.saturating_add(other.count);
        self.sum += other.sum;
        self.variance += other.variance;
    }

    /// Scores seen (n).
    pub fn count(&self) -> u64 {
        self.count
    }

    /// The sum of the scores.
    pub fn sum(&self) -> f64 {
        self.sum
    }

    /// The sum of the squared differences between scores and guesses (V).
    pub fn variance(&self) -> f64 {
        self.variance
    }

    /// The mean of the scores; None before the first.
    pub fn mean(&self) -> Option<f64> {
        (self.count > 0).then(|| self.sum / self.count as f64)
    }

    /// Two-sided confidence sequence for the running mean of the expectations at level 1 - alpha, within [0, 1].
    pub fn confidence_sequence(&self, alpha: f64, v_opt: f64) -> (f64, f64) {
        (self.lower(alpha / 2.0, v_opt), self.upper(alpha / 2.0, v_opt))
    }

    /// One-sided lower bound at level 1 - alpha; 0 before the first score.
    pub fn lower(&self, alpha: f64, v_opt: f64) -> f64 {
        self.bound(alpha, v_opt).map_or(0.0, |(mean, width)| (mean - width).max(0.0))
    }

    /// One-sided upper bound at level 1 - alpha; 1 before the first score.
    pub fn upper(&self, alpha: f64, v_opt: f64) -> f64 {
        self.bound(alpha, v_opt).map_or(1.0, |(mean, width)| (mean + width).min(1.0))
    }

    fn bound(&self, alpha: f64, v_opt: f64) -> Option<(f64, f64)> {
        let width = boundary(self.variance.max(1.0), alpha, v_opt)? / self.count as f64;
        self.mean().map(|mean| (mean, width)).filter(|_| !width.is_nan())
    }
}

/// u(v): what the sum of scores minus its expectation stays below at all times, with probability 1 - alpha, while the
/// variance gathered is v. Tightest near `v_opt`. None unless 0 < alpha < 1 and both variances are positive and finite.
pub fn boundary(v: f64, alpha: f64, v_opt: f64) -> Option<f64> {
    let positive = |x: f64| x > 0.0 && x.is_finite();
    if !(alpha > 0.0 && alpha < 1.0 && positive(v) && positive(v_opt)) {
        return None;
    }
    let rho = tuned(v_opt);
    let threshold = -alpha.ln();
    // The evidence grows with s without a bound, at least linearly from some point on.
    let mut outside = v.sqrt() + threshold;
    let mut within = 0.0;
    for _ in 0..MAX_HALVINGS {
        if log_evidence(outside, v, rho) >= threshold {
            break;
        }
        within = outside;
        outside *= 2.0;
    }
    for _ in 0..MAX_HALVINGS {
        let middle = f64::midpoint(within, outside);
        if middle <= within || middle >= outside || outside - within <= 1e-13 * outside {
            break;
        }
        if log_evidence(middle, v, rho) >= threshold {
            outside = middle;
        } else {
            within = middle;
        }
    }
    Some(outside)
}

/// The best rho for a one-sided boundary at `v_opt` (confseq, `OneSidedNormalMixture::best_rho`).
fn tuned(v_opt: f64) -> f64 {
    let evidence = -2.0 * (2.0 * TUNING_ALPHA).ln();
    v_opt / (evidence + evidence.ln_1p())
}

/// The log of the mixture's supermartingale at deviation s and variance v, c = 1 (confseq,
/// `GammaExponentialMixture::log_superMG`).
///
/// With γ the lower incomplete gamma function, a = v + rho and x = s + a it is the log of
/// e^x x^-a γ(a, x), minus the same at s = v = 0: powers and exponentials cancel before they can overflow.
fn log_evidence(s: f64, v: f64, rho: f64) -> f64 {
    let a = v + rho;
    ln_scaled_lower_gamma(a, s + a) - ln_scaled_lower_gamma(rho, rho)
}

#[cfg(test)]
#[expect(clippy::unreadable_literal, reason = "vectors, digit by digit")]
mod tests {
    use super::*;

    /// confseq 0.0.11, gamma-exponential mixture with c = 1 and v_opt = 100 at alpha = 0.025: v, u(v).
    const BOUNDARY: [(f64, f64); 5] = [
        (1.0, 12.3613955801),
        (10.0, 15.3679693143),
        (100.0, 33.4418860918),
        (1000.0, 105.7285593139),
        (10000.0, 359.2238305404),
    ];

    /// Sequence, n, mean, V, half the width at alpha = 0.05 with v_opt = 50.
    const SEQUENCES: [(char, u32, f64, f64, f64); 5] = [
        ('A', 100, 0.95, 1.0139980824, 0.0972990862),
        ('A', 1000, 0.9504514851, 1.7667131288, 0.0101158499),
        ('B', 100, 0.95, 5.8626581478, 0.1200143457),
        ('B', 1000, 0.95, 48.7184914068, 0.0243023468),
        ('B', 10000, 0.95, 476.3275017367, 0.0074134567),
    ];

    fn close(got: f64, expected: f64) {
        assert!((got - expected).abs() < 6e-11 * expected.abs().max(1.0), "got {got:.12}, expected {expected:.12}");
    }

    fn of(scores: impl IntoIterator<Item = f64>) -> Bernstein {
        let mut all = Bernstein::new(0.0);
        scores.into_iter().for_each(|score| all.record(score));
        all
    }

    fn sequence(name: char, n: u32) -> Bernstein {
        of((1..=n).map(|i| match name {
            'A' => 1.0 - f64::from(37 * i % 101) / 1010.0,
            _ => f64::from(u8::from(i % 20 != 0)),
        }))
    }

    #[test]
    fn the_boundary_matches_the_reference() {
        for (v, expected) in BOUNDARY {
            close(boundary(v, 0.025, 100.0).unwrap_or(f64::NAN), expected);
        }
    }

    #[test]
    fn sequences_match_the_reference() {
        for (name, n, mean, variance, width) in SEQUENCES {
            let scores = sequence(name, n);
            close(scores.mean().unwrap_or(f64::NAN), mean);
            close(scores.variance(), variance);
            let (lower, upper) = scores.confidence_sequence(0.05, 50.0);
            let mean = scores.mean().unwrap_or(f64::NAN);
            close(mean - lower, width);
            close(upper, (mean + width).min(1.0));
        }
    }

    /// Where the direct formula would subtract numbers of the size of v, and long before an overflow.
    #[test]
    fn large_variances_keep_their_digits() {
        let mut last = 0.0;
        for exponent in 0..15 {
            let v = 10f64.powi(exponent);
            let u = boundary(v, 0.05, AGREEMENT_V_OPT).unwrap_or(f64::NAN);
            assert!(u > last, "{v}: {u}");
            last = u;
            // Between the law of the iterated logarithm's rate and three times it.
            let normal = (2.0 * v * (3.0 + (v + 10.0).ln() / 2.0)).sqrt();
            assert!(u > 0.8 * normal && u < 3.0 * normal + 5.0, "{v}: {u} {normal}");
        }
    }

    #[test]
    fn merging_adds_up() {
        let (left, right) = (sequence('A', 40), sequence('B', 70));
        let (mut forth, mut back) = (left, right);
        forth.merge(&right);
        back.merge(&left);
        assert_eq!((forth.count(), forth.sum(), forth.variance()), (back.count(), back.sum(), back.variance()));
        assert_eq!((forth.count(), forth.sum()), (110, left.sum() + right.sum()));
    }

    #[test]
    fn nothing_and_nonsense_prove_nothing() {
        let empty = Bernstein::new(1.0);
        assert_eq!(empty.confidence_sequence(0.05, 10.0), (0.0, 1.0));
        let one = of([1.0]);
        assert_eq!(one.confidence_sequence(0.05, 10.0), (0.0, 1.0));
        for alpha in [0.0, 2.0, -1.0, f64::NAN] {
            assert_eq!(sequence('A', 1000).confidence_sequence(alpha, 10.0), (0.0, 1.0));
        }
        assert_eq!(boundary(f64::INFINITY, 0.05, 10.0), None);
        assert_eq!((of([f64::NAN, 7.0]).sum(), of([f64::NAN]).sum()), (1.0, 0.0));
    }
}
