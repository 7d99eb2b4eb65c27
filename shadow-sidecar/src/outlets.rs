//! Copies of the exchanges that are offered to the candidates: into a recording, and as CloudEvents to a sink. Both are off
//! unless they are configured. Each has a bounded queue of its own; what does not fit is lost, and counted by its reason.

use std::{
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use understudy::{
    settings::Problems,
    v1::{ModelDescription, TapDescription},
};

use crate::{
    cloudevents::{CloudEvents, Mode, Sink},
    config::Shown,
    exchange::Offered,
    recording::{Bounds, Recorder},
    rehearsal::Primary,
    tally::DropReason,
};

/// Raw settings, as [`crate::Settings`] has them.
pub(crate) struct Raw {
    pub(crate) cloudevents_url: Option<String>,
    pub(crate) cloudevents_shown: Shown,
    pub(crate) cloudevents_mode: Option<String>,
    pub(crate) cloudevents_batch: Option<usize>,
    pub(crate) cloudevents_source: Option<String>,
    pub(crate) cloudevents_service: Option<String>,
    pub(crate) cloudevents_namespace: Option<String>,
    pub(crate) record_dir: Option<PathBuf>,
    pub(crate) record_sample_rate: Option<f64>,
    pub(crate) record_file_bytes: Option<u64>,
    pub(crate) record_max_bytes: Option<u64>,
}

/// Which outlets there are.
#[derive(Clone, Debug, Default)]
pub struct Config {
    /// Where CloudEvents go.
    pub cloudevents: Option<Sink>,
    /// Where exchanges are recorded.
    pub recording: Option<Recording>,
}

/// A recording.
#[derive(Clone, Debug)]
pub struct Recording {
    /// Made if it is not there.
    pub directory: PathBuf,
    /// What it may take.
    pub bounds: Bounds,
    /// The share of exchanges that is recorded.
    pub rate: f64,
}

impl Raw {
    /// Validates them; `primary` is where events come from unless they are told to come from elsewhere.
    pub(crate) fn validate(self, p: &mut Problems, primary: &str) -> Config {
        let alone = |p: &mut Problems, needed: &str, given: &[(&str, bool)]| {
            for (name, _) in given.iter().filter(|(_, given)| *given) {
                p.add(name, format_args!("only with {needed}"));
            }
        };
        let cloudevents = if let Some(url) = self.cloudevents_url {
            let parsed = url.parse::<http::Uri>().ok();
            let parsed =
                parsed.filter(|uri| matches!(uri.scheme_str(), Some("http" | "https")) && uri.host().is_some());
            if parsed.is_none() {
                p.add("cloudevents-url", format_args!("expected http(s)://HOST:PORT/PATH, got {url:?}"));
            }
            let encrypted = parsed.as_ref().is_none_or(|uri| uri.scheme_str() == Some("https"));
            Some(Sink {
                url: parsed.unwrap_or_default(),
                credentials: self.cloudevents_shown.validate(p, encrypted),
                mode: p.take("cloudevents-mode", self.cloudevents_mode.as_deref().unwrap_or("all").parse::<Mode>()),
                batch: p.number("cloudevents-batch", self.cloudevents_batch, 1, 1..=1_000),
                source: header(p, "cloudevents-source", self.cloudevents_source.as_deref().unwrap_or(primary)),
                service: header(p, "cloudevents-service", self.cloudevents_service.as_deref().unwrap_or_default()),
                namespace: header(
                    p,
                    "cloudevents-namespace",
                    self.cloudevents_namespace.as_deref().unwrap_or_default(),
                ),
            })
        } else {
            let given = [
                ("cloudevents-ca", self.cloudevents_shown.ca.is_some()),
                ("cloudevents-cert", self.cloudevents_shown.certificate.is_some()),
                ("cloudevents-key", self.cloudevents_shown.key.is_some()),
                ("cloudevents-mode", self.cloudevents_mode.is_some()),
                ("cloudevents-batch", self.cloudevents_batch.is_some()),
                ("cloudevents-source", self.cloudevents_source.is_some()),
                ("cloudevents-service", self.cloudevents_service.is_some()),
                ("cloudevents-namespace", self.cloudevents_namespace.is_some()),
            ];
            alone(p, "cloudevents-url", &given);
            None
        };
        let recording = if let Some(directory) = self.record_dir {
            let default = Bounds::default();
            let bytes = 1..=u64::MAX;
            Some(Recording {
                directory,
                bounds: Bounds {
                    file_bytes: p.number(
                        "record-file-bytes",
                        self.record_file_bytes,
                        default.file_bytes,
                        bytes.clone(),
                    ),
                    directory_bytes: p.number(
                        "record-max-bytes",
                        self.record_max_bytes,
                        default.directory_bytes,
                        bytes,
                    ),
                    ..default
                },
                rate: p.number("record-sample-rate", self.record_sample_rate, 1.0, f64::MIN_POSITIVE..=1.0),
            })
        } else {
            let given = [
                ("record-sample-rate", self.record_sample_rate.is_some()),
                ("record-file-bytes", self.record_file_bytes.is_some()),
                ("record-max-bytes", self.record_max_bytes.is_some()),
            ];
            alone(p, "record-dir", &given);
            None
        };
        Config { cloudevents, recording }
    }
}

/// What is to travel in a header.
fn header(p: &mut Problems, name: &str, text: &str) -> String {
    if http::HeaderValue::from_str(text).is_err() {
        p.add(name, format_args!("expected visible ASCII, got {text:?}"));
    }
    text.to_owned()
}

/// The outlets of one sidecar; none by default.
#[derive(Debug, Default)]
pub struct Outlets {
    cloudevents: Option<CloudEvents>,
    recorder: Option<Recorder>,
    /// Nothing is recorded before it is known who has answered.
    known: Mutex<Option<Arc<Primary>>>,
}

impl Outlets {
    /// Starts what is configured, on the current runtime.
    ///
    /// # Errors
    /// The directory of the recording can't be written, or a file for the sink's TLS can't be used.
    pub fn start(config: &Config) -> Result<Self, String> {
        let Config { cloudevents, recording } = config;
        let recorder = recording.as_ref().map(|it| Recorder::start(&it.directory, it.bounds, it.rate)).transpose();
        let recorder = recorder.map_err(|error| error.to_string())?;
        let cloudevents = cloudevents.clone().map(CloudEvents::start).transpose();
        let cloudevents = cloudevents.map_err(|error| format!("cloudevents: {error}"))?;
        Ok(Self { cloudevents, recorder, known: Mutex::default() })
    }

    /// The primary is this one from now on.
    pub fn follow(&self, primary: &Arc<Primary>) {
        let Some(recorder) = &self.recorder else { return };
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.as_ref().is_none_or(|known| !Arc::ptr_eq(known, primary) && known != primary) {
            recorder.describe(describe(primary));
            *known = Some(primary.clone());
        }
    }

    /// Takes a copy of one exchange. Never waits.
    pub fn offer(&self, offered: &Arc<Offered>) {
        if let Some(cloudevents) = &self.cloudevents {
            cloudevents.offer(offered);
        }
        if let Some(recorder) = &self.recorder {
            recorder.offer(&offered.exchange);
        }
    }

    /// Exchanges that were lost before there was anything to copy.
    pub fn lost(&self, reason: DropReason, exchanges: u64, rows: u64) {
        if let Some(recorder) = &self.recorder {
            recorder.lost(reason, exchanges, rows);
        }
    }

    /// What became of the copies: outlet, outcome, exchanges.
    pub fn counts(&self) -> Vec<(&'static str, &'static str, u64)> {
        let mut all = Vec::new();
        if let Some(cloudevents) = &self.cloudevents {
            all.extend(cloudevents.counts().outcomes().map(|(outcome, count)| ("cloudevents", outcome, count)));
        }
        if let Some(recorder) = &self.recorder {
            all.extend(recorder.counts().outcomes().map(|(outcome, count)| ("recording", outcome, count)));
        }
        all
    }

    /// Sends and writes what waits, at most for `limit`, and completes the last file.
    pub async fn finish(self: &Arc<Self>, limit: Duration) {
        let recording = async {
            if self.recorder.is_some() {
                let outlets = self.clone();
                let closed = move || outlets.recorder.as_ref().map(|recorder| recorder.close(limit));
                drop(tokio::task::spawn_blocking(closed).await);
            }
        };
        let sending = async {
            if let Some(cloudevents) = &self.cloudevents {
                cloudevents.finish(limit).await;
            }
        };
        tokio::join!(recording, sending);
    }
}

/// What a tap would have said of it.
fn describe(primary: &Primary) -> TapDescription {
    let Primary { name, version, task, classes, schema_json, reference_json, decision_threshold, .. } = primary.clone();
    let task = task.into();
    let model = ModelDescription { name, version, task, classes, schema_json, reference_json, decision_threshold };
    TapDescription { server_instance_id: String::new(), models: vec![model] }
}
