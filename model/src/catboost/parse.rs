//! The JSON text of a model becomes trees that cannot be wrong.
//!
//! Nothing is allocated by a number that the text only claims: every list is as long as the text that holds it.

use std::collections::{HashMap, HashSet};
use std::fmt::Display;

use super::model::{Category, Child, Condition, Ctr, CtrType, Element, Float, Model, Node, Table, Tree};
use super::{Hashes, Objective, ParseError, raw};
use crate::text::shown;

/// Levels of a tree: CatBoost's own limit.
const MAX_LEVELS: usize = 16;

/// A model as it was read.
#[derive(Debug)]
pub(super) struct Parsed {
    pub(super) model: Model,
    /// Columns of the model: one more than the last flat feature index.
    pub(super) columns: usize,
    pub(super) objective: Objective,
    pub(super) scale: f64,
    /// For each output.
    pub(super) bias: Vec<f64>,
}

/// Fails with a contradiction unless the condition holds.
fn ensure<G: Display>(
    holds: bool,
    place: impl FnOnce() -> String,
    what: &str,
    expected: impl FnOnce() -> String,
    got: G,
) -> Result<(), ParseError> {
    if holds { Ok(()) } else { Err(ParseError::invalid(place(), what, expected(), got)) }
}

/// Reads and checks a whole file, for rows in which the columns lie at these positions, or in order.
pub(super) fn parse(bytes: &[u8], hashes: &[Hashes], positions: Option<&[usize]>) -> Result<Parsed, ParseError> {
    let file: raw::File = serde_json::from_slice(bytes).map_err(ParseError::Json)?;
    let info = file.features_info;
    for (what, list) in [("text_features", info.text_features), ("embedding_features", info.embedding_features)] {
        let count = list.map_or(0, |list| list.len());
        ensure(count == 0, || "features_info".to_owned(), what, || "none: they are not supported".to_owned(), count)?;
    }
    let mut columns = Columns { positions, seen: HashSet::new(), count: 0 };
    let floats = floats(info.float_features.unwrap_or_default(), &mut columns)?;
    let categories = categories(info.categorical_features.unwrap_or_default(), hashes, &mut columns)?;
    let (ids, tables) = tables(file.ctr_data.unwrap_or_default().0)?;
    let raw = info.ctrs.unwrap_or_default();
    let mut ctrs = Vec::with_capacity(raw.len());
    for (index, raw) in raw.into_iter().enumerate() {
        ctrs.push(ctr(index, raw, (&ids, &tables), floats.len(), categories.len())?);
    }
    let splits = Splits::new(&floats, &categories, &ctrs);
    let mut shape = Shape { splits, outputs: None };
    let trees = match (file.oblivious_trees, file.trees) {
        (Some(trees), None) => shape.oblivious(trees)?,
        (None, Some(trees)) => shape.nodes(trees)?,
        (oblivious, _) => {
            let got = if oblivious.is_some() { "both" } else { "neither" };
            return Err(ParseError::invalid("file", "trees", "oblivious_trees or trees", got));
        }
    };
    let (scale, bias) = file.scale_and_bias.unwrap_or((1.0, raw::Numbers::One(0.0)));
    let bias = bias.as_slice();
    let outputs = shape.outputs.unwrap_or(bias.len());
    ensure(outputs > 0, || "trees".to_owned(), "leaf_values", || "at least one number".to_owned(), outputs)?;
    let bias = match bias {
        // Old versions write one number for any number of outputs.
        [] => vec![0.0; outputs],
        [zero] if *zero == 0.0 => vec![0.0; outputs],
        bias if bias.len() == outputs => bias.to_vec(),
        bias => {
            let expected = format!("a bias for each of {outputs} outputs");
            return Err(ParseError::invalid("file", "scale_and_bias", expected, bias.len()));
        }
    };
    let loss = file.model_info.params.map(|params| params.loss_function.kind);
    let objective = Objective::parse(loss.as_deref().unwrap_or_default(), outputs).map_err(|expected| {
        let got = loss.map_or("nothing".to_owned(), |loss| shown(&loss));
        ParseError::invalid("model_info", "loss_function", expected, got)
    })?;
    let columns = columns.count;
    Ok(Parsed { model: Model { floats, categories, ctrs, tables, trees, outputs }, columns, objective, scale, bias })
}

