//! The models that are served, by name and version. Replaced as a whole, read without a lock.

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use arc_swap::ArcSwap;
use model::{Batch, Model, Predictions, Profile, SelfTestError, Suspicion};
use understudy::{
    encode::{RequestError, Rules},
    shutdown::{Phase, Phases},
    source::{self, SourceError},
    v1,
};

use crate::{
    config::Contract,
    metrics::{Metrics, ModelMetrics},
};

/// The models as they are served now.
#[derive(Debug, Default)]
pub struct Models(ArcSwap<Catalog>);

/// By name, then by version.
type Catalog = BTreeMap<String, BTreeMap<u64, Arc<Served>>>;

/// One version of a model.
#[derive(Debug)]
pub struct Served {
    /// The package.
    pub model: Model,
    /// What one row costs, measured when it was loaded: decides where it is evaluated.
    pub row_cost: Duration,
    /// Its instruments.
    pub metrics: ModelMetrics,
    max_rows: usize,
    refuses_non_finite: bool,
    suspicion: Suspicion,
    ready: AtomicBool,
}

/// Why a model is not served.
#[derive(Debug, thiserror::Error)]
pub enum ModelsError {
    /// The package is refused.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// The package does not predict here what it predicted where it was trained.
    #[error("{}: self-test failed", path.display())]
    SelfTest {
        /// The package's directory.
        path: PathBuf,
        /// Which row and node, expected and got.
        source: SelfTestError,
    },
    /// The process ends before they are all there.
    #[error("given up: the process ends")]
    Ended,
    /// Two packages claim the same name and version.
    #[error("{}: model '{name}' version {version} is served from another directory already", path.display())]
    Twice {
        /// The second directory.
        path: PathBuf,
        /// Its model.
        name: String,
        /// Its version.
        version: String,
    },
}

impl Served {
    fn new(model: Model, metrics: &Metrics, contract: &Contract) -> Self {
        let schema = model.schema();
        Self {
            metrics: metrics.model(&model),
            row_cost: row_cost(&model),
            max_rows: contract.max_rows.unwrap_or(schema.limits().max_rows),
            refuses_non_finite: contract.reject_non_finite || schema.refuses_non_finite(),
            suspicion: model.suspicion().stricter(contract.suspicious, contract.suspicious_z_score),
            model,
            ready: AtomicBool::new(false),
        }
    }

    /// What a request to it must keep to: the package's rules and the operator's.
    pub fn rules(&self) -> Rules<'_> {
        Rules {
            max_rows: self.max_rows,
            refuses_non_finite: self.refuses_non_finite,
            suspicion: &self.suspicion,
            on_suspicious: self.suspicion.action(),
            ..Rules::of(&self.model)
        }
    }

    /// Whether the golden rows came out right the last time.
    pub fn is_ready(&self) -> bool {
        self.ready.load(Ordering::Relaxed)
    }

    #[cfg(test)]
    pub(crate) fn set_ready(&self, ready: bool) {
        self.ready.store(ready, Ordering::Relaxed);
    }

    /// Predicts the golden rows and keeps the outcome.
    ///
    /// # Errors
    /// Which row and node, expected and got.
    pub fn self_test(&self) -> Result<usize, SelfTestError> {
        let outcome = self.model.self_test();
        self.ready.store(outcome.is_ok(), Ordering::Relaxed);
        self.metrics.self_tested(outcome.is_ok());
        outcome
    }
}

impl Models {
    /// Loads and self-tests every package below `directories` and then serves them all; unless the process ends in between.
    ///
    /// # Errors
    /// The first package that may not serve; then nothing is served.
    pub fn load(
        &self,
        directories: &[PathBuf],
        metrics: &Metrics,
        contract: &Contract,
        phases: &Phases,
    ) -> Result<(), ModelsError> {
        let mut catalog = Catalog::new();
        for path in directories.iter().map(|directory| source::packages(directory)) {
            for path in path? {
                if phases.now() > Phase::Running {
                    return Err(ModelsError::Ended);
                }
                let started = Instant::now();
                let model = source::load(&path)?;
                let served = Served::new(model, metrics, contract);
                let rows = served.self_test().map_err(|source| ModelsError::SelfTest { path: path.clone(), source })?;
                let model = &served.model;
                tracing::info!(
                    model = model.name(), version = model.version(), golden_rows = rows, row_cost = ?served.row_cost,
                    took = ?started.elapsed(), "model loaded, golden rows equal"
                );
                // The loader has checked that it is a number.
                let version = model.version().parse().unwrap_or(0);
                let versions = catalog.entry(model.name().to_owned()).or_default();
                if versions.contains_key(&version) {
                    let (name, version) = (model.name().to_owned(), model.version().to_owned());
                    return Err(ModelsError::Twice { path, name, version });
                }
                versions.insert(version, Arc::new(served));
            }
        }
        self.0.store(Arc::new(catalog));
        Ok(())
    }

