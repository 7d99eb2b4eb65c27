//! P1 to P3: whatever becomes of the candidate, or of the sidecar, the primary's clients don't see it.

use std::time::{Duration, Instant};

use support::{
    authority::Authority,
    machine,
    promises::Report,
    sidecar::{Counts, Sidecar},
};

use crate::{
    candidate::{Behaviour, Candidate},
    measure::{Kind, Windows},
    stage::{Cast, Stage, package},
    watch::{Looks, Watch},
};

/// What the sidecar may grow by.
const SIDECAR_GROWTH: u64 = 48 << 20;
/// What the server may grow by.
const SERVER_GROWTH: u64 = 8 << 20;
/// P3: until comparisons go on after a restart.
const RESUMES: Duration = Duration::from_secs(5);
/// Until nothing is in flight once the candidate answers again: its time for one exchange, and some.
const SETTLES: Duration = Duration::from_secs(15);

/// Memory of both, at one moment.
#[derive(Clone, Copy, Debug)]
struct Memory {
    server: u64,
    sidecar: u64,
}

impl Memory {
    fn now(stage: &Stage, sidecar: &Sidecar) -> Self {
        Self { server: machine::rss(stage.server.pid()), sidecar: machine::rss(sidecar.pid()) }
    }

    /// How much more it is now, and whether that is little enough.
    fn growth(self, stage: &Stage, sidecar: &Sidecar) -> (String, bool) {
        let now = Self::now(stage, sidecar);
        let [server, sidecar] = [now.server.saturating_sub(self.server), now.sidecar.saturating_sub(self.sidecar)];
        let text = format!("sidecar +{:.1} MiB, server +{:.1}", machine::mib(sidecar), machine::mib(server));
        (text, server < SERVER_GROWTH && sidecar < SIDECAR_GROWTH)
    }
}

const GROWTH: &str = "sidecar +< 48 MiB, server +< 8 MiB";

/// P1: it takes every call, and answers none.
pub(crate) async fn hanging(report: &mut Report, cast: &Cast, looks: &mut Looks) -> anyhow::Result<()> {
    let time = Duration::from_secs(if cast.quick { 8 } else { 60 });
    let stage = Stage::open(cast).await?;
    let candidate = Candidate::start();
    let sidecar = stage.sidecar(&candidate.url(), &[]).await?;
    let watch = Watch::start(sidecar.admin);
    let mut asked = stage.ask(Duration::from_secs(2)).await;
    let before = Memory::now(&stage, &sidecar);
    candidate.behave(Behaviour::Hangs);
    let seen = stage.ask(time).await;
    let (grown, small) = before.growth(&stage, &sidecar);
    asked.calls += seen.calls;
    asked.failed += seen.failed;
    looks.add(watch.stop());
    candidate.behave(Behaviour::Answers);
    // A call that the server was too busy for is no exchange.
    let answered = asked.answered();
    let counts = sidecar.settled(answered, SETTLES).await?;
    let what = format!("candidate hangs {time:.0?}, {}/s", cast.rate);
    let text = format!("{} calls, {} errors; {grown}", asked.calls, asked.failed);
    report.line("P1", &what, &format!("0 errors, {GROWTH}"), &text, asked.failed == 0 && small);
    told(report, "P4", "P1, afterwards", &counts, answered);
    if let Some(first) = seen.errors.first() {
        println!("     {first}");
    }
    drop(sidecar);

    candidate.behave(Behaviour::Hangs);
    let url = candidate.url();
    let windows = stage.compare(cast.pairs, cast.window, async || stage.sidecar(&url, &[]).await, async |_, _| Ok(()));
    judged(report, "P1", &format!("{} pairs of {:.0?}", cast.pairs, cast.window), &windows.await?);
    Ok(())
}

