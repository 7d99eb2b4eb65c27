//! Packages that are damaged are not served.

use serde_json::json;

use crate::{adult, package::Package, process::SOON, start};

const MODEL: &str = "nodes/lightgbm/model.txt";

/// A package, what is done to it, and the words that standard error must hold: the file and what is wrong with it.
type Damage = (&'static str, fn(&Package), &'static [&'static str]);

const DAMAGES: &[Damage] = &[
    ("truncated", |package| package.truncate(MODEL, 1_000_000), &[MODEL, "size", "1000000 bytes"]),
    ("empty", |package| package.truncate("schema.json", 0), &["schema.json", "size", "0 bytes"]),
    ("a bit of the model", |package| package.flip(MODEL, 1_500_000, 2), &[MODEL, "sha256"]),
    ("a bit of the schema", |package| package.flip("schema.json", 40, 0), &["schema.json", "sha256"]),
    (
        "a bit of a file that is only kept",
        |package| package.flip("requirements.txt", 3, 7),
        &["requirements.txt", "sha256"],
    ),
    ("missing", |package| package.remove(MODEL), &[MODEL, "missing"]),
    ("missing and only kept", |package| package.remove("requirements.txt"), &["requirements.txt", "missing"]),
    ("no manifest", |package| package.remove("manifest.json"), &["manifest.json"]),
    ("half a manifest", |package| package.truncate("manifest.json", 700), &["manifest.json"]),
    ("extra", |package| package.write("model.pkl", "cos\nsystem\n"), &["model.pkl", "not listed"]),
    (
        "golden rows of another model, the hashes in order",
        |package| {
            package.edit_golden(|rows| {
                let output = &mut rows[16]["nodes"]["lightgbm"][0];
                *output = json!(output.as_f64().unwrap().next_up());
            });
            package.list();
        },
        &["self-test failed", "golden row 17", "lightgbm"],
    ),
    (
        "a golden label of another model, the hashes in order",
        |package| {
            package.edit_golden(|rows| rows[3]["label"] = json!(">50K"));
            package.list();
        },
        &["self-test failed", "golden row 4", "label"],
    ),
    (
        "other leaves in the first tree, the hashes in order",
        |package| {
            let text = String::from_utf8(package.read(MODEL)).unwrap();
            let (before, leaves) = text.split_once("leaf_value=").unwrap();
            let (leaves, after) = leaves.split_once('\n').unwrap();
            // As long as before: the file says how long each tree is.
            let other = |digit: char| if digit == '9' { '8' } else { char::from(digit as u8 + 1) };
            let nudge =
                |leaf: &str| format!("{}{} ", &leaf[..leaf.len() - 1], other(leaf.chars().next_back().unwrap()));
            let nudged: String = leaves.split(' ').map(nudge).collect();
            package.write(MODEL, format!("{before}leaf_value={}\n{after}", nudged.trim_end()));
            package.list();
        },
        &["self-test failed", "golden row"],
    ),
    (
        "a tree that is no tree, the hashes in order",
        |package| {
            let text = String::from_utf8(package.read(MODEL)).unwrap();
            package.write(MODEL, text.replacen("left_child=", "left_child=-9999 ", 1));
            package.list();
        },
        &[MODEL, "LightGBM"],
    ),
    (
        "a version that is not the directory's",
        |package| package.edit("manifest.json", |manifest| manifest["version"] = json!("2")),
        &["version 2", "directories"],
    ),
];

/// P42, and cases M31 to M33 and M39 of `reliability.md`.
#[test]
fn a_damaged_package_is_refused_by_file_and_reason() {
    for (name, damage, words) in DAMAGES {
        let package = Package::copy(&adult().join("1"), "adult");
        damage(&package);
        let process = start(&["--models", package.repository().to_str().unwrap()], &[]);
        let ended = process.wait(SOON);
        assert_eq!(ended.code, Some(65), "{name}: {}", ended.stderr);
        assert!(!ended.was_ready, "{name}: was ready before it ended");
        for word in *words {
            assert!(ended.stderr.contains(word), "{name}: no {word:?} in {}", ended.stderr);
        }
    }
}

#[test]
fn what_is_no_model_is_refused() {
    let (empty, twice) = (tempfile::tempdir().unwrap(), Package::copy(&adult().join("1"), "adult"));
    let nowhere = empty.path().join("nowhere");
    let both = format!("{},{}", adult().display(), twice.repository().display());
    for (models, word) in [
        (empty.path().display().to_string(), "no manifest.json in it"),
        (nowhere.display().to_string(), "can't be read"),
        (both, "is served from another directory already"),
    ] {
        let ended = start(&["--models", &models], &[]).wait(SOON);
        assert_eq!((ended.code, ended.was_ready), (Some(65), false), "{models}: {}", ended.stderr);
        assert!(ended.stderr.contains(word), "no {word:?} in {}", ended.stderr);
    }
}
