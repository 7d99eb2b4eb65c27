//! Forests as arrays: scikit-learn's own answers to the bit, and files that are wrong in one place.

use std::fs;
use std::path::PathBuf;

use model::forest::{Forest, Precision, Spec, Way};
use model::{Batch, Link};
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::fixture;

fn path(name: &str, extension: &str) -> PathBuf {
    fixture::directory().join("forest").join(format!("{name}.{extension}"))
}

fn names() -> Vec<String> {
    let entries = fs::read_dir(fixture::directory().join("forest")).unwrap();
    let paths = entries.map(|entry| entry.unwrap().path());
    let of = |path: PathBuf| path.file_stem().unwrap().to_str().unwrap().to_owned();
    paths.filter(|path| path.extension().is_some_and(|extension| extension == "csv")).map(of).collect()
}

fn bytes(name: &str) -> Vec<u8> {
    fs::read(path(name, "safetensors")).unwrap()
}

fn spec(name: &str) -> Spec {
    serde_json::from_str(&fs::read_to_string(path(name, "json")).unwrap()).unwrap()
}

/// The rows of a fixture, and what scikit-learn predicts for them.
fn answers(name: &str) -> (Batch, Vec<f64>) {
    let (mut batch, mut expected) = (Batch::new(6), Vec::new());
    for line in fs::read_to_string(path(name, "csv")).unwrap().lines() {
        let bits = |word| f64::from_bits(u64::from_str_radix(word, 16).unwrap());
        let numbers: Vec<f64> = line.split(',').map(bits).collect();
        batch.push_row().copy_from_slice(&numbers[..6]);
        expected.extend(&numbers[6..]);
    }
    (batch, expected)
}

const WAYS: [Way; 5] = [Way::Fastest, Way::Compact, Way::Wide, Way::Shallow, Way::Reference];

#[test]
fn every_fixture_is_equal_to_the_bit() {
    let names = names();
    assert!(names.len() >= 14, "only {} fixtures", names.len());
    for name in names {
        let (batch, expected) = answers(&name);
        let mut ways = 0;
        for way in WAYS {
            let positions = [0, 1, 2, 3, 4, 5];
            let forest = Forest::load_in(&bytes(&name), spec(&name), &positions, way);
            let Some(forest) = forest.unwrap_or_else(|error| panic!("{name}: {error}")) else { continue };
            let mut got = Vec::new();
            forest.predict(&batch, &mut got).unwrap();
            assert_eq!(got.len(), expected.len(), "{name}");
            for (index, (got, expected)) in got.iter().zip(&expected).enumerate() {
                assert_eq!(got.to_bits(), expected.to_bits(), "{name}, {way:?}, number {index}: {expected}, {got}");
            }
            assert_eq!(forest.outputs() * batch.rows(), expected.len());
            assert_eq!(forest.is_probability(), !name.contains("regressor") && !name.contains("plain"), "{name}");
            ways += 1;
        }
        assert!(ways >= 4, "{name}: only {ways} ways");
    }
}

#[test]
fn columns_may_lie_anywhere_in_a_row() {
    let (batch, expected) = answers("forest_binary");
    let positions = [5, 4, 3, 2, 1, 0];
    let forest = Forest::load(&bytes("forest_binary"), spec("forest_binary"), &positions).unwrap();
    let mut turned = Batch::new(6);
    for row in 0..batch.rows() {
        let row = batch.row(row).iter().rev();
        turned.push_row().iter_mut().zip(row).for_each(|(cell, value)| *cell = *value);
    }
    let mut got = Vec::new();
    forest.predict(&turned, &mut got).unwrap();
    assert_eq!(got, expected);
}

/// The arrays of a file, to be written with changes.
#[derive(Clone)]
struct File {
    arrays: Vec<(&'static str, &'static str, Vec<usize>, Vec<u8>)>,
}

