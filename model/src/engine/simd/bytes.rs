//! Bytes of a register: one for each of 32 or 64 rows or trees.

use super::{GROUP, Portable, Simd, Tier};

/// Work on bytes that a tier is to do: compiled for each.
pub(in crate::engine) trait ByteWork {
    fn run<S: Bytes>(self, simd: S);
}

/// The instructions of a tier, on registers of bytes.
pub(in crate::engine) trait Bytes: Simd {
    /// A register.
    type Lanes: Copy;
    /// A register in memory.
    type Memory: Copy + AsRef<[u8]> + AsMut<[u8]>;
    /// Bytes of a register: a multiple of 32 that divides `64 * WORDS`.
    const LANES: usize;
    /// Rows of a block: a multiple of `64 * WORDS`, and another one only together with another
    /// [`add_leaves`](Bytes::add_leaves). More rows read the leaves less often, until the codes leave the nearest cache.
    const BLOCK: usize = 64 * Self::WORDS;

    /// Memory as registers; what is left over is not there.
    fn lanes(self, memory: &[u8]) -> &[Self::Memory];
    fn lanes_mut(self, memory: &mut [u8]) -> &mut [Self::Memory];
    fn get(self, from: &Self::Memory) -> Self::Lanes;
    fn put(self, lanes: Self::Lanes, to: &mut Self::Memory);
    /// All bytes the same.
    fn spread(self, byte: u8) -> Self::Lanes;
    fn either(self, a: Self::Lanes, b: Self::Lanes) -> Self::Lanes;
    /// For each byte the entry of the table that its low four bits name; zero if its highest bit is set.
    fn look_up(self, table: &[u8; 16], at: Self::Lanes) -> Self::Lanes;
    /// Doubles the numbers and adds one where the first operand is greater, both as signed bytes.
    fn append_greater(self, numbers: Self::Lanes, a: Self::Lanes, b: Self::Lanes) -> Self::Lanes;
    /// Sets bits of the numbers where the first operand is greater, both as signed bytes.
    fn set_greater(self, numbers: Self::Lanes, bits: Self::Lanes, a: Self::Lanes, b: Self::Lanes) -> Self::Lanes;
    /// How many of the numbers are less than `x`: none if it is NaN.
    fn less(self, numbers: &[f32; 16], x: f32) -> usize;
    /// As [`Simd::add`], for the numbers of `BLOCK` rows for each tree.
    #[inline(always)]
    fn add_leaves<const N: usize>(self, leaves: &[[f64; N]; GROUP], numbers: &[u8], sums: &mut [f64]) {
        self.add(leaves, numbers, sums);
    }
}

impl Tier {
    /// Bytes of a register.
    pub(in crate::engine) fn lanes(self) -> usize {
        match self {
            Self::Portable => Portable::LANES,
            #[cfg(target_arch = "x86_64")]
            Self::Avx2(_) => super::x86::Avx2::LANES,
            #[cfg(target_arch = "x86_64")]
            Self::Narrow(_) | Self::Avx512(_) => super::x86::Avx512::LANES,
        }
    }

    pub(in crate::engine) fn run_bytes(self, work: impl ByteWork) {
        match self {
            Self::Portable => work.run(Portable),
            #[cfg(target_arch = "x86_64")]
            Self::Avx2(simd) => x86::run_avx2(simd, work),
            #[cfg(target_arch = "x86_64")]
            Self::Narrow(simd) => x86::run_avx512(simd.wide(), work),
            #[cfg(target_arch = "x86_64")]
            Self::Avx512(simd) => x86::run_avx512(simd, work),
        }
    }
}

impl Bytes for Portable {
    type Lanes = [u8; 32];
    type Memory = [u8; 32];
    const LANES: usize = 32;

    #[inline(always)]
    fn lanes(self, memory: &[u8]) -> &[[u8; 32]] {
        memory.as_chunks().0
    }

    #[inline(always)]
    fn lanes_mut(self, memory: &mut [u8]) -> &mut [[u8; 32]] {
        memory.as_chunks_mut().0
    }

    #[inline(always)]
    fn get(self, from: &[u8; 32]) -> [u8; 32] {
        *from
    }

    #[inline(always)]
    fn put(self, lanes: [u8; 32], to: &mut [u8; 32]) {
        *to = lanes;
    }

    #[inline(always)]
    fn spread(self, byte: u8) -> [u8; 32] {
        [byte; 32]
    }

    #[inline(always)]
    fn either(self, mut a: [u8; 32], b: [u8; 32]) -> [u8; 32] {
        for (a, b) in a.iter_mut().zip(b) {
            *a |= b;
        }
        a
    }

