//! A package directory becomes bytes that are what the manifest says.

pub(crate) mod files;
pub(crate) mod golden;
pub(crate) mod manifest;

pub use manifest::{Listed, Manifest};

/// What the package is.
pub(crate) const MANIFEST: &str = "manifest.json";
/// What a row looks like.
pub(crate) const SCHEMA: &str = "schema.json";
/// What is computed from it.
pub(crate) const GRAPH: &str = "graph.json";
/// What the training data looked like.
pub(crate) const REFERENCE: &str = "reference.json";
/// What the trainer's own library answered.
pub(crate) const GOLDEN: &str = "golden.jsonl";
