//! `understudy check DIR`: may these packages serve?

use std::{path::PathBuf, process::ExitCode};

use model::Check;
use understudy::{
    source::{self, SourceError},
    status::Chain,
};

use crate::output::{self, Output, Paint};

/// Check a package, a model or a repository, and tell each check
///
/// Exits 1 when a check failed.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// A package, a model (with its versions) or a repository (of models)
    #[arg(value_name = "DIR")]
    directory: PathBuf,
}

/// # Errors
/// There is nothing to check.
pub(crate) fn run(arguments: &Arguments, output: Output) -> anyhow::Result<ExitCode> {
    let packages =
        source::packages(&arguments.directory).map_err(|error| anyhow::Error::msg(Chain(&error).to_string()))?;
    let mut refused = 0;
    for (i, path) in packages.iter().enumerate() {
        let mut checks = model::check(path);
        if checks.iter().all(|check| check.outcome.is_ok()) {
            checks.extend(place(path));
        }
        let passed = checks.iter().all(|check| check.outcome.is_ok());
        refused += usize::from(!passed);
        if i > 0 {
            output::line("")?;
        }
        output::line(output.paint.bold(path.display()))?;
        output::lines(&lines(&checks, output.paint))?;
    }
    if packages.len() > 1 {
        output::line(format_args!("\n{} of {} packages may serve", packages.len() - refused, packages.len()))?;
    }
    Ok(if refused == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// In a repository the directories are the names: what the server would refuse for that reason.
fn place(path: &std::path::Path) -> Option<Check> {
    match source::load(path) {
        Err(error @ SourceError::Misplaced { .. }) => {
            Some(Check { name: "directories".into(), outcome: Err(error.to_string()) })
        }
        _ => None,
    }
}

fn lines(checks: &[Check], paint: Paint) -> Vec<String> {
    let width = checks.iter().map(|check| check.name.chars().count()).max().unwrap_or_default();
    checks
        .iter()
        .map(|check| match &check.outcome {
            Ok(found) => format!("{} {:width$}  {}", paint.green("✓"), check.name, paint.dim(found)),
            Err(why) => format!("{} {:width$}  {why}", paint.red("✗"), check.name),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_check_has_its_mark() {
        let check = |name: &str, outcome| Check { name: name.into(), outcome };
        let checks = [check("manifest", Ok("adult".into())), check("golden rows", Err("row 3 differs".into()))];
        let lines = lines(&checks, Paint { colour: false });
        assert_eq!(lines, ["✓ manifest     adult", "✗ golden rows  row 3 differs"]);
    }
}
