//! Who the primary is, for a mirror or a proxy that does not follow its tap: the tap still says it best, in its first message;
//! else the metadata of the Open Inference Protocol and the configuration do.

use std::{sync::Arc, time::Duration};

use anyhow::{Context, bail};
use tokio::sync::Notify;
use tonic::Request;
use understudy::{
    inference::{
        ModelMetadataRequest, RepositoryIndexRequest, grpc_inference_service_client::GrpcInferenceServiceClient,
    },
    shutdown::{Phase, Phases},
    v1::{SubscribeRequest, Task, tap_service_client::TapServiceClient},
};

use super::{
    reach::{Line, Reach},
    tap,
};
use crate::{
    answers::{self, Outputs, Reading},
    candidate::MAX_VERSION,
    config::Config,
    rehearsal::Primary,
    rehearsals::Rehearsals,
};

/// Between two questions, at least.
const PAUSE: Duration = Duration::from_secs(1);
/// For one question.
const TIMEOUT: Duration = Duration::from_secs(5);

/// What is known of the primary before it is asked.
#[derive(Clone, Debug)]
pub(crate) struct Asking {
    reach: Reach,
    model: Option<String>,
    tap: Option<bool>,
    task: Option<Task>,
    outputs: Outputs,
}

impl Asking {
    pub(crate) fn new(config: &Config, reach: Reach) -> Self {
        Self {
            reach,
            model: config.primary_model.clone(),
            tap: config.primary_tap,
            task: config.primary_task,
            outputs: config.primary_outputs.clone(),
        }
    }

    /// Asks until the primary has said who it is, and again whenever there is `news`.
    pub(crate) async fn run(self, rehearsals: Arc<Rehearsals>, news: Arc<Notify>, phases: Phases) {
        loop {
            let asked = tokio::select! {
                asked = tokio::time::timeout(TIMEOUT, self.ask()) => asked,
                () = phases.reached(Phase::Draining) => return,
            };
            let known = match asked {
                Ok(Ok(mut primary)) => {
                    if primary.version.is_empty() {
                        primary.version = rehearsals.answered_version();
                    }
                    rehearsals.follow(&primary);
                    let mut state = rehearsals.intake();
                    state.connected = true;
                    state.subscriptions += 1;
                    state.last_error.clear();
                    drop(state);
                    tracing::info!(
                        url = self.reach.url,
                        model = primary.name,
                        version = primary.version,
                        "the primary is known"
                    );
                    true
                }
                Ok(Err(error)) => {
                    let error = format!("{error:#}");
                    tracing::warn!(url = self.reach.url, error, "the primary is not known yet");
                    let mut state = rehearsals.intake();
                    state.connected = false;
                    state.failures += 1;
                    state.last_error = error;
                    false
                }
                Err(_) => {
                    let mut state = rehearsals.intake();
                    state.failures += 1;
                    state.last_error = format!("the primary does not say within {TIMEOUT:?} who it is");
                    false
                }
            };
            let again = async {
                if known {
                    news.notified().await;
                }
                tokio::time::sleep(PAUSE).await;
            };
            tokio::select! {
                () = again => {}
                () = phases.reached(Phase::Draining) => return,
            }
        }
    }

    async fn ask(&self) -> anyhow::Result<Primary> {
        let line = self.reach.connect().await?;
        if self.tap != Some(false) {
            match self.ask_tap(line.clone()).await {
                Ok(primary) => return Ok(primary),
                Err(error) if self.tap.is_none() && tap::is_absent(&error) => {}
                Err(error) => return Err(error),
            }
        }
        self.ask_metadata(line).await
    }

    async fn ask_tap(&self, line: Line) -> anyhow::Result<Primary> {
        let request = SubscribeRequest {
            subscriber: "shadow-sidecar".into(),
            // As good as none; zero would mean all.
            sample_rate: f64::MIN_POSITIVE,
            models: self.model.iter().cloned().collect(),
        };
        let mut client = TapServiceClient::new(line).max_decoding_message_size(64 << 20);
        let mut messages = client.subscribe(request).await.context("the tap refuses")?.into_inner();
        let first = messages.message().await.context("the tap has failed")?;
        let description = first.and_then(|message| message.description).context("the tap describes no model")?;
        tap::choose(self.model.as_deref(), &description)
    }

    async fn ask_metadata(&self, line: Line) -> anyhow::Result<Primary> {
        let mut client = GrpcInferenceServiceClient::new(line).max_decoding_message_size(16 << 20);
        let name = match &self.model {
            Some(name) => name.clone(),
            None => {
                let index = client.repository_index(RepositoryIndexRequest::default()).await;
                let models =
                    index.context("primary-model must say which model to follow: no index")?.into_inner().models;
                let mut names: Vec<String> = models.into_iter().map(|model| model.name).collect();
                names.dedup();
                match names.as_slice() {
                    [only] => only.clone(),
                    _ => bail!("the primary serves {names:?}: the setting primary-model must say which to follow"),
                }
            }
        };
        let request = Request::new(ModelMetadataRequest { name: name.clone(), version: String::new() });
        let metadata = client.model_metadata(request).await.with_context(|| format!("no metadata of {name:?}"))?;
        let metadata = metadata.into_inner();
        let task = match self.task {
            Some(task) => task,
            None => answers::task(&self.outputs, &metadata.outputs).map_err(anyhow::Error::msg)?,
        };
        let classes = self.outputs.classes.clone();
        if matches!(task, Task::Binary | Task::Multiclass) && classes.is_empty() {
            bail!(
                "primary-classes must list the classes, in the order of the probabilities: the primary's metadata does not"
            );
        }
        let reading = Reading::resolve("primary", &self.outputs, &metadata.outputs, task, &classes)
            .map_err(anyhow::Error::msg)?;
        // Numbers in order; other servers may call their versions what they like.
        let named = metadata.versions.into_iter().filter(|version| version.len() <= MAX_VERSION);
        let newest = named.max_by_key(|version| version.parse::<u64>().unwrap_or(0));
        Ok(Primary {
            name,
            version: newest.unwrap_or_default(),
            task,
            classes,
            schema_json: bytes::Bytes::new(),
            reference_json: bytes::Bytes::new(),
            // Whoever has no tap has a setting: primary-decision is in the reading.
            decision_threshold: None,
            reading,
        })
    }
}
