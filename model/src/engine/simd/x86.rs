//! AVX2 and AVX-512.
#![expect(unsafe_code, reason = "instructions that only some processors have, behind values that prove they are there")]

use std::arch::is_x86_feature_detected;
#[allow(clippy::wildcard_imports, reason = "intrinsics carry their own prefix")]
use std::arch::x86_64::*;

use super::{GROUP, Simd, Work};

mod leaves;
mod narrow;

pub(crate) use narrow::Narrow;

/// Proof that the processor has AVX2, FMA, BMI1, BMI2, LZCNT and POPCNT (x86-64-v3).
#[derive(Debug, Clone, Copy)]
pub(crate) struct Avx2(());

/// Proof that the processor has AVX-512 F, BW, CD, DQ, VL and what [`Avx2`] proves.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Avx512(());

impl Avx2 {
    pub(super) fn detect() -> Option<Self> {
        let has = is_x86_feature_detected!("avx2")
            && is_x86_feature_detected!("fma")
            && is_x86_feature_detected!("bmi1")
            && is_x86_feature_detected!("bmi2")
            && is_x86_feature_detected!("lzcnt")
            && is_x86_feature_detected!("popcnt");
        has.then_some(Self(()))
    }
}

impl Avx512 {
    pub(super) fn detect() -> Option<Self> {
        let has = Avx2::detect().is_some()
            && is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512cd")
            && is_x86_feature_detected!("avx512dq")
            && is_x86_feature_detected!("avx512vl");
        has.then_some(Self(()))
    }
}

impl Simd for Avx2 {
    type Mask = __m256i;
    type Words = [u64; 4];
    const WORDS: usize = 4;
    const FUSED: bool = true;

    #[inline(always)]
    fn words(self, memory: &[u64]) -> &[[u64; 4]] {
        memory.as_chunks().0
    }

    #[inline(always)]
    fn words_mut(self, memory: &mut [u64]) -> &mut [[u64; 4]] {
        memory.as_chunks_mut().0
    }

    #[inline(always)]
    fn load(self, from: &[u64; 4]) -> __m256i {
        // SAFETY: `self` proves AVX2; an unaligned load of the 32 bytes that are borrowed.
        unsafe { _mm256_loadu_si256(from.as_ptr().cast()) }
    }

    #[inline(always)]
    fn store(self, mask: __m256i, to: &mut [u64; 4]) {
        // SAFETY: `self` proves AVX2; an unaligned store to the 32 bytes that are borrowed.
        unsafe { _mm256_storeu_si256(to.as_mut_ptr().cast(), mask) }
    }

    #[inline(always)]
    fn splat(self, bit: bool) -> __m256i {
        // SAFETY: `self` proves AVX2.
        unsafe { _mm256_set1_epi64x(if bit { -1 } else { 0 }) }
    }

    #[inline(always)]
    fn and(self, a: __m256i, b: __m256i) -> __m256i {
        // SAFETY: `self` proves AVX2.
        unsafe { _mm256_and_si256(a, b) }
    }

    #[inline(always)]
    fn and_not(self, a: __m256i, b: __m256i) -> __m256i {
        // SAFETY: `self` proves AVX2.
        unsafe { _mm256_andnot_si256(b, a) }
    }

    #[inline(always)]
    fn or(self, a: __m256i, b: __m256i) -> __m256i {
        // SAFETY: `self` proves AVX2.
        unsafe { _mm256_or_si256(a, b) }
    }

    #[inline(always)]
    fn xor(self, a: __m256i, b: __m256i) -> __m256i {
        // SAFETY: `self` proves AVX2.
        unsafe { _mm256_xor_si256(a, b) }
    }

    #[inline(always)]
    fn transpose(self, planes: &[[u64; 4]], numbers: &mut [u8]) {
        let numbers = numbers.as_chunks_mut::<32>().0;
        for (half, numbers) in numbers.iter_mut().enumerate() {
            // SAFETY: `self` proves AVX2; the store is to the 32 bytes that are borrowed.
            unsafe {
                // Byte i of a lane looks at bit i % 8 of the word's byte i / 8.
                let spread = _mm256_setr_epi64x(0, 0x0101_0101_0101_0101, 0x0202_0202_0202_0202, 0x0303_0303_0303_0303);
                let bit = _mm256_set1_epi64x(0x8040_2010_0804_0201_u64 as i64);
                let mut sum = _mm256_setzero_si256();
                for plane in planes.iter().rev() {
                    let word = (plane[half / 2] >> (32 * (half % 2))) as i32;
                    let bytes = _mm256_shuffle_epi8(_mm256_set1_epi32(word), spread);
                    let set = _mm256_cmpeq_epi8(_mm256_and_si256(bytes, bit), bit);
                    // Twice the sum, and one more where the bit is set: `set` is -1 there.
                    sum = _mm256_sub_epi8(_mm256_add_epi8(sum, sum), set);
                }
                _mm256_storeu_si256(numbers.as_mut_ptr().cast(), sum);
            }
        }
    }

