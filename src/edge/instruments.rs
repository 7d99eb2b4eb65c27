//! What an edge counts, whichever process it stands before.

use std::fmt;

use metrics::{Counter, Gauge, Recorder, counter, describe_counter, describe_gauge, gauge};

use super::{Admission, meter::Failing};

const CONNECTIONS: &str = "understudy_connections";
const ACCEPTED: &str = "understudy_connections_total";
const ENDED: &str = "understudy_connections_cut_total";
const REFUSED: &str = "understudy_refused_calls_total";
const CALLS: &str = "understudy_in_flight_calls";
const BYTES: &str = "understudy_in_flight_bytes";
const PANICS: &str = "understudy_panics_total";

/// Why a call was not let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Too many calls in flight.
    Calls,
    /// Too many bytes in flight.
    Bytes,
    /// Too many calls of this client in flight.
    ClientCalls,
    /// Too many calls of this client in a minute.
    Rate,
    /// Too much work waits already.
    Work,
    /// It has waited too long for its turn.
    Queue,
    /// Too many bytes of this client in flight.
    ClientBytes,
}

/// What became of a connection that was offered.
#[derive(Clone, Copy, Debug)]
pub(super) enum Offered {
    Accepted,
    TooMany,
    TooManyOfAddress,
    Failed,
}

/// Why we ended a connection that its peer had not ended.
#[derive(Clone, Copy, Debug)]
pub(super) enum Cut {
    Failing(Failing),
    /// Nothing came, and no PING was answered.
    Silent,
    /// It has served its time.
    Age,
    /// It did not end its streams within the grace.
    Grace,
}

/// The instruments of one edge.
pub struct Instruments {
    pub(super) connections: Gauge,
    offered: [Counter; 4],
    cut: [Counter; 7],
    refused: [Counter; 7],
    calls: Gauge,
    bytes: Gauge,
    pub(super) panics: Counter,
}

impl fmt::Debug for Instruments {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Instruments").finish_non_exhaustive()
    }
}

impl Instruments {
    /// Registers them all.
    pub fn new(recorder: &dyn Recorder) -> Self {
        metrics::with_local_recorder(recorder, || {
            describe_gauge!(CONNECTIONS, "connections that are open");
            describe_counter!(ACCEPTED, "connections that were offered, by outcome");
            describe_counter!(ENDED, "connections that were ended from this side, by reason");
            describe_counter!(REFUSED, "calls that were refused for want of room, by reason");
            describe_gauge!(CALLS, "calls that have begun and not ended");
            describe_gauge!(BYTES, "bytes of messages that wait to be evaluated or sent");
            describe_counter!(PANICS, "calls that have ended by a bug of ours");
            Self {
                connections: gauge!(CONNECTIONS),
                offered: ["accepted", "too_many", "too_many_of_address", "failed"]
                    .map(|outcome| counter!(ACCEPTED, "outcome" => outcome)),
                cut: ["greeting", "headers", "flood", "unread", "age", "grace", "silent"]
                    .map(|reason| counter!(ENDED, "reason" => reason)),
                refused: ["calls", "bytes", "client_calls", "client_rate", "work", "queue", "client_bytes"]
                    .map(|reason| counter!(REFUSED, "reason" => reason)),
                calls: gauge!(CALLS),
                bytes: gauge!(BYTES),
                panics: counter!(PANICS),
            }
        })
    }

    /// A call was refused.
    pub fn refused(&self, reason: Refusal) {
        self.refused[reason as usize].increment(1);
    }

    /// Looks at what is in flight: before a scrape, not on every call.
    pub fn sample(&self, admission: &Admission) {
        self.calls.set(admission.calls() as f64);
        self.bytes.set(admission.bytes() as f64);
    }

    pub(super) fn offered(&self, outcome: Offered) {
        self.offered[outcome as usize].increment(1);
    }

    pub(super) fn cut(&self, reason: Cut) {
        let at = match reason {
            Cut::Failing(failing) => failing as usize,
            Cut::Age => 4,
            Cut::Grace => 5,
            Cut::Silent => 6,
        };
        self.cut[at].increment(1);
    }
}
