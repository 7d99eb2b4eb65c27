//! Intake from the tap: subscribes, follows, and subscribes again for ever.

use std::{sync::Arc, time::Duration};

use anyhow::{Context, bail};
use understudy::{
    identity::credentials::{Bearer, Credentials},
    shutdown::{Phase, Phases},
    v1::{
        ModelDescription, SubscribeRequest, TapCounts, TapDescription, TapMessage, tap_service_client::TapServiceClient,
    },
};

use crate::{
    config::Config,
    rehearsal::{Primary, Rehearsal},
};

/// The first pause before subscribing again; it doubles up to the last.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
/// Short enough that comparisons resume within five seconds, whoever was restarted.
const LAST_PAUSE: Duration = Duration::from_secs(2);
/// What the server's side of the connection must answer within.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// The side that follows the primary.
#[derive(Clone, Debug)]
pub struct Intake {
    /// `http(s)://HOST:PORT` or `unix:PATH`.
    url: String,
    /// Which model; absent: the only one.
    model: Option<String>,
    sample_rate: f64,
    credentials: Credentials,
    bearer: Bearer,
}

impl Intake {
    /// As configured.
    ///
    /// # Errors
    /// The token's file can't be read.
    pub fn new(config: &Config) -> Result<Self, String> {
        let credentials = config.primary_credentials.clone();
        Ok(Self {
            url: config.primary.clone(),
            model: config.primary_model.clone(),
            sample_rate: config.sample_rate,
            bearer: credentials.bearer().map_err(|error| format!("primary-token-file: {error}"))?,
            credentials,
        })
    }

    /// Follows the tap until the process closes.
    pub async fn run(self, rehearsal: Arc<Rehearsal>, phases: Phases) {
        let mut pause = FIRST_PAUSE;
        loop {
            let before = rehearsal.intake().subscriptions;
            let ended = tokio::select! {
                ended = self.subscribe(&rehearsal) => ended,
                () = phases.reached(Phase::Draining) => return,
            };
            let error = match ended {
                Ok(()) => "the server has ended the subscription".to_owned(),
                Err(error) => format!("{error:#}"),
            };
            {
                let mut state = rehearsal.intake();
                state.connected = false;
                if state.subscriptions > before {
                    pause = FIRST_PAUSE;
                }
                state.last_error.clone_from(&error);
            }
            tracing::warn!(primary = self.url, error, again_in = ?pause, "not subscribed to the tap");
            // Jitter: replicas that lost the same server do not come back in step.
            let jittered = pause.mul_f64(0.75 + 0.5 * fastrand::f64());
            tokio::select! {
                () = tokio::time::sleep(jittered) => {}
                () = phases.reached(Phase::Draining) => return,
            }
            pause = (pause * 2).min(LAST_PAUSE);
        }
    }

    async fn subscribe(&self, rehearsal: &Rehearsal) -> anyhow::Result<()> {
        // Certificates are read anew for each connection.
        let endpoint = self.credentials.endpoint(&self.url).map_err(anyhow::Error::msg)?;
        let channel = endpoint
            .connect_timeout(CONNECT_TIMEOUT)
            .http2_keep_alive_interval(Duration::from_secs(10))
            .keep_alive_timeout(Duration::from_secs(10))
            .keep_alive_while_idle(true)
            .initial_connection_window_size(8 << 20)
            .initial_stream_window_size(4 << 20)
            .connect()
            .await
            .context("can't connect")?;
        // A message is at most what the server had queued for us, which the server bounds.
        let mut client = TapServiceClient::with_interceptor(channel, self.bearer.clone()).max_decoding_message_size(usize::MAX);
        let request = SubscribeRequest {
            subscriber: "shadow-sidecar".into(),
            sample_rate: self.sample_rate,
            models: self.model.iter().cloned().collect(),
        };
        let mut messages = client.subscribe(request).await.context("the tap refuses")?.into_inner();
        let mut counts = TapCounts::default();
        let mut followed = None;
        while let Some(message) = messages.message().await.context("the tap has failed")? {
            let TapMessage { description, exchanges, counts: told } = message;
            if let Some(description) = description {
                let primary = self.choose(&description)?;
                rehearsal.candidate.settle(&primary.name).await;
                rehearsal.follow(&primary)?;
                let mut state = rehearsal.intake();
                if !state.connected {
                    state.connected = true;
                    state.subscriptions += 1;
                    state.last_error.clear();
                    tracing::info!(
                        primary = self.url,
                        model = primary.name,
                        version = primary.version,
                        "subscribed to the tap"
                    );
                }
                followed = Some(primary);
            }
            for exchange in exchanges {
                rehearsal.offer(exchange);
            }
            if let Some(told) = told {
                let lost = told.dropped_queue_full.saturating_sub(counts.dropped_queue_full);
                if lost > 0 {
                    rehearsal.lost_on_server(lost, told.dropped_rows.saturating_sub(counts.dropped_rows));
                }
                rehearsal.intake().sampled_out += told.sampled_out.saturating_sub(counts.sampled_out);
                counts = told;
            }
            // A candidate's server may have said that its version is another one now.
            if let Some(primary) = &followed {
                rehearsal.follow(primary)?;
            }
        }
        Ok(())
    }

    /// The newest version of the model that is followed.
    fn choose(&self, description: &TapDescription) -> anyhow::Result<Primary> {
        let mut names: Vec<&str> = description.models.iter().map(|model| model.name.as_str()).collect();
        names.dedup();
        let name = match (&self.model, names.as_slice()) {
            (Some(name), _) => name,
            (None, [only]) => *only,
            (None, _) => bail!("the primary serves {names:?}: the setting primary-model must say which to follow"),
        };
        let newest = description
            .models
            .iter()
            .filter(|model| model.name == name)
            .max_by_key(|model| model.version.parse::<u64>().unwrap_or(0))
            .with_context(|| format!("the primary does not serve {name:?} but {names:?}"))?;
        let ModelDescription { name, version, classes, schema_json, .. } = newest.clone();
        Ok(Primary { name, version, task: newest.task(), classes, schema_json })
    }
}
