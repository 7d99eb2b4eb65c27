//! `understudy`, for people:
//!
//! * [`demo`] — the whole job on real data: primary, sidecar, traffic, verdict
//! * [`check`] — may this package serve?
//! * [`predict`] — rows to a server, answers to the terminal
//! * [`report`] — what a sidecar knows, or several of them ([`replicas`]) together; [`disagreements`] — examples of what the models
//!   differ on
//! * [`record`] — a server's exchanges to Parquet files; [`replay`] — a rehearsal on them
//! * [`load`] — how much a server takes, and what it costs it
//!
//! What they share: [`connect`] (an address becomes a channel, a status an error), [`view`] and [`report_json`] (a report
//! for people and for programs), [`live`] (a view that is redrawn), [`receiver`] (OTLP, counted), [`words`], [`output`].

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use shadow_sidecar::report_json;

mod check;
mod connect;
mod demo;
mod disagreements;
mod live;
mod load;
mod output;
mod predict;
mod receiver;
mod record;
mod replay;
mod replicas;
mod report;
mod view;
mod words;

/// Rehearses a candidate model on the primary's live traffic and says when it may take over
///
/// Exit codes: 0 when it is done, 1 when it failed, 64 for wrong arguments, 130 after Ctrl-C.
#[derive(Debug, Parser)]
#[command(name = "understudy", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Demo(demo::Arguments),
    Check(check::Arguments),
    Predict(predict::Arguments),
    Report(report::Arguments),
    Record(record::Arguments),
    Replay(Box<replay::Arguments>),
    Load(load::Arguments),
}

fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            // Help and version are no errors; that standard output is closed is nobody's concern.
            drop(error.print());
            return ExitCode::from(if error.use_stderr() { 64 } else { 0 });
        }
    };
    let output = output::Output::new();
    let result = match arguments.command {
        Command::Demo(arguments) => demo::run(&arguments, output),
        Command::Check(arguments) => check::run(&arguments, output),
        Command::Predict(arguments) => predict::run(&arguments, output),
        Command::Report(arguments) => report::run(&arguments, output),
        Command::Record(arguments) => record::run(&arguments, output),
        Command::Replay(arguments) => replay::run(&arguments, output),
        Command::Load(arguments) => load::run(&arguments),
    };
    match result {
        Ok(code) => code,
        // As with `understudy ... | head`: the reader has seen enough.
        Err(error) if error.is::<output::Closed>() => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("understudy: {error:#}");
            ExitCode::FAILURE
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn wrong_arguments_are_refused() {
        for line in [
            "understudy",
            "understudy demo --candidate worse",
            "understudy demo --rows 0",
            "understudy demo --rate -1",
            "understudy check",
            "understudy predict --batch 0 {}",
            "understudy report --require-all=no a",
        ] {
            assert!(Arguments::try_parse_from(line.split(' ')).is_err(), "{line}");
        }
    }
}
