//! What there is to measure, as `prepare.py` wrote it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::Outcome;

#[derive(Debug, Deserialize)]
pub struct Cases {
    pub cases: Vec<Case>,
}

/// A model, rows for it, and who else predicts it.
#[derive(Debug, Deserialize)]
pub struct Case {
    pub name: String,
    pub library: Library,
    /// Columns of a row.
    pub columns: usize,
    pub model: PathBuf,
    /// Of a forest: its arrays as the package format has them.
    pub arrays: Option<PathBuf>,
    pub rows: PathBuf,
    pub margins: PathBuf,
    pub output: Output,
    /// Where compiled and converted files are.
    pub directory: PathBuf,
    /// Where the model is from.
    pub source: String,
    /// By batch size: how many times the best peer we are to be.
    pub budget: BTreeMap<String, f64>,
    pub peers: Vec<Peer>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Library {
    #[serde(rename = "lightgbm")]
    LightGbm,
    XGBoost,
    CatBoost,
    Forest,
}

/// What the file of margins holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Output {
    Margin,
    Probability,
}

/// A peer, or why it is left out.
#[derive(Debug, Clone, Deserialize)]
pub struct Peer {
    pub name: String,
    pub missing: Option<String>,
    pub kind: Option<String>,
    pub library: Option<PathBuf>,
    pub model: Option<PathBuf>,
    /// tl2cgen: the type of a value.
    pub entry: Option<String>,
    /// Peers behind Python: which.
    pub peer: Option<String>,
    /// Trained by the peer itself on the same data: another model, no parity, not in the ratio.
    #[serde(default)]
    pub own_model: bool,
}

impl Case {
    /// The rows, row-major `[rows, columns]`.
    pub fn read_rows(&self) -> Outcome<Vec<f64>> {
        doubles(&self.rows)
    }

    /// The trainer's own raw predictions, `[rows]`.
    pub fn read_margins(&self) -> Outcome<Vec<f64>> {
        if self.margins.extension().is_some_and(|extension| extension == "f32") {
            let bytes = std::fs::read(&self.margins)?;
            let floats = bytes.chunks_exact(4).map(|four| f32::from_le_bytes([four[0], four[1], four[2], four[3]]));
            return Ok(floats.map(f64::from).collect());
        }
        doubles(&self.margins)
    }
}

fn doubles(path: &Path) -> Outcome<Vec<f64>> {
    let bytes = std::fs::read(path).map_err(|error| format!("{}: {error}", path.display()))?;
    Ok(bytes.as_chunks::<8>().0.iter().map(|eight| f64::from_le_bytes(*eight)).collect())
}
