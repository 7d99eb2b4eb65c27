//! CatBoost's own answers, to the bit, and anything at all as a model.

use std::fs;
use std::path::{Path, PathBuf};

use model::Batch;
use model::catboost::{Booster, Hashes, Way};
use proptest::prelude::*;
use serde_json::{Value, json};

const WAYS: [Way; 5] = [Way::Fastest, Way::Rows, Way::Blocks, Way::Walk, Way::Reference];
const NAMES: [&str; 18] = [
    "binary",
    "binary_numbers",
    "cross_entropy",
    "ctr_types",
    "deep",
    "depthwise",
    "lossguide",
    "lossguide_multiclass",
    "missing_high",
    "missing_low",
    "multi_quantile",
    "multiclass",
    "one_vs_all",
    "poisson",
    "quantile",
    "scaled",
    "single_leaf",
    "tweedie",
];

fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/catboost")
}

fn bytes(name: &str) -> Vec<u8> {
    fs::read(directory().join(format!("{name}.json"))).unwrap()
}

/// The file as a value, to be spoilt.
fn value(name: &str) -> Value {
    serde_json::from_slice(&bytes(name)).unwrap()
}

fn hashes(name: &str) -> Vec<Hashes> {
    let value: Value = serde_json::from_slice(&fs::read(directory().join(format!("{name}.hashes"))).unwrap()).unwrap();
    let hash = |value: &Value| u32::try_from(value.as_u64().unwrap()).unwrap();
    let hashes = |value: &Value| Hashes {
        codes: value["codes"].as_array().unwrap().iter().map(hash).collect(),
        missing: hash(&value["missing"]),
        unseen: hash(&value["unseen"]),
    };
    value.as_array().unwrap().iter().map(hashes).collect()
}

/// Rows with CatBoost's own margins and predictions, both `[rows, outputs]`.
fn answers(name: &str, columns: usize, outputs: usize) -> (Batch, Vec<f64>, Vec<f64>) {
    let csv = fs::read_to_string(directory().join(format!("{name}.csv"))).unwrap();
    let (mut batch, mut raw, mut predictions) = (Batch::new(columns), Vec::new(), Vec::new());
    for line in csv.lines() {
        let bits = |hexadecimal| f64::from_bits(u64::from_str_radix(hexadecimal, 16).unwrap());
        let numbers: Vec<f64> = line.split(',').map(bits).collect();
        assert_eq!(numbers.len(), columns + 2 * outputs, "{name}");
        batch.push_row().copy_from_slice(&numbers[..columns]);
        raw.extend(&numbers[columns..columns + outputs]);
        predictions.extend(&numbers[columns + outputs..]);
    }
    (batch, raw, predictions)
}

#[track_caller]
fn assert_same(what: &str, got: &[f64], expected: &[f64]) {
    assert_eq!(got.len(), expected.len(), "{what}");
    for (index, (got, expected)) in got.iter().zip(expected).enumerate() {
        assert_eq!(got.to_bits(), expected.to_bits(), "{what}, number {index}: expected {expected:?}, got {got:?}");
    }
}

#[test]
fn every_fixture_is_equal_to_the_bit() {
    for name in NAMES {
        let mut ways = 0;
        for way in WAYS {
            let booster = Booster::parse_in(&bytes(name), &hashes(name), way);
            let Some(booster) = booster.unwrap_or_else(|error| panic!("{name}: {error}")) else { continue };
            let (batch, raw, predictions) = answers(name, booster.columns(), booster.outputs());
            let (mut got, mut got_predictions) = (Vec::new(), Vec::new());
            booster.margins(&batch, &mut got).unwrap();
            booster.predict(&batch, &mut got_predictions).unwrap();
            assert_same(&format!("{name} raw, {way:?}"), &got, &raw);
            assert_same(&format!("{name} predictions, {way:?}"), &got_predictions, &predictions);
            // One row by itself gives what it gives among others.
            for row in 0..batch.rows() {
                let mut single = Batch::new(batch.width());
                single.push_row().copy_from_slice(batch.row(row));
                let mut got = Vec::new();
                booster.margins(&single, &mut got).unwrap();
                let outputs = booster.outputs();
                assert_same(&format!("{name} row {row}, {way:?}"), &got, &raw[row * outputs..(row + 1) * outputs]);
            }
            ways += 1;
        }
        let symmetric = value(name).get("oblivious_trees").is_some() && name != "deep";
        assert_eq!(ways, if symmetric { 5 } else { 3 }, "{name}");
    }
}

