//! What is far from everything the model has seen in training: a z-score against the reference profile, decided once for
//! each feature when the model is loaded, so that a request pays two comparisons a value.

use crate::{Kind, Profile, Reference, Schema};

/// Standard deviations from the training mean at which a number is suspicious, when `schema.json` does not say.
pub const DEFAULT_Z_SCORE: f64 = 5.0;

/// What becomes of a suspicious number. In order of strictness.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, serde::Deserialize, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum OnSuspicious {
    /// Nothing.
    Ignore,
    /// It stays as it is, with a warning on its row.
    #[default]
    Flag,
    /// It is refused.
    Refuse,
}

impl OnSuspicious {
    /// The name in `schema.json`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ignore => "ignore",
            Self::Flag => "flag",
            Self::Refuse => "refuse",
        }
    }
}

/// Which numbers are suspicious, and what becomes of them.
#[derive(Debug, Clone)]
pub struct Suspicion {
    action: OnSuspicious,
    z_score: f64,
    /// Smallest and largest number that is not suspicious, by feature.
    intervals: Box<[(f64, f64)]>,
    /// Mean and standard deviation, by feature; absent for what is no `int` or `float`.
    profiles: Box<[Option<(f64, f64)>]>,
}

impl Suspicion {
    pub(crate) fn new(schema: &Schema, reference: &Reference) -> Self {
        let features = schema.features().iter().zip(reference.features());
        let profiles = features
            .map(|(feature, profile)| match (feature.kind(), profile) {
                (Kind::Int | Kind::Float, Profile::Numeric(profile)) => Some((profile.mean, profile.std)),
                _ => None,
            })
            .collect();
        Self::of(profiles, schema.on_suspicious(), schema.z_score())
    }

    fn of(profiles: Box<[Option<(f64, f64)>]>, action: OnSuspicious, z_score: f64) -> Self {
        // Also where nothing becomes of it: a request may ask for more.
        let intervals = profiles.iter().map(|profile| interval(*profile, z_score)).collect();
        Self { action, z_score, intervals, profiles }
    }

    /// As strict as this and as what is given: what an operator says on top of the package. A threshold that is not a
    /// number greater than 0 changes nothing.
    #[must_use]
    pub fn stricter(&self, action: Option<OnSuspicious>, z_score: Option<f64>) -> Self {
        let action = action.map_or(self.action, |action| action.max(self.action));
        let z_score =
            z_score.filter(|z_score| *z_score > 0.0).map_or(self.z_score, |z_score| z_score.min(self.z_score));
        Self::of(self.profiles.clone(), action, z_score)
    }

    /// What becomes of a suspicious number.
    pub fn action(&self) -> OnSuspicious {
        self.action
    }

    /// Standard deviations from the mean at which a number is suspicious.
    pub fn z_score(&self) -> f64 {
        self.z_score
    }

    /// Whether `number` is suspicious as the value of `feature` (its position in the row), whatever becomes of it then; NaN
    /// never is.
    pub fn doubts(&self, feature: usize, number: f64) -> bool {
        self.intervals.get(feature).is_some_and(|(low, high)| number < *low || number > *high)
    }

    /// Why `number` is suspicious, for a warning on its row.
    pub fn message(&self, feature: usize, number: f64) -> String {
        match self.profiles.get(feature) {
            Some(Some((mean, std))) if number.is_finite() => {
                let z_score = ((number - mean) / std).abs();
                format!(
                    "got {number:?}, which is {z_score:.1} standard deviations from {mean:.6}, the mean in training"
                )
            }
            _ => format!("got {number:?}, which is not finite"),
        }
    }

    /// What is not suspicious, in words.
    pub fn expected(&self, feature: usize) -> String {
        match self.intervals.get(feature) {
            Some((low, high)) if *low > f64::MIN && *high < f64::MAX => {
                format!(
                    "a number from {low:.6} to {high:.6} ({:?} standard deviations from the mean in training)",
                    self.z_score
                )
            }
            _ => "a finite number".to_owned(),
        }
    }
}

