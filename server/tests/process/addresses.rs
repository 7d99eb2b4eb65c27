//! Where the process listens, and where it can't.

use std::{
    fs,
    net::TcpListener,
    os::unix::{
        fs::PermissionsExt,
        net::{UnixListener, UnixStream},
    },
};

use crate::{process::SOON, serving};

#[test]
fn an_address_that_is_taken_is_told() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let tcp = taken.local_addr().unwrap().to_string();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("taken.sock");
    let _socket = UnixListener::bind(&path).unwrap();
    let unix = path.to_str().unwrap();
    for (flag, value) in [("--grpc-listen", tcp.as_str()), ("--admin-listen", &tcp), ("--unix-socket", unix)] {
        let ended = serving(&[flag, value]).wait(SOON);
        assert_eq!((ended.code, ended.was_ready), (Some(69), false), "{flag}: {}", ended.stderr);
        assert!(ended.stderr.contains(value) && ended.stderr.contains("in use"), "{flag}: {}", ended.stderr);
    }
    assert!(path.exists(), "somebody else's socket was removed");
}

#[test]
fn a_socket_that_a_killed_server_left_behind_is_replaced() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("left.sock");
    drop(UnixListener::bind(&path).unwrap());
    assert!(path.exists());
    let process = serving(&["--unix-socket", path.to_str().unwrap()]);
    process.grpc();
    UnixStream::connect(&path).unwrap();
    let mode = fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600, "it carries everybody's data");
}
