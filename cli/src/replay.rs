//! `understudy replay`: a rehearsal on a recording.

use std::{path::PathBuf, process::ExitCode};

use anyhow::Context as _;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use shadow_sidecar::{Settings, recording::Reader, replay::replay, report, report_json};
use understudy::{
    settings::{self, Problems},
    v1::{Report, Verdict},
};

use crate::{
    output::{self, Output},
    report::exit_code,
    view,
};

/// Let a candidate rehearse on a recording, as fast as this machine can
///
/// What is not said here is as in the sidecar's file that --config names. Time does not pass here, so there is no least duration
/// before a promotion.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The sidecar's configuration, so that a candidate rehearses as it would there
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// A package (directory), or a server of the Open Inference Protocol (http(s)://HOST:PORT) [default: those of the file]
    #[arg(long, value_name = "DIR|URL", required_unless_present = "config")]
    candidate: Option<String>,
    /// The candidate's name on its server [default: as the primary's]
    #[arg(long, value_name = "NAME")]
    candidate_model: Option<String>,
    /// Which of the primary's models; not needed when the recording holds one only
    #[arg(long, value_name = "NAME")]
    model: Option<String>,
    #[command(flatten)]
    gates: Gates,
    #[command(flatten)]
    outputs: Outputs,
    /// Segments of rows to count by themselves: a category's name, NAME=VALUE,VALUE,..., or NAME:EDGE,EDGE,... for a number
    #[arg(long, value_name = "SLICE")]
    slices: Vec<String>,
    /// Values agree when |candidate - primary| <= absolute + relative * |primary| [default: 1e-9]
    #[arg(long, value_name = "X")]
    tolerance_absolute: Option<f64>,
    /// See tolerance-absolute [default: 0.01]
    #[arg(long, value_name = "X")]
    tolerance_relative: Option<f64>,
    /// Print the report as JSON; of several candidates one for each name
    #[arg(long)]
    json: bool,
    /// End with 0 for promote, 10 for reject, 11 for undecided; of several candidates for the worst of them
    #[arg(long)]
    exit_code: bool,
    /// A file or a directory that `understudy record` or a sidecar has written
    #[arg(value_name = "RECORDING")]
    recording: PathBuf,
}

/// What a verdict must prove, as the sidecar's settings of the same names.
#[derive(Debug, clap::Args)]
struct Gates {
    /// The agreement that a promotion must prove [default: 0.99]
    #[arg(long, value_name = "SHARE")]
    gate: Option<f64>,
    /// Proven agreement below this is a rejection [default: the gate]
    #[arg(long, value_name = "SHARE")]
    abort: Option<f64>,
    /// The chance of a wrong verdict that is accepted [default: 0.05]
    #[arg(long, value_name = "SHARE")]
    alpha: Option<f64>,
    /// Exchanges to compare before a promotion [default: 1000]
    #[arg(long, value_name = "N")]
    min_pairs: Option<u64>,
    /// Below this share of compared rows or exchanges, missing exchanges count as disagreements; 1: always [default: 0.95]
    #[arg(long, value_name = "SHARE")]
    min_coverage: Option<f64>,
    /// The share of exchanges on which the candidate may fail [default: 0.01]
    #[arg(long, value_name = "SHARE")]
    max_error_rate: Option<f64>,
    /// A promotion must also be proven for agreement that drifts [default: false]
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    drift_robust: Option<bool>,
    /// A candidate proven to take more than this many times the primary's time is not promoted; the candidate's time is today's
    /// [default: none]
    #[arg(long, value_name = "X")]
    max_latency_ratio: Option<f64>,
    /// The share of exchanges in which it may [default: 0.5]
    #[arg(long, value_name = "SHARE")]
    max_slower_share: Option<f64>,
    /// The stability index of the scores above which there is no promotion [default: none]
    #[arg(long, value_name = "X")]
    max_score_psi: Option<f64>,
    /// Classification: the mean score must be proven to have moved by at most this [default: none]
    #[arg(long, value_name = "X")]
    max_score_shift: Option<f64>,
    /// A slice is named when its agreement is proven to be below the gate by more than this [default: 0]
    #[arg(long, value_name = "SHARE")]
    slice_margin: Option<f64>,
}

