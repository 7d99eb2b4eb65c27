//! A model's conditions as codes of slots: what the fast engines are built from.

use std::collections::HashMap;

use super::model::{Condition, Element, Model, Node, Table, Tree};
use crate::engine::oblivious::{self, Codes, MAX_BORDERS, Part, Split, WalkTree};

/// The multiplier of the hash of a combination (`CalcHash` in hash.h).
const MULTIPLIER: u64 = 0x4906_ba49_4954_cb65;

/// The slots of a model, and where its conditions are.
pub(super) struct Slots {
    pub(super) codes: Codes,
    floats: Vec<Vec<Split>>,
    categories: Vec<Vec<Split>>,
    ctrs: Vec<Vec<Split>>,
}

/// Which conditions the trees ask.
struct Used {
    floats: Vec<Vec<bool>>,
    categories: Vec<Vec<bool>>,
    ctrs: Vec<Vec<bool>>,
}

/// A condition that is not used.
const UNUSED: Split = Split { slot: 0, above: 0 };

impl Used {
    fn of(model: &Model) -> Self {
        let mut used = Self {
            floats: model.floats.iter().map(|float| vec![false; float.borders.len()]).collect(),
            categories: model.categories.iter().map(|category| vec![false; category.values.len()]).collect(),
            ctrs: model.ctrs.iter().map(|ctr| vec![false; ctr.borders.len()]).collect(),
        };
        let mut mark = |condition: Condition| match condition {
            Condition::Float { float, border } => used.floats[float as usize][border as usize] = true,
            Condition::Category { category, value } => used.categories[category as usize][value as usize] = true,
            Condition::Ctr { ctr, border } => used.ctrs[ctr as usize][border as usize] = true,
        };
        for tree in &model.trees {
            match tree {
                Tree::Oblivious { splits, .. } => splits.iter().for_each(|split| mark(*split)),
                Tree::Nodes { nodes, .. } => nodes.iter().for_each(|node| mark(node.condition)),
            }
        }
        used
    }
}

/// The borders that are used, in slots of at most 255, and for each border its place; `add` gives a slot.
fn divide(borders: &[f32], used: &[bool], mut add: impl FnMut(&[f32]) -> usize) -> Vec<Split> {
    let mut splits = vec![UNUSED; borders.len()];
    let chosen: Vec<usize> = (0..borders.len()).filter(|index| used[*index]).collect();
    for chunk in chosen.chunks(MAX_BORDERS) {
        let values: Vec<f32> = chunk.iter().map(|index| borders[*index]).collect();
        let slot = add(&values) as u32;
        for (above, index) in chunk.iter().enumerate() {
            splits[*index] = Split { slot, above: above as u8 };
        }
    }
    splits
}

/// How many borders are below the value; none if it is NaN.
fn rank(borders: &[f32], value: f32) -> u8 {
    borders.partition_point(|border| value > *border) as u8
}

/// The key of a single category.
fn key(hash: u32) -> u64 {
    let operand = i64::from(hash.cast_signed()).cast_unsigned();
    MULTIPLIER.wrapping_mul(MULTIPLIER.wrapping_mul(operand))
}

