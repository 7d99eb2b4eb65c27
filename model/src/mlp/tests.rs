//! Held against torch's answers, and each tier of this processor against the portable one.

use std::fs;
use std::path::{Path, PathBuf};

use proptest::prelude::*;
use serde_json::{Value, json};

use super::{Mlp, Spec};
use crate::Batch;
use crate::engine::simd::Tier;

/// As the package format has it, and `relative to numbers greater than 1`.
const TOLERANCE: f64 = 5e-7;

const CASES: [&str; 13] = [
    "torch",
    "torch_norm",
    "fastai",
    "embeddings_only",
    "regression",
    "quantile",
    "function_elu",
    "function_gelu",
    "function_leaky_relu",
    "function_selu",
    "function_sigmoid",
    "function_silu",
    "function_tanh",
];

struct Case {
    bytes: Vec<u8>,
    spec: Value,
    features: Vec<usize>,
    embeddings: Vec<usize>,
    batch: Batch,
    /// torch's answers to all rows at once, and to each alone.
    answers: [Vec<f64>; 2],
}

/// Doubles that are written as hexadecimal bits.
fn doubles(value: &Value) -> Vec<f64> {
    let text = value.as_str().unwrap();
    (0..text.len() / 16)
        .map(|index| f64::from_bits(u64::from_str_radix(&text[16 * index..16 * (index + 1)], 16).unwrap()))
        .collect()
}

impl Case {
    fn read(directory: &Path, name: &str) -> Self {
        let text = fs::read(directory.join(format!("nn_{name}.json"))).unwrap();
        let mut golden: Value = serde_json::from_slice(&text).unwrap();
        let number = |key: &str| golden[key].as_u64().unwrap() as usize;
        let (features, width) = (number("features"), number("width"));
        let mut batch = Batch::new(width);
        for row in doubles(&golden["rows"]).chunks_exact(width) {
            batch.push_row().copy_from_slice(row);
        }
        Self {
            bytes: fs::read(directory.join(format!("nn_{name}.safetensors"))).unwrap(),
            features: (0..features).collect(),
            embeddings: (features..width).collect(),
            batch,
            answers: [doubles(&golden["together"]), doubles(&golden["alone"])],
            spec: golden["spec"].take(),
        }
    }

    fn golden(name: &str) -> Self {
        Self::read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden"), name)
    }

    fn load(&self) -> Result<Mlp, String> {
        let spec: Spec = serde_json::from_value(self.spec.clone()).map_err(|error| error.to_string())?;
        Mlp::load(&self.bytes, &spec, self.features.clone(), &self.embeddings).map_err(|error| error.to_string())
    }

    /// The message that refuses the case with a changed spec.
    fn refused(&self, change: impl FnOnce(&mut Value)) -> String {
        let mut spec = self.spec.clone();
        change(&mut spec);
        Self { spec, bytes: self.bytes.clone(), ..Self::golden("torch") }.load().unwrap_err()
    }
}

fn predict(mlp: &Mlp, batch: &Batch) -> Vec<f64> {
    let mut out = Vec::new();
    mlp.predict(batch, &mut out).unwrap();
    out
}

/// Each row by itself.
fn one_by_one(mlp: &Mlp, batch: &Batch) -> Vec<f64> {
    let mut out = Vec::new();
    for index in 0..batch.rows() {
        mlp.evaluate(batch.view(index..index + 1).unwrap(), &mut out);
    }
    out
}

/// The greatest difference, relative to numbers greater than 1.
fn difference(expected: &[f64], got: &[f64]) -> f64 {
    assert_eq!(expected.len(), got.len());
    expected.iter().zip(got).map(|(a, b)| (a - b).abs() / a.abs().max(1.0)).fold(0.0, f64::max)
}

/// `both`: torch's answers to single rows count too. They may be as far from its answers to batches as ours may be.
fn hold(name: &str, case: &Case, both: bool) {
    let mut mlp = case.load().unwrap();
    for tier in Tier::all() {
        mlp.network.set_tier(tier);
        let got = predict(&mlp, &case.batch);
        assert!(got == one_by_one(&mlp, &case.batch), "{name}, {tier:?}: another answer alone than in a batch");
        for (answers, counts) in case.answers.iter().zip([true, both]) {
            let far = difference(answers, &got);
            // Without fused products the order is torch's, but not the rounding.
            let tolerance = if matches!(tier, Tier::Portable) { 2.0 * TOLERANCE } else { TOLERANCE };
            assert!(far <= tolerance || !counts, "{name}, {tier:?}: {far:e} from torch");
        }
        assert!(got.iter().all(|number| f64::from(*number as f32) == *number), "{name}: not single precision");
    }
}