#[test]
fn sizes_are_told() {
    let booster = Booster::parse(&bytes("multiclass"), &hashes("multiclass")).unwrap();
    assert_eq!((booster.columns(), booster.outputs(), booster.trees(), booster.leaves()), (5, 5, 6, 48));
    assert!(booster.is_probability());
    assert!(booster.engine().starts_with("oblivious trees"), "{}", booster.engine());
    let booster = Booster::parse(&bytes("lossguide"), &hashes("lossguide")).unwrap();
    assert_eq!((booster.trees(), booster.outputs()), (10, 1));
    assert!(booster.engine().starts_with("node by node"), "{}", booster.engine());
    assert!(!Booster::parse(&bytes("poisson"), &hashes("poisson")).unwrap().is_probability());
    let wrong = booster.margins(&Batch::new(4), &mut Vec::new()).unwrap_err().to_string();
    assert_eq!(wrong, "expected rows of 5 features, got 4");
}

/// A model of numbers whose output is known without CatBoost: tree `i` has a leaf 2^-i for values above border `i`.
fn staircase(borders: usize) -> Vec<u8> {
    let numbers: Vec<f64> = (0..borders).map(|border| border as f64).collect();
    let trees: Vec<Value> =
        (0..borders).map(|border| json!({"splits": [{"split_index": border}], "leaf_values": [0.25, 1.0]})).collect();
    let float =
        json!({"feature_index": 0, "flat_feature_index": 0, "borders": numbers, "nan_value_treatment": "AsTrue"});
    let info = json!({"params": {"loss_function": {"type": "RMSE"}}});
    let file = json!({"features_info": {"float_features": [float]}, "model_info": info, "oblivious_trees": trees});
    file.to_string().into_bytes()
}

/// More borders than a byte can count.
#[test]
fn features_with_many_borders_are_exact() {
    for borders in [1, 15, 16, 17, 254, 255, 256, 257, 510, 511, 1000] {
        let mut batch = Batch::new(1);
        let mut expected = Vec::new();
        for step in -3..2 * borders as i32 + 3 {
            let value = f64::from(step) / 2.0;
            batch.push_row()[0] = value;
            let above = (0..borders).filter(|border| value > *border as f64).count() as f64;
            expected.push(0.75 * above + 0.25 * borders as f64);
        }
        batch.push_row();
        expected.push(borders as f64);
        for way in WAYS {
            let booster = Booster::parse_in(&staircase(borders), &[], way).unwrap().unwrap();
            let mut got = Vec::new();
            booster.margins(&batch, &mut got).unwrap();
            assert_same(&format!("{borders} borders, {way:?}"), &got, &expected);
        }
    }
}

/// The first `"key"` at any depth of the value.
fn find<'a>(value: &'a mut Value, key: &str) -> Option<&'a mut Value> {
    match value {
        Value::Object(map) => {
            if map.contains_key(key) {
                return map.get_mut(key);
            }
            map.values_mut().find_map(|value| find(value, key))
        }
        Value::Array(list) => list.iter_mut().find_map(|value| find(value, key)),
        _ => None,
    }
}

