//! How signed differences of any size are spread, in fixed memory: mergeable by addition, with edges that people read.

/// Decades of sizes: 1e-9 to 1e6.
const FIRST: i32 = -9;
const DECADES: i32 = 15;
const SIDE: usize = 3 * DECADES as usize + 1;

/// Counts of differences between the edges ..., -2e-9, -1e-9, 1e-9, 2e-9, 5e-9, 1e-8, ..., 1e6: the bin in the middle
/// holds zero and what is as good as zero. What is larger than the last edge is in the outermost bin.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Spread {
    below: Vec<u64>,
    zero: u64,
    above: Vec<u64>,
}

impl Default for Spread {
    fn default() -> Self {
        Self { below: vec![0; SIDE], zero: 0, above: vec![0; SIDE] }
    }
}

/// One bin.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Bin {
    /// Its lower edge, -infinity for the outermost.
    pub lower: f64,
    /// Its upper edge, infinity for the outermost.
    pub upper: f64,
    /// Differences in it.
    pub count: u64,
}

/// The edge number `index` on the side of the positive: 1e-9, 2e-9, 5e-9, 1e-8, ...; infinity after the last.
fn edge(index: usize) -> f64 {
    if index >= SIDE {
        return f64::INFINITY;
    }
    // Divided where the exponent is negative: powers below one are not exact, quotients are rounded once.
    let (leading, exponent) = ([1.0, 2.0, 5.0][index % 3], FIRST + index as i32 / 3);
    if exponent < 0 { leading / 10f64.powi(-exponent) } else { leading * 10f64.powi(exponent) }
}

impl Spread {
    /// One difference. What is no number is not counted.
    pub fn record(&mut self, difference: f64) {
        let size = difference.abs();
        if size.is_nan() {
            return;
        }
        let mut reached = 0;
        let mut end = SIDE;
        while reached < end {
            let middle = usize::midpoint(reached, end);
            if edge(middle) <= size { reached = middle + 1 } else { end = middle }
        }
        let side = if difference < 0.0 { &mut self.below } else { &mut self.above };
        match reached.checked_sub(1).and_then(|index| side.get_mut(index)) {
            Some(count) => *count += 1,
            None => self.zero += 1,
        }
    }

    /// Adds what another replica has seen.
    pub fn merge(&mut self, other: &Self) {
        let mine = self.below.iter_mut().chain([&mut self.zero]).chain(&mut self.above);
        let theirs = other.below.iter().chain([&other.zero]).chain(&other.above);
        for (mine, theirs) in mine.zip(theirs) {
            *mine = mine.saturating_add(*theirs);
        }
    }

    /// Whether it has all its bins.
    pub(crate) fn has_shape(&self) -> bool {
        self.below.len() == SIDE && self.above.len() == SIDE
    }

    /// The bins with something in them, and the empty ones between them, from the lowest to the highest.
    pub fn bins(&self) -> Vec<Bin> {
        let below = (0..SIDE).rev().map(|i| Bin { lower: -edge(i + 1), upper: -edge(i), count: self.below[i] });
        let zero = Bin { lower: -edge(0), upper: edge(0), count: self.zero };
        let above = (0..SIDE).map(|i| Bin { lower: edge(i), upper: edge(i + 1), count: self.above[i] });
        let all: Vec<Bin> = below.chain([zero]).chain(above).collect();
        let occupied = |bin: &Bin| bin.count > 0;
        match (all.iter().position(occupied), all.iter().rposition(occupied)) {
            (Some(first), Some(last)) => all[first..=last].to_vec(),
            _ => Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_difference_is_between_the_edges_of_its_bin() {
        let sizes =
            (-400..400).map(|i| 1.07f64.powi(i)).chain([1e-9, 2e-9, 0.001, 0.5, 1.0, 1e6, 1e300, f64::INFINITY]);
        for difference in sizes.flat_map(|size| [size, -size]).chain([0.0, -0.0, 9e-10]) {
            let mut spread = Spread::default();
            spread.record(difference);
            let bins = spread.bins();
            let [Bin { lower, upper, count: 1 }] = bins[..] else { panic!("{difference}: {bins:?}") };
            let size = difference.abs();
            let (near, far) = if lower < 0.0 && upper > 0.0 {
                (0.0, upper)
            } else {
                (lower.abs().min(upper.abs()), lower.abs().max(upper.abs()))
            };
            assert!(near <= size && (size < far || far == f64::INFINITY), "{difference}: {bins:?}");
            assert!(lower <= difference && difference <= upper, "{difference}: {bins:?}");
        }
    }

    #[test]
    fn edges_are_the_decimals_that_they_read_as() {
        let mut spread = Spread::default();
        for difference in [0.01, -0.02, f64::NAN] {
            spread.record(difference);
        }
        let bins = spread.bins();
        let (first, last) = (bins[0], bins[bins.len() - 1]);
        assert_eq!((first.lower, first.upper, first.count), (-0.05, -0.02, 1));
        assert_eq!((last.lower, last.upper, last.count), (0.01, 0.02, 1));
        assert_eq!(bins.iter().map(|bin| bin.count).sum::<u64>(), 2);
        assert!(bins.windows(2).all(|pair| pair[0].upper == pair[1].lower), "no gap");
        assert!(Spread::default().bins().is_empty());
    }

    #[test]
    fn merging_is_pooling() {
        let (mut left, mut right, mut both) = (Spread::default(), Spread::default(), Spread::default());
        for (i, difference) in [0.3, -0.3, 0.0, 1e-4, 2e7].into_iter().enumerate() {
            if i % 2 == 0 {
                left.record(difference);
            } else {
                right.record(difference);
            }
            both.record(difference);
        }
        left.merge(&right);
        assert_eq!(left, both);
    }
}
