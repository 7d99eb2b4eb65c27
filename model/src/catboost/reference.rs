//! The model as CatBoost writes it down, condition by condition: slow, and plainly right.

use std::collections::HashMap;

use super::model::{Child, Condition, Element, Model, Tree};
use crate::batch::Rows;
use crate::engine::Engine;
use crate::engine::oblivious::number;

/// The multiplier of the hash of a combination (`CalcHash` in hash.h).
const MULTIPLIER: u64 = 0x4906_ba49_4954_cb65;

/// The engine.
#[derive(Debug)]
pub(super) struct Reference {
    model: Model,
    /// Index of each key, for each table.
    keys: Vec<HashMap<u64, usize>>,
}

impl Reference {
    pub(super) fn new(model: Model) -> Self {
        let index = |keys: &Vec<u64>| keys.iter().enumerate().map(|(index, key)| (*key, index)).collect();
        Self { keys: model.tables.iter().map(|table| index(&table.keys)).collect(), model }
    }

    fn holds(&self, condition: Condition, row: &[f64]) -> bool {
        match condition {
            Condition::Float { float, border } => {
                let float = float as usize;
                self.above(float, self.model.floats[float].borders[border as usize], row)
            }
            Condition::Category { category, value } => {
                let category = category as usize;
                self.hash(category, row).cast_signed() == self.model.categories[category].values[value as usize]
            }
            Condition::Ctr { ctr, border } => {
                self.ctr(ctr as usize, row) > self.model.ctrs[ctr as usize].borders[border as usize]
            }
        }
    }

    fn above(&self, float: usize, border: f32, row: &[f64]) -> bool {
        let float = &self.model.floats[float];
        let x = row[float.position] as f32;
        if x.is_nan() { float.missing_is_high } else { x > border }
    }

    fn hash(&self, category: usize, row: &[f64]) -> u32 {
        let category = &self.model.categories[category];
        category.hashes[number(row[category.position], category.hashes.len() - 2)]
    }

    fn ctr(&self, ctr: usize, row: &[f64]) -> f32 {
        let ctr = &self.model.ctrs[ctr];
        let key = ctr.elements.iter().fold(0_u64, |key, element| {
            let operand = match *element {
                Element::Category(category) => i64::from(self.hash(category, row).cast_signed()),
                Element::Is { category, hash } => i64::from(self.hash(category, row) == hash),
                Element::Above { float, border } => i64::from(self.above(float, border, row)),
            };
            let product = MULTIPLIER.wrapping_mul(operand.cast_unsigned());
            MULTIPLIER.wrapping_mul(key.wrapping_add(product))
        });
        let table = &self.model.tables[ctr.table];
        ctr.value(table, self.keys[ctr.table].get(&key).map(|index| table.counts(*index)))
    }

    fn leaf(&self, tree: &Tree, row: &[f64]) -> usize {
        match tree {
            Tree::Oblivious { splits, .. } => splits
                .iter()
                .enumerate()
                .map(|(level, condition)| usize::from(self.holds(*condition, row)) << level)
                .sum(),
            Tree::Nodes { nodes, .. } => {
                let mut place = if nodes.is_empty() { Child::Leaf(0) } else { Child::Node(0) };
                loop {
                    match place {
                        Child::Leaf(leaf) => break leaf as usize,
                        Child::Node(index) => {
                            let node = nodes[index as usize];
                            place = if self.holds(node.condition, row) { node.right } else { node.left };
                        }
                    }
                }
            }
        }
    }
}

impl Engine for Reference {
    fn margins(&self, rows: Rows<'_>, out: &mut Vec<f64>) {
        let outputs = self.model.outputs;
        for row in rows.iter() {
            let start = out.len();
            out.resize(start + outputs, 0.0);
            for tree in &self.model.trees {
                let first = self.leaf(tree, row) * outputs;
                for (sum, leaf) in out[start..].iter_mut().zip(&tree.leaves()[first..]) {
                    *sum += leaf;
                }
            }
        }
    }

    fn describe(&self) -> String {
        format!("as CatBoost wrote it, {} trees", self.model.trees.len())
    }
}
