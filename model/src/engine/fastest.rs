//! Which engine a model gets: computed from its sizes when it is loaded, so that the same model gets the same engines
//! everywhere that has the same instructions.

use std::sync::Arc;

use super::Engine;
use super::blocks::Blocks;
use super::forest::Forest;
use super::levels::Levels;
use super::simd::Tier;
use super::steps::Steps;
use super::tables::Tables;
use super::walk::Walk;
use crate::batch::Rows;

/// One engine for few rows, and one for blocks of many.
#[derive(Debug)]
pub(crate) struct Fastest {
    few: Box<dyn Engine>,
    many: Option<Many>,
}

#[derive(Debug)]
struct Many {
    engine: Blocks,
    /// Rows from which on a block is cheaper than its rows one by one.
    from: usize,
}

impl Fastest {
    /// Nothing when no fast engine takes the forest.
    pub(crate) fn new(forest: &Arc<Forest>) -> Option<Self> {
        let tier = Tier::best();
        let mut few: Vec<(f64, Box<dyn Engine>)> = Vec::new();
        few.extend(Tables::new(forest, tier).map(|tables| (tables.cost(), Box::new(tables) as Box<dyn Engine>)));
        // Walks cost several times what tables do.
        let walks = few.is_empty();
        few.extend(Steps::new(forest, tier).map(|steps| (steps.cost(), Box::new(steps) as Box<dyn Engine>)));
        if walks {
            few.extend(Levels::new(forest).map(|levels| (levels.cost(), Box::new(levels) as Box<dyn Engine>)));
            few.extend(Walk::new(forest).map(|walk| (walk.cost(), Box::new(walk) as Box<dyn Engine>)));
        }
        let (row, few) = few.into_iter().min_by(|(a, _), (b, _)| a.total_cmp(b))?;
        let many = Blocks::new(forest, tier).and_then(|engine| {
            let (block, each) = engine.cost();
            // From so many rows on the block's own cost is made up for.
            let from = if row > each { (block / (row - each)).ceil() } else { f64::INFINITY };
            (from <= engine.rows() as f64).then(|| Many { engine, from: (from as usize).max(2) })
        });
        Some(Self { few, many })
    }
}

impl Engine for Fastest {
    fn margins(&self, rows: Rows<'_>, out: &mut Vec<f64>) {
        let Some(many) = self.many.as_ref().filter(|many| rows.len() >= many.from) else {
            return self.few.margins(rows, out);
        };
        let whole = rows.len() / many.engine.rows() * many.engine.rows();
        let blocks = if rows.len() - whole >= many.from { rows.len() } else { whole };
        let (first, rest) = rows.split_at(blocks);
        many.engine.margins(first, out);
        self.few.margins(rest, out);
    }

    fn describe(&self) -> String {
        match &self.many {
            None => self.few.describe(),
            Some(many) => {
                format!("{}; from {} rows on {}", self.few.describe(), many.from, many.engine.describe())
            }
        }
    }
}
