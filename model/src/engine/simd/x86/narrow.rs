//! AVX-512 on registers of 256 bits: a block of few rows costs half of what it costs in registers of 512.

#[allow(clippy::wildcard_imports, reason = "intrinsics carry their own prefix")]
use std::arch::x86_64::*;

use super::{Avx2, Avx512, leaves, transpose};
use crate::engine::simd::{GROUP, Simd, Work, add};

/// Proof of what [`Avx512`] proves.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Narrow(pub(super) Avx512);

impl Narrow {
    /// The same on registers of 512 bits.
    pub(in crate::engine::simd) fn wide(self) -> Avx512 {
        self.0
    }

    #[inline(always)]
    fn half(self) -> Avx2 {
        self.0.avx2()
    }
}

impl Simd for Narrow {
    type Mask = __m256i;
    type Words = [u64; 4];
    const WORDS: usize = 4;
    const FUSED: bool = true;

    #[inline(always)]
    fn words(self, memory: &[u64]) -> &[[u64; 4]] {
        self.half().words(memory)
    }

    #[inline(always)]
    fn words_mut(self, memory: &mut [u64]) -> &mut [[u64; 4]] {
        self.half().words_mut(memory)
    }

    #[inline(always)]
    fn load(self, from: &[u64; 4]) -> __m256i {
        self.half().load(from)
    }

    #[inline(always)]
    fn store(self, mask: __m256i, to: &mut [u64; 4]) {
        self.half().store(mask, to);
    }

    #[inline(always)]
    fn splat(self, bit: bool) -> __m256i {
        self.half().splat(bit)
    }

    #[inline(always)]
    fn and(self, a: __m256i, b: __m256i) -> __m256i {
        self.half().and(a, b)
    }

    #[inline(always)]
    fn and_not(self, a: __m256i, b: __m256i) -> __m256i {
        self.half().and_not(a, b)
    }

    #[inline(always)]
    fn or(self, a: __m256i, b: __m256i) -> __m256i {
        self.half().or(a, b)
    }

    #[inline(always)]
    fn xor(self, a: __m256i, b: __m256i) -> __m256i {
        self.half().xor(a, b)
    }

    #[inline(always)]
    fn transpose(self, planes: &[[u64; 4]], numbers: &mut [u8]) {
        transpose(self.0, planes, numbers);
    }

    #[inline(always)]
    fn add<const N: usize>(self, leaves: &[[f64; N]; GROUP], numbers: &[u8], sums: &mut [f64]) {
        if N > leaves::MAX_LEAVES {
            add(leaves, numbers, 64 * Self::WORDS, sums);
        } else {
            leaves::add(self.0, leaves, numbers, sums);
        }
    }

    #[inline(always)]
    fn add_single<const N: usize>(self, leaves: &[[f32; N]; GROUP], numbers: &[u8], sums: &mut [f32]) {
        if N > leaves::MAX_LEAVES {
            add(leaves, numbers, 64 * Self::WORDS, sums);
        } else {
            leaves::add_single(self.0, leaves, numbers, sums);
        }
    }

    #[inline(always)]
    fn run(self, work: impl Work) {
        #[target_feature(enable = "avx2,fma,bmi1,bmi2,lzcnt,popcnt,avx512f,avx512bw,avx512cd,avx512dq,avx512vl")]
        fn inside(simd: Narrow, work: impl Work) {
            work.run(simd);
        }
        // SAFETY: `self` proves these features.
        unsafe { inside(self, work) }
    }
}
