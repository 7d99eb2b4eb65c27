//! A network of 110-128-128-128-2 numbers with ReLU and softmax: one row, 100 rows and 10,000 rows.
//!
//! `cargo bench -p model --bench mlp`; with `--features candle` the same by candle's operations.
#![allow(clippy::unwrap_used, reason = "a benchmark stops when its files are wrong")]

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use model::Batch;
use model::mlp::{LayerSpec, LinearSpec, Link, Mlp, Spec};

const WIDTHS: [usize; 5] = [110, 128, 128, 128, 2];
const SIZES: [usize; 3] = [1, 100, 10_000];

/// Numbers from -1 to 1, always the same.
fn numbers(seed: u64) -> impl Iterator<Item = f32> {
    let mut state = seed;
    std::iter::repeat_with(move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1 << 23) as f32 - 1.0
    })
}

/// The tensors as a safetensors file, and the layers.
fn network() -> (Vec<u8>, Spec) {
    let (mut header, mut data, mut layers) = (Vec::new(), Vec::new(), Vec::new());
    for (index, widths) in WIDTHS.windows(2).enumerate() {
        let scale = 1.0 / (widths[0] as f32).sqrt();
        for (name, shape) in [("weight", vec![widths[1], widths[0]]), ("bias", vec![widths[1]])] {
            let start = data.len();
            let count = shape.iter().product();
            data.extend(numbers(index as u64 + 1).take(count).flat_map(|number| (number * scale).to_le_bytes()));
            let end = data.len();
            header.push(format!(
                "\"{index}.{name}\":{{\"dtype\":\"F32\",\"shape\":{shape:?},\"data_offsets\":[{start},{end}]}}"
            ));
        }
        if index > 0 {
            layers.push(LayerSpec::Relu);
        }
        layers.push(LayerSpec::Linear(LinearSpec {
            weight: format!("{index}.weight"),
            bias: Some(format!("{index}.bias")),
        }));
    }
    let header = format!("{{{}}}", header.join(","));
    let bytes = [&(header.len() as u64).to_le_bytes(), header.as_bytes(), &data].concat();
    (bytes, Spec { layers, link: Link::BinarySoftmax, ..Spec::default() })
}

fn bench(criterion: &mut Criterion) {
    let (bytes, spec) = network();
    let features: Vec<usize> = (0..WIDTHS[0]).collect();
    let ways = [
        ("kernels", Mlp::load(&bytes, &spec, features.clone(), &[]).unwrap()),
        #[cfg(feature = "candle")]
        ("candle", Mlp::load_in_candle(&bytes, &spec, features, &[]).unwrap()),
    ];
    for (way, mlp) in &ways {
        let mut group = criterion.benchmark_group(format!("mlp/{way}"));
        for size in SIZES {
            let mut batch = Batch::with_capacity(WIDTHS[0], size);
            let mut values = numbers(99).map(f64::from);
            for _ in 0..size {
                batch.push_row().fill_with(|| values.next().unwrap());
            }
            let mut out = Vec::new();
            group.throughput(Throughput::Elements(size as u64));
            group.bench_function(format!("{size}"), |bencher| {
                bencher.iter(|| {
                    out.clear();
                    mlp.predict(black_box(&batch), &mut out).unwrap();
                });
            });
        }
        group.finish();
    }
}

criterion_group!(benches, bench);
criterion_main!(benches);
