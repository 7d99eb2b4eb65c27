//! What the end-to-end tests stand on: processes' worth of product started on port 0, clients that behave and clients that
//! do not, and the examples of the repository as the data.
//!
//! * [`primary`] — a server
//! * [`rehearsal`] — a sidecar; [`sidecar`] — one as a process; [`collector`] — where it sends its figures; [`stub`] — a candidate that misbehaves
//! * [`load`] — clients; [`mesh`] — a route that mirrors; [`origin`] — a server that says what no gRPC library would
//! * [`adult`] — rows and LightGBM's own answers, from `examples/adult`; [`tensors`] sends and reads them as tensors
//! * [`process`] — one of the binaries; [`target`] — a server by its flags, here or as a process
//! * [`case`] — a call and what must come of it; [`strict`] — a model that repairs nothing
//! * [`authority`] — certificates; [`front`] — TLS before any of these servers; [`issuer`] — tokens
//! * [`package`] — a copy of a model package, to be broken or changed
//! * [`grpc`] — any headers and any bytes as a gRPC call; [`wire`] — any HTTP/2 frame
//! * [`open_loop`] — a client with a schedule; [`machine`] — what the kernel says about a process
//! * [`promises`] — the table of what was asked and what was seen
//! * [`scrape`] — `/metrics` and whatever else the admin port says; [`sink`] — where CloudEvents go

#![allow(clippy::missing_panics_doc, reason = "the harness panics where a test would")]

use std::{
    future::Future,
    panic::Location,
    path::PathBuf,
    time::{Duration, Instant},
};

pub mod adult;
pub mod authority;
pub mod case;
pub mod collector;
pub mod front;
pub mod grpc;
pub mod issuer;
pub mod load;
pub mod machine;
pub mod mesh;
pub mod open_loop;
pub mod origin;
pub mod package;
pub mod primary;
pub mod process;
pub mod promises;
pub mod rehearsal;
pub mod scrape;
pub mod sidecar;
pub mod sink;
pub mod strict;
pub mod stub;
pub mod target;
pub mod tensors;
pub mod wire;

pub use primary::{Primary, endpoint};
pub use rehearsal::Rehearsal;

/// For whatever should be quick: a busy machine with two cores may still take a while.
pub const SOON: Duration = Duration::from_secs(10);

/// `examples/` of the repository.
pub fn examples() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../examples"))
}

/// Asks `probe` until it says `Ok`, instead of sleeping for as long as it might take.
///
/// # Panics
/// After `deadline`, with what `probe` said last.
#[track_caller]
pub fn eventually<T>(deadline: Duration, mut probe: impl AsyncFnMut() -> anyhow::Result<T>) -> impl Future<Output = T> {
    let caller = Location::caller();
    let ends = Instant::now() + deadline;
    async move {
        loop {
            match probe().await {
                Ok(value) => return value,
                Err(error) if Instant::now() >= ends => panic!("{caller}: not within {deadline:?}: {error:#}"),
                Err(_) => tokio::time::sleep(Duration::from_millis(5)).await,
            }
        }
    }
}

/// As [`eventually`], for what is either so or not so.
///
/// # Panics
/// After `deadline`, with `what` should have been so.
#[track_caller]
pub fn until(deadline: Duration, what: &str, mut probe: impl AsyncFnMut() -> bool) -> impl Future<Output = ()> {
    eventually(deadline, async move || if probe().await { Ok(()) } else { Err(anyhow::anyhow!("{what}")) })
}

/// Waits for `future`, which must end by itself.
///
/// # Panics
/// When it does not within `deadline`.
#[track_caller]
pub fn within<F: Future>(deadline: Duration, future: F) -> impl Future<Output = F::Output> {
    let caller = Location::caller();
    async move {
        tokio::time::timeout(deadline, future).await.unwrap_or_else(|_| panic!("{caller}: not within {deadline:?}"))
    }
}
