//! What the process says of tokens: nothing.

use std::{fs, time::Duration};

use tonic::{Code, Request};
use understudy::identity::credentials::Credentials;

use crate::{client, process::SOON, serving, start, young};

/// Of no hexadecimal digest and no base64 of anything else.
const CANARY: &str = "zzpii-4b1d-canary";

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn no_byte_of_a_token_is_logged() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name).to_string_lossy().into_owned();
    // printf %s zzpii-4b1d-canary-good | sha256sum
    let digest = "a5010a78df2d44ac0a2b88bfc05df4503bd1a3674be5278cb80befaac9941389";
    let good = format!("[[client]]\nname = 'scoring'\nroles = ['reader']\ntoken-sha256 = ['{digest}']\n");
    fs::write(path("clients.toml"), &good).unwrap();
    let process = serving(&["--clients", &path("clients.toml"), "--tls-reload-interval", "20ms", "--log", "debug"]);
    let mut client = client(&process);
    let mut codes = Vec::new();
    for token in [format!("Bearer {CANARY}-good"), format!("Bearer {CANARY}"), format!("Basic {CANARY}")] {
        let mut request = Request::new(young());
        request.metadata_mut().insert("authorization", token.parse().unwrap());
        codes.push(client.predict(request).await.map_or_else(|status| status.code(), |_| Code::Ok));
    }
    assert_eq!(codes, [Code::Ok, Code::Unauthenticated, Code::Unauthenticated]);
    // A token where a digest belongs, and where no text belongs.
    for wrong in [format!("['{CANARY}']"), format!("\"{CANARY}\""), format!("'{CANARY}")] {
        fs::write(path("clients.toml"), format!("[[client]]\nname = 'x'\nroles = []\ntoken-sha256 = {wrong}\n"))
            .unwrap();
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    fs::write(path("clients.toml"), &good).unwrap();
    process.wait_for_log("read again and in use");
    // Our own client shows what it says of itself.
    fs::write(path("token"), CANARY).unwrap();
    let credentials = Credentials { token: Some(path("token").into()), ..Credentials::default() };
    assert!(!format!("{credentials:?} {:?}", credentials.bearer().unwrap()).contains(CANARY));
    process.signal("TERM");
    let ended = process.wait(SOON);
    assert!(ended.stderr.contains("can't be read again"), "{}", ended.stderr);
    assert!(!ended.stderr.contains(CANARY) && !ended.stderr.contains(digest), "{}", ended.stderr);
    assert_eq!(ended.code, Some(0));
}

#[test]
fn what_can_not_be_used_is_told_before_anything_is_served() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("file");
    fs::write(&path, "broken = 1").unwrap();
    let path = path.to_str().unwrap();
    let models = crate::adult();
    for (flags, text) in [
        (vec!["--clients", path], "clients: line 1: unknown field `broken`"),
        (vec!["--clients", "/nowhere"], "clients: /nowhere: No such file"),
        (vec!["--tls-cert", path, "--tls-key", path], "tls: expected at least one certificate in PEM, got none"),
        (vec!["--jwt-keys", path, "--jwt-issuer", "i", "--jwt-audience", "a"], "jwt-keys: expected public keys"),
        (vec!["--jwt-keys", path], "jwt-keys: expected jwt-issuer, too, got none"),
    ] {
        let flags = [vec!["--models", models.to_str().unwrap()], flags].concat();
        let ended = start(&flags, &[]).wait(SOON);
        assert_eq!(ended.code, Some(78), "{flags:?}: {}", ended.stderr);
        assert!(ended.stderr.contains(text) && !ended.was_ready, "{flags:?}: {}", ended.stderr);
    }
}
