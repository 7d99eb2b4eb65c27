//! Outputs of one row, 100 rows and 10,000 rows of deep forests, by each way, on different rows from call to call.
//!
//! The forests are random: unbalanced trees over whole numbers (few distinct questions, as with ages and codes) or over any
//! numbers (about as many questions as nodes). `cargo bench -p model --bench forest`; trained forests of one or two classes'
//! probabilities are measured when `UNDERSTUDY_FORESTS` names a directory with `<name>.safetensors` and
//! `<name>.rows.f64`, rows as little-endian doubles.
#![allow(clippy::unwrap_used, reason = "a benchmark stops when its model is wrong")]

use std::fs;
use std::hint::black_box;
use std::path::PathBuf;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use model::forest::{Forest, Precision, Spec, Way};
use model::{Batch, Link};

const COLUMNS: usize = 13;
const SIZES: [usize; 3] = [1, 100, 10_000];
const WAYS: [Way; 4] = [Way::Reference, Way::Compact, Way::Wide, Way::Fastest];

struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % end
    }

    fn unit(&mut self) -> f64 {
        self.below(1 << 30) as f64 / f64::from(1 << 30)
    }
}

/// A forest as a file. Each node divides the box of values that reach it, as a trained one does.
fn file(trees: usize, leaves: usize, whole: bool) -> Vec<u8> {
    let random = &mut Random(1);
    let (mut left, mut right): (Vec<u8>, Vec<u8>) = (Vec::new(), Vec::new());
    let (mut feature, mut threshold, mut value) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..trees {
        let mut open = vec![(0_usize, [(0.0, 100.0); COLUMNS])];
        let mut nodes: Vec<(i32, i32, i32, f64)> = vec![(-1, -1, -2, -2.0)];
        for _ in 1..leaves {
            let (node, bounds) = open.swap_remove(random.below(open.len()));
            let column = random.below(COLUMNS);
            let (low, high): (f64, f64) = bounds[column];
            let at = low + (high - low) * (0.2 + 0.6 * random.unit());
            let at = if whole { at.floor() + 0.5 } else { at };
            let child = nodes.len();
            nodes[node] = (child as i32, child as i32 + 1, column as i32, at);
            nodes.extend([(-1, -1, -2, -2.0); 2]);
            let (mut below, mut above) = (bounds, bounds);
            (below[column].1, above[column].0) = (at, at);
            open.extend([(child, below), (child + 1, above)]);
        }
        for (l, r, column, at) in nodes {
            left.extend(l.to_le_bytes());
            right.extend(r.to_le_bytes());
            feature.extend(column.to_le_bytes());
            threshold.extend(at.to_le_bytes());
            value.extend((random.below(200) as f64 / 200.0).to_le_bytes());
        }
    }
    let nodes = trees * (2 * leaves - 1);
    let offsets = (0..=trees).flat_map(|tree| ((tree * (2 * leaves - 1)) as i64).to_le_bytes()).collect();
    let (mut header, mut data) = (Vec::new(), Vec::new());
    for (name, dtype, shape, bytes) in [
        ("offsets", "I64", format!("[{}]", trees + 1), offsets),
        ("left", "I32", format!("[{nodes}]"), left),
        ("right", "I32", format!("[{nodes}]"), right),
        ("feature", "I32", format!("[{nodes}]"), feature),
        ("threshold", "F64", format!("[{nodes}]"), threshold),
        ("value", "F64", format!("[{nodes},1]"), value),
    ] {
        let (start, end) = (data.len(), data.len() + bytes.len());
        header.push(format!(r#""{name}":{{"dtype":"{dtype}","shape":{shape},"data_offsets":[{start},{end}]}}"#));
        data.extend(bytes);
    }
    let header = format!("{{{}}}", header.join(","));
    [&(header.len() as u64).to_le_bytes(), header.as_bytes(), &data].concat()
}

/// A forest, and rows for it, row-major.
struct Case {
    name: String,
    file: Vec<u8>,
    columns: usize,
    /// Numbers of a leaf.
    width: usize,
    rows: Vec<f64>,
}

fn random(name: &str, whole: bool, leaves: usize) -> Case {
    let random = &mut Random(2);
    let value = |_| {
        let value = 100.0 * random.unit();
        if whole { value.floor() } else { value }
    };
    let rows = (0..10_000 * COLUMNS).map(value).collect();
    Case { name: name.to_owned(), file: file(300, leaves, whole), columns: COLUMNS, width: 1, rows }
}

/// The forests of the directory, if there is one.
fn trained() -> Vec<Case> {
    let Some(directory) = std::env::var_os("UNDERSTUDY_FORESTS").map(PathBuf::from) else { return Vec::new() };
    let mut cases = Vec::new();
    for path in fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()) {
        let Some(name) = path.file_name().unwrap().to_str().unwrap().strip_suffix(".safetensors") else { continue };
        let bytes = fs::read(path.with_file_name(format!("{name}.rows.f64"))).unwrap();
        let rows: Vec<f64> = bytes.as_chunks::<8>().0.iter().map(|eight| f64::from_le_bytes(*eight)).collect();
        let (columns, file) = (rows.len() / 10_000, fs::read(&path).unwrap());
        cases.push(Case { name: name.to_owned(), file, columns, width: 2, rows });
    }
    cases
}

fn batches(case: &Case, size: usize) -> Vec<Batch> {
    let rows: Vec<&[f64]> = case.rows.chunks_exact(case.columns).collect();
    let batch = |index: usize| {
        let mut batch = Batch::with_capacity(case.columns, size);
        for row in index * size..(index + 1) * size {
            batch.push_row().copy_from_slice(rows[row % rows.len()]);
        }
        batch
    };
    (0..(10_000 / size).clamp(1, 1000)).map(batch).collect()
}

fn forest(criterion: &mut Criterion) {
    let shapes = [("whole", true, 5800), ("any", false, 5800), ("shallow", false, 60)];
    let random = shapes.into_iter().map(|(name, whole, leaves)| random(name, whole, leaves));
    for case in trained().into_iter().chain(random) {
        for way in WAYS {
            let start = vec![0.0; case.width];
            let spec = Spec { input: Precision::Single, start, average: true, link: Link::Identity };
            let columns: Vec<usize> = (0..case.columns).collect();
            let Some(forest) = Forest::load_in(&case.file, spec, &columns, way).unwrap() else { continue };
            for size in SIZES {
                let mut group = criterion.benchmark_group(format!("{}/{size}", case.name));
                group.throughput(Throughput::Elements(size as u64)).sample_size(10);
                let batches = batches(&case, size);
                let (mut next, mut out) = (0, Vec::new());
                group.bench_function(format!("{way:?}"), |bencher| {
                    bencher.iter_batched(
                        || {
                            next = (next + 1) % batches.len();
                            &batches[next]
                        },
                        |batch| {
                            out.clear();
                            forest.predict(black_box(batch), &mut out).unwrap();
                        },
                        BatchSize::SmallInput,
                    );
                });
            }
        }
    }
}

criterion_group!(benches, forest);
criterion_main!(benches);
