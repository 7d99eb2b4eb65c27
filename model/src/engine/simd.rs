//! What the processor has, chosen when a model is loaded.
//!
//! A kernel is written once over [`Simd`] and compiled once for each tier. The values of this trait are proofs: one of
//! [`Avx2`] or [`Avx512`] exists only where the processor has the instructions, so that calling them is safe. The portable
//! tier is plain Rust; the tests hold the others against it.

use std::fmt::Debug;
use std::ops::AddAssign;

/// Doubles of 64 bits in a row of a table: a cache line is 8.
pub(super) const ROW: usize = 64;

/// Trees whose leaves are added in one pass over the rows of a block.
pub(super) const GROUP: usize = 8;

/// Words that lie as the widest registers want them.
#[derive(Debug, Clone, Copy)]
#[repr(align(64))]
pub(super) struct Row(pub(super) [u64; ROW]);

/// Work that a tier is to do: compiled for each.
pub(crate) trait Work {
    fn run<S: Simd>(self, simd: S);
}

/// The instructions of a tier, on registers of bits: one bit for each of `64 * WORDS` rows or leaves.
pub(crate) trait Simd: Debug + Copy + Send + Sync {
    /// A register.
    type Mask: Copy;
    /// A register in memory.
    type Words: Debug + Copy + AsRef<[u64]> + AsMut<[u64]>;
    /// 64-bit words of a register.
    const WORDS: usize;
    /// Whether a product and a sum are one instruction, rounded once (`mul_add`); else that is slow.
    const FUSED: bool;

    /// Memory as registers; what is left over is not there.
    fn words(self, memory: &[u64]) -> &[Self::Words];
    fn words_mut(self, memory: &mut [u64]) -> &mut [Self::Words];
    fn load(self, from: &Self::Words) -> Self::Mask;
    fn store(self, mask: Self::Mask, to: &mut Self::Words);
    /// All bits set to one value.
    fn splat(self, bit: bool) -> Self::Mask;
    fn and(self, a: Self::Mask, b: Self::Mask) -> Self::Mask;
    /// `a & !b`.
    fn and_not(self, a: Self::Mask, b: Self::Mask) -> Self::Mask;
    fn or(self, a: Self::Mask, b: Self::Mask) -> Self::Mask;
    fn xor(self, a: Self::Mask, b: Self::Mask) -> Self::Mask;
    /// Writes for each row a number: bit `i` of it is the row's bit in `planes[i]`. At most 8 planes; `numbers` holds
    /// `64 * WORDS` bytes.
    fn transpose(self, planes: &[Self::Words], numbers: &mut [u8]);
    /// Adds to the sum of each row the leaves that it reaches in a group's trees, in their order. `numbers`: for each tree
    /// the leaves' numbers of `64 * WORDS` rows, each below `N`; there are at most as many `sums`. `N` is a power of two.
    #[inline(always)]
    fn add<const N: usize>(self, leaves: &[[f64; N]; GROUP], numbers: &[u8], sums: &mut [f64]) {
        add(leaves, numbers, 64 * Self::WORDS, sums);
    }
    /// As [`add`](Simd::add), in single precision.
    #[inline(always)]
    fn add_single<const N: usize>(self, leaves: &[[f32; N]; GROUP], numbers: &[u8], sums: &mut [f32]) {
        add(leaves, numbers, 64 * Self::WORDS, sums);
    }
    /// Runs the work with the tier's instructions.
    fn run(self, work: impl Work);
}

/// A tier that this processor has.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Tier {
    Portable,
    #[cfg(target_arch = "x86_64")]
    Avx2(x86::Avx2),
    /// On registers of 256 bits.
    #[cfg(target_arch = "x86_64")]
    Narrow(x86::Narrow),
    #[cfg(target_arch = "x86_64")]
    Avx512(x86::Avx512),
}

impl Tier {
    /// The tiers of this processor, the best one last.
    pub(crate) fn all() -> Vec<Self> {
        let tiers = std::iter::once(Self::Portable);
        #[cfg(target_arch = "x86_64")]
        let tiers = {
            let (avx2, avx512) = (x86::Avx2::detect().map(Self::Avx2), x86::Avx512::detect().map(Self::Avx512));
            tiers.chain(avx2).chain(avx512.map(Self::narrow)).chain(avx512)
        };
        tiers.collect()
    }

    /// The best one.
    pub(crate) fn best() -> Self {
        Self::all().pop().unwrap_or(Self::Portable)
    }

    /// The tier for blocks of few rows: of shorter registers, if there is one.
    pub(super) fn narrow(self) -> Self {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Avx512(simd) => Self::Narrow(simd.narrow()),
            other => other,
        }
    }

    /// What adding a leaf to a row's sum costs in a block, about, in cycles of a core.
    pub(super) fn leaf(self) -> f64 {
        match self {
            Self::Portable => 2.0,
            #[cfg(target_arch = "x86_64")]
            Self::Avx2(_) => 1.4,
            #[cfg(target_arch = "x86_64")]
            Self::Narrow(_) | Self::Avx512(_) => 0.5,
        }
    }

    /// Words of a register.
    pub(super) fn width(self) -> usize {
        match self {
            Self::Portable => Portable::WORDS,
            #[cfg(target_arch = "x86_64")]
            Self::Avx2(_) => x86::Avx2::WORDS,
            #[cfg(target_arch = "x86_64")]
            Self::Narrow(_) => x86::Narrow::WORDS,
            #[cfg(target_arch = "x86_64")]
            Self::Avx512(_) => x86::Avx512::WORDS,
        }
    }

    pub(crate) fn run(self, work: impl Work) {
        match self {
            Self::Portable => Portable.run(work),
            #[cfg(target_arch = "x86_64")]
            Self::Avx2(simd) => simd.run(work),
            #[cfg(target_arch = "x86_64")]
            Self::Narrow(simd) => simd.run(work),
            #[cfg(target_arch = "x86_64")]
            Self::Avx512(simd) => simd.run(work),
        }
    }
}

