//! Packages: good ones predict, spoiled ones are refused with the file and the reason.

use std::collections::BTreeMap;
use std::fs;

use model::{Batch, Model, PredictError, Predictions, SelfTestError, Task, check};
use serde_json::{Value, json};

use crate::fixture::{FILES, Package, chain};

#[track_caller]
fn refused(package: &Package, reason: &str) {
    let error = package.load().unwrap_err();
    assert!(error.contains(reason), "{error}");
}

/// What a test does to the files of a package.
type Change<'a> = &'a dyn Fn(&mut BTreeMap<String, Vec<u8>>);

#[test]
fn good_packages_load_and_pass_their_self_test() {
    for (fixture, task, width) in [
        ("binary_categories", Task::Binary, 2),
        ("binary_missing_zero", Task::Binary, 2),
        ("binary_forest", Task::Binary, 2),
        ("multiclass", Task::Multiclass, 3),
        ("multiclassova", Task::Multiclass, 3),
        ("regression_sqrt", Task::Regression, 1),
        ("poisson", Task::Regression, 1),
    ] {
        let package = Package::new(fixture);
        let model = package.load().unwrap();
        assert_eq!((model.name(), model.version(), model.task()), ("tiny", "3", task));
        assert_eq!(model.schema_json(), package.read("schema.json"));
        assert_eq!(model.reference_json(), package.read("reference.json"));
        assert_eq!(model.self_test(), Ok(160), "{fixture}");
        assert_eq!(model.width(), width);
        assert_eq!(model.class_names().len(), if task.is_classification() { width } else { 0 });
        let checks = check(package.path());
        assert!(checks.iter().all(|check| check.outcome.is_ok()), "{checks:?}");
    }
}

#[test]
fn a_model_is_shared_between_threads() {
    fn shared<T: Send + Sync>() {}
    shared::<Model>();
}

#[test]
fn predictions_are_scores_and_labels() {
    let model = Package::new("binary_categories").load().unwrap();
    let mut batch = Batch::new(7);
    for row in 0..10 {
        batch.push_row()[0] = f64::from(row) - 5.0;
    }
    let mut all = Predictions::new();
    model.predict(&batch, &mut all).unwrap();
    assert_eq!((all.rows(), all.width, all.labels.len()), (10, 2, 10));
    for (row, label) in all.labels.iter().enumerate() {
        let scores = all.scores_of(row);
        assert_eq!(scores[0], 1.0 - scores[1]);
        assert_eq!(*label, u32::from(scores[1] > 0.5));
    }
    let mut blocks = Predictions::new();
    for start in (0..10).step_by(3) {
        model.predict_rows(&batch, start..(start + 3).min(10), &mut blocks).unwrap();
    }
    assert_eq!((&blocks.scores, &blocks.labels), (&all.scores, &all.labels));
    let before = all.scores.clone();
    model.predict(&batch, &mut all).unwrap();
    assert_eq!(all.scores, before, "the buffers are cleared first");
    model.predict(&Batch::new(7), &mut all).unwrap();
    assert_eq!(all.rows(), 0);
    let error = model.predict(&Batch::new(6), &mut all).unwrap_err();
    assert_eq!(error, PredictError::Width { expected: 7, got: 6 });
    let error = model.predict_rows(&batch, 5..11, &mut all).unwrap_err();
    assert_eq!(error, PredictError::Range { rows: 10, start: 5, end: 11 });
}

#[test]
fn the_threshold_is_strict() {
    let package = Package::new("binary_categories");
    let model = package.load().unwrap();
    let mut batch = Batch::new(7);
    batch.push_row();
    let mut out = Predictions::new();
    model.predict(&batch, &mut out).unwrap();
    let threshold = out.scores[1];
    for (threshold, label) in [(threshold, 0), (threshold.next_down(), 1)] {
        package.edit("manifest.json", |manifest| manifest["decision_threshold"] = json!(threshold));
        package.load().unwrap().predict(&batch, &mut out).unwrap();
        assert_eq!(out.labels, [label]);
    }
}

