//! What one comparison hands to the tally, in one step.

use crate::compare::RowOutcome;

/// The outcome of one exchange: its rows, and what else is known of them. A slice of [`RowOutcome`]s is one.
#[derive(Debug, Clone, Copy, Default)]
pub struct Outcomes<'a> {
    pub(super) rows: &'a [RowOutcome],
    pub(super) again: Option<&'a [RowOutcome]>,
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
