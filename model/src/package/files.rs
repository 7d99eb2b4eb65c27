//! The files of a package: all that the manifest lists, nothing else, each as it was hashed.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, FileType, Metadata};
use std::io::{ErrorKind, Read};
use std::path::Path;

use sha2::{Digest, Sha256};

use super::{GOLDEN, GRAPH, Listed, MANIFEST, Manifest, REFERENCE, SCHEMA};
use crate::LoadError;
use crate::text::{capped, shown};

const MIB: u64 = 1 << 20;
/// Bytes of a whole package: more than any tabular model needs, less than what endangers the server.
const MAX_PACKAGE: u64 = 2_048 * MIB;
/// Directory entries of a package, and how deep they may lie: a walk that ends.
const MAX_ENTRIES: usize = 10_000;
const MAX_DEPTH: usize = 16;

/// Bytes of a file that is parsed as JSON, which takes several times its size in memory.
fn cap(path: &str) -> u64 {
    match path {
        MANIFEST | GRAPH => 8 * MIB,
        SCHEMA | REFERENCE => 32 * MIB,
        GOLDEN => 64 * MIB,
        _ => MAX_PACKAGE,
    }
}

/// The bytes of a package's files, by path; read once, so that what is parsed is what was hashed.
#[derive(Debug)]
pub(crate) struct Files(BTreeMap<String, Vec<u8>>);

impl Files {
    /// Reads and checks every file that the manifest lists.
    pub(crate) fn read(dir: &Path, manifest: &Manifest) -> Result<Self, LoadError> {
        let mut present = walk(dir)?;
        present.remove(MANIFEST);
        same_files(&present, manifest)?;
        let total = manifest.files.iter().fold(0_u64, |sum, file| sum.saturating_add(file.size));
        if total > MAX_PACKAGE {
            return Err(LoadError::TooLarge { file: "all files".to_owned(), limit: MAX_PACKAGE, got: total });
        }
        let mut files = BTreeMap::new();
        for file in &manifest.files {
            let bytes = read(dir, &file.path, Some(file.size))?;
            check_hash(file, &bytes)?;
            files.insert(file.path.clone(), bytes);
        }
        Ok(Self(files))
    }

    /// Checks files that were read elsewhere, without the manifest.
    pub(crate) fn given(files: BTreeMap<String, Vec<u8>>, manifest: &Manifest) -> Result<Self, LoadError> {
        same_files(&files.keys().cloned().collect(), manifest)?;
        for file in &manifest.files {
            let bytes = files.get(&file.path).map(Vec::as_slice).unwrap_or_default();
            let (limit, got) = (cap(&file.path), bytes.len() as u64);
            if got > limit {
                return Err(LoadError::TooLarge { file: file.path.clone(), limit, got });
            }
            check_size(file.size, &file.path, got)?;
            check_hash(file, bytes)?;
        }
        Ok(Self(files))
    }

    /// The bytes of a file.
    pub(crate) fn get(&self, path: &str) -> Result<&[u8], LoadError> {
        let missing = || LoadError::Missing { file: plain(path) };
        self.0.get(path).map(Vec::as_slice).ok_or_else(missing)
    }

    /// The bytes of a file that nobody else needs.
    pub(crate) fn take(&mut self, path: &str) -> Result<Vec<u8>, LoadError> {
        self.0.remove(path).ok_or_else(|| LoadError::Missing { file: plain(path) })
    }

    /// Number of files and of their bytes.
    pub(crate) fn size(&self) -> (usize, usize) {
        (self.0.len(), self.0.values().map(Vec::len).sum())
    }
}

/// Whether what is there is what the manifest lists.
fn same_files(present: &BTreeSet<String>, manifest: &Manifest) -> Result<(), LoadError> {
    let listed: BTreeSet<&str> = manifest.files.iter().map(|file| file.path.as_str()).collect();
    if let Some(extra) = present.iter().find(|path| !listed.contains(path.as_str())) {
        return Err(LoadError::Extra { file: plain(extra) });
    }
    match listed.iter().find(|path| !present.contains(**path)) {
        Some(missing) => Err(LoadError::Missing { file: (*missing).to_owned() }),
        None => Ok(()),
    }
}

fn check_size(expected: u64, path: &str, got: u64) -> Result<(), LoadError> {
    if got == expected {
        return Ok(());
    }
    let expected = format!("{expected} bytes (manifest.json)");
    Err(LoadError::invalid(path, "size", expected, format!("{got} bytes")))
}

