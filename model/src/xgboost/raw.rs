//! What is read of a file, as it is there: the same for JSON and UBJSON. Keys that are not listed are skipped: XGBoost's
//! versions differ in what they write beside the trees. A listed key may be there once only.
#![expect(clippy::struct_field_names, reason = "the fields are the keys of the file")]

use std::fmt::{self, Formatter};

use serde::Deserialize;
use serde::de::{self, Deserializer, Visitor};

#[derive(Deserialize)]
pub(super) struct Model {
    pub(super) learner: Learner,
    /// Major, minor, patch.
    pub(super) version: Vec<u64>,
}

#[derive(Deserialize)]
pub(super) struct Learner {
    pub(super) learner_model_param: LearnerParam,
    pub(super) objective: Objective,
    pub(super) gradient_booster: Booster,
}

#[derive(Deserialize)]
pub(super) struct LearnerParam {
    /// A number, or since 3.1 an array of numbers, as text.
    pub(super) base_score: String,
    pub(super) num_class: Count,
    pub(super) num_feature: Count,
    #[serde(default = "one")]
    pub(super) num_target: Count,
}

#[derive(Deserialize)]
pub(super) struct Objective {
    pub(super) name: String,
}

#[derive(Deserialize)]
pub(super) struct Booster {
    pub(super) name: String,
    /// Other boosters have another model, or none here.
    #[serde(default)]
    pub(super) model: Option<Trees>,
}

#[derive(Deserialize)]
pub(super) struct Trees {
    pub(super) gbtree_model_param: Option<TreesParam>,
    #[serde(default)]
    pub(super) tree_info: Vec<u32>,
    #[serde(default)]
    pub(super) trees: Vec<Tree>,
    /// Of dart, in XGBoost 3.4 and later.
    #[serde(default)]
    pub(super) weight_drop: Vec<f32>,
}

#[derive(Deserialize)]
pub(super) struct TreesParam {
    pub(super) num_trees: Count,
}

/// Arrays by node; the root is node 0.
#[derive(Deserialize)]
pub(super) struct Tree {
    pub(super) tree_param: TreeParam,
    /// -1 in both: a leaf.
    pub(super) left_children: Vec<i32>,
    pub(super) right_children: Vec<i32>,
    pub(super) split_indices: Vec<u32>,
    /// The threshold, or the leaf's value.
    pub(super) split_conditions: Vec<f32>,
    pub(super) default_left: Vec<Flag>,
    /// 1: by category. Absent in old files.
    #[serde(default)]
    pub(super) split_type: Vec<u8>,
}

#[derive(Deserialize)]
pub(super) struct TreeParam {
    pub(super) num_nodes: Count,
    #[serde(default)]
    pub(super) num_deleted: Count,
    #[serde(default)]
    pub(super) size_leaf_vector: Count,
}

/// A whole number that XGBoost writes as text.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Count(pub(super) usize);

fn one() -> Count {
    Count(1)
}

impl<'de> Deserialize<'de> for Count {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;
        impl Visitor<'_> for Text {
            type Value = Count;

            fn expecting(&self, f: &mut Formatter<'_>) -> fmt::Result {
                f.write_str("a whole number from 0 to 2147483647 as text")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Count, E> {
                let number = text.parse().ok().and_then(|number: i32| usize::try_from(number).ok());
                number.map(Count).ok_or_else(|| E::invalid_value(de::Unexpected::Str(text), &self))
            }
        }
        deserializer.deserialize_str(Text)
    }
}

/// A boolean, which XGBoost writes as 0 and 1, too.
#[derive(Debug, Clone, Copy)]
pub(super) struct Flag(pub(super) bool);

impl<'de> Deserialize<'de> for Flag {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Flags;
        impl Visitor<'_> for Flags {
            type Value = Flag;

            fn expecting(&self, f: &mut Formatter<'_>) -> fmt::Result {
                f.write_str("0, 1, false or true")
            }
            fn visit_bool<E>(self, flag: bool) -> Result<Flag, E> {
                Ok(Flag(flag))
            }
            fn visit_i64<E: de::Error>(self, number: i64) -> Result<Flag, E> {
                match number {
                    0 => Ok(Flag(false)),
                    1 => Ok(Flag(true)),
                    _ => Err(E::invalid_value(de::Unexpected::Signed(number), &self)),
                }
            }
            fn visit_u64<E: de::Error>(self, number: u64) -> Result<Flag, E> {
                self.visit_i64(i64::try_from(number).unwrap_or(i64::MAX))
            }
        }
        deserializer.deserialize_any(Flags)
    }
}