    #[inline(always)]
    fn run(self, work: impl Work) {
        #[target_feature(enable = "avx2,fma,bmi1,bmi2,lzcnt,popcnt")]
        fn inside(simd: Avx2, work: impl Work) {
            work.run(simd);
        }
        // SAFETY: `self` proves these features.
        unsafe { inside(self, work) }
    }
}

impl Simd for Avx512 {
    type Mask = __m512i;
    type Words = [u64; 8];
    const WORDS: usize = 8;
    const FUSED: bool = true;

    #[inline(always)]
    fn words(self, memory: &[u64]) -> &[[u64; 8]] {
        memory.as_chunks().0
    }

    #[inline(always)]
    fn words_mut(self, memory: &mut [u64]) -> &mut [[u64; 8]] {
        memory.as_chunks_mut().0
    }

    #[inline(always)]
    fn load(self, from: &[u64; 8]) -> __m512i {
        // SAFETY: `self` proves AVX-512; an unaligned load of the 64 bytes that are borrowed.
        unsafe { _mm512_loadu_si512(from.as_ptr().cast()) }
    }

    #[inline(always)]
    fn store(self, mask: __m512i, to: &mut [u64; 8]) {
        // SAFETY: `self` proves AVX-512; an unaligned store to the 64 bytes that are borrowed.
        unsafe { _mm512_storeu_si512(to.as_mut_ptr().cast(), mask) }
    }

    #[inline(always)]
    fn splat(self, bit: bool) -> __m512i {
        // SAFETY: `self` proves AVX-512.
        unsafe { _mm512_set1_epi64(if bit { -1 } else { 0 }) }
    }

    #[inline(always)]
    fn and(self, a: __m512i, b: __m512i) -> __m512i {
        // SAFETY: `self` proves AVX-512.
        unsafe { _mm512_and_si512(a, b) }
    }

    #[inline(always)]
    fn and_not(self, a: __m512i, b: __m512i) -> __m512i {
        // SAFETY: `self` proves AVX-512.
        unsafe { _mm512_andnot_si512(b, a) }
    }

    #[inline(always)]
    fn or(self, a: __m512i, b: __m512i) -> __m512i {
        // SAFETY: `self` proves AVX-512.
        unsafe { _mm512_or_si512(a, b) }
    }

    #[inline(always)]
    fn xor(self, a: __m512i, b: __m512i) -> __m512i {
        // SAFETY: `self` proves AVX-512.
        unsafe { _mm512_xor_si512(a, b) }
    }

    #[inline(always)]
    fn transpose(self, planes: &[[u64; 8]], numbers: &mut [u8]) {
        transpose(self, planes, numbers);
    }

    #[inline(always)]
    fn add<const N: usize>(self, leaves: &[[f64; N]; GROUP], numbers: &[u8], sums: &mut [f64]) {
        if N > leaves::MAX_LEAVES {
            super::add(leaves, numbers, 64 * Self::WORDS, sums);
        } else {
            leaves::add(self, leaves, numbers, sums);
        }
    }

    #[inline(always)]
    fn add_single<const N: usize>(self, leaves: &[[f32; N]; GROUP], numbers: &[u8], sums: &mut [f32]) {
        if N > leaves::MAX_LEAVES {
            super::add(leaves, numbers, 64 * Self::WORDS, sums);
        } else {
            leaves::add_single(self, leaves, numbers, sums);
        }
    }

    #[inline(always)]
    fn run(self, work: impl Work) {
        #[target_feature(enable = "avx2,fma,bmi1,bmi2,lzcnt,popcnt,avx512f,avx512bw,avx512cd,avx512dq,avx512vl")]
        fn inside(simd: Avx512, work: impl Work) {
            work.run(simd);
        }
        // SAFETY: `self` proves these features.
        unsafe { inside(self, work) }
    }
}

impl Avx512 {
    /// What it proves besides.
    #[inline(always)]
    #[expect(clippy::unused_self, reason = "it is the proof that the processor has the instructions")]
    fn avx2(self) -> Avx2 {
        Avx2(())
    }

    /// The same on registers of 256 bits.
    pub(super) fn narrow(self) -> Narrow {
        Narrow(self)
    }
}

/// Brings a cache line to the nearest cache; nothing if the address is none.
#[inline(always)]
pub(super) fn prefetch(address: *const i8) {
    // SAFETY: every x86-64 processor has the instruction; it neither reads nor faults, whatever the address.
    unsafe { _mm_prefetch::<_MM_HINT_T0>(address) }
}

/// [`Simd::transpose`] for 256 or 512 rows.
#[inline(always)]
fn transpose<const WORDS: usize>(_: Avx512, planes: &[[u64; WORDS]], numbers: &mut [u8]) {
    for (word, numbers) in numbers.as_chunks_mut::<64>().0.iter_mut().enumerate().take(WORDS) {
        // SAFETY: the value proves AVX-512 BW; the store is to the 64 bytes that are borrowed.
        unsafe {
            let mut sum = _mm512_setzero_si512();
            for (index, plane) in planes.iter().enumerate() {
                sum = _mm512_mask_add_epi8(sum, plane[word], sum, _mm512_set1_epi8((1_u8 << index) as i8));
            }
            _mm512_storeu_si512(numbers.as_mut_ptr().cast(), sum);
        }
    }
}
