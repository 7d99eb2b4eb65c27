//! A copy of a model package, to be broken or changed. Also a module of `server/tests/`, so it depends on nothing here.

use std::{
    fs,
    path::{Path, PathBuf},
};

use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tempfile::TempDir;

/// A package in `NAME/VERSION` of a repository of its own.
#[derive(Debug)]
pub struct Package {
    repository: TempDir,
    directory: PathBuf,
}

impl Package {
    /// A copy of `of`, which calls itself `name`, version 1.
    pub fn copy(of: &Path, name: &str) -> Self {
        Self::version(of, name, "1")
    }

    /// A copy of `of`, which calls itself `name`, version `version`.
    pub fn version(of: &Path, name: &str, version: &str) -> Self {
        let repository = tempfile::tempdir().expect("a directory");
        let directory = repository.path().join(name).join(version);
        copy(of, &directory);
        let package = Self { repository, directory };
        package.edit("manifest.json", |manifest| {
            manifest["name"] = json!(name);
            manifest["version"] = json!(version);
        });
        package
    }

    /// The package itself.
    pub fn path(&self) -> &Path {
        &self.directory
    }

    /// The repository that holds nothing else.
    pub fn repository(&self) -> &Path {
        self.repository.path()
    }

    /// A file.
    pub fn read(&self, file: &str) -> Vec<u8> {
        fs::read(self.directory.join(file)).unwrap_or_else(|error| panic!("{file}: {error}"))
    }

    /// Replaces or adds a file; the manifest is not told.
    pub fn write(&self, file: &str, content: impl AsRef<[u8]>) {
        fs::write(self.directory.join(file), content).unwrap_or_else(|error| panic!("{file}: {error}"));
    }

    /// Removes a file; the manifest is not told.
    pub fn remove(&self, file: &str) {
        fs::remove_file(self.directory.join(file)).unwrap_or_else(|error| panic!("{file}: {error}"));
    }

    /// Keeps the first `bytes` bytes; the manifest is not told.
    pub fn truncate(&self, file: &str, bytes: usize) {
        let content = self.read(file);
        assert!(bytes < content.len(), "{file} has {} bytes", content.len());
        self.write(file, &content[..bytes]);
    }

    /// Flips one bit; the manifest is not told.
    pub fn flip(&self, file: &str, byte: usize, bit: u32) {
        let mut content = self.read(file);
        content[byte] ^= 1 << bit;
        self.write(file, content);
    }

    /// Changes a JSON file; the manifest is not told.
    pub fn edit(&self, file: &str, change: impl FnOnce(&mut Value)) {
        let mut value = serde_json::from_slice(&self.read(file)).expect("JSON");
        change(&mut value);
        self.write(file, value.to_string());
    }

    /// Changes the golden rows; the manifest is not told.
    pub fn edit_golden(&self, change: impl FnOnce(&mut Vec<Value>)) {
        let text = String::from_utf8(self.read("golden.jsonl")).expect("UTF-8");
        let mut rows = text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
        change(&mut rows);
        let lines: Vec<String> = rows.iter().map(Value::to_string).collect();
        self.write("golden.jsonl", lines.join("\n") + "\n");
    }

    /// Makes the manifest's sizes and hashes those of the files as they are now: a package that was broken on purpose.
    pub fn list(&self) {
        self.edit("manifest.json", |manifest| {
            for listed in manifest["files"].as_array_mut().expect("a list of files") {
                let bytes = fs::read(self.directory.join(listed["path"].as_str().expect("a path"))).expect("a file");
                listed["size"] = json!(bytes.len());
                let digits: Vec<String> = Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect();
                listed["sha256"] = json!(digits.concat());
            }
        });
    }
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a directory");
    for entry in fs::read_dir(from).unwrap_or_else(|error| panic!("{}: {error}", from.display())) {
        let entry = entry.expect("an entry");
        let target = to.join(entry.file_name());
        if entry.file_type().expect("a type").is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), &target).expect("a copy");
        }
    }
}
