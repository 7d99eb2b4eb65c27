//! `manifest.json`: what the package is, and every file in it.

use std::collections::{BTreeMap, HashSet};

use serde::Deserialize;

use super::{GOLDEN, GRAPH, MANIFEST, REFERENCE, SCHEMA};
use crate::error::ensure;
use crate::json::{self, Few, Number, Object};
use crate::text::shown;
use crate::{LoadError, Scalar, Task};

/// The manifest of a package, checked.
#[derive(Debug, Clone)]
pub struct Manifest {
    /// The model's name.
    pub name: String,
    /// The version: a positive decimal integer below 2^63.
    pub version: String,
    /// What the model predicts.
    pub task: Task,
    /// The column of the label.
    pub label: String,
    /// Classification: the classes in the order of the probabilities. Empty otherwise.
    pub classes: Vec<Scalar>,
    /// Binary: the label is `classes[1]` if its probability is strictly greater. 0.5 otherwise.
    pub decision_threshold: f64,
    /// Quantile: the levels, increasing. Empty otherwise.
    pub quantile_levels: Vec<f64>,
    /// What the trainer optimised.
    pub eval_metric: Option<String>,
    /// Measured at export, by name.
    pub metrics: BTreeMap<String, f64>,
    /// When the model was trained, RFC 3339.
    pub trained_at: Option<String>,
    /// When the package was written, RFC 3339.
    pub exported_at: String,
    /// Versions of the training environment's libraries.
    pub libraries: BTreeMap<String, String>,
    /// Run id, data set, commit: free.
    pub provenance: BTreeMap<String, String>,
    /// Every file of the package but the manifest.
    pub files: Vec<Listed>,
}

/// A file as the manifest lists it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Listed {
    /// Path in the package, with `/`.
    pub path: String,
    /// Bytes.
    pub size: u64,
    /// Lower-case hexadecimal.
    pub sha256: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    format: String,
    format_version: u64,
    name: String,
    version: String,
    task: Task,
    label: String,
    classes: Option<Few<Scalar>>,
    positive_class: Option<Scalar>,
    decision_threshold: Option<f64>,
    quantile_levels: Option<Vec<f64>>,
    eval_metric: Option<String>,
    #[serde(default)]
    metrics: Object<Number>,
    trained_at: Option<String>,
    exported_at: String,
    libraries: Object<String>,
    #[serde(default)]
    provenance: Object<String>,
    files: Vec<Listed>,
}

impl Manifest {
    /// Parses and checks the file's bytes.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, LoadError> {
        let raw: Raw = json::parse(MANIFEST, bytes)?;
        let check =
            |holds, what: &str, expected: &str, got: &str| ensure(holds, MANIFEST, what, expected, || shown(got));
        check(raw.format == "understudy-package", "format", "\"understudy-package\"", &raw.format)?;
        check(raw.format_version == 1, "format_version", "1", &raw.format_version.to_string())?;
        check(is_name(&raw.name), "name", "[A-Za-z0-9][A-Za-z0-9._-]{0,127}", &raw.name)?;
        check(is_version(&raw.version), "version", "a positive decimal integer below 2^63", &raw.version)?;
        check(!raw.label.is_empty(), "label", "the name of a column", &raw.label)?;
        check(is_time(&raw.exported_at), "exported_at", "a time as RFC 3339 has it", &raw.exported_at)?;
        if let Some(time) = &raw.trained_at {
            check(is_time(time), "trained_at", "a time as RFC 3339 has it", time)?;
        }
        let classes = classes(&raw)?;
        let quantile_levels = levels(&raw)?;
        let decision_threshold = threshold(&raw)?;
        check_files(&raw.files)?;
        Ok(Self {
            name: raw.name,
            version: raw.version,
            task: raw.task,
            label: raw.label,
            classes,
            decision_threshold,
            quantile_levels,
            eval_metric: raw.eval_metric,
            metrics: raw.metrics.into_map(|number| number.0),
            trained_at: raw.trained_at,
            exported_at: raw.exported_at,
            libraries: raw.libraries.into_map(|version| version),
            provenance: raw.provenance.into_map(|text| text),
            files: raw.files,
        })
    }
}

fn classes(raw: &Raw) -> Result<Vec<Scalar>, LoadError> {
    let task = raw.task.as_str();
    let classes = raw.classes.clone().unwrap_or_default().0;
    let count = || format!("{} for task {task}", classes.len());
    if !raw.task.is_classification() {
        ensure(raw.classes.is_none(), MANIFEST, "classes", "none", count)?;
    } else if raw.task == Task::Binary {
        ensure(classes.len() == 2, MANIFEST, "classes", "two", count)?;
    } else {
        ensure(classes.len() >= 2, MANIFEST, "classes", "at least two", count)?;
    }
    if crate::schema::first_repeated(&classes).is_some() {
        return Err(LoadError::invalid(MANIFEST, "classes", "each once", "one of them twice"));
    }
    match (&raw.positive_class, raw.task) {
        (None, Task::Binary) => {
            Err(LoadError::invalid(MANIFEST, "positive_class", format!("{} (classes[1])", classes[1]), "nothing"))
        }
        (Some(positive), Task::Binary) if !positive.same(&classes[1]) => {
            let expected = format!("{} (classes[1])", classes[1]);
            Err(LoadError::invalid(MANIFEST, "positive_class", expected, positive.to_string()))
        }
        (Some(positive), Task::Multiclass | Task::Regression | Task::Quantile) => {
            let expected = format!("nothing for task {task}");
            Err(LoadError::invalid(MANIFEST, "positive_class", expected, positive.to_string()))
        }
        _ => Ok(classes),
    }
}

