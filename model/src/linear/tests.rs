//! Held against scikit-learn's answers: to the bit where it adds in the order of the features.

use std::fs;
use std::path::Path;

use serde_json::Value;

use super::Linear;
use crate::Batch;
use crate::link::Link;

/// Doubles that are written as hexadecimal bits.
fn doubles(value: &Value) -> Vec<f64> {
    let text = value.as_str().unwrap();
    (0..text.len() / 16)
        .map(|index| f64::from_bits(u64::from_str_radix(&text[16 * index..16 * (index + 1)], 16).unwrap()))
        .collect()
}

/// The share of numbers that are equal to the bit; the others are within 1e-12.
fn near(name: &str, expected: &[f64], got: &[f64]) -> f64 {
    assert_eq!(expected.len(), got.len(), "{name}");
    let same = expected.iter().zip(got).filter(|(expected, got)| {
        let error = (*expected - *got).abs() / expected.abs().max(1.0);
        assert!(error <= 1e-12, "{name}: expected {expected:?}, got {got:?}");
        expected == got
    });
    same.count() as f64 / got.len() as f64
}

/// `exact`: the answers to sparse rows must be equal to the bit.
fn hold(path: &Path, exact: bool) {
    let golden: Value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
    let rows = doubles(&golden["rows"]);
    for case in golden["cases"].as_array().unwrap() {
        let name = case["name"].as_str().unwrap();
        let width = case["width"].as_u64().unwrap() as usize;
        let coefficients: Vec<Vec<f64>> =
            doubles(&case["coefficients"]).chunks_exact(width).map(<[f64]>::to_vec).collect();
        let link: Link = serde_json::from_value(case["link"].clone()).unwrap();
        // The features lie backwards in the row.
        let positions: Vec<usize> = (0..width).rev().collect();
        let linear = Linear::new(name, &coefficients, doubles(&case["intercepts"]), link, &positions).unwrap();
        let mut batch = Batch::new(width);
        for row in rows.chunks_exact(width) {
            batch.push_row().copy_from_slice(row);
        }
        for index in 0..batch.rows() {
            batch.row_mut(index).reverse();
        }
        let mut got = vec![7.0];
        linear.evaluate(batch.view(0..batch.rows()).unwrap(), &mut got);
        assert_eq!(got.len(), 1 + batch.rows() * linear.outputs(), "{name}");
        let share = near(name, &doubles(&case["sparse"]), &got[1..]);
        assert!(share == 1.0 || !exact, "{name}: {share}");
        near(name, &doubles(&case["dense"]), &got[1..]);
    }
}

#[test]
fn scikit_learns_models_give_the_same_numbers() {
    hold(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/linear.json"), true);
    let Some(directory) = std::env::var_os("UNDERSTUDY_NETWORKS") else { return };
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if name.starts_with("linear_") {
            hold(&path, false);
        }
    }
}

#[test]
fn wrong_shapes_and_numbers_are_refused_with_their_values() {
    let refused = |coefficients: &[Vec<f64>], intercepts: &[f64], link: Link| {
        Linear::new("node lr", coefficients, intercepts.to_vec(), link, &[0, 1]).unwrap_err().to_string()
    };
    let two = vec![1.0, 2.0];
    let text = refused(&[], &[], Link::Identity);
    assert_eq!(text, "graph.json: node lr, intercepts: expected at least one number, got none");
    let text = refused(std::slice::from_ref(&two), &[0.0, 0.0], Link::Identity);
    assert!(text.ends_with("coefficients: expected 2 lists, as many as intercepts, got 1"), "{text}");
    let text = refused(&[vec![1.0]], &[0.0], Link::Identity);
    assert!(text.ends_with("coefficients, list 0: expected 2 numbers, as many as features, got 1"), "{text}");
    let text = refused(&[vec![1.0, f64::NAN]], &[0.0], Link::Identity);
    assert!(text.ends_with("coefficients, list 0: expected finite numbers, got NaN"), "{text}");
    let text = refused(std::slice::from_ref(&two), &[f64::INFINITY], Link::Identity);
    assert!(text.ends_with("intercepts, 0: expected a finite number, got inf"), "{text}");
    let text = refused(&[two], &[0.0], Link::BinarySoftmax);
    assert!(text.ends_with("link: expected as many outputs as it converts, got 1"), "{text}");
}

#[test]
fn a_missing_value_makes_the_answer_missing() {
    for coefficients in [vec![vec![0.0, 2.0]], vec![vec![0.0, 2.0], vec![1.0, 1.0]]] {
        let linear = Linear::new("lr", &coefficients, vec![0.5; coefficients.len()], Link::Identity, &[0, 1]).unwrap();
        let mut batch = Batch::new(2);
        batch.push_row().copy_from_slice(&[f64::NAN, 1.0]);
        batch.push_row().copy_from_slice(&[0.0, 1.0]);
        let mut got = Vec::new();
        linear.evaluate(batch.view(0..2).unwrap(), &mut got);
        assert!(got[..coefficients.len()].iter().all(|y| y.is_nan()), "{got:?}");
        assert_eq!(got[coefficients.len()], 2.5);
    }
}
