//! The target of a mesh's mirror: Istio, Envoy, Gateway API, nginx, Traefik. Every call is answered at once, with nothing in
//! it, because nobody reads the answer; `:authority` is not looked at, so that it may end in `-shadow` or not.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::{HeaderMap, Response};
use tonic::Status;
use understudy::{
    edge::{self, Body, Client, Gate, Inbound, Peer},
    v1::{Exchange, Method},
};

use super::{
    Side, Unmatched,
    execution::{Execution, Requested},
    header, is_marked,
    join::{Bounds, Join, Keys, Lost},
    method,
};
use crate::{config::Config, rehearsal::unix_nanos, rehearsals::Rehearsals, tally::DropReason};

/// What a mirrored request may take to arrive.
const ARRIVAL: Duration = Duration::from_secs(30);
/// Where a proxy that rewrites the path keeps the one that the client has asked for: Envoy, nginx by convention.
const ORIGINAL_PATHS: [&str; 2] = ["x-envoy-original-path", "x-original-uri"];

/// What a mirrored request is good for.
#[derive(Debug)]
pub(crate) struct Mirror {
    rehearsals: Arc<Rehearsals>,
    gate: Gate,
    joiner: Arc<Joiner>,
    execution: Arc<Execution>,
    /// Whether the primary is to be asked once more, because it has no tap.
    executes: AtomicBool,
    sample_rate: f64,
    capture_bytes: usize,
    deny_methods: Vec<String>,
}

/// A mirrored request that has arrived.
struct Arrived {
    method: Method,
    message: Bytes,
    headers: HeaderMap,
}

/// Why a mirrored request is not compared.
enum Left {
    Denied,
    Looped,
    SampledOut,
    Lost(Unmatched),
}

impl Mirror {
    pub(crate) fn new(
        config: &Config,
        gate: Gate,
        rehearsals: &Arc<Rehearsals>,
        joiner: &Arc<Joiner>,
        execution: &Arc<Execution>,
    ) -> Self {
        Self {
            rehearsals: rehearsals.clone(),
            gate,
            joiner: joiner.clone(),
            execution: execution.clone(),
            executes: AtomicBool::new(config.primary_tap == Some(false)),
            sample_rate: config.sample_rate,
            capture_bytes: config.capture_bytes,
            deny_methods: config.deny_methods.clone(),
        }
    }

    /// The primary has no tap. What waits for it is given up.
    pub(crate) fn execute(&self) {
        self.executes.store(true, Ordering::Relaxed);
        let mut table = self.joiner.table();
        let lost = vec![(Side::Mirror, Unmatched::Evicted, table.give_up())];
        note(&table, &lost, &self.rehearsals, |_| {});
    }

    /// Takes a mirrored request.
    pub(crate) async fn call(&self, request: http::Request<Inbound>, peer: Peer) -> Response<Body> {
        match self.receive(request, peer).await {
            Ok(arrived) => self.take(arrived),
            Err(left) => {
                let mut state = self.rehearsals.intake();
                state.requests += 1;
                match left {
                    Left::Denied => state.denied += 1,
                    Left::Looped => state.looped += 1,
                    Left::SampledOut => state.sampled_out += 1,
                    Left::Lost(reason) => {
                        state.unmatched(Side::Mirror, reason, 1);
                        drop(state);
                        self.rehearsals.lost(reason.into(), 1, 1);
                    }
                }
            }
        }
        edge::passed(Status::ok("").into_http())
    }

    async fn receive(&self, request: http::Request<Inbound>, peer: Peer) -> Result<Arrived, Left> {
        let (parts, body) = request.into_parts();
        let headers = parts.headers;
        if is_marked(&headers) {
            return Err(Left::Looped);
        }
        let path = parts.uri.path();
        let method = method(path).or_else(|| originals(&headers).find_map(method)).ok_or(Left::Denied)?;
        // By whatever name: a mesh that rewrites the path must not let through what is on the list.
        if is_denied(&self.deny_methods, path) || originals(&headers).any(|path| is_denied(&self.deny_methods, path)) {
            return Err(Left::Denied);
        }
        if self.sample_rate < 1.0 && fastrand::f64() >= self.sample_rate {
            return Err(Left::SampledOut);
        }
        let shed = |_: Status| Left::Lost(Unmatched::Shed);
        let mut permit = self.gate.admission.begin(|| Client::from(&peer)).map_err(shed)?;
        permit.take_place().map_err(shed)?;
        let read = edge::read_body(body, self.capture_bytes, |bytes| permit.hold(bytes));
        let body = match tokio::time::timeout(ARRIVAL, read).await {
            Err(_) => return Err(Left::Lost(Unmatched::Ttl)),
            Ok(Err(edge::Unread::TooLarge)) => return Err(Left::Lost(Unmatched::Oversize)),
            Ok(Err(edge::Unread::Refused)) => return Err(Left::Lost(Unmatched::Shed)),
            Ok(Err(edge::Unread::Broken)) => return Err(Left::Lost(Unmatched::Undecodable)),
            Ok(Ok(body)) => body,
        };
        let message =
            edge::unframe(&body, &headers, self.capture_bytes).map_err(|_| Left::Lost(Unmatched::Undecodable))?;
        Ok(Arrived { method, message, headers })
    }

