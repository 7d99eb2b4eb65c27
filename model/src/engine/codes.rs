//! A row becomes one small whole number for each used column.
//!
//! A number's code is its rank among the model's own thresholds of the column, `#{t : x > t}`; zero and NaN have codes of
//! their own where some node treats them unlike other numbers. A category's code is its class among the categories
//! that the model tells apart. The thresholds are the source library's doubles and are compared as doubles, so that
//! a code says exactly what the library's own comparison would say.
//!
//! The rank is found by an index: `(x - low) * scale` never decreases with `x`, not even in floating point, so that all
//! thresholds in lower buckets are below `x` and all in higher ones above it; what is left is one to a few compares
//! inside of the bucket, without a branch.

use super::ensemble::Precision;
use crate::batch::Rows;

/// Buckets for each threshold: as many, unless the thresholds crowd.
const SPREAD: usize = 2;
/// And as many if they do: two bytes each, and the columns' indices should stay in the first cache.
const MAX_SPREAD: usize = 8;
/// Compares inside of a bucket that are not worth a larger index.
const FEW: usize = 3;
/// Rows whose values are in the cache while one column after another is read.
const TILE: usize = 32;
/// 2^52: added to a number from 0 up, it leaves the number, rounded, in the low bits of the sum.
const TO_BITS: f64 = 4_503_599_627_370_496.0;

/// The columns that a model asks about. A row becomes `[slots]` codes.
#[derive(Debug)]
pub(crate) struct Codes {
    /// Whether values are rounded to single precision first.
    single: bool,
    pub(super) slots: Vec<Slot>,
    pub(super) numeric: Vec<Numeric>,
    pub(super) categories: Vec<Categories>,
}

/// What the codes of a column may be: `0..size`.
#[derive(Debug)]
pub(crate) struct Slot {
    pub(crate) size: usize,
    /// The code of zero, if it has one of its own. It comes after the ranks.
    pub(crate) zero: Option<u16>,
    /// The code of NaN, if it has one of its own. It comes last.
    pub(crate) nan: Option<u16>,
}

impl Codes {
    /// None yet. `input`: the precision to which a row's values are rounded first.
    pub(super) fn new(input: Precision) -> Self {
        let single = input == Precision::Single;
        Self { single, slots: Vec::new(), numeric: Vec::new(), categories: Vec::new() }
    }

    pub(crate) fn slots(&self) -> &[Slot] {
        &self.slots
    }

    /// The codes of one row, `[slots]`.
    #[inline(always)]
    pub(crate) fn row(&self, row: &[f64], codes: &mut [u16]) {
        if self.single { self.row_of::<true>(row, codes) } else { self.row_of::<false>(row, codes) }
    }

    #[inline(always)]
    fn row_of<const SINGLE: bool>(&self, row: &[f64], codes: &mut [u16]) {
        for column in &self.numeric {
            codes[column.slot] = column.code(rounded::<SINGLE>(row[column.position]));
        }
        for column in &self.categories {
            codes[column.slot] = column.code(rounded::<SINGLE>(row[column.position]));
        }
    }

    /// The codes of some rows, slot by slot, `[slots, stride]`: there are at most `stride` rows.
    #[inline(always)]
    pub(crate) fn block(&self, rows: Rows<'_>, stride: usize, codes: &mut [u16]) {
        if self.single {
            self.block_of::<true>(rows, stride, codes);
        } else {
            self.block_of::<false>(rows, stride, codes);
        }
    }

    #[inline(always)]
    fn block_of<const SINGLE: bool>(&self, rows: Rows<'_>, stride: usize, codes: &mut [u16]) {
        let mut values = [0.0; TILE];
        for (tile, rows) in rows.blocks(TILE).enumerate() {
            let place = |slot: usize| slot * stride + tile * TILE..slot * stride + tile * TILE + rows.len();
            for column in &self.numeric {
                for (value, row) in values.iter_mut().zip(rows.iter()) {
                    *value = rounded::<SINGLE>(row[column.position]);
                }
                column.tile(&values, &mut codes[place(column.slot)]);
            }
            for column in &self.categories {
                for (code, row) in codes[place(column.slot)].iter_mut().zip(rows.iter()) {
                    *code = column.code(rounded::<SINGLE>(row[column.position]));
                }
            }
        }
    }
}

/// What is compared.
#[inline(always)]
fn rounded<const SINGLE: bool>(x: f64) -> f64 {
    if SINGLE { f64::from(x as f32) } else { x }
}

