//! One who predicts: we or a peer.

use std::hint::black_box;
use std::time::Duration;

use crate::Outcome;
use crate::clock;

/// Rows of a case, row-major.
#[derive(Debug)]
pub struct Rows {
    pub values: Vec<f64>,
    pub columns: usize,
}

impl Rows {
    pub fn len(&self) -> usize {
        self.values.len() / self.columns
    }

    /// `count` rows from `start` on.
    pub fn range(&self, start: usize, count: usize) -> &[f64] {
        &self.values[start * self.columns..(start + count) * self.columns]
    }
}

/// Everybody gets the same: doubles, row-major. What an engine must make of them first is in its time.
pub trait Engine {
    fn name(&self) -> String;

    /// How it works on this model, for people.
    fn describe(&self) -> String {
        String::new()
    }

    /// Appends a number for each row.
    fn predict(&mut self, rows: &[f64], out: &mut Vec<f64>) -> Outcome<()>;

    /// All rows by batches of a size.
    fn predict_all(&mut self, rows: &Rows, batch: usize) -> Outcome<Vec<f64>> {
        let mut out = Vec::new();
        for start in (0..rows.len()).step_by(batch) {
            self.predict(rows.range(start, batch.min(rows.len() - start)), &mut out)?;
        }
        Ok(out)
    }

    /// CPU time of the first `count` rows by batches of a size, after a warm-up that is not counted.
    fn time(&mut self, rows: &Rows, batch: usize, count: usize) -> Outcome<Duration> {
        let mut out = Vec::with_capacity(batch.max(16));
        // The last rows, not the first: nothing that is timed has just been seen.
        for start in (rows.len() - (count / 20).max(batch).min(rows.len())..rows.len()).step_by(batch) {
            out.clear();
            self.predict(rows.range(start, batch.min(rows.len() - start)), &mut out)?;
        }
        let start = clock::now();
        for first in (0..count).step_by(batch) {
            out.clear();
            self.predict(rows.range(first, batch.min(count - first)), &mut out)?;
            black_box(&out);
        }
        Ok(clock::now() - start)
    }

    /// Whether it predicts the case's model, and not one of its own.
    fn same_model(&self) -> bool {
        true
    }

    /// Whether its numbers are probabilities where the case's are margins.
    fn probabilities(&self) -> bool {
        false
    }
}
