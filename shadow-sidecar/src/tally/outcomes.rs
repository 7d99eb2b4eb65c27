//! What one comparison hands to the tally, in one step.

use crate::compare::RowOutcome;

/// The outcome of one exchange: its rows, and what else is known of them. A slice of [`RowOutcome`]s is one.
#[derive(Debug, Clone, Copy, Default)]
pub struct Outcomes<'a> {
    pub(super) rows: &'a [RowOutcome],
    pub(super) again: Option<&'a [RowOutcome]>,
    pub(super) levels: &'a [f64],
    pub(super) slices: &'a [u16],
}

impl<'a> Outcomes<'a> {
    /// Candidate against primary, one for each row.
    pub fn of(rows: &'a [RowOutcome]) -> Self {
        Self { rows, ..Self::default() }
    }

    /// Adds the noise floor: the primary's second answer to the same request against its first, one for each row. The
    /// comparator for it is [`Comparator::against_itself`](crate::compare::Comparator::against_itself).
    #[must_use]
    pub fn with_noise(self, again: &'a [RowOutcome]) -> Self {
        Self { again: Some(again), ..self }
    }

    /// Adds the differences of each quantile level, `[rows, levels]`: see
    /// [`Comparator::levels`](crate::compare::Comparator::levels).
    #[must_use]
    pub fn with_levels(self, levels: &'a [f64]) -> Self {
        Self { levels, ..self }
    }

    /// Adds the slices of each row, `[rows, features]`: see [`Slicer::assign`](crate::slicer::Slicer::assign).
    #[must_use]
    pub fn with_slices(self, slices: &'a [u16]) -> Self {
        Self { slices, ..self }
    }
}

impl<'a> From<&'a [RowOutcome]> for Outcomes<'a> {
    fn from(rows: &'a [RowOutcome]) -> Self {
        Self::of(rows)
    }
}

impl<'a> From<&'a Vec<RowOutcome>> for Outcomes<'a> {
    fn from(rows: &'a Vec<RowOutcome>) -> Self {
        Self::of(rows)
    }
}

impl<'a> From<&'a mut Vec<RowOutcome>> for Outcomes<'a> {
    fn from(rows: &'a mut Vec<RowOutcome>) -> Self {
        Self::of(rows)
    }
}

impl<'a, const N: usize> From<&'a [RowOutcome; N]> for Outcomes<'a> {
    fn from(rows: &'a [RowOutcome; N]) -> Self {
        Self::of(rows)
    }
}
