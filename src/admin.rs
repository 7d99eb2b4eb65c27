//! Metrics and health over HTTP/1.1, on a thread and a runtime of their own: they answer while the data path is busy.

use std::{io, net::TcpListener, thread};

use axum::{Router, http::StatusCode, routing::get};
use metrics_exporter_prometheus::PrometheusHandle;

use crate::{
    health::Registry,
    shutdown::{Phase, Phases},
};

/// How often the recorder sorts its samples; without it they pile up until somebody scrapes.
const UPKEEP: std::time::Duration = std::time::Duration::from_secs(5);

/// Serves `/metrics`, `/healthz` (readiness) and `/livez` on `listener`, until [`Phase::Closing`].
///
/// # Errors
/// The thread or its runtime can't be started.
pub fn start(
    listener: TcpListener,
    metrics: PrometheusHandle,
    health: &Registry,
    phases: &Phases,
) -> io::Result<thread::JoinHandle<()>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    listener.set_nonblocking(true)?;
    let (health, phases) = (health.clone(), phases.clone());
    thread::Builder::new().name("admin".into()).spawn(move || {
        runtime.block_on(async move {
            let upkeep = metrics.clone();
            tokio::spawn(async move {
                let mut ticks = tokio::time::interval(UPKEEP);
                loop {
                    ticks.tick().await;
                    upkeep.run_upkeep();
                }
            });
            let (ready, live) = (health.clone(), health);
            let router = Router::new()
                .route("/metrics", get(async move || metrics.render()))
                .route("/healthz", get(async move || answer(ready.serving(""))))
                .route("/livez", get(async move || answer(live.serving("liveness"))));
            let served = match tokio::net::TcpListener::from_std(listener) {
                Ok(listener) => {
                    let closing = async move { phases.reached(Phase::Closing).await };
                    axum::serve(listener, router).with_graceful_shutdown(closing).await
                }
                Err(error) => Err(error),
            };
            if let Err(error) = served {
                tracing::error!(%error, "the admin listener has failed");
            }
        });
    })
}

fn answer(serving: Option<bool>) -> (StatusCode, &'static str) {
    if serving == Some(true) {
        (StatusCode::OK, "SERVING\n")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "NOT_SERVING\n")
    }
}
