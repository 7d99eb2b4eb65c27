//! A candidate in this process: the same encoding and the same engines as the server's, with its own schema.

use std::{cell::RefCell, path::Path};

use anyhow::{Context, bail};
use model::{Model, Predictions};
use tonic::Status;
use understudy::{
    encode::{Asked, Encoded, Rules, encode_rows, encode_tensors},
    source,
};

use crate::{compare::Answer, exchange::Request};

/// Loads the one package at or below `path` and predicts its golden rows.
pub(super) fn open(path: &Path) -> anyhow::Result<Model> {
    let packages = source::packages(path)?;
    // The newest version, if a model's directory is given; but not one model out of several.
    let Some(newest) = packages.iter().max_by_key(|package| version(package)) else {
        bail!("{}: no package", path.display());
    };
    if packages.iter().any(|package| package.parent() != newest.parent()) {
        bail!("{}: expected one candidate, got a repository of several models", path.display());
    }
    let model = source::load(newest)?;
    let rows = model.self_test().with_context(|| format!("{}: self-test failed", newest.display()))?;
    tracing::info!(
        model = model.name(),
        version = model.version(),
        golden_rows = rows,
        "candidate loaded, golden rows equal"
    );
    Ok(model)
}

fn version(package: &Path) -> u64 {
    package.file_name().and_then(|name| name.to_str()).and_then(|name| name.parse().ok()).unwrap_or(0)
}

thread_local! {
    static SCRATCH: RefCell<(Encoded, Predictions)> = RefCell::new((Encoded::new(0), Predictions::new()));
}

pub(super) fn answer(model: &Model, request: &Request, out: &mut Answer) -> Result<(), Status> {
    SCRATCH.with_borrow_mut(|(encoded, predictions)| {
        // The primary has decided how many rows are too many.
        let rules = Rules { max_rows: usize::MAX, ..Rules::of(model) };
        match request {
            Request::Tensors(request) => {
                let rules = rules.asked(Asked::by_tensors(request)?)?;
                encode_tensors(request, model, rules, encoded)?;
            }
            Request::Rows(request) => {
                let rules = rules.asked(Asked::by_rows(request)?)?;
                encode_rows(&request.rows, model, rules, encoded)?;
            }
        }
        model.predict(&encoded.batch, predictions).map_err(|error| Status::internal(error.to_string()))?;
        out.clear();
        out.rows = predictions.rows();
        out.width = predictions.width;
        out.labels.extend_from_slice(&predictions.labels);
        out.scores.extend_from_slice(&predictions.scores);
        Ok(())
    })
}
