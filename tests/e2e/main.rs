//! The product as its users see it: over sockets, against LightGBM's own answers. One module a theme.

#![allow(clippy::unwrap_used, reason = "a test says what is wrong by failing")]

mod admin;
mod answers;
mod contract;
mod descriptions;
mod edge;
mod health;
mod identity;
mod metrics;
mod rehearsal;
mod tap;
