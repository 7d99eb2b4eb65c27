//! The sidecar as the target of a mesh's mirror.

use std::sync::Arc;

use prost::Message;
use support::{
    Primary, Rehearsal, SOON, adult,
    grpc::{Call, Connection, MODEL_INFER, PREDICT, frame},
    mesh::Mesh,
    rehearsal::{ended, package},
    stub::Stub,
    tensors::RAW,
    wire::{DATA, END_STREAM, Frame, Wire},
    within,
};
use tokio::task::JoinSet;
use understudy::v1::{Intake, Report, Verdict};

use super::{agreement, columns, v2};

/// requests = denied + looped + sampled_out + matched + unmatched of the mirror's side + waiting_mirror.
fn accounted(intake: &Intake) -> u64 {
    let unmatched = intake.unmatched.iter().filter(|it| it.side == "mirror").map(|it| it.count).sum::<u64>();
    intake.denied + intake.looped + intake.sampled_out + intake.matched + unmatched + intake.waiting_mirror
}

fn intake(report: &Report) -> &Intake {
    let intake = report.intake.as_ref().unwrap();
    assert_eq!(intake.requests, accounted(intake), "{intake:?}");
    intake
}

pub(super) fn unmatched(report: &Report, side: &str, reason: &str) -> u64 {
    let all = intake(report).unmatched.iter();
    all.filter(|it| it.side == side && it.reason == reason).map(|it| it.count).sum()
}

async fn mirrored(primary: &Primary, candidate: &str) -> Rehearsal {
    Rehearsal::beside(primary, |settings| {
        settings.intake = Some("mirror".into());
        settings.candidate = Some(package(candidate));
    })
    .await
}

async fn rehearse(candidate: &str, column: &str, rows: usize, id_header: Option<&'static str>) -> Report {
    let primary = Primary::start().await;
    let rehearsal = mirrored(&primary, candidate).await;
    let mut mesh = Mesh::between(primary.grpc(), rehearsal.grpc(), id_header).await;
    let table = adult::test_set();
    for row in 0..rows {
        let call = match row % 2 {
            0 => Call::new(PREDICT, &table.predict(row..row + 1)),
            _ => Call::new(MODEL_INFER, &table.columns(row..row + 1, RAW)),
        };
        let call = call.header("authorization", "Bearer secret");
        let (answer, copy) = mesh.call(&call).await;
        assert_eq!((answer.status, copy.status), (Some(0), Some(0)));
    }
    let report = rehearsal.settled(rows as u64).await;
    assert_eq!(agreement(&report), (rows as u64, table.agreed(column, 0..rows)));
    assert_eq!((intake(&report).matched, intake(&report).requests), (rows as u64, rows as u64));
    assert_eq!(intake(&report).kind, "mirror");
    report
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_good_candidate_is_promoted_through_a_mirror() {
    let report = rehearse("adult-candidate", "adult_candidate", 2_500, Some("x-shadow-id")).await;
    assert_eq!(report.verdict(), Verdict::Promote, "{:#?}", report.reasons);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bad_candidate_is_rejected_through_a_mirror() {
    let report = rehearse("adult-candidate-bad", "adult_candidate_bad", 1_000, Some("x-request-id")).await;
    assert_eq!(report.verdict(), Verdict::Reject, "{:#?}", report.reasons);
}

/// Without any id the request itself is the key; equal requests have equal answers.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_without_an_id_find_their_answers() {
    rehearse("adult-candidate", "adult_candidate", 200, None).await;
}

/// nginx needs a connection for each copy that is under way, and all of them come from its address.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mesh_may_open_many_connections_from_one_address() {
    let primary = Primary::start().await;
    let rehearsal = mirrored(&primary, "adult-candidate").await;
    let users = primary.connect().await;
    let mut copies = Vec::new();
    for row in 0..100 {
        copies.push(Connection::open(rehearsal.grpc()).await);
        let call = Call::new(PREDICT, &adult::test_set().predict(row..row + 1)).header("x-shadow-id", &row.to_string());
        assert_eq!(users.call(&call).await.status, Some(0));
        assert_eq!(within(SOON, copies[row].call(&call)).await.status, Some(0), "connection {row}");
    }
    assert_eq!(agreement(&rehearsal.settled(100).await).0, 100);
}