/// A number that never varied in training has no z-score, but is no less finite for that.
fn interval(profile: Option<(f64, f64)>, z_score: f64) -> (f64, f64) {
    match profile {
        None => (f64::NEG_INFINITY, f64::INFINITY),
        Some((mean, std)) if std > 0.0 && std.is_finite() && mean.is_finite() => {
            ((mean - z_score * std).max(f64::MIN), (mean + z_score * std).min(f64::MAX))
        }
        Some(_) => (f64::MIN, f64::MAX),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by a panic")]
mod tests {
    use super::*;

    const PROFILES: &str = r#"{"rows": 10, "features": {
        "age": {"missing_share": 0, "mean": 40, "std": 10, "min": 0, "max": 80, "unique": 9, "quantiles": {"levels": [0], "values": [0]}},
        "same": {"missing_share": 0, "mean": 1, "std": 0, "min": 1, "max": 1, "unique": 1, "quantiles": {"levels": [0], "values": [1]}},
        "never": {"missing_share": 1, "mean": "nan", "std": "nan", "min": "nan", "max": "nan", "unique": 0, "quantiles": {"levels": [0], "values": ["nan"]}},
        "wide": {"missing_share": 0, "mean": 0, "std": 1e308, "min": 0, "max": 0, "unique": 1, "quantiles": {"levels": [0], "values": [0]}},
        "when": {"missing_share": 0, "mean": 0, "std": 1, "min": 0, "max": 0, "unique": 1, "quantiles": {"levels": [0], "values": [0]}},
        "flag": {"missing_share": 0, "counts": [5, 5]}
    }, "score": {"mean": 0, "std": 1, "min": 0, "max": 1, "quantiles": {"levels": [0], "values": [0]}}}"#;

    fn suspicion(keys: &str) -> Suspicion {
        let features = r#"{"name": "age", "kind": "int"}, {"name": "same", "kind": "float"}, {"name": "never", "kind": "float"},
            {"name": "wide", "kind": "float"}, {"name": "when", "kind": "datetime"}, {"name": "flag", "kind": "bool"}"#;
        let schema = Schema::parse(format!(r#"{{"features": [{features}]{keys}}}"#).as_bytes()).unwrap();
        let reference = Reference::parse(PROFILES.as_bytes(), &schema).unwrap();
        Suspicion::new(&schema, &reference)
    }

    #[test]
    fn what_is_further_from_the_mean_than_the_threshold_is_suspicious() {
        let suspicion = suspicion("");
        assert_eq!((suspicion.action(), suspicion.z_score()), (OnSuspicious::Flag, 5.0));
        let infinity = f64::INFINITY;
        for (feature, number, expected) in [
            (0, 90.0, false),
            (0, 90.1, true),
            (0, -10.0, false),
            (0, -10.1, true),
            (0, f64::NAN, false),
            (0, infinity, true),
            // Never varied, or never there: there is no z-score, but infinity is far from anything.
            (1, 1e300, false),
            (1, infinity, true),
            (2, 1e300, false),
            (2, -infinity, true),
            // Five times its deviation is more than a double holds.
            (3, f64::MAX, false),
            (3, -infinity, true),
            // Time goes on, and a boolean has no deviation.
            (4, 1e18, false),
            (5, 1.0, false),
            (6, infinity, false),
        ] {
            assert_eq!(suspicion.doubts(feature, number), expected, "{feature} {number}");
        }
        assert!(!super::Suspicion::of([None].into(), OnSuspicious::Flag, 5.0).doubts(0, infinity));
        assert_eq!(
            suspicion.message(0, 100.0),
            "got 100.0, which is 6.0 standard deviations from 40.000000, the mean in training"
        );
        assert_eq!(suspicion.message(1, infinity), "got inf, which is not finite");
        assert_eq!(suspicion.expected(1), "a finite number");
    }

    #[test]
    fn a_package_says_what_becomes_of_them_and_an_operator_only_more() {
        let refuse = suspicion(r#", "suspicious": "refuse", "suspicious_z_score": 3"#);
        assert_eq!((refuse.action(), refuse.z_score()), (OnSuspicious::Refuse, 3.0));
        assert!(refuse.doubts(0, 70.1) && !refuse.doubts(0, 70.0));
        let laxer = refuse.stricter(Some(OnSuspicious::Ignore), Some(9.0));
        assert_eq!((laxer.action(), laxer.z_score()), (OnSuspicious::Refuse, 3.0));
        assert!(!laxer.doubts(4, f64::INFINITY), "a datetime is still not looked at");
        let ignore = suspicion(r#", "suspicious": "ignore""#);
        assert_eq!(ignore.action(), OnSuspicious::Ignore);
        assert!(ignore.doubts(0, f64::INFINITY), "a request may ask for more");
        let flag = ignore.stricter(Some(OnSuspicious::Flag), Some(2.0));
        assert!(flag.doubts(0, 60.1) && !flag.doubts(0, 60.0));
    }
}
