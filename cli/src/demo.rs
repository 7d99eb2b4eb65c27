//! `understudy demo`: the whole job on real data, in one process.
//!
//! 1. [`examples`]: the rows, their true labels, the models
//! 2. [`stage`]: an OTLP receiver, the primary, the sidecar with the candidate; each as it would run alone
//! 3. [`traffic`]: a client that sends the rows, and the report that is watched meanwhile
//! 4. [`ending`]: what came of it

use std::{fs::File, io::Write as _, path::PathBuf, process::ExitCode, time::Duration};

use anyhow::Context as _;
use tokio::runtime::{Builder, Runtime};
use understudy::{shutdown, telemetry, v1::Verdict};

use crate::output::{self, Output};

mod ending;
mod examples;
mod stage;
mod traffic;

use ending::Ending;
use examples::Examples;
use stage::Stage;
use traffic::Traffic;

/// How long a person likes to watch, in seconds.
const WATCHED: f64 = 10.0;
/// With few rows there is no need to wait that long.
const SLOWEST: f64 = 400.0;
/// After Ctrl-C.
const INTERRUPTED: u8 = 130;

/// Run the whole job on real data: a primary, a sidecar with a candidate, live traffic, and the verdict
///
/// Starts everything on free ports of this machine and ends by itself. Exits with 0 when the verdict is the right one for
/// the candidate: promote for the good one and the ensemble, reject for the bad one.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Who rehearses: a good retraining, one that went wrong, or an AutoGluon ensemble
    #[arg(long, value_enum, default_value_t = Candidate::Good)]
    candidate: Candidate,
    /// Rows to send; beyond the examples they are sent again [default: all examples]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    rows: Option<u64>,
    /// Rows a second; 0 for as fast as possible [default: such that it takes about 10 s]
    #[arg(long, value_name = "N", value_parser = rate)]
    rate: Option<f64>,
    /// Where the examples are [default: `examples` here, in a directory above, or in one above this program]
    #[arg(long, value_name = "DIR")]
    examples: Option<PathBuf>,
    /// An OpenTelemetry collector that speaks gRPC [default: $OTEL_EXPORTER_OTLP_ENDPOINT; without it a small receiver in
    /// this process counts what comes]
    #[arg(long, value_name = "URL")]
    otlp_endpoint: Option<String>,
    /// Write the report as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Leave everything running at the end, and tell what to try next
    #[arg(long)]
    keep: bool,
    /// What primary and sidecar log: a level, or levels by module
    #[arg(long, value_name = "FILTER", default_value = "error")]
    log: String,
}

/// Who rehearses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Candidate {
    Good,
    Bad,
    Ensemble,
}

impl Candidate {
    /// Its directory among the example models.
    fn model(self) -> &'static str {
        match self {
            Self::Good => "adult-candidate",
            Self::Bad => "adult-candidate-bad",
            Self::Ensemble => "adult-ensemble",
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::Bad => "bad",
            Self::Ensemble => "ensemble",
        }
    }

    /// The agreement that it must prove. Of the example rows the good one agrees on 99.1 %, the bad one on 94.75 %. The
    /// ensemble is another kind of model, more accurate than the primary, and agrees on 97.8 %.
    fn gate(self) -> f64 {
        match self {
            Self::Good | Self::Bad => 0.98,
            Self::Ensemble => 0.96,
        }
    }

    /// What has to come out.
    fn expected(self) -> Verdict {
        match self {
            Self::Good | Self::Ensemble => Verdict::Promote,
            Self::Bad => Verdict::Reject,
        }
    }
}

fn rate(text: &str) -> Result<f64, String> {
    let rate = text.parse().ok().filter(|rate: &f64| rate.is_finite() && *rate >= 0.0);
    rate.ok_or_else(|| "expected a number of rows per second, or 0".into())
}

/// # Errors
/// Something does not start, or fails on the way.
pub(crate) fn run(arguments: &Arguments, output: Output) -> anyhow::Result<ExitCode> {
    let filter = telemetry::filter(&arguments.log).map_err(anyhow::Error::msg)?;
    telemetry::log(filter, telemetry::LogFormat::Text);
    let examples = Examples::load(arguments.examples.as_deref())?;
    // Each process of the real thing has a runtime of its own, so that none can take another's threads.
    let runtimes = Runtimes::new()?;
    let code = runtimes.client.block_on(play(arguments, examples, &runtimes, output));
    runtimes.end();
    code
}

