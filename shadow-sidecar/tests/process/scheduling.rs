//! Who gives way to whom on a core.

use super::*;

/// Of sched(7).
const NORMAL: u8 = 0;
const IDLE: u8 = 5;

/// The policy of each thread by its name, in order, each once.
fn policies(process: &Process) -> Vec<(String, u8)> {
    let tasks = std::fs::read_dir(format!("/proc/{}/task", process.id())).unwrap();
    let mut all: Vec<(String, u8)> = tasks
        .filter_map(|task| {
            let task = task.unwrap().path();
            // One that has ended in the meantime says nothing.
            let name = std::fs::read_to_string(task.join("comm")).ok()?;
            let stat = std::fs::read_to_string(task.join("stat")).ok()?;
            // proc(5): field 41, counted from behind the name, which may hold anything.
            let policy = stat.rsplit(')').next().unwrap().split_whitespace().nth(38).unwrap().parse().unwrap();
            Some((name.trim().to_owned(), policy))
        })
        .collect();
    all.sort();
    all.dedup();
    all
}

#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn beside_a_tap_it_runs_only_when_nobody_else_wants_the_core() {
    let primary = Primary::start().await;
    let socket = format!("unix:{}", primary.directory.path().join("grpc.sock").display());
    let candidate = models("adult-candidate");
    for (flags, expected) in [
        (&[][..], IDLE),
        (&["--scheduling", "normal"], NORMAL),
        (&["--intake", "mirror"], NORMAL),
        (&["--intake", "proxy"], NORMAL),
    ] {
        let all = [&["--primary", socket.as_str(), "--candidate", candidate.to_str().unwrap()], flags].concat();
        let sidecar = Process::start(env!("CARGO_BIN_EXE_shadow-sidecar"), &all, &[]);
        report_when(&sidecar, |report| report.intake.is_some()).await;
        for (name, policy) in policies(&sidecar) {
            assert_eq!(policy, expected, "{name} with {flags:?}");
        }
    }
}
