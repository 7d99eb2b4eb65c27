//! TLS on every way out of the sidecar, with a private authority: what is trusted works as it does in plain text, what is not is
//! said, counted, and harms nobody.

use std::{net::SocketAddr, time::Duration};

use support::{
    Primary, Rehearsal, SOON, adult,
    authority::{Authority, Pair},
    collector::Collector,
    endpoint, eventually, front,
    front::Front,
    grpc::{Call, Connection, MODEL_INFER, PREDICT, frame},
    load,
    mesh::Mesh,
    origin::{Canned, Origin},
    sink::Sink,
    stub::Stub,
    tensors::{RAW, ask},
    until, within,
};
use tonic::Code;
use understudy::v1::{Report, prediction_service_client::PredictionServiceClient};

use super::{agreement, columns, mirror::unmatched, outlets::outcomes, proxy::known, v2};

const UNKNOWN: &str = "no authority that is trusted here vouches for this server";

/// The authority that is trusted, and one that is not.
struct World {
    _directory: tempfile::TempDir,
    authority: Authority,
    stranger: Authority,
}

impl World {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let authority = Authority::new(directory.path(), "authority");
        let stranger = Authority::new(directory.path(), "stranger");
        Self { _directory: directory, authority, stranger }
    }

    async fn trusted(&mut self, target: SocketAddr) -> Front {
        Front::before(target, front::h2(&self.authority.loopback())).await
    }

    async fn strange(&mut self, target: SocketAddr) -> Front {
        Front::before(target, front::h2(&self.stranger.loopback())).await
    }

    /// Follows what is behind `front`.
    async fn follow(&self, front: &Front, change: impl FnOnce(&mut shadow_sidecar::Settings)) -> Rehearsal {
        Rehearsal::alone(|settings| {
            settings.primary = Some(front.url());
            settings.primary_ca = Some(self.authority.path());
            change(settings);
        })
        .await
    }
}

