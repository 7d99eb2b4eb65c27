//! `understudy report`: what a sidecar knows.

use std::process::ExitCode;

use anyhow::Context as _;
use shadow_sidecar::disagreements::response_json;
use understudy::{
    shutdown,
    v1::{GetReportRequest, Report, Verdict, WatchReportRequest, shadow_service_client::ShadowServiceClient},
};

use crate::{
    connect::{Shown, failed},
    disagreements,
    live::Live,
    output::{self, Output},
    report_json, view,
};

/// How often a watched report is told.
const INTERVAL_MILLIS: u32 = 500;

/// Show what a sidecar knows about the rehearsal
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The sidecar: HOST:PORT, http://HOST:PORT or unix:PATH
    #[arg(value_name = "ADDRESS", env = "UNDERSTUDY_SIDECAR", default_value = "http://127.0.0.1:8011")]
    address: String,
    #[command(flatten)]
    shown: Shown,
    /// Which candidate, where several rehearse
    #[arg(long, value_name = "NAME", default_value = "", hide_default_value = true)]
    candidate: String,
    /// Follow it until Ctrl-C
    #[arg(long)]
    watch: bool,
    /// Print JSON; with --watch one object a line
    #[arg(long)]
    json: bool,
    /// Show the last N rows on which the models differ, too
    #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true, conflicts_with = "watch",
        value_parser = clap::value_parser!(u32).range(..=10_000))]
    disagreements: u32,
    /// Exit with 0 for promote, 10 for reject, 11 for undecided; with --watch end as soon as it is decided
    #[arg(long)]
    exit_code: bool,
}

/// # Errors
/// Nobody listens there, or it is no sidecar.
pub(crate) fn run(arguments: &Arguments, output: Output) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("no runtime")?;
    let report = runtime.block_on(async {
        if arguments.watch { watch(arguments, output).await } else { get(arguments, output).await }
    })?;
    Ok(ExitCode::from(if arguments.exit_code { exit_code(report.verdict()) } else { 0 }))
}

pub(crate) fn exit_code(verdict: Verdict) -> u8 {
    match verdict {
        Verdict::Promote => 0,
        Verdict::Reject => 10,
        Verdict::Undecided | Verdict::Unspecified => 11,
    }
}

async fn get(arguments: &Arguments, output: Output) -> anyhow::Result<Report> {
    let mut client = ShadowServiceClient::new(arguments.shown.connect(&arguments.address).await?);
    let request = GetReportRequest { candidate: arguments.candidate.clone() };
    let report = client.get_report(request).await.map_err(|status| failed(&status, 0))?.into_inner();
    let differing = match arguments.disagreements {
        0 => None,
        most => Some(disagreements::fetch(&mut client, &arguments.candidate, most).await?),
    };
    if arguments.json {
        let mut json = report_json::report(&report);
        if let Some(all) = &differing {
            json["disagreements"] = response_json(all);
        }
        output::line(format_args!("{json:#}"))?;
    } else {
        output::lines(&view::lines(&report, output.paint))?;
        output::lines(&differing.map(|all| disagreements::lines(&all, output.paint)).unwrap_or_default())?;
    }
    Ok(report)
}

/// Until Ctrl-C; the last report.
async fn watch(arguments: &Arguments, output: Output) -> anyhow::Result<Report> {
    let signal = shutdown::signal().context("no signal handlers")?;
    tokio::pin!(signal);
    let mut client = ShadowServiceClient::new(arguments.shown.connect(&arguments.address).await?);
    let request = WatchReportRequest { interval_millis: INTERVAL_MILLIS, candidate: arguments.candidate.clone() };
    let mut reports = client.watch_report(request).await.map_err(|status| failed(&status, 0))?.into_inner();
    let mut live = Live::new(output);
    let mut last = None;
    let ended = loop {
        let told = tokio::select! {
            told = reports.message() => told,
            () = &mut signal => break Ok(()),
        };
        let report = match told {
            Ok(Some(report)) => report,
            Ok(None) => break Ok(()),
            Err(status) => break Err(failed(&status, 0)),
        };
        if arguments.json {
            output::line(report_json::report(&report))?;
        } else {
            live.show(|paint| view::lines(&report, paint), || view::line(&report))?;
        }
        let decided = matches!(report.verdict(), Verdict::Promote | Verdict::Reject);
        last = Some(report);
        if decided && arguments.exit_code {
            break Ok(());
        }
    };
    live.clear();
    if let Some(report) = last.as_ref().filter(|_| !arguments.json) {
        output::lines(&view::lines(report, output.paint))?;
    }
    ended.map(|()| last.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scripts_can_tell_verdicts_apart() {
        let all = [Verdict::Promote, Verdict::Reject, Verdict::Undecided, Verdict::Unspecified];
        assert_eq!(all.map(exit_code), [0, 10, 11, 11]);
    }
}