    #[inline(always)]
    fn look_up(self, table: &[u8; 16], mut at: [u8; 32]) -> [u8; 32] {
        for byte in &mut at {
            let entry = table[usize::from(*byte & 15)];
            *byte = if *byte < 128 { entry } else { 0 };
        }
        at
    }

    #[inline(always)]
    fn append_greater(self, mut numbers: [u8; 32], a: [u8; 32], b: [u8; 32]) -> [u8; 32] {
        for ((number, a), b) in numbers.iter_mut().zip(a).zip(b) {
            *number = (*number << 1) | u8::from(a.cast_signed() > b.cast_signed());
        }
        numbers
    }

    #[inline(always)]
    fn set_greater(self, mut numbers: [u8; 32], bits: [u8; 32], a: [u8; 32], b: [u8; 32]) -> [u8; 32] {
        for (((number, bits), a), b) in numbers.iter_mut().zip(bits).zip(a).zip(b) {
            *number |= if a.cast_signed() > b.cast_signed() { bits } else { 0 };
        }
        numbers
    }

    #[inline(always)]
    fn less(self, numbers: &[f32; 16], x: f32) -> usize {
        numbers.iter().map(|number| i32::from(*number < x)).sum::<i32>() as usize
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    #![expect(
        unsafe_code,
        reason = "instructions that only some processors have, behind values that prove they are there"
    )]

    #[allow(clippy::wildcard_imports, reason = "intrinsics carry their own prefix")]
    use std::arch::x86_64::*;

    use super::super::x86::{Avx2, Avx512};
    use super::{ByteWork, Bytes, GROUP};

    pub(super) fn run_avx2(simd: Avx2, work: impl ByteWork) {
        #[target_feature(enable = "avx2,bmi1,bmi2,lzcnt,popcnt")]
        fn inside(simd: Avx2, work: impl ByteWork) {
            work.run(simd);
        }
        // SAFETY: the value proves these features.
        unsafe { inside(simd, work) }
    }

    pub(super) fn run_avx512(simd: Avx512, work: impl ByteWork) {
        #[target_feature(enable = "avx2,bmi1,bmi2,lzcnt,popcnt,avx512f,avx512bw,avx512cd,avx512dq,avx512vl")]
        fn inside(simd: Avx512, work: impl ByteWork) {
            work.run(simd);
        }
        // SAFETY: the value proves these features.
        unsafe { inside(simd, work) }
    }

    impl Bytes for Avx2 {
        type Lanes = __m256i;
        type Memory = [u8; 32];
        const LANES: usize = 32;
        const BLOCK: usize = 32 * REGISTERS;

        #[inline(always)]
        fn lanes(self, memory: &[u8]) -> &[[u8; 32]] {
            memory.as_chunks().0
        }

        #[inline(always)]
        fn lanes_mut(self, memory: &mut [u8]) -> &mut [[u8; 32]] {
            memory.as_chunks_mut().0
        }

        #[inline(always)]
        fn get(self, from: &[u8; 32]) -> __m256i {
            // SAFETY: `self` proves AVX2; an unaligned load of the 32 bytes that are borrowed.
            unsafe { _mm256_loadu_si256(from.as_ptr().cast()) }
        }

        #[inline(always)]
        fn put(self, lanes: __m256i, to: &mut [u8; 32]) {
            // SAFETY: `self` proves AVX2; an unaligned store to the 32 bytes that are borrowed.
            unsafe { _mm256_storeu_si256(to.as_mut_ptr().cast(), lanes) }
        }

        #[inline(always)]
        fn spread(self, byte: u8) -> __m256i {
            // SAFETY: `self` proves AVX2.
            unsafe { _mm256_set1_epi8(byte.cast_signed()) }
        }

        #[inline(always)]
        fn either(self, a: __m256i, b: __m256i) -> __m256i {
            // SAFETY: `self` proves AVX2.
            unsafe { _mm256_or_si256(a, b) }
        }

        #[inline(always)]
        fn look_up(self, table: &[u8; 16], at: __m256i) -> __m256i {
            // SAFETY: `self` proves AVX2; an unaligned load of the 16 bytes that are borrowed.
            unsafe { _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(_mm_loadu_si128(table.as_ptr().cast())), at) }
        }

        #[inline(always)]
        fn append_greater(self, numbers: __m256i, a: __m256i, b: __m256i) -> __m256i {
            // SAFETY: `self` proves AVX2.
            unsafe { _mm256_sub_epi8(_mm256_add_epi8(numbers, numbers), _mm256_cmpgt_epi8(a, b)) }
        }

        #[inline(always)]
        fn set_greater(self, numbers: __m256i, bits: __m256i, a: __m256i, b: __m256i) -> __m256i {
            // SAFETY: `self` proves AVX2.
            unsafe { _mm256_or_si256(numbers, _mm256_and_si256(_mm256_cmpgt_epi8(a, b), bits)) }
        }

        #[inline(always)]
        fn less(self, numbers: &[f32; 16], x: f32) -> usize {
            // SAFETY: `self` proves AVX2; unaligned loads of the 16 floats that are borrowed.
            unsafe {
                let x = _mm256_set1_ps(x);
                let low = _mm256_cmp_ps::<_CMP_LT_OQ>(_mm256_loadu_ps(numbers.as_ptr()), x);
                let high = _mm256_cmp_ps::<_CMP_LT_OQ>(_mm256_loadu_ps(numbers[8..].as_ptr()), x);
                (_mm256_movemask_ps(low).count_ones() + _mm256_movemask_ps(high).count_ones()) as usize
            }
        }

        /// The trees' numbers of a row are put together first: one load brings all eight.
        #[inline(always)]
        fn add_leaves<const N: usize>(self, leaves: &[[f64; N]; GROUP], numbers: &[u8], sums: &mut [f64]) {
            let of_tree: &[[[u8; 32]; REGISTERS]] = numbers.as_chunks().0.as_chunks().0;
            let Some(of_tree) = of_tree.first_chunk::<GROUP>() else { return };
            let (blocks, rest) = sums.as_chunks_mut::<32>();
            let whole = blocks.len();
            for (register, sums) in blocks.iter_mut().enumerate() {
                let numbers = gather::<N>(self, of_tree, register);
                add_rows(leaves, &numbers, sums);
            }
            if !rest.is_empty() {
                let numbers = gather::<N>(self, of_tree, whole);
                let mut sums = [0.0; 32];
                sums[..rest.len()].copy_from_slice(rest);
                add_rows(leaves, &numbers, &mut sums);
                rest.copy_from_slice(&sums[..rest.len()]);
            }
        }
    }

    /// Registers of AVX2 for a block's rows.
    const REGISTERS: usize = 16;

    /// The rows of [`gather`]'s numbers.
    const ORDER: [usize; 32] = {
        let mut order = [0; 32];
        let mut index = 0;
        while index < 32 {
            order[index] = index / 4 * 2 + index % 2 + index / 2 % 2 * 16;
            index += 1;
        }
        order
    };

    /// For each of 32 rows, in [`ORDER`], its numbers in eight trees: a byte each, the first tree's lowest. Every byte is
    /// below `N`.
    struct Numbers<const N: usize>([u64; 32]);

    /// The numbers of the rows of a register, modulo `N`: a power of two, at most 256.
    #[inline(always)]
    fn gather<const N: usize>(simd: Avx2, of_tree: &[[[u8; 32]; REGISTERS]; GROUP], register: usize) -> Numbers<N> {
        const { assert!(N.is_power_of_two() && N <= 256, "bytes name N leaves") };
        let below = simd.spread((N - 1) as u8);
        let mut numbers = [0; 32];
        // SAFETY: the value proves AVX2; the stores are to the 256 bytes of `numbers`. No closures: they may be compiled
        // as functions of their own, without the tier's instructions.
        unsafe {
            let mut pairs = [(below, below); GROUP / 2];
            for (pair, of_tree) in pairs.iter_mut().zip(of_tree.as_chunks::<2>().0) {
                let a = _mm256_and_si256(simd.get(&of_tree[0][register]), below);
                let b = _mm256_and_si256(simd.get(&of_tree[1][register]), below);
                *pair = (_mm256_unpacklo_epi8(a, b), _mm256_unpackhi_epi8(a, b));
            }
            let [a, b, c, d] = pairs;
            let fours = [
                (_mm256_unpacklo_epi16(a.0, b.0), _mm256_unpacklo_epi16(c.0, d.0)),
                (_mm256_unpackhi_epi16(a.0, b.0), _mm256_unpackhi_epi16(c.0, d.0)),
                (_mm256_unpacklo_epi16(a.1, b.1), _mm256_unpacklo_epi16(c.1, d.1)),
                (_mm256_unpackhi_epi16(a.1, b.1), _mm256_unpackhi_epi16(c.1, d.1)),
            ];
            for ((low, high), to) in fours.iter().zip(numbers.as_chunks_mut::<8>().0) {
                _mm256_storeu_si256(to[..4].as_mut_ptr().cast(), _mm256_unpacklo_epi32(*low, *high));
                _mm256_storeu_si256(to[4..].as_mut_ptr().cast(), _mm256_unpackhi_epi32(*low, *high));
            }
        }
        Numbers(numbers)
    }

    /// Adds the leaves that [`gather`] names to the rows' sums, in the order of the trees.
    #[inline(always)]
    fn add_rows<const N: usize>(leaves: &[[f64; N]; GROUP], numbers: &Numbers<N>, sums: &mut [f64; 32]) {
        // Four rows at a time: their sums do not wait for each other.
        for (rows, numbers) in ORDER.as_chunks::<4>().0.iter().zip(numbers.0.as_chunks::<4>().0) {
            let mut numbers = *numbers;
            let mut new = [sums[rows[0]], sums[rows[1]], sums[rows[2]], sums[rows[3]]];
            for leaves in leaves {
                for (sum, numbers) in new.iter_mut().zip(&mut numbers) {
                    // SAFETY: every byte of the numbers is below N.
                    *sum += unsafe { leaves.get_unchecked((*numbers & 0xff) as usize) };
                    *numbers >>= 8;
                }
            }
            for (row, sum) in rows.iter().zip(new) {
                sums[*row] = sum;
            }
        }
    }

    impl Bytes for Avx512 {
        type Lanes = __m512i;
        type Memory = [u8; 64];
        const LANES: usize = 64;

        #[inline(always)]
        fn lanes(self, memory: &[u8]) -> &[[u8; 64]] {
            memory.as_chunks().0
        }

        #[inline(always)]
        fn lanes_mut(self, memory: &mut [u8]) -> &mut [[u8; 64]] {
            memory.as_chunks_mut().0
        }

        #[inline(always)]
        fn get(self, from: &[u8; 64]) -> __m512i {
            // SAFETY: `self` proves AVX-512; an unaligned load of the 64 bytes that are borrowed.
            unsafe { _mm512_loadu_si512(from.as_ptr().cast()) }
        }

        #[inline(always)]
        fn put(self, lanes: __m512i, to: &mut [u8; 64]) {
            // SAFETY: `self` proves AVX-512; an unaligned store to the 64 bytes that are borrowed.
            unsafe { _mm512_storeu_si512(to.as_mut_ptr().cast(), lanes) }
        }

        #[inline(always)]
        fn spread(self, byte: u8) -> __m512i {
            // SAFETY: `self` proves AVX-512.
            unsafe { _mm512_set1_epi8(byte.cast_signed()) }
        }

        #[inline(always)]
        fn either(self, a: __m512i, b: __m512i) -> __m512i {
            // SAFETY: `self` proves AVX-512.
            unsafe { _mm512_or_si512(a, b) }
        }

        #[inline(always)]
        fn look_up(self, table: &[u8; 16], at: __m512i) -> __m512i {
            // SAFETY: `self` proves AVX-512 BW; an unaligned load of the 16 bytes that are borrowed.
            unsafe { _mm512_shuffle_epi8(_mm512_broadcast_i32x4(_mm_loadu_si128(table.as_ptr().cast())), at) }
        }

        #[inline(always)]
        fn append_greater(self, numbers: __m512i, a: __m512i, b: __m512i) -> __m512i {
            // SAFETY: `self` proves AVX-512 BW.
            unsafe {
                let twice = _mm512_add_epi8(numbers, numbers);
                _mm512_mask_sub_epi8(twice, _mm512_cmpgt_epi8_mask(a, b), twice, _mm512_set1_epi8(-1))
            }
        }

        #[inline(always)]
        fn set_greater(self, numbers: __m512i, bits: __m512i, a: __m512i, b: __m512i) -> __m512i {
            // SAFETY: `self` proves AVX-512.
            unsafe {
                let set = _mm512_maskz_mov_epi8(_mm512_cmpgt_epi8_mask(a, b), bits);
                _mm512_or_si512(numbers, set)
            }
        }

        #[inline(always)]
        fn less(self, numbers: &[f32; 16], x: f32) -> usize {
            // SAFETY: `self` proves AVX-512; an unaligned load of the 16 floats that are borrowed.
            unsafe {
                let numbers = _mm512_loadu_ps(numbers.as_ptr());
                _mm512_cmp_ps_mask::<_CMP_LT_OQ>(numbers, _mm512_set1_ps(x)).count_ones() as usize
            }
        }
    }
}
