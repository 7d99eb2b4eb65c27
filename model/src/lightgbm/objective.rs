//! How the margins of a row become LightGBM's output: `ConvertOutput` of its objectives.

/// The conversions that LightGBM has.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Objective {
    /// As it is: regression, ranking, custom objectives.
    Identity,
    /// The square with the margin's sign: regression on the square root.
    SignedSquare,
    /// The exponential: poisson, gamma, tweedie.
    Exp,
    /// The logistic function, for each output by itself: binary, cross entropy, one against all.
    Sigmoid { scale: f64 },
    /// Over all outputs: multiclass.
    Softmax,
    /// The intensity of `cross_entropy_lambda`, at least 0 and not a probability.
    LogExp,
}

impl Objective {
    /// Reads the header's `objective`, for a model with that many outputs; else what would be expected.
    pub(crate) fn parse(text: &str, outputs: usize) -> Result<Self, String> {
        let mut words = text.split(' ').filter(|word| !word.is_empty());
        let name = words.next().unwrap_or_default();
        let options: Vec<&str> = words.collect();
        let option = |key: &str| options.iter().find_map(|option| option.strip_prefix(key)?.strip_prefix(':'));
        let single = |objective| {
            if outputs == 1 { Ok(objective) } else { Err(format!("one output for {name}")) }
        };
        let scale = || match option("sigmoid").and_then(atof) {
            Some(scale) if scale > 0.0 && scale.is_finite() => Ok(scale),
            _ => Err("sigmoid:<a number greater than 0>".to_owned()),
        };
        match name {
            "binary" => single(Self::Sigmoid { scale: scale()? }),
            "cross_entropy" => single(Self::Sigmoid { scale: 1.0 }),
            "cross_entropy_lambda" => single(Self::LogExp),
            "multiclass" | "multiclassova" => {
                if option("num_class").and_then(|count| count.parse().ok()) != Some(outputs) {
                    return Err(format!("num_class:{outputs}"));
                }
                Ok(if name == "multiclass" { Self::Softmax } else { Self::Sigmoid { scale: scale()? } })
            }
            // These pass `sqrt` on; huber and poisson warn and ignore it.
            "regression" | "regression_l1" | "fair" | "quantile" | "mape" if options.contains(&"sqrt") => {
                single(Self::SignedSquare)
            }
            "regression" | "regression_l1" | "fair" | "quantile" | "mape" | "huber" | "lambdarank" | "rank_xendcg" => {
                single(Self::Identity)
            }
            "poisson" | "gamma" | "tweedie" => single(Self::Exp),
            "custom" | "none" | "null" | "na" => Ok(Self::Identity),
            _ => Err("an objective that is known here".to_owned()),
        }
    }

    /// Whether each output is a probability.
    pub(crate) fn is_probability(self) -> bool {
        matches!(self, Self::Sigmoid { .. } | Self::Softmax)
    }

    /// Converts the margins of one row in place.
    pub(crate) fn convert(self, row: &mut [f64]) {
        match self {
            Self::Identity => {}
            Self::SignedSquare => row.iter_mut().for_each(|x| *x = sign(*x) * *x * *x),
            Self::Exp => row.iter_mut().for_each(|x| *x = x.exp()),
            Self::Sigmoid { scale } => row.iter_mut().for_each(|x| *x = 1.0 / (1.0 + (-scale * *x).exp())),
            Self::Softmax => softmax(row),
            Self::LogExp => row.iter_mut().for_each(|x| *x = x.exp().ln_1p()),
        }
    }
}

/// `Common::Sign`: 0 for zero, which `f64::signum` does not give.
fn sign(x: f64) -> f64 {
    f64::from(i8::from(x > 0.0) - i8::from(x < 0.0))
}

/// `Common::Softmax`, operation by operation.
fn softmax(row: &mut [f64]) {
    let max = row.iter().copied().fold(f64::NEG_INFINITY, |max, x| if x < max { max } else { x });
    let mut sum = 0.0;
    for x in &mut *row {
        *x = (*x - max).exp();
        sum += *x;
    }
    for x in row {
        *x /= sum;
    }
}

/// `Common::Atof`, which reads the header's options and does not round correctly: 1.1 is 1 + 1/10 in doubles.
fn atof(text: &str) -> Option<f64> {
    let (mantissa, exponent) = match text.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, exponent.parse::<i32>().ok()?),
        None => (text, 0),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = |text: &str| {
        text.bytes().try_fold(0.0, |value, byte| byte.is_ascii_digit().then(|| value * 10.0 + f64::from(byte - b'0')))
    };
    // LightGBM prints six digits: beyond 22 decimals a power of ten is no longer exact, and nobody needs one.
    if whole.len() + fraction.len() == 0 || fraction.len() > 22 || exponent.abs() > 22 {
        return None;
    }
    let value = digits(whole)? + digits(fraction)? / 10_f64.powi(fraction.len() as i32);
    let scale = 10_f64.powi(exponent.abs());
    Some(if exponent < 0 { value / scale } else { value * scale })
}
