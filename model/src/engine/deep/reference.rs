//! One row, one tree, one node after another: slow, plain, and obviously right.

use std::sync::Arc;

use super::{Node, Test, Trees, within};
use crate::batch::Rows;
use crate::engine::Engine;

/// Walks each tree from its root to a leaf.
#[derive(Debug)]
pub(crate) struct Reference {
    trees: Arc<Trees>,
}

impl Reference {
    pub(crate) fn new(trees: Arc<Trees>) -> Self {
        Self { trees }
    }

    /// The row of leaf values that a tree gives for a row.
    fn leaf(&self, tree: usize, row: &[f64]) -> u32 {
        let nodes = self.trees.tree(tree);
        let mut place = 0;
        loop {
            match &nodes[place as usize] {
                Node::Leaf { row } => return *row,
                Node::Split(split) => {
                    let value = self.trees.precision.round(row[split.position as usize]);
                    let left = match split.test {
                        Test::AtMost(_) if value.is_nan() => split.missing_left,
                        Test::AtMost(threshold) => value <= threshold,
                        Test::Within(set) => {
                            within(&self.trees.sets[set as usize], value).unwrap_or(split.missing_left)
                        }
                    };
                    place = if left { split.left } else { split.right };
                }
            }
        }
    }
}

impl Engine for Reference {
    fn margins(&self, rows: Rows<'_>, out: &mut Vec<f64>) {
        for row in rows.iter() {
            let start = out.len();
            out.extend_from_slice(&self.trees.start);
            for tree in 0..self.trees.len() {
                self.trees.add(tree, self.leaf(tree, row), &mut out[start..]);
            }
        }
    }

    fn describe(&self) -> String {
        "reference".to_owned()
    }
}
