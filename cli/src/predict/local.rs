//! Rows through a package in this process: the same code as in the server, without the server.

use std::path::Path;

use anyhow::Context as _;
use model::{Model, Predictions};
use understudy::{
    encode::{Answered, Encoded, Rules, answer, encode_rows},
    v1::{PredictResponse, Row},
};

/// What happens to values that do not fit.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
pub(super) enum Policy {
    /// They are refused
    Strict,
    /// They are repaired where that is well defined, and reported
    Sanitize,
    /// They pass as the Python library would take them
    Autogluon,
}

/// # Errors
/// The package may not serve, or the rows do not fit it.
pub(super) fn predict(package: &Path, policy: Option<Policy>, rows: &[Row]) -> anyhow::Result<PredictResponse> {
    let model = Model::load(package).with_context(|| package.display().to_string())?;
    model.self_test().with_context(|| format!("{}: self-test failed", package.display()))?;
    let mut rules = Rules { max_rows: usize::MAX, ..Rules::of(&model) };
    if let Some(policy) = policy {
        rules.policy = match policy {
            Policy::Strict => model::Policy::Strict,
            Policy::Sanitize => model::Policy::Sanitize,
            Policy::Autogluon => model::Policy::Autogluon,
        };
    }
    let mut encoded = Encoded::new(0);
    encode_rows(rows, &model, rules, &mut encoded)?;
    let mut predictions = Predictions::new();
    model.predict(&encoded.batch, &mut predictions)?;
    let answered = Answered { model: &model, predictions: &predictions, encoded: &encoded };
    // Nobody could give feedback on these: an id would promise it.
    Ok(answer::rows(String::new(), &answered, String::new))
}
