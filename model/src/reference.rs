//! `reference.json`: the training data's profile, for drift and for z-scores.

use serde::Deserialize;

use crate::error::ensure;
use crate::json::{self, Number, Object};
use crate::package::REFERENCE;
use crate::text::shown;
use crate::{Kind, LoadError, Schema};

/// The training data's profile.
#[derive(Debug, Clone)]
pub struct Reference {
    rows: u64,
    features: Vec<Profile>,
    score: ScoreProfile,
}

impl Reference {
    /// Number of training rows.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// One profile for each feature, in the schema's order.
    pub fn features(&self) -> &[Profile] {
        &self.features
    }

    /// The model's score on the training rows: the probability of the positive or of the predicted class, or the value.
    pub fn score(&self) -> &ScoreProfile {
        &self.score
    }
}

/// The profile of one feature.
#[derive(Debug, Clone)]
pub enum Profile {
    /// Of an `int` or `float`.
    Numeric(NumericProfile),
    /// Of a `category`, `text` (counts by code) or `bool` (counts of false and true).
    Counts(CountProfile),
}

impl Profile {
    /// Share of the training rows in which the value is missing, in [0, 1].
    pub fn missing_share(&self) -> f64 {
        match self {
            Self::Numeric(profile) => profile.missing_share,
            Self::Counts(profile) => profile.missing_share,
        }
    }
}

/// The numbers of a feature, over the values that are not missing. All are NaN when every value was missing.
#[derive(Debug, Clone)]
pub struct NumericProfile {
    /// In [0, 1].
    pub missing_share: f64,
    /// Arithmetic mean.
    pub mean: f64,
    /// Standard deviation with ddof=0.
    pub std: f64,
    /// Smallest value.
    pub min: f64,
    /// Largest value.
    pub max: f64,
    /// Number of different values.
    pub unique: u64,
    /// By linear interpolation.
    pub quantiles: Quantiles,
}

/// The counts of a feature's values.
#[derive(Debug, Clone)]
pub struct CountProfile {
    /// In [0, 1].
    pub missing_share: f64,
    /// One for each category, by code; false and true for a boolean.
    pub counts: Vec<u64>,
}

/// The scores of the training rows.
#[derive(Debug, Clone)]
pub struct ScoreProfile {
    /// Arithmetic mean.
    pub mean: f64,
    /// Standard deviation with ddof=0.
    pub std: f64,
    /// Smallest score.
    pub min: f64,
    /// Largest score.
    pub max: f64,
    /// By linear interpolation.
    pub quantiles: Quantiles,
}