#[test]
fn a_changed_answer_fails_the_self_test() {
    let package = Package::new("binary_categories");
    let mut lines: Vec<Value> = String::from_utf8(package.read("golden.jsonl"))
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let answer = lines[16]["nodes"]["trees"][0].as_f64().unwrap();
    lines[16]["nodes"]["trees"][0] = json!(answer.next_up());
    let text: Vec<String> = lines.iter().map(ToString::to_string).collect();
    package.write("golden.jsonl", text.join("\n"));
    package.list();
    let error = package.load().unwrap().self_test().unwrap_err();
    let SelfTestError::Output { row: 17, ref node, index: 0, expected, got } = error else { panic!("{error}") };
    assert_eq!((node.as_str(), expected, got), ("trees", answer.next_up(), answer));
    let last = check(package.path()).pop().unwrap();
    assert_eq!(last.name, "golden rows");
    assert!(last.outcome.unwrap_err().starts_with("golden row 17: node trees, output 0: expected "));

    let label = lines[16]["label"].as_str().unwrap().to_owned();
    let other = if label == "class 0" { "class 1" } else { "class 0" };
    lines[16]["nodes"]["trees"][0] = json!(answer);
    lines[16]["label"] = json!(other);
    let text: Vec<String> = lines.iter().map(ToString::to_string).collect();
    package.write("golden.jsonl", text.join("\n"));
    package.list();
    let error = package.load().unwrap().self_test().unwrap_err();
    assert_eq!(error, SelfTestError::Label { row: 17, expected: other.to_owned(), got: label });
}

#[test]
fn files_are_those_of_the_manifest() {
    let package = Package::new("regression");
    for file in FILES {
        let bytes = package.read(file);
        fs::remove_file(package.path().join(file)).unwrap();
        refused(&package, &format!("{file}: missing"));
        package.write(file, &bytes[..bytes.len() - 1]);
        refused(&package, &format!("{file}: size: expected {} bytes", bytes.len()));
        package.write(file, &bytes);
    }
    package.write("nodes/trees/extra.pkl", "x"); // M30, M33
    refused(&package, "nodes/trees/extra.pkl: not listed in manifest.json");
    fs::remove_file(package.path().join("nodes/trees/extra.pkl")).unwrap();
    package.write("Manifest.json", "{}");
    refused(&package, "Manifest.json: not listed");
    fs::remove_file(package.path().join("Manifest.json")).unwrap();
    package.load().unwrap();
    let empty = tempfile::tempdir().unwrap();
    assert_eq!(chain(&Model::load(empty.path()).unwrap_err()), "manifest.json: missing");
    assert!(Model::load(&empty.path().join("nowhere")).is_err());
}

#[cfg(unix)]
#[test]
fn only_regular_files_are_read() {
    use std::os::unix::fs::symlink;
    let package = Package::new("regression"); // M35
    let elsewhere = package.read("golden.jsonl");
    let other = tempfile::tempdir().unwrap();
    fs::write(other.path().join("golden"), &elsewhere).unwrap();
    let golden = package.path().join("golden.jsonl");
    fs::remove_file(&golden).unwrap();
    symlink(other.path().join("golden"), &golden).unwrap();
    refused(&package, "golden.jsonl: expected a regular file, got a symbolic link");
    fs::remove_file(&golden).unwrap();
    assert!(std::process::Command::new("mkfifo").arg(&golden).status().unwrap().success());
    refused(&package, "golden.jsonl: expected a regular file, got a pipe, socket or device");
    fs::remove_file(&golden).unwrap();
    fs::create_dir(&golden).unwrap();
    refused(&package, "golden.jsonl: missing");
    fs::remove_dir(&golden).unwrap();
    package.write("golden.jsonl", elsewhere);
    let nodes = package.path().join("nodes");
    fs::rename(&nodes, other.path().join("nodes")).unwrap();
    symlink(other.path().join("nodes"), &nodes).unwrap();
    refused(&package, "nodes: expected a regular file, got a symbolic link");
    fs::remove_file(&nodes).unwrap();
    fs::rename(other.path().join("nodes"), &nodes).unwrap();
    let linked = other.path().join("version");
    symlink(package.path(), &linked).unwrap();
    Model::load(&linked).unwrap();
}

