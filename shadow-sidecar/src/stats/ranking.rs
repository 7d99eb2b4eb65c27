//! How two models rank the same rows: what moments can't say, from a sample of bounded size.

use std::{cmp::Ordering, collections::BinaryHeap};

use super::correlation::Correlation;

/// Rows that are kept.
pub const SAMPLE: usize = 4096;
/// The top is one row in so many.
const TOP: usize = 10;
/// Of splitmix64.
const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

/// A uniform sample, without replacement, of the rows that both models have scored: those with the smallest hashes of where they
/// came (bottom-k sketch: Cohen and Kaplan, "Summarizing data using bottom-k sketches", PODC 2007). Whatever the scores are, the
/// same rows are kept; so the sample is the same in a replay, however the exchanges overtake each other, and that of several
/// replicas is a sample of all they have seen.
#[derive(Debug, Clone, Default, serde::Serialize, serde::Deserialize)]
pub struct Ranking {
    kept: BinaryHeap<Kept>,
    /// Rows that it is a sample of.
    seen: u64,
}

/// One row. The heap's first is the one with the largest hash.
#[derive(Debug, Clone, Copy, serde::Serialize, serde::Deserialize)]
struct Kept(u64, f64, f64);

/// What the sample says. All are estimates; their error is about 1.6 % where there are 4096 rows.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Ranks {
    /// Rows in the sample, at least two.
    pub rows: usize,
    /// Spearman's rank correlation, equal scores having the mean of their ranks. None while either side has not varied.
    pub spearman: Option<f64>,
    /// Kendall's tau-b. None while either side has not varied.
    pub kendall: Option<f64>,
    /// Rows in the top, a tenth.
    pub top: usize,
    /// The share of the primary's top that is in the candidate's, too.
    pub overlap: f64,
    /// Normalised discounted cumulative gain of the candidate's top, where a row's gain is the share of rows that the primary
    /// scores no higher (Järvelin and Kekäläinen, "Cumulated gain-based evaluation of IR techniques", TOIS 2002): 1 when the
    /// candidate puts the primary's highest first.
    pub gain: f64,
}

impl Ranking {
    /// The scores of row `row` of exchange `exchange`, counted from any number; left out unless both are finite.
    pub fn record(&mut self, (exchange, row): (u64, usize), primary: f64, candidate: f64) {
        if !(primary.is_finite() && candidate.is_finite()) {
            return;
        }
        self.seen += 1;
        let hash = mix(mix(exchange).wrapping_add(row as u64));
        self.keep(Kept(hash, primary, candidate));
    }

    fn keep(&mut self, row: Kept) {
        if self.kept.len() < SAMPLE {
            self.kept.push(row);
        } else if let Some(mut last) = self.kept.peek_mut()
            && row < *last
        {
            *last = row;
        }
    }

    /// Adds what another replica has seen.
    pub fn merge(&mut self, other: &Self) {
        self.seen = self.seen.saturating_add(other.seen);
        other.kept.iter().for_each(|row| self.keep(*row));
    }

    /// Whether it is what [`Self::record`] makes of at most so many rows.
    pub(crate) fn has_shape(&self, rows: u64) -> bool {
        let finite = |row: &Kept| row.1.is_finite() && row.2.is_finite();
        self.seen <= rows && self.kept.len() as u64 == self.seen.min(SAMPLE as u64) && self.kept.iter().all(finite)
    }

    /// Rows that it is a sample of.
    pub fn seen(&self) -> u64 {
        self.seen
    }

    /// How both models rank the rows of the sample. None of fewer than two.
    pub fn ranks(&self) -> Option<Ranks> {
        let mut rows: Vec<Kept> = self.kept.iter().copied().collect();
        // Among equal scores chance decides, and for both models the same.
        rows.sort_unstable();
        let (primary, candidate): (Vec<f64>, Vec<f64>) = rows.iter().map(|row| (row.1, row.2)).unzip();
        let n = rows.len();
        if n < 2 {
            return None;
        }
        let ordered = [descending(&primary), descending(&candidate)];
        let ranked = [mean_ranks(&primary, &ordered[0]), mean_ranks(&candidate, &ordered[1])];
        let mut together = Correlation::default();
        for (&primary, &candidate) in ranked[0].iter().zip(&ranked[1]) {
            together.record(primary, candidate);
        }
        let top = n.div_ceil(TOP);
        let [tops, others] = [&ordered[0][..top], &ordered[1][..top]];
        let mut in_top = vec![false; n];
        for &row in tops {
            in_top[row] = true;
        }
        // Rank 0 is the highest; among equals the mean, as good for one as for another.
        let gained = |rows: &[usize]| -> f64 {
            let places = rows.iter().enumerate();
            places.map(|(place, &row)| (n as f64 - ranked[0][row]) / (place as f64 + 2.0).log2()).sum()
        };
        Some(Ranks {
            rows: n,
            spearman: together.pearson(),
            kendall: kendall(&primary, &candidate),
            top,
            overlap: others.iter().filter(|&&row| in_top[row]).count() as f64 / top as f64,
            gain: gained(others) / gained(tops),
        })
    }
}

