//! Packages that a case may spoil: a copy of a good one, with hashes that are made right again.

use std::fmt::Write as _;
use std::{
    fs,
    path::{Path, PathBuf},
};

use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tempfile::TempDir;

use crate::ubjson;

/// Where the good ones are: see `make.py` there.
pub(crate) fn good(kind: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../model/tests/small").join(kind)
}

/// A package in a directory of its own.
pub(crate) struct Package {
    directory: TempDir,
    /// What is checked, if it is not the directory.
    pub(crate) target: Option<PathBuf>,
    /// What peak memory is compared with, if it is not the largest file.
    pub(crate) size: Option<u64>,
}

impl Package {
    pub(crate) fn copy(kind: &str) -> Self {
        let package = Self { directory: tempfile::tempdir().unwrap(), target: None, size: None };
        copy(&good(kind), &package.path());
        package
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.directory.path().join("package")
    }

    pub(crate) fn file(&self, file: &str) -> PathBuf {
        self.path().join(file)
    }

    /// What lies beside the package: outside of it.
    pub(crate) fn beside(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub(crate) fn target(&self) -> PathBuf {
        self.target.clone().unwrap_or_else(|| self.path())
    }

    /// Bytes of the largest file.
    pub(crate) fn size(&self) -> u64 {
        let files = files(&self.path());
        let largest = files.iter().filter_map(|file| fs::symlink_metadata(self.file(file)).ok()).map(|data| data.len());
        self.size.unwrap_or_else(|| largest.max().unwrap_or(0))
    }

    pub(crate) fn read(&self, file: &str) -> Vec<u8> {
        fs::read(self.file(file)).unwrap()
    }

    /// Writes a file and nothing else: its hash no longer fits.
    pub(crate) fn write(&self, file: &str, content: impl AsRef<[u8]>) {
        fs::create_dir_all(self.file(file).parent().unwrap()).unwrap();
        fs::write(self.file(file), content).unwrap();
    }

    /// Writes a file, and the manifest with it.
    pub(crate) fn put(&self, file: &str, content: impl AsRef<[u8]>) {
        self.write(file, content);
        self.list();
    }

    pub(crate) fn json(&self, file: &str) -> Value {
        serde_json::from_slice(&self.read(file)).unwrap()
    }

    /// Changes a JSON file, and the manifest with it.
    pub(crate) fn edit(&self, file: &str, change: impl FnOnce(&mut Value)) {
        let mut value = self.json(file);
        change(&mut value);
        self.write(file, value.to_string());
        if file != "manifest.json" {
            self.list();
        }
    }

    /// Exchanges the first occurrence of a text, and lists the files again.
    pub(crate) fn replace(&self, file: &str, from: &str, to: &str) {
        let text = String::from_utf8(self.read(file)).unwrap();
        assert!(text.contains(from), "{file} holds no {from}");
        self.write(file, text.replacen(from, to, 1));
        if file != "manifest.json" {
            self.list();
        }
    }

    /// Changes a node of `graph.json`: the first, unless the graph has other ones.
    pub(crate) fn node(&self, change: impl FnOnce(&mut Value)) {
        self.edit("graph.json", |graph| change(&mut graph["nodes"][0]));
    }

    /// The file of the node's model.
    pub(crate) fn model_file(&self) -> String {
        let mut found = files(&self.path());
        found.retain(|file| file.starts_with("nodes/"));
        found.pop().expect("a node with a file")
    }

    /// Changes the model as JSON, and writes it as what it was: JSON or UBJSON.
    pub(crate) fn model(&self, change: impl FnOnce(&mut Value)) {
        let file = self.model_file();
        let binary = Path::new(&file).extension().is_some_and(|extension| extension == "ubj");
        let mut value = if binary { ubjson::decode(&self.read(&file)) } else { self.json(&file) };
        change(&mut value);
        self.put(&file, if binary { ubjson::encode(&value) } else { value.to_string().into_bytes() });
    }

    /// Changes the model's bytes.
    pub(crate) fn bytes(&self, change: impl FnOnce(&mut Vec<u8>)) {
        let file = self.model_file();
        let mut bytes = self.read(&file);
        change(&mut bytes);
        self.put(&file, bytes);
    }

    /// Writes sizes and hashes of all files as they are now into the manifest.
    pub(crate) fn list(&self) {
        let entries: Vec<Value> = files(&self.path())
            .into_iter()
            .filter(|path| path != "manifest.json")
            .map(|path| {
                let bytes = self.read(&path);
                let mut sha256 = String::new();
                for byte in Sha256::digest(&bytes) {
                    write!(sha256, "{byte:02x}").unwrap();
                }
                json!({"path": path, "size": bytes.len(), "sha256": sha256})
            })
            .collect();
        self.edit("manifest.json", |manifest| manifest["files"] = json!(entries));
    }
}

/// Paths of all files below a directory, sorted.
pub(crate) fn files(root: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut open = vec![root.to_path_buf()];
    while let Some(directory) = open.pop() {
        for entry in fs::read_dir(directory).into_iter().flatten() {
            let path = entry.unwrap().path();
            if path.is_dir() && !path.is_symlink() {
                open.push(path);
            } else {
                found.push(path.strip_prefix(root).unwrap().to_string_lossy().into_owned());
            }
        }
    }
    found.sort();
    found
}

pub(crate) fn copy(from: &Path, to: &Path) {
    for file in files(from) {
        fs::create_dir_all(to.join(&file).parent().unwrap()).unwrap();
        fs::copy(from.join(&file), to.join(&file)).unwrap();
    }
}