/// Until its intake says what is wrong.
async fn complains(rehearsal: &Rehearsal, text: &str) {
    rehearsal.report_when(|report| report.intake.as_ref().is_some_and(|it| it.last_error.contains(text))).await;
    until(SOON, "it is counted", async || {
        let scrape = rehearsal.scrape().await;
        let figure = |name| scrape.sum(name, &[]);
        (figure("shadow_intake_connected"), figure("shadow_intake_failures_total") > 0.0) == (0.0, true)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tap_is_followed_as_soon_as_it_is_whom_we_trust() {
    let (mut world, primary) = (World::new(), Primary::start().await);
    let front = world.strange(primary.grpc()).await;
    let rehearsal = world.follow(&front, |_| {}).await;
    complains(&rehearsal, UNKNOWN).await;
    // No client notices.
    let outcome = load::once(&primary, 0..100, 1).await;
    assert_eq!((outcome.answered, outcome.failures.len()), (100, 0));
    front.show(front::h2(&world.authority.loopback()));
    known(&rehearsal).await;
    load::once(&primary, 100..300, 1).await;
    let report = rehearsal.settled(200).await;
    assert_eq!(agreement(&report), (200, adult::test_set().agreed("adult_candidate", 100..300)));
    until(SOON, "connected", async || rehearsal.scrape().await.sum("shadow_intake_connected", &[]) == 1.0).await;
}

/// Authorities change, and certificates of an orchestrator's making live for hours: files are read again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_that_change_are_for_the_next_connection() {
    let (mut world, primary) = (World::new(), Primary::start().await);
    let own = world.authority.loopback();
    let front = Front::before(primary.grpc(), front::config(&own, &["h2"], Some(&world.authority.path()))).await;
    let directory = tempfile::tempdir().unwrap();
    let [ca, cert, key] = ["ca", "cert", "key"].map(|name| directory.path().join(name));
    let replace = |ca_of: &Authority, pair: &Pair| {
        for (from, to) in [(&ca_of.path(), &ca), (&pair.certificate, &cert), (&pair.key, &key)] {
            std::fs::copy(from, to).unwrap();
        }
    };
    let old = world.stranger.client("spiffe://test/sidecar");
    replace(&world.stranger, &old);
    let rehearsal = world
        .follow(&front, |settings| {
            settings.primary_ca = Some(ca.clone());
            settings.primary_cert = Some(cert.clone());
            settings.primary_key = Some(key.clone());
        })
        .await;
    complains(&rehearsal, UNKNOWN).await;
    let new = world.authority.client("spiffe://test/sidecar");
    replace(&world.authority, &new);
    known(&rehearsal).await;
    // What can't be used keeps what was used before.
    std::fs::write(&ca, "broken").unwrap();
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    front.show(front::config(&own, &["h2"], Some(&world.authority.path())));
    let again = |report: &Report| report.intake.as_ref().is_some_and(|it| it.connected && it.subscriptions == 2);
    rehearsal.report_when(again).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_wrong_with_a_server_is_said() {
    let (mut world, primary) = (World::new(), Primary::start().await);
    let good = world.authority.loopback();
    let other = world.authority.server(&["other.test"]);
    for (shown, text) in [
        (front::h2(&other), "certificate is not good: certificate not valid for name \"127.0.0.1\""),
        (front::config(&good, &[], None), "does not offer HTTP/2 over TLS (ALPN h2)"),
        (front::config(&good, &["http/1.1"], None), "does not offer HTTP/2 over TLS (ALPN h2)"),
    ] {
        let front = Front::before(primary.grpc(), shown).await;
        complains(&world.follow(&front, |_| {}).await, text).await;
    }
    let plain = Rehearsal::alone(|settings| settings.primary = Some(format!("https://{}", primary.grpc()))).await;
    complains(&plain, "the server does not speak TLS").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_primary_may_ask_for_a_certificate() {
    let (mut world, primary) = (World::new(), Primary::start().await);
    let (own, mine) = (world.authority.loopback(), world.authority.client("spiffe://test/sidecar"));
    let front = Front::before(primary.grpc(), front::config(&own, &["h2"], Some(&world.authority.path()))).await;
    let without = world.follow(&front, |_| {}).await;
    complains(&without, "CertificateRequired").await;
    for intake in ["tap", "mirror", "proxy"] {
        let rehearsal = world
            .follow(&front, |settings| {
                settings.intake = Some(intake.into());
                settings.primary_cert = Some(mine.certificate.clone());
                settings.primary_key = Some(mine.key.clone());
            })
            .await;
        known(&rehearsal).await;
        if intake == "proxy" {
            let through = Connection::open(rehearsal.grpc()).await;
            assert_eq!(through.call(&Call::new(PREDICT, &adult::test_set().predict(0..1))).await.status, Some(0));
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mirror_joins_with_a_tap_over_tls() {
    let (mut world, primary) = (World::new(), Primary::start().await);
    let front = world.trusted(primary.grpc()).await;
    let rehearsal = world.follow(&front, |settings| settings.intake = Some("mirror".into())).await;
    known(&rehearsal).await;
    let mut mesh = Mesh::between(primary.grpc(), rehearsal.grpc(), Some("x-shadow-id")).await;
    for row in 0..100 {
        let call = Call::new(PREDICT, &adult::test_set().predict(row..row + 1));
        assert_eq!(mesh.call(&call).await.0.status, Some(0));
    }
    let report = rehearsal.settled(100).await;
    assert_eq!(agreement(&report), (100, adult::test_set().agreed("adult_candidate", 0..100)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mirror_asks_once_more_over_tls() {
    let mut world = World::new();
    let primary = Stub::describing(v2::metadata(), |request| Some(Ok(v2::answer(request)))).await;
    let front = world.trusted(primary.address()).await;
    let rehearsal = world
        .follow(&front, |settings| {
            settings.intake = Some("mirror".into());
            settings.primary_model = Some("income".into());
            settings.primary_classes = Some(adult::CLASSES.map(String::from).to_vec());
            settings.noise_rate = Some(0.0);
        })
        .await;
    known(&rehearsal).await;
    let mut mesh = Mesh::between(primary.address(), rehearsal.grpc(), Some("x-shadow-id")).await;
    for row in 0..100 {
        assert_eq!(mesh.copy(&Call::new(MODEL_INFER, &columns(row))).await.status, Some(0));
    }
    let report = rehearsal.settled(100).await;
    assert_eq!(agreement(&report), (100, adult::test_set().agreed("adult_candidate", 0..100)));
    assert_eq!(report.intake.unwrap().executed, 100);

    // Whom nobody vouches for any more is not asked; users are answered all the same, so that the candidate has missed something.
    front.show(front::h2(&world.stranger.loopback()));
    for row in 0..20 {
        let (answer, copy) = mesh.call(&Call::new(MODEL_INFER, &columns(row))).await;
        assert_eq!((answer.status, copy.status), (Some(0), Some(0)));
    }
    let report = rehearsal.settled(120).await;
    assert_eq!(unmatched(&report, "mirror", "shed"), 20);
    assert_eq!(report.exchanges.unwrap().dropped, [("shed".to_owned(), 20)].into());
}

/// Byte for byte, as the proxy has it in plain text; and the primary is told that it is https.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_proxy_passes_on_over_tls() {
    let (mut world, primary) = (World::new(), Primary::start().await);
    let front = world.trusted(primary.grpc()).await;
    let proxied = |settings: &mut shadow_sidecar::Settings| settings.intake = Some("proxy".into());
    let rehearsal = world.follow(&front, proxied).await;
    known(&rehearsal).await;
    let (straight, through) = (primary.connect().await, Connection::open(rehearsal.grpc()).await);
    let table = adult::test_set();
    for row in 0..300 {
        let mut request = table.columns(row..row + 1 + row % 7, RAW);
        // Prediction ids are never the same.
        ask(&mut request, &["label", "probabilities"]);
        let call = Call::new(MODEL_INFER, &request);
        let (expected, got) = tokio::join!(straight.call(&call), through.call(&call));
        assert_eq!(expected.status, Some(0));
        assert_eq!((got.http, got.body, got.metadata), (expected.http, expected.body, expected.metadata), "call {row}");
    }
    assert_eq!(rehearsal.settled(300).await.exchanges.unwrap().compared, 300);

    let origin = Origin::start(Canned::default()).await;
    let front = world.trusted(origin.address()).await;
    let rehearsal = world.follow(&front, proxied).await;
    within(SOON, Connection::open(rehearsal.grpc()).await.call(&Call::bytes("/any.Service/Method", frame(0, b"x"))))
        .await;
    let seen = origin.seen().into_iter().find(|seen| seen.uri.ends_with("/any.Service/Method")).unwrap();
    assert_eq!(seen.uri, format!("https://{}/any.Service/Method", rehearsal.grpc()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_proxy_says_unavailable_until_the_primary_is_whom_we_trust() {
    let (mut world, primary) = (World::new(), Primary::start().await);
    let front = world.trusted(primary.grpc()).await;
    let rehearsal = world.follow(&front, |settings| settings.intake = Some("proxy".into())).await;
    known(&rehearsal).await;
    let channel = endpoint(&format!("http://{}", rehearsal.grpc())).connect_lazy();
    let mut client = PredictionServiceClient::new(channel.clone());
    let mut ask = async || client.predict(adult::test_set().predict(0..1)).await;
    ask().await.unwrap();
    front.show(front::h2(&world.stranger.loopback()));
    // What was under way on the connection that has just ended may be told otherwise.
    let status = eventually(SOON, async || {
        let status = within(SOON, ask()).await.unwrap_err();
        anyhow::ensure!(status.message().contains(UNKNOWN), "{status}");
        Ok(status)
    })
    .await;
    assert_eq!(status.code(), Code::Unavailable);
    assert!(!status.message().contains("authority.pem"), "files are nobody's business: {status}");
    let outcome = load::through(&channel, 0..50, 1).await;
    assert_eq!((outcome.answered, outcome.failures.len()), (0, 50));
    assert!(outcome.failures.iter().all(|status| status.code() == Code::Unavailable), "{:?}", outcome.failures);
    front.show(front::h2(&world.authority.loopback()));
    let outcome = load::through(&channel, 0..50, 1).await;
    assert_eq!((outcome.answered, outcome.failures.len()), (50, 0));
    let counts = rehearsal.compared().await;
    let report = rehearsal.report().await;
    assert_eq!((counts, unmatched(&report, "mirror", "primary_error") >= 51), (51, true), "{report:#?}");
}

/// Those who wait for a connection do not try one after the other what takes five seconds to fail.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_handshake_that_hangs_holds_up_no_queue() {
    let world = World::new();
    // Connections are taken by the kernel, and nobody ever looks at them.
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let rehearsal = Rehearsal::alone(|settings| {
        settings.primary = Some(format!("https://{}", silent.local_addr().unwrap()));
        settings.primary_ca = Some(world.authority.path());
        settings.intake = Some("proxy".into());
    })
    .await;
    let channel = endpoint(&format!("http://{}", rehearsal.grpc())).connect_lazy();
    // Eight at a time: the second eight wait for a handshake of their own.
    let outcome = within(Duration::from_secs(14), load::through(&channel, 0..16, 1)).await;
    assert_eq!((outcome.answered, outcome.failures.len()), (0, 16));
    assert!(outcome.failures.iter().all(|status| status.code() == Code::Unavailable), "{:?}", outcome.failures);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_candidate_is_asked_over_tls_while_it_is_whom_we_trust() {
    let (mut world, primary, server) = (World::new(), Primary::start().await, Primary::start().await);
    let (own, mine) = (world.authority.loopback(), world.authority.client("spiffe://test/sidecar"));
    let asking = front::config(&own, &["h2"], Some(&world.authority.path()));
    let front = Front::before(server.grpc(), asking).await;
    let rehearsal = Rehearsal::beside(&primary, |settings| {
        settings.candidate = Some(front.url());
        settings.candidate_ca = Some(world.authority.path());
        settings.candidate_cert = Some(mine.certificate);
        settings.candidate_key = Some(mine.key);
        settings.disagreements = Some(200);
    })
    .await;
    load::once(&primary, 0..100, 1).await;
    assert_eq!(agreement(&rehearsal.settled(100).await), (100, 100), "the same model");

    front.show(front::h2(&world.stranger.loopback()));
    let outcome = load::once(&primary, 0..100, 1).await;
    assert_eq!((outcome.answered, outcome.failures.len()), (100, 0), "no client notices");
    let counts = rehearsal.settled(200).await.exchanges.unwrap();
    assert_eq!((counts.compared, counts.failed), (100, [("UNAVAILABLE".to_owned(), 100)].into()));
    assert!(front.handshakes().1 < 50, "it is left alone: {:?}", front.handshakes());

    // One that was never whom we trust: no epoch begins, and the report says why.
    let strange = world.strange(server.grpc()).await;
    let rehearsal = Rehearsal::beside(&primary, |settings| {
        settings.candidate = Some(strange.url());
        settings.candidate_ca = Some(world.authority.path());
    })
    .await;
    rehearsal
        .report_when(|report| {
            report.intake.as_ref().is_some_and(|it| it.last_error == format!("candidate: Unavailable: {UNKNOWN}"))
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_go_to_a_sink_over_tls() {
    let (mut world, primary, sink) = (World::new(), Primary::start().await, Sink::start("200 OK").await);
    let http = |pair: Pair| front::config(&pair, &["http/1.1"], None);
    let good = Front::before(sink.address(), http(world.authority.loopback())).await;
    let strange = Front::before(sink.address(), http(world.stranger.loopback())).await;
    let beside = async |front: &Front| {
        Rehearsal::beside(&primary, |settings| {
            settings.cloudevents_url = Some(format!("{}/events", front.url()));
            settings.cloudevents_ca = Some(world.authority.path());
            settings.cloudevents_batch = Some(100);
        })
        .await
    };
    let (trusted, distrusted) = (beside(&good).await, beside(&strange).await);
    assert_eq!(load::once(&primary, 0..100, 1).await.answered, 100);
    assert_eq!(outcomes(&trusted, "cloudevents", 100).await, [("sent".to_owned(), 100)].into());
    assert_eq!(outcomes(&distrusted, "cloudevents", 100).await, [("unreachable".to_owned(), 100)].into());
    let events: usize = sink.events().iter().map(|(_, batch)| batch.as_array().unwrap().len()).sum();
    assert_eq!(events, 200, "a request and a response each, and none by the way that is not trusted");
    assert_eq!(strange.handshakes().0, 0);
    for rehearsal in [&trusted, &distrusted] {
        assert_eq!(rehearsal.settled(100).await.exchanges.unwrap().compared, 100);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn figures_go_to_a_collector_over_tls() {
    let (mut world, primary, collector) = (World::new(), Primary::start().await, Collector::start().await);
    let (own, mine) = (world.authority.loopback(), world.authority.client("spiffe://test/sidecar"));
    let good = Front::before(collector.address(), front::config(&own, &["h2"], Some(&world.authority.path()))).await;
    let strange = world.strange(collector.address()).await;
    let beside = async |front: &Front| {
        Rehearsal::beside(&primary, |settings| {
            settings.candidate = Some(support::rehearsal::package("adult-candidate-bad"));
            settings.otlp_endpoint = Some(front.url());
            settings.otlp_ca = Some(world.authority.path());
            settings.otlp_cert = Some(mine.certificate.clone());
            settings.otlp_key = Some(mine.key.clone());
            settings.otlp_interval = Some("100ms".into());
        })
        .await
    };
    let distrusted = beside(&strange).await;
    load::once(&primary, 0..200, 100).await;
    let exports = async |rehearsal: &Rehearsal, outcome: &str| {
        rehearsal.scrape().await.sum("shadow_otlp_exports_total", &[("outcome", outcome)])
    };
    until(SOON * 2, "exports fail", async || exports(&distrusted, "failed").await > 0.0).await;
    assert_eq!((exports(&distrusted, "sent").await, collector.exports(), strange.handshakes().0), (0.0, 0, 0));
    assert_eq!(distrusted.settled(2).await.exchanges.unwrap().compared, 2);

    let trusted = beside(&good).await;
    load::once(&primary, 0..200, 100).await;
    until(SOON, "figures and records arrive", async || {
        collector.sum("shadow.compared", &[]) == 200 && !collector.logs().is_empty()
    })
    .await;
    assert!(exports(&trusted, "sent").await > 0.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_that_can_not_be_used_are_told_at_the_start() {
    let world = World::new();
    let missing = Some("/nowhere/ca.pem".into());
    let no_certificate = tempfile::NamedTempFile::new().unwrap();
    let empty = Some(no_certificate.path().to_owned());
    let https = || Some("https://127.0.0.1:1".to_owned());
    let settings = || shadow_sidecar::Settings {
        candidate: Some(support::rehearsal::package("adult-candidate")),
        grpc_listen: Some("127.0.0.1:0".into()),
        admin_listen: Some("127.0.0.1:0".into()),
        ..shadow_sidecar::Settings::default()
    };
    for (settings, texts) in [
        (
            shadow_sidecar::Settings { primary: https(), primary_ca: missing.clone(), ..settings() },
            ["primary: TLS for https://127.0.0.1:1", "/nowhere/ca.pem: No such file"],
        ),
        (
            shadow_sidecar::Settings { primary: https(), primary_ca: empty.clone(), ..settings() },
            ["primary: TLS for", "expected at least one certificate of an authority in PEM, got none"],
        ),
        (
            shadow_sidecar::Settings { candidate: https(), candidate_ca: missing.clone(), ..settings() },
            ["candidate: TLS for", "/nowhere/ca.pem"],
        ),
        (
            shadow_sidecar::Settings { cloudevents_url: https(), cloudevents_ca: missing.clone(), ..settings() },
            ["cloudevents: TLS for", "/nowhere/ca.pem"],
        ),
        (
            shadow_sidecar::Settings { otlp_endpoint: https(), otlp_ca: missing.clone(), ..settings() },
            ["otlp: TLS for", "/nowhere/ca.pem"],
        ),
        (
            shadow_sidecar::Settings {
                primary: https(),
                primary_ca: Some(world.authority.path()),
                primary_cert: Some(world.authority.path()),
                primary_key: empty.clone(),
                ..settings()
            },
            ["primary: TLS for", no_certificate.path().to_str().unwrap()],
        ),
    ] {
        let error = shadow_sidecar::Sidecar::start(settings.validate().unwrap()).await.unwrap_err();
        let text = error.to_string();
        assert!(error.exit_code() == 78 && texts.iter().all(|part| text.contains(part)), "{texts:?}: {text}");
    }
    // What would encrypt nothing is refused: whoever set it thinks that it does.
    let settings = shadow_sidecar::Settings {
        primary_ca: missing.clone(),
        candidate_cert: missing.clone(),
        otlp_endpoint: Some("http://collector:4317".into()),
        otlp_key: missing.clone(),
        cloudevents_url: Some("http://sink/".into()),
        cloudevents_ca: missing,
        ..settings()
    };
    let problems = settings.validate().unwrap_err().to_string();
    for problem in [
        "primary-ca: only for https://",
        "candidate-cert: expected candidate-key, too",
        "candidate-cert: only for https://",
        "otlp-key: expected otlp-cert, too",
        "otlp-key: only for https://",
        "cloudevents-ca: only for https://",
    ] {
        assert!(problems.contains(problem), "{problem}: {problems}");
    }
}
