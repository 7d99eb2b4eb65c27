//! Where an edge listens.

use std::{io, net::SocketAddr, path::PathBuf, str::FromStr};

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
    Unix(std::os::unix::net::UnixListener, PathBuf),
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
                    match std::fs::symlink_metadata(path) {
                        Ok(found) if std::os::unix::fs::FileTypeExt::is_socket(&found.file_type()) => {
                            std::fs::remove_file(path)?;
                        }
                        _ => {}
                    }
                }
                let listener = std::os::unix::net::UnixListener::bind(path)?;
                // It carries everybody's data.
                std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o600))?;
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
