//! The leaves of a block's rows, with AVX-512: by shuffles of words of 16 bits.
//!
//! A double is four words and a float two. A shuffle looks up one of them for 32 rows at once, in a table that stays in
//! registers, and two rounds of interleaving put the words of a row together: half of the shuffles that looking up whole
//! doubles takes, and no blends where a tree has at most 64 leaves.

#[allow(clippy::wildcard_imports, reason = "intrinsics carry their own prefix")]
use std::arch::x86_64::*;

use super::super::GROUP;
use super::Avx512;

/// Rows that are looked up together.
const ROWS: usize = 32;

/// Leaves of a tree, at most: more of them need more registers than there are.
pub(in crate::engine::simd) const MAX_LEAVES: usize = 128;

/// A word of each leaf, 32 leaves in a register.
type Table<const REGISTERS: usize> = [__m512i; REGISTERS];

/// Where the rows' numbers go, by pairs of rows, so that interleaving four words ends in the order of the rows.
const OF_FOUR: [u16; 16] = [0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15];
/// As [`OF_FOUR`], for two words.
const OF_TWO: [u16; 16] = [0, 1, 8, 9, 2, 3, 10, 11, 4, 5, 12, 13, 6, 7, 14, 15];

/// For each plane of words where the words of two registers of eight doubles each are, twice.
const OF_DOUBLES: [[u16; 32]; 4] = {
    let mut places = [[0; 32]; 4];
    let mut index = 0;
    while index < 4 * 32 {
        let (plane, leaf) = (index / 32, index % 16);
        places[plane][index % 32] = (4 * leaf + plane) as u16;
        index += 1;
    }
    places
};
/// For each plane of words where the words of two registers of sixteen floats each are.
const OF_FLOATS: [[u16; 32]; 2] = {
    let mut places = [[0; 32]; 2];
    let mut index = 0;
    while index < 2 * 32 {
        let (plane, leaf) = (index / 32, index % 32);
        places[plane][index % 32] = (2 * leaf + plane) as u16;
        index += 1;
    }
    places
};

/// [`Simd::add`](super::Simd::add) for trees of at most 128 leaves. `numbers`: `[GROUP, rows]` for any number of rows that
/// is a multiple of 32 and not less than the number of sums.
#[inline(always)]
pub(in crate::engine::simd) fn add<const N: usize>(
    simd: Avx512,
    leaves: &[[f64; N]; GROUP],
    numbers: &[u8],
    sums: &mut [f64],
) {
    for (leaves, numbers) in leaves.iter().zip(numbers.chunks_exact(numbers.len() / GROUP)) {
        match N {
            ..=32 => add_tree::<1>(simd, leaves, numbers, sums),
            33..=64 => add_tree::<2>(simd, leaves, numbers, sums),
            _ => add_tree::<4>(simd, leaves, numbers, sums),
        }
    }
}

/// As [`add`], in single precision.
#[inline(always)]
pub(in crate::engine::simd) fn add_single<const N: usize>(
    simd: Avx512,
    leaves: &[[f32; N]; GROUP],
    numbers: &[u8],
    sums: &mut [f32],
) {
    for (leaves, numbers) in leaves.iter().zip(numbers.chunks_exact(numbers.len() / GROUP)) {
        match N {
            ..=32 => add_tree_single::<1>(simd, leaves, numbers, sums),
            33..=64 => add_tree_single::<2>(simd, leaves, numbers, sums),
            _ => add_tree_single::<4>(simd, leaves, numbers, sums),
        }
    }
}

/// Adds a tree's leaves to the rows' sums. At most `32 * REGISTERS` leaves.
#[inline(always)]
fn add_tree<const REGISTERS: usize>(simd: Avx512, leaves: &[f64], numbers: &[u8], sums: &mut [f64]) {
    let tables = tables::<REGISTERS>(simd, leaves);
    let (whole, rest) = sums.as_chunks_mut::<ROWS>();
    let (numbers, _) = numbers.as_chunks::<ROWS>();
    for (sums, numbers) in whole.iter_mut().zip(numbers) {
        add_rows(simd, &tables, numbers, sums);
    }
    if let Some(numbers) = numbers.get(whole.len()).filter(|_| !rest.is_empty()) {
        let mut sums = [0.0; ROWS];
        sums[..rest.len()].copy_from_slice(rest);
        add_rows(simd, &tables, numbers, &mut sums);
        rest.copy_from_slice(&sums[..rest.len()]);
    }
}