/// P1 where the sidecar is in the path of the calls: beside a proxy whose candidate answers.
pub(crate) async fn hanging_behind_proxy(report: &mut Report, cast: &Cast, looks: &mut Looks) -> anyhow::Result<()> {
    let stage = Stage::open(cast).await?;
    let (good, bad) = (Candidate::start(), Candidate::start());
    let before_good = stage.proxy(&good.url(), &[]).await?;
    let before_bad = stage.proxy(&bad.url(), &[]).await?;
    let (pairs, window) = (cast.pairs.min(3), cast.window.min(Duration::from_secs(5)));
    let mut asked = stage.clients_of(before_bad.grpc).run_for(Duration::from_secs(2)).await.answered();
    let memory = Memory::now(&stage, &before_bad);
    bad.behave(Behaviour::Hangs);
    let watch = Watch::start(before_bad.admin);
    let mut windows = Windows::default();
    for kind in Kind::order(pairs) {
        let sidecar = if kind == Kind::On { &before_bad } else { &before_good };
        let seen = stage.clients_of(sidecar.grpc).run_for(window).await;
        asked += if kind == Kind::On { seen.answered() } else { 0 };
        windows.push(kind, &seen);
    }
    let (grown, small) = memory.growth(&stage, &before_bad);
    looks.add(watch.stop());
    report.line("P1", "proxy, candidate hangs: memory", GROWTH, &grown, small);
    judged(report, "P1", "proxy, candidate hangs", &windows);
    bad.behave(Behaviour::Answers);
    let counts = before_bad.settled(asked, SETTLES).await?;
    told(report, "P4", "proxy, afterwards", &counts, asked);
    Ok(())
}

fn judged(report: &mut Report, promise: &str, what: &str, windows: &Windows) {
    let judgement = windows.judge();
    let text = format!("{judgement}; {} errors of {}", windows.failed, windows.calls);
    let kept = judgement.within() && windows.failed == 0;
    report.line(promise, what, "p99 within 5 %, 0.3 ms or the floor; 0 errors", &text, kept);
    if let Some(first) = windows.errors.first() {
        println!("     {first}");
    }
}

/// P4: what the clients asked is what the sidecar has counted.
fn told(report: &mut Report, promise: &str, what: &str, counts: &Counts, asked: u64) {
    let Counts { offered, compared, dropped, failed, in_flight } = counts;
    let text = format!("{offered} = {compared} compared + {dropped} dropped + {failed} failed + {in_flight}");
    let kept = counts.holds() && *offered == asked && *in_flight == 0;
    report.line(promise, what, &format!("{asked} offered, each in one place"), &text, kept);
}

/// P2: every other way in which a candidate can be no good.
pub(crate) async fn faulty(report: &mut Report, cast: &Cast, looks: &mut Looks) -> anyhow::Result<()> {
    let directory = tempfile::tempdir()?;
    let (mut ours, mut strange) =
        (Authority::new(directory.path(), "ours"), Authority::new(directory.path(), "strange"));
    let authority = ours.path().to_string_lossy().into_owned();
    let stage = Stage::open(cast).await?;
    let window = cast.window.min(Duration::from_secs(if cast.quick { 2 } else { 5 }));
    for (behaviour, what) in [
        // Nothing is promised of it, but it is what the others are to be compared with: a call for each exchange.
        (Behaviour::Answers, "answers as it should"),
        (Behaviour::Refuses, "refuses connections"),
        (Behaviour::Resets, "resets in the middle of answers"),
        (Behaviour::Blackholes, "does not answer a SYN"),
        (Behaviour::Drips, "sends 1 byte a second"),
        (Behaviour::Answers100MiB, "answers with 100 MiB"),
        (Behaviour::Answers60MiB, "answers with 60 MiB"),
        (Behaviour::Lies, "answers what is no answer"),
        (Behaviour::Fails, "answers with every code"),
        (Behaviour::GoesAway, "GOAWAY each 10 requests"),
        (Behaviour::BadTls, "has bad TLS"),
        (Behaviour::Flaps, "is up 1 s, down 1 s"),
    ] {
        let (candidate, flags) = if behaviour == Behaviour::BadTls {
            let (good, bad) = (ours.loopback(), strange.loopback());
            (Candidate::encrypted(&good, &bad), vec!["--candidate-ca", authority.as_str()])
        } else {
            (Candidate::start(), Vec::new())
        };
        let mut windows = Windows::default();
        windows.push(Kind::Off, &stage.ask(window).await);
        let sidecar = stage.sidecar(&candidate.url(), &flags).await?;
        let watch = Watch::start(sidecar.admin);
        let mut asked = stage.ask(Duration::from_secs(1)).await.answered();
        let before = Memory::now(&stage, &sidecar);
        candidate.behave(behaviour);
        for _ in 0..2 {
            let seen = stage.ask(window).await;
            asked += seen.answered();
            windows.push(Kind::On, &seen);
        }
        let (grown, small) = before.growth(&stage, &sidecar);
        candidate.behave(Behaviour::Answers);
        let counts = sidecar.settled(asked, SETTLES).await?;
        let goes_on = resumes(&stage, &sidecar, counts.compared).await?;
        asked += goes_on.answered;
        let last = sidecar.settled(asked, SETTLES).await?;
        looks.add(watch.stop());
        drop(sidecar);
        windows.push(Kind::Off, &stage.ask(window).await);

        if behaviour == Behaviour::Answers {
            println!("     {what}: {}", windows.judge());
        } else {
            judged(report, "P2", what, &windows);
        }
        let back = goes_on.after.is_some_and(|after| after <= RESUMES);
        let text = format!("{grown}; compares after {}", seconds(goes_on.after));
        report.line(
            "P2",
            &format!("{what}: memory, and after"),
            &format!("{GROWTH}; compares again <= 5 s"),
            &text,
            small && back,
        );
        told(report, "P4", &format!("{what}: counts"), &last, asked);
    }
    Ok(())
}