/// More at once than a worker gets through in the time after which a server refuses: nobody waits for the answer to a copy.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_burst_of_copies_is_taken_to_the_last() {
    let primary = Primary::start().await;
    let rehearsal = mirrored(&primary, "adult-candidate").await;
    // Sixteen kilobytes that become fifteen megabytes.
    let large = Call::bytes(PREDICT, frame(1, &gzip(&vec![0; 15 << 20]))).header("grpc-encoding", "gzip");
    let calls = [Arc::new(large), Arc::new(Call::new(PREDICT, &adult::test_set().predict(0..1)))];
    let connection = Arc::new(Connection::open(rehearsal.grpc()).await);
    let mut copies = JoinSet::new();
    for n in 0..100 {
        let (connection, call) = (connection.clone(), calls[usize::from(n >= 60)].clone());
        copies.spawn(async move { connection.call(&call).await.status });
    }
    assert_eq!(copies.join_all().await, [Some(0); 100]);
    rehearsal.report_when(|report| intake(report).requests == 100).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_is_mirrored_is_answered_at_once_and_counted() {
    let primary = Primary::start().await;
    let rehearsal = Rehearsal::beside(&primary, |settings| {
        settings.intake = Some("mirror".into());
        settings.capture_bytes = Some(100_000);
        settings.join_ttl = Some("500ms".into());
    })
    .await;
    let mut mesh = Mesh::between(primary.grpc(), rehearsal.grpc(), Some("x-shadow-id")).await;
    let table = adult::test_set();
    let one = || Call::new(PREDICT, &table.predict(0..1));
    // Denied: of no method that can be compared. A stream of messages is such a one, too.
    let many = [frame(0, b"a"), frame(0, b"b")].concat();
    for call in [
        Call::new("/inference.GRPCInferenceService/ModelMetadata", &table.predict(0..0)),
        Call::bytes("/inference.GRPCInferenceService/ModelStreamInfer", many.clone()),
        Call::bytes("/somebody.Else/Writes", Vec::new()),
    ] {
        assert_eq!(mesh.copy(&call).await.status, Some(0), "{}", call.path);
    }
    // Part of a rehearsal already.
    assert_eq!(mesh.copy(&one().header("x-shadow", "1")).await.status, Some(0));
    // Too large; not one message; nothing at all; compressed in a way that nobody knows.
    let large = Call::bytes(PREDICT, frame(0, &vec![0; 100_001]));
    let unknown = Call::bytes(PREDICT, frame(1, b"x")).header("grpc-encoding", "zstd");
    for call in [large, Call::bytes(PREDICT, many), Call::bytes(PREDICT, Vec::new()), unknown] {
        assert_eq!(mesh.copy(&call).await.status, Some(0));
    }
    // Its answer never comes.
    mesh.copy(&one()).await;
    // Never mirrored: that is the mesh's share, and nothing that is missing.
    assert_eq!(mesh.call_without_copy(&one()).await.status, Some(0));
    // What the primary refuses.
    mesh.call(&Call::new(PREDICT, &table.predict(0..101))).await;
    // And one that is compared, with the path that nginx made of it, and compressed.
    let compressed = Call::bytes(PREDICT, frame(1, &gzip(&table.predict(0..1).encode_to_vec())));
    let (answer, _) = mesh.call(&compressed.header("grpc-encoding", "gzip")).await;
    assert_eq!(answer.status, Some(0));

    let report = rehearsal
        .report_when(|report| {
            let intake = report.intake.as_ref().unwrap();
            intake.waiting_mirror == 0 && intake.waiting_tap == 0 && intake.requests == 11
        })
        .await;
    assert_eq!((intake(&report).denied, intake(&report).looped, intake(&report).matched), (3, 1, 1));
    let reasons =
        ["oversize", "undecodable", "ttl", "primary_error"].map(|reason| unmatched(&report, "mirror", reason));
    assert_eq!(reasons, [1, 3, 1, 1], "{report:#?}");
    assert_eq!(unmatched(&report, "tap", "ttl"), 1);
    let report = rehearsal.settled(7).await;
    let counts = report.exchanges.unwrap();
    let dropped = [("oversize", 1), ("primary_error", 1), ("ttl", 1), ("undecodable", 3)];
    assert_eq!(counts.dropped, dropped.map(|(reason, count)| (reason.to_owned(), count)).into());
    assert_eq!((counts.compared, ended(&counts)), (1, 7));
    // What is missing counts against the candidate: 1 of 6 that could have been compared.
    assert_eq!(counts.coverage, Some(1.0 / 6.0));
    support::until(SOON, "Prometheus knows it", async || {
        let scrape = rehearsal.scrape().await;
        scrape.sum("shadow_intake_unmatched_total", &[("side", "mirror"), ("reason", "undecodable")]) == 3.0
    })
    .await;
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    use std::io::Write as _;
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// `:authority` ends in `-shadow` or does not; paths may have been rewritten on the way.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn meshes_differ_in_what_they_call_the_target() {
    let primary = Primary::start().await;
    let rehearsal = mirrored(&primary, "adult-candidate").await;
    let call = Call::new(PREDICT, &adult::test_set().predict(0..1));
    let mut moved = call.clone().header("x-original-uri", PREDICT).header("host", "adult-shadow");
    moved.path = "/mirror".into();
    let (users, copies) = (primary.connect().await, Connection::open(rehearsal.grpc()).await);
    for copy in [&call, &moved] {
        assert_eq!(users.call(&call).await.status, Some(0));
        assert_eq!(copies.call(copy).await.status, Some(0));
    }
    assert_eq!(agreement(&rehearsal.settled(2).await).0, 2);
}