/// As [`add_tree`], in single precision.
#[inline(always)]
fn add_tree_single<const REGISTERS: usize>(simd: Avx512, leaves: &[f32], numbers: &[u8], sums: &mut [f32]) {
    let tables = tables_single::<REGISTERS>(simd, leaves);
    let (whole, rest) = sums.as_chunks_mut::<ROWS>();
    let (numbers, _) = numbers.as_chunks::<ROWS>();
    for (sums, numbers) in whole.iter_mut().zip(numbers) {
        add_rows_single(simd, &tables, numbers, sums);
    }
    if let Some(numbers) = numbers.get(whole.len()).filter(|_| !rest.is_empty()) {
        let mut sums = [0.0; ROWS];
        sums[..rest.len()].copy_from_slice(rest);
        add_rows_single(simd, &tables, numbers, &mut sums);
        rest.copy_from_slice(&sums[..rest.len()]);
    }
}

#[inline(always)]
fn add_rows<const REGISTERS: usize>(
    simd: Avx512,
    tables: &[Table<REGISTERS>; 4],
    numbers: &[u8; ROWS],
    sums: &mut [f64; ROWS],
) {
    let numbers = spread(simd, numbers, &OF_FOUR);
    let [a, b, c, d] = [
        look_up(simd, &tables[0], numbers),
        look_up(simd, &tables[1], numbers),
        look_up(simd, &tables[2], numbers),
        look_up(simd, &tables[3], numbers),
    ];
    // SAFETY: `simd` proves AVX-512 BW; unaligned loads of and stores to the 32 doubles that are borrowed.
    unsafe {
        let low = [_mm512_unpacklo_epi16(a, b), _mm512_unpacklo_epi16(c, d)];
        let high = [_mm512_unpackhi_epi16(a, b), _mm512_unpackhi_epi16(c, d)];
        let leaves = [
            _mm512_unpacklo_epi32(low[0], low[1]),
            _mm512_unpackhi_epi32(low[0], low[1]),
            _mm512_unpacklo_epi32(high[0], high[1]),
            _mm512_unpackhi_epi32(high[0], high[1]),
        ];
        for (sums, leaves) in sums.as_chunks_mut::<8>().0.iter_mut().zip(leaves) {
            let new = _mm512_add_pd(_mm512_loadu_pd(sums.as_ptr()), _mm512_castsi512_pd(leaves));
            _mm512_storeu_pd(sums.as_mut_ptr(), new);
        }
    }
}

#[inline(always)]
fn add_rows_single<const REGISTERS: usize>(
    simd: Avx512,
    tables: &[Table<REGISTERS>; 2],
    numbers: &[u8; ROWS],
    sums: &mut [f32; ROWS],
) {
    let numbers = spread(simd, numbers, &OF_TWO);
    let [a, b] = [look_up(simd, &tables[0], numbers), look_up(simd, &tables[1], numbers)];
    // SAFETY: `simd` proves AVX-512 BW; unaligned loads of and stores to the 32 floats that are borrowed.
    unsafe {
        let leaves = [_mm512_unpacklo_epi16(a, b), _mm512_unpackhi_epi16(a, b)];
        for (sums, leaves) in sums.as_chunks_mut::<16>().0.iter_mut().zip(leaves) {
            let new = _mm512_add_ps(_mm512_loadu_ps(sums.as_ptr()), _mm512_castsi512_ps(leaves));
            _mm512_storeu_ps(sums.as_mut_ptr(), new);
        }
    }
}

/// Bytes as words, in an order of pairs.
#[inline(always)]
fn spread(_: Avx512, numbers: &[u8; ROWS], order: &[u16; 16]) -> __m512i {
    // SAFETY: the value proves AVX-512 BW and VL; unaligned loads of the 32 bytes each that are borrowed.
    unsafe {
        let order = _mm256_loadu_si256(order.as_ptr().cast());
        let numbers = _mm256_loadu_si256(numbers.as_ptr().cast());
        _mm512_cvtepu8_epi16(_mm256_permutexvar_epi16(order, numbers))
    }
}

