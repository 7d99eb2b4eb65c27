//! What a fuzz target does with its bytes. `fuzz/` and the tests here run the same.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use model::{Batch, Model, Predictions};
use sha2::{Digest, Sha256};

/// A file of a good package that is exchanged for anything at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Target {
    /// Of the fuzz target.
    pub name: &'static str,
    /// Directory of the good package.
    pub package: &'static str,
    /// Path in it.
    pub file: &'static str,
}

const fn target(name: &'static str, package: &'static str, file: &'static str) -> Target {
    Target { name, package, file }
}

/// Every target.
pub(super) const TARGETS: [Target; 11] = [
    target("lightgbm_text", "lightgbm", "nodes/node/model.txt"),
    target("xgboost_json", "xgboost-json", "nodes/node/model.json"),
    target("xgboost_ubjson", "xgboost-ubjson", "nodes/node/model.ubj"),
    target("catboost_json", "catboost", "nodes/node/model.json"),
    target("forest_arrays", "forest", "nodes/node/arrays.safetensors"),
    target("mlp_weights", "mlp", "nodes/node/weights.safetensors"),
    target("graph_json", "mlp", "graph.json"),
    target("schema_json", "lightgbm", "schema.json"),
    target("reference_json", "lightgbm", "reference.json"),
    target("golden_jsonl", "lightgbm", "golden.jsonl"),
    target("manifest_json", "lightgbm", "manifest.json"),
];

/// A good package: contents by path.
pub(super) type Files = BTreeMap<String, Vec<u8>>;

/// Reads a good package of `model/tests/small`.
pub(super) fn read(package: &str) -> Files {
    // From the crate that includes this: `model` or `fuzz`.
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let places = ["tests/small", "../model/tests/small"].map(|place| here.join(place).join(package));
    let root = places.into_iter().find(|place| place.exists()).expect("the packages are in the repository");
    let mut files = Files::new();
    let mut open = vec![root.clone()];
    while let Some(directory) = open.pop() {
        for entry in fs::read_dir(&directory).expect("the packages are in the repository") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                open.push(path);
            } else {
                let name = path.strip_prefix(&root).expect("below the root").to_string_lossy().into_owned();
                files.insert(name, fs::read(&path).expect("a readable file"));
            }
        }
    }
    files
}

/// Exchanges the target's file, lists it with its size and hash, loads the package, and uses what is accepted: the golden
/// rows and a few rows more. Says whether it was accepted. The rest of the bytes is not looked at: a panic is the result.
pub(super) fn load(target: Target, good: &Files, bytes: &[u8]) -> bool {
    let mut files = good.clone();
    files.insert(target.file.to_owned(), bytes.to_vec());
    if target.file != "manifest.json" {
        list(&mut files, target.file, bytes);
    }
    let Ok(model) = Model::from_files(files) else { return false };
    // The answers are another model's: that they differ is no finding.
    drop(model.self_test());
    let values: Vec<f64> = bytes.chunks(8).take(64).map(number).collect();
    predict(&model, &values);
    true
}

/// Predicts rows of any numbers.
pub(super) fn predict(model: &Model, values: &[f64]) {
    let width = model.schema().features().len();
    let mut batch = Batch::new(width);
    for index in 0..20 {
        let row = batch.push_row();
        for (place, cell) in row.iter_mut().enumerate() {
            *cell = values.get((index * 7 + place) % values.len().max(1)).copied().unwrap_or(f64::NAN);
        }
    }
    let mut out = Predictions::new();
    model.predict(&batch, &mut out).expect("rows as wide as the schema");
    assert_eq!(out.scores.len(), 20 * model.width(), "every row has its scores");
}

/// Eight bytes as a double, or fewer as a small number.
pub(super) fn number(bytes: &[u8]) -> f64 {
    match bytes.try_into() {
        Ok(eight) => f64::from_le_bytes(eight),
        Err(_) => bytes.iter().map(|&byte| f64::from(byte)).sum::<f64>() - 64.0,
    }
}

/// Writes the size and hash of a file into the manifest.
fn list(files: &mut Files, file: &str, bytes: &[u8]) {
    let mut manifest: serde_json::Value =
        serde_json::from_slice(&files["manifest.json"]).expect("the good manifest is JSON");
    for entry in manifest["files"].as_array_mut().expect("a list of files") {
        if entry["path"] == file {
            let mut sha256 = String::new();
            for byte in Sha256::digest(bytes) {
                write!(sha256, "{byte:02x}").unwrap();
            }
            entry["size"] = bytes.len().into();
            entry["sha256"] = sha256.into();
        }
    }
    files.insert("manifest.json".to_owned(), manifest.to_string().into_bytes());
}