#[test]
fn a_sparse_file_is_not_read() {
    let package = Package::new("regression");
    let file = fs::File::options().write(true).open(package.path().join("schema.json")).unwrap();
    file.set_len(1 << 40).unwrap();
    refused(&package, "schema.json: expected at most 33554432 bytes, got 1099511627776");
    package.edit("manifest.json", |manifest| manifest["files"][0]["size"] = json!(1_u64 << 40));
    refused(&package, "all files: expected at most 2147483648 bytes");
    package.edit("manifest.json", |manifest| manifest["files"][0]["size"] = json!(u64::MAX));
    refused(&package, "all files: expected at most 2147483648 bytes");
}

#[test]
fn paths_stay_in_the_package() {
    let package = Package::new("regression"); // M34
    let manifest: Value = serde_json::from_slice(&package.read("manifest.json")).unwrap();
    for path in [
        "../x",
        "/etc/passwd",
        "a\\..\\b",
        "C:x",
        "a\0b",
        "a//b",
        "a/",
        "./a",
        "a/./b",
        "a/../../b",
        "",
        "caf\u{e9}",
        "cafe\u{301}",
        "manifest.json",
        "a b",
        "SCHEMA.JSON",
        "a\nb",
    ] {
        let mut changed = manifest.clone();
        changed["files"].as_array_mut().unwrap().push(json!({"path": path, "size": 1, "sha256": "0".repeat(64)}));
        package.write("manifest.json", changed.to_string());
        refused(&package, "manifest.json: files");
    }
}

#[test]
fn hashes_bind_the_files() {
    let package = Package::new("regression"); // M31
    let mut bytes = package.read("requirements.txt");
    bytes[0] ^= 1;
    package.write("requirements.txt", bytes);
    refused(&package, "requirements.txt: sha256: expected ");
}

#[test]
fn checks_go_as_far_as_they_can() {
    let package = Package::new("regression");
    package.replace("schema.json", "\"sanitize\"", "\"lenient\"");
    let checks = check(package.path());
    let names: Vec<&str> = checks.iter().map(|check| check.name.as_str()).collect();
    assert_eq!(names, ["manifest", "files and hashes", "schema", "graph", "reference profile", "golden rows"]);
    let good: Vec<bool> = checks.iter().map(|check| check.outcome.is_ok()).collect();
    assert_eq!(good, [true, true, false, false, false, false]);
    assert_eq!(checks[3].outcome, Err("not checked: schema failed".to_owned()));
    assert_eq!(checks[5].outcome, Err("not checked: graph failed".to_owned()));
    let nothing = check(&package.path().join("nowhere"));
    assert_eq!(nothing[0].outcome, Err("manifest.json: missing".to_owned()));
    assert!(nothing[1..].iter().all(|check| check.outcome.as_ref().is_err_and(|why| why.starts_with("not checked"))));
}

#[test]
fn packages_are_read_from_memory() {
    let package = Package::new("binary_categories");
    let files = || -> BTreeMap<String, Vec<u8>> {
        FILES.iter().chain(&["manifest.json"]).map(|file| ((*file).to_owned(), package.read(file))).collect()
    };
    assert_eq!(Model::from_files(files()).unwrap().self_test(), Ok(160));
    let refused = |change: Change<'_>, reason: &str| {
        let mut files = files();
        change(&mut files);
        let error = chain(&Model::from_files(files).unwrap_err());
        assert!(error.contains(reason), "{error}");
    };
    refused(&|files| drop(files.remove("manifest.json")), "manifest.json: missing");
    refused(&|files| drop(files.remove("schema.json")), "schema.json: missing");
    refused(&|files| drop(files.insert("x".to_owned(), Vec::new())), "x: not listed in manifest.json");
    refused(&|files| files.get_mut("schema.json").unwrap().push(b' '), "schema.json: size: expected");
    refused(&|files| files.get_mut("schema.json").unwrap()[0] ^= 1, "schema.json: sha256: expected");
}

/// Thousands of columns: rows are computed in blocks that stay small.
#[test]
fn wide_graphs_pass_their_self_test() {
    let package = Package::new("regression");
    package.edit("graph.json", |graph| {
        let column = |index: usize| json!({"name": format!("x{index}"), "from": "c0", "ops": [{"add": 1}]});
        graph["columns"] = (0..20_000).map(column).collect();
        graph["nodes"][0]["columns"] = json!([{"name": "y", "from": "x19999", "ops": [{"subtract": 1}]}]);
    });
    assert_eq!(package.load().unwrap().self_test(), Ok(160));
}
