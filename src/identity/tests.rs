//! Who is let in, as far as it can be seen without a socket.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::TcpListener,
    path::Path,
    sync::Mutex,
    thread,
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use tempfile::TempDir;
use tonic::Code;

use super::*;
use crate::settings::Problems;
use issuer::{AUDIENCE, ISSUER, Issuer, now, sha256, unsigned};

#[allow(dead_code, unreachable_pub, missing_docs, reason = "shared with the harness of the end-to-end tests")]
#[path = "../../tests/support/issuer.rs"]
mod issuer;

const INFER: &str = "/inference.GRPCInferenceService/ModelInfer";
const FEEDBACK: &str = "/understudy.v1.FeedbackService/SubmitFeedback";
const SUBSCRIBE: &str = "/understudy.v1.TapService/Subscribe";
const LOAD: &str = "/inference.GRPCInferenceService/RepositoryModelLoad";
const REFLECTION: &str = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo";
const CHECK: &str = "/grpc.health.v1.Health/Check";

fn start(raw: settings::Raw, tap: Option<&str>) -> Identity {
    let mut problems = Problems::default();
    let config = raw.validate(&mut problems, ("tap", tap));
    let config = problems.into_result(config).expect("valid settings");
    Identity::start(&config, &metrics::NoopRecorder).expect("an identity").0
}

fn remote() -> Peer {
    Peer::Tcp("203.0.113.7:1".parse().expect("an address"))
}

fn bearer(token: &str) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(AUTHORIZATION, format!("Bearer {token}").parse().expect("a value"));
    headers
}

fn written(directory: &TempDir, name: &str, content: &str) -> std::path::PathBuf {
    let path = directory.path().join(name);
    fs::write(&path, content).expect("a file");
    path
}

fn jwt(keys: &Path) -> settings::Raw {
    settings::Raw {
        jwt_issuer: Some(ISSUER.into()),
        jwt_audience: Some(AUDIENCE.into()),
        jwt_keys: Some(keys.to_string_lossy().into()),
        tls_reload_interval: Some("20ms".into()),
        ..settings::Raw::default()
    }
}

fn code(admitted: &Result<Caller, Status>) -> Code {
    admitted.as_ref().map_or_else(Status::code, |_| Code::Ok)
}

