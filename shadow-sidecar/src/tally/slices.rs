//! Agreement in predeclared segments of rows.

use super::shares::Shares;

/// Slices of one epoch, declared before its first exchange.
#[derive(Debug, Clone, PartialEq, Default, serde::Serialize, serde::Deserialize)]
pub struct Slices {
    names: Vec<String>,
    all: Vec<Slice>,
    /// Rows that agreed and rows in the exchange at hand.
    exchange: Vec<(u64, u64)>,
}

/// Counters of one slice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
pub struct Slice {
    compared: u64,
    agreed: u64,
    observations: u64,
    shares: Shares,
}

impl Slice {
    /// Rows.
    pub fn compared(&self) -> u64 {
        self.compared
    }

    /// Rows that agreed.
    pub fn agreed(&self) -> u64 {
        self.agreed
    }

    /// Exchanges with at least one row in this slice (n): the rows of a request may depend on each other.
    pub fn observations(&self) -> u64 {
        self.observations
    }

    /// The sum over them of the share of this slice's rows that agreed (s).
    pub fn shares(&self) -> f64 {
        self.shares.sum()
    }
}

impl Slices {
    pub(super) fn new(names: &[String]) -> Self {
        Self { names: names.to_vec(), all: vec![Slice::default(); names.len()], exchange: vec![(0, 0); names.len()] }
    }

    /// The rows of one exchange; `slices` is `[rows, features]`. Nothing is counted when that does not fit.
    pub(super) fn record(&mut self, agreed: impl ExactSizeIterator<Item = bool>, slices: &[u16]) {
        let rows = agreed.len();
        let features = slices.len().checked_div(rows).unwrap_or(0);
        if features == 0 || features * rows != slices.len() {
            return;
        }
        for (agreed, row) in agreed.zip(slices.chunks_exact(features)) {
            for &slice in row {
                if let Some((agreeing, rows)) = self.exchange.get_mut(usize::from(slice)) {
                    *agreeing += u64::from(agreed);
                    *rows += 1;
                }
            }
        }
        for (slice, counted) in self.all.iter_mut().zip(&mut self.exchange) {
            let (agreed, rows) = std::mem::take(counted);
            if rows > 0 {
                slice.compared += rows;
                slice.agreed += agreed;
                slice.observations += 1;
                slice.shares.record(agreed, rows);
            }
        }
    }

    pub(super) fn same_kind(&self, other: &Self) -> bool {
        self.names == other.names
    }

    pub(super) fn has_shape(&self) -> bool {
        let sound = |slice: &Slice| slice.shares() <= slice.observations as f64;
        [self.all.len(), self.exchange.len()] == [self.names.len(); 2] && self.all.iter().all(sound)
    }

    pub(super) fn merge(&mut self, other: &Self) {
        for (mine, theirs) in self.all.iter_mut().zip(&other.all) {
            mine.compared = mine.compared.saturating_add(theirs.compared);
            mine.agreed = mine.agreed.saturating_add(theirs.agreed);
            mine.observations = mine.observations.saturating_add(theirs.observations);
            mine.shares.merge(theirs.shares);
        }
    }

    /// Name and counters of every slice, also of those without a row yet.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &Slice)> {
        self.names.iter().map(String::as_str).zip(&self.all)
    }
}