/// Which flat feature indexes there are.
struct Columns<'a> {
    positions: Option<&'a [usize]>,
    seen: HashSet<usize>,
    count: usize,
}

impl Columns<'_> {
    /// Most columns of a model that is read without positions.
    const MOST: usize = 1 << 20;

    /// The position in a row.
    fn position(&mut self, place: impl Fn() -> String, flat: usize) -> Result<usize, ParseError> {
        let most = self.positions.map_or(Self::MOST, <[usize]>::len);
        ensure(flat < most, &place, "flat_feature_index", || format!("below {most}"), flat)?;
        ensure(self.seen.insert(flat), &place, "flat_feature_index", || "each once".to_owned(), flat)?;
        self.count = self.count.max(flat + 1);
        Ok(self.positions.map_or(flat, |positions| positions[flat]))
    }
}

fn floats(raw: Vec<raw::Float>, columns: &mut Columns<'_>) -> Result<Vec<Float>, ParseError> {
    let mut floats = Vec::with_capacity(raw.len());
    for (index, raw) in raw.into_iter().enumerate() {
        let place = || format!("float feature {index}");
        let got = raw.feature_index;
        ensure(got == index, place, "feature_index", || index.to_string(), got)?;
        let position = columns.position(place, raw.flat_feature_index)?;
        let missing_is_high = raw.nan_value_treatment == raw::Missing::AsTrue;
        floats.push(Float { position, missing_is_high, borders: borders(place, &raw.borders.unwrap_or_default())? });
    }
    Ok(floats)
}

fn borders(place: impl Fn() -> String, raw: &[f64]) -> Result<Vec<f32>, ParseError> {
    let borders: Vec<f32> = raw.iter().map(|border| *border as f32).collect();
    let wrong = borders.iter().find(|border| !border.is_finite());
    ensure(wrong.is_none(), &place, "borders", || "finite numbers".to_owned(), wrong.copied().unwrap_or_default())?;
    let wrong = borders.windows(2).find(|pair| pair[0] > pair[1]).map(|pair| pair[1]);
    ensure(wrong.is_none(), &place, "borders", || "ascending numbers".to_owned(), wrong.unwrap_or_default())?;
    Ok(borders)
}

fn categories(
    raw: Vec<raw::Category>,
    hashes: &[Hashes],
    columns: &mut Columns<'_>,
) -> Result<Vec<Category>, ParseError> {
    let all = || "features_info".to_owned();
    let expected = || format!("{} (those whose hashes are given)", hashes.len());
    ensure(raw.len() == hashes.len(), all, "categorical_features", expected, raw.len())?;
    let mut categories = Vec::with_capacity(raw.len());
    for (index, (raw, hashes)) in raw.into_iter().zip(hashes).enumerate() {
        let place = || format!("categorical feature {index}");
        let got = raw.feature_index;
        ensure(got == index, place, "feature_index", || index.to_string(), got)?;
        let position = columns.position(place, raw.flat_feature_index)?;
        let mut hashes: Vec<u32> = hashes.codes.iter().copied().chain([hashes.missing, hashes.unseen]).collect();
        hashes.shrink_to_fit();
        categories.push(Category { position, values: raw.values.unwrap_or_default(), hashes });
    }
    Ok(categories)
}

fn tables(raw: Vec<(String, raw::Table)>) -> Result<(HashMap<String, usize>, Vec<Table>), ParseError> {
    let (mut ids, mut tables) = (HashMap::new(), Vec::new());
    for (index, (id, raw)) in raw.into_iter().enumerate() {
        let place = || format!("ctr_data {index}");
        let raw::HashMap { keys, values, width } = raw.hash_map;
        if width > 0 {
            let expected = || format!("{} (a key and its numbers)", width + 1);
            ensure(raw.hash_stride == width + 1, place, "hash_stride", expected, raw.hash_stride)?;
        }
        let mut sorted = keys.clone();
        sorted.sort_unstable();
        let twice = sorted.windows(2).find(|pair| pair[0] == pair[1]).map(|pair| pair[0]);
        ensure(twice.is_none(), place, "hash_map", || "each key once".to_owned(), twice.unwrap_or_default())?;
        ids.insert(id, index);
        tables.push(Table { keys, values, width, denominator: raw.counter_denominator });
    }
    Ok((ids, tables))
}

