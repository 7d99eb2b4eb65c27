//! Where an edge listens.

use std::{
    fs, io,
    net::SocketAddr,
    os::unix::{
        fs::{DirBuilderExt as _, PermissionsExt as _},
        net::UnixListener,
    },
    path::{Path, PathBuf},
    str::FromStr,
    sync::atomic::{AtomicU32, Ordering},
};

/// Where to listen or whom to call: `127.0.0.1:8001`, `[::]:8001`, `unix:/run/understudy.sock`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// A TCP socket.
    Tcp(SocketAddr),
    /// A Unix socket.
    Unix(PathBuf),
}

impl FromStr for Address {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(path) = text.strip_prefix("unix:") {
            if path.is_empty() {
                return Err("expected a path after unix:".into());
            }
            return Ok(Self::Unix(path.trim_start_matches("//").into()));
        }
        text.parse().map(Self::Tcp).map_err(|_| format!("expected IP:PORT or unix:PATH, got {text:?}"))
    }
}

impl std::fmt::Display for Address {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(out),
            Self::Unix(path) => write!(out, "unix:{}", path.display()),
        }
    }
}

/// A socket that is bound and listens, but from which nobody accepts yet.
#[derive(Debug)]
pub enum Listener {
    /// A TCP socket.
    Tcp(std::net::TcpListener),
    /// A Unix socket; its file is removed at the end.
    Unix(UnixListener, PathBuf),
}

impl Listener {
    /// Binds `address`. Port 0 takes a free port. A socket file that nobody listens on any more is replaced.
    ///
    /// # Errors
    /// The address is taken or not ours.
    pub fn bind(address: &Address) -> io::Result<Self> {
        match address {
            Address::Tcp(address) => {
                let domain = socket2::Domain::for_address(*address);
                let socket = socket2::Socket::new(domain, socket2::Type::STREAM, None)?;
                socket.set_reuse_address(true)?;
                socket.bind(&(*address).into())?;
                socket.listen(1024)?;
                socket.set_nonblocking(true)?;
                Ok(Self::Tcp(socket.into()))
            }
            Address::Unix(path) => {
                if std::os::unix::net::UnixStream::connect(path).is_err() {
                    match fs::symlink_metadata(path) {
                        Ok(found) if std::os::unix::fs::FileTypeExt::is_socket(&found.file_type()) => {
                            fs::remove_file(path)?;
                        }
                        _ => {}
                    }
                }
                let listener = private(path)?;
                listener.set_nonblocking(true)?;
                Ok(Self::Unix(listener, path.clone()))
            }
        }
    }

    /// Where it really listens.
    pub fn address(&self) -> io::Result<Address> {
        match self {
            Self::Tcp(listener) => listener.local_addr().map(Address::Tcp),
            Self::Unix(_, path) => Ok(Address::Unix(path.clone())),
        }
    }
}

/// Listens on the socket file `path`, which nobody but this user may connect to, not even for a moment: it carries everybody's
/// data. A file appears with the permissions that the process's mask leaves, so it is made in a directory of our own and gets
/// its name when it has its permissions. (The mask itself holds for all threads.)
fn private(path: &Path) -> io::Result<UnixListener> {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    // A short name: the path of a socket has at most 107 bytes.
    let directory = path.with_file_name(format!(".{}.{count}", std::process::id()));
    // Of a process that had our number and ended here.
    drop(fs::remove_dir_all(&directory));
    fs::DirBuilder::new().mode(0o700).create(&directory)?;
    let bound = || {
        let hidden = directory.join("s");
        let listener = UnixListener::bind(&hidden)?;
        fs::set_permissions(&hidden, fs::Permissions::from_mode(0o600))?;
        // Takes nobody's name away, as a renaming would.
        fs::hard_link(&hidden, path).map_err(|error| match error.kind() {
            io::ErrorKind::AlreadyExists => {
                io::Error::new(io::ErrorKind::AddrInUse, format!("address in use: {error}"))
            }
            _ => error,
        })?;
        Ok(listener)
    };
    let bound = bound();
    drop(fs::remove_dir_all(&directory));
    bound
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn a_unix_socket_is_its_users_own_from_the_first_moment() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("grpc.sock");
        let mode = || fs::symlink_metadata(&path).map(|file| file.permissions().mode() & 0o777);
        let done = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|scope| {
            let watcher = scope.spawn(|| {
                let mut seen = Vec::new();
                while !done.load(Ordering::Relaxed) {
                    seen.extend(mode());
                }
                seen
            });
            for _ in 0..200 {
                let listener = Listener::bind(&Address::Unix(path.clone())).expect("a listener");
                assert_eq!(mode().expect("a file"), 0o600);
                UnixStream::connect(&path).expect("a connection");
                let taken = Listener::bind(&Address::Unix(path.clone())).expect_err("it is taken");
                assert_eq!(taken.kind(), io::ErrorKind::AddrInUse);
                // The file of one that has ended is replaced.
                drop(listener);
            }
            done.store(true, Ordering::Relaxed);
            let seen = watcher.join().expect("the watcher");
            assert!(seen.iter().all(|mode| *mode == 0o600), "{seen:?}");
        });
        fs::remove_file(&path).expect("the socket");
        assert_eq!(fs::read_dir(directory.path()).expect("a directory").count(), 0, "nothing is left behind");
        fs::write(&path, "mine").expect("a file");
        Listener::bind(&Address::Unix(path.clone())).expect_err("a file that is no socket is left alone");
        assert_eq!(fs::read(&path).expect("a file"), b"mine");
    }
}