    fn take(&self, arrived: Arrived) {
        let Arrived { method, message, headers } = arrived;
        let (shadow_id, request_id) = (header(&headers, "x-shadow-id"), header(&headers, "x-request-id"));
        if !self.executes.load(Ordering::Relaxed) {
            return self.joiner.mirrored(&shadow_id, &request_id, method, &message, &self.rehearsals);
        }
        self.execution.take(Requested {
            method,
            message,
            arrived_unix_nanos: unix_nanos(),
            request_id,
            shadow_id,
            traceparent: header(&headers, "traceparent"),
        });
    }
}

/// The paths that clients have asked for, where a proxy has rewritten them and kept them.
fn originals(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    let kept = ORIGINAL_PATHS.iter().flat_map(|name| headers.get_all(*name));
    kept.filter_map(|value| value.to_str().ok()).map(|uri| uri.split(['?', '#']).next().unwrap_or_default())
}

/// Whether a path is one of `denied`: whole paths, or names of methods.
pub(super) fn is_denied(denied: &[String], path: &str) -> bool {
    denied.iter().any(|denied| path == denied || path.rsplit('/').next() == Some(denied))
}

impl From<Unmatched> for DropReason {
    fn from(reason: Unmatched) -> Self {
        match reason {
            Unmatched::Ttl => Self::Ttl,
            Unmatched::Evicted => Self::Evicted,
            Unmatched::Oversize => Self::Oversize,
            Unmatched::PrimaryError => Self::PrimaryError,
            Unmatched::Shed => Self::Shed,
            Unmatched::Undecodable => Self::Undecodable,
        }
    }
}

/// The table in which the two halves of an exchange meet, and what is told about it.
#[derive(Debug)]
pub struct Joiner {
    keys: Keys,
    table: Mutex<Join<Exchange>>,
}

impl Joiner {
    /// Nothing waits.
    pub fn new(bounds: Bounds) -> Self {
        Self { keys: Keys::default(), table: Mutex::new(Join::new(bounds)) }
    }

    fn table(&self) -> MutexGuard<'_, Join<Exchange>> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn mirrored(&self, shadow_id: &str, request_id: &str, method: Method, message: &[u8], rehearsals: &Rehearsals) {
        let key = self.keys.key(shadow_id, request_id, method, message);
        let mut lost = Lost::new();
        let mut table = self.table();
        let joined = table.mirrored(key, Instant::now(), &mut lost);
        note(&table, &lost, rehearsals, |state| {
            state.requests += 1;
            if let Some(exchange) = &joined {
                matched(state, exchange);
            }
        });
        drop(table);
        if let Some(exchange) = joined {
            rehearsals.offer(exchange);
        }
    }

    /// The primary's half has come.
    pub(super) fn answered(&self, exchange: Exchange, rehearsals: &Rehearsals) {
        let Exchange { shadow_id, request_id, request, response, .. } = &exchange;
        let key = self.keys.key(shadow_id, request_id, exchange.method(), request);
        let bytes = size_of::<Exchange>() + request.len() + response.len();
        let mut lost = Lost::new();
        let mut table = self.table();
        let joined = table.answered(key, bytes, exchange, Instant::now(), &mut lost);
        note(&table, &lost, rehearsals, |state| {
            if let Some(exchange) = &joined {
                matched(state, exchange);
            }
        });
        drop(table);
        if let Some(exchange) = joined {
            rehearsals.offer(exchange);
        }
    }

    /// Gives up what has waited too long; to be called now and then.
    pub fn expire(&self, rehearsals: &Rehearsals) {
        let mut lost = Lost::new();
        let mut table = self.table();
        table.expire(Instant::now(), &mut lost);
        note(&table, &lost, rehearsals, |_| {});
    }
}

/// Tells what has become of halves while the table is held, so that the sums are right at every moment.
fn note(table: &Join<Exchange>, lost: &Lost, rehearsals: &Rehearsals, change: impl FnOnce(&mut super::IntakeState)) {
    let mut state = rehearsals.intake();
    change(&mut state);
    state.waiting = table.waiting();
    for &(side, reason, count) in lost {
        state.unmatched(side, reason, count);
    }
    drop(state);
    for &(side, reason, count) in lost {
        if side == Side::Mirror {
            rehearsals.lost(reason.into(), count, count);
        }
    }
}

fn matched(state: &mut super::IntakeState, exchange: &Exchange) {
    if exchange.status == 0 {
        state.matched += 1;
    } else {
        state.unmatched(Side::Mirror, Unmatched::PrimaryError, 1);
    }
}
