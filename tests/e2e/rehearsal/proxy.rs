//! The sidecar in the path of the calls: what goes through it is to the byte what would have come without it.

use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use prost::Message;
use support::{
    Primary, Rehearsal, SOON, adult, endpoint,
    grpc::{Call, Connection, MODEL_INFER, PREDICT, frame},
    load,
    origin::{Canned, Origin},
    rehearsal::package,
    stub::Stub,
    tensors::{RAW, ask},
    until, within,
};
use tonic::Code;
use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient};
use understudy::v1::{Report, Verdict, prediction_service_client::PredictionServiceClient};

use super::{agreement, columns, v2};

async fn proxy(primary: String, change: impl FnOnce(&mut shadow_sidecar::Settings)) -> Rehearsal {
    Rehearsal::alone(|settings| {
        settings.primary = Some(primary);
        settings.intake = Some("proxy".into());
        change(settings);
    })
    .await
}

pub(super) async fn known(rehearsal: &Rehearsal) {
    rehearsal.report_when(|report| report.intake.as_ref().is_some_and(|it| it.connected)).await;
}

async fn rehearse(candidate: &str, column: &str, rows: usize) -> Report {
    let primary = Primary::start().await;
    let rehearsal = proxy(primary.unix_url(), |settings| settings.candidate = Some(package(candidate))).await;
    known(&rehearsal).await;
    let channel = endpoint(&format!("http://{}", rehearsal.grpc())).connect_lazy();
    let outcome = load::through(&channel, 0..rows, 1).await;
    assert_eq!((outcome.answered, outcome.failures.len()), (rows as u64, 0));
    let report = rehearsal.settled(rows as u64).await;
    assert_eq!(agreement(&report), (rows as u64, adult::test_set().agreed(column, 0..rows)));
    let intake = report.intake.as_ref().unwrap();
    assert_eq!((intake.kind.as_str(), intake.requests, intake.matched), ("proxy", rows as u64, rows as u64));
    let latency = report.primary_latency.as_ref().unwrap();
    assert_eq!((latency.observed_via.as_str(), latency.count), ("proxy", rows as u64));
    report
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_good_candidate_is_promoted_through_a_proxy() {
    let report = rehearse("adult-candidate", "adult_candidate", 2_500).await;
    assert_eq!(report.verdict(), Verdict::Promote, "{:#?}", report.reasons);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bad_candidate_is_rejected_through_a_proxy() {
    let report = rehearse("adult-candidate-bad", "adult_candidate_bad", 1_000).await;
    assert_eq!(report.verdict(), Verdict::Reject, "{:#?}", report.reasons);
}

/// P5, and the same for every other kind of call.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_are_the_same_to_the_byte_with_the_proxy_and_without() {
    let answers = if cfg!(debug_assertions) { 2_000 } else { 10_000 };
    let primary = Primary::start().await;
    let rehearsal = proxy(primary.unix_url(), |_| {}).await;
    known(&rehearsal).await;
    let (straight, through) = (primary.connect().await, Connection::open(rehearsal.grpc()).await);
    let table = adult::test_set();
    for n in 0..answers {
        let row = n % 3_990;
        let mut request = table.columns(row..row + 1 + n % 7, RAW);
        // Prediction ids are never the same.
        ask(&mut request, &["label", "probabilities"]);
        let call = Call::new(MODEL_INFER, &request);
        let (expected, got) = tokio::join!(straight.call(&call), through.call(&call));
        assert_eq!(expected.status, Some(0));
        assert_eq!((got.http, got.body, got.metadata), (expected.http, expected.body, expected.metadata), "answer {n}");
    }
    let server_info = b"\x0a\x00\x3a\x00";
    for call in [
        Call::new(PREDICT, &table.predict(0..101)),
        Call::bytes(PREDICT, frame(0, b"\xff\xff")),
        Call::bytes(PREDICT, frame(1, b"not compressed")).header("grpc-encoding", "gzip"),
        Call::bytes(PREDICT, Vec::new()),
        Call::bytes("/nobody.Knows/This", frame(0, b"")),
        Call::new(MODEL_INFER, &table.columns(0..1, RAW)).header("grpc-timeout", "nonsense"),
        Call::new(MODEL_INFER, &table.columns(0..1, RAW)).header("content-type", "text/html"),
        Call::new("/inference.GRPCInferenceService/ServerMetadata", &()),
        Call::bytes("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo", frame(0, server_info)),
        Call::bytes("/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo", frame(0, server_info)),
    ] {
        let (expected, got) = (straight.call(&call).await, through.call(&call).await);
        assert_eq!(
            (got.http, got.status, got.body, got.metadata),
            (expected.http, expected.status, expected.body, expected.metadata),
            "{call:?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_go_through_while_they_last() {
    let primary = Primary::start().await;
    let rehearsal = proxy(primary.url(), |_| {}).await;
    let mut health = HealthClient::new(endpoint(&format!("http://{}", rehearsal.grpc())).connect_lazy());
    // A name that only the server has.
    let request = HealthCheckRequest { service: "model/adult".into() };
    let mut watch = within(SOON, health.watch(request)).await.unwrap().into_inner();
    let first = within(SOON, watch.message()).await.unwrap().unwrap();
    assert_eq!(first.status(), ServingStatus::Serving);
    let draining = tokio::spawn(primary.drain());
    let mut last = Ok(Some(first));
    while let Ok(Some(update)) = &last {
        assert!(matches!(update.status(), ServingStatus::Serving | ServingStatus::NotServing));
        last = within(SOON, watch.message()).await;
    }
    draining.await.unwrap();
}

fn headers(list: &[(&'static str, &'static [u8])]) -> HeaderMap {
    list.iter().map(|(name, value)| (http::HeaderName::from_static(name), value_of(value))).collect()
}

fn value_of(bytes: &[u8]) -> http::HeaderValue {
    http::HeaderValue::from_bytes(bytes).unwrap()
}

/// What no library of ours would have written arrives as it was written.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn headers_data_and_trailers_are_nobodys_business() {
    let plain: &[(&str, &[u8])] =
        &[("content-type", b"application/grpc+proto"), ("x-b3", b"a, b"), ("grpc-encoding", b"snappy")];
    let trailers: &[(&str, &[u8])] =
        &[("grpc-status", b"0"), ("grpc-message", b"%E2%9C%93"), ("x-bin", b"AAEC"), ("x-late", b"1")];
    let only: &[(&str, &[u8])] = &[
        ("content-type", b"application/grpc"),
        ("grpc-status", b"9"),
        ("grpc-message", b"no"),
        ("x-why", b"\xc3\xa4"),
    ];
    let cases = [
        Canned {
            headers: headers(plain),
            data: vec![
                Bytes::from(frame(1, b"whatever snappy is")),
                Bytes::from_static(b"\0\0"),
                Bytes::from(vec![7; 70_000]),
            ],
            trailers: Some(headers(trailers)),
            ..Canned::default()
        },
        Canned { headers: headers(only), ..Canned::default() },
        // No gRPC at all.
        Canned {
            headers: headers(&[("content-type", b"text/plain")]),
            data: vec![Bytes::from_static(b"hello")],
            trailers: Some(HeaderMap::new()),
            ..Canned::default()
        },
    ];
    for canned in cases {
        let origin = Origin::start(canned.clone()).await;
        let rehearsal = proxy(origin.url(), |_| {}).await;
        let (straight, through) = (Connection::open(origin.address()).await, Connection::open(rehearsal.grpc()).await);
        let call = Call::bytes(MODEL_INFER, frame(1, b"compressed somehow"))
            .header("grpc-encoding", "zstd")
            .header("grpc-accept-encoding", "zstd,gzip")
            .header("grpc-timeout", "1234m")
            .header("authorization", "Bearer theirs")
            .header("x-data-bin", "AAEC");
        let (expected, got) = (straight.call(&call).await, within(SOON, through.call(&call)).await);
        assert_eq!(
            (got.http, got.status, &got.message, &got.body, &got.metadata),
            (expected.http, expected.status, &expected.message, &expected.body, &expected.metadata)
        );
        let seen = origin.seen();
        let calls: Vec<_> = seen.iter().filter(|seen| seen.uri.ends_with(MODEL_INFER)).collect();
        let [straight, through] = calls.as_slice() else { panic!("{seen:#?}") };
        assert_eq!((&through.headers, &through.body), (&straight.headers, &straight.body));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_cancels_is_cancelled_and_what_breaks_is_broken() {
    let call = Call::bytes("/some.Service/Method", frame(0, b"x"));
    let hanging = Origin::start(Canned { hangs: true, ..Canned::default() }).await;
    let rehearsal = proxy(hanging.url(), |_| {}).await;
    let through = Connection::open(rehearsal.grpc()).await;
    let cancelled = tokio::time::timeout(Duration::from_millis(200), through.call(&call)).await;
    assert!(cancelled.is_err(), "it hangs");
    until(SOON, "the primary learns it", async || {
        hanging.seen().iter().any(|seen| seen.uri.ends_with(&call.path) && seen.reset)
    })
    .await;

    let canned = Canned {
        headers: headers(&[("content-type", b"application/grpc")]),
        data: vec![Bytes::from(frame(0, b"half"))],
        resets: true,
        ..Canned::default()
    };
    let breaking = Origin::start(canned).await;
    let rehearsal = proxy(breaking.url(), |_| {}).await;
    let reply = within(SOON, Connection::open(rehearsal.grpc()).await.call(&call)).await;
    assert_eq!(reply.reset, Some(h2::Reason::INTERNAL_ERROR), "{reply:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_primary_that_is_down_is_unavailable_and_one_that_comes_back_is_asked_again() {
    let first = Primary::start().await;
    let (grpc, url) = (first.grpc().to_string(), first.url());
    let rehearsal = proxy(url, |_| {}).await;
    known(&rehearsal).await;
    let channel = endpoint(&format!("http://{}", rehearsal.grpc())).connect_lazy();
    let mut client = PredictionServiceClient::new(channel);
    let mut ask = async || client.predict(adult::test_set().predict(0..1)).await;
    ask().await.unwrap();
    first.drain().await;
    assert_eq!(within(SOON, ask()).await.unwrap_err().code(), Code::Unavailable);
    let second = Primary::with(|settings| settings.grpc_listen = Some(grpc)).await;
    within(SOON, ask()).await.unwrap();
    let counts = rehearsal.settled(3).await.exchanges.unwrap();
    assert_eq!((counts.compared, counts.dropped), (2, [("primary_error".to_owned(), 1)].into()));
    drop(second);
}

/// P1 in the path of the calls: whatever becomes of the comparison, the call is answered.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_that_observes_fails_or_holds_up_a_call() {
    let primary = Primary::start().await;
    let hanging = Stub::start(|_| None).await;
    let url = hanging.url();
    let rehearsal = proxy(primary.unix_url(), |settings| {
        settings.candidate = Some(url);
        settings.candidate_timeout = Some("300ms".into());
        settings.concurrency = Some(4);
        settings.queue = Some(8);
        settings.capture_bytes = Some(20_000);
    })
    .await;
    known(&rehearsal).await;
    let channel = endpoint(&format!("http://{}", rehearsal.grpc())).connect_lazy();
    let outcome = within(SOON, load::through(&channel, 0..500, 1)).await;
    assert_eq!((outcome.answered, outcome.failures.len()), (500, 0));
    // Beyond what is kept: the call goes through all the same.
    let table = adult::test_set();
    assert!(table.predict(0..100).encoded_len() > 20_000);
    let large = Connection::open(rehearsal.grpc()).await.call(&Call::new(PREDICT, &table.predict(0..100))).await;
    assert_eq!(large.status, Some(0));
    let report = rehearsal.settled(501).await;
    let counts = report.exchanges.unwrap();
    let of = |reason: &str| counts.dropped.get(reason).copied().unwrap_or_default();
    assert_eq!((counts.compared, of("oversize")), (0, 1));
    assert_eq!(counts.failed["DEADLINE_EXCEEDED"] + of("queue_full") + of("shed"), 500, "{counts:?}");
    assert!(of("queue_full") > 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn methods_on_the_list_are_passed_on_and_not_compared() {
    let primary = Primary::start().await;
    let rehearsal = proxy(primary.unix_url(), |settings| settings.deny_methods = Some(vec!["Predict".into()])).await;
    known(&rehearsal).await;
    let through = Connection::open(rehearsal.grpc()).await;
    let table = adult::test_set();
    for call in [Call::new(PREDICT, &table.predict(0..1)), Call::new(MODEL_INFER, &table.columns(0..1, RAW))] {
        assert_eq!(through.call(&call).await.status, Some(0));
    }
    let marked = Call::new(MODEL_INFER, &table.columns(0..1, RAW)).header("x-shadow", "1");
    assert_eq!(through.call(&marked).await.status, Some(0));
    let report = rehearsal.settled(1).await;
    let intake = report.intake.unwrap();
    assert_eq!((intake.requests, intake.matched, intake.denied, intake.looped), (3, 1, 1, 1), "{intake:?}");
}

/// A server that speaks nothing but the Open Inference Protocol, in the terms of the configuration.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_primary_that_can_not_be_tapped_is_understood() {
    let primary = Stub::describing(v2::metadata(), |request| Some(Ok(v2::answer(request)))).await;
    let rehearsal = proxy(primary.url(), |settings| {
        settings.primary_model = Some("income".into());
        settings.primary_classes = Some(adult::CLASSES.map(String::from).to_vec());
    })
    .await;
    known(&rehearsal).await;
    let through = Connection::open(rehearsal.grpc()).await;
    for row in 0..300 {
        assert_eq!(through.call(&Call::new(MODEL_INFER, &columns(row))).await.status, Some(0));
    }
    let report = rehearsal.settled(300).await;
    assert_eq!(agreement(&report), (300, adult::test_set().agreed("adult_candidate", 0..300)));
    let primary = report.epoch.unwrap().primary.unwrap();
    assert_eq!((primary.name.as_str(), primary.version.as_str()), ("income", "3"));
}

/// P2 in the path of the calls: whatever the candidate does, the clients are answered, and it is counted as what it was.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_candidate_that_misbehaves_harms_nobody() {
    const CALLS: usize = 60;
    let answering = |data: Vec<Bytes>| Canned {
        headers: headers(&[("content-type", b"application/grpc")]),
        data,
        trailers: Some(headers(&[("grpc-status", b"0")])),
        undescribed: true,
        ..Canned::default()
    };
    let hundred_mebibytes = [&[0][..], &(100_u32 << 20).to_be_bytes(), &[7; 4096]].concat();
    let cases = [
        ("hangs", Canned { hangs: true, ..answering(Vec::new()) }, "DEADLINE_EXCEEDED"),
        ("resets", Canned { resets: true, ..answering(vec![Bytes::from_static(b"\0\0\0\0\x09abc")]) }, "INTERNAL"),
        ("hangs up", Canned { hangs_up: true, ..answering(Vec::new()) }, "UNAVAILABLE"),
        ("drips", Canned { drips: true, ..answering(vec![Bytes::from(frame(0, &[0; 500]))]) }, "DEADLINE_EXCEEDED"),
        ("answers 100 MiB", answering(vec![Bytes::from(hundred_mebibytes)]), "OUT_OF_RANGE"),
        ("answers no protobuf", answering(vec![Bytes::from(frame(0, b"\xff\xff\xff"))]), "INTERNAL"),
        ("answers nothing", answering(Vec::new()), "INTERNAL"),
    ];
    let primary = Primary::start().await;
    for (what, canned, code) in cases {
        let candidate = Origin::start(canned).await;
        let rehearsal = proxy(primary.unix_url(), |settings| {
            settings.candidate = Some(candidate.url());
            settings.candidate_timeout = Some("300ms".into());
        })
        .await;
        known(&rehearsal).await;
        let channel = endpoint(&format!("http://{}", rehearsal.grpc())).connect_lazy();
        let outcome = within(SOON, load::through(&channel, 0..CALLS, 1)).await;
        assert_eq!((outcome.answered, outcome.failures.len()), (CALLS as u64, 0), "a candidate that {what}");
        let counts = rehearsal.settled(CALLS as u64).await.exchanges.unwrap();
        assert_eq!((counts.compared, counts.failed.values().sum::<u64>()), (0, CALLS as u64), "{what}: {counts:?}");
        // A busy machine may be late in noticing, never wrong.
        let expected = counts.failed.get(code).copied().unwrap_or_default();
        let late = counts.failed.get("DEADLINE_EXCEEDED").copied().unwrap_or_default();
        assert!(expected > 0 && (expected + late >= CALLS as u64), "{what}: {counts:?}");
    }
}