fn check_hash(file: &Listed, bytes: &[u8]) -> Result<(), LoadError> {
    let got = hexadecimal(&Sha256::digest(bytes));
    if got == file.sha256 {
        return Ok(());
    }
    let expected = format!("{} (manifest.json)", file.sha256);
    Err(LoadError::invalid(&file.path, "sha256", expected, got))
}

/// Reads the manifest, whose size nothing says.
pub(crate) fn read_manifest(dir: &Path) -> Result<Vec<u8>, LoadError> {
    read(dir, MANIFEST, None)
}

/// Reads one file, which must be regular and of the size that is expected, if one is.
fn read(dir: &Path, path: &str, size: Option<u64>) -> Result<Vec<u8>, LoadError> {
    let io = |source: std::io::Error| match source.kind() {
        ErrorKind::NotFound => LoadError::Missing { file: path.to_owned() },
        _ => LoadError::io(path, source),
    };
    let full = dir.join(path);
    // Before it is opened: opening a pipe would wait for its other end.
    let named = fs::symlink_metadata(&full).map_err(io)?;
    regular(path, named.file_type())?;
    let file = File::open(&full).map_err(io)?;
    let opened = file.metadata().map_err(io)?;
    if !same(&named, &opened) {
        return Err(LoadError::invalid(path, "file", "the same file as a moment before", "another one"));
    }
    let limit = cap(path);
    if opened.len() > limit {
        return Err(LoadError::TooLarge { file: path.to_owned(), limit, got: opened.len() });
    }
    if let Some(size) = size {
        check_size(size, path, opened.len())?;
    }
    let mut bytes = Vec::new();
    file.take(opened.len().saturating_add(1)).read_to_end(&mut bytes).map_err(io)?;
    if bytes.len() as u64 != opened.len() {
        let expected = format!("{} bytes", opened.len());
        return Err(LoadError::invalid(path, "size while reading", expected, format!("{} bytes", bytes.len())));
    }
    Ok(bytes)
}

/// The paths of all regular files below a directory; anything else but a directory is refused.
fn walk(root: &Path) -> Result<BTreeSet<String>, LoadError> {
    let mut found = BTreeSet::new();
    let mut entries = 0;
    let mut open = vec![(root.to_owned(), String::new(), 0)];
    while let Some((dir, prefix, depth)) = open.pop() {
        let here = if prefix.is_empty() { ".".to_owned() } else { plain(&prefix) };
        for entry in fs::read_dir(&dir).map_err(|source| LoadError::io(here.as_str(), source))? {
            let entry = entry.map_err(|source| LoadError::io(here.as_str(), source))?;
            entries += 1;
            if entries > MAX_ENTRIES || depth > MAX_DEPTH {
                let expected = format!("at most {MAX_ENTRIES} entries, at most {MAX_DEPTH} deep");
                return Err(LoadError::invalid(&here, "directory", expected, "more"));
            }
            let name = entry.file_name().to_string_lossy().into_owned();
            let path = format!("{prefix}{name}");
            let kind = entry.file_type().map_err(|source| LoadError::io(plain(&path), source))?;
            if kind.is_dir() {
                open.push((entry.path(), format!("{path}/"), depth + 1));
            } else {
                regular(&path, kind)?;
                found.insert(path);
            }
        }
    }
    Ok(found)
}

fn regular(path: &str, kind: FileType) -> Result<(), LoadError> {
    if kind.is_file() {
        return Ok(());
    }
    let got = if kind.is_symlink() {
        "a symbolic link"
    } else if kind.is_dir() {
        "a directory"
    } else {
        "a pipe, socket or device"
    };
    Err(LoadError::NotRegular { file: plain(path), got })
}

/// Whether the file that was opened is the one that was looked at: it could have been replaced by a link.
#[cfg(unix)]
fn same(named: &Metadata, opened: &Metadata) -> bool {
    use std::os::unix::fs::MetadataExt;
    (named.dev(), named.ino()) == (opened.dev(), opened.ino())
}

#[cfg(not(unix))]
fn same(_: &Metadata, opened: &Metadata) -> bool {
    opened.is_file()
}

/// A foreign path for a message: as it is when it is plain, else escaped and capped.
fn plain(path: &str) -> String {
    let harmless = path.bytes().all(|byte| byte.is_ascii_graphic()) && capped(path).len() == path.len();
    if harmless { path.to_owned() } else { shown(path) }
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes
        .iter()
        .flat_map(|byte| [byte >> 4, byte & 15])
        .filter_map(|digit| char::from_digit(digit.into(), 16))
        .collect()
}