impl Slots {
    /// Nothing when the tables of codes would take more than `budget` bytes, or their keys are no hashes.
    pub(super) fn new(model: &Model, mut budget: usize) -> Option<Self> {
        let used = Used::of(model);
        let mut codes = Codes::default();
        let mut floats = Vec::with_capacity(model.floats.len());
        for (float, used) in model.floats.iter().zip(&used.floats) {
            let add = |borders: &[f32]| codes.add_rank(float.position, float.missing_is_high, borders);
            floats.push(divide(&float.borders, used, add));
        }
        let mut charge = |bytes: usize| {
            budget = budget.checked_sub(bytes)?;
            Some(())
        };
        let mut categories = Vec::with_capacity(model.categories.len());
        for (index, (category, used)) in model.categories.iter().zip(&used.categories).enumerate() {
            codes.add_category(category.position, category.hashes.iter().copied());
            let mut splits = vec![UNUSED; category.values.len()];
            for ((value, split), _) in category.values.iter().zip(&mut splits).zip(used).filter(|(_, used)| **used) {
                charge(category.hashes.len())?;
                let is = category.hashes.iter().map(|hash| u8::from(hash.cast_signed() == *value));
                split.slot = codes.add_table(index, is) as u32;
            }
            categories.push(splits);
        }
        let mut ctrs = vec![Vec::new(); model.ctrs.len()];
        // Those of one category first, by code.
        let mut indexes = HashMap::new();
        for (ctr, (splits, used)) in model.ctrs.iter().zip(ctrs.iter_mut().zip(&used.ctrs)) {
            let [Element::Category(category)] = ctr.elements[..] else { continue };
            let table = &model.tables[ctr.table];
            let by_key: &HashMap<u64, usize> = indexes
                .entry(ctr.table)
                .or_insert_with(|| table.keys.iter().enumerate().map(|(index, key)| (*key, index)).collect());
            let hashes = &model.categories[category].hashes;
            charge(hashes.len() * used.iter().filter(|used| **used).count().div_ceil(MAX_BORDERS))?;
            *splits = divide(&ctr.borders, used, |borders| {
                let values = hashes.iter().map(|hash| {
                    let counts = by_key.get(&key(*hash)).map(|index| table.counts(*index));
                    rank(borders, ctr.value(table, counts))
                });
                codes.add_table(category, values)
            });
        }
        drop(indexes);
        // Then the combinations: all that are looked up in one table by one key together.
        for indexes in combinations(model, &used) {
            let [first, ..] = indexes[..] else { continue };
            let table = &model.tables[model.ctrs[first].table];
            let mut columns: Vec<(usize, Vec<f32>)> = Vec::new();
            let first_slot = codes.slots();
            for index in &indexes {
                ctrs[*index] = divide(&model.ctrs[*index].borders, &used.ctrs[*index], |borders| {
                    columns.push((*index, borders.to_vec()));
                    first_slot + columns.len() - 1
                });
            }
            charge(Codes::keyed_bytes(table.keys.len(), columns.len()))?;
            let parts: Vec<Part> = model.ctrs[first].elements.iter().map(|element| part(model, *element)).collect();
            let (keyed, missing) = ranks(model, table, &columns);
            codes.add_keyed(&parts, &table.keys, &keyed, &missing)?;
        }
        codes.arrange();
        Some(Self { codes, floats, categories, ctrs })
    }

    fn split(&self, condition: Condition) -> Split {
        match condition {
            Condition::Float { float, border } => self.floats[float as usize][border as usize],
            Condition::Category { category, value } => self.categories[category as usize][value as usize],
            Condition::Ctr { ctr, border } => self.ctrs[ctr as usize][border as usize],
        }
    }

    /// A tree over the slots.
    pub(super) fn tree(&self, tree: Tree) -> WalkTree {
        match tree {
            Tree::Oblivious { splits, leaves } => {
                let splits = splits.into_iter().map(|condition| self.split(condition)).collect();
                WalkTree::Levels(oblivious::Tree { splits, leaves })
            }
            Tree::Nodes { nodes, leaves } => {
                let node =
                    |Node { condition, left, right }| oblivious::Node { split: self.split(condition), left, right };
                WalkTree::Nodes { nodes: nodes.into_iter().map(node).collect(), leaves }
            }
        }
    }
}

/// The used CTRs of more than one category, grouped by table and elements, in the file's order.
fn combinations(model: &Model, used: &Used) -> Vec<Vec<usize>> {
    let mut groups: Vec<Vec<usize>> = Vec::new();
    let mut of_table: HashMap<usize, Vec<usize>> = HashMap::new();
    for (index, ctr) in model.ctrs.iter().enumerate() {
        if matches!(ctr.elements[..], [Element::Category(_)]) || !used.ctrs[index].contains(&true) {
            continue;
        }
        let same = |group: &&usize| model.ctrs[groups[**group][0]].elements == ctr.elements;
        let candidates = of_table.entry(ctr.table).or_default();
        if let Some(group) = candidates.iter().find(same).copied() {
            groups[group].push(index);
        } else {
            candidates.push(groups.len());
            groups.push(vec![index]);
        }
    }
    groups
}

fn part(model: &Model, element: Element) -> Part {
    match element {
        Element::Category(category) => Part::Category(category),
        Element::Is { category, hash } => Part::Is { category, hash },
        Element::Above { float, border } => {
            let float = &model.floats[float];
            Part::Above { position: float.position, missing_is_high: float.missing_is_high, border }
        }
    }
}

/// The codes of each key, `[keys, columns]`, and of a key that is not there. A column: a CTR and its borders.
fn ranks(model: &Model, table: &Table, columns: &[(usize, Vec<f32>)]) -> (Vec<u8>, Vec<u8>) {
    let (mut keyed, mut missing) = (Vec::with_capacity(table.keys.len() * columns.len()), Vec::new());
    let append = |counts: Option<&[f64]>, to: &mut Vec<u8>| {
        for (ctr, borders) in columns {
            to.push(rank(borders, model.ctrs[*ctr].value(table, counts)));
        }
    };
    for index in 0..table.keys.len() {
        append(Some(table.counts(index)), &mut keyed);
    }
    append(None, &mut missing);
    (keyed, missing)
}