fn i32s(values: &[i32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

fn f64s(values: &[f64]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

fn i64s(values: &[i64]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

impl File {
    /// A tree of three leaves, a number over a category, and a tree of one leaf.
    fn good() -> Self {
        let mut sets = vec![0_u8; 32];
        sets[0] = 0b101;
        Self {
            arrays: vec![
                ("offsets", "I64", vec![3], i64s(&[0, 5, 6])),
                ("left", "I32", vec![6], i32s(&[1, 3, -1, -1, -1, -1])),
                ("right", "I32", vec![6], i32s(&[2, 4, -1, -1, -1, -1])),
                ("feature", "I32", vec![6], i32s(&[0, 1, -2, -2, -2, -2])),
                ("threshold", "F64", vec![6], f64s(&[0.5, -2.0, -2.0, -2.0, -2.0, -2.0])),
                ("missing_left", "U8", vec![6], vec![0, 1, 0, 0, 0, 0]),
                ("category", "I32", vec![6], i32s(&[-1, 0, -1, -1, -1, -1])),
                ("sets", "U32", vec![1, 8], sets),
                ("value", "F64", vec![6, 1], f64s(&[0.0, 0.0, 4.0, 1.0, 2.0, 8.0])),
            ],
        }
    }

    fn with(&self, name: &'static str, dtype: &'static str, shape: &[usize], bytes: Vec<u8>) -> Self {
        let mut file = self.without(name);
        file.arrays.push((name, dtype, shape.to_vec(), bytes));
        file
    }

    fn without(&self, name: &str) -> Self {
        let mut file = self.clone();
        file.arrays.retain(|array| array.0 != name);
        file
    }

    fn write(&self) -> Vec<u8> {
        let (mut header, mut data) = (serde_json::Map::new(), Vec::new());
        for (name, dtype, shape, bytes) in &self.arrays {
            let start = data.len();
            data.extend(bytes);
            let entry = json!({"dtype": dtype, "shape": shape, "data_offsets": [start, data.len()]});
            header.insert((*name).to_owned(), entry);
        }
        container(&Value::Object(header).to_string(), &data)
    }
}

fn container(header: &str, data: &[u8]) -> Vec<u8> {
    let mut file = (header.len() as u64).to_le_bytes().to_vec();
    file.extend(header.as_bytes());
    file.extend(data);
    file
}

fn sum(start: &[f64]) -> Spec {
    Spec { input: Precision::Double, start: start.to_vec(), average: false, link: Link::Identity }
}

fn predict(bytes: &[u8], spec: Spec, rows: &[[f64; 2]]) -> Vec<f64> {
    let mut batch = Batch::new(2);
    for row in rows {
        batch.push_row().copy_from_slice(row);
    }
    let mut out = Vec::new();
    Forest::load(bytes, spec, &[0, 1]).unwrap().predict(&batch, &mut out).unwrap();
    out
}

#[track_caller]
fn refused_with(bytes: &[u8], spec: Spec, reason: &str) {
    let error = Forest::load(bytes, spec, &[0, 1]).unwrap_err().to_string();
    assert!(error.contains(reason), "{error}");
    assert!(!error.contains('\n'), "{error}");
}

#[track_caller]
fn refused(file: &File, reason: &str) {
    refused_with(&file.write(), sum(&[0.0]), reason);
}

#[test]
fn a_good_file_is_walked() {
    let nan = f64::NAN;
    let rows = [
        [0.5, 0.0],
        [0.5, 1.0],
        [0.5, 2.9],
        [0.5, nan],
        [0.5, -1.0],
        [0.5, -0.5],
        [0.5, 255.9],
        [0.5, 256.0],
        [0.5, f64::INFINITY],
        [0.6, 0.0],
        [nan, 0.0],
    ];
    let expected = [9.0, 10.0, 9.0, 9.0, 9.0, 9.0, 10.0, 9.0, 9.0, 12.0, 12.0];
    assert_eq!(predict(&File::good().write(), sum(&[0.0]), &rows), expected);
    let mean = Spec { average: true, start: vec![1.0], ..sum(&[]) };
    assert_eq!(predict(&File::good().write(), mean, &rows[..2]), [5.0, 5.5]);
    let outputs = File::good().with("output", "I32", &[2], i32s(&[1, 0]));
    assert_eq!(predict(&outputs.write(), sum(&[0.25, 0.5]), &rows[..1]), [8.25, 1.5]);
    let several = File::good().with("value", "F64", &[6, 2], f64s(&[0., 0., 0., 0., 4., 5., 1., 2., 2., 3., 8., 9.]));
    assert_eq!(predict(&several.write(), sum(&[0.0, 0.0]), &rows[..2]), [9.0, 11.0, 10.0, 12.0]);
}

#[test]
fn infinite_thresholds_are_taken() {
    let rows = [[1e308, 0.0], [f64::INFINITY, 0.0], [f64::NEG_INFINITY, 0.0]];
    let with = |threshold| File::good().with("threshold", "F64", &[6], f64s(&[threshold, 0., 0., 0., 0., 0.])).write(); // M10
    for input in [Precision::Double, Precision::Single] {
        let spec = Spec { input, ..sum(&[0.0]) };
        assert_eq!(predict(&with(f64::INFINITY), spec.clone(), &rows), [9.0, 9.0, 9.0]);
        assert_eq!(predict(&with(f64::NEG_INFINITY), spec, &rows), [12.0, 12.0, 9.0]);
    }
}

#[test]
fn structure_is_checked() {
    let good = File::good();
    let left = |left: &[i32]| good.with("left", "I32", &[6], i32s(left));
    refused(&left(&[0, 3, -1, -1, -1, -1]), "tree 0: child of node 0: expected a node after 0"); // M1
    refused(&left(&[1, 0, -1, -1, -1, -1]), "tree 0: child of node 1"); // M2
    refused(&left(&[5, 3, -1, -1, -1, -1]), "below 5, or -1 twice, got 5"); // M3: in the next tree
    refused(&left(&[i32::MAX, 3, -1, -1, -1, -1]), "child of node 0");
    refused(&left(&[1, -2, -1, -1, -1, -1]), "child of node 1"); // M4
    refused(&left(&[1, -1, -1, -1, -1, -1]), "child of node 1"); // one child
    refused(&left(&[2, 3, -1, -1, -1, -1]), "without another parent"); // M5
    let island = left(&[3, -1, -1, -1, -1, -1]).with("right", "I32", &[6], i32s(&[4, -1, -1, -1, -1, -1]));
    refused(&island, "tree 0: node 1: expected a parent before it"); // M6
    let feature = |feature| good.with("feature", "I32", &[6], i32s(&[0, feature, 0, 0, 0, 0]));
    refused(&feature(2), "feature of node 1: expected 0 to 1"); // M8
    refused(&feature(-1), "feature of node 1");
    let nan = good.with("threshold", "F64", &[6], f64s(&[f64::NAN, 0., 0., 0., 0., 0.]));
    refused(&nan, "threshold of node 0: expected a number"); // M9
    for value in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
        let leaf = good.with("value", "F64", &[6, 1], f64s(&[0., 0., 4., value, 2., 8.]));
        refused(&leaf, "value of leaf 3: expected finite"); // M11
    }
    refused(&good.with("missing_left", "U8", &[6], vec![2, 0, 0, 0, 0, 0]), "missing_left of node 0: expected 0 or 1");
    refused(&good.with("category", "I32", &[6], i32s(&[1, -1, -1, -1, -1, -1])), "one of 1 sets"); // M16
    refused(&good.with("category", "I32", &[6], i32s(&[-2, -1, -1, -1, -1, -1])), "one of 1 sets");
    refused(&good.without("sets"), "one of 0 sets");
}

#[test]
fn lengths_are_checked() {
    let good = File::good();
    for (offsets, reason) in [
        (vec![0, 5, 7], "offsets: number 2: expected ascending numbers from 0 to 6"), // M14
        (vec![0, 5, 5], "offsets: number 2"),
        (vec![0, 6, 5], "offsets: number 2"),
        (vec![1, 5, 6], "offsets: number 0"),
        (vec![-1, 5, 6], "offsets: number 0"),
        (vec![0, i64::MAX, 6], "offsets: number 1"),
        (vec![0, 3, 5], "offsets: last number: expected 6 nodes, got 5"),
    ] {
        refused(&good.with("offsets", "I64", &[3], i64s(&offsets)), reason);
    }
    refused(&good.with("offsets", "I64", &[1], i64s(&[0])), "offsets: shape");
    refused(&good.with("offsets", "I64", &[0], vec![]), "offsets: shape");
    refused(&good.with("offsets", "I64", &[3, 1], i64s(&[0, 5, 6])), "offsets: shape");
    refused(&good.with("right", "I32", &[5], i32s(&[0; 5])), "right: shape: expected [6], got [5]"); // M15
    refused(&good.with("right", "I32", &[2, 3], i32s(&[0; 6])), "right: shape: expected [6], got [2, 3]");
    refused(&good.with("left", "I32", &[2, 3], i32s(&[0; 6])), "shape");
    refused(&good.with("value", "F64", &[6], f64s(&[0.0; 6])), "value: shape");
    refused(&good.with("value", "F64", &[5, 1], f64s(&[0.0; 5])), "value: shape: expected [6, 1]");
    refused(&good.with("sets", "U32", &[8], vec![0; 32]), "sets: shape");
    refused(&good.with("sets", "U32", &[2, 4], vec![0; 32]), "sets: shape: expected [2, 8], got [2, 4]");
    refused(&good.with("left", "I64", &[6], i64s(&[0; 6])), "left: type: expected I32, got I64");
    refused(&good.with("threshold", "F32", &[6], vec![0; 24]), "threshold: type: expected F64, got F32");
    refused(&good.without("left"), "left: array: expected it in the file");
    refused(&good.with("surprise", "U8", &[0], vec![]), "header: array");
    let output = |output: &[i32]| good.with("output", "I32", &[2], i32s(output)).write();
    refused_with(&output(&[0, 2]), sum(&[0.0, 0.0]), "output: of tree 1: expected 0 to 1, got 2"); // M17
    refused_with(&output(&[-1, 0]), sum(&[0.0, 0.0]), "output: of tree 0");
    refused_with(&good.write(), sum(&[0.0, 0.0]), "output: array: expected it in the file");
    let several = good.with("value", "F64", &[6, 2], f64s(&[0.0; 12]));
    refused_with(&several.write(), sum(&[0.0, 0.0, 0.0]), "value: shape: expected 1 or 3 numbers");
    let both = several.with("output", "I32", &[2], i32s(&[0, 0])).write();
    refused_with(&both, sum(&[0.0, 0.0]), "output: array: expected none");
}

#[test]
fn the_spec_is_checked() {
    let good = File::good().write();
    refused_with(&good, sum(&[]), "start: length: expected 1 to 65536 numbers, got 0"); // M18
    refused_with(&good, sum(&vec![0.0; 1 << 20]), "start: length");
    refused_with(&good, sum(&[f64::NAN]), "start: number: expected finite"); // M19
    refused_with(&good, Spec { link: Link::BinarySoftmax, ..sum(&[0.0]) }, "start: length: expected 2 numbers");
    let error = Forest::load(&good, sum(&[0.0]), &[]).unwrap_err().to_string();
    assert!(error.contains("feature of node 0"), "{error}");
}

#[test]
fn the_container_is_checked() {
    let good = File::good().write();
    let refused = |bytes: &[u8], reason: &str| refused_with(bytes, sum(&[0.0]), reason);
    refused(b"", "header: length");
    refused(&good[..7], "header: length");
    refused(&[&(1_u64 << 63).to_le_bytes(), &good[8..]].concat(), "header: length"); // M26
    refused(&[&100_000_001_u64.to_le_bytes(), &good[8..]].concat(), "header: length");
    refused(&[&65_537_u64.to_le_bytes()[..], &vec![b' '; 70_000]].concat(), "header: length: expected at most 65536");
    refused(&[&good[..], &[0]].concat(), "header: container"); // M29
    refused(&container("{}", b""), "left: array");
    refused(&container("[1]", b""), "header: container");
    refused(&container(&"[".repeat(10_000), b""), "header: container"); // M21
    let tensor =
        |shape: &str, ends: &str| format!(r#"{{"left":{{"dtype":"I32","shape":{shape},"data_offsets":{ends}}}}}"#);
    refused(&container(&tensor("[1]", "[4,8]"), &[0; 8]), "header: container"); // M27: a gap
    refused(&container(&tensor("[1]", "[0,8]"), &[0; 8]), "header: container");
    refused(&container(&tensor("[1000000000000,1000000000000]", "[0,4]"), &[0; 4]), "header: container"); // M28
    refused(&container(&tensor("[4611686018427387904]", "[0,4]"), &[0; 4]), "header: number"); // M28
    refused(&container(&tensor("[-1]", "[0,4]"), &[0; 4]), "header: container");
    refused(b"\x80\x04\x95\x1f\x00\x00\x00\x00\x00\x00\x00pickle", "header: length"); // M30
    for part in 0..64 {
        let cut = good.len() * part / 64; // M39
        assert!(Forest::load(&good[..cut], sum(&[0.0]), &[0, 1]).is_err(), "cut at {cut}");
    }
}

#[test]
fn depth_is_capped() {
    let chain = |splits: i32| {
        let nodes = 2 * splits + 1;
        let child = |node: i32, side| if node % 2 == 0 && node < nodes - 1 { node + side } else { -1 };
        let list = |side| i32s(&(0..nodes).map(|node| child(node, side)).collect::<Vec<_>>());
        let count = nodes as usize;
        let mut values = vec![0.0; count];
        values[count - 1] = 7.0;
        File { arrays: Vec::new() }
            .with("offsets", "I64", &[2], i64s(&[0, i64::from(nodes)]))
            .with("left", "I32", &[count], list(1))
            .with("right", "I32", &[count], list(2))
            .with("feature", "I32", &[count], i32s(&vec![0; count]))
            .with("threshold", "F64", &[count], f64s(&vec![0.0; count]))
            .with("value", "F64", &[count, 1], f64s(&values))
    };
    assert_eq!(predict(&chain(512).write(), sum(&[0.0]), &[[1.0, 0.0]]), [7.0]); // M7
    refused(&chain(513), "tree 0: depth: expected at most 512, got 513");
    refused(&chain(100_000), "tree 0: depth");
}

#[test]
fn links_convert_as_scikit_learn_does() {
    let leaf = |values: &[f64]| {
        File { arrays: Vec::new() }
            .with("offsets", "I64", &[2], i64s(&[0, 1]))
            .with("left", "I32", &[1], i32s(&[-1]))
            .with("right", "I32", &[1], i32s(&[-1]))
            .with("feature", "I32", &[1], i32s(&[-2]))
            .with("threshold", "F64", &[1], f64s(&[-2.0]))
            .with("value", "F64", &[1, values.len()], f64s(values))
            .write()
    };
    let convert = |values: &[f64], link| {
        let spec = Spec { link, ..sum(&vec![0.0; values.len()]) };
        predict(&leaf(values), spec, &[[0.0, 0.0], [0.0, 0.0]])
    };
    // scipy 1.17.1, numpy 2.4.6, scikit-learn 1.9.1: expit, exp, softmax.
    assert_eq!(convert(&[3.0, -1.0, 2.0], Link::Sort), [-1.0, 2.0, 3.0, -1.0, 2.0, 3.0]);
    assert_eq!(convert(&[-0.7], Link::Sigmoid), [0.331_812_227_831_833_9; 2]);
    assert_eq!(convert(&[-800.0], Link::Sigmoid), [0.0; 2]);
    assert_eq!(convert(&[1.3], Link::Exp), [3.669_296_667_619_244_4; 2]);
    assert_eq!(convert(&[0.3, -1.2], Link::BinarySoftmax), [0.182_425_523_806_356_32; 2]);
    let ovr = [0.712_780_589_217_800_9, 0.287_219_410_782_199_15];
    assert_eq!(convert(&[0.3, -1.2], Link::Ovr), [ovr, ovr].concat());
    let softmax = convert(&[0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0], Link::Softmax);
    // From eight numbers on the sum is NumPy's, not one after another.
    let expected = [
        0.061_207_024_560_089_12,
        0.067_644_223_525_752_4,
        0.074_758_428_616_470_11,
        0.082_620_841_187_957_03,
        0.091_310_150_907_876_77,
        0.100_913_323_308_484_1,
        0.111_526_470_166_902_01,
        0.123_255_811_424_091_44,
        0.136_218_738_269_722_03,
        0.150_544_988_032_655_04,
    ];
    assert_eq!(softmax, [expected, expected].concat());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    #[test]
    fn changed_bytes_are_refused_or_harmless(
        which in 0..14_usize,
        changes in prop::collection::vec((any::<u32>(), any::<u8>()), 1..6),
        data_only in any::<bool>(),
        single in any::<bool>(),
    ) {
        let mut names = names();
        names.sort();
        let name = &names[which];
        let mut file = if which == 0 { File::good().write() } else { bytes(name) };
        let header = u64::from_le_bytes(file[..8].try_into().unwrap()) as usize + 8;
        for (at, byte) in changes {
            let start = if data_only { header } else { 0 };
            let at = start + at as usize % (file.len() - start);
            file[at] = byte;
        }
        let spec = if which == 0 { sum(&[0.0]) } else { spec(name) };
        let input = if single { Precision::Single } else { spec.input };
        if let Ok(forest) = Forest::load(&file, Spec { input, ..spec }, &[0, 1, 2, 3, 4, 5]) {
            let (batch, _) = answers(name);
            let mut out = Vec::new();
            forest.predict(&batch, &mut out).unwrap();
            prop_assert_eq!(out.len(), batch.rows() * forest.outputs());
        }
    }

    #[test]
    fn any_bytes_are_refused(file in prop::collection::vec(any::<u8>(), 0..400), length in 0..400_u64) {
        let framed = [&length.to_le_bytes()[..], &file].concat();
        prop_assert!(Forest::load(&file, sum(&[0.0]), &[0]).is_err());
        prop_assert!(Forest::load(&framed, sum(&[0.0]), &[0]).is_err());
    }
}
