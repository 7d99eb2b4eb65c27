//! LightGBM's own answers, to the bit.

use std::fs;
use std::path::{Path, PathBuf};

use model::Batch;
use model::lightgbm::Booster;

use crate::fixture;

#[track_caller]
fn assert_same(what: &str, got: &[f64], expected: &[f64]) {
    assert_eq!(got.len(), expected.len(), "{what}");
    for (index, (got, expected)) in got.iter().zip(expected).enumerate() {
        let same = got.to_bits() == expected.to_bits() || (got.is_nan() && expected.is_nan());
        assert!(same, "{what}, number {index}: expected {expected:?}, got {got:?}");
    }
}

#[test]
fn every_fixture_is_equal_to_the_bit() {
    let mut names: Vec<PathBuf> =
        fs::read_dir(fixture::directory()).unwrap().map(|entry| entry.unwrap().path()).collect();
    names.retain(|path| path.extension().is_some_and(|extension| extension == "csv"));
    assert!(names.len() >= 29, "only {} fixtures", names.len());
    for path in names {
        let name = path.file_stem().unwrap().to_str().unwrap();
        let booster = Booster::parse(fixture::text(name).as_bytes()).unwrap_or_else(|error| panic!("{name}: {error}"));
        let answers = fixture::answers(name, booster.columns(), booster.outputs());
        assert_eq!(answers.batch.rows(), 160, "{name}");
        let (mut raw, mut predictions) = (Vec::new(), Vec::new());
        booster.margins(&answers.batch, &mut raw).unwrap();
        booster.predict(&answers.batch, &mut predictions).unwrap();
        assert_same(&format!("{name} raw"), &raw, &answers.raw);
        assert_same(&format!("{name} predictions"), &predictions, &answers.predictions);
    }
}

#[test]
fn linear_trees_are_refused() {
    let error = Booster::parse(fixture::text("linear").as_bytes()).unwrap_err().to_string();
    assert!(error.contains("linear trees are not supported"), "{error}");
}

/// The big models of the workspace next door: `UNDERSTUDY_SHARED=../../shared cargo test -p model`.
#[test]
fn big_models_are_equal_to_the_bit() {
    let Some(shared) = std::env::var_os("UNDERSTUDY_SHARED") else {
        eprintln!("skipped: UNDERSTUDY_SHARED does not name the directory with trees/lgb_*.txt");
        return;
    };
    let trees = Path::new(&shared).join("trees");
    let doubles = |name: &str| -> Vec<f64> {
        let bytes = fs::read(trees.join(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
        bytes.chunks_exact(8).map(|eight| f64::from_le_bytes(eight.try_into().unwrap())).collect()
    };
    let mut models = 0;
    for (model, rows, width) in [
        ("lgb_cat_1000x31", "rows_cat_10000x13.f64", 13),
        ("lgb_cat_300x63", "rows_cat_10000x13.f64", 13),
        ("lgb_num_300x63", "rows_cat_10000x13.f64", 13),
        ("lgb_syn_500x63", "rows_syn_10000x28.f64", 28),
    ] {
        let booster = Booster::parse(&fs::read(trees.join(format!("{model}.txt"))).unwrap()).unwrap();
        let mut batch = Batch::with_capacity(width, 10_000);
        for row in doubles(rows).chunks_exact(width) {
            batch.push_row().copy_from_slice(row);
        }
        let expected = doubles(&format!("{model}.margins.f64"));
        assert_eq!(expected.len(), 10_000);
        let mut raw = Vec::new();
        booster.margins(&batch, &mut raw).unwrap();
        assert_same(model, &raw, &expected);
        models += 1;
    }
    eprintln!("{models} models, 10000 rows each, equal to the bit");
}