    /// The model that answers for `name` (which may be empty when there is only one model and `named` is false) and
    /// `version` (empty: the newest).
    ///
    /// # Errors
    /// Names that can't be, are not known, or may not serve now.
    pub fn find(&self, name: &str, version: &str, named: bool) -> Result<Arc<Served>, RequestError> {
        let served = self.known(name, version, named)?;
        if served.is_ready() {
            return Ok(served);
        }
        Err(RequestError::NotReady { model: served.model.name().into(), version: served.model.version().into() })
    }

    /// As [`Models::find`], but a model that may not serve now is found, too.
    ///
    /// # Errors
    /// Names that can't be or are not known.
    pub fn known(&self, name: &str, version: &str, named: bool) -> Result<Arc<Served>, RequestError> {
        let catalog = self.0.load();
        if catalog.is_empty() {
            return Err(RequestError::NotReady { model: shown(name), version: shown(version) });
        }
        let versions = match (name, catalog.first_key_value()) {
            ("", Some((_, only))) if !named && catalog.len() == 1 => only,
            ("", _) => return Err(RequestError::Invalid("model name is empty".into())),
            _ => catalog.get(name).ok_or_else(|| unknown(name))?,
        };
        let newest = || versions.last_key_value().map(|(_, served)| served.clone());
        let found = match version {
            "" => newest(),
            _ => versions.get(&parse(version)?).cloned(),
        };
        found.ok_or_else(|| RequestError::UnknownVersion { model: shown(name), version: version.into() })
    }

    /// Rows that any of them takes at once: what is more need not even be decoded.
    pub fn most_rows(&self) -> usize {
        self.0.load().values().flat_map(BTreeMap::values).map(|served| served.max_rows).max().unwrap_or(usize::MAX)
    }

    /// Every version of every model, in order of name and version.
    pub fn all(&self) -> Vec<Arc<Served>> {
        self.0.load().values().flat_map(BTreeMap::values).cloned().collect()
    }

    /// The versions of `name`, oldest first.
    pub fn versions(&self, name: &str) -> Vec<String> {
        self.0.load().get(name).into_iter().flat_map(BTreeMap::keys).map(u64::to_string).collect()
    }

    /// What a subscriber of the tap must know about them.
    pub fn describe(&self) -> Vec<v1::ModelDescription> {
        let describe = |served: &Arc<Served>| {
            let model = &served.model;
            let task = match model.task() {
                model::Task::Binary => v1::Task::Binary,
                model::Task::Multiclass => v1::Task::Multiclass,
                model::Task::Regression => v1::Task::Regression,
                model::Task::Quantile => v1::Task::Quantile,
            };
            v1::ModelDescription {
                name: model.name().into(),
                version: model.version().into(),
                task: task.into(),
                classes: model.class_names().to_vec(),
                schema_json: model.schema_json().to_vec().into(),
                reference_json: model.reference_json().to_vec().into(),
                decision_threshold: (task == v1::Task::Binary).then_some(model.manifest().decision_threshold),
            }
        };
        self.all().iter().map(describe).collect()
    }
}

/// A name that can be no model's is wrong in itself; any other may be unknown.
fn unknown(name: &str) -> RequestError {
    let possible = name.len() <= 128
        && name.starts_with(|first: char| first.is_ascii_alphanumeric())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte));
    if possible {
        RequestError::UnknownModel(name.into())
    } else {
        RequestError::Invalid(format!("model name '{}' can't be a model's", shown(name)))
    }
}

fn parse(version: &str) -> Result<u64, RequestError> {
    let canonical = version.bytes().all(|byte| byte.is_ascii_digit()) && !version.starts_with('0');
    version
        .parse()
        .ok()
        .filter(|_| canonical)
        .ok_or_else(|| RequestError::Invalid(format!("model version '{}' is no positive integer", shown(version))))
}

fn shown(text: &str) -> String {
    text.chars().take(64).flat_map(char::escape_debug).collect()
}

/// The quickest of a few evaluations of a block of rows that are spread over the training data.
fn row_cost(model: &Model) -> Duration {
    const ROWS: usize = 16;
    let profiles = model.reference().features();
    let mut batch = Batch::new(profiles.len());
    for r in 0..ROWS {
        let row = batch.push_row();
        for (f, (value, profile)) in row.iter_mut().zip(profiles).enumerate() {
            // Different rows take different paths: the same path again and again would look cheaper than it is.
            let pick = |choices: usize| (r * 7 + f * 3) % choices.max(1);
            *value = match profile {
                Profile::Numeric(numeric) => {
                    let values = &numeric.quantiles.values;
                    values.get(pick(values.len())).copied().unwrap_or(f64::NAN)
                }
                Profile::Counts(counts) => pick(counts.counts.len()) as f64,
            };
        }
    }
    let mut predictions = Predictions::new();
    (0..4)
        .filter_map(|_| {
            let started = Instant::now();
            model.predict(&batch, &mut predictions).ok()?;
            Some(started.elapsed() / ROWS as u32)
        })
        .min()
        .unwrap_or_default()
}