/// For each number, modulo the length of the table, its entry.
#[inline(always)]
fn look_up<const REGISTERS: usize>(_: Avx512, table: &Table<REGISTERS>, numbers: __m512i) -> __m512i {
    // SAFETY: the value proves AVX-512 BW.
    unsafe {
        match table[..] {
            [a] => _mm512_permutexvar_epi16(numbers, a),
            [a, b] => _mm512_permutex2var_epi16(a, numbers, b),
            [a, b, c, d] => {
                let low = _mm512_permutex2var_epi16(a, numbers, b);
                let high = _mm512_permutex2var_epi16(c, numbers, d);
                _mm512_mask_blend_epi16(_mm512_test_epi16_mask(numbers, _mm512_set1_epi16(64)), low, high)
            }
            _ => _mm512_setzero_si512(),
        }
    }
}

/// The four words of each leaf.
#[inline(always)]
fn tables<const REGISTERS: usize>(_: Avx512, leaves: &[f64]) -> [Table<REGISTERS>; 4] {
    let eights = leaves.as_chunks::<8>().0;
    // SAFETY: the value proves AVX-512 BW; unaligned loads of the eight doubles and the 32 words that are borrowed.
    unsafe {
        let mut tables = [[_mm512_setzero_si512(); REGISTERS]; 4];
        for index in 0..REGISTERS {
            let mut part = [_mm512_setzero_si512(); 4];
            for (part, eight) in part.iter_mut().zip(&eights[(4 * index).min(eights.len())..]) {
                *part = _mm512_loadu_si512(eight.as_ptr().cast());
            }
            for (table, places) in tables.iter_mut().zip(&OF_DOUBLES) {
                let places = _mm512_loadu_si512(places.as_ptr().cast());
                let low = _mm512_permutex2var_epi16(part[0], places, part[1]);
                let high = _mm512_permutex2var_epi16(part[2], places, part[3]);
                table[index] = _mm512_mask_blend_epi16(0xffff_0000, low, high);
            }
        }
        tables
    }
}

/// The two words of each leaf.
#[inline(always)]
fn tables_single<const REGISTERS: usize>(_: Avx512, leaves: &[f32]) -> [Table<REGISTERS>; 2] {
    let sixteens = leaves.as_chunks::<16>().0;
    // SAFETY: the value proves AVX-512 BW; unaligned loads of the sixteen floats and the 32 words that are borrowed.
    unsafe {
        let mut tables = [[_mm512_setzero_si512(); REGISTERS]; 2];
        for index in 0..REGISTERS {
            let mut part = [_mm512_setzero_si512(); 2];
            for (part, sixteen) in part.iter_mut().zip(&sixteens[(2 * index).min(sixteens.len())..]) {
                *part = _mm512_loadu_si512(sixteen.as_ptr().cast());
            }
            for (table, places) in tables.iter_mut().zip(&OF_FLOATS) {
                let places = _mm512_loadu_si512(places.as_ptr().cast());
                table[index] = _mm512_permutex2var_epi16(part[0], places, part[1]);
            }
        }
        tables
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::simd;

    /// As plain Rust adds them, for a tree of `N` leaves in a block of 256 rows; with a few rows left over, too.
    fn hold<const N: usize>(proof: Avx512) {
        let numbers: Vec<u8> = (0..GROUP * 256).map(|index| (index * 167 / 3 % N) as u8).collect();
        let mut value = 1.0_f64;
        let leaves = [[0.0; N]; GROUP].map(|tree| {
            tree.map(|_: f64| {
                value = -1.1 * value - 0.3;
                value % 7.0
            })
        });
        let single = leaves.map(|tree| tree.map(|leaf| leaf as f32));
        for rows in [0, 1, 31, 32, 33, 100, 255, 256] {
            let (mut expected, mut got) = (vec![0.7; rows], vec![0.7; rows]);
            simd::add(&leaves, &numbers, 256, &mut expected);
            add(proof, &leaves, &numbers, &mut got);
            assert_eq!(got, expected, "{N} leaves, {rows} rows");
            let (mut expected, mut got) = (vec![0.7; rows], vec![0.7; rows]);
            simd::add(&single, &numbers, 256, &mut expected);
            add_single(proof, &single, &numbers, &mut got);
            assert_eq!(got, expected, "{N} leaves in single precision, {rows} rows");
        }
    }

    #[test]
    fn words_give_the_leaves_that_plain_rust_gives() {
        let Some(proof) = Avx512::detect() else { return };
        hold::<16>(proof);
        hold::<32>(proof);
        hold::<64>(proof);
        hold::<128>(proof);
    }
}