/// A runtime for each part.
#[derive(Debug)]
struct Runtimes {
    client: Runtime,
    primary: Runtime,
    sidecar: Runtime,
}

impl Runtimes {
    fn new() -> anyhow::Result<Self> {
        let runtime = |name: &str| {
            Builder::new_multi_thread().worker_threads(2).thread_name(name).enable_all().build().context("no runtime")
        };
        Ok(Self { client: runtime("client")?, primary: runtime("primary")?, sidecar: runtime("sidecar")? })
    }

    fn end(self) {
        for runtime in [self.client, self.primary, self.sidecar] {
            runtime.shutdown_timeout(Duration::from_secs(1));
        }
    }
}

/// From the first line to the last; whatever happens, what was started is drained.
async fn play(
    arguments: &Arguments,
    examples: Examples,
    runtimes: &Runtimes,
    output: Output,
) -> anyhow::Result<ExitCode> {
    let signal = shutdown::signal().context("no signal handlers")?;
    tokio::pin!(signal);
    let mut stage = Stage::default();
    let played = tokio::select! {
        played = perform(arguments, examples, runtimes, &mut stage, output) => Some(played),
        () = &mut signal => None,
    };
    let code = match played {
        None => {
            // On standard error: the view may still be where the cursor is.
            eprintln!("understudy: interrupted");
            Ok(ExitCode::from(INTERRUPTED))
        }
        Some(Err(error)) => Err(error),
        Some(Ok(passed)) => {
            let kept = if arguments.keep {
                stage.next_steps(output.paint).and_then(|lines| output::lines(&lines))
            } else {
                Ok(())
            };
            if arguments.keep && kept.is_ok() {
                signal.await;
            }
            kept.map(|()| if passed { ExitCode::SUCCESS } else { ExitCode::FAILURE })
        }
    };
    stage.drain(runtimes).await;
    code
}

/// Starts everything, sends the rows and tells what came of it: whether that is as it should be.
async fn perform(
    arguments: &Arguments,
    examples: Examples,
    runtimes: &Runtimes,
    stage: &mut Stage,
    output: Output,
) -> anyhow::Result<bool> {
    // At once: a file that can't be written is better known before than after.
    let named = |path: &PathBuf| path.display().to_string();
    let json = arguments.json.as_ref().map(|path| File::create(path).with_context(|| named(path))).transpose()?;
    let rows = arguments.rows.unwrap_or(examples.rows.len() as u64);
    let rate = arguments.rate.unwrap_or_else(|| (rows as f64 / WATCHED).max(SLOWEST));
    stage.start(arguments, &examples, runtimes).await?;
    output::lines(&stage.introduction(arguments.candidate.model(), output.paint))?;
    let traffic = Traffic::new(examples, rows, rate);
    let sent = traffic::send(traffic, stage, output).await?;
    let collected = stage.collected(sent.compared()).await;
    let ending = Ending::new(arguments.candidate, sent, collected);
    output::lines(&ending.lines(output.paint))?;
    if let Some(mut file) = json {
        writeln!(file, "{:#}", ending.json()).context("the report can't be written")?;
    }
    Ok(ending.problems().is_empty())
}

#[cfg(test)]
mod tests {
    use clap::{Parser, ValueEnum};

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        arguments: Arguments,
    }

    #[test]
    fn the_good_candidate_is_the_default() {
        let line = Line::try_parse_from(["demo"]).expect("no arguments are needed");
        assert_eq!(line.arguments.candidate, Candidate::Good);
        assert_eq!((line.arguments.rows, line.arguments.rate, line.arguments.keep), (None, None, false));
    }

    #[test]
    fn rows_and_rate_are_checked() {
        let parsed = Line::try_parse_from(["demo", "--rows", "20000", "--rate", "0", "--candidate", "bad"]);
        let arguments = parsed.expect("valid").arguments;
        assert_eq!((arguments.rows, arguments.rate), (Some(20_000), Some(0.0)));
        for wrong in [["--rows", "-3"], ["--rate", "fast"], ["--rate", "inf"], ["--candidate", "ugly"]] {
            assert!(Line::try_parse_from(["demo"].iter().chain(&wrong)).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn every_candidate_has_its_verdict() {
        let all: Vec<_> = Candidate::value_variants().iter().map(|c| (c.model(), c.expected())).collect();
        let promoted = [("adult-candidate", Verdict::Promote), ("adult-ensemble", Verdict::Promote)];
        assert_eq!(all, [promoted[0], ("adult-candidate-bad", Verdict::Reject), promoted[1]]);
    }
}
