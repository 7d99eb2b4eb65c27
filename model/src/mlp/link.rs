//! From the last layer's numbers to the output, in single precision, as torch does it.

use super::activation::sigmoid;
use super::spec::Link;

impl Link {
    /// Numbers that become of the last layer's.
    pub(super) fn outputs(self, numbers: usize) -> usize {
        if self == Self::BinarySoftmax { 1 } else { numbers }
    }

    /// Appends what becomes of one row's numbers, which are used up.
    pub(super) fn append(self, row: &mut [f32], out: &mut Vec<f64>) {
        match self {
            Self::Identity => {}
            Self::Sigmoid => row.iter_mut().for_each(|x| *x = sigmoid(*x)),
            Self::Softmax | Self::BinarySoftmax => softmax(row),
            Self::Sort => row.sort_unstable_by(f32::total_cmp),
        }
        let from = usize::from(self == Self::BinarySoftmax);
        out.extend(row[from..].iter().map(|x| f64::from(*x)));
    }
}

/// Exponentials of what each is below the greatest, divided by their sum.
fn softmax(row: &mut [f32]) {
    // NaN, once met, stays: so do all probabilities become NaN.
    let greatest = row.iter().fold(f32::NEG_INFINITY, |max, &x| if x < max || max.is_nan() { max } else { x });
    let mut sum = 0.0;
    for x in &mut *row {
        *x = (*x - greatest).exp();
        sum += *x;
    }
    for x in row {
        *x /= sum;
    }
}
