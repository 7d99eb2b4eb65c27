//! A sum of shares that comes out the same in whatever order it is added up.

/// Binary digits after the point.
const FRACTION_BITS: u32 = 64;

/// A sum of shares in [0, 1], in units of 2^-64.
///
/// In integers, because sums of f64 depend on their order: two replicas and one would not come to the same evidence, and
/// a billion shares of 2/3 come to 1.3 less than they are. Each share is rounded down, by less than 2^-64; 0 and 1 are
/// exact. There is room for 2^64 shares.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Default, serde::Serialize, serde::Deserialize)]
pub(super) struct Shares(u128);

impl Shares {
    /// Adds agreed / rows. Without rows there is no share.
    pub(super) fn record(&mut self, agreed: u64, rows: u64) {
        let share = (u128::from(agreed.min(rows)) << FRACTION_BITS).checked_div(u128::from(rows));
        self.0 = self.0.saturating_add(share.unwrap_or_default());
    }

    /// Adds what another replica has seen: exactly as if one had seen it all.
    pub(super) fn merge(&mut self, other: Self) {
        self.0 = self.0.saturating_add(other.0);
    }

    /// The sum, rounded to an f64: exact up to 2^53 where each share is 0 or 1.
    pub(super) fn sum(self) -> f64 {
        self.0 as f64 / 2f64.powi(FRACTION_BITS as i32)
    }
}

/// agreed / rows; 0 without rows.
pub(super) fn share(agreed: u64, rows: u64) -> f64 {
    if rows == 0 { 0.0 } else { agreed.min(rows) as f64 / rows as f64 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_are_exact_and_do_not_depend_on_order() {
        let mut shares = Shares::default();
        assert_eq!(shares.sum(), 0.0);
        for (agreed, rows) in [(1, 1), (0, 1), (3, 4), (7, 7), (0, 9)] {
            shares.record(agreed, rows);
        }
        assert_eq!(shares.sum(), 2.75);
        // No rows, no share; more agreements than rows would be a caller's error.
        shares.record(0, 0);
        shares.record(3, 2);
        assert_eq!(shares.sum(), 3.75);

        let (mut forth, mut back) = (Shares::default(), Shares::default());
        for rows in 1..1000 {
            forth.record(rows / 3, rows);
            back.record((1000 - rows) / 3, 1000 - rows);
        }
        assert_eq!(forth, back);
        let mut twice = forth;
        twice.merge(back);
        assert_eq!(twice.sum(), 2.0 * forth.sum());
    }

    #[test]
    fn sums_do_not_overflow() {
        let mut shares = Shares::default();
        shares.record(u64::MAX, u64::MAX);
        assert_eq!(shares.sum(), 1.0);
        let mut full = Shares(u128::MAX);
        full.merge(shares);
        assert_eq!(full, Shares(u128::MAX));
    }
}
