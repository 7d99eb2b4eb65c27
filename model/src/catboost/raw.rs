//! The JSON file as CatBoost writes it: only the keys that say what is computed. Everything else is passed over.

use std::fmt::{self, Formatter};

use serde::de::{self, Deserialize, Deserializer, IgnoredAny, SeqAccess, Visitor};

use crate::json::Object;

#[derive(serde::Deserialize)]
pub(super) struct File {
    pub(super) features_info: Features,
    pub(super) model_info: Info,
    pub(super) ctr_data: Option<Object<Table>>,
    pub(super) oblivious_trees: Option<Vec<Tree>>,
    pub(super) trees: Option<Vec<Node>>,
    pub(super) scale_and_bias: Option<(f64, Numbers)>,
}

#[derive(serde::Deserialize)]
pub(super) struct Info {
    pub(super) params: Option<Params>,
}

#[derive(serde::Deserialize)]
pub(super) struct Params {
    pub(super) loss_function: Loss,
}

#[derive(serde::Deserialize)]
pub(super) struct Loss {
    #[serde(rename = "type")]
    pub(super) kind: String,
}

/// Features of a kind that is not there are missing or null.
#[derive(serde::Deserialize)]
#[expect(clippy::struct_field_names, reason = "the file's own names")]
pub(super) struct Features {
    pub(super) float_features: Option<Vec<Float>>,
    pub(super) categorical_features: Option<Vec<Category>>,
    pub(super) ctrs: Option<Vec<Ctr>>,
    pub(super) text_features: Option<Vec<IgnoredAny>>,
    pub(super) embedding_features: Option<Vec<IgnoredAny>>,
}

#[derive(serde::Deserialize)]
pub(super) struct Float {
    pub(super) feature_index: usize,
    pub(super) flat_feature_index: usize,
    pub(super) borders: Option<Vec<f64>>,
    pub(super) nan_value_treatment: Missing,
}

#[derive(Clone, Copy, PartialEq, Eq, serde::Deserialize)]
#[expect(clippy::enum_variant_names, reason = "the file's own names")]
pub(super) enum Missing {
    AsIs,
    AsFalse,
    AsTrue,
}

#[derive(serde::Deserialize)]
pub(super) struct Category {
    pub(super) feature_index: usize,
    pub(super) flat_feature_index: usize,
    pub(super) values: Option<Vec<i32>>,
}

#[derive(serde::Deserialize)]
#[expect(clippy::struct_field_names, reason = "the file's own names")]
pub(super) struct Ctr {
    pub(super) identifier: String,
    pub(super) ctr_type: CtrType,
    pub(super) elements: Vec<Element>,
    pub(super) borders: Vec<f64>,
    pub(super) prior_numerator: f64,
    /// Spelled like this in the file.
    pub(super) prior_denomerator: f64,
    pub(super) shift: f64,
    pub(super) scale: f64,
    pub(super) target_border_idx: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Deserialize)]
pub(crate) enum CtrType {
    Borders,
    Buckets,
    BinarizedTargetMeanValue,
    FloatTargetMeanValue,
    Counter,
    FeatureFreq,
}

#[derive(Clone, Copy, serde::Deserialize)]
#[serde(tag = "combination_element", rename_all = "snake_case")]
pub(super) enum Element {
    CatFeatureValue { cat_feature_index: usize },
    CatFeatureExactValue { cat_feature_index: usize, value: i32 },
    FloatFeature { float_feature_index: usize, border: f64 },
}

#[derive(serde::Deserialize)]
pub(super) struct Tree {
    pub(super) leaf_values: Vec<f64>,
    pub(super) splits: Option<Vec<Split>>,
}

#[derive(Clone, Copy, serde::Deserialize)]
pub(super) struct Split {
    pub(super) split_index: usize,
}

/// A node of a tree that is not symmetric: a leaf, or a split with both children. `serde_json` stops at 128 levels.
#[derive(serde::Deserialize)]
pub(super) struct Node {
    pub(super) value: Option<Numbers>,
    pub(super) split: Option<Split>,
    pub(super) left: Option<Box<Node>>,
    pub(super) right: Option<Box<Node>>,
}

/// One number, or a list of them.
pub(super) enum Numbers {
    One(f64),
    Many(Box<[f64]>),
}

