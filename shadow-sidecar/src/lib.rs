//! The process that observes. The life of an exchange, by file:
//!
//! 1. [`intake`]: it comes from the server's tap, from a mesh's mirror or through this process as an [`exchange`];
//!    [`rehearsals`] offers it to every candidate, and its [`rehearsal`] gives it a ticket and a place in a bounded queue
//! 2. [`candidate`]: the candidate answers the same request, in this process or on a server of its own
//! 3. [`answers`]: both answers are read; [`compare`]: row by row, the same or not, and by how much
//! 4. [`tally`]: counters that add up, by [`slicer`] also for segments of rows; [`stats`]: what can be said from them;
//!    [`verdict`]: may the candidate take over?
//! 5. [`report`], [`otlp`], [`metrics`]: who is told; [`state`]: what survives a restart; [`pooling`]: many replicas, one report
//! 6. [`page`], with [`history`]: who looks
//! 7. [`disagreements`]: on what they differ, by examples
//! 8. [`outlets`]: copies of exchanges, to [`cloudevents`] for others and to a [`recording`], which [`replay`] lets rehearse on
//!    another day
//!
//! `compare`, `tally`, `stats` and `verdict` are plain structs and functions: no async, no clock, no OpenTelemetry, so that a
//! recorded stream replays to the same numbers. Nothing here can slow, fail or change an answer of the primary.

#![warn(missing_docs)]

pub mod answers;
pub mod candidate;
pub mod cloudevents;
pub mod compare;
pub mod config;
pub mod disagreements;
pub mod exchange;
pub mod history;
pub mod intake;
pub mod metrics;
pub mod otlp;
pub mod outlets;
pub mod page;
pub mod pooling;
pub mod recording;
pub mod rehearsal;
pub mod rehearsals;
pub mod replay;
pub mod report;
pub mod report_json;
pub mod run;
pub mod scheduling;
mod service;
pub mod slicer;
pub mod state;
pub mod stats;
pub mod tally;
pub mod verdict;

pub use config::{Config, Settings};
pub use run::{Sidecar, StartError};
