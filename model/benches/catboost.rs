//! Raw margins of CatBoost's models of one row, 100 rows and 10,000 rows, by each way, on different rows from call to
//! call.
//!
//! `cargo bench -p model --bench catboost`, with `UNDERSTUDY_SHARED` naming the directory with `trees/`.
#![allow(clippy::unwrap_used, reason = "a benchmark stops when its files are wrong")]

use std::fs;
use std::hint::black_box;
use std::path::PathBuf;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use model::Batch;
use model::catboost::{Booster, Hashes, Way};

const WAYS: [Way; 5] = [Way::Reference, Way::Walk, Way::Rows, Way::Blocks, Way::Fastest];
const SIZES: [usize; 3] = [1, 100, 10_000];

/// A model and rows for it, row-major.
struct Case {
    name: &'static str,
    bytes: Vec<u8>,
    hashes: Vec<Hashes>,
    values: Vec<f64>,
}

fn cases() -> Vec<Case> {
    let Some(shared) = std::env::var_os("UNDERSTUDY_SHARED").map(PathBuf::from) else {
        eprintln!("skipped: UNDERSTUDY_SHARED does not name the directory with trees/cb_*.json");
        return Vec::new();
    };
    let trees = shared.join("trees");
    let values = |name: &str| -> Vec<f64> {
        let bytes = fs::read(trees.join(name)).unwrap();
        bytes.chunks_exact(8).map(|eight| f64::from_le_bytes(eight.try_into().unwrap())).collect()
    };
    let cat = fs::read(trees.join("cb_cat_1000d6.json")).unwrap();
    vec![
        Case {
            name: "cb_syn_1000d6",
            bytes: fs::read(trees.join("cb_syn_1000d6.json")).unwrap(),
            hashes: Vec::new(),
            values: values("rows_syn_10000x28.f64"),
        },
        Case { name: "cb_cat_1000d6", hashes: hashes(&cat), bytes: cat, values: values("rows_cat_10000x13.f64") },
    ]
}

/// The hashes that the file itself lists: a category's text is its code.
fn hashes(bytes: &[u8]) -> Vec<Hashes> {
    let file: serde_json::Value = serde_json::from_slice(bytes).unwrap();
    let info = &file["features_info"];
    let mut codes = vec![0; 64];
    for entry in info["cat_features_hash"].as_array().unwrap() {
        let code: usize = entry["value"].as_str().unwrap().parse().unwrap();
        codes.resize(codes.len().max(code + 1), 0);
        codes[code] = entry["hash"].as_u64().unwrap() as u32;
    }
    let categories = info["categorical_features"].as_array().unwrap().len();
    vec![Hashes { codes, missing: 1, unseen: 2 }; categories]
}

/// The rows in batches, as many as it takes to see each row about once; a few rows come again and again.
fn batches(values: &[f64], width: usize, size: usize) -> Vec<Batch> {
    let rows = values.len() / width;
    let batch = |index: usize| {
        let mut batch = Batch::with_capacity(width, size);
        for row in index * size..(index + 1) * size {
            let start = row % rows * width;
            batch.push_row().copy_from_slice(&values[start..start + width]);
        }
        batch
    };
    (0..(10_000 / size).clamp(1, 1000)).map(batch).collect()
}

fn evaluate(criterion: &mut Criterion) {
    for case in cases() {
        for size in SIZES {
            let mut group = criterion.benchmark_group(format!("{}/{size}", case.name));
            group.throughput(Throughput::Elements(size as u64)).sample_size(20);
            for way in WAYS {
                // One row at a time by conditions takes minutes for 10,000.
                if way == Way::Reference && size > 100 {
                    continue;
                }
                let Some(booster) = Booster::parse_in(&case.bytes, &case.hashes, way).unwrap() else { continue };
                let batches = batches(&case.values, booster.columns(), size);
                let (mut next, mut out) = (0, Vec::new());
                group.bench_function(format!("{way:?}"), |bencher| {
                    bencher.iter_batched(
                        || {
                            next = (next + 1) % batches.len();
                            &batches[next]
                        },
                        |batch| {
                            out.clear();
                            booster.margins(black_box(batch), &mut out).unwrap();
                        },
                        BatchSize::SmallInput,
                    );
                });
            }
        }
    }
}

criterion_group!(benches, evaluate);
criterion_main!(benches);
