//! A server started by its flags: in this process for the tests, as a process of its own for the attacks.

use std::{
    fs, io,
    net::SocketAddr,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use clap::Parser;
use server::Settings;
use tempfile::TempDir;

use crate::{
    Primary, examples,
    grpc::Connection,
    process::{Ended, Process},
};

/// How servers are started.
#[derive(Clone, Debug)]
pub enum How {
    /// In this process.
    Here,
    /// By this binary, after a shell has run `setup`, such as `ulimit -n 128`.
    Process {
        /// `understudy-server`.
        binary: PathBuf,
        /// A command of a shell; nothing is fine.
        setup: String,
    },
}

/// A server that is ready.
#[derive(Debug)]
pub struct Target {
    /// Where gRPC is served.
    pub grpc: SocketAddr,
    /// Where metrics and health are served.
    pub admin: SocketAddr,
    held: Held,
    _wrapper: TempDir,
}

#[derive(Debug)]
enum Held {
    Here(Box<Primary>),
    Process(Process),
}

/// Flags as the binary reads them.
#[derive(Parser)]
struct Flags {
    #[command(flatten)]
    settings: Settings,
}

/// What tests want that the flags do not say.
fn with_defaults(flags: &[&str], directory: &Path) -> Vec<String> {
    let models = examples().join("models/adult").to_string_lossy().into_owned();
    let socket = directory.join("grpc.sock").to_string_lossy().into_owned();
    let defaults = [
        ("--models", models.as_str()),
        ("--unix-socket", &socket),
        ("--workers", "2"),
        ("--compute-threads", "1"),
        ("--drain-delay", "0s"),
        ("--drain-timeout", "5s"),
    ];
    let missing = defaults.iter().filter(|(flag, _)| !flags.contains(flag)).flat_map(|(flag, value)| [*flag, *value]);
    missing.chain(flags.iter().copied()).map(str::to_owned).collect()
}

impl How {
    /// Starts a server with `flags`, and waits until it is ready.
    ///
    /// # Errors
    /// What the server says about its flags.
    pub async fn start(&self, flags: &[&str]) -> Result<Target, String> {
        let wrapper = tempfile::tempdir().map_err(|error| error.to_string())?;
        let flags = with_defaults(flags, wrapper.path());
        match self {
            Self::Here => {
                let ports = [["--grpc-listen", "127.0.0.1:0"], ["--admin-listen", "127.0.0.1:0"]];
                let ports =
                    ports.iter().filter(|[flag, _]| !flags.iter().any(|given| given == flag)).flatten().copied();
                let given = ["server"].into_iter().chain(ports).chain(flags.iter().map(String::as_str));
                let settings = Flags::try_parse_from(given).map_err(|error| first_line(&error.to_string()))?.settings;
                settings.clone().validate().map_err(|problems| problems.to_string())?;
                let started = Primary::try_with(move |raw| *raw = settings).await;
                let primary = started.map_err(|error| error.to_string())?;
                let (grpc, admin) = (primary.grpc(), primary.admin());
                Ok(Target { grpc, admin, held: Held::Here(Box::new(primary)), _wrapper: wrapper })
            }
            Self::Process { binary, setup } => {
                let checked = Command::new(binary).args(&flags).arg("--check-config").output();
                let checked = checked.map_err(|error| format!("{}: {error}", binary.display()))?;
                if !checked.status.success() {
                    return Err(first_line(&String::from_utf8_lossy(&checked.stderr)));
                }
                let script = after(setup, binary, wrapper.path()).map_err(|error| error.to_string())?;
                let started = tokio::task::spawn_blocking(move || {
                    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
                    let process = Process::start(&script.to_string_lossy(), &flags, &[]);
                    let grpc = process.grpc();
                    (process, grpc)
                });
                let (process, grpc) = started.await.map_err(|_| "the server does not start".to_owned())?;
                let admin = admin(&process).ok_or("no admin address")?;
                Ok(Target { grpc, admin, held: Held::Process(process), _wrapper: wrapper })
            }
        }
    }
}

/// Where a process that is ready serves metrics and health.
pub fn admin(process: &Process) -> Option<SocketAddr> {
    let ports: serde_json::Value =
        serde_json::from_slice(&fs::read(process.directory().join("ports.json")).ok()?).ok()?;
    ports["admin"].as_str()?.parse().ok()
}

/// A program in `directory` that runs `setup`, a command of a shell, and then is `binary`.
///
/// # Errors
/// It can't be written.
pub fn after(setup: &str, binary: &Path, directory: &Path) -> io::Result<PathBuf> {
    let script = directory.join("program");
    fs::write(&script, format!("#!/bin/sh\n{setup}\nexec {} \"$@\"\n", binary.display()))?;
    fs::set_permissions(&script, fs::Permissions::from_mode(0o700))?;
    Ok(script)
}

fn first_line(text: &str) -> String {
    text.lines().next().unwrap_or_default().to_owned()
}

impl Target {
    /// A connection of its own.
    pub async fn connect(&self) -> Connection {
        Connection::open(self.grpc).await
    }

    /// The process; 0 in this one.
    pub fn pid(&self) -> u32 {
        match &self.held {
            Held::Here(_) => 0,
            Held::Process(process) => process.id(),
        }
    }

    /// All that a process has logged.
    pub fn log(&self) -> String {
        match &self.held {
            Held::Here(_) => String::new(),
            Held::Process(process) => fs::read_to_string(process.directory().join("stderr")).unwrap_or_default(),
        }
    }

    /// Begins the drain and returns at once; the result is for [`Draining::ended`].
    pub fn drain(self) -> Draining {
        match self.held {
            Held::Here(primary) => Draining::Here(tokio::spawn(async move {
                let _seconds = primary.drain().await;
            })),
            Held::Process(process) => {
                process.signal("TERM");
                Draining::Process(process)
            }
        }
    }
}

/// A server on its way out.
#[derive(Debug)]
pub enum Draining {
    /// In this process.
    Here(tokio::task::JoinHandle<()>),
    /// A process of its own.
    Process(Process),
}

impl Draining {
    /// Waits for the end; the exit code and the log of a process.
    pub async fn ended(self, deadline: Duration) -> Option<Ended> {
        match self {
            Self::Here(task) => {
                drop(tokio::time::timeout(deadline, task).await);
                None
            }
            Self::Process(process) => tokio::task::spawn_blocking(move || process.wait(deadline)).await.ok(),
        }
    }
}