fn eventually(what: &str, mut probe: impl FnMut() -> bool) {
    let started = Instant::now();
    while !probe() {
        assert!(started.elapsed() < Duration::from_secs(10), "not within 10 s: {what}");
        thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn without_identity_places_decide() {
    let identity = start(settings::Raw::default(), None);
    let none = HeaderMap::new();
    for path in [INFER, FEEDBACK, CHECK] {
        let caller = identity.admit(path, &none, &remote()).expect("open");
        assert_eq!((caller.name.as_deref(), caller.client(&remote())), (None, Client::from(&remote())));
    }
    for (path, elsewhere) in
        [(SUBSCRIBE, Code::PermissionDenied), (LOAD, Code::PermissionDenied), (REFLECTION, Code::Unimplemented)]
    {
        assert_eq!(code(&identity.admit(path, &none, &remote())), elsewhere, "{path}");
        assert_eq!(code(&identity.admit(path, &none, &Peer::Unix)), Code::Ok, "{path}");
        let loopback = Peer::Tcp("[::ffff:127.0.0.1]:1".parse().expect("an address"));
        assert_eq!(code(&identity.admit(path, &none, &loopback)), Code::Ok, "{path}");
    }
    assert_eq!(code(&identity.admit("/a.B/C", &none, &Peer::Unix)), Code::Unimplemented);
    let off = || Some("off".into());
    let off = start(settings::Raw { reflection: off(), control: off(), ..settings::Raw::default() }, Some("off"));
    for path in [SUBSCRIBE, LOAD, REFLECTION] {
        assert_eq!(code(&off.admit(path, &none, &Peer::Unix)), Code::Unimplemented, "{path}");
    }
    let any = || Some("any".into());
    let any = start(settings::Raw { reflection: any(), control: any(), ..settings::Raw::default() }, Some("any"));
    for path in [SUBSCRIBE, LOAD, REFLECTION] {
        assert_eq!(code(&any.admit(path, &none, &remote())), Code::Ok, "{path}");
    }
}

#[test]
fn a_client_of_the_file_may_do_what_its_roles_say() {
    let directory = tempfile::tempdir().expect("a directory");
    let text = |token: &str| {
        format!(
            "[[client]]\nname = 'scoring'\nroles = ['reader', 'writer']\ntoken-sha256 = ['{}']\n\
             [[client]]\nname = 'shadow'\nroles = ['observer']\ncertificate = ['spiffe://test/shadow']",
            sha256(token)
        )
    };
    let clients = written(&directory, "clients.toml", &text("first"));
    let raw = settings::Raw {
        clients: Some(clients.clone()),
        tls_reload_interval: Some("20ms".into()),
        ..settings::Raw::default()
    };
    let identity = start(raw, None);
    for _ in 0..2 {
        let caller = identity.admit(INFER, &bearer("first"), &remote()).expect("a reader");
        assert_eq!(caller.client(&remote()), Client::Named("client:scoring".into()));
        assert_eq!(code(&identity.admit(FEEDBACK, &bearer("first"), &remote())), Code::Ok);
        assert_eq!(code(&identity.admit(REFLECTION, &bearer("first"), &remote())), Code::Ok);
        for path in [SUBSCRIBE, LOAD] {
            assert_eq!(code(&identity.admit(path, &bearer("first"), &Peer::Unix)), Code::PermissionDenied, "{path}");
        }
        assert_eq!(code(&identity.admit(INFER, &bearer("second"), &remote())), Code::Unauthenticated);
    }
    // The Unix socket is no identity.
    assert_eq!(code(&identity.admit(INFER, &HeaderMap::new(), &Peer::Unix)), Code::Unauthenticated);
    assert_eq!(code(&identity.admit(CHECK, &HeaderMap::new(), &remote())), Code::Ok);

    let with = |name: &str| Peer::Tls {
        address: "203.0.113.7:1".parse().expect("an address"),
        certificate: Some(name.into()),
    };
    let shadow = with("URI:spiffe://test/shadow");
    let none = HeaderMap::new();
    assert_eq!(identity.admit(SUBSCRIBE, &none, &shadow).expect("an observer").name.as_deref(), Some("client:shadow"));
    assert_eq!(code(&identity.admit(INFER, &none, &shadow)), Code::PermissionDenied);
    assert_eq!(code(&identity.admit(INFER, &none, &with("URI:spiffe://test/other"))), Code::PermissionDenied);
    // A token says who calls through a certificate; a bad one is not made good by it.
    let caller = identity.admit(INFER, &bearer("first"), &shadow).expect("a reader");
    assert_eq!(caller.name.as_deref(), Some("client:scoring"));
    // A common name that looks like a URI is none.
    assert_eq!(code(&identity.admit(SUBSCRIBE, &none, &with("CN:spiffe://test/shadow"))), Code::PermissionDenied);
    assert_eq!(code(&identity.admit(SUBSCRIBE, &bearer("bad"), &shadow)), Code::Unauthenticated);

    let mut two = bearer("first");
    two.append(AUTHORIZATION, "Bearer first".parse().expect("a value"));
    assert_eq!(code(&identity.admit(INFER, &two, &remote())), Code::Unauthenticated);
    for wrong in ["first", "Basic first", "Bearer", "Bearer ", "Bearer first second", "\u{e9} first"] {
        let mut headers = HeaderMap::new();
        headers.insert(AUTHORIZATION, HeaderValue::from_bytes(wrong.as_bytes()).expect("a value"));
        assert_eq!(code(&identity.admit(INFER, &headers, &remote())), Code::Unauthenticated, "{wrong}");
    }
    let mut headers = HeaderMap::new();
    headers.insert(AUTHORIZATION, "bearer   first ".parse().expect("a value"));
    assert_eq!(code(&identity.admit(INFER, &headers, &remote())), Code::Ok);

    fs::write(&clients, "broken").expect("a file");
    thread::sleep(Duration::from_millis(100));
    assert_eq!(code(&identity.admit(INFER, &bearer("first"), &remote())), Code::Ok, "the good file stays in use");
    fs::write(&clients, text("second")).expect("a file");
    eventually("the new token", || code(&identity.admit(INFER, &bearer("second"), &remote())) == Code::Ok);
    assert_eq!(code(&identity.admit(INFER, &bearer("first"), &remote())), Code::Unauthenticated);
}

#[test]
fn the_mark_of_a_rehearsal_is_believed_of_who_may_watch_one() {
    let believed = |identity: &Identity, headers: &HeaderMap, peer: &Peer| {
        identity.believes(&identity.admit(INFER, headers, peer).expect("a reader"), peer)
    };
    let none = HeaderMap::new();
    let open = start(settings::Raw::default(), None);
    assert!(believed(&open, &none, &Peer::Unix) && !believed(&open, &none, &remote()));
    assert!(believed(&start(settings::Raw::default(), Some("any")), &none, &remote()));
    assert!(!believed(&start(settings::Raw::default(), Some("off")), &none, &remote()));

    let directory = tempfile::tempdir().expect("a directory");
    let client = |name: &str, roles: &str| {
        format!("[[client]]\nname = '{name}'\nroles = [{roles}]\ntoken-sha256 = ['{}']\n", sha256(name))
    };
    let text = [client("app", "'reader'"), client("sidecar", "'reader', 'observer'")].concat();
    let clients = Some(written(&directory, "clients.toml", &text));
    let known = start(settings::Raw { clients, ..settings::Raw::default() }, None);
    assert!(!believed(&known, &bearer("app"), &Peer::Unix), "behind a proxy on this machine everybody is local");
    assert!(believed(&known, &bearer("sidecar"), &remote()));
}

fn but(name: &str, value: Value) -> Value {
    let mut claims = Issuer::claims("scoring", &["reader"]);
    claims[name] = value;
    claims
}

#[test]
fn tokens_must_be_signed_and_meant_for_us_and_now() {
    let directory = tempfile::tempdir().expect("a directory");
    let (p256, ed25519, unknown) = (Issuer::p256("a"), Issuer::ed25519("b"), Issuer::p256("c"));
    let keys = written(&directory, "keys.json", &Issuer::jwks(&[&p256, &ed25519]));
    let identity = start(jwt(&keys), None);
    let good = Issuer::claims("scoring", &["reader", "unheard-of"]);
    for (what, token) in [
        ("ES256", p256.token(&good)),
        ("EdDSA", ed25519.token(&good)),
        ("no kid", p256.token_of(&json!({"alg": "ES256"}), &good)),
        ("one audience", p256.token(&but("aud", json!(AUDIENCE)))),
        ("a text of roles", p256.token(&but("roles", json!("writer reader")))),
        ("expired within the leeway", p256.token(&but("exp", json!(now() - 10)))),
        ("not before, within the leeway", p256.token(&but("nbf", json!(now() + 10)))),
        ("expires never", p256.token(&but("exp", json!(u64::MAX)))),
        ("expires long after never", p256.token(&but("exp", json!(1e19)))),
    ] {
        for _ in 0..2 {
            let caller = identity.admit(INFER, &bearer(&token), &remote()).unwrap_or_else(|e| panic!("{what}: {e}"));
            assert_eq!(caller.name.as_deref(), Some("sub:scoring"), "{what}");
        }
        assert_eq!(code(&identity.admit(SUBSCRIBE, &bearer(&token), &remote())), Code::PermissionDenied, "{what}");
    }
    let none = format!("{}.", unsigned(&json!({"alg": "none", "kid": "a"}), &good));
    let good_token = p256.token(&good);
    let (head, signature) = good_token.rsplit_once('.').expect("three parts");
    let forged = format!("{}.{signature}", unsigned(&json!({"alg": "ES256", "kid": "a"}), &but("sub", json!("admin"))));
    let critical =
        |names: Value| p256.token_of(&json!({"alg": "ES256", "kid": "a", "crit": names, "b64": true}), &good);
    for (what, token, text) in [
        ("expired", p256.token(&but("exp", json!(now() - 60))), "has expired"),
        ("not yet", p256.token(&but("nbf", json!(now() + 60))), "not valid yet"),
        ("wrong audience", p256.token(&but("aud", json!("others"))), "another audience"),
        ("wrong issuer", p256.token(&but("iss", json!("https://other"))), "another issuer"),
        ("no expiry", p256.token(&but("exp", Value::Null)), "not valid"),
        ("no name", p256.token(&but("sub", json!(""))), "not valid"),
        ("a name without end", p256.token(&but("sub", json!("x".repeat(1000)))), "not valid"),
        ("unknown key", unknown.token(&good), "a key that is not known"),
        ("another's kid", unknown.token_of(&json!({"alg": "ES256", "kid": "a"}), &good), "not valid"),
        ("alg none", none, "not valid"),
        ("alg none, signed", p256.token_of(&json!({"alg": "none", "kid": "a"}), &good), "not valid"),
        ("another algorithm", p256.token_of(&json!({"alg": "EdDSA", "kid": "a"}), &good), "not valid"),
        ("an algorithm that nobody knows", p256.token_of(&json!({"alg": "XX1", "kid": "a"}), &good), "not valid"),
        ("the public key as a secret", p256.confused(&good), "not valid"),
        ("other claims, same signature", forged, "not valid"),
        ("an extension that is critical", critical(json!(["b64"])), "not valid"),
        ("nothing that is critical", critical(json!([])), "not valid"),
        ("no signature", format!("{head}."), "not valid"),
        ("four parts", format!("{good_token}.x"), "not valid"),
        ("no token", "x".into(), "not valid"),
    ] {
        let refused = identity.admit(INFER, &bearer(&token), &remote()).expect_err(what);
        assert_eq!(refused.code(), Code::Unauthenticated, "{what}");
        assert!(refused.message().contains(text), "{what}: {refused}");
        assert!(!refused.message().contains(&token), "{what}: {refused}");
    }
    let other_roles = p256.token(&but("roles", json!(["admin"])));
    assert_eq!(code(&identity.admit(LOAD, &bearer(&other_roles), &remote())), Code::Ok);
    assert_eq!(code(&identity.admit(INFER, &bearer(&other_roles), &remote())), Code::PermissionDenied);

    // What was verified with a key that is gone is not good any more.
    fs::write(&keys, ed25519.pem()).expect("a file");
    eventually("the key is gone", || code(&identity.admit(INFER, &bearer(&good_token), &remote())) != Code::Ok);
    // A key of a PEM file has no kid: it stands for any.
    assert_eq!(code(&identity.admit(INFER, &bearer(&ed25519.token(&good)), &remote())), Code::Ok);
}

/// Made with OpenSSL (`genrsa 2048`, `dgst -sha256 -sign`), good until 2100; the private key is gone.
#[test]
fn rsa_tokens_of_another_library_are_verified() {
    const N: &str = "2Jyy8Wj78QHwLa0ozPirIrVxMgkyFmgEBINMI9qxsz_cXbRteZkQcyrRI09VbTDrml3pP3lXFd2uPABZg3CS6EcpIOdfyp9cxsZ5ypPm97fzO595URfOYt9En0m0GO9lYwyHszsm9oq-MTttdaZvEJST2lVn1RpurkAWPbXOu72DAWYEtLYCgblC2CN6qDil8SAcTlObqEtLpRd1FACxfbNxDs1ITC1mLs-XShcJ1qAweNWo9pecb6nHQMaAKszX0R8BvsfQcc26GJAXzZ8oQsv1d_yPqCPkEd0btaIMjXaVEuDQJi7Y5P2xunTKyoo7QqUay0rTsNP9vMlNI7qE5Q";
    const PEM: &str = "-----BEGIN PUBLIC KEY-----\nMIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCgKCAQEA2Jyy8Wj78QHwLa0ozPir\nIrVxMgkyFmgEBINMI9qxsz/cXbRteZkQcyrRI09VbTDrml3pP3lXFd2uPABZg3CS\n6EcpIOdfyp9cxsZ5ypPm97fzO595URfOYt9En0m0GO9lYwyHszsm9oq+MTttdaZv\nEJST2lVn1RpurkAWPbXOu72DAWYEtLYCgblC2CN6qDil8SAcTlObqEtLpRd1FACx\nfbNxDs1ITC1mLs+XShcJ1qAweNWo9pecb6nHQMaAKszX0R8BvsfQcc26GJAXzZ8o\nQsv1d/yPqCPkEd0btaIMjXaVEuDQJi7Y5P2xunTKyoo7QqUay0rTsNP9vMlNI7qE\n5QIDAQAB\n-----END PUBLIC KEY-----\n";
    const CLAIMS: &str = "eyJpc3MiOiJodHRwczovL2lzc3VlciIsImF1ZCI6InVuZGVyc3R1ZHkiLCJzdWIiOiJzY29yaW5nIiwiZXhwIjo0MTAyNDQ0ODAwLCJyb2xlcyI6WyJyZWFkZXIiXX0";
    const RS256: &str = "kAgNN8gVf2rkRdWtf2CxwrnXNvwWAnn-f17uvVlrpKZlYYzZ2S1sxn7WHGVSNYNmsCjYdLuQGQxUJs2Vfeu8RNIOyESUsKXDj_a1IhDCKXtHZssyLKJVLqN6GGl2uU_ojQNT1c_DxuG9Lcw4euVtWyVdq7chn7XDAK9oAgKC3IC8LDPmBuU9Rq799YTcyNjhvnHhp1_c-VPVRw_ttcdcprh5Gql6CpS-Gh8ZQmmhYGx2_9Fc6UzGph5n6C83ZN8IpJd11LpaIr1NeF6YBLB5v9k5mHKIkIadIpEZoPcP_JEBDVTwb-qjntl8xYfPcVVfdhpJTdk4vxJyGu5fk5Gfjw";
    const PS256: &str = "fPy0lzcbNGTqauAvGyG6dTaNeu1Myf48qwlmkPVNsGfpjiwNif6HIQjpuPTCywnaC2lyLy9feWYpc6-u-v0VKYexBUrZzQnJKa4Zy81oaWWFAjAJMyaLXQvqU7qnFfb8i_WMhNKAK07PHtWGs8PYeQTKxtkLOdzoGQB7qW6DNUWaQF8UCrbKrmDwTm9pQkmW2QwWOzXp2Eb6yMBLIhAYanXcWahhCEFS2dhFmwLAuHXnB3dQ80mJEhzC7u3wZL0GlUtD2dwkSOklMYXDexqjnpi-EsbWeodiJK8kTR2E6YS6ao81SEEheAvd8Qe_VZ5pTLlFVqj1af28iv0XKjjfJw";
    let rs256 = format!("eyJhbGciOiJSUzI1NiIsImtpZCI6InJzYSJ9.{CLAIMS}.{RS256}");
    let ps256 = format!("eyJhbGciOiJQUzI1NiIsImtpZCI6InJzYSJ9.{CLAIMS}.{PS256}");
    let jwk = |alg: Value| json!({"keys": [{"kty": "RSA", "kid": "rsa", "n": N, "e": "AQAB", "alg": alg}]}).to_string();
    let directory = tempfile::tempdir().expect("a directory");
    for (keys, expected) in [
        (PEM.to_owned(), [Code::Ok, Code::Ok]),
        (jwk(json!("RS256")), [Code::Ok, Code::Unauthenticated]),
        (jwk(json!("PS256")), [Code::Unauthenticated, Code::Ok]),
    ] {
        let keys = written(&directory, "keys", &keys);
        let identity = start(settings::Raw { jwt_issuer: Some("https://issuer".into()), ..jwt(&keys) }, None);
        for (token, expected) in [&rs256, &ps256].into_iter().zip(expected) {
            assert_eq!(code(&identity.admit(INFER, &bearer(token), &remote())), expected);
            let forged = token.replace(&CLAIMS[40..60], "AAAAAAAAAAAAAAAAAAAA");
            assert_eq!(code(&identity.admit(INFER, &bearer(&forged), &remote())), Code::Unauthenticated);
        }
    }
}

#[test]
fn keys_that_can_verify_nothing_are_refused() {
    for (content, text) in [
        ("", "got none"),
        ("{}", "no JWK set"),
        (r#"{"keys": []}"#, "got none"),
        (r#"{"keys": [{"kty": "oct", "k": "c2VjcmV0"}]}"#, "got none"),
        (r#"{"keys": [{"kty": "RSA", "use": "enc", "n": "AQAB", "e": "AQAB"}]}"#, "got none"),
        ("-----BEGIN PUBLIC KEY-----\n!\n-----END PUBLIC KEY-----", "public key 0"),
    ] {
        let error = keys::parse(content.as_bytes()).expect_err("no keys");
        assert!(error.contains(text), "{content}: {error}");
    }
}

#[test]
fn keys_of_a_url_follow_their_issuer() {
    let (old, new) = (Issuer::p256("old"), Issuer::p256("new"));
    let body = Arc::new(Mutex::new(None::<String>));
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("http://{}/keys", listener.local_addr().expect("an address"));
    let served = body.clone();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.expect("a connection");
            let mut request = [0; 1024];
            let _read = stream.read(&mut request).expect("a request");
            let answer = match &*served.lock().expect("no panic") {
                None => "HTTP/1.1 503 Busy\r\ncontent-length: 0\r\nconnection: close\r\n\r\n".to_owned(),
                Some(body) => {
                    let length = body.len();
                    format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}")
                }
            };
            // Who asked for more than it wants to read may have gone.
            drop(stream.write_all(answer.as_bytes()));
        }
    });
    let set = |text: Option<String>| *body.lock().expect("no panic") = text;
    let interval = Some("50ms".into());
    let identity = start(settings::Raw { jwt_keys_interval: interval, ..jwt(Path::new(&url)) }, None);
    let claims = Issuer::claims("scoring", &["reader"]);
    let admitted = |issuer: &Issuer| code(&identity.admit(INFER, &bearer(&issuer.token(&claims)), &remote()));
    assert_eq!(admitted(&old), Code::Unavailable, "not the caller's fault");
    set(Some(Issuer::jwks(&[&old])));
    eventually("the first keys", || admitted(&old) == Code::Ok);
    assert_eq!(admitted(&new), Code::Unauthenticated);
    // Neither an issuer that is away nor one that sends too much takes away what is known.
    set(None);
    thread::sleep(Duration::from_millis(200));
    assert_eq!(admitted(&old), Code::Ok);
    set(Some("x".repeat(2 << 20)));
    thread::sleep(Duration::from_millis(200));
    assert_eq!(admitted(&old), Code::Ok);
    set(Some(Issuer::jwks(&[&new])));
    eventually("the new keys", || admitted(&new) == Code::Ok);
    assert_eq!(admitted(&old), Code::Unauthenticated);
}
