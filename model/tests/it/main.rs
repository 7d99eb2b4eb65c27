//! Packages and models from outside, as the server sees them.
#![allow(clippy::unwrap_used, reason = "a test fails by a panic")]

mod fixture;
mod format;
mod hostile;
mod package;
mod parity;
mod text;
