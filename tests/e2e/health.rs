//! `grpc.health.v1` by the table of `reliability.md` section 5, from the start of a server to its end.

use std::{path::PathBuf, time::Duration};

use support::{
    Primary, SOON, adult, examples,
    grpc::{Call, PREDICT},
    package::Package,
    primary::endpoint,
    scrape, until,
    wire::{DATA, END_STREAM, Frame, GOAWAY, PING, Wire},
    within,
};
use tokio::net::TcpStream;
use tokio_stream::StreamExt as _;
use tonic::{Code, Status, Streaming, transport::Channel};
use tonic_health::pb::{
    HealthCheckRequest, HealthCheckResponse, health_check_response::ServingStatus, health_client::HealthClient,
};
use understudy::{
    inference::{ModelReadyRequest, ServerLiveRequest, ServerReadyRequest},
    v1::{SubscribeRequest, tap_service_client::TapServiceClient},
};

use ServingStatus::{NotServing, ServiceUnknown, Serving};

/// All of them readiness.
const READINESS: [&str; 5] = ["", "readiness", "inference.GRPCInferenceService", "model/adult", "model/adult/1"];

async fn check(client: &HealthClient<Channel>, name: &str) -> Result<ServingStatus, Status> {
    let answer = client.clone().check(HealthCheckRequest { service: name.into() }).await?;
    Ok(answer.into_inner().status())
}

async fn watch(client: &HealthClient<Channel>, name: &str) -> Streaming<HealthCheckResponse> {
    client.clone().watch(HealthCheckRequest { service: name.into() }).await.unwrap().into_inner()
}

async fn next(stream: &mut Streaming<HealthCheckResponse>) -> Result<ServingStatus, Code> {
    let message = within(SOON, stream.next()).await.expect("a stream ends with a status");
    message.map(|response| response.status()).map_err(|status| status.code())
}

#[tokio::test]
async fn a_ready_server_serves_under_every_name_and_under_no_other() {
    let primary = Primary::start().await;
    let client = primary.health();
    for name in READINESS.iter().chain(&["liveness", "startup"]) {
        assert_eq!(check(&client, name).await.unwrap(), Serving, "{name}");
        assert_eq!(next(&mut watch(&client, name).await).await, Ok(Serving), "{name}");
    }
    // H1, H3. A name with a typo in a probe is a restart loop, so it must be told apart from "not serving".
    for name in ["nope", "model/nobody", "model/adult/2", "Liveness", " "] {
        let error = check(&client, name).await.unwrap_err();
        assert_eq!(error.code(), Code::NotFound, "{name}");
        assert!(error.message().contains(name), "{error:?}");
    }
    assert_eq!(check(&client, &"x".repeat(257)).await.unwrap_err().code(), Code::InvalidArgument);
    // OIP says the same in its own words.
    let mut inference = primary.inference();
    assert!(inference.server_live(ServerLiveRequest {}).await.unwrap().into_inner().live);
    assert!(inference.server_ready(ServerReadyRequest {}).await.unwrap().into_inner().ready);
    let adult = ModelReadyRequest { name: "adult".into(), version: String::new() };
    assert!(inference.model_ready(adult.clone()).await.unwrap().into_inner().ready);
    let nobody = ModelReadyRequest { name: "nobody".into(), ..adult.clone() };
    assert_eq!(inference.model_ready(nobody).await.unwrap_err().code(), Code::NotFound);
    let second = ModelReadyRequest { version: "2".into(), ..adult };
    assert_eq!(inference.model_ready(second).await.unwrap_err().code(), Code::NotFound);
}

#[tokio::test]
async fn a_watch_tells_every_change_once_and_an_unknown_name_is_no_error() {
    let primary = Primary::with(|settings| settings.drain_delay = Some("300ms".into())).await;
    let client = primary.health();
    let mut readiness = watch(&client, "").await;
    let mut unknown = watch(&client, "nope").await;
    let mut liveness = watch(&client, "liveness").await;
    assert_eq!(next(&mut readiness).await, Ok(Serving));
    // H2: it stays open, in case the name appears.
    assert_eq!(next(&mut unknown).await, Ok(ServiceUnknown));
    assert_eq!(next(&mut liveness).await, Ok(Serving));
    let drained = tokio::spawn(primary.drain());
    assert_eq!(next(&mut readiness).await, Ok(NotServing));
    for stream in [&mut readiness, &mut unknown, &mut liveness] {
        assert_eq!(next(stream).await, Err(Code::Unavailable), "nothing is repeated, then the end");
    }
    drained.await.unwrap();
}