#[test]
fn torchs_networks_give_the_same_numbers() {
    for name in CASES {
        hold(name, &Case::golden(name), true);
    }
    let Some(directory) = std::env::var_os("UNDERSTUDY_NETWORKS").map(PathBuf::from) else { return };
    for entry in fs::read_dir(&directory).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        if let Some(name) = name.strip_prefix("nn_").and_then(|name| name.strip_suffix(".json")) {
            hold(name, &Case::read(&directory, name), false);
        }
    }
}

#[cfg(feature = "candle")]
#[test]
fn candle_gives_the_same_numbers() {
    for name in CASES {
        let case = Case::golden(name);
        let spec: Spec = serde_json::from_value(case.spec.clone()).unwrap();
        let mlp = Mlp::load_in_candle(&case.bytes, &spec, case.features.clone(), &case.embeddings).unwrap();
        let far = difference(&case.answers[0], &predict(&mlp, &case.batch));
        assert!(far <= TOLERANCE, "{name}: {far:e}");
    }
}

#[test]
fn a_rows_answer_does_not_depend_on_the_rows_beside_it() {
    let case = Case::golden("torch_norm");
    let mlp = case.load().unwrap();
    let all = predict(&mlp, &case.batch);
    for size in [0, 1, 2, 3, 4, 5, 7, 8, 9] {
        let mut got = vec![7.0];
        mlp.evaluate(case.batch.view(3..3 + size).unwrap(), &mut got);
        assert_eq!(got[0], 7.0);
        assert_eq!(got[1..], all[3 * mlp.outputs()..(3 + size) * mlp.outputs()]);
    }
    let mut many = Batch::new(case.batch.width());
    for index in 0..1000 {
        many.push_row().copy_from_slice(case.batch.row(index % case.batch.rows()));
    }
    for (index, got) in predict(&mlp, &many).chunks_exact(mlp.outputs()).enumerate() {
        let row = index % case.batch.rows() * mlp.outputs();
        assert_eq!(got, &all[row..row + mlp.outputs()]);
    }
}

#[test]
fn missing_goes_through_to_the_answer() {
    for name in ["torch", "torch_norm", "fastai", "quantile", "function_gelu", "function_leaky_relu"] {
        let mut case = Case::golden(name);
        case.batch.row_mut(0)[0] = f64::NAN;
        let mlp = case.load().unwrap();
        let got = predict(&mlp, &case.batch);
        assert!(got[..mlp.outputs()].iter().all(|number| number.is_nan()), "{name}");
        assert!(got[mlp.outputs()..].iter().all(|number| number.is_finite()), "{name}");
    }
}

#[test]
fn what_does_not_fit_is_refused_with_its_values() {
    let case = Case::golden("torch");
    let layer = |index: usize, with: Value| move |spec: &mut Value| spec["layers"][index] = with;
    let linear = |weight: &str, bias: &str| json!({"linear": {"weight": weight, "bias": bias}});
    let text = case.refused(layer(0, linear("nothing", "layers.0.bias")));
    assert_eq!(text, "layer 0: \"nothing\": expected a tensor of the file, got none of this name");
    let text = case.refused(layer(0, linear("layers.3.weight", "layers.3.bias")));
    assert_eq!(text, "layer 0: \"layers.3.weight\": expected shape [rows, 27], not empty, got [40, 40]");
    let text = case.refused(layer(0, linear("layers.0.weight", "layers.6.bias")));
    assert_eq!(text, "layer 0: \"layers.6.bias\": expected shape [40], got [2]");
    let text = case.refused(layer(0, linear("layers.0.bias", "layers.0.bias")));
    assert_eq!(text, "layer 0: \"layers.0.bias\": expected shape [rows, 27], not empty, got [40]");
    let text = case.refused(layer(2, linear("layers.0.weight", "layers.0.bias")));
    assert!(text.ends_with("expected a tensor that nothing else uses, got one that is used before"), "{text}");
    let text = case.refused(|spec| spec["layers"] = json!([linear("layers.0.weight", "layers.0.bias")]));
    assert_eq!(text, "end: tensors: expected only those that the node names, got \"layers.3.bias\"");
    let norm = json!({"batch_norm": {"weight": "layers.0.bias", "bias": "layers.3.bias", "mean": "x", "variance": "y",
        "epsilon": 1e-5}});
    let text = case.refused(layer(0, norm));
    assert_eq!(text, "layer 0: \"layers.0.bias\": expected shape [27], got [40]");
    let text = case.refused(|spec| spec["layers"] = json!(vec!["relu"; 2000]));
    assert_eq!(text, "layers: number: expected at most 1024, got 2000");
    let text = case.refused(layer(1, json!("softplus")));
    assert!(text.contains("unknown variant `softplus`"), "{text}");
    let text = case.refused(|spec| spec["link"] = json!("ovr"));
    assert!(text.contains("unknown variant `ovr`"), "{text}");
    let three = Case::golden("torch_norm");
    let mut spec = three.spec.clone();
    spec["link"] = json!("binary_softmax");
    let text = Case { spec, ..three }.load().unwrap_err();
    assert_eq!(text, "link: binary_softmax: expected a last layer of 2 numbers, got 4");
    let norm = Case::golden("fastai");
    let mut spec = norm.spec.clone();
    spec["input_norm"]["epsilon"] = json!(-1.0);
    let text = Case { spec, ..norm }.load().unwrap_err();
    assert_eq!(text, "input_norm: epsilon: expected a number of at least 0, got -1");
}

