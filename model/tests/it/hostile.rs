//! Anything at all as input: refused or harmless, never a panic.

use model::lightgbm::Booster;
use model::{Batch, Predictions};
use proptest::prelude::*;

use crate::fixture::{self, FILES, Package};

const TEXTS: [&str; 5] = ["binary_categories", "binary_missing_zero", "multiclass", "regression_forest", "single_leaf"];
const NUMBERS: [&str; 18] = [
    "0",
    "1",
    "-1",
    "2",
    "63",
    "64",
    "-2147483648",
    "2147483647",
    "4294967295",
    "18446744073709551615",
    "nan",
    "inf",
    "-inf",
    "1e999",
    "0.5",
    "",
    "x",
    "-0",
];

/// The text with a number exchanged and its tree sizes right again: what the checks behind the sizes have to stop.
fn exchanged(text: &str, at: usize, number: &str) -> String {
    let starts: Vec<usize> = text.match_indices([' ', '=', ':']).map(|(index, _)| index + 1).collect();
    let start = starts[at % starts.len()];
    let length = text[start..].find([' ', '\n', ':']).unwrap_or(0);
    let changed = format!("{}{number}{}", &text[..start], &text[start + length..]);
    let (Some(first), Some(end)) = (changed.find("Tree="), changed.find("end of trees")) else { return changed };
    if first >= end {
        return changed;
    }
    let body = &changed[first..end];
    let mut bounds: Vec<usize> = body.match_indices("Tree=").map(|(index, _)| index).collect();
    bounds.push(body.len());
    let sizes: Vec<String> = bounds.windows(2).map(|pair| (pair[1] - pair[0]).to_string()).collect();
    let header: Vec<String> =
        changed[..first]
            .split('\n')
            .map(|line| {
                if line.starts_with("tree_sizes=") {
                    format!("tree_sizes={}", sizes.join(" "))
                } else {
                    line.to_owned()
                }
            })
            .collect();
    format!("{}{}", header.join("\n"), &changed[first..])
}

fn number() -> impl Strategy<Value = f64> {
    prop_oneof![
        any::<f64>(),
        prop::sample::select(vec![f64::NAN, f64::INFINITY, -0.0, 0.0, -1.0, -0.5, 31.0, 32.0, 1e-36, 4_294_967_296.0]),
        (-200_i32..200).prop_map(f64::from),
    ]
}

/// An accepted model predicts whatever comes.
fn predict_anything(booster: &Booster, values: &[f64]) -> Result<(), TestCaseError> {
    let mut batch = Batch::new(booster.columns());
    for row in values.chunks(8) {
        for (cell, value) in batch.push_row().iter_mut().zip(row) {
            *cell = *value;
        }
    }
    let mut out = Vec::new();
    booster.predict(&batch, &mut out).map_err(|error| TestCaseError::fail(error.to_string()))?;
    prop_assert_eq!(out.len(), batch.rows() * booster.outputs());
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn exchanged_numbers_never_panic(
        which in 0..TEXTS.len(),
        changes in prop::collection::vec((any::<usize>(), 0..NUMBERS.len()), 1..4),
        values in prop::collection::vec(number(), 64),
    ) {
        let text = changes.iter().fold(fixture::text(TEXTS[which]), |text, (at, number)| exchanged(&text, *at, NUMBERS[*number]));
        if let Ok(booster) = Booster::parse(text.as_bytes()) {
            predict_anything(&booster, &values)?;
        }
    }

    #[test]
    fn changed_bytes_never_panic(
        which in 0..TEXTS.len(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        cut in prop::option::of(any::<prop::sample::Index>()),
        values in prop::collection::vec(number(), 64),
    ) {
        let mut bytes = fixture::text(TEXTS[which]).into_bytes();
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        if let Ok(booster) = Booster::parse(&bytes) {
            predict_anything(&booster, &values)?;
        }
    }

    #[test]
    fn good_models_predict_anything(which in 0..TEXTS.len(), values in prop::collection::vec(number(), 128)) {
        let booster = Booster::parse(fixture::text(TEXTS[which]).as_bytes()).map_err(|error| TestCaseError::fail(error.to_string()))?;
        predict_anything(&booster, &values)?;
    }
}

/// M40. The manifest is what binds the others, and nothing binds the manifest: a flip there may go unnoticed in a name
/// or a note, but it can neither panic nor change what a file holds or what the golden rows say.
#[test]
fn flipped_bits_are_refused() {
    let package = Package::new("binary_categories");
    let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig {
        cases: 1_500,
        failure_persistence: None,
        ..ProptestConfig::default()
    });
    let strategy = (0..=FILES.len(), any::<prop::sample::Index>(), 0..8_u8);
    let outcome = runner.run(&strategy, |(which, at, bit)| {
        let file = FILES.get(which).copied().unwrap_or("manifest.json");
        let good = package.read(file);
        let mut bad = good.clone();
        bad[at.index(good.len())] ^= 1 << bit;
        package.write(file, &bad);
        let loaded = package.load();
        package.write(file, &good);
        match loaded {
            Ok(model) => {
                prop_assert_eq!(file, "manifest.json");
                drop(model.self_test());
            }
            Err(reason) => prop_assert!(which == FILES.len() || reason.starts_with(file), "{}", reason),
        }
        Ok(())
    });
    outcome.unwrap();
}

/// M39.
#[test]
fn truncated_files_are_refused() {
    let package = Package::new("binary_categories");
    for file in FILES.into_iter().chain(["manifest.json"]) {
        let good = package.read(file);
        for part in 0..64 {
            package.write(file, &good[..good.len() * part / 64]);
            assert!(package.load().unwrap_err().starts_with(file), "{file} cut to {part}/64");
        }
        package.write(file, &good);
    }
    package.load().unwrap();
}

/// Bytes that were changed before they were hashed: what a broken exporter would write.
#[test]
fn changed_and_hashed_files_never_panic() {
    let package = Package::new("multiclass");
    let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig {
        cases: 600,
        failure_persistence: None,
        ..ProptestConfig::default()
    });
    let change = (any::<prop::sample::Index>(), prop::sample::select(b"0123456789-.,:\"[]{}einf \x00\xff".to_vec()));
    let strategy = (0..FILES.len(), prop::collection::vec(change, 1..4));
    let outcome = runner.run(&strategy, |(which, changes)| {
        let file = FILES[which];
        let good = package.read(file);
        let mut bad = good.clone();
        for (at, byte) in changes {
            let at = at.index(bad.len());
            bad[at] = byte;
        }
        package.write(file, &bad);
        package.list();
        if let Ok(model) = package.load() {
            drop(model.self_test());
            let mut batch = Batch::new(model.schema().features().len());
            batch.push_row();
            let mut out = Predictions::new();
            prop_assert!(model.predict(&batch, &mut out).is_ok());
        }
        package.write(file, &good);
        Ok(())
    });
    outcome.unwrap();
}
