//! What it costs to know who calls: for one call, in this process.
//!
//! `cargo bench -p understudy --bench admit`

#![allow(missing_docs, clippy::unwrap_used, reason = "criterion's macros; a bench says what is wrong by failing")]

use std::{fs, hint::black_box};

use criterion::{Criterion, criterion_group, criterion_main};
use http::{HeaderMap, header::AUTHORIZATION};
use issuer::{AUDIENCE, ISSUER, Issuer, sha256};
use understudy::{
    edge::Peer,
    identity::{Identity, settings::Raw},
    settings::Problems,
};

#[allow(dead_code, unreachable_pub, reason = "shared with the harness of the end-to-end tests")]
#[path = "../tests/support/issuer.rs"]
mod issuer;

const INFER: &str = "/inference.GRPCInferenceService/ModelInfer";

fn start(raw: Raw) -> Identity {
    let mut problems = Problems::default();
    let config = raw.validate(&mut problems, ("tap", None));
    Identity::start(&problems.into_result(config).unwrap(), &metrics::NoopRecorder).unwrap().0
}

fn bearer(token: &str) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(AUTHORIZATION, format!("Bearer {token}").parse().unwrap());
    headers
}

fn admit(criterion: &mut Criterion) {
    let directory = tempfile::tempdir().unwrap();
    let (keys, clients) = (directory.path().join("keys.pem"), directory.path().join("clients.toml"));
    let issuer = Issuer::p256("key");
    fs::write(&keys, issuer.pem()).unwrap();
    let client = |n: usize| {
        let certificate = format!("spiffe://test/{n}");
        let digest = sha256(&format!("token {n}"));
        format!("[[client]]\nname='{n}'\nroles=['reader']\ntoken-sha256=['{digest}']\ncertificate=['{certificate}']\n")
    };
    fs::write(&clients, (0..100).map(client).collect::<String>()).unwrap();
    let with = start(Raw {
        clients: Some(clients),
        jwt_issuer: Some(ISSUER.into()),
        jwt_audience: Some(AUDIENCE.into()),
        jwt_keys: Some(keys.to_string_lossy().into()),
        ..Raw::default()
    });
    let address = "203.0.113.7:1".parse().unwrap();
    let tcp = Peer::Tcp(address);
    let tls = Peer::Tls { address, certificate: Some("spiffe://test/99".into()) };
    let jwt = bearer(&issuer.token(&Issuer::claims("scoring", &["reader"])));
    let (none, known, unknown) = (HeaderMap::new(), bearer("token 99"), bearer("unknown"));
    let mut bench = |name: &str, identity: &Identity, headers: &HeaderMap, peer: &Peer, good: bool| {
        assert_eq!(identity.admit(INFER, headers, peer).is_ok(), good, "{name}");
        criterion.bench_function(name, |bencher| {
            bencher.iter(|| identity.admit(black_box(INFER), black_box(headers), black_box(peer)));
        });
    };
    bench("without identity", &start(Raw::default()), &none, &tcp, true);
    bench("a certificate", &with, &none, &tls, true);
    bench("a token of the file", &with, &known, &tcp, true);
    bench("a JWT that was verified before", &with, &jwt, &tcp, true);
    bench("a token that nobody knows, 100 clients", &with, &unknown, &tcp, false);
    // One bit of the signature is another.
    let mut text = jwt[AUTHORIZATION].to_str().unwrap().to_owned();
    let last = if text.ends_with('A') { 'Q' } else { 'A' };
    text.pop();
    text.push(last);
    let mut forged = HeaderMap::new();
    forged.insert(AUTHORIZATION, text.parse().unwrap());
    bench("a JWT with another signature (P-256)", &with, &forged, &tcp, false);
}

criterion_group!(benches, admit);
criterion_main!(benches);