#[tokio::test]
async fn watches_are_bounded() {
    let primary = Primary::start().await;
    let from = async |n: u8| {
        let endpoint = endpoint(&primary.url()).local_address(Some([127, 0, 0, n].into()));
        HealthClient::new(endpoint.connect().await.unwrap())
    };
    let mut open = Vec::new();
    // 100 of a client, 1,000 in all.
    for n in 1..=10 {
        let mut client = from(n).await;
        for _ in 0..100 {
            let mut stream = watch(&client, "").await;
            assert_eq!(next(&mut stream).await, Ok(Serving));
            open.push(stream);
        }
        let refused = client.watch(HealthCheckRequest::default()).await.unwrap_err();
        let whose = if n < 10 { " of one client: limit 100" } else { ": limit 1000" };
        assert_eq!(
            (refused.code(), refused.message()),
            (Code::ResourceExhausted, &*format!("too many watches{whose}"))
        );
    }
    let mut eleventh = from(11).await;
    let refused = eleventh.watch(HealthCheckRequest::default()).await.unwrap_err();
    assert_eq!((open.len(), refused.code()), (1_000, Code::ResourceExhausted), "{refused:?}");
    // A place is free again as soon as somebody has gone.
    open.pop();
    until(SOON, "a place is free", async || eleventh.watch(HealthCheckRequest::default()).await.is_ok()).await;
}

/// So many models that loading them takes a while.
fn many_models() -> (Vec<Package>, Vec<PathBuf>) {
    let of = examples().join("models/adult/1");
    let packages: Vec<Package> = (0..8).map(|n| Package::copy(&of, &format!("adult{n}"))).collect();
    let paths = packages.iter().map(|package| package.repository().to_owned()).collect();
    (packages, paths)
}

#[tokio::test]
async fn while_it_loads_a_server_is_alive_and_not_ready() {
    let (_packages, models) = many_models();
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("starting.sock");
    let channel = endpoint(&format!("unix:{}", socket.display())).connect_lazy();
    let path = socket.to_string_lossy().into_owned();
    let starting = tokio::spawn(Primary::with(move |settings| {
        settings.unix_socket = Some(path);
        settings.models = Some(models);
    }));
    let client = HealthClient::new(channel.clone());
    until(SOON, "it is alive", async || matches!(check(&client, "liveness").await, Ok(Serving))).await;
    for name in ["", "readiness", "startup", "inference.GRPCInferenceService"] {
        assert_eq!(check(&client, name).await.unwrap(), NotServing, "{name}");
    }
    let mut readiness = watch(&client, "startup").await;
    assert_eq!(next(&mut readiness).await, Ok(NotServing));
    // I6: known or not, nothing can be said yet.
    let mut prediction = understudy::v1::prediction_service_client::PredictionServiceClient::new(channel);
    let early = prediction.predict(adult::test_set().predict(0..1)).await.unwrap_err();
    assert_eq!(early.code(), Code::Unavailable, "{early:?}");
    assert!(!starting.is_finished(), "loading was too quick for this test to see anything");
    assert_eq!(next(&mut readiness).await, Ok(Serving));
    let primary = starting.await.unwrap();
    assert_eq!(check(&primary.health(), "model/adult7/1").await.unwrap(), Serving);
}

