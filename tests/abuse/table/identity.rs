//! S1 to S10. Certificates of all kinds are tried in `tests/e2e/identity/tls.rs`, and every method with every role in
//! `tests/e2e/identity.rs`.

use std::{fmt::Write as _, fs, time::Duration};

use http::HeaderValue;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use support::{
    adult::test_set,
    grpc::{Call, PREDICT, frame},
    issuer::{AUDIENCE, ISSUER, Issuer, now, unsigned},
    primary::endpoint,
    target::{How, Target},
};
use tempfile::TempDir;
use tokio::time::timeout;
use understudy::v1::{SubscribeRequest, tap_service_client::TapServiceClient};

use super::{Try, word};

const READER: &str = "a-token-of-a-reader";
const WRITER: &str = "a-token-of-a-writer";
const OBSERVER: &str = "a-token-of-an-observer";
const SIDECAR: &str = "a-token-of-a-sidecar";
const LOAD: &str = "/inference.GRPCInferenceService/RepositoryModelLoad";
const REFLECTION: &str = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo";

pub(super) async fn tries(how: &How) -> Vec<Try> {
    let mut tries = tokens(how).await;
    tries.extend(certificates(how).await);
    tries.extend(signed(how).await);
    tries.extend(without_identity(how).await);
    tries.push(control(how).await);
    tries.push(reflection(how).await);
    tries.extend(cap(how).await);
    tries
}

fn good() -> Call {
    Call::new(PREDICT, &test_set().predict(0..1))
}

fn with_token(call: Call, token: &str) -> Call {
    call.header("authorization", &format!("Bearer {token}"))
}

/// A file of clients.
fn clients() -> (TempDir, String) {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("clients.toml");
    let mut text = String::new();
    for (name, roles, token) in [
        ("app", "'reader'", READER),
        ("labels", "'writer'", WRITER),
        ("eyes", "'observer'", OBSERVER),
        ("sidecar", "'reader', 'observer'", SIDECAR),
    ] {
        let digest = Sha256::digest(token).iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().concat();
        writeln!(text, "[[client]]\nname = \"{name}\"\nroles = [{roles}]\ntoken-sha256 = [\"{digest}\"]")
            .expect("a string takes it");
    }
    fs::write(&path, text).expect("a file");
    let path = path.to_string_lossy().into_owned();
    (directory, path)
}

async fn tokens(how: &How) -> Vec<Try> {
    let (_directory, file) = clients();
    let target = match how.start(&["--clients", &file]).await {
        Ok(target) => target,
        Err(why) => return ["S1", "S2", "S3", "S4", "S10"].map(|case| Try::absent(case, why.clone())).into(),
    };
    let connection = target.connect().await;
    let none = "eyJhbGciOiJub25lIn0.eyJzdWIiOiJhcHAiLCJleHAiOjQxMDI0NDQ4MDB9.";
    let mut tries = Vec::new();
    for (name, call, expected) in [
        ("S0 good token", with_token(good(), READER), "0"),
        ("S1 no token", good(), "16"),
        // That there is no such method is no secret.
        ("W7 no token, unknown method", Call { path: "/nobody.Nothing/Do".into(), ..good() }, "12"),
        ("S2 wrong token", with_token(good(), "a-token-of-nobody"), "16"),
        ("S2 the right token and a letter more", with_token(good(), &format!("{READER}x")), "16"),
        ("S2 alg none", with_token(good(), none), "16"),
        ("S2 empty", with_token(good(), ""), "16"),
        ("S2 Basic", good().header("authorization", "Basic YTpi"), "16"),
        ("S3 a writer predicts", with_token(good(), WRITER), "7"),
        (
            "S3 a reader taps",
            with_token(Call { path: "/understudy.v1.TapService/Subscribe".into(), ..good() }, READER),
            "7",
        ),
    ] {
        tries.push(Try::expect(name, word(&connection.call(&call).await), &[expected]));
    }
    let mut two = with_token(good(), READER);
    two.headers.append("authorization", HeaderValue::from_static("Bearer another"));
    tries.push(Try::expect("S4 two headers", word(&connection.call(&two).await), &["16"]));
    let mut same = with_token(good(), READER);
    same.headers.append("authorization", same.headers["authorization"].clone());
    tries.push(Try::expect("S4 the same twice", word(&connection.call(&same).await), &["16"]));
    tries.extend(marked(&target).await);
    tries
}

