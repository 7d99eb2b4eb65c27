//! Fixtures of `tests/golden`, and packages that are built from them.

use std::fs;
use std::path::{Path, PathBuf};

use model::lightgbm::Booster;
use model::{Batch, Model};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tempfile::TempDir;

/// The categories of the columns that have them, as `make.py` draws them.
const CATEGORIES: [(usize, i64); 3] = [(4, 12), (5, 50), (6, 120)];

pub(crate) fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden")
}

pub(crate) fn text(name: &str) -> String {
    fs::read_to_string(directory().join(format!("{name}.txt"))).unwrap()
}

/// Rows with LightGBM's own raw margins and predictions, both `[rows, outputs]`.
pub(crate) struct Answers {
    pub(crate) batch: Batch,
    pub(crate) raw: Vec<f64>,
    pub(crate) predictions: Vec<f64>,
}

pub(crate) fn answers(name: &str, columns: usize, outputs: usize) -> Answers {
    let csv = fs::read_to_string(directory().join(format!("{name}.csv"))).unwrap();
    let mut answers = Answers { batch: Batch::new(columns), raw: Vec::new(), predictions: Vec::new() };
    for line in csv.lines() {
        let bits = |hexadecimal| f64::from_bits(u64::from_str_radix(hexadecimal, 16).unwrap());
        let numbers: Vec<f64> = line.split(',').map(bits).collect();
        assert_eq!(numbers.len(), columns + 2 * outputs);
        answers.batch.push_row().copy_from_slice(&numbers[..columns]);
        answers.raw.extend(&numbers[columns..columns + outputs]);
        answers.predictions.extend(&numbers[columns + outputs..]);
    }
    answers
}

/// A package in a directory of its own, which a test may spoil.
pub(crate) struct Package {
    directory: TempDir,
}

impl Package {
    /// A good package around a fixture.
    pub(crate) fn new(fixture: &str) -> Self {
        let package = Self { directory: tempfile::tempdir().unwrap() };
        let text = text(fixture);
        let booster = Booster::parse(text.as_bytes()).unwrap();
        let mut rows = answers(fixture, booster.columns(), booster.outputs()).batch;
        let features = booster.columns();
        let categories = |column| CATEGORIES.iter().find(|(index, _)| *index == column).map(|(_, count)| *count);
        for row in 0..rows.rows() {
            for (column, count) in CATEGORIES.iter().filter(|(column, _)| *column < features) {
                let code = &mut rows.row_mut(row)[*column];
                if !code.is_nan() && !(0..*count).any(|known| known as f64 == *code) {
                    *code = -1.0;
                }
            }
        }
        let mut outputs = Vec::new();
        booster.predict(&rows, &mut outputs).unwrap();

        let schema: Vec<Value> = (0..features)
            .map(|column| match categories(column) {
                None => json!({"name": format!("c{column}"), "kind": "float"}),
                Some(count) => {
                    let list: Vec<i64> = (0..count).collect();
                    json!({"name": format!("c{column}"), "kind": "category", "categories": list})
                }
            })
            .collect();
        let names: Vec<String> = (0..features).map(|column| format!("c{column}")).collect();
        let quantiles = json!({"levels": [0, 0.5, 1], "values": [0, 1, "inf"]});
        let profiles: serde_json::Map<String, Value> = (0..features)
            .map(|column| {
                let profile = match categories(column) {
                    None => json!({"missing_share": 0.1, "mean": 1, "std": 2.5, "min": 0, "max": "inf", "unique": 9,
                        "quantiles": quantiles}),
                    Some(count) => json!({"missing_share": 0.0, "counts": vec![7; count as usize]}),
                };
                (format!("c{column}"), profile)
            })
            .collect();
        let classification = fixture.starts_with("binary") || fixture.starts_with("multiclass");
        let width = booster.outputs();
        let golden: Vec<String> = (0..rows.rows())
            .map(|index| {
                let row: serde_json::Map<String, Value> = rows
                    .row(index)
                    .iter()
                    .enumerate()
                    .map(|(column, value)| (format!("c{column}"), cell(*value, categories(column).is_some())))
                    .collect();
                let output = &outputs[index * width..(index + 1) * width];
                let mut line = json!({"row": row, "nodes": {"trees": output}});
                if classification {
                    line["label"] = json!(label(output));
                }
                line.to_string()
            })
            .collect();
        let (task, classes) = match (fixture.starts_with("binary"), fixture.starts_with("multiclass")) {
            (true, _) => ("binary", json!(["class 0", "class 1"])),
            (_, true) => ("multiclass", json!(["class 0", "class 1", "class 2"])),
            _ => ("regression", Value::Null),
        };
        let mut manifest = json!({
            "format": "understudy-package", "format_version": 1, "name": "tiny", "version": "3", "task": task,
            "label": "y", "metrics": {"test_accuracy": 0.9}, "exported_at": "2026-11-22T10:00:00.5Z",
            "libraries": {"lightgbm": "4.7.0"}, "provenance": {"fixture": fixture}, "files": [],
        });
        if classification {
            manifest["classes"] = classes;
        }
        if task == "binary" {
            manifest["positive_class"] = json!("class 1");
        }
        package.write("manifest.json", manifest.to_string());
        package.write("schema.json", json!({"features": schema, "policy": "sanitize"}).to_string());
        let node = json!({"name": "trees", "type": "lightgbm", "model": "nodes/trees/model.txt", "features": names});
        package.write("graph.json", json!({"nodes": [node], "output": "trees"}).to_string());
        let score = json!({"mean": 0.5, "std": 0.1, "min": 0, "max": 1, "quantiles": quantiles});
        package.write("reference.json", json!({"rows": 900, "features": profiles, "score": score}).to_string());
        package.write("golden.jsonl", &(golden.join("\n") + "\n"));
        package.write("requirements.txt", "lightgbm==4.7.0\n");
        package.write("nodes/trees/model.txt", &text);
        package.list();
        package
    }

