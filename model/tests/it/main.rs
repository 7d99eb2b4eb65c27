//! Packages and models from outside, as the server sees them.
#![allow(clippy::unwrap_used, reason = "a test fails by a panic")]

mod catboost;
mod families;
mod fixture;
mod forest;
mod format;
mod hostile;
mod mutated;
mod package;
mod parity;
mod text;
mod xgboost;
