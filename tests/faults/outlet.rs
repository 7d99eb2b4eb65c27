//! P7: a collector that is down, hangs or is slow costs memory within bounds, a few seconds at the end, and no client anything.

use std::{
    net::TcpListener,
    time::{Duration, Instant},
};

use http::{HeaderMap, HeaderValue};
use support::{
    collector::Collector,
    machine,
    origin::{Canned, Origin},
    promises::Report,
    sidecar::Sidecar,
};

use crate::{
    candidate::{Behaviour, Candidate},
    measure::{Kind, Windows},
    stage::{Cast, Stage, package},
    watch::Watch,
};

const GROWTH: u64 = 16 << 20;
const FLUSH: Duration = Duration::from_secs(5);
/// For a test of single seconds.
const INTERVAL: [&str; 2] = ["--otlp-interval", "500ms"];

fn canned(change: impl FnOnce(&mut Canned)) -> Canned {
    let mut headers = HeaderMap::new();
    headers.insert("content-type", HeaderValue::from_static("application/grpc"));
    let mut canned = Canned { headers, ..Canned::default() };
    change(&mut canned);
    canned
}

/// Ends it as an orchestrator would; how long that took and with what code.
async fn terminated(sidecar: Sidecar) -> anyhow::Result<(Duration, Option<i32>)> {
    let begun = Instant::now();
    sidecar.signal("TERM");
    let ended = sidecar.ended(Duration::from_secs(30)).await?;
    Ok((begun.elapsed(), ended.code))
}

pub(crate) async fn bounded(report: &mut Report, cast: &Cast) -> anyhow::Result<()> {
    let stage = Stage::open(cast).await?;
    let time = Duration::from_secs(if cast.quick { 5 } else { 60 });
    // Takes connections into its queue and never looks at them.
    let silent = TcpListener::bind("127.0.0.1:0")?;
    let nobody = {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        listener.local_addr()?
    };
    let hanging = Origin::start(canned(|it| it.hangs = true)).await;
    let slow = Origin::start(canned(|it| {
        it.data = vec![vec![0; 60].into()];
        it.drips = true;
    }))
    .await;
    let full = Origin::start(canned(|it| {
        it.headers.insert("grpc-status", HeaderValue::from_static("8"));
    }))
    .await;
    for (what, url) in [
        ("collector is down", format!("http://{nobody}")),
        ("does not speak", format!("http://{}", silent.local_addr()?)),
        ("does not answer", hanging.url()),
        ("answers 10 bytes a second", slow.url()),
        ("RESOURCE_EXHAUSTED", full.url()),
    ] {
        let mut windows = Windows::default();
        windows.push(Kind::Off, &stage.ask(time / 5).await);
        let flags = [&["--otlp-endpoint", &url], &INTERVAL[..]].concat();
        let sidecar = stage.sidecar(&package("adult-candidate"), &flags).await?;
        drop(stage.ask(Duration::from_secs(3)).await);
        let before = machine::rss(sidecar.pid());
        for _ in 0..2 {
            windows.push(Kind::On, &stage.ask(time / 2).await);
        }
        let grown = machine::rss(sidecar.pid()).saturating_sub(before);
        let failed = sidecar.scrape().await.sum("shadow_otlp_exports_total", &[("outcome", "failed")]);
        let (took, code) = terminated(sidecar).await?;
        windows.push(Kind::Off, &stage.ask(time / 5).await);
        let judgement = windows.judge();
        let text = format!(
            "+{:.1} MiB, {failed} failed, ends in {took:.1?} ({code:?}); {} errors",
            machine::mib(grown),
            windows.failed
        );
        let kept = grown < GROWTH && took <= FLUSH && code == Some(0) && windows.failed == 0 && judgement.within();
        report.line("P7", what, "+< 16 MiB, ends <= 5 s, 0 errors, p99 as P1", &text, kept);
        if !judgement.within() {
            println!("     {judgement}");
        }
    }
    Ok(())
}

/// P4 after the end: the last figures that the collector got, of a sidecar that was ended with exchanges on their way.
pub(crate) async fn last_figures(report: &mut Report, cast: &Cast) -> anyhow::Result<()> {
    let stage = Stage::open(cast).await?;
    let collector = Collector::start().await;
    let candidate = Candidate::start();
    let url = collector.url();
    let flags = [&["--otlp-endpoint", &url, "--drain-timeout", "500ms"], &INTERVAL[..]].concat();
    let sidecar = stage.sidecar(&candidate.url(), &flags).await?;
    // A publication takes less than a millisecond of each second: to be met in the middle it must be looked for.
    let watch = Watch::without_pause(sidecar.admin);
    let mut asked = stage.ask(Duration::from_secs(if cast.quick { 8 } else { 20 })).await.answered();
    let looks = watch.stop();
    let text = format!("{} looks, {} broken", looks.taken, looks.broken);
    let kept = looks.broken == 0 && looks.taken > 50;
    report.line("P4", "metrics, without a pause", "offered = all ends + in flight, exactly", &text, kept);
    if let Some(first) = &looks.first {
        println!("     {first}");
    }
    sidecar.settled(asked, FLUSH).await?;
    candidate.behave(Behaviour::Hangs);
    asked += stage.ask(Duration::from_secs(1)).await.answered();
    // All of it has come, and some of it is with the candidate.
    let come = |report: &serde_json::Value| report["exchanges"]["offered"].as_u64() == Some(asked);
    sidecar.report_when(FLUSH, come).await?;
    let (took, code) = terminated(sidecar).await?;
    let sum = |name: &str| collector.sum(name, &[]);
    let offered = sum("shadow.exchanges");
    let (compared, dropped, failed) =
        (sum("shadow.exchanges.compared"), sum("shadow.unmatched"), sum("shadow.candidate.errors"));
    let shut = collector.sum("shadow.unmatched", &[("reason", "shutdown")]);
    let text = format!(
        "{offered} = {compared} + {dropped} dropped ({shut} at the end) + {failed} failed; ends in {took:.1?} ({code:?})"
    );
    let kept = offered == asked && compared + dropped + failed == offered && shut > 0 && code == Some(0);
    report.line("P4", "the last export after SIGTERM", &format!("{asked} offered, each in one place"), &text, kept);
    Ok(())
}
