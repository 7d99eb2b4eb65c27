//! Column operation `quantiles`: scikit-learn's `QuantileTransformer`, with its arithmetic, to the bit.
//!
//! Read at the source of scikit-learn 1.9 (`QuantileTransformer._transform_col`), NumPy 2 (`np.interp`) and SciPy 1.17
//! (`scipy.stats.norm.ppf`: `ndtri` of S. L. Moshier's Cephes library).

/// scikit-learn's `BOUNDS_THRESHOLD`: so near to the ends, a value of a normal distribution counts as beyond.
const NEAR: f64 = 1e-7;

/// A column's quantiles in the training data, and where they are sent.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Quantiles {
    /// Ascending, some perhaps equal, finite.
    values: Vec<f64>,
    /// As many, ascending, within [0, 1].
    references: Vec<f64>,
    /// Whether the result is a normal distribution's quantile, and not the share itself.
    normal: bool,
    /// The least and greatest result with `normal`.
    clip: (f64, f64),
}

impl Quantiles {
    /// Checks the numbers, or tells what was expected and what came: as many references as values, at least one, all
    /// finite and ascending, the references within [0, 1].
    pub(crate) fn new(values: Vec<f64>, references: Vec<f64>, normal: bool) -> Result<Self, (&'static str, String)> {
        if values.is_empty() || values.len() != references.len() {
            let got = format!("{} values and {} references", values.len(), references.len());
            return Err(("quantiles with at least one value, and as many references", got));
        }
        for (numbers, low, high, expected) in [
            (&values, f64::MIN, f64::MAX, "quantiles with finite ascending values"),
            (&references, 0.0, 1.0, "quantiles with ascending references within [0, 1]"),
        ] {
            let mut least = low;
            for (index, &number) in numbers.iter().enumerate() {
                if !(least..=high).contains(&number) {
                    return Err((expected, format!("{number:?} at {index}, after {least:?}")));
                }
                least = number;
            }
        }
        let clip = (normal_quantile(NEAR - f64::EPSILON), normal_quantile(1.0 - (NEAR - f64::EPSILON)));
        Ok(Self { values, references, normal, clip })
    }

    /// Where a value is sent. NaN stays.
    pub(crate) fn apply(&self, x: f64) -> f64 {
        if x.is_nan() {
            return x;
        }
        let (first, last) = (self.values[0], self.values[self.values.len() - 1]);
        let (below, above) = if self.normal { (x - NEAR < first, x + NEAR > last) } else { (x == first, x == last) };
        let share = if below {
            0.0
        } else if above {
            1.0
        } else {
            0.5 * (self.upward(x) + self.downward(x))
        };
        if !self.normal {
            share
        } else if !(0.0..=1.0).contains(&share) {
            // Rounded past an end, between values that are very far apart. SciPy gives NaN.
            f64::NAN
        } else if share < NEAR - f64::EPSILON {
            self.clip.0
        } else {
            normal_quantile(share).clamp(self.clip.0, self.clip.1)
        }
    }

    /// `np.interp(x, values, references)`: on from the last value that is not above `x`.
    fn upward(&self, x: f64) -> f64 {
        let after = self.values.partition_point(|&value| value <= x);
        let Some(at) = after.checked_sub(1) else { return self.references[0] };
        self.interpolate(x, at, after)
    }

    /// `-np.interp(-x, -values[::-1], -references[::-1])`: back from the first value that is not below `x`.
    fn downward(&self, x: f64) -> f64 {
        let at = self.values.partition_point(|&value| value < x);
        if at == self.values.len() {
            return self.references[at - 1];
        }
        // Before the first value there is none: the index wraps to one that is not there.
        self.interpolate(x, at, at.wrapping_sub(1))
    }

    /// From the point `at` toward the point `next`, if there is one.
    fn interpolate(&self, x: f64, at: usize, next: usize) -> f64 {
        let (value, reference) = (self.values[at], self.references[at]);
        let (Some(&next_value), Some(&next_reference)) = (self.values.get(next), self.references.get(next)) else {
            return reference;
        };
        if value == x {
            return reference;
        }
        let slope = (next_reference - reference) / (next_value - value);
        let mut y = slope * (x - value) + reference;
        // Values so far apart that their difference is infinite: NumPy tries from the other end.
        if y.is_nan() {
            y = slope * (x - next_value) + next_reference;
            if y.is_nan() && reference == next_reference {
                y = reference;
            }
        }
        y
    }
}

/// exp(-2): between it and its complement Cephes has one approximation, outside another.
const TAIL: f64 = 0.135_335_283_236_612_7;
/// sqrt(2 pi)
const SQRT_2_PI: f64 = 2.506_628_274_631_000_7;

/// Cephes' coefficients for the middle, by falling power, the last one for power 0; of `MIDDLE_Q` and `TAIL_Q` the
/// leading 1 is not written.
const MIDDLE_P: [f64; 5] = [
    -5.996_335_010_141_079E1,
    9.800_107_541_859_997E1,
    -5.667_628_574_690_703E1,
    1.393_126_093_872_796_8E1,
    -1.239_165_838_673_812_5,
];
const MIDDLE_Q: [f64; 8] = [
    1.954_488_583_381_417_6,
    4.676_279_128_988_815,
    8.636_024_213_908_905E1,
    -2.254_626_878_541_193_6E2,
    2.002_602_123_800_606_6E2,
    -8.203_722_561_683_334E1,
    1.590_562_251_262_117E1,
    -1.183_316_211_213_3,
];
/// The same for the tails down to exp(-32). Beyond there is a third pair: results so far out are clipped here.
const TAIL_P: [f64; 9] = [
    4.055_448_923_059_624_5,
    3.152_510_945_998_938_8E1,
    5.716_281_922_464_213E1,
    4.408_050_738_932_008E1,
    1.468_495_619_288_580_3E1,
    2.186_633_068_507_902_7,
    -1.402_560_791_713_545E-1,
    -3.504_246_268_278_482E-2,
    -8.574_567_851_546_854E-4,
];
const TAIL_Q: [f64; 8] = [
    1.577_998_832_564_667_5E1,
    4.539_076_351_288_792E1,
    4.131_720_382_546_72E1,
    1.504_253_856_929_075E1,
    2.504_649_462_083_094,
    -1.421_829_228_547_877_9E-1,
    -3.808_064_076_915_783E-2,
    -9.332_594_808_954_574E-4,
];

/// The normal distribution's quantile of a share from 1.3e-14 to 1: SciPy's `norm.ppf`. No fused operations: SciPy is
/// built without.
fn normal_quantile(share: f64) -> f64 {
    if share == 1.0 {
        return f64::INFINITY;
    }
    let upper = share > 1.0 - TAIL;
    let y = if upper { 1.0 - share } else { share };
    if y > TAIL {
        let y = y - 0.5;
        let square = y * y;
        let x = y + y * (square * horner(0.0, &MIDDLE_P, square) / horner(1.0, &MIDDLE_Q, square));
        return x * SQRT_2_PI;
    }
    let x = (-2.0 * y.ln()).sqrt();
    let inverse = 1.0 / x;
    let x = x - x.ln() / x - inverse * horner(0.0, &TAIL_P, inverse) / horner(1.0, &TAIL_Q, inverse);
    if upper { x } else { -x }
}

/// A polynomial after its leading coefficient, by falling power.
fn horner(leading: f64, coefficients: &[f64], x: f64) -> f64 {
    coefficients.iter().fold(leading, |sum, coefficient| sum * x + coefficient)
}

#[cfg(test)]
mod tests;