#[test]
fn wrong_files_are_refused_with_their_values() {
    let good = Case::golden("torch");
    let length = u64::from_le_bytes(good.bytes[..8].try_into().unwrap()) as usize;
    let refused = |bytes: Vec<u8>| Case { bytes, ..Case::golden("torch") }.load().unwrap_err();
    let header = |from: &str, to: &str| {
        let text = std::str::from_utf8(&good.bytes[8..8 + length]).unwrap().replacen(from, to, 1);
        [&(text.len() as u64).to_le_bytes(), text.as_bytes(), &good.bytes[8 + length..]].concat()
    };
    let mut bytes = good.bytes.clone();
    let last = bytes.len() - 4;
    bytes[last..].copy_from_slice(&f32::NAN.to_le_bytes());
    let text = refused(bytes);
    assert!(text.starts_with("embedding 2: \"tables.2.weight\": expected finite numbers, got NaN"), "{text}");
    let text = refused(header("F32", "I32"));
    assert!(text.starts_with("layer 0: \"layers.0.bias\": expected type F32, got I32"), "{text}");
    let text = refused(good.bytes[..good.bytes.len() - 1].to_vec());
    assert!(text.starts_with("header: format: expected a safetensors file, got"), "{text}");
    let text = refused(u64::MAX.to_le_bytes().to_vec());
    assert_eq!(text, format!("header: length: expected at most 1048576 bytes, got {}", u64::MAX));
    let text = refused(header("[0,160]", "[0,18446744073709551615]"));
    assert_eq!(text, "header: number: expected at most 15 digits, got 20 digits");
    assert!(refused(Vec::new()).starts_with("header: format"));
}

/// One change of a file.
fn change() -> impl Strategy<Value = (usize, u8, bool)> {
    (any::<usize>(), any::<u8>(), any::<bool>())
}

proptest! {
    #[test]
    fn changed_files_are_refused_or_harmless(changes in prop::collection::vec(change(), 1..4), cut in any::<usize>()) {
        for name in ["torch", "fastai"] {
            let mut case = Case::golden(name);
            let length = u64::from_le_bytes(case.bytes[..8].try_into().unwrap()) as usize;
            for &(at, byte, in_header) in &changes {
                let at = at % if in_header { 8 + length } else { case.bytes.len() };
                case.bytes[at] = byte;
            }
            if cut % 4 == 0 {
                let keep = cut % (case.bytes.len() + 1);
                case.bytes.truncate(keep);
            }
            if let Ok(mlp) = case.load() {
                prop_assert_eq!(predict(&mlp, &case.batch).len(), case.batch.rows() * mlp.outputs());
            }
        }
    }

    #[test]
    fn any_bytes_and_any_numbers_are_harmless(
        bytes in prop::collection::vec(any::<u8>(), 0..400),
        header in "[\\[\\]{}\":,a-zA-Z0-9_.]{0,200}",
        numbers in prop::collection::vec(any::<f64>(), 15),
    ) {
        let case = Case::golden("torch");
        let with = [&(header.len() as u64).to_le_bytes(), header.as_bytes(), &bytes].concat();
        for bytes in [bytes, with] {
            let loaded = Case { bytes, ..Case::golden("torch") }.load();
            prop_assert!(loaded.is_err());
        }
        let mlp = case.load().unwrap();
        let mut batch = Batch::new(15);
        batch.push_row().copy_from_slice(&numbers);
        prop_assert_eq!(predict(&mlp, &batch).len(), 1);
    }
}