/// Whatever the mesh has made of its path on the way.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn methods_on_the_list_are_denied_by_whatever_name_they_come() {
    let primary = Primary::start().await;
    let rehearsal = Rehearsal::beside(&primary, |settings| {
        settings.intake = Some("mirror".into());
        settings.deny_methods = Some(vec!["Predict".into(), "/somebody.Else/Writes".into()]);
    })
    .await;
    let copies = Connection::open(rehearsal.grpc()).await;
    let call = || Call::new(MODEL_INFER, &adult::test_set().columns(0..1, RAW));
    let cases = [
        Call::new(PREDICT, &adult::test_set().predict(0..1)),
        call().header("x-original-uri", PREDICT),
        call().header("x-original-uri", &format!("{PREDICT}?tenant=7")),
        call().header("x-envoy-original-path", PREDICT),
        call().header("x-envoy-original-path", MODEL_INFER).header("x-original-uri", "/somebody.Else/Writes"),
        Call { path: "/mirror".into(), ..call().header("x-original-uri", PREDICT) },
    ];
    let denied = cases.len() as u64;
    for case in cases {
        assert_eq!(copies.call(&case).await.status, Some(0));
    }
    assert_eq!(copies.call(&call().header("x-original-uri", MODEL_INFER)).await.status, Some(0));
    let report = rehearsal.report_when(|report| intake(report).requests == denied + 1).await;
    assert_eq!((intake(&report).denied, intake(&report).waiting_mirror), (denied, 1), "{report:#?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_share_of_what_is_mirrored_is_compared() {
    let primary = Primary::start().await;
    let rehearsal = Rehearsal::beside(&primary, |settings| {
        settings.intake = Some("mirror".into());
        settings.sample_rate = Some(0.5);
    })
    .await;
    let mut mesh = Mesh::between(primary.grpc(), rehearsal.grpc(), Some("x-shadow-id")).await;
    for row in 0..400 {
        mesh.call(&Call::new(PREDICT, &adult::test_set().predict(row..row + 1))).await;
    }
    let report = rehearsal.report_when(|report| accounted(report.intake.as_ref().unwrap()) == 400).await;
    // Six standard deviations of 10 around 200.
    assert!((140..=260).contains(&intake(&report).sampled_out), "{report:#?}");
}