/// Quantiles: two lists of one length.
#[derive(Debug, Clone)]
pub struct Quantiles {
    /// Increasing, in [0, 1].
    pub levels: Vec<f64>,
    /// Not decreasing.
    pub values: Vec<f64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawReference {
    rows: u64,
    features: Object<RawProfile>,
    score: RawScore,
}

/// Both shapes of a profile in one: which keys must be there is the schema's word.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawProfile {
    missing_share: f64,
    mean: Option<Number>,
    std: Option<Number>,
    min: Option<Number>,
    max: Option<Number>,
    unique: Option<u64>,
    quantiles: Option<RawQuantiles>,
    counts: Option<Vec<u64>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawScore {
    mean: Number,
    std: Number,
    min: Number,
    max: Number,
    quantiles: RawQuantiles,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawQuantiles {
    levels: Vec<f64>,
    values: Vec<Number>,
}

impl Reference {
    /// Parses the bytes of a `reference.json` and checks them against the schema, also when they came by another way
    /// than a package.
    ///
    /// # Errors
    /// When the bytes are not a profile of the format, or of another schema.
    pub fn parse(bytes: &[u8], schema: &Schema) -> Result<Self, LoadError> {
        let raw: RawReference = json::parse(REFERENCE, bytes)?;
        ensure(raw.rows > 0, REFERENCE, "rows", "at least 1", || "0".to_owned())?;
        let mut profiles: Vec<Option<Profile>> = schema.features().iter().map(|_| None).collect();
        for (name, profile) in raw.features.0 {
            let Some(index) = schema.index_of(&name) else {
                return Err(LoadError::invalid(REFERENCE, "features", "a feature of schema.json", shown(&name)));
            };
            let feature = &schema.features()[index];
            profiles[index] = Some(profile.check(&name, feature.kind(), feature.categories().len())?);
        }
        let mut features = Vec::with_capacity(profiles.len());
        for (profile, feature) in profiles.into_iter().zip(schema.features()) {
            let missing = || LoadError::invalid(REFERENCE, "features", shown(feature.name()), "nothing");
            features.push(profile.ok_or_else(missing)?);
        }
        let RawScore { mean, std, min, max, quantiles } = raw.score;
        let quantiles = quantiles.check("score")?;
        let score = ScoreProfile { mean: mean.0, std: std.0, min: min.0, max: max.0, quantiles };
        Ok(Self { rows: raw.rows, features, score })
    }
}

impl RawProfile {
    fn check(self, name: &str, kind: Kind, categories: usize) -> Result<Profile, LoadError> {
        let place = format!("feature {}", shown(name));
        let share = self.missing_share;
        let got = || format!("{share:?}");
        ensure((0.0..=1.0).contains(&share), REFERENCE, &format!("{place}, missing_share"), "a share in [0, 1]", got)?;
        let numeric = matches!(kind, Kind::Int | Kind::Float | Kind::Datetime);
        match self {
            Self {
                mean: Some(mean),
                std: Some(std),
                min: Some(min),
                max: Some(max),
                unique: Some(unique),
                quantiles: Some(quantiles),
                counts: None,
                ..
            } if numeric => Ok(Profile::Numeric(NumericProfile {
                missing_share: share,
                mean: mean.0,
                std: std.0,
                min: min.0,
                max: max.0,
                unique,
                quantiles: quantiles.check(&place)?,
            })),
            Self {
                mean: None,
                std: None,
                min: None,
                max: None,
                unique: None,
                quantiles: None,
                counts: Some(counts),
                ..
            } if !numeric => {
                let expected = if kind == Kind::Bool { 2 } else { categories };
                let got = || counts.len().to_string();
                ensure(counts.len() == expected, REFERENCE, &format!("{place}, counts"), &expected.to_string(), got)?;
                Ok(Profile::Counts(CountProfile { missing_share: share, counts }))
            }
            _ => {
                let keys = if numeric { "mean, std, min, max, unique and quantiles" } else { "counts" };
                let got = format!("other ones for kind {}", kind.as_str());
                Err(LoadError::invalid(REFERENCE, place, format!("missing_share, {keys}"), got))
            }
        }
    }
}

impl RawQuantiles {
    fn check(self, place: &str) -> Result<Quantiles, LoadError> {
        let levels = self.levels;
        let values: Vec<f64> = self.values.into_iter().map(|number| number.0).collect();
        let place = format!("{place}, quantiles");
        let lengths = || format!("{} and {}", levels.len(), values.len());
        let fits = levels.len() == values.len() && !levels.is_empty();
        ensure(fits, REFERENCE, &place, "as many values as levels", lengths)?;
        let increasing = levels.windows(2).all(|pair| pair[0] < pair[1]);
        let inside = levels.iter().all(|level| (0.0..=1.0).contains(level));
        ensure(increasing && inside, REFERENCE, &place, "increasing levels in [0, 1]", || {
            shown(&format!("{levels:?}"))
        })?;
        let falls = values.windows(2).any(|pair| pair[0] > pair[1]);
        ensure(!falls, REFERENCE, &place, "values that do not decrease", || shown(&format!("{values:?}")))?;
        Ok(Quantiles { levels, values })
    }
}
