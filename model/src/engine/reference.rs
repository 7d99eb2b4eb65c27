//! The reference engine: one row, one tree, one node after another. Slow, plain, and obviously right; the faster
//! engines are held against it.

use super::Engine;
use super::ensemble::{Child, Ensemble, Missing, Precision, Split};
use crate::batch::Rows;

/// Walks each tree of an ensemble from its root to a leaf.
#[derive(Debug)]
pub(crate) struct Reference {
    ensemble: Ensemble,
    /// For each column of the model its position in the row.
    columns: Vec<usize>,
}

impl Reference {
    /// `columns`: for each column of the model its position in the row, all within the rows to come.
    pub(crate) fn new(ensemble: Ensemble, columns: Vec<usize>) -> Self {
        Self { ensemble, columns }
    }

    fn leaf(&self, tree: usize, row: &[f64]) -> f64 {
        let tree = &self.ensemble.trees()[tree];
        let mut child = tree.root();
        loop {
            match child {
                Child::Leaf(leaf) => return tree.leaves()[leaf as usize],
                Child::Node(node) => {
                    let node = &tree.nodes()[node as usize];
                    let value = self.ensemble.input.round(row[self.columns[node.column as usize]]);
                    child = if goes_left(&node.split, self.ensemble.tiny, value) { node.left } else { node.right };
                }
            }
        }
    }
}

impl Engine for Reference {
    fn margins(&self, rows: Rows<'_>, out: &mut Vec<f64>) {
        let outputs = self.ensemble.outputs();
        for row in rows.iter() {
            let start = out.len();
            out.extend(&self.ensemble.start);
            for tree in 0..self.ensemble.trees().len() {
                let sum = &mut out[start + tree % outputs];
                *sum = match self.ensemble.sum {
                    Precision::Double => *sum + self.leaf(tree, row),
                    Precision::Single => f64::from(*sum as f32 + self.leaf(tree, row) as f32),
                };
            }
        }
    }

    fn describe(&self) -> String {
        "reference".to_owned()
    }
}

/// The decision of one node. With LightGBM's `tiny`: `NumericalDecision` and `CategoricalDecision` in its tree.h.
fn goes_left(split: &Split, tiny: f64, value: f64) -> bool {
    match split {
        Split::Numeric { threshold, missing, default_left } => {
            // LightGBM's prediction keeps only values beyond the threshold of a row and takes the others as zero.
            let value = if value.abs() <= tiny || (value.is_nan() && *missing != Missing::NaN) { 0.0 } else { value };
            match missing {
                Missing::Zero if value == 0.0 => *default_left,
                Missing::NaN if value.is_nan() => *default_left,
                _ => value <= *threshold,
            }
        }
        Split::Category { words } => {
            // Truncated toward zero: -0.5 is category 0. NaN fails both comparisons.
            if !(value > -1.0 && value < 2_147_483_648.0) {
                return false;
            }
            let code = value as usize;
            words.get(code / 32).is_some_and(|word| word >> (code % 32) & 1 == 1)
        }
    }
}
