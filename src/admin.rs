//! Metrics and health over plain HTTP, on a thread and a runtime of their own: they answer while the data path is busy, and
//! probes that speak no TLS and carry no token (the kubelet's) reach `grpc.health.v1` here.

use std::{io, net::TcpListener, pin::pin, sync::Arc, thread, time::Duration};

pub use axum::Router;
use axum::{http::StatusCode, routing::get};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto,
    service::TowerToHyperService,
};
use metrics_exporter_prometheus::PrometheusHandle;
use tokio::{net::TcpStream, sync::Semaphore};
use tonic::service::Routes;

use crate::{
    health::Registry,
    shutdown::{Phase, Phases},
};

/// How often the recorder sorts its samples; without it they pile up until somebody scrapes.
const UPKEEP: Duration = Duration::from_secs(5);
/// Connections at the same time: probes, scrapers and the people who look.
const CONNECTIONS: usize = 256;
/// For a request's head, and between two looks at a silent peer.
const PATIENCE: Duration = Duration::from_secs(10);
/// What connections may take to end.
const GRACE: Duration = Duration::from_secs(1);

/// Serves `/metrics`, `/healthz` (readiness), `/livez`, `grpc.health.v1.Health` and `own`, what only this process has, on
/// `listener`, until [`Phase::Closing`].
/// `scrape` makes the text of `/metrics`: it may look at what is only worth looking at then, and keep others from changing it.
///
/// # Errors
/// The thread or its runtime can't be started.
pub fn start(
    listener: TcpListener,
    metrics: PrometheusHandle,
    scrape: impl Fn(&PrometheusHandle) -> String + Clone + Send + Sync + 'static,
    health: &Registry,
    phases: &Phases,
    own: Router,
) -> io::Result<thread::JoinHandle<()>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    listener.set_nonblocking(true)?;
    let (ready, live, phases) = (health.clone(), health.clone(), phases.clone());
    let upkeep = metrics.clone();
    let scrape = async move || scrape(&metrics);
    let router = Router::new()
        .route("/metrics", get(scrape))
        .route("/healthz", get(async move || answer(ready.serving(""))))
        .route("/livez", get(async move || answer(live.serving("liveness"))))
        .merge(Routes::new(health.service()).prepare().into_axum_router().reset_fallback())
        .merge(own);
    thread::Builder::new().name("admin".into()).spawn(move || {
        runtime.block_on(async move {
            tokio::spawn(async move {
                let mut ticks = tokio::time::interval(UPKEEP);
                loop {
                    ticks.tick().await;
                    upkeep.run_upkeep();
                }
            });
            if let Err(error) = serve(listener, &router, &phases).await {
                tracing::error!(%error, "the admin listener has failed");
            }
        });
    })
}

async fn serve(listener: TcpListener, router: &Router, phases: &Phases) -> io::Result<()> {
    let listener = tokio::net::TcpListener::from_std(listener)?;
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = phases.reached(Phase::Closing) => break,
        };
        match accepted {
            // Without a place it is closed.
            Ok((stream, _)) => {
                if let Ok(place) = places.clone().try_acquire_owned() {
                    let (router, phases) = (router.clone(), phases.clone());
                    tokio::spawn(async move {
                        drive(stream, router, phases).await;
                        drop(place);
                    });
                }
            }
            Err(error) => {
                tracing::warn!(%error, "an admin connection could not be accepted");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
    // Whoever is still being answered gets the answer.
    drop(tokio::time::timeout(GRACE, places.acquire_many(CONNECTIONS as u32)).await);
    Ok(())
}

async fn drive(stream: TcpStream, router: Router, phases: Phases) {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(PATIENCE);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(32)
        .max_local_error_reset_streams(1024)
        .max_header_list_size(16 << 10)
        .keep_alive_interval(PATIENCE)
        .keep_alive_timeout(PATIENCE);
    // The library reads the first bytes without a timeout, to see which protocol it is.
    let mut first = [0];
    if !matches!(tokio::time::timeout(PATIENCE, stream.peek(&mut first)).await, Ok(Ok(1))) {
        return;
    }
    let mut connection = pin!(builder.serve_connection(TokioIo::new(stream), TowerToHyperService::new(router)));
    // How a connection ends is its peer's concern.
    tokio::select! {
        ended = connection.as_mut() => drop(ended),
        () = phases.reached(Phase::Closing) => {
            connection.as_mut().graceful_shutdown();
            drop(connection.await);
        }
    }
}

fn answer(serving: Option<bool>) -> (StatusCode, &'static str) {
    if serving == Some(true) {
        (StatusCode::OK, "SERVING\n")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "NOT_SERVING\n")
    }
}