/// S10: answered as ever, and told to those who rehearse as a user's call, unless a sidecar says otherwise.
async fn marked(target: &Target) -> Vec<Try> {
    let mut tap = TapServiceClient::new(endpoint(&format!("http://{}", target.grpc)).connect_lazy());
    let mut request = tonic::Request::new(SubscribeRequest::default());
    let bearer = format!("Bearer {OBSERVER}").parse().expect("a value");
    request.metadata_mut().insert("authorization", bearer);
    let mut messages = match tap.subscribe(request).await {
        Ok(messages) => messages.into_inner(),
        Err(status) => return vec![Try::absent("S10", status.to_string())],
    };
    let connection = target.connect().await;
    let mut tries = Vec::new();
    for (who, token, believed) in [("a reader", READER, false), ("a sidecar", SIDECAR, true)] {
        let call = with_token(good(), token).header("x-shadow", "1");
        let mut tried = Try::expect(&format!("S10 of {who}"), word(&connection.call(&call).await), &["0"]);
        let copied = timeout(Duration::from_secs(5), async {
            loop {
                let message = messages.message().await.ok().flatten()?;
                if let Some(exchange) = message.exchanges.first() {
                    return Some(exchange.marked);
                }
            }
        });
        let copied = copied.await.ok().flatten();
        tried.require(copied == Some(believed), format!("expected a copy marked: {believed}, {copied:?}"));
        tries.push(tried);
    }
    tries
}

/// S2: tokens of an issuer that we trust, and what is wrong with each.
async fn signed(how: &How) -> Vec<Try> {
    let directory = tempfile::tempdir().expect("a directory");
    let (issuer, other) = (Issuer::p256("key"), Issuer::p256("key"));
    let keys = directory.path().join("keys.json");
    fs::write(&keys, Issuer::jwks(&[&issuer])).expect("a file");
    let keys = keys.to_string_lossy();
    let flags = ["--jwt-keys", &*keys, "--jwt-issuer", ISSUER, "--jwt-audience", AUDIENCE];
    let target = match how.start(&flags).await {
        Ok(target) => target,
        Err(why) => return vec![Try::absent("S2 signed", why)],
    };
    let connection = target.connect().await;
    let claims = Issuer::claims("app", &["reader"]);
    let but = |name: &str, value: Value| {
        let mut claims = claims.clone();
        claims[name] = value;
        claims
    };
    let none = unsigned(&json!({"alg": "none", "kid": "key"}), &claims);
    let mut tries = Vec::new();
    for (name, token, expected) in [
        ("S0 signed", issuer.token(&claims), "0"),
        ("S0 signed, good until the end of time", issuer.token(&but("exp", json!(u64::MAX))), "0"),
        ("S2 expired", issuer.token(&but("exp", json!(now() - 3600))), "16"),
        ("S2 without expiry", issuer.token(&but("exp", Value::Null)), "16"),
        ("S2 not yet valid", issuer.token(&but("nbf", json!(now() + 3600))), "16"),
        ("S2 for another audience", issuer.token(&but("aud", json!("others"))), "16"),
        ("S2 of another issuer", issuer.token(&but("iss", json!("https://other.test"))), "16"),
        ("S2 signed with another key", other.token(&claims), "16"),
        ("S2 alg none, with our key's name", format!("{none}."), "16"),
        ("S2 the public key as a secret", issuer.confused(&claims), "16"),
        (
            "S2 a critical extension",
            issuer.token_of(&json!({"alg": "ES256", "kid": "key", "crit": ["exp"]}), &claims),
            "16",
        ),
        ("S3 signed, without a role", issuer.token(&but("roles", json!([]))), "7"),
    ] {
        tries.push(Try::expect(name, word(&connection.call(&with_token(good(), &token)).await), &[expected]));
    }
    tries
}