impl Ord for Kept {
    fn cmp(&self, other: &Self) -> Ordering {
        let scores = || self.1.total_cmp(&other.1).then_with(|| self.2.total_cmp(&other.2));
        self.0.cmp(&other.0).then_with(scores)
    }
}

impl PartialOrd for Kept {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Kept {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Kept {}

/// One step of splitmix64 (Steele, Lea and Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014).
fn mix(state: u64) -> u64 {
    let bits = state.wrapping_add(GOLDEN);
    let bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

/// The places of finite values, the largest first; equal ones in their order.
fn descending(values: &[f64]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|&left, &right| values[right].partial_cmp(&values[left]).unwrap_or(Ordering::Equal));
    order
}

/// The rank of each value, from 0 for the largest; that of equal ones is the mean of what they would have.
fn mean_ranks(values: &[f64], order: &[usize]) -> Vec<f64> {
    let mut ranks = vec![0.0; values.len()];
    let mut before = 0;
    for equal in order.chunk_by(|&left, &right| values[left] == values[right]) {
        let rank = before as f64 + (equal.len() - 1) as f64 / 2.0;
        for &place in equal {
            ranks[place] = rank;
        }
        before += equal.len();
    }
    ranks
}

/// Kendall's tau-b in n log n steps (Knight, "A computer method for calculating Kendall's tau with ungrouped data", JASA 1966).
fn kendall(primary: &[f64], candidate: &[f64]) -> Option<f64> {
    let mut pairs: Vec<(f64, f64)> = primary.iter().copied().zip(candidate.iter().copied()).collect();
    // Zeros of both signs are equal, so no total order.
    let by = |left: f64, right: f64| left.partial_cmp(&right).unwrap_or(Ordering::Equal);
    pairs.sort_by(|left, right| by(left.0, right.0).then_with(|| by(left.1, right.1)));
    let two_of = |n: usize| n as f64 * (n as f64 - 1.0) / 2.0;
    let equal_in_primary: f64 = pairs.chunk_by(|left, right| left.0 == right.0).map(|equal| two_of(equal.len())).sum();
    let equal_in_both: f64 = pairs.chunk_by(|left, right| left == right).map(|equal| two_of(equal.len())).sum();
    let mut second: Vec<f64> = pairs.into_iter().map(|pair| pair.1).collect();
    let exchanged = sort_counting(&mut second);
    let equal_in_candidate: f64 = second.chunk_by(|left, right| left == right).map(|equal| two_of(equal.len())).sum();
    let all = two_of(second.len());
    let scale = ((all - equal_in_primary) * (all - equal_in_candidate)).sqrt();
    let concordant = all - equal_in_primary - equal_in_candidate + equal_in_both - 2.0 * exchanged as f64;
    (scale > 0.0).then(|| (concordant / scale).clamp(-1.0, 1.0))
}

/// Sorts, and says how many neighbours a bubble sort would have exchanged.
fn sort_counting(values: &mut [f64]) -> u64 {
    let mut spare = values.to_vec();
    let mut exchanged = 0;
    let mut width = 1;
    while width < values.len() {
        for (block, sorted) in values.chunks(2 * width).zip(spare.chunks_mut(2 * width)) {
            let (left, right) = block.split_at(width.min(block.len()));
            let (mut first, mut second) = (0, 0);
            for place in sorted {
                if second == right.len() || first < left.len() && left[first] <= right[second] {
                    *place = left[first];
                    first += 1;
                } else {
                    *place = right[second];
                    exchanged += (left.len() - first) as u64;
                    second += 1;
                }
            }
        }
        values.copy_from_slice(&spare);
        width *= 2;
    }
    exchanged
}

#[cfg(test)]
mod tests;
