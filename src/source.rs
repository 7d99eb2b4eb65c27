//! Where a model comes from: for now a directory, which is a package, a model with its versions, or a repository of models.

use std::{
    io,
    path::{Path, PathBuf},
};

use model::{LoadError, Model};

/// A directory that holds no model that may serve.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// The directory can't be read.
    #[error("{}: can't be read", path.display())]
    Unreadable {
        /// The directory.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Neither it nor what is in it has a `manifest.json`.
    #[error("{}: neither a package, nor a model, nor a repository: no manifest.json in it, in */ or in */*/", .0.display())]
    Empty(PathBuf),
    /// The package is refused.
    #[error("{}: package refused", path.display())]
    Package {
        /// The package's directory.
        path: PathBuf,
        /// Which file and why.
        source: LoadError,
    },
    /// In a repository, the directories are the names.
    #[error("{}: the manifest says model '{name}' version {version}, the directories say otherwise", path.display())]
    Misplaced {
        /// The package's directory.
        path: PathBuf,
        /// As the manifest has it.
        name: String,
        /// As the manifest has it.
        version: String,
    },
}

/// The package directories at or below `path`, in order of path.
///
/// # Errors
/// Nothing there, or unreadable.
pub fn packages(path: &Path) -> Result<Vec<PathBuf>, SourceError> {
    let mut level = vec![path.to_path_buf()];
    for _ in 0..=2 {
        let found: Vec<PathBuf> = level.iter().filter(|dir| dir.join("manifest.json").exists()).cloned().collect();
        if !found.is_empty() {
            return Ok(found);
        }
        let mut below = Vec::new();
        for dir in level {
            let unreadable = |source| SourceError::Unreadable { path: dir.clone(), source };
            for entry in std::fs::read_dir(&dir).map_err(unreadable)? {
                let entry = entry.map_err(unreadable)?.path();
                if entry.is_dir() {
                    below.push(entry);
                }
            }
        }
        below.sort();
        level = below;
    }
    Err(SourceError::Empty(path.to_path_buf()))
}

/// Loads the package in `path` as a whole.
///
/// # Errors
/// The package is refused, or it lies in a directory of another version's name.
pub fn load(path: &Path) -> Result<Model, SourceError> {
    let model = Model::load(path).map_err(|source| SourceError::Package { path: path.to_path_buf(), source })?;
    // A directory that is named like a version must be that version of that model.
    let mut names = path.iter().rev().filter_map(|name| name.to_str());
    if let (Some(version), Some(name)) = (names.next(), names.next())
        && version.bytes().all(|byte| byte.is_ascii_digit())
        && (version != model.version() || name != model.name())
    {
        return Err(SourceError::Misplaced {
            path: path.to_path_buf(),
            name: model.name().to_owned(),
            version: model.version().to_owned(),
        });
    }
    Ok(model)
}