    pub(crate) fn path(&self) -> &Path {
        self.directory.path()
    }

    pub(crate) fn load(&self) -> Result<Model, String> {
        Model::load(self.path()).map_err(|error| chain(&error))
    }

    pub(crate) fn read(&self, file: &str) -> Vec<u8> {
        fs::read(self.path().join(file)).unwrap()
    }

    pub(crate) fn write(&self, file: &str, content: impl AsRef<[u8]>) {
        let path = self.path().join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    /// Changes the text of a file, and the manifest with it.
    pub(crate) fn replace(&self, file: &str, from: &str, to: &str) {
        let text = String::from_utf8(self.read(file)).unwrap();
        assert!(text.contains(from), "{file} holds no {from}");
        self.write(file, text.replacen(from, to, 1));
        if file != "manifest.json" {
            self.list();
        }
    }

    /// Changes a JSON file, and the manifest with it.
    pub(crate) fn edit(&self, file: &str, change: impl FnOnce(&mut Value)) {
        let mut value = serde_json::from_slice(&self.read(file)).unwrap();
        change(&mut value);
        self.write(file, value.to_string());
        if file != "manifest.json" {
            self.list();
        }
    }

    /// Writes sizes and hashes of the files as they are now into the manifest.
    pub(crate) fn list(&self) {
        let mut manifest: Value = serde_json::from_slice(&self.read("manifest.json")).unwrap();
        let files: Vec<Value> = FILES
            .iter()
            .map(|path| {
                let bytes = self.read(path);
                let digits = |byte: &u8| [byte >> 4, byte & 15].map(|four| char::from_digit(four.into(), 16).unwrap());
                let sha256: String = Sha256::digest(&bytes).iter().flat_map(digits).collect();
                json!({"path": path, "size": bytes.len(), "sha256": sha256})
            })
            .collect();
        manifest["files"] = json!(files);
        self.write("manifest.json", manifest.to_string());
    }
}

pub(crate) const FILES: [&str; 6] =
    ["schema.json", "graph.json", "reference.json", "golden.jsonl", "requirements.txt", "nodes/trees/model.txt"];

/// An error with its sources, as a log shows it.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    match error.source() {
        Some(source) => format!("{error}: {}", chain(source)),
        None => error.to_string(),
    }
}

fn cell(value: f64, category: bool) -> Value {
    match value {
        _ if value.is_nan() => Value::Null,
        _ if category => json!(value as i64),
        f64::INFINITY => json!("inf"),
        f64::NEG_INFINITY => json!("-inf"),
        _ => json!(value),
    }
}

fn label(output: &[f64]) -> String {
    let class = match output {
        [positive] => usize::from(*positive > 0.5),
        _ => (0..output.len()).rev().max_by(|a, b| output[*a].total_cmp(&output[*b])).unwrap(),
    };
    format!("class {class}")
}
