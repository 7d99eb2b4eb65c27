//! JSON as the package format has it: scalars with their type, numbers that may be infinite, objects without
//! duplicate keys.

use std::collections::BTreeMap;
use std::fmt::{self, Display, Formatter};
use std::marker::PhantomData;

use serde::de::{self, Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};

use crate::LoadError;
use crate::text::shown;

/// A scalar with its JSON type: a class, a category, a value of a golden row.
#[derive(Debug, Clone, PartialEq)]
pub enum Scalar {
    /// A whole number that fits 64 bits.
    Int(i64),
    /// Any other number.
    Float(f64),
    /// True or false.
    Bool(bool),
    /// A string.
    Text(String),
}

impl Scalar {
    /// Whether both are the same value: by type, but 1 and 1.0 are one number.
    pub(crate) fn same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Int(int), Self::Float(float)) | (Self::Float(float), Self::Int(int)) => *int as f64 == *float,
            _ => self == other,
        }
    }

    /// A string as it is, anything else as JSON text.
    pub fn to_text(&self) -> String {
        match self {
            Self::Text(text) => text.clone(),
            Self::Int(number) => number.to_string(),
            Self::Float(number) => serde_json::Number::from_f64(*number).map_or_else(String::new, |n| n.to_string()),
            Self::Bool(truth) => truth.to_string(),
        }
    }
}

/// For messages: strings are quoted, escaped and capped.
impl Display for Scalar {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => f.write_str(&shown(text)),
            other => f.write_str(&other.to_text()),
        }
    }
}

impl<'de> Deserialize<'de> for Scalar {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Scalars;
        impl Visitor<'_> for Scalars {
            type Value = Scalar;

            fn expecting(&self, f: &mut Formatter<'_>) -> fmt::Result {
                f.write_str("a string, number or boolean")
            }
            fn visit_i64<E>(self, number: i64) -> Result<Scalar, E> {
                Ok(Scalar::Int(number))
            }
            fn visit_u64<E>(self, number: u64) -> Result<Scalar, E> {
                Ok(i64::try_from(number).map_or(Scalar::Float(number as f64), Scalar::Int))
            }
            fn visit_f64<E>(self, number: f64) -> Result<Scalar, E> {
                Ok(Scalar::Float(number))
            }
            fn visit_bool<E>(self, truth: bool) -> Result<Scalar, E> {
                Ok(Scalar::Bool(truth))
            }
            fn visit_str<E>(self, text: &str) -> Result<Scalar, E> {
                Ok(Scalar::Text(text.to_owned()))
            }
        }
        deserializer.deserialize_any(Scalars)
    }
}

/// A double; infinite and not-a-number ones are the strings `"inf"`, `"-inf"` and `"nan"`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Number(pub(crate) f64);

/// The number that a string of the format stands for.
pub(crate) fn special(text: &str) -> Option<f64> {
    match text {
        "inf" => Some(f64::INFINITY),
        "-inf" => Some(f64::NEG_INFINITY),
        "nan" => Some(f64::NAN),
        _ => None,
    }
}

impl<'de> Deserialize<'de> for Number {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match Scalar::deserialize(deserializer)? {
            Scalar::Int(number) => Ok(Self(number as f64)),
            Scalar::Float(number) => Ok(Self(number)),
            Scalar::Text(text) if special(&text).is_some() => Ok(Self(special(&text).unwrap_or(f64::NAN))),
            other => {
                Err(de::Error::custom(format_args!("expected a number, \"inf\", \"-inf\" or \"nan\", got {other}")))
            }
        }
    }
}

/// An object in which a key may be only once; in the file's order.
#[derive(Debug, Clone)]
pub(crate) struct Object<V>(pub(crate) Vec<(String, V)>);

impl<V> Default for Object<V> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<V> Object<V> {
    /// The object as a map, each value changed on the way.
    pub(crate) fn into_map<T>(self, change: impl Fn(V) -> T) -> BTreeMap<String, T> {
        self.0.into_iter().map(|(key, value)| (key, change(value))).collect()
    }
}

impl<'de, V: Deserialize<'de>> Deserialize<'de> for Object<V> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Objects<V>(PhantomData<V>);
        impl<'de, V: Deserialize<'de>> Visitor<'de> for Objects<V> {
            type Value = Object<V>;

            fn expecting(&self, f: &mut Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Object<V>, A::Error> {
                let mut seen = std::collections::HashSet::new();
                let mut entries = Vec::new();
                while let Some((key, value)) = map.next_entry::<String, V>()? {
                    if !seen.insert(key.clone()) {
                        return Err(de::Error::custom(format_args!("duplicate key {}", shown(&key))));
                    }
                    entries.push((key, value));
                }
                Ok(Object(entries))
            }
        }
        deserializer.deserialize_map(Objects(PhantomData))
    }
}

/// Elements that [`Few`] takes.
pub(crate) const FEW: usize = 1 << 16;

/// A list of at most 65,536 elements. A few bytes of JSON become many in memory: the rest of a longer list is not read.
#[derive(Debug, Clone)]
pub(crate) struct Few<T>(pub(crate) Vec<T>);

impl<T> Default for Few<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Few<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Lists<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for Lists<T> {
            type Value = Few<T>;

            fn expecting(&self, f: &mut Formatter<'_>) -> fmt::Result {
                write!(f, "a list of at most {FEW} elements")
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Few<T>, A::Error> {
                let mut elements = Vec::new();
                while let Some(element) = list.next_element()? {
                    if elements.len() == FEW {
                        return Err(de::Error::invalid_length(FEW + 1, &self));
                    }
                    elements.push(element);
                }
                Ok(Few(elements))
            }
        }
        deserializer.deserialize_seq(Lists(PhantomData))
    }
}

/// Whether an object of JSON holds each of its own keys once; else the reason why not. For formats whose reader takes the last.
pub(crate) fn keys_once(object: &[u8]) -> Result<(), String> {
    let parsed = serde_json::from_slice::<Object<de::IgnoredAny>>(object);
    parsed.map(drop).map_err(|error| shown(&error.to_string()))
}

/// Parses a whole JSON file of the package.
pub(crate) fn parse<'a, T: Deserialize<'a>>(file: &str, bytes: &'a [u8]) -> Result<T, LoadError> {
    serde_json::from_slice(bytes).map_err(|source| LoadError::Json { file: file.to_owned(), source })
}
