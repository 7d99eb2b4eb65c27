//! Intake from the tap: subscribes, follows, and subscribes again for ever.

use std::{sync::Arc, time::Duration};

use anyhow::{Context, bail};
use tonic::{Code, Status};
use understudy::{
    shutdown::{Phase, Phases},
    v1::{
        ModelDescription, SubscribeRequest, TapCounts, TapDescription, TapMessage, tap_service_client::TapServiceClient,
    },
};

use super::{Unmatched, mirror::Joiner, reach::Reach};
use crate::{answers::Reading, config::Config, rehearsal::Primary, rehearsals::Rehearsals, tally::DropReason};

/// The first pause before subscribing again; it doubles up to the last.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
/// Short enough that comparisons resume within five seconds, whoever was restarted.
const LAST_PAUSE: Duration = Duration::from_secs(2);

/// The side that follows the primary.
#[derive(Clone, Debug)]
pub struct Tap {
    reach: Reach,
    /// Which model; absent: the only one.
    model: Option<String>,
    sample_rate: f64,
    /// Where a mirror's requests wait for their answers; absent: exchanges are taken as they come.
    joiner: Option<Arc<Joiner>>,
    /// Whether a server without a tap is a reason to end.
    required: bool,
}

/// Why nobody follows the tap any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The process ends.
    Draining,
    /// The primary has no tap.
    NoTap,
}

impl Tap {
    /// As configured. With a `joiner` a server without a tap ends it, if that may be.
    pub(crate) fn new(config: &Config, reach: Reach, joiner: Option<Arc<Joiner>>) -> Self {
        Self {
            reach,
            model: config.primary_model.clone(),
            // What a mirror leaves out must still be found.
            sample_rate: if joiner.is_some() { 1.0 } else { config.sample_rate },
            required: joiner.is_none() || config.primary_tap == Some(true),
            joiner,
        }
    }

    /// Follows the tap until the process closes, or until the server says that it has none.
    pub async fn run(self, rehearsals: Arc<Rehearsals>, phases: Phases) -> End {
        let mut pause = FIRST_PAUSE;
        loop {
            let before = rehearsals.intake().subscriptions;
            let ended = tokio::select! {
                ended = self.subscribe(&rehearsals) => ended,
                () = phases.reached(Phase::Draining) => return End::Draining,
            };
            if let Err(error) = &ended
                && !self.required
                && is_absent(error)
            {
                tracing::info!(
                    primary = self.reach.url,
                    "the primary has no tap: it is asked once more for each request"
                );
                return End::NoTap;
            }
            let error = match ended {
                Ok(()) => "the server has ended the subscription".to_owned(),
                Err(error) => format!("{error:#}"),
            };
            {
                let mut state = rehearsals.intake();
                state.connected = false;
                state.failures += 1;
                if state.subscriptions > before {
                    pause = FIRST_PAUSE;
                }
                state.last_error.clone_from(&error);
            }
            tracing::warn!(primary = self.reach.url, error, again_in = ?pause, "not subscribed to the tap");
            // Jitter: replicas that lost the same server do not come back in step.
            let jittered = pause.mul_f64(0.75 + 0.5 * fastrand::f64());
            tokio::select! {
                () = tokio::time::sleep(jittered) => {}
                () = phases.reached(Phase::Draining) => return End::Draining,
            }
            pause = (pause * 2).min(LAST_PAUSE);
        }
    }

    async fn subscribe(&self, rehearsals: &Rehearsals) -> anyhow::Result<()> {
        let line = self.reach.connect().await?;
        // A message is at most what the server had queued for us, which the server bounds.
        let mut client = TapServiceClient::new(line).max_decoding_message_size(usize::MAX);
        let request = SubscribeRequest {
            subscriber: "shadow-sidecar".into(),
            sample_rate: self.sample_rate,
            models: self.model.iter().cloned().collect(),
        };
        let mut messages = client.subscribe(request).await.context("the tap refuses")?.into_inner();
        let mut counts = TapCounts::default();
        while let Some(message) = messages.message().await.context("the tap has failed")? {
            let TapMessage { description, exchanges, counts: told } = message;
            if let Some(description) = description {
                let primary = choose(self.model.as_deref(), &description)?;
                rehearsals.follow(&primary);
                let mut state = rehearsals.intake();
                state.primary_instance = description.server_instance_id;
                if !state.connected {
                    state.connected = true;
                    state.subscriptions += 1;
                    state.last_error.clear();
                    tracing::info!(
                        primary = self.reach.url,
                        model = primary.name,
                        version = primary.version,
                        "subscribed to the tap"
                    );
                }
            }
            for mut exchange in exchanges {
                let via = rehearsals.via(&exchange.shadow_via).filter(|_| !exchange.marked);
                let Some(via) = via else {
                    rehearsals.intake().looped += 1;
                    continue;
                };
                exchange.shadow_via = via;
                match &self.joiner {
                    Some(joiner) => joiner.answered(exchange, rehearsals),
                    None => rehearsals.offer(exchange),
                }
            }
            if let Some(told) = told {
                let lost = told.dropped_queue_full.saturating_sub(counts.dropped_queue_full);
                let rows = told.dropped_rows.saturating_sub(counts.dropped_rows);
                match &self.joiner {
                    // Whether they were mirrored is not known; the requests that were will wait for them in vain.
                    Some(_) => rehearsals.intake().unmatched(super::Side::Tap, Unmatched::Shed, lost),
                    None if lost > 0 => rehearsals.lost(DropReason::ServerQueueFull, lost, rows),
                    None => {}
                }
                rehearsals.intake().sampled_out += told.sampled_out.saturating_sub(counts.sampled_out);
                counts = told;
            }
            rehearsals.refresh();
        }
        Ok(())
    }
}

/// Whether the server has said that it has no tap, or none for us.
pub(super) fn is_absent(error: &anyhow::Error) -> bool {
    let status = error.downcast_ref::<Status>();
    status.is_some_and(|status| matches!(status.code(), Code::Unimplemented | Code::NotFound | Code::PermissionDenied))
}

/// The newest version of the model that is followed.
pub(crate) fn choose(model: Option<&str>, description: &TapDescription) -> anyhow::Result<Primary> {
    let mut names: Vec<&str> = description.models.iter().map(|model| model.name.as_str()).collect();
    names.dedup();
    let name = match (model, names.as_slice()) {
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
    let ModelDescription { name, version, classes, schema_json, reference_json, decision_threshold, .. } =
        newest.clone();
    let reading = Reading::own(&classes);
    let task = newest.task();
    // What is no probability says nothing.
    let decision_threshold = decision_threshold.filter(|threshold| (0.0..=1.0).contains(threshold));
    Ok(Primary { name, version, task, classes, schema_json, reference_json, decision_threshold, reading })
}
