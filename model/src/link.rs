//! How the numbers of a row become a scikit-learn model's output: the inverse link functions, operation by operation.
//!
//! Read at the source of scikit-learn 1.9 (`_loss/link.py`, `utils/extmath.py`, `linear_model/_base.py`), of SciPy's
//! `expit` and of NumPy's sums, and held against them to the bit. The exponential is the C library's, as there: a NumPy
//! on a processor with AVX-512 has one of its own, which may differ in the last bit.

use serde::Deserialize;

/// The conversions that the package format has. `"identity"` and so on in `graph.json`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Link {
    /// As it is.
    #[default]
    Identity,
    /// The logistic function of each number.
    Sigmoid,
    /// Over all numbers: probabilities that add up to 1.
    Softmax,
    /// The second probability of the softmax of two numbers.
    BinarySoftmax,
    /// The logistic function of each number, divided by their sum: one against the rest.
    Ovr,
    /// The exponential of each number.
    Exp,
    /// Ascending: quantiles that may not cross.
    Sort,
}

impl Link {
    /// How many numbers a row has after the conversion of `inputs` numbers; nothing when it cannot convert so many.
    pub(crate) fn outputs(self, inputs: usize) -> Option<usize> {
        match self {
            Self::BinarySoftmax => (inputs == 2).then_some(1),
            _ => Some(inputs),
        }
    }

    /// Whether each number is a probability, whatever went in.
    pub(crate) fn is_probability(self) -> bool {
        matches!(self, Self::Sigmoid | Self::Softmax | Self::BinarySoftmax | Self::Ovr)
    }

    /// Converts the rows from `start` on, `[rows, inputs]`, in place. `inputs` is one that [`outputs`](Link::outputs) takes.
    pub(crate) fn convert(self, values: &mut Vec<f64>, start: usize, inputs: usize) {
        let rows = values[start..].chunks_exact_mut(inputs.max(1));
        match self {
            Self::Identity => {}
            Self::Sigmoid => values[start..].iter_mut().for_each(|x| *x = expit(*x)),
            Self::Exp => values[start..].iter_mut().for_each(|x| *x = x.exp()),
            Self::Softmax => rows.for_each(softmax),
            Self::Sort => rows.for_each(|row| row.sort_unstable_by(f64::total_cmp)),
            Self::Ovr => rows.for_each(|row| {
                for x in &mut *row {
                    *x = expit(*x);
                }
                divide(row);
            }),
            Self::BinarySoftmax => {
                rows.for_each(softmax);
                let count = (values.len() - start) / 2;
                for row in 0..count {
                    values[start + row] = values[start + 2 * row + 1];
                }
                values.truncate(start + count);
            }
        }
    }
}

/// `scipy.special.expit` in doubles.
fn expit(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

/// `sklearn.utils.extmath.softmax` of one row.
fn softmax(row: &mut [f64]) {
    let max = row.iter().copied().fold(f64::NEG_INFINITY, |max, x| if x < max { max } else { x });
    for x in &mut *row {
        *x = (*x - max).exp();
    }
    divide(row);
}

/// Divides a row by its sum.
fn divide(row: &mut [f64]) {
    let sum = sum(row);
    for x in row {
        *x /= sum;
    }
}

/// NumPy's sum of consecutive doubles: from 8 numbers on in eight strands, from 128 on in halves (`pairwise_sum` in
/// `loops_utils.h.src`).
fn sum(values: &[f64]) -> f64 {
    const STRANDS: usize = 8;
    const BLOCK: usize = 128;
    if values.len() < STRANDS {
        return values.iter().fold(0.0, |sum, x| sum + x);
    }
    if values.len() > BLOCK {
        let half = values.len() / 2;
        let (first, rest) = values.split_at(half - half % STRANDS);
        return sum(first) + sum(rest);
    }
    let (blocks, rest) = values.as_chunks::<STRANDS>();
    let mut strands = blocks[0];
    for block in &blocks[1..] {
        for (strand, x) in strands.iter_mut().zip(block) {
            *strand += x;
        }
    }
    let pairs = [0, 2, 4, 6].map(|first| strands[first] + strands[first + 1]);
    let strands = (pairs[0] + pairs[1]) + (pairs[2] + pairs[3]);
    rest.iter().fold(strands, |sum, x| sum + x)
}
