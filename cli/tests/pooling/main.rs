//! Three servers, each with a sidecar, and the program as a process that pools what they know.

#![allow(clippy::unwrap_used, reason = "a test says what is wrong by failing")]

use std::{
    path::Path,
    process::{Command, Output},
};

use serde_json::{Value as Json, json};
use shadow_sidecar::{Settings, report_json};
use support::{Primary, Rehearsal, SOON, authority::Authority, eventually, load};
use understudy::v1::{Report, StartEpochRequest, Verdict};

/// Rows of each server, and rows of a call.
const ROWS: usize = 801;
const BATCH: usize = 3;
/// Calls to each server.
const CALLS: u64 = (ROWS / BATCH) as u64;

struct Ran {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

impl Ran {
    fn json(&self) -> Json {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {}{}", self.stdout, self.stderr))
    }
}

/// `understudy report FLAGS ADDRESSES`, ended by itself.
async fn report(flags: &[&str], addresses: &[String]) -> Ran {
    report_where(flags, addresses, &[]).await
}

/// The same, with variables of the environment.
async fn report_where(flags: &[&str], addresses: &[String], variables: &[(&str, &Path)]) -> Ran {
    let mut command = Command::new(env!("CARGO_BIN_EXE_understudy"));
    command.arg("report").args(flags).args(addresses).env_remove("UNDERSTUDY_SIDECAR");
    command.envs(variables.iter().copied());
    let ran = tokio::task::spawn_blocking(move || command.output());
    let Output { status, stdout, stderr } = support::within(3 * SOON, ran).await.unwrap().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    Ran { code: status.code(), stdout: text(stdout), stderr: text(stderr) }
}

/// What a pool proves and one of three does not.
fn gates(settings: &mut Settings) {
    settings.gate = Some(0.97);
    settings.min_pairs = Some(500);
}

/// Each row of a third of the rows once.
async fn send(primary: &Primary, third: usize) {
    let outcome = load::once(primary, third * ROWS..(third + 1) * ROWS, BATCH).await;
    assert_eq!((outcome.answered, outcome.failures.len()), (CALLS, 0));
}

/// Of the pool and of one sidecar the same, to the last digit: everything but times, and what depends on the order.
fn exact(report: &Json) -> Json {
    let agreement = &report["agreement"];
    let of = |names: &[&str]| -> Vec<Json> { names.iter().map(|name| agreement[name].clone()).collect() };
    json!({
        "counts": [report["exchanges"], report["rows"], report["statuses"], report["flips"]],
        "agreement": of(&[
            "compared", "agreed", "observations", "shares", "rate", "lower", "upper", "alpha", "gate", "one_sided_lower",
            "worst_case_lower", "worst_case_log_e", "accuracy_change_bound", "kappa", "nonfinite",
        ]),
        "scores": [report["scores"]["bins"], report["scores"]["stability_index"], report["score_delta"]["count"]],
        "largest": [report["score_delta"]["max_absolute"], report["distances"]["largest"]],
        "slices": report["slices"].as_array().unwrap().iter().map(|slice| {
            ["name", "compared", "agreed", "observations", "shares", "lower", "upper", "log_e_below"]
                .map(|name| slice[name].clone())
        }).collect::<Vec<_>>(),
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pool_is_one_sidecar_that_has_seen_all() {
    let directory = tempfile::tempdir().unwrap();
    let state = directory.path().join("state");
    let settings = |settings: &mut Settings| {
        gates(settings);
        settings.slices = Some(vec!["sex".into(), "age:30,50".into()]);
    };
    let kept = |all: &mut Settings| {
        settings(all);
        all.state_file = Some(state.clone());
    };
    let (mut primaries, mut sidecars) = (Vec::new(), Vec::new());
    for third in 0..3 {
        let primary = Primary::start().await;
        let sidecar = if third == 2 {
            Rehearsal::beside(&primary, kept).await
        } else {
            Rehearsal::beside(&primary, settings).await
        };
        send(&primary, third).await;
        assert_eq!(sidecar.settled(CALLS).await.verdict(), Verdict::Undecided, "one alone has seen too little");
        primaries.push(primary);
        sidecars.push(sidecar);
    }
    // One server and one sidecar for all of it.
    let (server, whole) = {
        let server = Primary::start().await;
        let whole = Rehearsal::beside(&server, settings).await;
        for third in 0..3 {
            send(&server, third).await;
        }
        (server, whole)
    };
    let expected = whole.settled(3 * CALLS).await;
    assert_eq!(expected.verdict(), Verdict::Promote, "{:#?}", expected.reasons);
    let expected = exact(&report_json::report(&Report { ..expected }));
    drop(server);

    let addresses = |sidecars: &[Rehearsal]| sidecars.iter().map(|it| it.grpc().to_string()).collect::<Vec<_>>();
    let ran = report(&["--json", "--exit-code", "--require-all"], &addresses(&sidecars)).await;
    assert_eq!(ran.code, Some(0), "promoted: {}{}", ran.stdout, ran.stderr);
    let pooled = ran.json();
    assert_eq!(exact(&pooled), expected);
    assert_eq!((&pooled["verdict"], &pooled["pool"]["pooled"]), (&json!("promote"), &json!(3)));
    for latency in ["primary_latency", "candidate_latency"] {
        assert_eq!(pooled[latency]["count"], json!(3 * CALLS));
    }

    // One goes and comes back with what it had counted.
    let third = sidecars.pop().unwrap();
    third.drain().await;
    let lonely = report(&["--exit-code"], &[addresses(&sidecars), vec!["127.0.0.1:1".into()]].concat()).await;
    assert_eq!(lonely.code, Some(0), "534 exchanges are enough, too: {}", lonely.stdout);
    assert!(
        lonely
            .stdout
            .contains("2 of 3 pooled\n            127.0.0.1:1: can't connect to 127.0.0.1:1: Connection refused"),
        "{}",
        lonely.stdout
    );
    assert!(lonely.stdout.contains("2 of 3 replicas are pooled"), "{}", lonely.stdout);
    sidecars.push(Rehearsal::beside(&primaries[2], kept).await);
    let again = report(&["--json"], &addresses(&sidecars)).await.json();
    assert_eq!(exact(&again), expected);

    // The same counts, whichever way they are asked for: every address of a name, and one twice.
    let name = format!("dns:localhost:{}", sidecars[0].grpc().port());
    let named = report(&["--json"], &[addresses(&sidecars), vec![name]].concat()).await.json();
    assert_eq!(exact(&named), expected);
    assert_eq!(named["pool"]["of"], json!(3), "{}", named["pool"]);

    // A watch ends with the verdict.
    let watched = report(&["--watch", "--json", "--exit-code"], &addresses(&sidecars)).await;
    assert_eq!(watched.code, Some(0), "{}", watched.stderr);
    assert_eq!(exact(&serde_json::from_str(watched.stdout.lines().last().unwrap()).unwrap()), expected);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_must_not_be_added_up_is_named_and_left_out() {
    let (mut primaries, mut sidecars) = (Vec::new(), Vec::new());
    for third in 0..3 {
        let primary = Primary::start().await;
        let sidecar = Rehearsal::beside(&primary, gates).await;
        send(&primary, third).await;
        sidecar.settled(CALLS).await;
        primaries.push(primary);
        sidecars.push(sidecar);
    }
    let request = StartEpochRequest { reason: "a test".into(), ..StartEpochRequest::default() };
    sidecars[1].shadow().start_epoch(request).await.unwrap();
    let addresses: Vec<String> = sidecars.iter().map(|it| it.grpc().to_string()).collect();
    let ran = report(&["--json"], &addresses).await;
    let pooled = ran.json();
    assert_eq!((ran.code, &pooled["exchanges"]["offered"]), (Some(0), &json!(2 * CALLS)), "{}", pooled["pool"]);
    let refused = &pooled["pool"]["replicas"][1];
    assert_eq!((&refused["standing"], &refused["address"]), (&json!("refused"), &json!(addresses[1])));
    assert_eq!(refused["why"], "epochs begun by hand: 1, not 0");

    let strict = report(&["--require-all"], &addresses).await;
    let expected = format!("2 of 3 replicas are pooled: {}: epochs begun by hand: 1, not 0", addresses[1]);
    assert_eq!((strict.code, strict.stderr.trim_end()), (Some(1), format!("understudy: {expected}").as_str()));

    // Beside a server that has a sidecar; with another gate; and where nobody is.
    let beside = Rehearsal::beside(&primaries[0], gates).await;
    let other = Rehearsal::beside(&primaries[1], |settings| settings.gate = Some(0.96)).await;
    for (more, why) in [
        (beside.grpc().to_string(), format!("follows the tap of the same server as {}", addresses[0])),
        (other.grpc().to_string(), "gate 0.96, not 0.97; min-pairs 1000, not 500".to_owned()),
        ("127.0.0.1:1".to_owned(), "can't connect".to_owned()),
        ("dns:nobody.invalid".to_owned(), "no a".to_owned()),
    ] {
        let pooled = report(&["--json"], &[addresses[0].clone(), addresses[2].clone(), more]).await.json();
        assert_eq!(pooled["pool"]["pooled"], json!(2));
        let replicas = pooled["pool"]["replicas"].as_array().unwrap();
        let told: Vec<&str> = replicas.iter().filter_map(|replica| replica["why"].as_str()).collect();
        assert!(told.len() == 1 && told[0].contains(&why), "expected {why:?}, got {told:?}");
        assert_eq!(pooled["exchanges"]["offered"], json!(2 * CALLS), "{why}");
    }
    let nobody = report(&[], &["127.0.0.1:1".into(), "127.0.0.1:2".into()]).await;
    assert_eq!((nobody.code, nobody.stdout.as_str()), (Some(1), ""));
    assert!(nobody.stderr.contains("0 of 2 replicas are pooled: 127.0.0.1:1: can't connect"), "{}", nobody.stderr);
}

/// Where no authority is named, those of the system are trusted and no others.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_authorities_of_the_system_are_the_default() {
    let directory = tempfile::tempdir().unwrap();
    let mut authority = Authority::new(directory.path(), "authority");
    let stranger = Authority::new(directory.path(), "stranger");
    let (primary, pair) = (Primary::start().await, authority.loopback());
    let sidecar = Rehearsal::alone(|settings| {
        settings.primary = Some(primary.unix_url());
        settings.tls_cert = Some(pair.certificate.clone());
        settings.tls_key = Some(pair.key.clone());
    })
    .await;
    let address = [format!("https://{}", sidecar.grpc())];
    eventually(SOON, async || {
        let ran = report_where(&["--json", "--require-all"], &address, &[("SSL_CERT_FILE", &authority.path())]).await;
        anyhow::ensure!(ran.code == Some(0), "{}", ran.stderr);
        Ok(())
    })
    .await;
    let ran = report_where(&[], &address, &[("SSL_CERT_FILE", &stranger.path())]).await;
    assert_eq!(ran.code, Some(1), "{}", ran.stdout);
    assert!(ran.stderr.contains("no authority that is trusted here vouches for this server"), "{}", ran.stderr);
}

/// The addresses of a name are asked one by one, and each must show a certificate for the name.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_name_over_tls_is_the_name_in_the_certificate() {
    let directory = tempfile::tempdir().unwrap();
    let mut authority = Authority::new(directory.path(), "authority");
    let primary = Primary::start().await;
    let ca = authority.path().to_string_lossy().into_owned();
    for name in ["localhost", "elsewhere"] {
        let pair = authority.server(&[name]);
        let sidecar = Rehearsal::alone(|settings| {
            settings.primary = Some(primary.unix_url());
            settings.tls_cert = Some(pair.certificate.clone());
            settings.tls_key = Some(pair.key.clone());
        })
        .await;
        let address = format!("dns:https://localhost:{}", sidecar.grpc().port());
        if name == "localhost" {
            eventually(SOON, async || {
                let ran = report(&["--json", "--require-all", "--ca", &ca], std::slice::from_ref(&address)).await;
                anyhow::ensure!(ran.code == Some(0), "{}", ran.stderr);
                assert_eq!(ran.json()["pool"]["replicas"][0]["address"], format!("https://{}", sidecar.grpc()));
                Ok(())
            })
            .await;
        } else {
            let ran = report(&["--ca", &ca], &[address]).await;
            assert_eq!(ran.code, Some(1), "{}", ran.stdout);
            assert!(ran.stderr.contains("0 of ") && ran.stderr.contains("certificate"), "{}", ran.stderr);
        }
    }
}
