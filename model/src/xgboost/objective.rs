//! The links of XGBoost's objectives: `ProbToMargin` for the base score, `PredTransform` for the output, both in single
//! precision.

/// `kRtEps`: how near to 0 and 1 a base score counts.
const EPSILON: f32 = 1e-6;
/// Beyond it `expf` is infinite.
const MAX_EXPONENT: f32 = 88.7;

/// The links that XGBoost has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Objective {
    /// As it is: regression, ranking, raw logits.
    Identity,
    /// The logistic function, for each output by itself.
    Logistic,
    /// The exponential: poisson, gamma, tweedie.
    Exp,
    /// Over all outputs: multiclass. The base score is a margin.
    Softmax,
}

impl Objective {
    /// Reads `objective.name` of a model that XGBoost `major` wrote, with `classes` as `num_class`; else what would be
    /// expected.
    pub(super) fn parse(name: &str, major: u64, classes: usize) -> Result<Self, &'static str> {
        let objective = match name {
            "binary:logistic" | "reg:logistic" => Self::Logistic,
            // Before 2.0 its base score was a probability.
            "binary:logitraw" if major < 2 => {
                return Err("another objective: XGBoost 1 reads its base score differently");
            }
            "binary:logitraw"
            | "reg:squarederror"
            | "reg:linear"
            | "reg:squaredlogerror"
            | "reg:absoluteerror"
            | "reg:pseudohubererror"
            | "reg:quantileerror"
            | "rank:pairwise"
            | "rank:ndcg"
            | "rank:map" => Self::Identity,
            "count:poisson" | "reg:gamma" | "reg:tweedie" => Self::Exp,
            "multi:softprob" | "multi:softmax" if classes < 2 => return Err("num_class of at least 2 for it"),
            "multi:softprob" | "multi:softmax" => return Ok(Self::Softmax),
            _ => return Err("an objective that is known here"),
        };
        if classes > 1 { Err("num_class 0 or 1 for it") } else { Ok(objective) }
    }

    /// Whether each output is a probability.
    pub(crate) fn is_probability(self) -> bool {
        matches!(self, Self::Logistic | Self::Softmax)
    }

    /// What a sum begins with, for a base score; nothing when the base score is out of the link's range.
    pub(super) fn margin(self, base: f32) -> Option<f32> {
        let margin = match self {
            Self::Identity | Self::Softmax => base,
            Self::Logistic if !(0.0..=1.0).contains(&base) => return None,
            Self::Logistic => -(1.0 / base.clamp(EPSILON, 1.0 - EPSILON) - 1.0).ln(),
            Self::Exp => base.ln(),
        };
        margin.is_finite().then_some(margin)
    }

    /// Converts the margins of one row in place.
    pub(super) fn convert(self, row: &mut [f64]) {
        let each = |row: &mut [f64], change: fn(f32) -> f32| {
            for x in row {
                *x = f64::from(change(*x as f32));
            }
        };
        match self {
            Self::Identity => {}
            Self::Logistic => each(row, sigmoid),
            Self::Exp => each(row, f32::exp),
            Self::Softmax => softmax(row),
        }
    }
}

fn sigmoid(x: f32) -> f32 {
    let exponent = if MAX_EXPONENT < -x { MAX_EXPONENT } else { -x };
    1.0 / (exponent.exp() + 1.0)
}

/// The sum of the exponentials is in double precision, everything else in single.
fn softmax(row: &mut [f64]) {
    let max = row.iter().fold(f32::NEG_INFINITY, |max, x| max.max(*x as f32));
    let mut sum = 0.0;
    for x in &mut *row {
        *x = f64::from((*x as f32 - max).exp());
        sum += *x;
    }
    for x in row {
        *x = f64::from(*x as f32 / sum as f32);
    }
}