impl Numbers {
    pub(super) fn as_slice(&self) -> &[f64] {
        match self {
            Self::One(number) => std::slice::from_ref(number),
            Self::Many(numbers) => numbers,
        }
    }
}

impl<'de> Deserialize<'de> for Numbers {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct NumbersVisitor;
        impl<'de> Visitor<'de> for NumbersVisitor {
            type Value = Numbers;

            fn expecting(&self, f: &mut Formatter<'_>) -> fmt::Result {
                f.write_str("a number or a list of numbers")
            }
            fn visit_i64<E>(self, number: i64) -> Result<Numbers, E> {
                Ok(Numbers::One(number as f64))
            }
            fn visit_u64<E>(self, number: u64) -> Result<Numbers, E> {
                Ok(Numbers::One(number as f64))
            }
            fn visit_f64<E>(self, number: f64) -> Result<Numbers, E> {
                Ok(Numbers::One(number))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Numbers, A::Error> {
                let mut numbers = Vec::new();
                while let Some(number) = list.next_element()? {
                    numbers.push(number);
                }
                Ok(Numbers::Many(numbers.into()))
            }
        }
        deserializer.deserialize_any(NumbersVisitor)
    }
}

/// Statistics by key.
#[derive(serde::Deserialize)]
pub(super) struct Table {
    pub(super) hash_map: HashMap,
    pub(super) hash_stride: usize,
    #[serde(default)]
    pub(super) counter_denominator: i32,
}

/// A flat list: a key as a string, then its numbers, and so on.
pub(super) struct HashMap {
    pub(super) keys: Vec<u64>,
    /// `[keys, width]`.
    pub(super) values: Vec<f64>,
    /// Numbers after each key.
    pub(super) width: usize,
}

/// The key of an empty place; its numbers mean nothing.
const EMPTY: u64 = u64::MAX;

impl<'de> Deserialize<'de> for HashMap {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct MapVisitor;
        impl<'de> Visitor<'de> for MapVisitor {
            type Value = HashMap;

            fn expecting(&self, f: &mut Formatter<'_>) -> fmt::Result {
                f.write_str("a list of keys, each with its numbers")
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<HashMap, A::Error> {
                let mut map = HashMap { keys: Vec::new(), values: Vec::new(), width: 0 };
                // The numbers after a key, and those of the first key.
                let (mut run, mut first) = (None, None);
                let uneven = || de::Error::custom("hash_map: expected as many numbers after each key");
                while let Some(cell) = list.next_element()? {
                    match cell {
                        Cell::Key(key) => {
                            if let Some(run) = run.replace(0)
                                && *first.get_or_insert(run) != run
                            {
                                return Err(uneven());
                            }
                            map.keys.push(key);
                        }
                        Cell::Number(number) => {
                            *run.as_mut().ok_or_else(|| de::Error::custom("hash_map: expected a key first"))? += 1;
                            if map.keys.last() != Some(&EMPTY) {
                                map.values.push(number);
                            }
                        }
                    }
                }
                if let Some(run) = run {
                    map.width = *first.get_or_insert(run);
                    if map.width != run {
                        return Err(uneven());
                    }
                }
                map.keys.retain(|key| *key != EMPTY);
                map.keys.shrink_to_fit();
                map.values.shrink_to_fit();
                Ok(map)
            }
        }
        deserializer.deserialize_seq(MapVisitor)
    }
}

enum Cell {
    Key(u64),
    Number(f64),
}

impl<'de> Deserialize<'de> for Cell {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct CellVisitor;
        impl Visitor<'_> for CellVisitor {
            type Value = Cell;

            fn expecting(&self, f: &mut Formatter<'_>) -> fmt::Result {
                f.write_str("a key of 64 bits as a string, or a number")
            }
            fn visit_i64<E>(self, number: i64) -> Result<Cell, E> {
                Ok(Cell::Number(number as f64))
            }
            fn visit_u64<E>(self, number: u64) -> Result<Cell, E> {
                Ok(Cell::Number(number as f64))
            }
            fn visit_f64<E>(self, number: f64) -> Result<Cell, E> {
                Ok(Cell::Number(number))
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Cell, E> {
                text.parse().map(Cell::Key).map_err(|_| E::invalid_value(de::Unexpected::Str(text), &self))
            }
        }
        deserializer.deserialize_any(CellVisitor)
    }
}
