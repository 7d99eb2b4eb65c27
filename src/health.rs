//! `grpc.health.v1`, on both processes. The service trait is the one that tonic-health generates; its stock implementation
//! reports "" as SERVING from the start, fails a Watch of an unknown name and repeats equal states.
//!
//! Semantics: `reliability.md` section 5. `""` equals `readiness`. `liveness` depends on nothing but this process. A name
//! that was never known is NOT_FOUND for Check and SERVICE_UNKNOWN for Watch, which stays open and tells when it appears.

use std::{
    collections::{BTreeMap, HashMap},
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::sync::{mpsc, watch};
use tokio_stream::{Stream, wrappers::ReceiverStream};
use tonic::{Request, Response, Status};
use tonic_health::pb::{
    HealthCheckRequest, HealthCheckResponse,
    health_check_response::ServingStatus,
    health_server::{Health, HealthServer},
};

use crate::{
    edge::Client,
    shutdown::{Phase, Phases},
};

/// Names of the whole process, all of them readiness.
const READINESS: [&str; 2] = ["", "readiness"];
/// Streams of Watch at the same time.
const MAX_WATCHES: usize = 1000;
/// Of one client.
const MAX_CLIENT_WATCHES: usize = 100;
/// Bytes of a service name.
const MAX_NAME: usize = 256;
/// A flapping service is told at most so often.
const WATCH_INTERVAL: Duration = Duration::from_millis(100);

/// What is serving. Cheap to clone; every clone sees the same.
#[derive(Clone, Debug)]
pub struct Registry {
    states: watch::Sender<States>,
    phases: Phases,
    /// On whichever port.
    watches: Arc<Watches>,
}

#[derive(Debug)]
struct States {
    /// By name, whether it is serving.
    names: BTreeMap<String, bool>,
    /// The threads that serve do.
    turning: bool,
}

impl Registry {
    /// `liveness` is SERVING from now on; readiness, `startup` and `own`, the names that share readiness (such as the
    /// service that the process is there for), are not until [`Registry::set_ready`].
    pub fn new(own: &[&str], phases: &Phases) -> Self {
        let names = READINESS.iter().chain(&["startup"]).chain(own);
        let mut names: BTreeMap<String, bool> = names.map(|name| ((*name).to_owned(), false)).collect();
        names.insert("liveness".into(), true);
        let states = watch::Sender::new(States { names, turning: true });
        Self { states, phases: phases.clone(), watches: Arc::default() }
    }

    /// Sets one name; it becomes known by that.
    pub fn set(&self, name: &str, serving: bool) {
        self.states.send_if_modified(|states| states.names.insert(name.to_owned(), serving) != Some(serving));
    }

    /// Sets readiness and `own`, the names that share it. `startup` becomes SERVING with the first readiness and stays.
    pub fn set_ready(&self, own: &[&str], ready: bool) {
        self.states.send_if_modified(|states| {
            let mut changed = false;
            for name in READINESS.iter().chain(own) {
                changed |= states.names.insert((*name).to_owned(), ready) != Some(ready);
            }
            if ready {
                changed |= states.names.insert("startup".into(), true) != Some(true);
            }
            changed
        });
    }

    /// Forgets a name: Check says NOT_FOUND, an open Watch SERVICE_UNKNOWN.
    pub fn remove(&self, name: &str) {
        self.states.send_if_modified(|states| states.names.remove(name).is_some());
    }

    /// Whether the threads that serve do. While one of them does not, nothing is serving, `liveness` and `startup` included.
    pub(crate) fn set_turning(&self, turning: bool) {
        self.states.send_if_modified(|states| std::mem::replace(&mut states.turning, turning) != turning);
    }

    /// Whether `name` is serving now; absent when it is not known. While draining nothing is but `liveness` and `startup`.
    pub fn serving(&self, name: &str) -> Option<bool> {
        let states = self.states.borrow();
        let serving = *states.names.get(name)? && states.turning;
        drop(states);
        Some(serving && (self.phases.now() < Phase::Draining || matches!(name, "liveness" | "startup")))
    }

    /// Every name that is known, for the log: a probe with a typo is a restart loop.
    pub fn names(&self) -> Vec<String> {
        self.states.borrow().names.keys().cloned().collect()
    }

    /// The gRPC service.
    pub fn service(&self) -> HealthServer<Service> {
        HealthServer::new(Service { registry: self.clone() })
    }
}

/// The gRPC service of a [`Registry`].
#[derive(Debug)]
pub struct Service {
    registry: Registry,
}

/// Open streams of Watch, by client.
#[derive(Debug, Default)]
struct Watches(Mutex<HashMap<Option<Client>, usize>>);

/// The place of one stream; dropping it frees it.
struct Watching {
    watches: Arc<Watches>,
    client: Option<Client>,
}

impl Watches {
    fn begin(self: &Arc<Self>, client: Option<Client>) -> Result<Watching, Status> {
        let mut open = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let full = |limit: usize, whose: &str| {
            Err(Status::resource_exhausted(format!("too many watches{whose}: limit {limit}")))
        };
        if open.values().sum::<usize>() >= MAX_WATCHES {
            return full(MAX_WATCHES, "");
        }
        let own = open.entry(client.clone()).or_default();
        if *own >= MAX_CLIENT_WATCHES {
            return full(MAX_CLIENT_WATCHES, " of one client");
        }
        *own += 1;
        drop(open);
        Ok(Watching { watches: self.clone(), client })
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        let mut open = self.watches.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(own) = open.get_mut(&self.client) {
            *own -= 1;
            if *own == 0 {
                open.remove(&self.client);
            }
        }
    }
}

fn checked(request: Request<HealthCheckRequest>) -> Result<String, Status> {
    let name = request.into_inner().service;
    if name.len() > MAX_NAME {
        let text = format!("service name too long: limit {MAX_NAME} bytes, got {}", name.len());
        return Err(Status::invalid_argument(text));
    }
    Ok(name)
}

fn response(serving: Option<bool>) -> HealthCheckResponse {
    let status = match serving {
        Some(true) => ServingStatus::Serving,
        Some(false) => ServingStatus::NotServing,
        None => ServingStatus::ServiceUnknown,
    };
    HealthCheckResponse { status: status.into() }
}

#[tonic::async_trait]
impl Health for Service {
    async fn check(&self, request: Request<HealthCheckRequest>) -> Result<Response<HealthCheckResponse>, Status> {
        let name = checked(request)?;
        match self.registry.serving(&name) {
            None => Err(Status::not_found(format!("unknown service '{}'", name.escape_debug()))),
            known => Ok(Response::new(response(known))),
        }
    }

    type WatchStream = Pin<Box<dyn Stream<Item = Result<HealthCheckResponse, Status>> + Send>>;

    async fn watch(&self, request: Request<HealthCheckRequest>) -> Result<Response<Self::WatchStream>, Status> {
        let client = request.extensions().get::<Client>().cloned();
        let name = checked(request)?;
        let watching = self.registry.watches.begin(client)?;
        let (send, receive) = mpsc::channel(1);
        let registry = self.registry.clone();
        tokio::spawn(async move {
            let _watching = watching;
            let mut states = registry.states.subscribe();
            let mut told = None;
            loop {
                states.mark_unchanged();
                let now = registry.serving(&name);
                if told != Some(now) {
                    if send.send(Ok(response(now))).await.is_err() {
                        return;
                    }
                    told = Some(now);
                    tokio::select! {
                        () = tokio::time::sleep(WATCH_INTERVAL) => {}
                        () = send.closed() => return,
                        () = registry.phases.reached(Phase::Closing) => {}
                    }
                    // What came during the pause is told before anything else, the end included.
                    continue;
                }
                let draining = registry.phases.now() >= Phase::Draining;
                tokio::select! {
                    changed = states.changed() => if changed.is_err() { return },
                    () = registry.phases.reached(Phase::Draining), if !draining => {}
                    () = registry.phases.reached(Phase::Closing), if draining => {
                        // An error means that the caller has gone, too.
                        drop(send.send(Err(Status::unavailable("shutting down"))).await);
                        return;
                    }
                    () = send.closed() => return,
                }
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(receive))))
    }
}
