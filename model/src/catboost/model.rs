//! A model as it was checked: every engine is built from this.

pub(crate) use super::raw::CtrType;

/// What a row is asked, and the trees.
#[derive(Debug)]
pub(crate) struct Model {
    pub(super) floats: Vec<Float>,
    pub(super) categories: Vec<Category>,
    pub(super) ctrs: Vec<Ctr>,
    pub(super) tables: Vec<Table>,
    pub(super) trees: Vec<Tree>,
    /// Numbers in a leaf, at least 1.
    pub(super) outputs: usize,
}

/// A column of numbers.
#[derive(Debug)]
pub(super) struct Float {
    /// Position in a row.
    pub(super) position: usize,
    /// A missing value is above all borders; otherwise above none.
    pub(super) missing_is_high: bool,
    /// Ascending and finite.
    pub(super) borders: Vec<f32>,
}

/// A column of categories.
#[derive(Debug)]
pub(super) struct Category {
    pub(super) position: usize,
    /// Hashes that splits ask for.
    pub(super) values: Vec<i32>,
    /// Of each code, of a missing value, of an unseen one.
    pub(super) hashes: Vec<u32>,
}

/// A statistic of the label, for a combination of categories.
#[derive(Debug)]
pub(super) struct Ctr {
    pub(super) kind: CtrType,
    pub(super) elements: Vec<Element>,
    /// Index of its [`Table`].
    pub(super) table: usize,
    pub(super) target_border: usize,
    pub(super) prior_numerator: f32,
    pub(super) prior_denominator: f32,
    pub(super) shift: f32,
    pub(super) scale: f32,
    pub(super) borders: Vec<f32>,
}

/// What a combination is made of.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Element {
    Category(usize),
    Is { category: usize, hash: u32 },
    Above { float: usize, border: f32 },
}

/// What was counted for each key.
#[derive(Debug)]
pub(super) struct Table {
    pub(super) keys: Vec<u64>,
    /// `[keys, width]`.
    pub(super) values: Vec<f64>,
    pub(super) width: usize,
    pub(super) denominator: i32,
}

/// What a split asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Condition {
    /// Whether a number is above one of its borders.
    Float { float: u32, border: u32 },
    /// Whether a category is one of its values.
    Category { category: u32, value: u32 },
    /// Whether a CTR is above one of its borders.
    Ctr { ctr: u32, border: u32 },
}

/// Leaves are `[leaves, outputs]`, all finite.
#[derive(Debug)]
pub(super) enum Tree {
    /// Bit `i` of a leaf's number is whether the condition of `splits[i]` holds.
    Oblivious { splits: Vec<Condition>, leaves: Vec<f64> },
    /// Children come after their parent; right where the condition holds. Without nodes there is one leaf.
    Nodes { nodes: Vec<Node>, leaves: Vec<f64> },
}

pub(super) use crate::engine::oblivious::Child;

#[derive(Debug, Clone, Copy)]
pub(super) struct Node {
    pub(super) condition: Condition,
    pub(super) left: Child,
    pub(super) right: Child,
}

impl Tree {
    pub(super) fn leaves(&self) -> &[f64] {
        match self {
            Self::Oblivious { leaves, .. } | Self::Nodes { leaves, .. } => leaves,
        }
    }
}

impl Ctr {
    /// The value for what was counted for a key, or for a key that is not there (`TModelCtr::Calc`, in single
    /// precision throughout).
    pub(super) fn value(&self, table: &Table, counts: Option<&[f64]>) -> f32 {
        let sum = |counts: &[f64]| counts.iter().sum::<f64>() as f32;
        let (good, total) = match (self.kind, counts) {
            (CtrType::Counter | CtrType::FeatureFreq, counts) => {
                (counts.map_or(0.0, |counts| counts[0] as f32), table.denominator as f32)
            }
            (_, None) => (0.0, 0.0),
            (CtrType::Borders, Some(counts)) => (sum(&counts[self.target_border + 1..]), sum(counts)),
            (CtrType::Buckets, Some(counts)) => (counts[self.target_border] as f32, sum(counts)),
            (CtrType::BinarizedTargetMeanValue | CtrType::FloatTargetMeanValue, Some(counts)) => {
                (counts[0] as f32, counts[1] as f32)
            }
        };
        let share = (good + self.prior_numerator) / (total + self.prior_denominator);
        (share + self.shift) * self.scale
    }
}

impl Table {
    pub(super) fn counts(&self, index: usize) -> &[f64] {
        &self.values[index * self.width..(index + 1) * self.width]
    }
}
