//! The bad-input corpus and the promises P9 to P25 and P43 to P50 of `reliability.md` against processes of the server, on
//! loopback. `tests/abuse/run` builds and starts this.

#![allow(clippy::unwrap_used, reason = "the tables of the end-to-end tests are used here, too")]
#![allow(clippy::print_stdout, reason = "that is what it is for")]

use std::{path::PathBuf, process::ExitCode, time::Duration};

use clap::Parser;
use support::{machine, promises::Report, target::How};

mod flood;
mod life;
mod limits;
mod load;
mod privacy;
mod shares;
mod stall;
mod table;
mod victim;

/// Attacks a server of its own.
#[derive(Parser)]
struct Arguments {
    /// `understudy-server`
    #[arg(long)]
    server: PathBuf,
    /// Fewer and shorter attacks
    #[arg(long)]
    quick: bool,
    /// Only this: corpus, or a promise such as P18
    #[arg(long)]
    only: Option<String>,
    /// How long P16 lasts [default: 60s, 15s with --quick]
    #[arg(long)]
    soak: Option<String>,
    /// The core that the server is pinned to; the attacks should run on others
    #[arg(long)]
    server_core: Option<usize>,
}

/// As many connections of one address as the attacks may want; the caps have tests of their own.
const ROOMY: [&str; 2] = ["--max-connections-per-address", "1000"];

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let soak =
        arguments.soak.as_deref().map_or(Ok(Duration::from_secs(if arguments.quick { 15 } else { 60 })), seconds);
    let soak = match soak {
        Ok(soak) => soak,
        Err(text) => {
            eprintln!("--soak: expected a number with s, m or h, got {text:?}");
            return ExitCode::from(64);
        }
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    match runtime {
        Ok(runtime) => runtime.block_on(run(&arguments, soak)),
        Err(error) => {
            eprintln!("no runtime: {error}");
            ExitCode::from(70)
        }
    }
}

fn seconds(text: &str) -> Result<Duration, String> {
    let (number, unit) = text.split_at(text.len().saturating_sub(1));
    let unit = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3_600,
        _ => return Err(text.into()),
    };
    number.parse::<u64>().map(|number| Duration::from_secs(number * unit)).map_err(|_| text.into())
}

async fn run(arguments: &Arguments, soak: Duration) -> ExitCode {
    let quick = arguments.quick;
    let wanted = |name: &str| arguments.only.as_deref().is_none_or(|only| only.eq_ignore_ascii_case(name));
    let setup = arguments.server_core.map(|core| format!("taskset -cp {core} $$ >/dev/null")).unwrap_or_default();
    let how = How::Process { binary: arguments.server.clone(), setup };
    let mut wrong = 0;
    if wanted("corpus") {
        let (text, complaints) = table::run(&how).await;
        println!("{text}");
        wrong += usize::from(complaints > 0);
    }
    if arguments.only.as_deref().is_some_and(|only| only.eq_ignore_ascii_case("corpus")) {
        return exit(wrong);
    }
    // A flag that this server does not have is left out.
    let flags: Vec<&str> = match how.start(&ROOMY).await {
        Ok(_) => ROOMY.to_vec(),
        Err(_) => Vec::new(),
    };
    let mut report = Report::default();
    Report::heading();
    let report = &mut report;
    promises(report, &how, &flags, quick, soak, &wanted).await;
    exit(wrong + report.summary())
}

