//! Measures our tree engines and their peers, on one thread, alternating, on the same rows.
//!
//! `bench/trees/run` prepares everything and starts this; see `bench/README.md`.

mod case;
mod clock;
mod engine;
mod machine;
mod measure;
mod ours;
mod peers;
mod report;

use std::path::PathBuf;
use std::process::ExitCode;

/// What failed, for people.
pub type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

/// How much to measure.
#[derive(Debug)]
pub struct Plan {
    pub repeats: usize,
    pub rows: usize,
    pub batches: Vec<usize>,
    /// Also each of our ways alone.
    pub ways: bool,
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Outcome<()> {
    let mut plan = Plan { repeats: 5, rows: 10_000, batches: vec![1, 100, 10_000], ways: false };
    let (mut cache, mut out, mut python, mut script) = (None, None, None, None);
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().ok_or(format!("{argument} needs a value"));
        match argument.as_str() {
            "--cache" => cache = Some(PathBuf::from(value()?)),
            "--out" => out = Some(PathBuf::from(value()?)),
            "--python" => python = Some(PathBuf::from(value()?)),
            "--serve" => script = Some(PathBuf::from(value()?)),
            "--repeats" => plan.repeats = value()?.parse()?,
            "--rows" => plan.rows = value()?.parse()?,
            "--ways" => plan.ways = true,
            other => return Err(format!("unknown argument: {other}").into()),
        }
    }
    plan.repeats = plan.repeats.max(1);
    plan.batches.retain(|&batch| batch <= plan.rows);
    let cache = cache.ok_or("--cache is needed")?;
    let process = peers::Process::new(&python.ok_or("--python is needed")?, &script.ok_or("--serve is needed")?);
    let cases: case::Cases = serde_json::from_slice(&std::fs::read(cache.join("cases.json"))?)?;
    let before = machine::Machine::now();
    let mut results = Vec::new();
    for case in &cases.cases {
        match measure::case(case, &plan, &process) {
            Ok(result) => {
                print!("{}", report::full(&result, report::Style::Aligned));
                results.push(result);
            }
            // One model must not take the others' figures with it.
            Err(error) => eprintln!("without {}: {error}", case.name),
        }
    }
    report::write(&results, &plan, &before, &machine::Machine::now(), &out.unwrap_or(cache))
}
