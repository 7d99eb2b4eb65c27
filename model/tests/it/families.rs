//! Packages that the exporters made of every library's models: the golden rows hold what the library itself predicted.

use std::fs;
use std::path::{Path, PathBuf};

use model::{Model, check};

/// At least so many packages, so that the test cannot pass for want of any.
const PACKAGES: usize = 10;

/// What is wrong with the packages of a directory, and how many there are.
fn checked(directory: &Path) -> (usize, Vec<String>) {
    let mut packages: Vec<PathBuf> =
        fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path().join("1")).collect();
    packages.retain(|package| package.is_dir());
    packages.sort();
    let mut wrong = Vec::new();
    for package in &packages {
        let name = package.display();
        for check in check(package) {
            if let Err(reason) = check.outcome {
                wrong.push(format!("{name}: {}: {reason}", check.name));
            }
        }
        match Model::load(package).map(|model| model.self_test()) {
            Ok(Ok(rows)) if rows >= 50 => {}
            other => wrong.push(format!("{name}: {other:?}")),
        }
    }
    (packages.len(), wrong)
}

#[test]
fn every_family_answers_as_its_library() {
    let (packages, wrong) = checked(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/packages"));
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(packages >= PACKAGES, "{packages} packages");
}

/// Larger packages: `UNDERSTUDY_PACKAGES=DIR`, a directory of models with a version 1.
#[test]
fn other_packages_answer_as_their_library() {
    let Some(directory) = std::env::var_os("UNDERSTUDY_PACKAGES") else { return };
    let (packages, wrong) = checked(Path::new(&directory));
    assert!(wrong.is_empty(), "{} of {packages} packages:\n{}", wrong.len(), wrong.join("\n"));
}
