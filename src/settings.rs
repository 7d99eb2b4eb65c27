//! Every setting is a flag, an environment variable and a TOML key of the same name. A flag wins over the environment,
//! the environment over the file, the file over the default.
//!
//! Raw settings are structs of `Option`s that are both a clap parser and a serde document; [`merge`] lays one over the
//! other, and each process then validates the result into a `Config` that can't be wrong, reporting every error at once.

use std::{fmt, path::Path, time::Duration};

use serde::{Serialize, de::DeserializeOwned};

/// Everything that is wrong with a configuration, not only the first thing.
#[derive(Debug, Default)]
pub struct Problems(Vec<String>);

impl Problems {
    /// Notes `problem` with the setting it is about.
    pub fn add(&mut self, setting: &str, problem: impl fmt::Display) {
        self.0.push(format!("{setting}: {problem}"));
    }

    /// The value, or its default with the problem noted: so that the checks that follow can still run.
    pub fn take<T: Default, E: fmt::Display>(&mut self, setting: &str, value: Result<T, E>) -> T {
        value.unwrap_or_else(|error| {
            self.add(setting, error);
            T::default()
        })
    }

    /// A duration such as `500ms`, `5s`, `2m`; `default` if it is not set.
    pub fn duration(&mut self, setting: &str, text: Option<&str>, default: Duration) -> Duration {
        match text.map(humantime::parse_duration) {
            None => default,
            Some(Ok(duration)) => duration,
            Some(Err(error)) => {
                self.add(setting, format_args!("expected a duration such as 500ms or 5s, got {text:?}: {error}"));
                default
            }
        }
    }

    /// A number inside `range`; `default` if it is not set.
    pub fn number<T: PartialOrd + fmt::Display + Copy>(
        &mut self,
        setting: &str,
        value: Option<T>,
        default: T,
        range: std::ops::RangeInclusive<T>,
    ) -> T {
        let value = value.unwrap_or(default);
        if !range.contains(&value) {
            self.add(setting, format_args!("expected {} to {}, got {value}", range.start(), range.end()));
        }
        value
    }

    /// `value` if nothing was noted.
    pub fn into_result<T>(self, value: T) -> Result<T, Problems> {
        if self.0.is_empty() { Ok(value) } else { Err(self) }
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, problem) in self.0.iter().enumerate() {
            if i > 0 {
                out.write_str("\n")?;
            }
            out.write_str(problem)?;
        }
        Ok(())
    }
}

impl std::error::Error for Problems {}

/// Lays `flags` (and environment variables) over the TOML document `file`.
///
/// # Errors
/// The document is not TOML, has a key that is no setting, or a value of the wrong type; with line and column.
pub fn merge<S: Serialize + DeserializeOwned>(flags: &S, file: &str) -> Result<S, Problems> {
    let problem = |error: &dyn fmt::Display| {
        let mut problems = Problems::default();
        problems.add("config", error);
        problems
    };
    // First by itself, for an error that shows the place in the file.
    let _: S = toml::from_str(file).map_err(|error| problem(&error))?;
    let mut table: toml::Table = toml::from_str(file).map_err(|error| problem(&error))?;
    let flags = toml::Table::try_from(flags).map_err(|error| problem(&error))?;
    table.extend(flags);
    table.try_into().map_err(|error: toml::de::Error| problem(&error))
}

/// Reads the file if there is one and lays `flags` over it.
///
/// # Errors
/// As [`merge`], or the file can't be read.
pub fn load<S: Serialize + DeserializeOwned>(flags: &S, file: Option<&Path>) -> Result<S, Problems> {
    let text = match file {
        None => String::new(),
        Some(path) => std::fs::read_to_string(path).map_err(|error| {
            let mut problems = Problems::default();
            problems.add("config", format_args!("{}: {error}", path.display()));
            problems
        })?,
    };
    merge(flags, &text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
    #[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
    struct Raw {
        grpc_listen: Option<String>,
        workers: Option<usize>,
        models: Option<Vec<String>>,
    }

    #[test]
    fn flags_win_over_the_file() {
        let flags = Raw { workers: Some(2), ..Raw::default() };
        let merged = merge(&flags, "workers = 1\ngrpc-listen = \"[::]:1\"").expect("valid");
        assert_eq!(merged, Raw { grpc_listen: Some("[::]:1".into()), workers: Some(2), models: None });
    }

    #[test]
    fn unknown_keys_are_refused_with_their_line() {
        let error = merge(&Raw::default(), "workers = 1\nworker = 2").expect_err("unknown key").to_string();
        assert!(error.contains("line 2") && error.contains("worker"), "{error}");
    }

    #[test]
    fn all_problems_are_told_at_once() {
        let mut problems = Problems::default();
        problems.duration("drain-delay", Some("soon"), Duration::ZERO);
        problems.number("sample-rate", Some(2.0), 1.0, 0.0..=1.0);
        let text = problems.into_result(()).expect_err("two problems").to_string();
        assert!(text.contains("drain-delay") && text.contains("sample-rate"), "{text}");
    }
}
