//! What is counted besides agreement.

use crate::compare::Task;

/// What is measured besides agreement: part of the epoch, chosen before its first exchange.
#[derive(Debug, Clone, PartialEq)]
pub struct Measures {
    /// What the models predict: which scores there are.
    pub task: Task,
    /// Names of the quantile levels that both have.
    pub levels: Vec<String>,
    /// Names of the slices, see [`Slicer::names`](crate::slicer::Slicer::names).
    pub slices: Vec<String>,
    /// An exchange counts as slower when the candidate took more than this many times what the primary took.
    pub latency_ratio: f64,
}

impl Default for Measures {
    fn default() -> Self {
        Self { task: Task::Binary, levels: Vec::new(), slices: Vec::new(), latency_ratio: 1.0 }
    }
}
