//! `understudy replay`: a rehearsal on a recording.

use std::{path::PathBuf, process::ExitCode};

use anyhow::Context as _;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use shadow_sidecar::{Settings, recording::Reader, replay::replay, report, report_json};

use crate::{
    output::{self, Output},
    report::exit_code,
    view,
};

/// Let a candidate rehearse on a recording, as fast as this machine can
///
/// Time does not pass here, so there is no least duration before a promotion.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// A package (directory), or a server of the Open Inference Protocol (http(s)://HOST:PORT)
    #[arg(long, value_name = "DIR|URL")]
    candidate: String,
    /// The candidate's name on its server [default: as the primary's]
    #[arg(long, value_name = "NAME")]
    candidate_model: Option<String>,
    /// Which of the primary's models; not needed when the recording holds one only
    #[arg(long, value_name = "NAME")]
    model: Option<String>,
    /// The agreement that a promotion must prove [default: 0.99]
    #[arg(long, value_name = "SHARE")]
    gate: Option<f64>,
    /// The chance of a wrong verdict that is accepted [default: 0.05]
    #[arg(long, value_name = "SHARE")]
    alpha: Option<f64>,
    /// Exchanges to compare before a promotion [default: 1000]
    #[arg(long, value_name = "N")]
    min_pairs: Option<u64>,
    /// Segments of rows to count by themselves: a category's name, or NAME:EDGE,EDGE,... for a number
    #[arg(long, value_name = "SLICE")]
    slices: Vec<String>,
    /// The primary's output with labels, where its server is not understudy-server
    #[arg(long, value_name = "OUTPUT")]
    primary_label_output: Option<String>,
    /// Its output with scores; of a tensor one or several, separated by commas
    #[arg(long, value_name = "OUTPUT")]
    primary_scores_output: Option<String>,
    /// The candidate's output with labels, as for the primary
    #[arg(long, value_name = "OUTPUT")]
    candidate_label_output: Option<String>,
    /// Its output with scores
    #[arg(long, value_name = "OUTPUT")]
    candidate_scores_output: Option<String>,
    /// Values agree when |candidate - primary| <= absolute + relative * |primary| [default: 1e-9]
    #[arg(long, value_name = "X")]
    tolerance_absolute: Option<f64>,
    /// See tolerance-absolute [default: 0.01]
    #[arg(long, value_name = "X")]
    tolerance_relative: Option<f64>,
    /// Print the report as JSON
    #[arg(long)]
    json: bool,
    /// End with 0 for promote, 10 for reject, 11 for undecided
    #[arg(long)]
    exit_code: bool,
    /// A file or a directory that `understudy record` or a sidecar has written
    #[arg(value_name = "RECORDING")]
    recording: PathBuf,
}

/// # Errors
/// The recording can't be read, or the candidate can't rehearse on it.
pub(crate) fn run(arguments: &Arguments, output: Output) -> anyhow::Result<ExitCode> {
    let settings = Settings {
        candidate: Some(arguments.candidate.clone()),
        candidate_model: arguments.candidate_model.clone(),
        primary_model: arguments.model.clone(),
        gate: arguments.gate,
        alpha: arguments.alpha,
        min_pairs: arguments.min_pairs,
        slices: (!arguments.slices.is_empty()).then(|| arguments.slices.clone()),
        min_duration: Some("0s".into()),
        primary_label_output: arguments.primary_label_output.clone(),
        primary_scores_output: arguments.primary_scores_output.clone(),
        candidate_label_output: arguments.candidate_label_output.clone(),
        candidate_scores_output: arguments.candidate_scores_output.clone(),
        tolerance_absolute: arguments.tolerance_absolute,
        tolerance_relative: arguments.tolerance_relative,
        ..Settings::default()
    };
    let config = settings.validate()?;
    let recording = Reader::open(&arguments.recording)?;
    let bar = ProgressBar::with_draw_target(Some(recording.exchanges()), ProgressDrawTarget::stderr());
    let style = "{wide_bar} {human_pos} of {human_len} exchanges, {per_sec}, {eta} left";
    bar.set_style(ProgressStyle::with_template(style).unwrap_or_else(|_| ProgressStyle::default_bar()));
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().context("no runtime")?;
    let replayed = runtime.block_on(replay(&config, recording, |offered| bar.set_position(offered)));
    bar.finish_and_clear();
    let rehearsals = replayed?;
    let report = report::report(rehearsals.named("").map_err(anyhow::Error::msg)?);
    if arguments.json {
        output::line(format_args!("{:#}", report_json::report(&report)))?;
    } else {
        output::lines(&view::lines(&report, output.paint))?;
    }
    Ok(ExitCode::from(if arguments.exit_code { exit_code(report.verdict()) } else { 0 }))
}