/// A primary that only speaks the Open Inference Protocol: it is asked once more for each request, and for some twice.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_primary_without_a_tap_is_asked_once_more() {
    for (candidate, column, expected) in [
        ("adult-candidate", "adult_candidate", Verdict::Promote),
        ("adult-candidate-bad", "adult_candidate_bad", Verdict::Reject),
    ] {
        let primary = Stub::describing(v2::metadata(), |request| Some(Ok(v2::answer(request)))).await;
        let url = primary.url();
        let rehearsal = Rehearsal::alone(|settings| {
            settings.primary = Some(url);
            settings.primary_model = Some("income".into());
            settings.primary_classes = Some(adult::CLASSES.map(String::from).to_vec());
            settings.intake = Some("mirror".into());
            settings.candidate = Some(package(candidate));
            settings.noise_rate = Some(0.25);
        })
        .await;
        rehearsal.report_when(|report| report.intake.as_ref().is_some_and(|it| it.connected)).await;
        let mut mesh = Mesh::between(primary.address(), rehearsal.grpc(), None).await;
        let rows = if expected == Verdict::Promote { 2_500 } else { 1_000 };
        for row in 0..rows {
            let call = Call::new(MODEL_INFER, &columns(row)).header("authorization", "Bearer secret");
            let copy = within(SOON, mesh.copy(&call.header("x-request-id", "r"))).await;
            assert_eq!(copy.status, Some(0));
        }
        let report = rehearsal.settled(rows as u64).await;
        assert_eq!(agreement(&report), (rows as u64, adult::test_set().agreed(column, 0..rows)));
        assert_eq!(report.verdict(), expected, "{:#?}", report.reasons);
        let intake = intake(&report);
        assert_eq!((intake.matched, intake.executed), (rows as u64, rows as u64));
        // Eight standard deviations.
        let share = intake.repeated as f64 / rows as f64;
        assert!((share - 0.25).abs() < 8.0 * (0.1875 / rows as f64).sqrt(), "{share}");
        let asked = primary.asked();
        assert_eq!(asked.len() as u64, intake.executed + intake.repeated);
        for (metadata, _) in asked {
            assert_eq!(metadata.get("x-shadow").unwrap(), "1");
            assert_eq!(metadata.get("x-request-id").unwrap(), "r");
            assert!(metadata.get("authorization").is_none());
        }
        let (compared, agreed) = rehearsal.noise();
        assert_eq!((compared, agreed), (intake.repeated, intake.repeated), "it agrees with itself");
        assert_eq!(report.primary_latency.unwrap().observed_via, "shadow call");
    }
}

/// Envoy sends on a new connection before it has been told how many calls may be open on it, and loses the copies that are refused:
/// a sidecar that pauses for a moment must not cost any.
#[tokio::test]
async fn a_burst_on_a_new_connection_is_taken() {
    const COPIES: u32 = 1_000;
    let primary = Primary::start().await;
    let rehearsal = mirrored(&primary, &package("adult-candidate")).await;
    let mut wire = Wire::open(rehearsal.grpc()).await;
    let streams = || (0..COPIES).map(|n| 2 * n + 1);
    let heads: Vec<Frame> = streams().map(|stream| Frame::call(stream, 0, PREDICT, &[])).collect();
    wire.send(&heads).await.unwrap();
    let message = frame(0, &adult::test_set().predict(0..1).encode_to_vec());
    for stream in streams() {
        wire.send(&[Frame::new(DATA, END_STREAM, stream, message.clone())]).await.unwrap();
    }
    let report = rehearsal
        .report_when(|report| report.intake.as_ref().is_some_and(|intake| intake.requests >= u64::from(COPIES)))
        .await;
    assert_eq!(intake(&report).requests, u64::from(COPIES));
    assert_eq!(unmatched(&report, "mirror", "shed"), 0);
}
