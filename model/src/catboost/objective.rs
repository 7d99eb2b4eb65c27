//! How the margins of a row become CatBoost's output: what its `predict` or `predict_proba` gives by default.

use std::sync::LazyLock;

/// The conversions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Objective {
    /// As it is: regression, quantiles.
    Identity,
    /// The exponential: Poisson, Tweedie.
    Exp,
    /// The logistic function of each margin: of the positive class, or one class against all.
    Sigmoid,
    /// Over all outputs.
    Softmax,
}

/// The losses whose output is known.
const EXPECTED: &str = "RMSE, MAE, Quantile, MultiQuantile, MultiRMSE, Expectile, Lq, Huber, LogCosh, MAPE, LogLinQuantile, \
                        Poisson, Tweedie, Logloss, CrossEntropy, MultiClass or MultiClassOneVsAll";

impl Objective {
    /// The conversion of a loss with that many outputs; else what would be expected.
    pub(crate) fn parse(loss: &str, outputs: usize) -> Result<Self, String> {
        let single = |objective| {
            if outputs == 1 { Ok(objective) } else { Err(format!("a loss of {outputs} outputs, or leaves of one")) }
        };
        match loss {
            "RMSE" | "MAE" | "Quantile" | "Expectile" | "Lq" | "Huber" | "LogCosh" | "MAPE" | "LogLinQuantile" => {
                single(Self::Identity)
            }
            "MultiQuantile" | "MultiRMSE" => Ok(Self::Identity),
            "Poisson" | "Tweedie" => single(Self::Exp),
            "Logloss" | "CrossEntropy" => single(Self::Sigmoid),
            "MultiClassOneVsAll" => Ok(Self::Sigmoid),
            "MultiClass" => Ok(Self::Softmax),
            _ => Err(EXPECTED.to_owned()),
        }
    }

    /// Whether each output is a probability.
    pub(crate) fn is_probability(self) -> bool {
        matches!(self, Self::Sigmoid | Self::Softmax)
    }

    /// Converts the margins of one row in place.
    pub(crate) fn convert(self, row: &mut [f64]) {
        match self {
            Self::Identity => {}
            Self::Exp => row.iter_mut().for_each(|x| *x = exp(*x)),
            Self::Sigmoid => row.iter_mut().for_each(|x| *x = 1.0 / (1.0 + (-*x).exp())),
            Self::Softmax => softmax(row),
        }
    }
}

/// `CalcSoftmax`, operation by operation.
fn softmax(row: &mut [f64]) {
    let max = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    // CatBoost takes four at a time, and clips what is too small there instead of taking it as zero.
    let fours = row.len() / 4 * 4;
    let mut sum = 0.0;
    for (index, x) in row.iter_mut().enumerate() {
        *x = if index < fours { exp_clipped(*x - max) } else { exp(*x - max) };
        sum += *x;
    }
    for x in row {
        *x /= sum;
    }
}

/// Entries of the table of [`exp`].
const ENTRIES: usize = 1 << BITS;
const BITS: u32 = 11;
/// Below, the exponential is no normal number.
const LOWEST: f64 = -708.396_418_532_264_1;
/// From here on, it is infinite.
const HIGHEST: f64 = 709.782_712_893_384;

/// The fractions of `2^(i / 2048)`.
static FRACTIONS: LazyLock<Box<[u64]>> = LazyLock::new(|| {
    let fraction = |index: usize| 2_f64.powf(index as f64 / ENTRIES as f64).to_bits() & ((1 << 52) - 1);
    (0..ENTRIES).map(fraction).collect()
});

/// The exponential as CatBoost computes it where it is not the C library's: a power of two by table, and a polynomial
/// for the rest. Its last digits are its own, and so must these be.
fn exp(x: f64) -> f64 {
    if x <= LOWEST {
        0.0
    } else if x >= HIGHEST {
        f64::INFINITY
    } else {
        exp_clipped(x)
    }
}

fn exp_clipped(x: f64) -> f64 {
    /// Adding it leaves the whole part of a number in the low bits.
    const TO_BITS: f64 = (3_u64 << 51) as f64;
    let scale = ENTRIES as f64 / std::f64::consts::LN_2;
    let x = if x < HIGHEST { x } else { HIGHEST };
    let x = if x > LOWEST { x } else { LOWEST };
    let shifted = x * scale + TO_BITS;
    let bits = shifted.to_bits();
    let fraction = FRACTIONS[bits as usize % ENTRIES];
    let exponent = (bits.wrapping_add((1 << (BITS + 10)) - (1 << BITS)) >> BITS) << 52;
    let rest = (shifted - TO_BITS) * (1.0 / scale) - x;
    let polynomial = (3.000_000_002_795_539_4 - rest) * (rest * rest) * 0.166_666_666_852_278_35 - rest + 1.0;
    polynomial * f64::from_bits(exponent | fraction)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exp_is_about_the_exponential() {
        for x in -7080..7090 {
            let x = f64::from(x) / 10.0;
            assert!((exp(x) / x.exp() - 1.0).abs() < 1e-12, "{x}");
        }
        assert_eq!(exp(0.0), 1.0);
        assert_eq!(exp(-709.0), 0.0);
        assert_eq!(exp(f64::NEG_INFINITY), 0.0);
        assert_eq!(exp(710.0), f64::INFINITY);
        assert_eq!(exp_clipped(-1000.0), f64::MIN_POSITIVE);
    }
}
