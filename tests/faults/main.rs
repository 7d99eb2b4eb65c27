//! The promises P1 to P8 of `reliability.md` against processes of the server and the sidecar, on loopback.
//! `tests/faults/run` builds and starts this.

#![allow(clippy::print_stdout, reason = "that is what it is for")]

use std::{path::PathBuf, process::ExitCode, time::Duration};

use clap::Parser;
use support::promises::Report;

mod answers;
mod candidate;
mod exact;
mod hops;
mod isolation;
mod measure;
mod outlet;
mod stage;
mod watch;

use stage::Cast;
use watch::Looks;

/// Lets candidates, sidecars and collectors fail, and looks at the primary's clients.
#[derive(Parser)]
struct Arguments {
    /// `understudy-server`
    #[arg(long)]
    server: PathBuf,
    /// `shadow-sidecar`
    #[arg(long)]
    sidecar: PathBuf,
    /// Fewer and shorter windows
    #[arg(long)]
    quick: bool,
    /// Only this promise, such as P3; several with commas
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// Requests a second
    #[arg(long, default_value_t = 5_000)]
    rate: u32,
    /// Pairs of windows, with shadowing and without [default: 7, 3 with --quick]
    #[arg(long)]
    pairs: Option<usize>,
    /// Length of a window in seconds [default: 20, 4 with --quick]
    #[arg(long)]
    window: Option<u64>,
    /// The core that server and sidecar are pinned to; clients should be on others
    #[arg(long)]
    core: Option<usize>,
    /// The core that candidates run on, while nobody else wants it
    #[arg(long)]
    candidate_core: Option<usize>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build() {
        Ok(runtime) => runtime.block_on(run(&arguments)),
        Err(error) => {
            eprintln!("no runtime: {error}");
            ExitCode::from(70)
        }
    }
}

async fn run(arguments: &Arguments) -> ExitCode {
    let quick = arguments.quick;
    if let Some(core) = arguments.candidate_core {
        candidate::on_core(core);
    }
    let cast = Cast {
        server: arguments.server.clone(),
        sidecar: arguments.sidecar.clone(),
        setup: arguments.core.map(|core| format!("taskset -cp {core} $$ >/dev/null")).unwrap_or_default(),
        rate: arguments.rate,
        pairs: arguments.pairs.unwrap_or(if quick { 3 } else { 7 }),
        window: Duration::from_secs(arguments.window.unwrap_or(if quick { 4 } else { 20 })),
        quick,
    };
    let wanted =
        |name: &str| arguments.only.is_empty() || arguments.only.iter().any(|only| only.eq_ignore_ascii_case(name));
    let mut report = Report::default();
    let mut looks = Looks::default();
    Report::heading();
    let report = &mut report;
    if wanted("P1") {
        let done = isolation::hanging(report, &cast, &mut looks).await;
        went(report, "P1", done);
        let done = isolation::hanging_behind_proxy(report, &cast, &mut looks).await;
        went(report, "P1", done);
    }
    if wanted("P2") {
        let done = isolation::faulty(report, &cast, &mut looks).await;
        went(report, "P2", done);
    }
    if wanted("P3") {
        let done = isolation::killed(report, &cast).await;
        went(report, "P3", done);
    }
    if wanted("P4") {
        let done = outlet::last_figures(report, &cast).await;
        went(report, "P4", done);
    }
    if looks.taken + looks.broken > 0 {
        let text = format!("{} looks, {} broken", looks.taken, looks.broken);
        let kept = looks.broken == 0 && looks.taken > 50;
        report.line(
            "P4",
            "report and metrics, 20 times a second",
            "offered = all ends + in flight, exactly",
            &text,
            kept,
        );
        if let Some(first) = &looks.first {
            println!("     {first}");
        }
    }
    if wanted("P5") {
        let done = answers::equal(report, &cast).await;
        went(report, "P5", done);
    }
    if wanted("P6") {
        let done = hops::kept(report, &cast).await;
        went(report, "P6", done);
    }
    if wanted("P7") {
        let done = outlet::bounded(report, &cast).await;
        went(report, "P7", done);
    }
    if wanted("P8") {
        let done = exact::counted(report, &cast).await;
        went(report, "P8", done);
    }
    if report.summary() == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// What could not be done was not kept.
fn went(report: &mut Report, promise: &str, done: anyhow::Result<()>) {
    if let Err(error) = done {
        let text: String = format!("{error:#}").chars().take(300).collect();
        report.line(promise, "all of it", "can be tested", &text, false);
    }
}