fn ctr(
    index: usize,
    raw: raw::Ctr,
    (ids, tables): (&HashMap<String, usize>, &[Table]),
    floats: usize,
    categories: usize,
) -> Result<Ctr, ParseError> {
    let place = || format!("ctr {index}");
    let Some(table) = ids.get(&raw.identifier).copied() else {
        return Err(ParseError::invalid(place(), "identifier", "a key of ctr_data", shown(&raw.identifier)));
    };
    let width = match raw.ctr_type {
        CtrType::Counter | CtrType::FeatureFreq => 1,
        CtrType::BinarizedTargetMeanValue | CtrType::FloatTargetMeanValue => 2,
        CtrType::Borders => raw.target_border_idx.saturating_add(2),
        CtrType::Buckets => raw.target_border_idx.saturating_add(1),
    };
    let got = tables[table].width;
    ensure(
        got >= width || tables[table].keys.is_empty(),
        place,
        "hash_map",
        || format!("at least {width} numbers for each key"),
        got,
    )?;
    let mut elements = Vec::with_capacity(raw.elements.len());
    for element in raw.elements {
        elements.push(element_of(place, element, floats, categories)?);
    }
    ensure(!elements.is_empty(), place, "elements", || "at least one".to_owned(), 0)?;
    let single = |what: &str, number: f64| {
        let single = number as f32;
        ensure(single.is_finite(), place, what, || "a finite number".to_owned(), number).map(|()| single)
    };
    Ok(Ctr {
        kind: raw.ctr_type,
        elements,
        table,
        target_border: raw.target_border_idx,
        prior_numerator: single("prior_numerator", raw.prior_numerator)?,
        prior_denominator: single("prior_denomerator", raw.prior_denomerator)?,
        shift: single("shift", raw.shift)?,
        scale: single("scale", raw.scale)?,
        borders: borders(place, &raw.borders)?,
    })
}

fn element_of(
    place: impl Fn() -> String,
    raw: raw::Element,
    floats: usize,
    categories: usize,
) -> Result<Element, ParseError> {
    let below = |what: &str, index: usize, end: usize| {
        ensure(index < end, &place, what, || format!("below {end}"), index).map(|()| index)
    };
    Ok(match raw {
        raw::Element::CatFeatureValue { cat_feature_index } => {
            Element::Category(below("cat_feature_index", cat_feature_index, categories)?)
        }
        raw::Element::CatFeatureExactValue { cat_feature_index, value } => {
            let category = below("cat_feature_index", cat_feature_index, categories)?;
            Element::Is { category, hash: value.cast_unsigned() }
        }
        raw::Element::FloatFeature { float_feature_index, border } => {
            let float = below("float_feature_index", float_feature_index, floats)?;
            let finite = (border as f32).is_finite();
            ensure(finite, &place, "border", || "a finite number".to_owned(), border)?;
            Element::Above { float, border: border as f32 }
        }
    })
}

/// What a split index means: all borders of the numbers are counted, then all values of the categories, then all
/// borders of the CTRs.
struct Splits {
    /// Where the conditions of each end.
    ends: Vec<usize>,
    floats: usize,
    categories: usize,
}

impl Splits {
    fn new(floats: &[Float], categories: &[Category], ctrs: &[Ctr]) -> Self {
        let counts = floats.iter().map(|float| float.borders.len());
        let counts = counts.chain(categories.iter().map(|category| category.values.len()));
        let counts = counts.chain(ctrs.iter().map(|ctr| ctr.borders.len()));
        let ends = counts.scan(0, |end, count| {
            *end += count;
            Some(*end)
        });
        Self { ends: ends.collect(), floats: floats.len(), categories: categories.len() }
    }

