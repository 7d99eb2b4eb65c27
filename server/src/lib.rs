//! The process that answers. The life of a request, by file:
//!
//! 1. `understudy::edge`: connection, limits, deadline, one message
//! 2. [`predict`]: decode, find the model ([`models`]), encode by its schema (`understudy::encode`)
//! 3. [`predict`]: evaluate, here when it is cheap, else on [`compute`] threads
//! 4. answer; then, off the answer's path: one [`metrics`] record and one `try_send` to the [`tap`]
//!
//! [`service`] routes calls to it, [`config`] says how everything is set, [`run`] starts and drains it.

#![warn(missing_docs)]

pub mod compute;
pub mod config;
pub mod ids;
pub mod metrics;
pub mod models;
pub mod predict;
pub mod run;
pub mod service;
pub mod tap;

pub use config::{Config, Settings};
pub use run::{Server, StartError};