/// A server with TLS that wants certificates hangs up on whoever shows none.
async fn certificates(how: &How) -> Vec<Try> {
    let directory = tempfile::tempdir().expect("a directory");
    let path = |name: &str| directory.path().join(name).to_string_lossy().into_owned();
    let (key, certificate) = (path("key.pem"), path("cert.pem"));
    let made = std::process::Command::new("openssl")
        .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "1"])
        .args(["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"])
        .args(["-keyout", &key, "-out", &certificate])
        .output();
    if !made.is_ok_and(|made| made.status.success()) {
        return vec![Try::absent("S6", "there is no openssl to make a certificate with; see tests/e2e/identity.rs")];
    }
    let flags = ["--tls-cert", &certificate, "--tls-key", &key, "--tls-client-ca", &certificate];
    let target = match how.start(&flags).await {
        Ok(target) => target,
        Err(why) => return vec![Try::absent("S6", why)],
    };
    let seen = super::frames::hung_up(&target, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await;
    let plaintext = Try::expect("S6 plaintext", seen, &["closed"]);
    let offered = std::process::Command::new("openssl")
        .args(["s_client", "-connect", &target.grpc.to_string(), "-alpn", "h2", "-tls1_2"])
        .stdin(std::process::Stdio::null())
        .output();
    let refused = offered.is_ok_and(|offered| !offered.status.success());
    let seen = if refused { "closed" } else { "handshake done" };
    vec![plaintext, Try::expect("S6 no client certificate", seen, &["closed"])]
}

async fn without_identity(how: &How) -> Vec<Try> {
    let target = how.start(&[]).await.expect("the server starts");
    let token = target.connect().await.call(&with_token(good(), &"x".repeat(1_000_000))).await;
    let some = target.connect().await.call(&with_token(good(), &"x".repeat(40_000))).await;
    let connection = target.connect().await;
    let load = connection.call(&Call::bytes(LOAD, frame(0, &[]))).await;
    let after = target.connect().await.call(&good()).await;
    vec![
        Try::expect("S5 1 MB", word(&token), &["HTTP 431", "HTTP 431/8", "RST 11", "closed"]),
        Try::expect("S5 40 KB", word(&some), &["HTTP 431", "HTTP 431/8"]),
        Try::expect("S7 RepositoryModelLoad", word(&load), &["12"]),
        Try::expect("S0 a good call after all", word(&after), &["0"]),
    ]
}

/// S7: also where it says so itself, for a caller on this machine.
async fn control(how: &How) -> Try {
    match how.start(&["--control", "off"]).await {
        Ok(target) => {
            let reply = target.connect().await.call(&Call::bytes(LOAD, frame(0, &[]))).await;
            let mut tried = Try::expect("S7 --control off", word(&reply), &["12"]);
            // Not the method's own word for "not yet", which is the same code.
            tried.require(reply.message.contains("control"), format!("expected the setting's name, {}", reply.message));
            tried
        }
        Err(why) => Try::absent("S7", why),
    }
}

async fn reflection(how: &How) -> Try {
    match how.start(&["--reflection", "off"]).await {
        Ok(target) => {
            let reply = target.connect().await.call(&Call::bytes(REFLECTION, frame(0, &[]))).await;
            Try::expect("S8 --reflection off", word(&reply), &["12"])
        }
        Err(why) => Try::absent("S8", why),
    }
}

/// S9: the rate is of the address where there is no identity.
async fn cap(how: &How) -> Vec<Try> {
    match how.start(&["--rate-limit", "5"]).await {
        Ok(target) => vec![over_rate(&target).await],
        Err(why) => vec![Try::absent("S9", why)],
    }
}

async fn over_rate(target: &Target) -> Try {
    let connection = target.connect().await;
    let mut answered = 0;
    for _ in 0..50 {
        let reply = connection.call(&good()).await;
        if reply.status == Some(0) {
            answered += 1;
            continue;
        }
        let mut tried = Try::expect("S9 the sixth call of five a minute", word(&reply), &["8"]);
        tried.require(answered >= 5, format!("expected five answers before it, {answered}"));
        tried.require(reply.metadata.contains_key("grpc-retry-pushback-ms"), "expected grpc-retry-pushback-ms");
        return tried;
    }
    Try::expect("S9 50 calls of five a minute", "0", &["8"])
}