    fn get(&self, place: impl FnOnce() -> String, raw: raw::Split) -> Result<Condition, ParseError> {
        let index = raw.split_index;
        let owner = self.ends.partition_point(|end| *end <= index);
        let most = self.ends.last().copied().unwrap_or(0);
        ensure(index < most, place, "split_index", || format!("below {most}"), index)?;
        let start = if owner == 0 { 0 } else { self.ends[owner - 1] };
        let inside = (index - start) as u32;
        let (categories, ctrs) = (self.floats, self.floats + self.categories);
        Ok(if owner < categories {
            Condition::Float { float: owner as u32, border: inside }
        } else if owner < ctrs {
            Condition::Category { category: (owner - categories) as u32, value: inside }
        } else {
            Condition::Ctr { ctr: (owner - ctrs) as u32, border: inside }
        })
    }
}

/// What the trees have in common.
struct Shape {
    splits: Splits,
    /// Numbers in a leaf, once one was seen.
    outputs: Option<usize>,
}

impl Shape {
    fn oblivious(&mut self, raw: Vec<raw::Tree>) -> Result<Vec<Tree>, ParseError> {
        let mut trees = Vec::with_capacity(raw.len());
        for (index, raw) in raw.into_iter().enumerate() {
            let place = || format!("tree {index}");
            let splits = raw.splits.unwrap_or_default();
            let levels = splits.len();
            ensure(levels <= MAX_LEVELS, place, "splits", || format!("at most {MAX_LEVELS}"), levels)?;
            let mut leaves = raw.leaf_values;
            let outputs = *self.outputs.get_or_insert((leaves.len() >> levels).max(1));
            let expected = || format!("{outputs} numbers for each of {} leaves", 1_usize << levels);
            ensure(leaves.len() == outputs << levels, place, "leaf_values", expected, leaves.len())?;
            leaves.shrink_to_fit();
            let splits = splits.into_iter().map(|split| self.splits.get(place, split)).collect::<Result<_, _>>()?;
            trees.push(Tree::Oblivious { splits, leaves });
        }
        Ok(trees)
    }

    fn nodes(&mut self, raw: Vec<raw::Node>) -> Result<Vec<Tree>, ParseError> {
        let mut trees = Vec::with_capacity(raw.len());
        for (index, raw) in raw.into_iter().enumerate() {
            let (mut nodes, mut leaves) = (Vec::new(), Vec::new());
            self.node(&|| format!("tree {index}"), raw, &mut nodes, &mut leaves)?;
            leaves.shrink_to_fit();
            nodes.shrink_to_fit();
            trees.push(Tree::Nodes { nodes, leaves });
        }
        Ok(trees)
    }

    /// Appends a node and what is below it. As deep as `serde_json` reads: at most 128 levels.
    fn node(
        &mut self,
        place: &dyn Fn() -> String,
        raw: raw::Node,
        nodes: &mut Vec<Node>,
        leaves: &mut Vec<f64>,
    ) -> Result<Child, ParseError> {
        match raw {
            raw::Node { value: Some(value), split: None, left: None, right: None } => {
                let value = value.as_slice();
                let outputs = *self.outputs.get_or_insert(value.len().max(1));
                let expected = || format!("{outputs} numbers");
                ensure(value.len() == outputs, place, "value of a leaf", expected, value.len())?;
                let leaf = Child::Leaf(leaves.len().checked_div(outputs).unwrap_or(0) as u32);
                leaves.extend(value);
                Ok(leaf)
            }
            raw::Node { value: None, split: Some(split), left: Some(left), right: Some(right) } => {
                let index = nodes.len();
                let condition = self.splits.get(place, split)?;
                nodes.push(Node { condition, left: Child::Leaf(0), right: Child::Leaf(0) });
                let left = self.node(place, *left, nodes, leaves)?;
                let right = self.node(place, *right, nodes, leaves)?;
                nodes[index] = Node { condition, left, right };
                Ok(Child::Node(index as u32))
            }
            _ => Err(ParseError::invalid(place(), "node", "a value, or a split with left and right", "something else")),
        }
    }
}
