//! What the kernel says about a process.

use std::{fs, time::Duration};

/// KiB of a line of `/proc/PID/status`; 0 when it can't be read.
fn status(pid: u32, name: &str) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
    line.split_whitespace().next().and_then(|kib| kib.parse().ok()).unwrap_or(0)
}

/// Resident memory, in bytes.
pub fn rss(pid: u32) -> u64 {
    status(pid, "VmRSS:") << 10
}

/// The most that has been resident since [`reset_peak`], in bytes.
pub fn peak(pid: u32) -> u64 {
    status(pid, "VmHWM:") << 10
}

/// From here on [`peak`] counts anew.
pub fn reset_peak(pid: u32) -> bool {
    fs::write(format!("/proc/{pid}/clear_refs"), "5").is_ok()
}

/// CPU time of all its threads, to 10 ms.
pub fn cpu(pid: u32) -> Duration {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // The name, in parentheses, may have spaces in it.
    let after = text.rsplit_once(')').map_or("", |(_, after)| after);
    let ticks: u64 = after.split_whitespace().skip(11).take(2).filter_map(|ticks| ticks.parse::<u64>().ok()).sum();
    Duration::from_millis(ticks * 10)
}

/// Open file descriptors.
pub fn descriptors(pid: u32) -> usize {
    fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, Iterator::count)
}

/// As MiB, for people.
pub fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

/// CPU time of all its threads, to a microsecond or better where the kernel tells it, else to 10 ms. Threads that have ended are
/// not in it.
pub fn cpu_exact(pid: u32) -> Duration {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let nanos = tasks.filter_map(|task| {
        let text = fs::read_to_string(task.path().join("schedstat")).ok()?;
        text.split_whitespace().next()?.parse::<u64>().ok()
    });
    match nanos.sum() {
        0 => cpu(pid),
        nanos => Duration::from_nanos(nanos),
    }
}
