//! A thread that does not turn: told from outside, and not waited for.

use std::{
    future::Future,
    net::SocketAddr,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use http::Response;
use support::{
    SOON, until,
    wire::{END_STREAM, Frame, Wire},
    within,
};
use understudy::{
    edge::{Address, Body, Cores, Edge, Front, Inbound, Instruments, Limits, Listener, Peer, Setup, Turn},
    health::Registry,
    shutdown::{Phase, Phases, Shutdown},
    telemetry,
};

/// Longer than what is stuck, shorter than a test may take.
const WEDGED: Duration = Duration::from_secs(9);
const NAMES: [&str; 4] = ["", "readiness", "startup", "liveness"];

/// Holds its worker up with every call.
#[derive(Clone)]
struct Wedge;

impl Front for Wedge {
    fn call(&self, _: http::Request<Inbound>, _: Peer, _: Turn) -> impl Future<Output = Response<Body>> + Send {
        thread::sleep(WEDGED);
        std::future::pending()
    }
}

fn start(phases: &Phases, limits: &Limits) -> (Edge, SocketAddr) {
    let instruments = Arc::new(Instruments::new(&telemetry::recorder(&[]).unwrap()));
    let listener = Listener::bind(&"127.0.0.1:0".parse().unwrap()).unwrap();
    let Address::Tcp(address) = listener.address().unwrap() else { unreachable!("an IP address") };
    let setup =
        Setup { name: "wedge", workers: 2, limits, tls: None, phases, instruments: &instruments, cores: &Cores::of(1) };
    (Edge::start(&setup, vec![listener], &Wedge).unwrap(), address)
}

async fn follows(health: &Registry) {
    let all = |serving: bool| NAMES.iter().all(|name| health.serving(name) == Some(serving));
    assert!(all(true));
    until(SOON, "nothing is serving", async || all(false)).await;
    until(SOON, "everything is", async || all(true)).await;
}

fn ready(phases: &Phases) -> Registry {
    let health = Registry::new(&[], phases);
    health.set_ready(&[], true);
    health
}

#[tokio::test]
async fn nothing_is_serving_while_a_worker_does_not_turn() {
    let (_shutdown, phases) = Shutdown::new();
    let health = ready(&phases);
    let (edge, address) = start(&phases, &Limits::default());
    edge.pulse().watch(&health, &phases).unwrap();
    let mut wire = Wire::open(address).await;
    wire.send(&[Frame::call(1, END_STREAM, "/x/y", &[])]).await.unwrap();
    follows(&health).await;
}

#[tokio::test]
async fn nothing_is_serving_while_nobody_accepts() {
    let (_shutdown, phases) = Shutdown::new();
    let health = ready(&phases);
    let watched = health.clone();
    thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async move {
            let (edge, _) = start(&phases, &Limits::default());
            edge.pulse().watch(&watched, &phases).unwrap();
            tokio::time::sleep(Duration::from_millis(100)).await;
            thread::sleep(WEDGED);
            phases.reached(Phase::Closing).await;
        });
    });
    follows(&health).await;
}

#[tokio::test]
async fn the_end_does_not_wait_for_a_worker_that_does_not_turn() {
    let (shutdown, phases) = Shutdown::new();
    let (edge, address) = start(&phases, &Limits { grace: Duration::from_millis(500), ..Limits::default() });
    let mut wire = Wire::open(address).await;
    wire.send(&[Frame::call(1, END_STREAM, "/x/y", &[])]).await.unwrap();
    tokio::time::sleep(Duration::from_millis(500)).await;
    let began = Instant::now();
    shutdown.advance(Phase::Closing);
    within(Duration::from_secs(5), edge.ended()).await;
    assert!(began.elapsed() >= Duration::from_millis(1_400), "{:?}", began.elapsed());
}