/// How outputs are read where a server is not understudy-server, as the sidecar's settings of the same names.
#[derive(Debug, clap::Args)]
struct Outputs {
    /// The primary's output with labels
    #[arg(long, value_name = "OUTPUT")]
    primary_label_output: Option<String>,
    /// Its output with scores; of a tensor one or several, separated by commas
    #[arg(long, value_name = "OUTPUT")]
    primary_scores_output: Option<String>,
    /// How a class follows from its scores where it gives no label: "argmax", or "threshold=X"
    #[arg(long, value_name = "DECISION")]
    primary_decision: Option<String>,
    /// The classes of a candidate on a server, in the order of its probabilities [default: the primary's]
    #[arg(long, value_name = "CLASS", value_delimiter = ',')]
    candidate_classes: Option<Vec<String>>,
    /// Its output with labels, as for the primary
    #[arg(long, value_name = "OUTPUT")]
    candidate_label_output: Option<String>,
    /// Its output with scores
    #[arg(long, value_name = "OUTPUT")]
    candidate_scores_output: Option<String>,
    /// How a class follows from them
    #[arg(long, value_name = "DECISION")]
    candidate_decision: Option<String>,
}

impl Arguments {
    fn settings(&self) -> Result<Settings, Problems> {
        let Self { gates, outputs, .. } = self;
        let flags = Settings {
            candidate: self.candidate.clone(),
            candidate_model: self.candidate_model.clone(),
            primary_model: self.model.clone(),
            gate: gates.gate,
            abort: gates.abort,
            alpha: gates.alpha,
            min_pairs: gates.min_pairs,
            min_duration: Some("0s".into()),
            min_coverage: gates.min_coverage,
            max_error_rate: gates.max_error_rate,
            drift_robust: gates.drift_robust,
            max_latency_ratio: gates.max_latency_ratio,
            max_slower_share: gates.max_slower_share,
            max_score_psi: gates.max_score_psi,
            max_score_shift: gates.max_score_shift,
            slice_margin: gates.slice_margin,
            slices: (!self.slices.is_empty()).then(|| self.slices.clone()),
            primary_label_output: outputs.primary_label_output.clone(),
            primary_scores_output: outputs.primary_scores_output.clone(),
            primary_decision: outputs.primary_decision.clone(),
            candidate_classes: outputs.candidate_classes.clone(),
            candidate_label_output: outputs.candidate_label_output.clone(),
            candidate_scores_output: outputs.candidate_scores_output.clone(),
            candidate_decision: outputs.candidate_decision.clone(),
            tolerance_absolute: self.tolerance_absolute,
            tolerance_relative: self.tolerance_relative,
            ..Settings::default()
        };
        let mut settings = settings::load(&flags, self.config.as_deref())?;
        if self.candidate.is_some() {
            // Instead of all that the file lets rehearse.
            settings.candidates = None;
        }
        Ok(settings)
    }
}

/// # Errors
/// The recording can't be read, or the candidate can't rehearse on it.
pub(crate) fn run(arguments: &Arguments, output: Output) -> anyhow::Result<ExitCode> {
    let config = arguments.settings()?.validate()?;
    let recording = Reader::open(&arguments.recording)?;
    let bar = ProgressBar::with_draw_target(Some(recording.exchanges()), ProgressDrawTarget::stderr());
    let style = "{wide_bar} {human_pos} of {human_len} exchanges, {per_sec}, {eta} left";
    bar.set_style(ProgressStyle::with_template(style).unwrap_or_else(|_| ProgressStyle::default_bar()));
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().context("no runtime")?;
    let replayed = runtime.block_on(replay(&config, recording, |offered| bar.set_position(offered)));
    bar.finish_and_clear();
    let rehearsals = replayed?;
    // There is no way in that could be up or down.
    let reports: Vec<(String, Report)> = rehearsals
        .all()
        .iter()
        .map(|rehearsal| (rehearsal.name(), Report { intake: None, ..report::report(rehearsal) }))
        .collect();
    if arguments.json {
        let json = match reports.as_slice() {
            [(_, only)] => report_json::report(only),
            all => all.iter().map(|(name, report)| (name.clone(), report_json::report(report))).collect(),
        };
        output::line(format_args!("{json:#}"))?;
    } else {
        for (index, (_, report)) in reports.iter().enumerate() {
            if index > 0 {
                output::line("")?;
            }
            output::lines(&view::lines(report, output.paint))?;
        }
    }
    let worst = [Verdict::Reject, Verdict::Undecided]
        .into_iter()
        .find(|worst| reports.iter().any(|(_, report)| report.verdict() == *worst));
    Ok(ExitCode::from(if arguments.exit_code { exit_code(worst.unwrap_or(Verdict::Promote)) } else { 0 }))
}
