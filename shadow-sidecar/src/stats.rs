//! What can be said about a candidate from counts alone.
//!
//! Everything here is a plain struct or function: no clock, no IO, no randomness, so that a recorded stream replays to
//! the same numbers. State is counters that add up across replicas; bounds are computed from counters and never
//! averaged. The formulas and the papers behind them are named at each function.
//!
//! - [`agreement`]: how often two models agree, by bounds that stay valid however often they are looked at
//! - [`bernstein`]: the same where the agreement drifts, and for any score in [0, 1]
//! - [`mcnemar`]: which of two models is right more often, once the truth is known
//! - [`discoveries`]: what still counts where many questions are asked at once
//! - [`histogram`]: latencies, as quantiles within one percent; [`ranks`]: with their intervals
//! - [`moments`]: differences between scores; [`sketch`]: their quantiles
//! - [`correlation`]: whether values go together; [`ranking`]: whether in the same order; [`bins`]: whether they are distributed
//!   alike
//! - [`special`]: the beta and gamma functions under them
//! - [`spread`]: differences by size and sign, for a picture

pub mod agreement;
pub mod bernstein;
pub mod bins;
pub mod correlation;
pub mod discoveries;
pub mod histogram;
pub mod mcnemar;
pub mod moments;
pub mod ranking;
pub mod ranks;
pub mod sketch;
pub mod special;
pub mod spread;