/// How long it took until more were compared than `before`.
struct Resumed {
    after: Option<Duration>,
    /// Calls that were answered meanwhile.
    answered: u64,
}

async fn resumes(stage: &Stage, sidecar: &Sidecar, before: u64) -> anyhow::Result<Resumed> {
    let clients = stage.clients();
    let begun = Instant::now();
    let more =
        |report: &serde_json::Value| Counts::of(report, "exchanges").is_some_and(|counts| counts.compared > before);
    let after = sidecar.report_when(2 * RESUMES, more).await.ok().map(|_| begun.elapsed());
    let seen = tokio::task::spawn_blocking(move || clients.stop()).await?;
    Ok(Resumed { after, answered: seen.answered() })
}

fn seconds(time: Option<Duration>) -> String {
    time.map_or("never".to_owned(), |time| format!("{time:.2?}"))
}

/// P3: the sidecar is killed, or stopped.
pub(crate) async fn killed(report: &mut Report, cast: &Cast) -> anyhow::Result<()> {
    let stage = Stage::open(cast).await?;
    let candidate = package("adult-candidate");
    // As a crash in the middle: half a window with it, half without.
    let kill = async || {
        let sidecar = stage.sidecar(&candidate, &[]).await?;
        let (pid, half) = (sidecar.pid(), cast.window / 2);
        let killing = tokio::spawn(async move {
            tokio::time::sleep(half).await;
            sidecar.signal("KILL");
            sidecar
        });
        anyhow::Ok((pid, killing))
    };
    let windows = stage.compare(cast.pairs, cast.window, kill, async |(_, killing), _| {
        drop(killing.await?);
        Ok(())
    });
    judged(report, "P3", "kill -9 in the middle", &windows.await?);
    let begun = Instant::now();
    let clients = stage.clients();
    let sidecar = stage.sidecar(&candidate, &[]).await?;
    let resumed = resumes(&stage, &sidecar, 0).await?.after.map(|_| begun.elapsed());
    drop(tokio::task::spawn_blocking(move || clients.stop()).await?);
    let kept = resumed.is_some_and(|after| after <= RESUMES);
    report.line("P3", "started again", "compares <= 5 s after", &format!("after {}", seconds(resumed)), kept);
    drop(sidecar);

    let before = machine::rss(stage.server.pid());
    let stop = async || {
        let sidecar = stage.sidecar(&candidate, &[]).await?;
        sidecar.signal("STOP");
        Ok(sidecar)
    };
    let mut slowest = Some(Duration::ZERO);
    let windows = stage.compare(cast.pairs, cast.window, stop, async |sidecar, _| {
        sidecar.signal("CONT");
        let counts = sidecar.settled(0, SETTLES).await?;
        let resumed = resumes(&stage, &sidecar, counts.compared).await?;
        slowest = slowest.zip(resumed.after).map(|(slowest, after)| slowest.max(after));
        Ok(())
    });
    let windows = windows.await?;
    judged(report, "P3", "SIGSTOP", &windows);
    let grown = machine::mib(machine::rss(stage.server.pid()).saturating_sub(before));
    let kept = slowest.is_some_and(|after| after <= RESUMES);
    let text = format!("at most {} after; server +{grown:.1} MiB", seconds(slowest));
    report.line("P3", "SIGCONT", "compares <= 5 s after", &text, kept);
    Ok(())
}
