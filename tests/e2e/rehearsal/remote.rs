//! A candidate on a server of its own.

use std::{
    net::TcpListener,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use support::{
    Primary, Rehearsal, SOON, adult,
    grpc::{Call, MODEL_INFER, PREDICT},
    load::{self, Load},
    rehearsal::package,
    stub::Stub,
    tensors::{RAW, TYPED},
    until,
    wire::{SETTINGS, WINDOW_UPDATE, Wire},
    within,
};
use tokio::io::AsyncReadExt as _;
use tonic::Status;
use understudy::inference::ModelInferResponse;

use super::agreement;

/// A server with the good candidate, which there has a name of its own.
async fn candidate_server(listen: &str) -> Primary {
    Primary::with(|settings| {
        settings.models = Some(vec![package("adult-candidate").into()]);
        settings.grpc_listen = Some(listen.into());
        settings.drain_timeout = Some("1s".into());
    })
    .await
}

async fn beside(primary: &Primary, url: String) -> Rehearsal {
    Rehearsal::beside(primary, |settings| {
        settings.candidate = Some(url);
        settings.candidate_model = Some("adult-candidate".into());
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn both_kinds_of_traffic_reach_it() {
    let (primary, server) = (Primary::start().await, candidate_server("127.0.0.1:0").await);
    let rehearsal = beside(&primary, server.url()).await;
    let table = adult::test_set();
    let connection = primary.connect().await;
    for start in (0..1_000).step_by(100) {
        let rows = || start..start + 100;
        for call in [
            Call::new(PREDICT, &table.predict(rows())),
            Call::new(MODEL_INFER, &table.columns(rows(), RAW)),
            Call::new(MODEL_INFER, &table.columns(rows(), TYPED)),
            Call::new(MODEL_INFER, &table.matrix(rows(), true)),
        ] {
            assert_eq!(connection.call(&call).await.status, Some(0));
        }
    }
    let report = rehearsal.settled(40).await;
    assert_eq!(agreement(&report), (4_000, 4 * table.agreed("adult_candidate", 0..1_000)), "{report:#?}");
    let epoch = report.epoch.unwrap();
    let candidate = epoch.candidate.unwrap();
    assert_eq!((candidate.name.as_str(), candidate.version.as_str()), ("adult-candidate", "1"));
    assert_eq!(report.candidate_latency.unwrap().observed_via, "shadow call");
}

fn free_address() -> String {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_candidate_that_goes_down_is_counted_and_one_that_comes_back_is_asked_again() {
    let primary = Primary::start().await;
    let address = free_address();
    let server = candidate_server(&address).await;
    let rehearsal = beside(&primary, format!("http://{address}")).await;
    load::once(&primary, 0..100, 100).await;
    rehearsal.settled(1).await;
    within(SOON, server.drain()).await;
    let outcome = load::once(&primary, 0..300, 1).await;
    assert_eq!((outcome.answered, outcome.failures.len()), (300, 0));
    let counts = rehearsal.settled(301).await.exchanges.unwrap();
    assert_eq!((counts.compared, counts.failed), (1, [("UNAVAILABLE".to_owned(), 300)].into()));
    let _server = candidate_server(&address).await;
    let load = Load::start(&primary, 1);
    let report = rehearsal.report_when(|report| report.exchanges.as_ref().is_some_and(|it| it.compared > 50)).await;
    assert_eq!(report.epoch.unwrap().number, 1, "it is the same version");
    assert!(load.stop().await.failures.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_candidate_that_is_not_there_yet_is_waited_for() {
    let primary = Primary::start().await;
    let (address, url) = (free_address(), primary.unix_url());
    let rehearsal = Rehearsal::alone(|settings| {
        settings.primary = Some(url);
        settings.candidate = Some(format!("http://{address}"));
        settings.candidate_model = Some("adult-candidate".into());
    })
    .await;
    let subscribers = async || primary.scrape().await.sum("understudy_tap_subscribers", &[]);
    until(SOON, "it is subscribed", async || subscribers().await == 1.0).await;
    // P1 in small: what is offered in the meantime is at most queued, and no client waits.
    let outcome = within(SOON, load::once(&primary, 0..500, 1)).await;
    assert_eq!((outcome.answered, outcome.failures.len()), (500, 0));
    assert_eq!(agreement(&rehearsal.report().await), (0, 0));
    let _server = candidate_server(&address).await;
    let report = rehearsal.settled(500).await;
    assert_eq!(agreement(&report), (500, adult::test_set().agreed("adult_candidate", 0..500)));
}

/// P1: it takes every call and answers none.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_candidate_that_hangs_is_given_up_on() {
    let primary = Primary::start().await;
    let stub = Stub::start(|_| None).await;
    let rehearsal = Rehearsal::beside(&primary, |settings| {
        settings.candidate = Some(stub.url());
        settings.candidate_timeout = Some("300ms".into());
        settings.concurrency = Some(10);
        settings.queue = Some(20);
    })
    .await;
    let outcome = within(SOON, load::once(&primary, 0..300, 1)).await;
    assert_eq!((outcome.answered, outcome.failures.len()), (300, 0));
    let counts = rehearsal.settled(300).await.exchanges.unwrap();
    let (failed, dropped) = (counts.failed["DEADLINE_EXCEEDED"], counts.dropped["queue_full"]);
    assert_eq!((counts.compared, failed + dropped), (0, 300), "{counts:?}");
    assert!(failed >= 30, "what had a place was tried: {counts:?}");
    assert_eq!(stub.asked().len() as u64, failed, "nothing is tried twice");
    // What is in flight at the end is not waited for longer than it may take.
    load::once(&primary, 0..1, 1).await;
    assert!(within(SOON, rehearsal.drain()).await < 2.0);
}

/// P2: what is on its way before an answer can be stopped is taken on the primary's machine.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_candidate_whose_answers_are_all_too_long_is_asked_now_and_then() {
    let primary = Primary::start().await;
    let shouts = Arc::new(AtomicBool::new(true));
    let told = shouts.clone();
    let stub = Stub::start(move |request| {
        let id = if told.load(Ordering::Relaxed) { "x".repeat(1 << 20) } else { request.id.clone() };
        Some(Ok(ModelInferResponse { id, ..ModelInferResponse::default() }))
    })
    .await;
    let rehearsal = Rehearsal::beside(&primary, |settings| settings.candidate = Some(stub.url())).await;
    let outcome = load::once(&primary, 0..300, 1).await;
    assert_eq!((outcome.answered, outcome.failures.len()), (300, 0));
    let counts = rehearsal.settled(300).await.exchanges.unwrap();
    assert_eq!((counts.compared, counts.failed), (0, [("OUT_OF_RANGE".to_owned(), 300)].into()));
    // Those that were under way together, and a few in each second.
    assert!(stub.asked().len() < 150, "it is left alone: {}", stub.asked().len());
    shouts.store(false, Ordering::Relaxed);
    let load = Load::start(&primary, 1);
    rehearsal
        .report_when(|report| report.exchanges.as_ref().is_some_and(|it| it.dropped.contains_key("incomparable")))
        .await;
    assert!(load.stop().await.failures.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_candidate_that_fails_or_lies_is_counted_as_that() {
    type Answer = fn() -> Result<ModelInferResponse, Status>;
    let cases: [(&str, Answer, &str, &str); 8] = [
        ("refuses", || Err(Status::invalid_argument("no")), "failed", "INVALID_ARGUMENT"),
        ("is not allowed to", || Err(Status::permission_denied("no")), "failed", "PERMISSION_DENIED"),
        ("is busy", || Err(Status::resource_exhausted("no")), "failed", "RESOURCE_EXHAUSTED"),
        ("breaks", || Err(Status::internal("panicked")), "failed", "INTERNAL"),
        (
            "says more than there is to say about three rows",
            || Ok(ModelInferResponse { id: "x".repeat(1 << 20), ..ModelInferResponse::default() }),
            "failed",
            "OUT_OF_RANGE",
        ),
        ("says nothing", || Ok(ModelInferResponse::default()), "dropped", "incomparable"),
        (
            "is of another version",
            || Ok(ModelInferResponse { model_version: "2".into(), ..ModelInferResponse::default() }),
            "dropped",
            "other_version",
        ),
        (
            "has a name for its version that fills a page",
            || Ok(ModelInferResponse { model_version: "2".repeat(300), ..ModelInferResponse::default() }),
            "failed",
            "DATA_LOSS",
        ),
    ];
    let primary = Primary::start().await;
    for (what, answer, kind, name) in cases {
        let stub = Stub::start(move |_| Some(answer())).await;
        let rehearsal = Rehearsal::beside(&primary, |settings| settings.candidate = Some(stub.url())).await;
        load::once(&primary, 0..3, 3).await;
        let report = rehearsal
            .report_when(|report| report.exchanges.as_ref().is_some_and(|it| it.in_flight == 0 && it.offered == 1))
            .await;
        let counts = report.exchanges.unwrap();
        let counted = if kind == "failed" { counts.failed } else { counts.dropped };
        assert_eq!(counted, [(name.to_owned(), 1)].into(), "a candidate that {what}");
    }
}

/// P6: the candidate learns nothing about the client but the request, and can tell that it is only asked for a rehearsal.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_secret_does_not_reach_it() {
    let primary = Primary::start().await;
    let stub = Stub::start(|_| Some(Err(Status::unimplemented("only looks")))).await;
    let rehearsal = Rehearsal::beside(&primary, |settings| settings.candidate = Some(stub.url())).await;
    let connection = primary.connect().await;
    for call in [
        Call::new(PREDICT, &adult::test_set().predict(0..1)),
        Call::new(MODEL_INFER, &adult::test_set().columns(0..1, RAW)),
    ] {
        let call = call.header("authorization", "Bearer secret").header("cookie", "session=secret");
        let call = call.header("x-shadow-target", "http://10.0.0.1").header("grpc-timeout", "1S");
        assert_eq!(connection.call(&call).await.status, Some(0));
    }
    rehearsal.settled(2).await;
    let asked = stub.asked();
    assert_eq!(asked.len(), 2);
    for (metadata, request) in asked {
        assert_eq!(metadata.get("x-shadow").unwrap(), "1");
        let text = format!("{metadata:?}");
        assert!(!text.contains("secret") && !text.contains("10.0.0.1"), "{text}");
        assert_eq!(request.model_name, "adult");
        let timeout = metadata.get("grpc-timeout").unwrap().to_str().unwrap().to_owned();
        assert!(timeout.ends_with('u') || timeout.ends_with('m'), "its own deadline of 2 s: {timeout}");
    }
}

/// Each exchange would open one more.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_hangs_up_on_every_connection_is_left_alone_for_a_while() {
    let (primary, server) = (Primary::start().await, candidate_server("127.0.0.1:0").await);
    let relay = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let rehearsal = beside(&primary, format!("http://{}", relay.local_addr().unwrap())).await;
    let passing = async {
        loop {
            let (mut near, _) = relay.accept().await.unwrap();
            let mut far = tokio::net::TcpStream::connect(server.grpc()).await.unwrap();
            drop(tokio::io::copy_bidirectional(&mut near, &mut far).await);
        }
    };
    tokio::select! {
        () = passing => unreachable!("it never ends"),
        () = async {
            load::once(&primary, 0..100, 100).await;
            rehearsal.settled(1).await;
        } => {}
    }
    let mut connections = 0;
    let hanging_up = async {
        loop {
            drop(relay.accept().await.unwrap());
            connections += 1;
        }
    };
    let exchanges = 400;
    let counts = tokio::select! {
        () = hanging_up => unreachable!("it never ends"),
        report = async {
            // One after the other: each has failed before the next one comes.
            for row in 0..exchanges {
                load::once(&primary, row..row + 1, 1).await;
                rehearsal.settled(2 + row as u64).await;
            }
            rehearsal.settled(1 + exchanges as u64).await
        } => report.exchanges.unwrap(),
    };
    assert_eq!((counts.compared, counts.failed), (1, [("UNAVAILABLE".to_owned(), exchanges as u64)].into()));
    assert!((1..100).contains(&connections), "{connections} connections for {exchanges} exchanges");
}

/// What it sends beyond what is taken would take time from the primary, which often shares its machine.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_may_not_send_much_before_it_is_asked_for() {
    let primary = Primary::start().await;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let _rehearsal = beside(&primary, url).await;
    let (mut connection, _) = within(SOON, listener.accept()).await.unwrap();
    let mut preface = [0; 24];
    within(SOON, connection.read_exact(&mut preface)).await.unwrap();
    let mut wire = Wire::over(connection);
    let settings = wire.next_of(SETTINGS, 0).await.unwrap();
    assert_eq!(settings.setting(4), Some(64 << 10), "on a stream");
    let more = wire.next_of(WINDOW_UPDATE, 0).await.unwrap().number(0);
    assert_eq!(65_535 + more, 1 << 20, "on the connection");
}
