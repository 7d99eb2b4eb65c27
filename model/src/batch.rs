//! Rows of numbers, as the model sees them.

use std::ops::Range;

/// A batch of rows, row-major: `[rows, width]` doubles, one for each feature in the schema's order.
///
/// A missing value is NaN, a category is its code and an unseen category is -1. The buffer keeps its capacity over
/// [`clear`](Batch::clear), so that one batch may serve many requests.
#[derive(Debug, Clone, Default)]
pub struct Batch {
    values: Vec<f64>,
    width: usize,
}

impl Batch {
    /// An empty batch of rows with `width` features.
    pub fn new(width: usize) -> Self {
        Self { values: Vec::new(), width }
    }

    /// An empty batch with room for `rows` rows of `width` features.
    pub fn with_capacity(width: usize, rows: usize) -> Self {
        Self { values: Vec::with_capacity(width.saturating_mul(rows)), width }
    }

    /// Forgets the rows, keeps the memory.
    pub fn clear(&mut self) {
        self.values.clear();
    }

    /// Forgets the rows and takes rows of `width` features from now on; keeps the memory.
    pub fn reset(&mut self, width: usize) {
        self.values.clear();
        self.width = width;
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.values.len().checked_div(self.width).unwrap_or(0)
    }

    /// Number of features in a row.
    pub fn width(&self) -> usize {
        self.width
    }

    /// One row, `[width]`.
    ///
    /// # Panics
    /// When `index` is not below [`rows`](Batch::rows), as indexing a slice does.
    pub fn row(&self, index: usize) -> &[f64] {
        &self.values[index * self.width..(index + 1) * self.width]
    }

    /// One row, `[width]`, to be written.
    ///
    /// # Panics
    /// When `index` is not below [`rows`](Batch::rows), as indexing a slice does.
    pub fn row_mut(&mut self, index: usize) -> &mut [f64] {
        &mut self.values[index * self.width..(index + 1) * self.width]
    }

    /// Appends a row in which every value is missing (NaN), `[width]`, and gives it to be written.
    pub fn push_row(&mut self) -> &mut [f64] {
        let start = self.values.len();
        self.values.resize(start + self.width, f64::NAN);
        &mut self.values[start..]
    }

    /// All values, `[rows * width]`, row-major.
    pub fn values(&self) -> &[f64] {
        &self.values
    }

    /// The rows of a range, or nothing when it reaches past the end.
    pub(crate) fn view(&self, range: Range<usize>) -> Option<Rows<'_>> {
        if range.start > range.end || range.end > self.rows() {
            return None;
        }
        let values = &self.values[range.start * self.width..range.end * self.width];
        Some(Rows { values, width: self.width })
    }
}

/// Consecutive rows of a batch, borrowed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rows<'a> {
    values: &'a [f64],
    width: usize,
}

impl<'a> Rows<'a> {
    /// Rows of `width` doubles, row-major.
    pub(crate) fn new(values: &'a [f64], width: usize) -> Self {
        Self { values, width }
    }

    /// Number of rows.
    pub(crate) fn len(&self) -> usize {
        self.values.len() / self.width.max(1)
    }

    /// The first rows, and the others.
    pub(crate) fn split_at(&self, rows: usize) -> (Rows<'a>, Rows<'a>) {
        let (first, rest) = self.values.split_at(rows * self.width);
        (Rows { values: first, width: self.width }, Rows { values: rest, width: self.width })
    }

    /// The rows in blocks of `rows` and a shorter last one.
    pub(crate) fn blocks(&self, rows: usize) -> impl Iterator<Item = Rows<'a>> + use<'a> {
        let width = self.width;
        self.values.chunks(rows * width.max(1)).map(move |values| Rows { values, width })
    }

    /// Row by row, each `[width]`.
    pub(crate) fn iter(&self) -> std::slice::ChunksExact<'a, f64> {
        self.values.chunks_exact(self.width.max(1))
    }
}
