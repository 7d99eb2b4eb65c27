//! `schema.json` becomes a schema that cannot be wrong.

use serde::Deserialize;

use super::{Bounds, Categories, FastMap, Feature, Kind, Limits, Policy, Schema};
use crate::error::ensure;
use crate::json;
use crate::package::SCHEMA;
use crate::text::shown;
use crate::{DEFAULT_Z_SCORE, LoadError, OnSuspicious, Scalar};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawSchema {
    features: Vec<RawFeature>,
    #[serde(default)]
    limits: RawLimits,
    #[serde(default)]
    policy: Policy,
    #[serde(default)]
    reject_non_finite: bool,
    #[serde(default)]
    suspicious: OnSuspicious,
    suspicious_z_score: Option<f64>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct RawLimits {
    max_rows: Option<usize>,
    max_text_bytes: Option<usize>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawFeature {
    name: String,
    kind: Kind,
    #[serde(default)]
    required: bool,
    bounds: Option<(Option<f64>, Option<f64>)>,
    categories: Option<Vec<Scalar>>,
    fill: Option<Scalar>,
}

impl Schema {
    /// Parses and checks the bytes of a `schema.json`, also one that came by another way than a package.
    ///
    /// # Errors
    /// When the bytes are not a schema of the format.
    pub fn parse(bytes: &[u8]) -> Result<Self, LoadError> {
        let raw: RawSchema = json::parse(SCHEMA, bytes)?;
        ensure(!raw.features.is_empty(), SCHEMA, "features", "at least one", || "none".to_owned())?;
        let defaults = Limits::default();
        let limits = Limits {
            max_rows: raw.limits.max_rows.unwrap_or(defaults.max_rows),
            max_text_bytes: raw.limits.max_text_bytes.unwrap_or(defaults.max_text_bytes),
        };
        ensure(limits.max_rows > 0, SCHEMA, "limits.max_rows", "at least 1", || "0".to_owned())?;
        ensure(limits.max_text_bytes > 0, SCHEMA, "limits.max_text_bytes", "at least 1", || "0".to_owned())?;
        let z_score = raw.suspicious_z_score.unwrap_or(DEFAULT_Z_SCORE);
        ensure(z_score > 0.0, SCHEMA, "suspicious_z_score", "a number greater than 0", || format!("{z_score:?}"))?;
        let mut by_name = FastMap::default();
        let mut features = Vec::with_capacity(raw.features.len());
        for (index, feature) in raw.features.into_iter().enumerate() {
            let name = feature.name.clone();
            ensure(!name.is_empty() && name.len() <= 256, SCHEMA, "a feature's name", "1 to 256 bytes", || {
                shown(&name)
            })?;
            features.push(feature.check()?);
            if by_name.insert(name.as_str().into(), index as u32).is_some() {
                return Err(LoadError::invalid(
                    SCHEMA,
                    "features",
                    "each name once",
                    format!("{} twice", shown(&name)),
                ));
            }
        }
        Ok(Self {
            features,
            limits,
            policy: raw.policy,
            refuses_non_finite: raw.reject_non_finite,
            on_suspicious: raw.suspicious,
            z_score,
            by_name,
        })
    }
}

impl RawFeature {
    fn check(self) -> Result<Feature, LoadError> {
        let Self { name, kind, required, bounds, categories, fill } = self;
        let place = |key: &str| format!("feature {}, {key}", shown(&name));
        let numeric = matches!(kind, Kind::Int | Kind::Float);
        if let Some(bounds) = bounds {
            let expected = "[low, high] with low <= high, for int and float only";
            ensure(numeric && ordered(bounds), SCHEMA, &place("bounds"), expected, || format!("{bounds:?}"))?;
        }
        if kind.is_categorical() != categories.is_some() {
            let expected = "a list for category and text, nothing for the others";
            let got = if categories.is_some() { "a list" } else { "nothing" };
            return Err(LoadError::invalid(
                SCHEMA,
                place("categories"),
                expected,
                format!("{got} for {}", kind.as_str()),
            ));
        }
        let categories = categories.unwrap_or_default();
        if kind == Kind::Text
            && let Some(other) = categories.iter().find(|value| !matches!(value, Scalar::Text(_)))
        {
            return Err(LoadError::invalid(SCHEMA, place("categories"), "strings for text", other.to_string()));
        }
        let categories = Categories::new(categories).map_err(|code| {
            LoadError::invalid(SCHEMA, place("categories"), "each once", format!("code {code} again"))
        })?;
        if required && fill.is_some() {
            return Err(LoadError::invalid(SCHEMA, place("fill"), "nothing where a value is required", "a value"));
        }
        let wrong = |value: &Scalar| {
            let expected = format!("a value that a feature of kind {} takes", kind.as_str());
            LoadError::invalid(SCHEMA, place("fill"), expected, value.to_string())
        };
        let fill = fill.map(|value| code(kind, &categories, &value).ok_or_else(|| wrong(&value))).transpose()?;
        Ok(Feature { name, kind, required, bounds, categories, fill })
    }
}

fn ordered(bounds: Bounds) -> bool {
    !matches!(bounds, (Some(low), Some(high)) if low > high)
}

/// The number of the row for a fill.
fn code(kind: Kind, categories: &Categories, value: &Scalar) -> Option<f64> {
    match (kind, value) {
        (Kind::Int | Kind::Float | Kind::Datetime, Scalar::Int(number)) => Some(*number as f64),
        (Kind::Int | Kind::Float | Kind::Datetime, Scalar::Float(number)) => Some(*number),
        (Kind::Bool, Scalar::Bool(truth)) => Some(f64::from(*truth)),
        (Kind::Category | Kind::Text, value) => categories.scalar(value).map(f64::from),
        _ => None,
    }
}

/// The position of the first scalar that is there before, by type and value.
pub(crate) fn first_repeated(values: &[Scalar]) -> Option<usize> {
    Categories::new(values.to_vec()).err()
}
