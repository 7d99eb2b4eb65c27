//! Metrics and health over plain HTTP, on a thread and a runtime of their own: they answer while the data path is busy, and
//! probes that speak no TLS and carry no token (the kubelet's) reach `grpc.health.v1` here.

use std::{
    collections::VecDeque,
    convert::Infallible,
    io::{self, Cursor},
    net::TcpListener,
    pin::pin,
    thread,
    time::Duration,
};

pub use axum::Router;
use axum::{http::StatusCode, response::IntoResponse as _, routing::get};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto,
};
use metrics_exporter_prometheus::PrometheusHandle;
use tokio::{
    io::AsyncReadExt as _,
    net::TcpStream,
    task::{AbortHandle, JoinSet},
};
use tonic::service::Routes;
use tower::ServiceExt as _;

use crate::{
    edge::{Client, Peer},
    health::Registry,
    shutdown::{Phase, Phases},
};

/// How often the recorder sorts its samples; without it they pile up until somebody scrapes.
const UPKEEP: Duration = Duration::from_secs(5);
/// Connections at the same time: probes, scrapers and the people who look.
const CONNECTIONS: usize = 256;
/// Of them from one address.
const CONNECTIONS_OF_ADDRESS: usize = 64;
/// For a greeting, for a request's head, for an answer, and between two looks at a silent peer.
const PATIENCE: Duration = Duration::from_secs(10);
/// After this time a connection ends: a peer that answers PINGs and asks for nothing has nothing to lose by that.
const AGE: Duration = Duration::from_secs(10 * 60);
/// Bytes of a message to health, which is a name.
const MESSAGE: usize = 4 << 10;
/// Bytes that may be in flight on a stream, and on a connection.
const WINDOW: u32 = 64 << 10;
/// What a client of HTTP/2 begins with.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
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
        .merge(
            Routes::new(health.service().max_decoding_message_size(MESSAGE))
                .prepare()
                .into_axum_router()
                .reset_fallback(),
        )
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

/// The connections that are open, oldest first.
#[derive(Default)]
struct Open(VecDeque<(Client, AbortHandle)>);

impl Open {
    /// Ends whoever has been here for longest, of all or of its own address, where there is no place for `client`. A probe comes, asks
    /// and goes: whoever keeps places for nothing must not keep it out.
    fn make_room_for(&mut self, client: &Client) {
        self.0.retain(|(_, task)| !task.is_finished());
        let of_address = self.0.iter().filter(|(other, _)| other == client).count();
        let oldest = if of_address >= CONNECTIONS_OF_ADDRESS {
            self.0.iter().position(|(other, _)| other == client)
        } else {
            (self.0.len() >= CONNECTIONS).then_some(0)
        };
        if let Some((client, task)) = oldest.and_then(|oldest| self.0.remove(oldest)) {
            tracing::debug!(?client, "an admin connection gives way to another");
            task.abort();
        }
    }
}

async fn serve(listener: TcpListener, router: &Router, phases: &Phases) -> io::Result<()> {
    let listener = tokio::net::TcpListener::from_std(listener)?;
    let mut connections = JoinSet::new();
    let mut open = Open::default();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            // How a connection ends is its peer's concern.
            Some(_ended) = connections.join_next() => continue,
            () = phases.reached(Phase::Closing) => break,
        };
        match accepted {
            Ok((stream, peer)) => {
                let peer = Peer::Tcp(peer);
                let client = Client::from(&peer);
                open.make_room_for(&client);
                let task = connections.spawn(drive(stream, peer, router.clone(), phases.clone()));
                open.0.push_back((client, task));
            }
            Err(error) => {
                tracing::warn!(%error, "an admin connection could not be accepted");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
    // Whoever is still being answered gets the answer.
    let ended = async { while connections.join_next().await.is_some() {} };
    drop(tokio::time::timeout(GRACE, ended).await);
    Ok(())
}

/// What a connection begins with: as much as tells HTTP/2 from HTTP/1. The library below would wait for it without end.
async fn greeting(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
    let mut greeting = Vec::with_capacity(PREFACE.len());
    while greeting.len() < PREFACE.len() && PREFACE.starts_with(&greeting) {
        let rest = (PREFACE.len() - greeting.len()) as u64;
        if (&mut *stream).take(rest).read_buf(&mut greeting).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    Ok(greeting)
}

async fn drive(mut stream: TcpStream, peer: Peer, router: Router, phases: Phases) {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(PATIENCE);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(32)
        .max_local_error_reset_streams(1024)
        .max_header_list_size(16 << 10)
        .initial_stream_window_size(WINDOW)
        .initial_connection_window_size(WINDOW)
        .keep_alive_interval(PATIENCE)
        .keep_alive_timeout(PATIENCE);
    let Ok(Ok(greeting)) = tokio::time::timeout(PATIENCE, greeting(&mut stream)).await else { return };
    let (read, write) = stream.into_split();
    let stream = tokio::io::join(Cursor::new(greeting).chain(read), write);
    let service = service_fn(move |mut request: http::Request<Incoming>| {
        request.extensions_mut().insert(Client::from(&peer));
        let answer = router.clone().oneshot(request);
        async move {
            let answer = tokio::time::timeout(PATIENCE, answer).await;
            Ok::<_, Infallible>(match answer {
                Ok(Ok(answer)) => answer,
                Err(_elapsed) => StatusCode::REQUEST_TIMEOUT.into_response(),
            })
        }
    });
    let mut connection = pin!(builder.serve_connection(TokioIo::new(stream), service));
    let grace = tokio::select! {
        _ended = connection.as_mut() => return,
        () = tokio::time::sleep(AGE) => PATIENCE,
        () = phases.reached(Phase::Closing) => GRACE,
    };
    connection.as_mut().graceful_shutdown();
    drop(tokio::time::timeout(grace, connection).await);
}

fn answer(serving: Option<bool>) -> (StatusCode, &'static str) {
    if serving == Some(true) {
        (StatusCode::OK, "SERVING\n")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "NOT_SERVING\n")
    }
}