#[test]
fn contradictions_are_refused() {
    for (name, key, wrong, expected) in [
        ("binary", "split_index", json!(100_000), "tree 0: split_index: expected below"),
        ("binary", "split_index", json!(-1), "invalid value: integer `-1`"),
        ("binary", "leaf_values", json!([1.0, 2.0, 3.0]), "leaf_values: expected"),
        ("binary", "leaf_values", json!([]), "leaf_values: expected 1 numbers for each of 32 leaves, got 0"),
        ("binary", "borders", json!([1.0, 0.5]), "borders: expected ascending numbers, got 0.5"),
        ("binary", "borders", json!([1e300]), "expected finite numbers, got inf"),
        ("binary", "nan_value_treatment", json!("AsNothing"), "unknown variant `AsNothing`"),
        ("binary", "flat_feature_index", json!(1), "flat_feature_index: expected each once"),
        ("binary", "flat_feature_index", json!(1_u64 << 40), "flat_feature_index: expected below"),
        ("binary", "hash_stride", json!(7), "ctr_data 0: hash_stride: expected"),
        ("binary", "hash_map", json!(["1", 2, 3, "2", 3]), "as many numbers after each key"),
        ("binary", "hash_map", json!([1, 2]), "expected a key first"),
        ("binary", "hash_map", json!(["1", 2, 3, "1", 2, 3]), "each key once, got 1"),
        ("binary", "hash_map", json!(["x", 2, 3]), "a key of 64 bits"),
        ("binary", "identifier", json!("another"), "ctr 0: identifier: expected a key of ctr_data"),
        ("binary", "elements", json!([]), "ctr 0: elements: expected at least one, got 0"),
        ("binary", "cat_feature_index", json!(3), "ctr 0: cat_feature_index: expected below 3, got 3"),
        ("binary", "target_border_idx", json!(u64::MAX), "ctr 0: hash_map: expected at least"),
        ("binary", "ctr_type", json!("Magic"), "unknown variant `Magic`"),
        ("binary", "loss_function", json!({"type": "Magic"}), "loss_function: expected RMSE, MAE"),
        ("binary", "params", Value::Null, "loss_function: expected RMSE"),
        ("binary", "categorical_features", json!([]), "categorical_features: expected 3"),
        (
            "binary",
            "scale_and_bias",
            json!([1.0, [0.5, 0.5]]),
            "scale_and_bias: expected a bias for each of 1 outputs, got 2",
        ),
        ("multiclass", "loss_function", json!({"type": "Logloss"}), "loss_function: expected a loss of 5 outputs"),
        ("lossguide", "split_index", json!(100_000), "tree 0: split_index: expected below"),
        ("lossguide", "value", json!([1.0, 2.0]), "tree 0: value of a leaf: expected 2 numbers, got 1"),
        ("lossguide", "left", Value::Null, "tree 0: node: expected a value, or a split with left and right"),
    ] {
        let mut file = value(name);
        *find(&mut file, key).unwrap_or_else(|| panic!("{key}")) = wrong;
        let error = Booster::parse(file.to_string().as_bytes(), &hashes(name)).unwrap_err().to_string();
        assert!(error.contains(expected), "{key}: {error}");
    }
    for (key, wrong, expected) in [
        ("text_features", json!([{}]), "features_info: text_features: expected none: they are not supported, got 1"),
        ("embedding_features", json!([{}]), "embedding_features: expected none"),
    ] {
        let mut file = value("binary");
        file["features_info"][key] = wrong;
        let error = Booster::parse(file.to_string().as_bytes(), &hashes("binary")).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
    let mut file = value("binary");
    file["trees"] = json!([]);
    let error = Booster::parse(file.to_string().as_bytes(), &hashes("binary")).unwrap_err().to_string();
    assert!(error.contains("expected oblivious_trees or trees, got both"), "{error}");
    let error = Booster::parse(&bytes("binary"), &[]).unwrap_err().to_string();
    assert!(error.contains("expected 0 (those whose hashes are given), got 3"), "{error}");
}

#[test]
fn malformed_texts_are_refused() {
    let text = String::from_utf8(bytes("binary_numbers")).unwrap();
    let nested = |depth: usize| {
        let split = json!({"split_index": 0}).to_string();
        let tree = format!(
            "{}{{\"value\":1}}{}",
            format!("{{\"split\":{split},\"right\":{{\"value\":2}},\"left\":").repeat(depth),
            "}".repeat(depth)
        );
        let mut file = value("binary_numbers");
        file.as_object_mut().unwrap().remove("oblivious_trees");
        file["trees"] = json!("here");
        file.to_string().replace("\"here\"", &format!("[{tree}]"))
    };
    Booster::parse(nested(100).as_bytes(), &[]).unwrap();
    for (wrong, expected) in [
        (nested(200), "recursion limit exceeded"),
        (nested(100_000), "recursion limit exceeded"),
        (format!("{text} 1"), "trailing characters"),
        (text.replacen("\"scale_and_bias\":[1", "\"scale_and_bias\":[1e999", 1), "number out of range"),
        (text.replacen("\"scale_and_bias\":[1", "\"scale_and_bias\":[NaN", 1), "expected value"),
        (text.replacen("\"borders\":", "\"borders\":[],\"borders\":", 1), "duplicate field `borders`"),
        (String::new(), "EOF"),
        ("[".repeat(100_000), "not CatBoost's JSON format"),
    ] {
        let error = Booster::parse(wrong.as_bytes(), &[]).unwrap_err().to_string();
        assert!(error.contains(expected), "{expected}: {error}");
    }
    for part in 0..64 {
        Booster::parse(&text.as_bytes()[..text.len() * part / 64], &[]).unwrap_err();
    }
}

/// Keys that meet in a table of hashes cost their load, not every request: the model is still right.
#[test]
fn keys_that_are_no_hashes_are_looked_up() {
    let mut file = value("binary");
    // Multiplied by the odd number with which tables spread their keys, these differ in their low bits only.
    let inverse = (0..6).fold(0x9e37_79b9_7f4a_7c15_u64, |x, _| {
        x.wrapping_mul(2_u64.wrapping_sub(0x9e37_79b9_7f4a_7c15_u64.wrapping_mul(x)))
    });
    for table in file["ctr_data"].as_object_mut().unwrap().values_mut() {
        let cells = (0..3000_u64).flat_map(|key| [json!(inverse.wrapping_mul(key).to_string()), json!(1), json!(1)]);
        let width = table["hash_stride"].as_u64().unwrap();
        let cells: Vec<Value> = if width == 3 { cells.collect() } else { continue };
        table["hash_map"] = Value::Array(cells);
    }
    let text = file.to_string();
    let booster = Booster::parse(text.as_bytes(), &hashes("binary")).unwrap();
    let reference = Booster::parse_in(text.as_bytes(), &hashes("binary"), Way::Reference).unwrap().unwrap();
    let (batch, ..) = answers("binary", 5, 1);
    let (mut got, mut expected) = (Vec::new(), Vec::new());
    booster.margins(&batch, &mut got).unwrap();
    reference.margins(&batch, &mut expected).unwrap();
    assert_same("colliding keys", &got, &expected);
}

/// An accepted model predicts whatever comes, in all ways alike.
fn predict_anything(text: &[u8], hashes: &[Hashes], values: &[f64]) -> Result<(), TestCaseError> {
    let Ok(booster) = Booster::parse(text, hashes) else { return Ok(()) };
    let mut batch = Batch::new(booster.columns());
    for row in values.chunks(5) {
        for (cell, value) in batch.push_row().iter_mut().zip(row) {
            *cell = *value;
        }
    }
    let mut out = Vec::new();
    booster.predict(&batch, &mut out).map_err(|error| TestCaseError::fail(error.to_string()))?;
    prop_assert_eq!(out.len(), batch.rows() * booster.outputs());
    let mut expected: Option<Vec<u64>> = None;
    for way in WAYS {
        let booster = Booster::parse_in(text, hashes, way).map_err(|error| TestCaseError::fail(error.to_string()))?;
        let Some(booster) = booster else { continue };
        out.clear();
        booster.margins(&batch, &mut out).map_err(|error| TestCaseError::fail(error.to_string()))?;
        let bits: Vec<u64> = out.iter().map(|number| number.to_bits()).collect();
        prop_assert_eq!(expected.get_or_insert(bits.clone()), &bits, "{:?}", way);
    }
    Ok(())
}

fn number() -> impl Strategy<Value = f64> {
    prop_oneof![
        any::<f64>(),
        prop::sample::select(vec![
            f64::NAN,
            f64::INFINITY,
            -0.0,
            0.0,
            -1.0,
            -0.5,
            0.5,
            24.0,
            25.0,
            1e-46,
            4_294_967_296.0
        ]),
        (-3_i32..30).prop_map(f64::from),
    ]
}

const NUMBERS: [&str; 16] = [
    "0",
    "1",
    "-1",
    "2",
    "63",
    "255",
    "-2147483648",
    "4294967296",
    "18446744073709551615",
    "1e308",
    "1e999",
    "-0",
    "0.5",
    "null",
    "[]",
    "\"x\"",
];

/// The text with a number exchanged.
fn exchanged(text: &str, at: usize, number: &str) -> String {
    let starts: Vec<usize> =
        text.match_indices([':', ',', '[']).map(|(index, _)| index + 1).filter(|start| *start < text.len()).collect();
    let start = starts[at % starts.len()];
    let length = text[start..].find([',', ']', '}']).unwrap_or(0);
    format!("{}{number}{}", &text[..start], &text[start + length..])
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn exchanged_numbers_never_panic(
        which in 0..NAMES.len(),
        changes in prop::collection::vec((any::<usize>(), 0..NUMBERS.len()), 1..4),
        values in prop::collection::vec(number(), 45),
    ) {
        let text = String::from_utf8(bytes(NAMES[which])).unwrap();
        let text = changes.iter().fold(text, |text, (at, number)| exchanged(&text, *at, NUMBERS[*number]));
        predict_anything(text.as_bytes(), &hashes(NAMES[which]), &values)?;
    }

    #[test]
    fn changed_bytes_never_panic(
        which in 0..NAMES.len(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        cut in prop::option::of(any::<prop::sample::Index>()),
        values in prop::collection::vec(number(), 45),
    ) {
        let mut text = bytes(NAMES[which]);
        for (at, byte) in changes {
            let at = at.index(text.len());
            text[at] = byte;
        }
        if let Some(cut) = cut {
            text.truncate(cut.index(text.len()));
        }
        predict_anything(&text, &hashes(NAMES[which]), &values)?;
    }

    #[test]
    fn all_ways_agree(which in 0..NAMES.len(), values in prop::collection::vec(number(), 45..1000)) {
        predict_anything(&bytes(NAMES[which]), &hashes(NAMES[which]), &values)?;
    }
}

/// The big model of the workspace next door: `UNDERSTUDY_SHARED=../../shared cargo test -p model`.
#[test]
fn the_big_model_is_equal_to_the_bit() {
    let Some(shared) = std::env::var_os("UNDERSTUDY_SHARED") else {
        eprintln!("skipped: UNDERSTUDY_SHARED does not name the directory with trees/cb_*.json");
        return;
    };
    let trees = Path::new(&shared).join("trees");
    let doubles = |name: &str| -> Vec<f64> {
        let bytes = fs::read(trees.join(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
        bytes.chunks_exact(8).map(|eight| f64::from_le_bytes(eight.try_into().unwrap())).collect()
    };
    let text = fs::read(trees.join("cb_syn_1000d6.json")).unwrap();
    let (values, expected) = (doubles("rows_syn_10000x28.f64"), doubles("cb_syn_1000d6.margins.f64"));
    for way in WAYS {
        let booster = Booster::parse_in(&text, &[], way).unwrap().unwrap();
        // Batches of all sizes around those at which something changes.
        for size in [10_000, 513, 255, 100, 33, 7, 1] {
            let mut got = Vec::new();
            for rows in values.chunks(size * 28).take(if size == 10_000 { 1 } else { 3 }) {
                let mut batch = Batch::new(28);
                for row in rows.chunks_exact(28) {
                    batch.push_row().copy_from_slice(row);
                }
                booster.margins(&batch, &mut got).unwrap();
            }
            assert_same(&format!("batches of {size}, {way:?}"), &got, &expected[..got.len()]);
        }
    }
}