/// A column of numbers.
#[derive(Debug)]
pub(crate) struct Numeric {
    slot: usize,
    position: usize,
    /// Values this near to zero are zero.
    tiny: f64,
    zero_code: u16,
    nan_code: u16,
    low: f64,
    scale: f64,
    last_bucket: f64,
    /// For each bucket the number of thresholds in lower buckets.
    starts: Vec<u16>,
    /// Thresholds in a bucket, at most: how far the rank may be beyond its start.
    window: usize,
    /// Ascending, and `window` times infinity.
    thresholds: Vec<f64>,
}

impl Numeric {
    /// `thresholds`: ascending, distinct, fewer than 65,534. The codes of zero and NaN are told.
    pub(super) fn new(
        slot: usize,
        position: usize,
        tiny: f64,
        thresholds: Vec<f64>,
        zero_code: u16,
        nan_code: u16,
    ) -> Self {
        let mut column = Self {
            slot,
            position,
            tiny,
            zero_code,
            nan_code,
            low: 0.0,
            scale: 0.0,
            last_bucket: 0.0,
            starts: vec![0, 0],
            window: thresholds.len(),
            thresholds,
        };
        column.index();
        let window = column.window;
        column.thresholds.extend(std::iter::repeat_n(f64::INFINITY, window + 1));
        column
    }

    /// Builds the index; without one, a single bucket holds all thresholds.
    fn index(&mut self) {
        let mut finite = self.thresholds.iter().copied().filter(|threshold| threshold.is_finite());
        let (Some(low), Some(high)) = (finite.next(), finite.next_back()) else { return };
        let mut buckets = (self.thresholds.len() * SPREAD).next_power_of_two();
        let most = buckets * (MAX_SPREAD / SPREAD);
        while self.window > FEW && buckets <= most {
            let scale = (buckets - 1) as f64 / (high - low);
            if !scale.is_normal() || !(high - low).is_finite() {
                return;
            }
            let trial = Self { low, scale, last_bucket: (buckets - 1) as f64, ..Self::empty() };
            let mut starts = vec![0_u16; buckets + 1];
            for threshold in &self.thresholds {
                starts[trial.bucket(*threshold) + 1] += 1;
            }
            let window = usize::from(starts.iter().copied().max().unwrap_or(0));
            if window < self.window {
                for bucket in 0..buckets {
                    starts[bucket + 1] += starts[bucket];
                }
                (self.low, self.scale, self.last_bucket) = (low, scale, trial.last_bucket);
                (self.starts, self.window) = (starts, window);
            }
            buckets *= 2;
        }
    }

    fn empty() -> Self {
        Self {
            slot: 0,
            position: 0,
            tiny: 0.0,
            zero_code: 0,
            nan_code: 0,
            low: 0.0,
            scale: 0.0,
            last_bucket: 0.0,
            starts: Vec::new(),
            window: 0,
            thresholds: Vec::new(),
        }
    }

    /// Never decreases with `x`. NaN is in bucket 0.
    #[inline(always)]
    fn bucket(&self, x: f64) -> usize {
        let position = (x - self.low) * self.scale;
        // As comparisons, which are one instruction each: `max` and `min` take more care of NaN.
        let position = if position > 0.0 { position } else { 0.0 };
        let position = if position < self.last_bucket { position } else { self.last_bucket };
        (position + TO_BITS).to_bits() as u32 as usize
    }

    /// Thresholds below `x`; of NaN, anything.
    #[inline(always)]
    fn rank(&self, x: f64) -> usize {
        let start = usize::from(self.starts[self.bucket(x)]);
        let window = &self.thresholds[start..=start + self.window];
        match self.window {
            0 => start,
            1 => start + usize::from(x > window[0]),
            2 => start + usize::from(x > window[0]) + usize::from(x > window[1]),
            3 => start + usize::from(x > window[0]) + usize::from(x > window[1]) + usize::from(x > window[2]),
            mut length => {
                let mut base = 0;
                while length > 1 {
                    let half = length / 2;
                    base += usize::from(x > window[base + half - 1]) * half;
                    length -= half;
                }
                start + base + usize::from(x > window[base])
            }
        }
    }

    #[inline(always)]
    fn code(&self, x: f64) -> u16 {
        let rank = self.rank(x) as u16;
        let code = if x.abs() <= self.tiny { self.zero_code } else { rank };
        if x.is_nan() { self.nan_code } else { code }
    }

