//! A process of one of the binaries, with all that it leaves behind. Also a module of the tests in `server/` and
//! `shadow-sidecar/`, where Cargo says where the binaries are; so it depends on nothing here.

use std::{
    fs::{self, File},
    net::SocketAddr,
    path::Path,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use serde_json::Value;
use tempfile::TempDir;

/// For whatever should be quick: a busy machine with two cores may still take a while.
pub const SOON: Duration = Duration::from_secs(10);

/// Ended by force when it is dropped.
#[derive(Debug)]
pub struct Process {
    child: Child,
    directory: TempDir,
}

/// What is left of a process.
#[derive(Debug)]
pub struct Ended {
    /// Absent when it had to be ended by force.
    pub code: Option<i32>,
    /// All that it said.
    pub stderr: String,
    /// Whether it ever said that it was.
    pub was_ready: bool,
}

impl Process {
    /// Starts `binary` with free ports, unless `flags` say otherwise, and nothing in the environment but `environment` and
    /// a runtime directory of its own.
    pub fn start(binary: &str, flags: &[&str], environment: &[(&str, &str)]) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let ports = directory.path().join("ports.json").to_string_lossy().into_owned();
        let ours = [("--grpc-listen", "127.0.0.1:0"), ("--admin-listen", "127.0.0.1:0"), ("--ports-file", &ports)];
        let mut command = Command::new(binary);
        for (flag, value) in ours.iter().filter(|(flag, _)| !flags.contains(flag)) {
            command.args([flag, value]);
        }
        let stderr = File::create(directory.path().join("stderr")).expect("a file");
        let child = command
            .args(flags)
            .env_clear()
            .env("XDG_RUNTIME_DIR", directory.path())
            .envs(environment.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(stderr)
            .spawn()
            .unwrap_or_else(|error| panic!("{binary}: {error}"));
        Self { child, directory }
    }

    /// Its runtime directory.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// Of the process.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Where it serves gRPC, once it is ready.
    pub fn grpc(&self) -> SocketAddr {
        let ports = self.directory.path().join("ports.json");
        eventually(|| {
            let ports: Value = serde_json::from_slice(&fs::read(&ports).ok()?).ok()?;
            ports["grpc"].as_str()?.parse().ok()
        })
        .unwrap_or_else(|| panic!("not ready: {}", self.stderr()))
    }

    /// Waits until `text` is in the log.
    pub fn wait_for_log(&self, text: &str) {
        eventually(|| self.stderr().contains(text).then_some(()))
            .unwrap_or_else(|| panic!("no {text:?} in {}", self.stderr()));
    }

    fn stderr(&self) -> String {
        fs::read_to_string(self.directory.path().join("stderr")).expect("a log")
    }

    /// Sends `TERM`, `KILL`, `STOP`...
    pub fn signal(&self, name: &str) {
        assert!(self.try_signal(name), "kill -{name} {}", self.id());
    }

    /// As [`Self::signal`]; false when it has ended.
    pub fn try_signal(&self, name: &str) -> bool {
        let kill = format!("kill -{name} {}", self.id());
        Command::new("sh").args(["-c", &kill]).status().is_ok_and(|status| status.success())
    }

    /// Waits until it has ended by itself, at most `deadline`.
    pub fn wait(mut self, deadline: Duration) -> Ended {
        let started = Instant::now();
        let mut status = None;
        while status.is_none() && started.elapsed() < deadline {
            thread::sleep(Duration::from_millis(2));
            status = self.child.try_wait().expect("a child");
        }
        let was_ready = self.directory.path().join("ports.json").exists();
        Ended { code: status.and_then(|status| status.code()), stderr: self.stderr(), was_ready }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // An error means that it has ended already.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn eventually<T>(mut probe: impl FnMut() -> Option<T>) -> Option<T> {
    let started = Instant::now();
    while started.elapsed() < SOON {
        if let Some(value) = probe() {
            return Some(value);
        }
        thread::sleep(Duration::from_millis(2));
    }
    None
}