fn exit(wrong: usize) -> ExitCode {
    if wrong == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

async fn promises(
    report: &mut Report,
    how: &How,
    flags: &[&str],
    quick: bool,
    soak: Duration,
    wanted: &impl Fn(&str) -> bool,
) {
    let one = ["--workers", "1"];
    let with_one = [flags, &one].concat();
    if wanted("P9") || wanted("P10") {
        load::overload(report, how, &with_one, Duration::from_secs(if quick { 6 } else { 60 })).await;
    }
    if wanted("P11") {
        limits::bytes_in_flight(report, how, flags).await;
        shares::half_open(report, how).await;
    }
    if wanted("P12") {
        limits::deadlines(report, how, flags, if quick { 100 } else { 400 }).await;
    }
    let window = Duration::from_secs(if quick { 2 } else { 5 });
    // One server for all that must not harm it; as configured by default, so that the caps hold.
    let target = match how.start(&[]).await {
        Ok(target) => target,
        Err(why) => return report.line("", "a server by default", "starts", &why, false),
    };
    if machine::rss(target.pid()) == 0 || !machine::reset_peak(target.pid()) {
        return report.line("", "/proc", "tells the memory of the server", "does not", false);
    }
    let baseline = victim::Baseline::measure(target.grpc, window).await;
    println!("     victim alone: p99 {:.1?}, next to a busy thread {:.1?}", baseline.quiet, baseline.floor);
    if wanted("P13") {
        limits::cancellations(report, &target, if quick { 4_000 } else { 10_000 }).await;
    }
    if wanted("P14") {
        report.not_applicable(
            "P14",
            "panic of a handler",
            "no request makes one panic; see server/src/compute.rs, src/edge",
        );
    }
    if wanted("P15") {
        limits::amplification(report, how, flags).await;
    }
    if wanted("P16") {
        life::soak(report, &target, soak).await;
    }
    if wanted("P17") {
        load::tenants(report, how, &with_one, Duration::from_secs(if quick { 4 } else { 20 })).await;
    }
    // Servers of their own where memory is measured: what others have left behind would be used again.
    if let (true, Ok(target)) = (wanted("P18"), how.start(&[]).await) {
        flood::resets(report, &target, baseline).await;
        flood::open_streams(report, &target, baseline).await;
    }
    if let (true, Ok(target)) = (wanted("P19"), how.start(&[]).await) {
        flood::control_frames(report, &target, baseline).await;
    }
    if wanted("P20") {
        stall::silent(report, &target, baseline, if quick { 300 } else { 1_000 }).await;
        stall::stalled_calls(report, &target, quick).await;
    }
    if let (true, Ok(target)) = (wanted("P10") || wanted("P20"), how.start(&[]).await) {
        shares::admin(report, &target).await;
        shares::stalled_admin(report, &target).await;
    }
    if let (true, Ok(target)) = (wanted("P21"), how.start(&[]).await) {
        stall::readers(report, &target, quick).await;
    }
    if let (true, Ok(target)) = (wanted("P21"), how.start(&[]).await) {
        shares::unread(report, &target, quick).await;
    }
    if wanted("P22") {
        stall::descriptors(report, how, &[]).await;
    }
    if wanted("P23") {
        report.not_applicable("P23", "h2spec", "run by tests/interop/run");
    }
    if wanted("P24") {
        limits::settings(report, &target).await;
    }
    if wanted("P25") {
        life::age(report, how, flags).await;
    }
    for (promise, what, why) in [
        ("P26", "P26 to P32, reload", "models are loaded at the start only"),
        ("P33", "P33 to P40, feedback", "there is no FeedbackService yet"),
    ] {
        if wanted(promise) {
            report.not_applicable(promise, what, why);
        }
    }
    if wanted("P41") {
        life::drain(report, how, flags).await;
    }
    for (promise, what, why) in [
        ("P43", "certificates", "S6 above; all kinds and rotation in tests/e2e/identity.rs"),
        ("P44", "roles of methods", "S1 to S4 above; every method and role in tests/e2e/identity.rs"),
        ("P45", "admin, reflection", "S7 and S8 above"),
    ] {
        if wanted(promise) {
            report.not_applicable(promise, what, why);
        }
    }
    if wanted("P46") || wanted("P49") {
        privacy::canary(report, how, flags).await;
    }
    if wanted("P47") {
        report.not_applicable("P47", "disagreement log, OTLP", "the sidecar's; see tests/e2e/rehearsal");
    }
    if wanted("P48") {
        privacy::cardinality(report, how, flags, if quick { 10_000 } else { 1_000_000 }).await;
    }
    if wanted("P50") {
        report.not_applicable("P50", "advisories, bans, unsafe", "`cargo deny check` in CI");
    }
    // What came before must not have cost the server its life.
    let connection = target.connect().await;
    let alive = limits::answers(&connection).await;
    report.line("", "the server after all this", "answers", if alive { "answers" } else { "does not" }, alive);
}
