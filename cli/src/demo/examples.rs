//! The rows, their true labels and the models that the project ships.

use std::{
    env,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, ensure};
use understudy::v1::Row;

use crate::predict::input;

/// What the demo plays with.
#[derive(Debug)]
pub(super) struct Examples {
    pub(super) directory: PathBuf,
    pub(super) rows: Vec<Row>,
    /// The true label of each row.
    pub(super) labels: Vec<String>,
}

impl Examples {
    /// Those in `directory`, or those that are found.
    ///
    /// # Errors
    /// There are none, or they are not what they should be.
    pub(super) fn load(directory: Option<&Path>) -> anyhow::Result<Self> {
        let directory = match directory {
            Some(directory) => directory.to_path_buf(),
            None => find(&env::current_dir()?)
                .or_else(|| find(env::current_exe().ok()?.parent()?))
                .context("no examples here, above, or above this program: give their directory with --examples")?,
        };
        let data = directory.join("adult");
        let rows = input::csv_file(&data.join("rows.csv"))?;
        let labels = labels(&data.join("labels.csv"))?;
        ensure!(!rows.is_empty(), "{}: no rows", data.join("rows.csv").display());
        ensure!(rows.len() == labels.len(), "{}: {} rows and {} labels", data.display(), rows.len(), labels.len());
        Ok(Self { directory, rows, labels })
    }

    /// The directory of a model.
    pub(super) fn model(&self, name: &str) -> PathBuf {
        self.directory.join("models").join(name)
    }
}

/// `examples` in `start` or the nearest directory above that has them.
fn find(start: &Path) -> Option<PathBuf> {
    let complete =
        |directory: &PathBuf| directory.join("adult/rows.csv").is_file() && directory.join("models/adult").is_dir();
    start.ancestors().map(|above| above.join("examples")).find(complete)
}

/// The first column.
fn labels(path: &Path) -> anyhow::Result<Vec<String>> {
    let context = || path.display().to_string();
    let mut reader = csv::Reader::from_path(path).with_context(context)?;
    reader
        .records()
        .map(|record| Ok(record?.get(0).unwrap_or_default().to_owned()))
        .collect::<anyhow::Result<_>>()
        .with_context(context)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn examples_are_found_above() {
        let below = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/demo");
        let examples = Examples::load(Some(&find(&below).expect("found"))).expect("sound");
        assert_eq!((examples.rows.len(), examples.labels.len()), (4000, 4000));
        assert!(examples.model("adult-candidate").is_dir());
        assert_eq!(find(Path::new("/nowhere")), None);
    }
}
