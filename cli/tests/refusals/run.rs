//! The program as a user runs it: exit code, what it says, how long it takes, how much memory it takes at most.

use std::{
    fs,
    io::{self, Read, Write},
    path::Path,
    process::{Command, ExitStatus},
    time::{Duration, Instant},
};

/// A check that takes longer is stopped, and fails: on the processor, and (much else may run) on the wall.
pub(crate) const LIMIT: Duration = Duration::from_secs(10);
const WALL: Duration = Duration::from_secs(60);

/// What came of a run.
#[derive(Debug)]
pub(crate) struct Ran {
    /// Nothing when it was stopped by a signal.
    pub(crate) code: Option<i32>,
    pub(crate) stopped: bool,
    /// Both outputs.
    pub(crate) said: String,
    /// Peak resident bytes; 0 where the operating system does not tell.
    pub(crate) peak: u64,
    /// On the processor.
    pub(crate) took: Duration,
}

/// Runs `understudy check DIR`.
///
/// The outputs go to a pipe that is full: the program stands still when it is done and wants to tell, and its peak can be
/// read then, however short it ran.
pub(crate) fn check(target: &Path) -> Ran {
    const FULL: usize = 1 << 16;
    let (mut reader, mut writer) = io::pipe().unwrap();
    writer.write_all(&vec![b' '; FULL]).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_understudy"));
    command.args(["check".as_ref(), target.as_os_str()]).env("RUST_BACKTRACE", "0").env_remove("RUST_LOG");
    command.stdout(writer.try_clone().unwrap()).stderr(writer);
    let started = Instant::now();
    let mut child = command.spawn().unwrap();
    // The command holds the pipe's other end.
    drop(command);
    let (mut peak, mut still) = (0, 0);
    let (mut drain, mut took) = (None, Duration::ZERO);
    let mut stopped = false;
    let status: ExitStatus = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        let (asleep, now) = state(child.id());
        peak = peak.max(now);
        took = took.max(processor(child.id()));
        still = if asleep { still + 1 } else { 0 };
        if drain.is_none() && (still >= 3 || started.elapsed() > WALL) {
            let mut reader = reader.try_clone().unwrap();
            drain = Some(std::thread::spawn(move || {
                let mut said = Vec::new();
                reader.read_to_end(&mut said).unwrap();
                said
            }));
        }
        if took > LIMIT || started.elapsed() > WALL {
            stopped = true;
            child.kill().unwrap();
        }
        std::thread::sleep(Duration::from_millis(1));
    };
    let said = match drain {
        Some(thread) => thread.join().unwrap(),
        None => {
            let mut said = Vec::new();
            reader.read_to_end(&mut said).unwrap();
            said
        }
    };
    let said = String::from_utf8_lossy(said.get(FULL..).unwrap_or_default()).into_owned();
    Ran { code: status.code(), stopped, said, peak, took }
}

/// Time on the processor: the clock ticks 100 times a second on every Linux there is.
fn processor(process: u32) -> Duration {
    let text = fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    // Behind the name, which may hold anything, the 12th and 13th fields.
    let fields = text.rsplit(')').next().unwrap_or_default().split_whitespace().skip(11).take(2);
    Duration::from_millis(fields.filter_map(|ticks| ticks.parse::<u64>().ok()).sum::<u64>() * 10)
}

/// Whether a process waits for something, and its peak resident bytes.
fn state(process: u32) -> (bool, u64) {
    let text = fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    let field = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default().trim();
    let kib = field("VmHWM:").split(' ').next().and_then(|number| number.parse::<u64>().ok());
    // Where there is no such file, it is read as soon as it writes.
    (text.is_empty() || field("State:").starts_with('S'), kib.unwrap_or(0) << 10)
}
