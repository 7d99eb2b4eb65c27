//! `understudy report`: what a sidecar knows, or several of them together.

use std::{process::ExitCode, time::Duration};

use anyhow::{Context as _, bail};
use shadow_sidecar::{
    disagreements::response_json,
    pooling::{Memory, Pool, pool},
};
use understudy::{
    shutdown,
    v1::{GetReportRequest, Report, Verdict, WatchReportRequest, shadow_service_client::ShadowServiceClient},
};

use crate::{
    connect::{Shown, failed},
    disagreements,
    live::Live,
    output::{self, Output, Paint},
    replicas::{self, Replicas},
    report_json, view,
};

/// How often a watched report is told.
const INTERVAL_MILLIS: u32 = 500;
/// Between two looks at several sidecars.
const LOOK: Duration = Duration::from_secs(1);

/// Show what a sidecar knows about the rehearsal, or what several of them know together
///
/// Counters of several sidecars are added up, and bounds and verdict are computed once, from the sums: as if one had seen all.
/// Sidecars with other versions, gates or comparators are named and left out, and so are those that do not answer.
#[derive(Debug, clap::Args)]
#[expect(clippy::struct_excessive_bools, reason = "flags of a command line")]
pub(crate) struct Arguments {
    /// The sidecar: HOST:PORT, http(s)://HOST:PORT or unix:PATH. Several are pooled; dns:NAME[:PORT] stands for all
    /// addresses of a name, such as those of a headless service, and dns:https://NAME[:PORT] for the same over TLS
    #[arg(
        value_name = "ADDRESS",
        env = "UNDERSTUDY_SIDECAR",
        default_value = "http://127.0.0.1:8011",
        value_delimiter = ','
    )]
    addresses: Vec<String>,
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
    /// Several sidecars: fail unless all of them are in the report
    #[arg(long)]
    require_all: bool,
}

/// # Errors
/// Nobody listens there, or it is no sidecar; of several, none can be pooled, or not all of them where that is required.
pub(crate) fn run(arguments: &Arguments, output: Output) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("no runtime")?;
    let several = replicas::are_several(&arguments.addresses);
    if several && arguments.disagreements > 0 {
        bail!("--disagreements are those of one sidecar: counters add up, examples do not");
    }
    let report = runtime.block_on(async {
        match (arguments.addresses.as_slice(), several) {
            ([address], false) if arguments.watch => watch(arguments, address, output).await,
            ([address], false) => get(arguments, address, output).await,
            _ if arguments.watch => watch_several(arguments, output).await,
            _ => get_several(arguments, output).await,
        }
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

async fn get(arguments: &Arguments, address: &str, output: Output) -> anyhow::Result<Report> {
    let mut client = ShadowServiceClient::new(arguments.shown.connect(address).await?);
    let request = GetReportRequest { candidate: arguments.candidate.clone(), counters: false };
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
async fn watch(arguments: &Arguments, address: &str, output: Output) -> anyhow::Result<Report> {
    let signal = shutdown::signal().context("no signal handlers")?;
    tokio::pin!(signal);
    let mut client = ShadowServiceClient::new(arguments.shown.connect(address).await?);
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

async fn get_several(arguments: &Arguments, output: Output) -> anyhow::Result<Report> {
    let mut replicas = Replicas::new(&arguments.addresses, &arguments.candidate, &arguments.shown)?;
    let pool = pool(&replicas.ask().await, &mut Memory::default());
    if arguments.json && pool.report.is_some() {
        output::line(format_args!("{:#}", pooled_json(&pool)))?;
    } else if pool.report.is_some() {
        output::lines(&pooled_lines(&pool, output.paint))?;
    }
    the_report(pool, arguments.require_all)
}

/// Until Ctrl-C; the last report.
async fn watch_several(arguments: &Arguments, output: Output) -> anyhow::Result<Report> {
    let signal = shutdown::signal().context("no signal handlers")?;
    tokio::pin!(signal);
    let mut replicas = Replicas::new(&arguments.addresses, &arguments.candidate, &arguments.shown)?;
    let (mut memory, mut live) = (Memory::default(), Live::new(output));
    let mut ticks = tokio::time::interval(LOOK);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut last = Pool { report: None, replicas: Vec::new() };
    loop {
        let look = async {
            ticks.tick().await;
            replicas.ask().await
        };
        let answers = tokio::select! {
            answers = look => answers,
            () = &mut signal => break,
        };
        let pool = pool(&answers, &mut memory);
        if arguments.json {
            output::line(pooled_json(&pool))?;
        } else {
            live.show(|paint| pooled_lines(&pool, paint), || pooled_line(&pool))?;
        }
        let verdict = pool.report.as_ref().map(Report::verdict);
        let complete = !arguments.require_all || pool.missing().next().is_none();
        last = pool;
        if arguments.exit_code && complete && matches!(verdict, Some(Verdict::Promote | Verdict::Reject)) {
            break;
        }
    }
    live.clear();
    if !arguments.json && last.report.is_some() {
        output::lines(&pooled_lines(&last, output.paint))?;
    }
    if last.replicas.is_empty() {
        return Ok(Report::default());
    }
    the_report(last, arguments.require_all)
}

fn the_report(pool: Pool, require_all: bool) -> anyhow::Result<Report> {
    match pool.report {
        Some(_) if require_all && pool.missing().next().is_some() => bail!("{}", replicas::incomplete(&pool)),
        Some(report) => Ok(report),
        None => bail!("{}", replicas::incomplete(&pool)),
    }
}

fn pooled_lines(pool: &Pool, paint: Paint) -> Vec<String> {
    let mut lines = replicas::lines(pool, paint);
    if let Some(report) = &pool.report {
        lines.extend(view::lines(report, paint));
    }
    lines
}

fn pooled_line(pool: &Pool) -> String {
    match &pool.report {
        Some(report) => format!("{} of {} replicas: {}", pool.pooled(), pool.all(), view::line(report)),
        None => replicas::incomplete(pool),
    }
}

/// The report with one key more, `pool`; without a report that key alone.
fn pooled_json(pool: &Pool) -> serde_json::Value {
    let mut json = pool.report.as_ref().map_or_else(|| serde_json::json!({}), report_json::report);
    json["pool"] = replicas::json(pool);
    json
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
