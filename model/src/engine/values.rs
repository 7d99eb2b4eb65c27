//! The leaves' values and their sums, in the precision in which the source library adds.

use std::fmt::Debug;
use std::ops::{Add, AddAssign};

use super::ensemble::Precision;
use super::simd::{GROUP, Simd};

/// A number of one precision, which doubles hold exactly.
pub(super) trait Number: Debug + Copy + Add<Output = Self> + AddAssign + Default {
    /// The number that a double holds.
    fn of(x: f64) -> Self;
    fn double(self) -> f64;
    /// [`Simd::add`] or [`Simd::add_single`].
    fn add_group<S: Simd, const N: usize>(simd: S, leaves: &[[Self; N]; GROUP], numbers: &[u8], sums: &mut [Self]);
}

impl Number for f64 {
    #[inline(always)]
    fn of(x: f64) -> Self {
        x
    }

    #[inline(always)]
    fn double(self) -> f64 {
        self
    }

    #[inline(always)]
    fn add_group<S: Simd, const N: usize>(simd: S, leaves: &[[Self; N]; GROUP], numbers: &[u8], sums: &mut [Self]) {
        simd.add(leaves, numbers, sums);
    }
}

impl Number for f32 {
    #[inline(always)]
    fn of(x: f64) -> Self {
        x as Self
    }

    #[inline(always)]
    fn double(self) -> f64 {
        f64::from(self)
    }

    #[inline(always)]
    fn add_group<S: Simd, const N: usize>(simd: S, leaves: &[[Self; N]; GROUP], numbers: &[u8], sums: &mut [Self]) {
        simd.add_single(leaves, numbers, sums);
    }
}

/// Values of leaves.
#[derive(Debug)]
pub(super) enum Values {
    Double(Vec<f64>),
    Single(Vec<f32>),
}

impl Values {
    /// The values in the precision of the sums.
    pub(super) fn new(values: Vec<f64>, sum: Precision) -> Self {
        match sum {
            Precision::Double => Self::Double(values),
            Precision::Single => Self::Single(values.into_iter().map(|value| value as f32).collect()),
        }
    }

    /// Bytes on the heap.
    pub(super) fn bytes(&self) -> usize {
        match self {
            Self::Double(values) => size_of_val(&values[..]),
            Self::Single(values) => size_of_val(&values[..]),
        }
    }
}

/// Adds the trees' leaves to the outputs of a row.
#[inline]
pub(super) fn sum<T: Number>(found: &[f64], out: &mut [f64]) {
    if let [out] = out {
        let mut sum = T::of(*out);
        for leaf in found {
            sum += T::of(*leaf);
        }
        *out = sum.double();
        return;
    }
    for leaves in found.chunks_exact(out.len()) {
        for (out, leaf) in out.iter_mut().zip(leaves) {
            *out = (T::of(*out) + T::of(*leaf)).double();
        }
    }
}
