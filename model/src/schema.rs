//! What a row looks like: the features in order, what each may hold, and the policy for what does not fit.
//!
//! `parse` reads `schema.json`; `encode` is the one place where a typed value becomes a number of the row.

mod datetime;
mod encode;
mod lookup;
mod parse;
#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by a panic")]
mod tests;

pub use encode::{Refusal, Repair, RepairKind, Value};
use lookup::Categories;
pub(crate) use lookup::FastMap;
pub(crate) use parse::first_repeated;

use crate::OnSuspicious;

/// Rows in a request when `schema.json` does not say: what an interactive caller sends at most.
pub const DEFAULT_MAX_ROWS: usize = 100;
/// Bytes of a text value when `schema.json` does not say.
pub const DEFAULT_MAX_TEXT_BYTES: usize = 1_000;

/// The schema of a model's rows.
#[derive(Debug)]
pub struct Schema {
    features: Vec<Feature>,
    limits: Limits,
    policy: Policy,
    refuses_non_finite: bool,
    on_suspicious: OnSuspicious,
    z_score: f64,
    by_name: FastMap<Box<str>, u32>,
}

impl Schema {
    /// The features, in the order of the row.
    pub fn features(&self) -> &[Feature] {
        &self.features
    }

    /// What a request may hold.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// What becomes of a value that does not fit.
    pub fn policy(&self) -> Policy {
        self.policy
    }

    /// Whether a number that is NaN or infinite is refused, under every policy. Null stays missing.
    pub fn refuses_non_finite(&self) -> bool {
        self.refuses_non_finite
    }

    /// What becomes of a number that is far from the training data.
    pub fn on_suspicious(&self) -> OnSuspicious {
        self.on_suspicious
    }

    /// How far that is, in standard deviations from the mean.
    pub fn z_score(&self) -> f64 {
        self.z_score
    }

    /// The position of a feature in the row.
    pub fn index_of(&self, name: &str) -> Option<usize> {
        self.by_name.get(name).map(|&index| index as usize)
    }
}

/// What a request may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Rows in a request.
    pub max_rows: usize,
    /// Bytes of a text value.
    pub max_text_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { max_rows: DEFAULT_MAX_ROWS, max_text_bytes: DEFAULT_MAX_TEXT_BYTES }
    }
}

/// What becomes of a value that does not fit its feature.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, serde::Deserialize, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Policy {
    /// It is refused.
    Strict,
    /// It is repaired where that is well defined, and the repair is reported; else it is refused.
    #[default]
    Sanitize,
    /// What the trainer's Python library would do with it: values pass unchanged, an unseen category is -1.
    Autogluon,
}

impl Policy {
    /// The name in `schema.json`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Strict => "strict",
            Self::Sanitize => "sanitize",
            Self::Autogluon => "autogluon",
        }
    }
}

/// The type of a feature's values.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Deserialize, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// A whole number.
    Int,
    /// A number.
    Float,
    /// True or false: 1 or 0 in the row.
    Bool,
    /// One of a list of values with their JSON type: its position in the row.
    Category,
    /// A text column used as a category.
    Text,
    /// A point in time, as ISO 8601 text or whole nanoseconds since 1970: nanoseconds in the row.
    Datetime,
}

impl Kind {
    /// The name in `schema.json`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Int => "int",
            Self::Float => "float",
            Self::Bool => "bool",
            Self::Category => "category",
            Self::Text => "text",
            Self::Datetime => "datetime",
        }
    }

    /// Whether the row holds a code instead of the value itself.
    pub fn is_categorical(self) -> bool {
        matches!(self, Self::Category | Self::Text)
    }
}

/// The smallest and the largest value a number may have, both inclusive.
pub type Bounds = (Option<f64>, Option<f64>);

/// One feature of the schema.
#[derive(Debug)]
pub struct Feature {
    name: String,
    kind: Kind,
    required: bool,
    bounds: Option<Bounds>,
    categories: Categories,
    fill: Option<f64>,
}

impl Feature {
    /// The feature's name, unique in the schema.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The type of its values.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Whether a missing value is refused.
    pub fn required(&self) -> bool {
        self.required
    }

    /// What the schema allows, for `int` and `float`.
    pub fn bounds(&self) -> Option<Bounds> {
        self.bounds
    }

    /// The categories with their JSON types; the position is the code. Empty for `int`, `float` and `bool`.
    pub fn categories(&self) -> &[crate::Scalar] {
        self.categories.values()
    }

    /// What a missing value becomes in the row: a number, 0 or 1, or a category's code. Nothing: it stays NaN.
    pub fn fill(&self) -> Option<f64> {
        self.fill
    }
}
