//! Raw margins of one row, 100 rows and 10,000 rows, by each way, on different rows from call to call.
//!
//! `cargo bench -p model`; the larger models are measured when `UNDERSTUDY_SHARED` names the directory with `trees/`.
#![allow(clippy::unwrap_used, reason = "a benchmark stops when its files are wrong")]

use std::fs;
use std::hint::black_box;
use std::path::{Path, PathBuf};

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use model::Batch;
use model::lightgbm::Way;
use model::{lightgbm, xgboost};

const WAYS: [Way; 7] = [Way::Reference, Way::Walk, Way::Levels, Way::Steps, Way::Tables, Way::Blocks, Way::Fastest];
const SIZES: [usize; 3] = [1, 100, 10_000];

/// A model and rows for it, row-major.
struct Case {
    name: String,
    text: Vec<u8>,
    values: Vec<f64>,
}

fn cases() -> Vec<Case> {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let golden = here.join("tests/golden");
    let mut values = Vec::new();
    for line in fs::read_to_string(golden.join("binary_missing_nan.csv")).unwrap().lines() {
        let numbers: Vec<f64> =
            line.split(',').map(|word| f64::from_bits(u64::from_str_radix(word, 16).unwrap())).collect();
        values.extend(&numbers[..numbers.len() - 2]);
    }
    let fixture = fs::read(golden.join("binary_missing_nan.txt")).unwrap();
    let mut cases = vec![Case { name: "fixture".to_owned(), text: fixture, values }];
    let Some(shared) = std::env::var_os("UNDERSTUDY_SHARED").map(PathBuf::from) else {
        return cases;
    };
    let trees = shared.join("trees");
    let adult = here.join("../examples/models/adult/1/nodes/lightgbm/model.txt");
    for (name, text, rows) in [
        ("adult", adult, "rows_cat_10000x13.f64"),
        ("lgb_cat_300x63", trees.join("lgb_cat_300x63.txt"), "rows_cat_10000x13.f64"),
        ("lgb_cat_1000x31", trees.join("lgb_cat_1000x31.txt"), "rows_cat_10000x13.f64"),
        ("lgb_num_300x63", trees.join("lgb_num_300x63.txt"), "rows_cat_10000x13.f64"),
        ("lgb_syn_500x63", trees.join("lgb_syn_500x63.txt"), "rows_syn_10000x28.f64"),
        ("xgb_syn_500d6", trees.join("xgb_syn_500d6.ubj"), "rows_syn_10000x28.f64"),
    ] {
        let bytes = fs::read(trees.join(rows)).unwrap();
        let values = bytes.chunks_exact(8).map(|eight| f64::from_le_bytes(eight.try_into().unwrap())).collect();
        cases.push(Case { name: name.to_owned(), text: fs::read(text).unwrap(), values });
    }
    cases
}

/// A model of either library.
enum Booster {
    LightGbm(lightgbm::Booster),
    XgBoost(xgboost::Booster),
}

impl Booster {
    fn parse_in(text: &[u8], way: Way) -> Option<Self> {
        if text.starts_with(b"{") {
            return xgboost::Booster::parse_in(text, way).unwrap().map(Self::XgBoost);
        }
        lightgbm::Booster::parse_in(text, way).unwrap().map(Self::LightGbm)
    }

    fn columns(&self) -> usize {
        match self {
            Self::LightGbm(booster) => booster.columns(),
            Self::XgBoost(booster) => booster.columns(),
        }
    }

    fn margins(&self, batch: &Batch, out: &mut Vec<f64>) {
        match self {
            Self::LightGbm(booster) => booster.margins(batch, out),
            Self::XgBoost(booster) => booster.margins(batch, out),
        }
        .unwrap();
    }
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
                let Some(booster) = Booster::parse_in(&case.text, way) else { continue };
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
                            booster.margins(black_box(batch), &mut out);
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
