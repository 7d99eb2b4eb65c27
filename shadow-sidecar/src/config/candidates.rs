//! Who rehearses. Each candidate has a model, outputs and credentials of its own; what its table leaves out is as the settings
//! `candidate-...` have it for all.

use std::{fmt, path::PathBuf, str::FromStr};

use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{self, value::MapAccessDeserializer},
};
use understudy::{identity::credentials::Credentials, settings::Problems};

use super::{
    CandidateSource, Rehearsing, cores,
    validate::{Shown, decision, task, url},
};
use crate::{answers::Outputs, compare::Tolerance, rehearsal::Bounds};

/// Exchanges at the same time with a candidate on a server.
const CALLS: usize = 64;

/// One of `candidates`: the short form is what a flag can say, the table what a file can.
#[derive(Clone, Debug)]
pub enum Entry {
    /// `NAME=DIR` or `NAME=URL`.
    Short(String),
    /// `[[candidates]]`.
    Table(Box<Table>),
}

/// One `[[candidates]]` of the file.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Table {
    /// Its name in reports.
    pub name: Option<String>,
    /// A directory, for a candidate in this process.
    pub package: Option<PathBuf>,
    /// `http(s)://HOST:PORT` or `unix:PATH`, for one on a server.
    pub url: Option<String>,
    /// As `candidate-model`.
    pub model: Option<String>,
    /// As `candidate-version`.
    pub version: Option<String>,
    /// What it predicts; absent: what the primary does. Where that is something else there is no rehearsal.
    pub task: Option<String>,
    /// As `candidate-classes`.
    pub classes: Option<Vec<String>>,
    /// As `candidate-label-output`.
    pub label_output: Option<String>,
    /// As `candidate-scores-output`.
    pub scores_output: Option<String>,
    /// As `candidate-decision`.
    pub decision: Option<String>,
    /// As `tolerance-absolute`.
    pub tolerance_absolute: Option<f64>,
    /// As `tolerance-relative`.
    pub tolerance_relative: Option<f64>,
    /// As `candidate-ca`.
    pub ca: Option<PathBuf>,
    /// As `candidate-cert`.
    pub cert: Option<PathBuf>,
    /// As `candidate-key`.
    pub key: Option<PathBuf>,
    /// As `candidate-token-file`; sent to this candidate only.
    pub token_file: Option<PathBuf>,
    /// As `candidate-timeout`.
    pub timeout: Option<String>,
    /// As `concurrency`.
    pub concurrency: Option<usize>,
    /// As `queue`.
    pub queue: Option<usize>,
    /// As `queue-bytes`, in bytes.
    pub queue_bytes: Option<usize>,
}

impl Entry {
    fn place(&self) -> &str {
        match self {
            Self::Short(text) => text.split_once('=').map_or("", |(_, place)| place),
            Self::Table(table) => table.url.as_deref().unwrap_or_default(),
        }
    }
}

impl FromStr for Entry {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(Self::Short(text.to_owned()))
    }
}

impl From<String> for Entry {
    fn from(text: String) -> Self {
        Self::Short(text)
    }
}

impl Table {
    /// Keys that say nothing of a package, and whether they are there.
    fn of_a_server(&self) -> [(&'static str, bool); 11] {
        let [ca, cert, key] = self.of_tls();
        [
            ("model", self.model.is_some()),
            ("version", self.version.is_some()),
            ("task", self.task.is_some()),
            ("classes", self.classes.is_some()),
            ("label-output", self.label_output.is_some()),
            ("scores-output", self.scores_output.is_some()),
            ("decision", self.decision.is_some()),
            ("token-file", self.token_file.is_some()),
            ca,
            cert,
            key,
        ]
    }

    fn of_tls(&self) -> [(&'static str, bool); 3] {
        [("ca", self.ca.is_some()), ("cert", self.cert.is_some()), ("key", self.key.is_some())]
    }
}

impl From<Table> for Entry {
    fn from(table: Table) -> Self {
        Self::Table(Box::new(table))
    }
}

impl Serialize for Entry {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Short(text) => text.serialize(serializer),
            Self::Table(table) => table.serialize(serializer),
        }
    }
}

/// By hand: an untagged enum would not say which key is unknown.
impl<'de> Deserialize<'de> for Entry {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;

        impl<'de> de::Visitor<'de> for Visitor {
            type Value = Entry;

            fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                out.write_str("NAME=DIR, NAME=URL or a table")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Entry, E> {
                Ok(Entry::Short(text.to_owned()))
            }

            fn visit_map<A: de::MapAccess<'de>>(self, map: A) -> Result<Entry, A::Error> {
                Table::deserialize(MapAccessDeserializer::new(map)).map(Entry::from)
            }
        }

        deserializer.deserialize_any(Visitor)
    }
}

/// What all candidates have unless their table says otherwise. Is validated already.
pub(super) struct Shared {
    pub(super) model: Option<String>,
    pub(super) version: Option<String>,
    pub(super) outputs: Outputs,
    /// Of what is shown.
    pub(super) credentials: Credentials,
    pub(super) tolerance: Tolerance,
    pub(super) bounds: Bounds,
    pub(super) concurrency: Option<usize>,
    /// Servers to which the token of all is sent, for want of one of their own.
    pub(super) told: Vec<String>,
}

impl Shared {
    /// Who rehearses, one at least where nothing is wrong.
    pub(super) fn candidates(
        mut self,
        p: &mut Problems,
        shown: Shown,
        one: Option<String>,
        several: Option<Vec<Entry>>,
    ) -> Vec<Rehearsing> {
        let places = one.iter().map(String::as_str).chain(several.iter().flatten().map(Entry::place));
        let encrypted = places.into_iter().any(|place| place.starts_with("https://"));
        self.credentials = shown.validate(p, encrypted);
        let candidates: Vec<Rehearsing> = match (one, several) {
            (None, None) => {
                p.add("candidate", "expected a directory or http://HOST:PORT, got nothing");
                return Vec::new();
            }
            (Some(_), Some(_)) => {
                p.add("candidate", "either candidate or candidates, not both");
                return Vec::new();
            }
            (Some(text), None) => vec![self.at(p, "candidate", String::new(), text)],
            (None, Some(list)) => {
                if list.is_empty() {
                    p.add("candidates", "expected NAME=DIR, NAME=URL or a table, got nothing");
                }
                list.into_iter().filter_map(|entry| self.entry(p, entry)).collect()
            }
        };
        for (n, candidate) in candidates.iter().enumerate() {
            if !candidate.name.is_empty() && candidates[..n].iter().any(|earlier| earlier.name == candidate.name) {
                p.add("candidates", format_args!("two are called {:?}", candidate.name));
            }
        }
        let package = |candidate: &Rehearsing| matches!(candidate.source, CandidateSource::Package(_));
        if !candidates.is_empty() && candidates.iter().all(package) {
            for (name, value) in [("candidate-model", &self.model), ("candidate-version", &self.version)] {
                if value.is_some() {
                    p.add(name, "only for a candidate on a server; a package says its own");
                }
            }
        }
        // A token is for whoever it was issued for. Nobody can say for whom of several servers a token for all of them is.
        if self.told.len() > 1 {
            let servers = self.told.join(" and ");
            p.add(
                "candidate-token-file",
                format_args!("would be sent to {servers}: token-file in [[candidates]] says whose it is"),
            );
        }
        candidates
    }

    fn entry(&mut self, p: &mut Problems, entry: Entry) -> Option<Rehearsing> {
        match entry {
            Entry::Table(table) => Some(self.table(p, *table)),
            Entry::Short(text) => match text.split_once('=') {
                Some((name, place)) if !name.is_empty() && !place.is_empty() => {
                    Some(self.at(p, "candidates", name.to_owned(), place.to_owned()))
                }
                _ => {
                    p.add("candidates", format_args!("expected NAME=DIR or NAME=URL, got {text:?}"));
                    None
                }
            },
        }
    }

    /// A candidate of which nothing is known but where it is.
    fn at(&mut self, p: &mut Problems, setting: &str, name: String, place: String) -> Rehearsing {
        let (url, package) = if place.contains("://") || place.starts_with("unix:") {
            (Some(place), None)
        } else {
            (None, Some(place.into()))
        };
        self.filled(p, &|_| setting.to_owned(), name, Table { package, url, ..Table::default() })
    }

