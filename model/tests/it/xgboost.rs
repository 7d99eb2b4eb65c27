//! XGBoost's own answers, to the bit, and files that are wrong in one place.

use std::fs;
use std::path::{Path, PathBuf};

use model::Batch;
use model::xgboost::{Booster, Way};
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::fixture;

const WAYS: [Way; 7] = [Way::Fastest, Way::Levels, Way::Tables, Way::Steps, Way::Walk, Way::Blocks, Way::Reference];

fn directory() -> PathBuf {
    fixture::directory().join("xgboost")
}

fn bytes(name: &str) -> Vec<u8> {
    fs::read(directory().join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

#[track_caller]
fn assert_same(what: &str, got: &[f64], expected: &[f64]) {
    assert_eq!(got.len(), expected.len(), "{what}");
    for (index, (got, expected)) in got.iter().zip(expected).enumerate() {
        assert_eq!(got.to_bits(), expected.to_bits(), "{what}, number {index}: expected {expected:?}, got {got:?}");
    }
}

#[test]
fn every_fixture_is_equal_to_the_bit_in_every_way() {
    let mut tested = 0;
    for path in fs::read_dir(directory()).unwrap().map(|entry| entry.unwrap().path()) {
        if path.extension().is_none_or(|extension| extension != "csv") {
            continue;
        }
        let name = path.file_stem().unwrap().to_str().unwrap();
        for (form, way) in ["json", "ubj"].into_iter().flat_map(|form| WAYS.map(|way| (form, way))) {
            let what = format!("{name}.{form} {way:?}");
            let booster = Booster::parse_in(&bytes(&format!("{name}.{form}")), way);
            let booster = booster.unwrap_or_else(|error| panic!("{what}: {error}"));
            // Trees that are far from complete are not for `Levels`.
            let Some(booster) = booster else {
                assert_eq!(way, Way::Levels, "{what}");
                continue;
            };
            let answers = fixture::answers(&format!("xgboost/{name}"), booster.columns(), booster.outputs());
            assert_eq!(answers.batch.rows(), 90, "{what}");
            let (mut raw, mut predictions) = (Vec::new(), Vec::new());
            booster.margins(&answers.batch, &mut raw).unwrap();
            booster.predict(&answers.batch, &mut predictions).unwrap();
            assert_same(&format!("{what} raw"), &raw, &answers.raw);
            assert_same(&format!("{what} predictions"), &predictions, &answers.predictions);
            tested += 1;
        }
    }
    assert!(tested >= 19 * 12, "only {tested} models and ways");
}

/// The big model of the workspace next door: `UNDERSTUDY_SHARED=../../shared cargo test -p model`.
#[test]
fn a_big_model_is_equal_to_the_bit_in_every_way() {
    let Some(shared) = std::env::var_os("UNDERSTUDY_SHARED") else {
        eprintln!("skipped: UNDERSTUDY_SHARED does not name the directory with trees/xgb_*");
        return;
    };
    let trees = Path::new(&shared).join("trees");
    let read = |name: &str| fs::read(trees.join(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
    let mut batch = Batch::with_capacity(28, 10_000);
    for row in read("rows_syn_10000x28.f64").chunks_exact(8 * 28) {
        for (value, bytes) in batch.push_row().iter_mut().zip(row.chunks_exact(8)) {
            *value = f64::from_le_bytes(bytes.try_into().unwrap());
        }
    }
    let expected: Vec<f64> = read("xgb_syn_500d6.margins.f32")
        .chunks_exact(4)
        .map(|four| f64::from(f32::from_le_bytes(four.try_into().unwrap())))
        .collect();
    assert_eq!(expected.len(), 10_000);
    let mut ways = Vec::new();
    for (form, way) in ["json", "ubj"].into_iter().flat_map(|form| WAYS.map(|way| (form, way))) {
        let Some(booster) = Booster::parse_in(&read(&format!("xgb_syn_500d6.{form}")), way).unwrap() else { continue };
        let mut raw = Vec::new();
        booster.margins(&batch, &mut raw).unwrap();
        assert_same(&format!("{form} {way:?}"), &raw, &expected);
        ways.push(format!("{form} {way:?}"));
    }
    eprintln!("10000 rows equal to the bit: {ways:?}");
}

/// A fixture, changed, is refused for a reason.
#[track_caller]
fn refused(reason: &str, change: impl FnOnce(&mut Value)) {
    let mut model: Value = serde_json::from_slice(&bytes("multiclass.json")).unwrap();
    change(&mut model);
    let error = Booster::parse(model.to_string().as_bytes()).unwrap_err().to_string();
    assert!(error.contains(reason), "{error}");
    assert!(!error.contains('\n') && error.len() < 500, "{error}");
}

fn trees(model: &mut Value) -> &mut Value {
    &mut model["learner"]["gradient_booster"]["model"]
}

fn tree(model: &mut Value) -> &mut Value {
    &mut trees(model)["trees"][1]
}

/// The first leaf of the tree.
fn leaf(model: &mut Value) -> usize {
    tree(model)["left_children"].as_array().unwrap().iter().position(|child| *child == -1).unwrap()
}

#[test]
fn what_is_not_supported_is_said() {
    let error = |name: &str| Booster::parse(&bytes(name)).unwrap_err().to_string();
    for form in ["json", "ubj"] {
        assert!(error(&format!("dart.{form}")).contains("expected gbtree, got \"dart\""), "{}", error("dart.json"));
        let linear = error(&format!("linear.{form}"));
        assert!(linear.contains("expected gbtree, got \"gblinear\""), "{linear}");
        let vectors = error(&format!("vectors.{form}"));
        assert!(vectors.contains("vectors in leaves are not supported"), "{vectors}");
    }
    refused("splits by category are not supported", |model| tree(model)["split_type"][0] = json!(1));
    refused("dart is not supported", |model| trees(model)["weight_drop"] = json!([1.0, 0.5]));
    refused("an objective that is known here", |model| model["learner"]["objective"]["name"] = json!("my:own"));
    refused("version: expected 1.6 to 3", |model| model["version"] = json!([4, 0, 0]));
    refused("num_class 0 or 1", |model| model["learner"]["objective"]["name"] = json!("binary:logistic"));
}

#[test]
fn trees_that_are_wrong_are_refused_with_their_place() {
    refused("tree 1: children of node 0: expected two neighbours", |model| tree(model)["left_children"][0] = json!(0));
    refused("tree 1: children of node 0", |model| tree(model)["right_children"][0] = json!(1_000_000));
    refused("children of node 0: expected two neighbours", |model| tree(model)["left_children"][0] = json!(-2));
    refused("without another parent", |model| {
        tree(model)["left_children"][1] = json!(1);
        tree(model)["right_children"][1] = json!(2);
    });
    refused("right child of leaf", |model| {
        let leaf = leaf(model);
        tree(model)["right_children"][leaf] = json!(3);
    });
    refused("nodes that the root does not reach", |model| {
        tree(model)["left_children"][1] = json!(-1);
        tree(model)["right_children"][1] = json!(-1);
    });
    refused("left_children: expected", |model| {
        tree(model)["left_children"].as_array_mut().unwrap().pop();
    });
    refused("num_nodes", |model| tree(model)["tree_param"]["num_nodes"] = json!("2147483647"));
    refused("whole number", |model| tree(model)["tree_param"]["num_nodes"] = json!("-1"));
    refused("split_indices of node 0: expected below 5", |model| tree(model)["split_indices"][0] = json!(5));
    refused("JSON", |model| tree(model)["split_indices"][0] = json!(-1));
    refused("JSON", |model| tree(model)["default_left"][0] = json!(2));
    refused("JSON", |model| tree(model)["split_conditions"][0] = json!("nan"));
    refused("JSON", |model| tree(model)["split_conditions"] = json!({}));
    refused("tree_info: expected below 3, got 3", |model| trees(model)["tree_info"][2] = json!(3));
    refused("as many trees for each of 3 outputs", |model| trees(model)["tree_info"][2] = json!(0));
    refused("tree_info: expected 12", |model| trees(model)["tree_info"] = json!([0]));
    refused("num_trees", |model| trees(model)["gbtree_model_param"]["num_trees"] = json!("13"));
    refused("at least one", |model| {
        trees(model)["trees"] = json!([]);
        trees(model)["tree_info"] = json!([]);
        trees(model)["gbtree_model_param"]["num_trees"] = json!("0");
    });
    let params = |key: &'static str, value: &'static str| {
        move |model: &mut Value| model["learner"]["learner_model_param"][key] = json!(value)
    };
    refused("as many trees for each of 1048576 outputs", params("num_class", "1048576"));
    refused("num_class of at least 2", params("num_class", "0"));
    refused("one number, or 3", params("base_score", "[1,2]"));
    refused("base_score: expected a finite number", params("base_score", "nan"));
    refused("base_score", params("base_score", ""));
    refused("num_feature: expected 1 to 1048576, got 2147483647", params("num_feature", "2147483647"));
    refused("num_feature: expected 1 to", params("num_feature", "0"));
}

#[test]
fn thresholds_may_be_infinite_and_leaves_may_not() {
    // A leaf's value and a threshold are bits of the same array, in the order of the nodes.
    let json: Value = serde_json::from_slice(&bytes("binary.json")).unwrap();
    let first = &json["learner"]["gradient_booster"]["model"]["trees"][0];
    let ubj = bytes("binary.ubj");
    let place = ubj.windows(16).position(|key| key == b"split_conditions").unwrap() + 16 + 4 + 8;
    let leaf = first["left_children"].as_array().unwrap().iter().position(|child| *child == -1).unwrap();
    let with = |node: usize, value: f32| {
        let mut ubj = ubj.clone();
        let start = place + 1 + 4 * node;
        ubj[start..start + 4].copy_from_slice(&value.to_be_bytes());
        Booster::parse(&ubj).map_err(|error| error.to_string())
    };
    assert!(with(leaf, f32::NAN).unwrap_err().contains(&format!("value of leaf {leaf}")));
    assert!(with(leaf, f32::INFINITY).is_err());
    assert!(with(0, f32::NAN).unwrap_err().contains("split_conditions of node 0"));
    assert!(with(0, f32::NEG_INFINITY).is_err());
    // Everything but infinity is below it.
    let booster = with(0, f32::INFINITY).unwrap();
    let mut batch = Batch::new(5);
    let column = first["split_indices"][0].as_u64().unwrap() as usize;
    for value in [f64::from(f32::MAX), 1e300, f64::INFINITY] {
        batch.push_row()[column] = value;
    }
    let mut raw = Vec::new();
    booster.margins(&batch, &mut raw).unwrap();
    assert_ne!(raw[0], raw[1]);
    assert_eq!(raw[1], raw[2]);
}

#[test]
fn bytes_that_are_no_model_are_refused() {
    let wrong = |bytes: &[u8]| Booster::parse(bytes).unwrap_err().to_string();
    for bytes in
        [&b""[..], b"{", b"{}", b"{L", b"[]", b"null", b"binf", b"\x80\x04", b"tree\nversion=v4\n", b"{\"a\":1e999}"]
    {
        assert!(wrong(bytes).contains("expected an XGBoost model"), "{}", wrong(bytes));
    }
    // Lengths that only the bytes claim, and levels.
    let key = |name: &str| [b"{L", &(name.len() as i64).to_be_bytes()[..], name.as_bytes()].concat();
    for length in [-1_i64, 1 << 62, i64::MAX, i64::MIN, 1000] {
        for kind in [&b"[$d#L"[..], b"[$L#L", b"[#L", b"SL", b"{L"] {
            wrong(&[&key("learner")[..], kind, &length.to_be_bytes()].concat());
            wrong(&[&key("other")[..], kind, &length.to_be_bytes()].concat());
        }
    }
    assert!(wrong(&[&key("other")[..], &vec![b'['; 100_000]].concat()).contains("64 levels"));
    assert!(wrong(&[key("other"), key("a").repeat(100_000)].concat()).contains("64 levels"));
    wrong(&[&br#"{"other":"#[..], &vec![b'['; 100_000]].concat());
    let json = String::from_utf8(bytes("binary.json")).unwrap();
    let ubj = bytes("binary.ubj");
    assert!(wrong(format!("{json} 1").as_bytes()).contains("trailing"));
    assert!(wrong(&[&ubj[..], b"x"].concat()).contains("1 bytes after the end"));
    let twice = json.replacen("\"tree_info\":", "\"tree_info\":[],\"tree_info\":", 1);
    assert!(wrong(twice.as_bytes()).contains("duplicate field"));
}

#[test]
fn a_truncated_file_is_refused() {
    for name in ["multiclass.json", "multiclass.ubj"] {
        let whole = bytes(name);
        for part in 0..64 {
            assert!(Booster::parse(&whole[..whole.len() * part / 64]).is_err(), "{name} {part}/64");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]
    /// Whatever changes in a file: it is refused, or it is a model that predicts.
    #[test]
    fn changed_bytes_do_no_harm(
        ubj: bool,
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0..4_u8), 1..4),
    ) {
        let mut bytes = bytes(if ubj { "binary_parallel.ubj" } else { "binary_parallel.json" });
        for (place, byte, kind) in changes {
            let place = place.index(bytes.len());
            match kind {
                0 => bytes[place] = byte,
                1 => bytes[place] ^= 1 << (byte % 8),
                2 => bytes.insert(place, byte),
                _ => drop(bytes.remove(place)),
            }
        }
        if let Ok(booster) = Booster::parse(&bytes) {
            let mut batch = Batch::new(booster.columns());
            for value in [0.0, f64::NAN, 1e300, -1.5] {
                batch.push_row().fill(value);
            }
            let mut out = Vec::new();
            booster.predict(&batch, &mut out).unwrap();
            prop_assert_eq!(out.len(), 4 * booster.outputs());
        }
    }

    #[test]
    fn any_bytes_do_no_harm(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        prop_assert!(Booster::parse(&bytes).is_err());
        let inside = [&b"{L\0\0\0\0\0\0\0\x07learner{"[..], &bytes].concat();
        prop_assert!(Booster::parse(&inside).is_err());
    }
}