#[tokio::test]
async fn a_draining_server_says_so_at_once_and_answers_on() {
    let primary = Primary::with(|settings| settings.drain_delay = Some("1s".into())).await;
    let (client, mut prediction, admin) = (primary.health(), primary.prediction(), primary.admin());
    let mut inference = primary.inference();
    assert_eq!(scrape::get(admin, "/healthz").await.unwrap().0, 200);
    let draining = tokio::spawn(primary.drain());
    // P41: within 100 ms.
    until(Duration::from_millis(100), "it is not serving", async || matches!(check(&client, "").await, Ok(NotServing)))
        .await;
    for name in READINESS {
        assert_eq!(check(&client, name).await.unwrap(), NotServing, "{name}");
    }
    for name in ["liveness", "startup"] {
        assert_eq!(check(&client, name).await.unwrap(), Serving, "{name}");
    }
    assert_eq!(scrape::get(admin, "/healthz").await.unwrap().0, 503);
    assert_eq!(scrape::get(admin, "/livez").await.unwrap().0, 200);
    assert!(inference.server_live(ServerLiveRequest {}).await.unwrap().into_inner().live);
    assert!(!inference.server_ready(ServerReadyRequest {}).await.unwrap().into_inner().ready);
    let adult = ModelReadyRequest { name: "adult".into(), ..ModelReadyRequest::default() };
    assert!(!inference.model_ready(adult).await.unwrap().into_inner().ready);
    let answer = prediction.predict(adult::test_set().predict(0..1)).await.unwrap().into_inner();
    assert_eq!(answer.predictions[0].probabilities[">50K"], adult::test_set().primary()[0]);
    assert!(!draining.is_finished(), "the delay was too short for this test to see anything");
    let seconds = draining.await.unwrap();
    assert!((1.0..3.0).contains(&seconds), "{seconds} s");
}

/// D4: stock tonic waits for ever.
#[tokio::test]
async fn whoever_holds_on_to_a_server_does_not_keep_it() {
    let primary = Primary::with(|settings| settings.drain_timeout = Some("1s".into())).await;
    let mut watching = watch(&primary.health(), "").await;
    assert_eq!(next(&mut watching).await, Ok(Serving));
    let mut tap = TapServiceClient::new(primary.unix_channel());
    let mut tapping = tap.subscribe(SubscribeRequest::default()).await.unwrap().into_inner();
    assert!(tapping.message().await.unwrap().is_some());
    let idle = primary.connect().await;
    assert_eq!(idle.call(&Call::new(PREDICT, &adult::test_set().predict(0..1))).await.status, Some(0));
    // A request whose body never comes, and a connection that never says anything.
    let mut stalled = Wire::open(primary.grpc()).await;
    stalled.send(&[Frame::call(1, 0, PREDICT, &[])]).await.unwrap();
    let _silent = Wire::silent(primary.grpc()).await;
    let admin = primary.admin();
    let seconds = within(SOON, primary.drain()).await;
    assert!(seconds < 3.0, "the drain timeout is 1 s, the drain took {seconds} s");
    assert_eq!(next(&mut watching).await, Ok(NotServing));
    assert_eq!(next(&mut watching).await, Err(Code::Unavailable));
    let ended = loop {
        match within(SOON, tapping.message()).await {
            Ok(message) => assert!(message.is_some(), "a stream ends with a status"),
            Err(status) => break status.code(),
        }
    };
    assert_eq!(ended, Code::Unavailable);
    until(SOON, "the connection is closed", async || idle.is_closed()).await;
    until(SOON, "the admin port is closed", async || scrape::get(admin, "/livez").await.is_err()).await;
}

/// A request that has come before the end is answered before the end.
#[tokio::test]
async fn what_is_in_flight_is_answered_while_the_server_closes() {
    let primary = Primary::start().await;
    let message = prost::Message::encode_to_vec(&adult::test_set().predict(0..1));
    let framed = support::grpc::frame(0, &message);
    let mut wire = Wire::open(primary.grpc()).await;
    wire.send(&[Frame::call(1, 0, PREDICT, &[])]).await.unwrap();
    // The server has seen the call once it answers a PING that follows it.
    wire.send(&[Frame::new(PING, 0, 0, [7; 8])]).await.unwrap();
    assert!(wire.next_of(PING, 0).await.is_some());
    let address = primary.grpc();
    let draining = tokio::spawn(primary.drain());
    assert!(wire.next_of(GOAWAY, 0).await.is_some());
    until(SOON, "the port is closed", async || TcpStream::connect(address).await.is_err()).await;
    wire.send(&[Frame::new(DATA, END_STREAM, 1, framed)]).await.unwrap();
    let answer = wire.next_of(DATA, 1).await.expect("an answer");
    assert!(answer.payload.windows(4).any(|bytes| bytes == b">50K"), "{answer:?}");
    // What is left is a client that does not hang up.
    drop(wire);
    assert!(draining.await.unwrap() < 4.0, "the drain timeout is 5 s");
}
