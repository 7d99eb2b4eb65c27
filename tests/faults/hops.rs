//! P6: who is asked is configured and nothing else; what is asked of the candidate is marked, carries no credentials, is asked
//! once, and is not rehearsed again.

use std::time::Duration;

use support::{
    grpc::Connection,
    primary::endpoint,
    promises::Report,
    scrape::Scrape,
    sidecar::{Counts, Sidecar},
    target::Target,
};
use understudy::v1::{GetReportRequest, shadow_service_client::ShadowServiceClient};

use crate::{
    candidate::Candidate,
    stage::{Cast, Stage, package, patiently, row},
};

const CALLS: usize = 200;
const SOON: Duration = Duration::from_secs(10);

async fn ask(stage: &Stage, address: std::net::SocketAddr) -> anyhow::Result<()> {
    let connection = Connection::open(address).await;
    for call in &stage.calls[..CALLS] {
        let reply = patiently(&connection, call).await;
        anyhow::ensure!(reply.status == Some(0), "{reply:?}");
    }
    Ok(())
}

/// Requests that came to a sidecar as part of a rehearsal, once it has seen `least`.
async fn looped(sidecar: &Sidecar, least: u64) -> anyhow::Result<u64> {
    let mut client = ShadowServiceClient::new(endpoint(&format!("http://{}", sidecar.grpc)).connect_lazy());
    let begun = std::time::Instant::now();
    loop {
        let report = client.get_report(GetReportRequest::default()).await?.into_inner();
        let looped = report.intake.map_or(0, |intake| intake.looped);
        if looped >= least || begun.elapsed() > SOON {
            return Ok(looped);
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn compared(sidecar: &Sidecar, least: u64) -> anyhow::Result<u64> {
    let enough = |report: &serde_json::Value| Counts::of(report, "exchanges").is_some_and(|it| it.compared >= least);
    let report = sidecar.report_when(SOON, enough).await?;
    Ok(Counts::of(&report, "exchanges").map_or(0, |counts| counts.compared))
}

async fn answered(server: &Target) -> u64 {
    let infer = [("method", "inference.GRPCInferenceService/ModelInfer")];
    Scrape::of(server.admin).await.sum("understudy_requests_total", &infer) as u64
}

pub(crate) async fn kept(report: &mut Report, cast: &Cast) -> anyhow::Result<()> {
    two_servers(report, cast).await?;
    two_proxies(report, cast).await?;
    nothing_but_the_request(report, cast).await
}

/// A rehearses on B, B on A.
async fn two_servers(report: &mut Report, cast: &Cast) -> anyhow::Result<()> {
    let (a, b) = (Stage::open(cast).await?, Stage::open(cast).await?);
    let beside_a = a.sidecar(&format!("http://{}", b.server.grpc), &[]).await?;
    let beside_b = b.sidecar(&format!("http://{}", a.server.grpc), &[]).await?;
    ask(&a, a.server.grpc).await?;
    let calls = CALLS as u64;
    let pairs = compared(&beside_a, calls).await?;
    let stopped = looped(&beside_b, calls).await?;
    // Time for whatever should not come.
    tokio::time::sleep(Duration::from_millis(500)).await;
    let [first, second] = [answered(&a.server).await, answered(&b.server).await];
    let text = format!("A was asked {first}, B {second}; {pairs} compared, {stopped} stopped at B");
    let kept = [first, second, pairs, stopped] == [calls; 4] && looped(&beside_a, 0).await? == 0;
    report.line("P6", "A -> B -> A", &format!("{CALLS} calls: each asked {CALLS}, 1 hop"), &text, kept);
    Ok(())
}

/// The candidate of one proxy is another one, whose candidate is the first.
async fn two_proxies(report: &mut Report, cast: &Cast) -> anyhow::Result<()> {
    let stage = Stage::open(cast).await?;
    let second = stage.proxy(&package("adult-candidate"), &[]).await?;
    let first = stage.proxy(&format!("http://{}", second.grpc), &[]).await?;
    ask(&stage, first.grpc).await?;
    let calls = CALLS as u64;
    let (pairs, stopped) = (compared(&first, calls).await?, looped(&second, calls).await?);
    tokio::time::sleep(Duration::from_millis(500)).await;
    let asked = answered(&stage.server).await;
    let text = format!("primary asked {asked}; {pairs} compared, {stopped} stopped at the second");
    let kept = asked == 2 * calls && [pairs, stopped] == [calls; 2];
    report.line("P6", "proxy -> proxy", &format!("{CALLS} calls: primary asked {}, 1 hop", 2 * CALLS), &text, kept);
    Ok(())
}

/// Headers that name another candidate, or that are nobody's business, on the tap and through the proxy.
async fn nothing_but_the_request(report: &mut Report, cast: &Cast) -> anyhow::Result<()> {
    let stage = Stage::open(cast).await?;
    for (what, proxied) in [("tap", false), ("proxy", true)] {
        let (candidate, decoy) = (Candidate::start(), Candidate::start());
        let (sidecar, address) = if proxied {
            let sidecar = stage.proxy(&candidate.url(), &[]).await?;
            let address = sidecar.grpc;
            (sidecar, address)
        } else {
            (stage.sidecar(&candidate.url(), &[]).await?, stage.server.grpc)
        };
        let connection = Connection::open(address).await;
        let there = decoy.url();
        for n in 0..CALLS {
            let mut call = row(n).header("authorization", "Bearer secret").header("cookie", "session=secret");
            for name in [
                "x-shadow-target",
                "x-shadow-candidate",
                "shadow-candidate",
                "x-forwarded-host",
                "x-envoy-original-dst-host",
                "x-original-host",
                "forwarded",
            ] {
                call = call.header(name, &there);
            }
            let reply = patiently(&connection, &call).await;
            anyhow::ensure!(reply.status == Some(0), "{reply:?}");
        }
        let counts = sidecar.settled(CALLS as u64, SOON).await?;
        compared(&sidecar, CALLS as u64).await?;
        let asked = candidate.asked();
        let marked = asked.iter().filter(|it| it.headers.get("x-shadow").is_some_and(|value| value == "1")).count();
        let told = |it: &&crate::candidate::Asked| {
            let text = format!("{:?}", it.headers);
            text.contains("secret") || text.contains(&there) || text.contains(&there["http://".len()..])
        };
        let leaked = asked.iter().filter(told).count();
        let misnamed = asked.iter().filter(|it| it.model != "adult").count();
        let text = format!(
            "asked {}, {marked} marked, {leaked} with secrets, {misnamed} misnamed, decoy asked {}",
            candidate.calls(),
            decoy.calls()
        );
        let kept = candidate.calls() == CALLS as u64
            && (marked, leaked, misnamed, decoy.calls()) == (CALLS, 0, 0, 0)
            && counts.holds();
        let asked = format!("{CALLS} calls: asked {CALLS}, all marked, 0 secrets, decoy 0");
        report.line("P6", &format!("{what}: what the candidate gets"), &asked, &text, kept);
    }
    Ok(())
}