    /// The codes of the first values of a tile: step by step, so that a processor takes several values at once where it
    /// can. As [`code`](Self::code).
    #[inline(always)]
    fn tile(&self, values: &[f64; TILE], codes: &mut [u16]) {
        let mut buckets = [0; TILE];
        for (bucket, x) in buckets.iter_mut().zip(values) {
            *bucket = self.bucket(*x) as u32;
        }
        let mut ranks = [0; TILE];
        match self.window {
            0 => self.ranks::<0>(values, &buckets, &mut ranks),
            1 => self.ranks::<1>(values, &buckets, &mut ranks),
            2 => self.ranks::<2>(values, &buckets, &mut ranks),
            3 => self.ranks::<3>(values, &buckets, &mut ranks),
            _ => {
                for (rank, x) in ranks.iter_mut().zip(values) {
                    *rank = self.rank(*x) as u16;
                }
            }
        }
        for (code, x) in ranks.iter_mut().zip(values) {
            *code = if x.abs() <= self.tiny { self.zero_code } else { *code };
            *code = if x.is_nan() { self.nan_code } else { *code };
        }
        codes.copy_from_slice(&ranks[..codes.len()]);
    }

    /// The ranks of values whose buckets are known, of at most `WINDOW` thresholds each.
    #[inline(always)]
    fn ranks<const WINDOW: usize>(&self, values: &[f64; TILE], buckets: &[u32; TILE], ranks: &mut [u16; TILE]) {
        for ((rank, x), bucket) in ranks.iter_mut().zip(values).zip(buckets) {
            let start = self.starts[*bucket as usize];
            let Some(window) = self.thresholds[usize::from(start)..].first_chunk::<WINDOW>() else { continue };
            let mut above = 0;
            for threshold in window {
                above += u16::from(*x > *threshold);
            }
            *rank = start + above;
        }
    }
}

/// A column of categories.
#[derive(Debug)]
pub(crate) struct Categories {
    slot: usize,
    position: usize,
    /// The code of each value; the last one is the code of everything else.
    map: Vec<u16>,
}

impl Categories {
    /// `map`: see the field; at least one entry.
    pub(super) fn new(slot: usize, position: usize, map: Vec<u16>) -> Self {
        Self { slot, position, map }
    }

    #[inline(always)]
    fn code(&self, x: f64) -> u16 {
        let outside = self.map.len() - 1;
        // Truncated toward zero, -0.5 is category 0. NaN fails the comparison, what is too large saturates.
        let value = if x > -1.0 { x as u32 as usize } else { outside };
        self.map[value.min(outside)]
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(thresholds: &mut Vec<f64>, x: f64) {
        thresholds.sort_by(f64::total_cmp);
        thresholds.dedup();
        let expected = thresholds.iter().filter(|threshold| x > **threshold).count();
        let column = Numeric::new(0, 0, -1.0, thresholds.clone(), 0, 60_000);
        let expected = if x.is_nan() { 60_000 } else { expected as u16 };
        assert_eq!(column.code(x), expected, "{x:?} among {thresholds:?}");
        let mut codes = [0; 3];
        column.tile(&[x; TILE], &mut codes);
        assert_eq!(codes, [expected; 3], "a tile of {x:?} among {thresholds:?}");
    }

    fn number() -> impl Strategy<Value = f64> {
        prop_oneof![
            -10.0..10.0_f64,
            (-20..20_i32).prop_map(f64::from),
            any::<f64>().prop_filter("not NaN", |x| !x.is_nan()).prop_map(|x| x + 0.0),
            Just(f64::INFINITY),
            Just(f64::NEG_INFINITY),
            Just(f64::MAX),
            Just(f64::MIN),
            Just(f64::MIN_POSITIVE),
            Just(5e-324),
            (0..1000_u32).prop_map(|n| 1e9 + f64::from(n) * 1e-3),
        ]
    }

    proptest! {
        #[test]
        fn a_code_is_the_rank(mut thresholds in prop::collection::vec(number(), 0..300), x in number()) {
            for x in [x, f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 0.0, -0.0] {
                check(&mut thresholds, x);
            }
            for threshold in thresholds.clone() {
                for x in [threshold, threshold.next_up(), threshold.next_down()] {
                    check(&mut thresholds, x);
                }
            }
        }
    }
}
