//! Each check of a package by name, for people: `understudy check DIR`.

use std::fmt::Display;
use std::path::Path;

use crate::error::chain;
use crate::graph::Graph;
use crate::package::files::{Files, read_manifest};
use crate::package::golden::Golden;
use crate::package::{GOLDEN, Manifest, REFERENCE, SCHEMA};
use crate::{LoadError, Model, Reference, Schema};

/// One check of a package and how it came out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    /// What was checked.
    pub name: String,
    /// What was found, or why it failed.
    pub outcome: Result<String, String>,
}

/// Checks a package step by step, as far as possible; a check whose ground is missing fails with `not checked: ...`.
///
/// The order: manifest, files and hashes, schema, graph, reference profile, golden rows. The package is good if all
/// outcomes are `Ok`: then [`Model::load`] loads it and [`Model::self_test`] passes.
pub fn check(dir: &Path) -> Vec<Check> {
    let mut report = Report(Vec::new());
    let manifest = report.step("manifest", Ok(()), |()| {
        let manifest = Manifest::parse(&read_manifest(dir)?)?;
        let detail = format!("{} version {}, {}", manifest.name, manifest.version, manifest.task.as_str());
        Ok((manifest, detail))
    });
    let mut files = report.step("files and hashes", manifest.as_ref().ok_or("manifest"), |manifest| {
        let files = Files::read(dir, manifest)?;
        let (count, bytes) = files.size();
        Ok((files, format!("{count} files, {bytes} bytes")))
    });
    let schema = report.step("schema", files.as_ref().ok_or("files and hashes"), |files| {
        let schema = Schema::parse(files.get(SCHEMA)?)?;
        let detail = format!("{} features, policy {}", schema.features().len(), schema.policy().as_str());
        Ok((schema, detail))
    });
    let ground = match (&manifest, &mut files, &schema) {
        (Some(manifest), Some(files), Some(schema)) => Ok((manifest, files, schema)),
        _ => Err("schema"),
    };
    let graph = report.step("graph", ground, |(manifest, files, schema)| {
        let graph = Graph::load(files, manifest, schema)?;
        let (mut trees, mut leaves) = (0, 0);
        for node in graph.nodes() {
            trees += node.size().0;
            leaves += node.size().1;
        }
        let detail = format!("{}, {trees} trees, {leaves} leaves", counted(graph.nodes().len(), "node"));
        Ok((graph, detail))
    });
    let ground = files.as_ref().zip(schema.as_ref()).ok_or("schema");
    let reference = report.step("reference profile", ground, |(files, schema)| {
        let reference = Reference::parse(files.get(REFERENCE)?, schema)?;
        let detail = format!("{} training rows", reference.rows());
        Ok((reference, detail))
    });
    report.golden(manifest, files, schema, graph, reference);
    report.0
}

struct Report(Vec<Check>);

impl Report {
    /// Runs one check if what it needs is there, and keeps what it made.
    fn step<G, T>(
        &mut self,
        name: &str,
        ground: Result<G, &str>,
        run: impl FnOnce(G) -> Result<(T, String), LoadError>,
    ) -> Option<T> {
        let result = match ground {
            Ok(ground) => run(ground).map_err(|error| chain(&error)),
            Err(before) => Err(not_checked(before)),
        };
        let (made, outcome) = match result {
            Ok((made, detail)) => (Some(made), Ok(detail)),
            Err(reason) => (None, Err(reason)),
        };
        self.0.push(Check { name: name.to_owned(), outcome });
        made
    }

    fn golden(
        &mut self,
        manifest: Option<Manifest>,
        files: Option<Files>,
        schema: Option<Schema>,
        graph: Option<Graph>,
        reference: Option<Reference>,
    ) {
        let outcome = match (manifest, files, schema, graph, reference) {
            (Some(manifest), Some(mut files), Some(schema), Some(graph), Some(reference)) => files
                .take(GOLDEN)
                .and_then(|bytes| Golden::parse(&bytes, &manifest, &schema, &graph))
                .and_then(|golden| Model::assemble(manifest, &mut files, schema, graph, reference, golden))
                .map_err(|error| chain(&error))
                .and_then(|model| {
                    let rows = model.self_test().map_err(|error| chain(&error))?;
                    let exact = model.graph.nodes().iter().all(|node| node.tolerance() == 0.0);
                    let besides = if exact { "" } else { ", networks and linear models as near as the format asks" };
                    Ok(format!("{rows} rows equal to the bit{besides}"))
                }),
            (.., None, _) => Err(not_checked("graph")),
            _ => Err(not_checked("reference profile")),
        };
        self.0.push(Check { name: "golden rows".to_owned(), outcome });
    }
}

fn not_checked(before: impl Display) -> String {
    format!("not checked: {before} failed")
}

fn counted(count: usize, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}