fn levels(raw: &Raw) -> Result<Vec<f64>, LoadError> {
    let levels = raw.quantile_levels.clone().unwrap_or_default();
    let got = || format!("{} of them for task {}", levels.len(), raw.task.as_str());
    if raw.task != Task::Quantile {
        ensure(raw.quantile_levels.is_none(), MANIFEST, "quantile_levels", "none", got)?;
        return Ok(levels);
    }
    let inside = levels.iter().all(|&level| level > 0.0 && level < 1.0);
    let increasing = levels.windows(2).all(|pair| pair[0] < pair[1]);
    let fits = inside && increasing && !levels.is_empty();
    ensure(fits, MANIFEST, "quantile_levels", "increasing numbers in (0, 1)", || shown(&format!("{levels:?}")))?;
    Ok(levels)
}

fn threshold(raw: &Raw) -> Result<f64, LoadError> {
    let Some(threshold) = raw.decision_threshold else {
        return Ok(0.5);
    };
    let got = || format!("{threshold:?} for task {}", raw.task.as_str());
    ensure(raw.task == Task::Binary, MANIFEST, "decision_threshold", "nothing", got)?;
    ensure((0.0..=1.0).contains(&threshold), MANIFEST, "decision_threshold", "a number in [0, 1]", got)?;
    Ok(threshold)
}

fn check_files(files: &[Listed]) -> Result<(), LoadError> {
    let mut seen = HashSet::new();
    for listed in files {
        let path = &listed.path;
        let what = format!("files: {}", shown(path));
        if let Err(expected) = check_path(path) {
            return Err(LoadError::invalid(MANIFEST, "files: path", expected, shown(path)));
        }
        let hexadecimal = listed.sha256.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        let expected = "64 lower-case hexadecimal digits";
        ensure(hexadecimal && listed.sha256.len() == 64, MANIFEST, &what, expected, || shown(&listed.sha256))?;
        let once = "a path that no other path equals, whatever the case";
        ensure(seen.insert(path.to_ascii_lowercase()), MANIFEST, &what, once, || "it again".to_owned())?;
    }
    for needed in [SCHEMA, GRAPH, REFERENCE, GOLDEN] {
        let listed = files.iter().any(|listed| listed.path == needed);
        ensure(listed, MANIFEST, "files", &format!("{needed} among them"), || format!("{} others", files.len()))?;
    }
    Ok(())
}

/// Whether a path stays in the package on every file system; else what would be expected.
fn check_path(path: &str) -> Result<(), &'static str> {
    // Printable ASCII without a colon: no drive letters, no control characters, no two spellings of one name.
    let plain = |byte: u8| byte.is_ascii_graphic() && !matches!(byte, b'\\' | b':');
    if path.is_empty() || path.len() > 512 {
        return Err("1 to 512 bytes");
    }
    if !path.bytes().all(plain) {
        return Err("printable ASCII without space, colon and backslash");
    }
    if path.split('/').any(|part| matches!(part, "" | "." | "..")) {
        return Err("a relative path without empty parts, . and ..");
    }
    if path.eq_ignore_ascii_case(MANIFEST) { Err("every file but the manifest") } else { Ok(()) }
}

fn is_name(name: &str) -> bool {
    let tail = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    name.len() <= 128 && name.starts_with(|first: char| first.is_ascii_alphanumeric()) && name.bytes().all(tail)
}

fn is_version(version: &str) -> bool {
    let digits = !version.starts_with('0') && version.bytes().all(|byte| byte.is_ascii_digit());
    digits && version.parse::<u64>().is_ok_and(|number| i64::try_from(number).is_ok())
}

/// Whether a text has the shape of an RFC 3339 time: nothing here computes with it, so the calendar is not checked.
fn is_time(text: &str) -> bool {
    let shape = |text: &str, pattern: &str| {
        text.len() == pattern.len()
            && text.bytes().zip(pattern.bytes()).all(|(byte, like)| match like {
                b'0' => byte.is_ascii_digit(),
                like => byte.eq_ignore_ascii_case(&like),
            })
    };
    let Some((date_time, rest)) = text.split_at_checked(19) else {
        return false;
    };
    let fraction = rest.strip_prefix('.').map(|digits| digits.trim_start_matches(|c: char| c.is_ascii_digit()));
    let zone = match fraction {
        Some(zone) if zone.len() + 1 == rest.len() => return false,
        Some(zone) => zone,
        None => rest,
    };
    let date = shape(date_time, "0000-00-00T00:00:00") || shape(date_time, "0000-00-00 00:00:00");
    date && (shape(zone, "Z") || shape(zone, "+00:00") || shape(zone, "-00:00"))
}