/// Plain Rust: what any processor does.
#[derive(Debug, Clone, Copy)]
pub(super) struct Portable;

impl Simd for Portable {
    type Mask = [u64; 4];
    type Words = [u64; 4];
    const WORDS: usize = 4;
    const FUSED: bool = cfg!(any(target_feature = "fma", target_arch = "aarch64"));

    #[inline(always)]
    fn words(self, memory: &[u64]) -> &[[u64; 4]] {
        memory.as_chunks().0
    }

    #[inline(always)]
    fn words_mut(self, memory: &mut [u64]) -> &mut [[u64; 4]] {
        memory.as_chunks_mut().0
    }

    #[inline(always)]
    fn load(self, from: &[u64; 4]) -> [u64; 4] {
        *from
    }

    #[inline(always)]
    fn store(self, mask: [u64; 4], to: &mut [u64; 4]) {
        *to = mask;
    }

    #[inline(always)]
    fn splat(self, bit: bool) -> [u64; 4] {
        [if bit { u64::MAX } else { 0 }; 4]
    }

    #[inline(always)]
    fn and(self, a: [u64; 4], b: [u64; 4]) -> [u64; 4] {
        [a[0] & b[0], a[1] & b[1], a[2] & b[2], a[3] & b[3]]
    }

    #[inline(always)]
    fn and_not(self, a: [u64; 4], b: [u64; 4]) -> [u64; 4] {
        [a[0] & !b[0], a[1] & !b[1], a[2] & !b[2], a[3] & !b[3]]
    }

    #[inline(always)]
    fn or(self, a: [u64; 4], b: [u64; 4]) -> [u64; 4] {
        [a[0] | b[0], a[1] | b[1], a[2] | b[2], a[3] | b[3]]
    }

    #[inline(always)]
    fn xor(self, a: [u64; 4], b: [u64; 4]) -> [u64; 4] {
        [a[0] ^ b[0], a[1] ^ b[1], a[2] ^ b[2], a[3] ^ b[3]]
    }

    #[inline(always)]
    fn transpose(self, planes: &[[u64; 4]], numbers: &mut [u8]) {
        for (word, numbers) in numbers.chunks_exact_mut(64).enumerate() {
            for (byte, numbers) in numbers.as_chunks_mut::<8>().0.iter_mut().enumerate() {
                let mut matrix = 0;
                for (index, plane) in planes.iter().enumerate() {
                    matrix |= (plane[word] >> (8 * byte) & 0xff) << (8 * index);
                }
                *numbers = transpose8(matrix).to_le_bytes();
            }
        }
    }

    #[inline(always)]
    fn run(self, work: impl Work) {
        work.run(self);
    }
}

/// [`Simd::add`] and [`Simd::add_single`], one row after another.
#[inline(always)]
fn add<T: Copy + AddAssign, const N: usize>(leaves: &[[T; N]; GROUP], numbers: &[u8], rows: usize, sums: &mut [T]) {
    let mut of_tree: [&[u8]; GROUP] = [&[]; GROUP];
    for (of_tree, numbers) in of_tree.iter_mut().zip(numbers.chunks_exact(rows)) {
        *of_tree = &numbers[..sums.len()];
    }
    for (row, sum) in sums.iter_mut().enumerate() {
        let mut new = *sum;
        for (leaves, numbers) in leaves.iter().zip(&of_tree) {
            // `% N` changes nothing and saves the check.
            new += leaves[usize::from(numbers[row]) % N];
        }
        *sum = new;
    }
}

/// Transposes 8 by 8 bits: bit `j` of byte `i` becomes bit `i` of byte `j` (Hacker's Delight, 7-3).
#[inline(always)]
fn transpose8(mut x: u64) -> u64 {
    let mut swap = |mask: u64, distance: u32| {
        let bits = (x ^ (x >> distance)) & mask;
        x ^= bits ^ (bits << distance);
    };
    swap(0x00aa_00aa_00aa_00aa, 7);
    swap(0x0000_cccc_0000_cccc, 14);
    swap(0x0000_0000_f0f0_f0f0, 28);
    x
}

/// Brings an entry to the nearest cache, if that is worth it; nothing if there is no such entry.
#[inline(always)]
pub(super) fn prefetch<T>(memory: &[T], index: usize) {
    #[cfg(target_arch = "x86_64")]
    x86::prefetch(memory.as_ptr().wrapping_add(index).cast());
    #[cfg(not(target_arch = "x86_64"))]
    let _ = (memory, index);
}

pub(super) mod bytes;
#[cfg(target_arch = "x86_64")]
mod x86;
