//! Where exchanges come from: one stream of them, whichever way they come in.
//!
//! * [`tap`] — the primary's own copy of what it answered
//! * [`mirror`] — a mesh sends a copy of each request; [`join`] finds the primary's answer to it in the tap's copy, or
//!   [`execution`] asks the primary once more, off the user's path
//! * [`proxy`] — in the path of the calls, byte for byte; [`capture`] makes exchanges of what went by
//! * [`primary`] — who the primary is, where there is no tap to say so

use std::sync::{Arc, Mutex};

use http::HeaderMap;
use understudy::v1::Method;

pub mod capture;
pub mod execution;
pub mod join;
pub mod mirror;
pub mod primary;
pub mod proxy;
pub(crate) mod reach;
pub mod tap;

pub use understudy::MARKER;

/// Which way exchanges come in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Kind {
    /// From the primary's tap.
    #[default]
    Tap,
    /// From a mesh that mirrors requests.
    Mirror,
    /// Through this process.
    Proxy,
}

impl Kind {
    /// The name in the configuration and in reports.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Tap => "tap",
            Self::Mirror => "mirror",
            Self::Proxy => "proxy",
        }
    }
}

impl std::str::FromStr for Kind {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let kinds = [Self::Tap, Self::Mirror, Self::Proxy];
        kinds
            .into_iter()
            .find(|kind| kind.as_str() == text)
            .ok_or_else(|| format!("expected tap, mirror or proxy, got {text:?}"))
    }
}

/// Which half of an exchange is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The request, as the mesh has mirrored it or as it went by.
    Mirror,
    /// The primary's answer, from the tap.
    Tap,
}

/// Why the other half never came, or is of no use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unmatched {
    /// It did not come in time.
    Ttl,
    /// Too much was waiting.
    Evicted,
    /// Larger than what may be kept.
    Oversize,
    /// The primary has answered with an error.
    PrimaryError,
    /// There was too much to do.
    Shed,
    /// It is no message of the method.
    Undecodable,
}

impl Side {
    /// Both, in the order of a report.
    pub const ALL: [Self; 2] = [Self::Mirror, Self::Tap];

    /// The name in reports and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Mirror => "mirror",
            Self::Tap => "tap",
        }
    }
}

impl Unmatched {
    /// All reasons, in the order of a report.
    pub const ALL: [Self; 6] =
        [Self::Ttl, Self::Evicted, Self::Oversize, Self::PrimaryError, Self::Shed, Self::Undecodable];

    /// The name in reports and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ttl => "ttl",
            Self::Evicted => "evicted",
            Self::Oversize => "oversize",
            Self::PrimaryError => "primary_error",
            Self::Shed => "shed",
            Self::Undecodable => "undecodable",
        }
    }
}

/// The state of the intake, for the report. For a mirror or a proxy, at every moment:
/// requests = denied + looped + left out by sampling + matched + unmatched on the mirror's side + waiting there + under way.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct IntakeState {
    /// Which way exchanges come in.
    pub kind: Kind,
    /// Whether the tap is subscribed; without a tap, whether the primary has said who it is.
    pub connected: bool,
    /// The server instance whose tap is subscribed, or was last; empty where there is none.
    pub primary_instance: String,
    /// Subscriptions so far; without a tap, how often the primary has said who it is.
    pub subscriptions: u64,
    /// Subscriptions that ended and attempts to reach the primary that failed.
    pub failures: u64,
    /// Left out by sampling.
    pub sampled_out: u64,
    /// The last thing that went wrong.
    pub last_error: String,
    /// Requests that came in through a mirror or a proxy.
    pub requests: u64,
    /// Those of methods that are not to be compared.
    pub denied: u64,
    /// Those that were part of a rehearsal already.
    pub looped: u64,
    /// Those whose answer by the primary became known.
    pub matched: u64,
    /// Halves that wait for the other one, by [`Side`].
    pub waiting: [u64; 2],
    /// Halves that have none, by [`Side`] and [`Unmatched`].
    pub unmatched: [[u64; 6]; 2],
    /// Requests that wait for the primary without a tap, or whose answer has not gone by yet.
    pub under_way: u64,
    /// Requests that were sent to the primary once more, to know its answer.
    pub executed: u64,
    /// Requests that were sent to it twice, for the noise floor.
    pub repeated: u64,
}

/// The state, shared by all who change it.
pub type Shared = Arc<Mutex<IntakeState>>;

impl IntakeState {
    /// `count` halves have no other.
    pub fn unmatched(&mut self, side: Side, reason: Unmatched, count: u64) {
        self.unmatched[side as usize][reason as usize] += count;
    }
}

/// The method that can be compared, of a path.
pub(crate) fn method(path: &str) -> Option<Method> {
    match path {
        "/inference.GRPCInferenceService/ModelInfer" => Some(Method::ModelInfer),
        "/understudy.v1.PredictionService/Predict" => Some(Method::Predict),
        _ => None,
    }
}

/// The path of a method that can be compared.
pub(crate) fn path(method: Method) -> &'static str {
    match method {
        Method::Predict => "/understudy.v1.PredictionService/Predict",
        Method::ModelInfer | Method::Unspecified => "/inference.GRPCInferenceService/ModelInfer",
    }
}

/// Whether a request is part of a rehearsal already.
pub(crate) fn is_marked(headers: &HeaderMap) -> bool {
    headers.contains_key(MARKER)
}

/// A header as text, at most 256 bytes of it; empty when it is absent or not ASCII.
pub(crate) fn header(headers: &HeaderMap, name: &str) -> String {
    let text = headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    text.get(..256).unwrap_or(text).to_owned()
}
