//! Held against scikit-learn's answers, to the bit.

use std::fs;
use std::path::Path;

use proptest::prelude::*;
use serde_json::Value;

use super::Quantiles;

/// Doubles that are written as hexadecimal bits.
fn doubles(value: &Value) -> Vec<f64> {
    let text = value.as_str().unwrap();
    (0..text.len() / 16)
        .map(|index| f64::from_bits(u64::from_str_radix(&text[16 * index..16 * (index + 1)], 16).unwrap()))
        .collect()
}

fn hold(path: &Path) -> usize {
    let cases: Vec<Value> = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
    let mut held = 0;
    for case in &cases {
        let normal = case["normal"].as_bool().unwrap();
        let quantiles = Quantiles::new(doubles(&case["values"]), doubles(&case["references"]), normal).unwrap();
        for (x, y) in doubles(&case["x"]).into_iter().zip(doubles(&case["y"])) {
            let got = quantiles.apply(x);
            assert!(got == y || got.is_nan() && y.is_nan(), "{}: {x:?}: expected {y:?}, got {got:?}", case["name"]);
            held += 1;
        }
    }
    held
}

#[test]
fn scikit_learns_transformer_gives_the_same_bits() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/quantiles.json");
    assert!(hold(&path) > 700);
    if let Some(shared) = std::env::var_os("UNDERSTUDY_SHARED") {
        let path = Path::new(&shared).join("quantiles.json");
        assert!(!path.exists() || hold(&path) > 100_000);
    }
}

#[test]
fn missing_stays_missing() {
    for normal in [false, true] {
        assert!(Quantiles::new(vec![0.0, 1.0], vec![0.0, 1.0], normal).unwrap().apply(f64::NAN).is_nan());
    }
}

#[test]
fn wrong_numbers_are_refused_with_their_values() {
    let refused = |values: &[f64], references: &[f64]| {
        let (expected, got) = Quantiles::new(values.to_vec(), references.to_vec(), true).unwrap_err();
        format!("expected {expected}, got {got}")
    };
    let expected = "expected quantiles with at least one value, and as many references, got 0 values and 0 references";
    assert_eq!(refused(&[], &[]), expected);
    assert!(refused(&[1.0, 2.0], &[0.0]).ends_with("got 2 values and 1 references"));
    assert!(refused(&[1.0, 0.5], &[0.0, 1.0]).ends_with("finite ascending values, got 0.5 at 1, after 1.0"));
    assert!(refused(&[1.0, f64::NAN], &[0.0, 1.0]).ends_with("got NaN at 1, after 1.0"));
    assert!(refused(&[1.0, f64::INFINITY], &[0.0, 1.0]).ends_with("got inf at 1, after 1.0"));
    assert!(refused(&[1.0, 2.0], &[0.0, 1.5]).ends_with("references within [0, 1], got 1.5 at 1, after 0.0"));
    assert!(refused(&[1.0, 2.0], &[-0.5, 1.0]).ends_with("got -0.5 at 0, after 0.0"));
}

proptest! {
    #[test]
    fn results_ascend_within_the_clip(
        mut values in prop::collection::vec(-100.0..100.0_f64, 1..50),
        mut xs in prop::collection::vec(prop_oneof![-120.0..120.0_f64, Just(f64::INFINITY), Just(f64::NEG_INFINITY)], 1..50),
        normal: bool,
    ) {
        values.sort_by(f64::total_cmp);
        xs.sort_by(f64::total_cmp);
        let last = (values.len() - 1).max(1) as f64;
        let references = (0..values.len()).map(|index| index as f64 / last).collect();
        let quantiles = Quantiles::new(values, references, normal).unwrap();
        let mut least = f64::NEG_INFINITY;
        for x in xs {
            let y = quantiles.apply(x);
            prop_assert!(y.abs() < 5.2 && y >= least - 1e-9, "{x}: {y} after {least}");
            least = y;
        }
    }
}
