//! The operations on a value. Each does one thing in double precision, as numpy and scikit-learn do it.

use serde::Deserialize;

use super::date::Part;
use super::quantiles::Quantiles;
use crate::json::Number;

/// An operation, as `graph.json` has it.
#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum RawOp {
    Truncate,
    Float,
    IsMissing,
    Fill(Number),
    Missing(Number),
    Equals(Number),
    Add(Number),
    Subtract(Number),
    Multiply(Number),
    Divide(Number),
    Clip(Number, Number),
    Codes(RawCodes),
    Quantiles(RawQuantiles),
    Date(Part),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawQuantiles {
    values: Vec<Number>,
    references: Vec<Number>,
    #[serde(default)]
    normal: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawCodes {
    map: Vec<Number>,
    unseen: Number,
    missing: Number,
}

/// An operation.
#[derive(Debug)]
pub(crate) enum Op {
    Truncate,
    Float,
    IsMissing,
    Fill(f64),
    Missing(f64),
    Equals(f64),
    Add(f64),
    Subtract(f64),
    Multiply(f64),
    Divide(f64),
    Clip(f64, f64),
    Codes(Codes),
    Quantiles(Quantiles),
    Date(Part),
}

/// A number for each code of a category.
#[derive(Debug)]
pub(crate) struct Codes {
    map: Box<[f64]>,
    unseen: f64,
    missing: f64,
}

impl Op {
    /// Checks an operation, or tells what was expected and what came.
    pub(crate) fn new(raw: RawOp) -> Result<Self, (&'static str, String)> {
        Ok(match raw {
            RawOp::Truncate => Self::Truncate,
            RawOp::Float => Self::Float,
            RawOp::IsMissing => Self::IsMissing,
            RawOp::Fill(value) => Self::Fill(value.0),
            RawOp::Missing(value) => Self::Missing(value.0),
            RawOp::Equals(value) => Self::Equals(value.0),
            RawOp::Add(value) => Self::Add(value.0),
            RawOp::Subtract(value) => Self::Subtract(value.0),
            RawOp::Multiply(value) => Self::Multiply(value.0),
            RawOp::Divide(value) if value.0 == 0.0 => return Err(("a divisor other than 0", "0".to_owned())),
            RawOp::Divide(value) => Self::Divide(value.0),
            RawOp::Clip(low, high) if low.0 <= high.0 => Self::Clip(low.0, high.0),
            RawOp::Clip(low, high) => return Err(("clip with low <= high", format!("[{:?}, {:?}]", low.0, high.0))),
            RawOp::Codes(codes) => Self::Codes(Codes {
                map: codes.map.into_iter().map(|number| number.0).collect(),
                unseen: codes.unseen.0,
                missing: codes.missing.0,
            }),
            RawOp::Quantiles(RawQuantiles { values, references, normal }) => {
                let numbers = |list: Vec<Number>| list.into_iter().map(|number| number.0).collect();
                Self::Quantiles(Quantiles::new(numbers(values), numbers(references), normal)?)
            }
            RawOp::Date(part) => Self::Date(part),
        })
    }

    /// By how much it stretches a difference.
    pub(crate) fn stretch(&self) -> f64 {
        match self {
            Self::Multiply(value) => value.abs(),
            Self::Divide(value) => value.abs().recip(),
            _ => 1.0,
        }
    }

    #[inline]
    pub(crate) fn apply(&self, x: f64) -> f64 {
        match self {
            Self::Truncate => x.trunc(),
            Self::Float => f64::from(x as f32),
            Self::IsMissing => f64::from(x.is_nan()),
            Self::Fill(value) => {
                if x.is_nan() {
                    *value
                } else {
                    x
                }
            }
            Self::Missing(value) => {
                if x == *value {
                    f64::NAN
                } else {
                    x
                }
            }
            Self::Equals(value) => f64::from(x == *value),
            Self::Add(value) => x + value,
            Self::Subtract(value) => x - value,
            Self::Multiply(value) => x * value,
            Self::Divide(value) => x / value,
            Self::Clip(low, high) => {
                let x = if x < *low { *low } else { x };
                if x > *high { *high } else { x }
            }
            Self::Codes(codes) => codes.apply(x),
            Self::Quantiles(quantiles) => quantiles.apply(x),
            Self::Date(part) => part.of(x),
        }
    }
}

impl Codes {
    #[inline]
    fn apply(&self, code: f64) -> f64 {
        if code.is_nan() {
            return self.missing;
        }
        // A negative or fractional number is no code.
        let index = code as usize;
        let whole = code >= 0.0 && index as f64 == code;
        self.map.get(index).filter(|_| whole).copied().unwrap_or(self.unseen)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn op(json: &str) -> Op {
        Op::new(serde_json::from_str(json).expect("an operation")).expect("a valid operation")
    }

    #[test]
    fn each_operation_does_what_the_format_says() {
        let nan = f64::NAN;
        let cases = [
            ("\"truncate\"", -3.5, -3.0),
            ("\"truncate\"", nan, nan),
            ("\"float\"", 0.1, f64::from(0.1_f32)),
            ("\"float\"", 1e300, f64::INFINITY),
            ("\"is_missing\"", nan, 1.0),
            ("\"is_missing\"", 0.0, 0.0),
            ("{\"fill\": 7}", nan, 7.0),
            ("{\"fill\": 7}", 1.0, 1.0),
            ("{\"missing\": 0}", -0.0, nan),
            ("{\"missing\": 0}", 2.0, 2.0),
            ("{\"equals\": 0.1}", 0.1, 1.0),
            ("{\"equals\": 0.1}", 0.100_000_000_000_000_02, 0.0),
            ("{\"equals\": 0}", nan, 0.0),
            ("{\"add\": 2}", 1.0, 3.0),
            ("{\"subtract\": 2}", 1.0, -1.0),
            ("{\"multiply\": 2}", 3.0, 6.0),
            ("{\"divide\": 3}", 1.0, 1.0 / 3.0),
            ("{\"clip\": [-1, \"inf\"]}", -2.0, -1.0),
            ("{\"clip\": [-1, 1]}", 2.0, 1.0),
            ("{\"clip\": [-1, 1]}", nan, nan),
            ("{\"codes\": {\"map\": [5, \"nan\"], \"unseen\": -1, \"missing\": 9}}", 0.0, 5.0),
            ("{\"codes\": {\"map\": [5, \"nan\"], \"unseen\": -1, \"missing\": 9}}", 1.0, nan),
            ("{\"codes\": {\"map\": [5], \"unseen\": -1, \"missing\": 9}}", 1.0, -1.0),
            ("{\"codes\": {\"map\": [5], \"unseen\": -1, \"missing\": 9}}", 0.5, -1.0),
            ("{\"codes\": {\"map\": [5], \"unseen\": -1, \"missing\": 9}}", -1.0, -1.0),
            ("{\"codes\": {\"map\": [5], \"unseen\": -1, \"missing\": 9}}", f64::INFINITY, -1.0),
            ("{\"codes\": {\"map\": [5], \"unseen\": -1, \"missing\": 9}}", nan, 9.0),
        ];
        for (json, x, expected) in cases {
            let got = op(json).apply(x);
            assert!(got == expected || (got.is_nan() && expected.is_nan()), "{json} of {x}: {got}, not {expected}");
        }
    }

    #[test]
    fn what_cannot_be_computed_is_refused() {
        for json in ["{\"divide\": 0}", "{\"clip\": [1, 0]}", "{\"clip\": [\"nan\", 0]}"] {
            assert!(Op::new(serde_json::from_str(json).expect("an operation")).is_err(), "{json}");
        }
        for json in ["\"nothing\"", "{\"fill\": \"x\"}", "{\"fill\": 1, \"add\": 2}", "{\"codes\": {\"map\": [1]}}"] {
            assert!(serde_json::from_str::<RawOp>(json).is_err(), "{json}");
        }
    }
}