    fn table(&mut self, p: &mut Problems, table: Table) -> Rehearsing {
        let name = table.name.clone().unwrap_or_default();
        let key = |key: &str| format!("candidates.{}.{key}", if name.is_empty() { "?" } else { &name });
        if name.is_empty() {
            p.add(&key("name"), "expected a name, got none");
        }
        match (&table.package, &table.url) {
            (None, None) => p.add(&key("url"), "expected package or url, got neither"),
            (Some(_), Some(_)) => p.add(&key("url"), "either package or url, not both"),
            (Some(_), None) => {
                for (name, _) in table.of_a_server().into_iter().filter(|(_, given)| *given) {
                    p.add(&key(name), "only for a candidate on a server; a package says its own");
                }
            }
            (None, Some(url)) if !url.starts_with("https://") => {
                for (name, _) in table.of_tls().into_iter().filter(|(_, given)| *given) {
                    p.add(&key(name), "only for https://");
                }
            }
            (None, Some(_)) => {}
        }
        self.filled(p, &key, name.clone(), table)
    }

    fn filled(&mut self, p: &mut Problems, key: &dyn Fn(&str) -> String, name: String, table: Table) -> Rehearsing {
        let source = match (table.url, table.package) {
            (Some(text), _) => {
                url(p, &key("url"), &text);
                let version = table.version.or_else(|| self.version.clone()).unwrap_or_default();
                CandidateSource::Server { url: text, model: table.model.or_else(|| self.model.clone()), version }
            }
            (None, package) => CandidateSource::Package(package.unwrap_or_default()),
        };
        let at_once = match source {
            CandidateSource::Package(_) => cores(),
            CandidateSource::Server { .. } => CALLS,
        };
        let shared = &self.outputs;
        let outputs = Outputs {
            label: table.label_output.or_else(|| shared.label.clone()),
            scores: table.scores_output.or_else(|| shared.scores.clone()),
            classes: table.classes.unwrap_or_else(|| shared.classes.clone()),
            decision: decision(p, &key("decision"), table.decision.as_deref()).or(shared.decision),
        };
        let own = Credentials {
            ca: table.ca.or_else(|| self.credentials.ca.clone()),
            // One thing: neither is completed by what is for all.
            ..match (table.cert, table.key) {
                (None, None) => self.credentials.clone(),
                (certificate, private) => {
                    for (has, name, other) in [(&certificate, "cert", "key"), (&private, "key", "cert")] {
                        if has.is_some() && (certificate.is_none() || private.is_none()) {
                            p.add(&key(name), format_args!("expected {}, too, got none", key(other)));
                        }
                    }
                    Credentials { certificate, key: private, ..Credentials::default() }
                }
            }
        };
        let token = table.token_file.or_else(|| {
            if let (CandidateSource::Server { url, .. }, Some(_)) = (&source, &self.credentials.token)
                && !self.told.contains(url)
            {
                self.told.push(url.clone());
            }
            self.credentials.token.clone()
        });
        let Tolerance { absolute, relative } = self.tolerance;
        let Bounds { queue, queue_bytes, timeout } = self.bounds;
        Rehearsing {
            task: task(p, &key("task"), table.task.as_deref()),
            outputs,
            credentials: Credentials { token, ..own },
            tolerance: Tolerance {
                absolute: own_number(p, &key("tolerance-absolute"), table.tolerance_absolute, absolute, 0.0..=f64::MAX),
                relative: own_number(p, &key("tolerance-relative"), table.tolerance_relative, relative, 0.0..=f64::MAX),
            },
            bounds: Bounds {
                queue: own_number(p, &key("queue"), table.queue, queue, 1..=1 << 20),
                queue_bytes: own_number(p, &key("queue-bytes"), table.queue_bytes, queue_bytes, 1..=1 << 40),
                timeout: p.duration(&key("timeout"), table.timeout.as_deref(), timeout),
            },
            concurrency: own_number(
                p,
                &key("concurrency"),
                table.concurrency,
                self.concurrency.unwrap_or(at_once),
                1..=4096,
            ),
            name,
            source,
        }
    }
}

/// What is for all was looked at already, and is not to be blamed on one.
fn own_number<T: PartialOrd + fmt::Display + Copy>(
    p: &mut Problems,
    key: &str,
    own: Option<T>,
    shared: T,
    range: std::ops::RangeInclusive<T>,
) -> T {
    own.map_or(shared, |own| p.number(key, Some(own), shared, range))
}

#[cfg(test)]
mod tests;
