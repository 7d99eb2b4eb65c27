//! A process of the server's binary, with all that it leaves behind.

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
pub(crate) const SOON: Duration = Duration::from_secs(10);

/// Ended by force when it is dropped.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
    directory: TempDir,
}

/// What is left of a process.
#[derive(Debug)]
pub(crate) struct Ended {
    /// Absent when it had to be ended by force.
    pub(crate) code: Option<i32>,
    pub(crate) stderr: String,
    /// Whether it ever said that it was.
    pub(crate) was_ready: bool,
}

impl Process {
    /// Starts with free ports and a socket in a directory of its own, unless `flags` say otherwise, and nothing in the
    /// environment but `environment`.
    pub(crate) fn start(flags: &[&str], environment: &[(&str, &str)]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name).to_str().unwrap().to_owned();
        let ours = [
            ("--grpc-listen", "127.0.0.1:0".to_owned()),
            ("--admin-listen", "127.0.0.1:0".to_owned()),
            ("--unix-socket", path("grpc.sock")),
            ("--ports-file", path("ports.json")),
            ("--drain-delay", "0s".to_owned()),
        ];
        let mut command = Command::new(env!("CARGO_BIN_EXE_understudy-server"));
        for (flag, value) in ours.iter().filter(|(flag, _)| !flags.contains(flag)) {
            command.args([flag, value.as_str()]);
        }
        let child = command
            .args(flags)
            .env_clear()
            .envs(environment.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(directory.path().join("stderr")).unwrap())
            .spawn()
            .unwrap();
        Self { child, directory }
    }

    /// Holds its socket.
    pub(crate) fn directory(&self) -> &Path {
        self.directory.path()
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Where it serves gRPC, once it is ready.
    pub(crate) fn grpc(&self) -> SocketAddr {
        let ports = self.directory.path().join("ports.json");
        eventually(|| {
            let ports: Value = serde_json::from_slice(&fs::read(&ports).ok()?).ok()?;
            ports["grpc"].as_str()?.parse().ok()
        })
        .unwrap_or_else(|| panic!("not ready: {}", self.stderr()))
    }

    /// Waits until `text` is in the log.
    pub(crate) fn wait_for_log(&self, text: &str) {
        eventually(|| self.stderr().contains(text).then_some(()))
            .unwrap_or_else(|| panic!("no {text:?} in {}", self.stderr()));
    }

    fn stderr(&self) -> String {
        fs::read_to_string(self.directory.path().join("stderr")).unwrap()
    }

    /// `TERM`, `INT`.
    pub(crate) fn signal(&self, name: &str) {
        let kill = format!("kill -{name} {}", self.id());
        assert!(Command::new("sh").args(["-c", &kill]).status().unwrap().success(), "{kill}");
    }

    /// Waits until it has ended by itself, at most `deadline`.
    pub(crate) fn wait(mut self, deadline: Duration) -> Ended {
        let started = Instant::now();
        let mut status = None;
        while status.is_none() && started.elapsed() < deadline {
            thread::sleep(Duration::from_millis(2));
            status = self.child.try_wait().unwrap();
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
