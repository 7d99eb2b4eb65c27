//! A rehearsal on a recording, as fast as the machine allows: through the same queue, comparator and tally as live exchanges,
//! so that the same exchanges give the same numbers, the largest evidence along their way among them. Only latencies are today's, where
//! the candidate is asked today; and what a candidate lost live, because it was too slow, it may not lose today.

use std::{sync::Arc, time::Duration};

use anyhow::{Context as _, bail};
use tokio::task::{JoinSet, block_in_place};

use crate::{
    answers::{Outputs, Reading},
    config::Config,
    intake::tap,
    metrics::Metrics,
    otlp::DisagreementLogs,
    recording::{Part, Reader},
    rehearsal::Primary,
    rehearsals::Rehearsals,
    run,
};

/// Between two looks at whether there is room.
const LOOK: Duration = Duration::from_micros(200);
/// What a candidate's server may take to say who it is.
const PATIENCE: Duration = Duration::from_secs(30);

/// Lets the candidates of `config` rehearse on `recording`. Must run on a tokio runtime of more than one thread. `progress` is
/// told how many exchanges were offered. Where a recording holds several versions of the primary, the last one's epoch is
/// what the reports are about: counts of two versions never pool.
///
/// # Errors
/// The recording can't be read, or a candidate can't rehearse on it.
pub async fn replay(
    config: &Config,
    mut recording: Reader,
    mut progress: impl FnMut(u64),
) -> anyhow::Result<Arc<Rehearsals>> {
    let metrics = Arc::new(Metrics::new().context("no metrics")?);
    let rehearsals = Arc::new(
        run::open(config, &metrics, None, &DisagreementLogs::default())
            .await
            .map_err(|error| anyhow::anyhow!("{error}"))?,
    );
    let mut working = JoinSet::new();
    for (rehearsal, candidate) in rehearsals.all().iter().zip(&config.candidates) {
        for _ in 0..candidate.concurrency {
            working.spawn(rehearsal.clone().work());
        }
    }
    let room = config.candidates.iter().map(|candidate| candidate.bounds.queue).min().unwrap_or_default() as u64 / 2;
    let patience = config.candidates.iter().map(|candidate| candidate.bounds.timeout).max().unwrap_or_default();
    let mut offered = 0;
    while let Some(part) = block_in_place(|| recording.read())? {
        match part {
            Part::Description(description) => {
                drained(&rehearsals, 0).await;
                let mut primary = tap::choose(config.primary_model.as_deref(), &description)?;
                // A recording says what a model predicts, not what a server that is not ours calls its outputs.
                if config.primary_outputs != Outputs::default() {
                    let Primary { task, classes, .. } = &primary;
                    let reading = Reading::resolve("primary", &config.primary_outputs, &[], *task, classes);
                    primary.reading = reading.map_err(anyhow::Error::msg)?;
                }
                rehearsals.follow(&primary);
                begun(&rehearsals).await?;
            }
            Part::Exchanges(exchanges) => {
                for exchange in exchanges {
                    drained(&rehearsals, room).await;
                    rehearsals.offer(exchange);
                    offered += 1;
                }
                progress(offered);
            }
            Part::Lost(all) => {
                for (reason, exchanges, rows) in all {
                    rehearsals.lost(reason, exchanges, rows);
                }
            }
        }
    }
    // However slow the candidate is: each exchange ends within its time, and none is lost for want of it at the end.
    drained(&rehearsals, 0).await;
    rehearsals.finish(patience).await;
    working.shutdown().await;
    Ok(rehearsals)
}

/// Waits until no candidate has more than `most` exchanges before it.
async fn drained(rehearsals: &Rehearsals, most: u64) {
    let full = || {
        let mut epochs = rehearsals.all().iter().filter_map(|rehearsal| rehearsal.epoch());
        epochs.any(|epoch| epoch.tally().exchanges().in_flight() > most)
    };
    while full() {
        tokio::time::sleep(LOOK).await;
    }
}

/// Waits until every candidate is on the stage.
async fn begun(rehearsals: &Rehearsals) -> anyhow::Result<()> {
    let all = async {
        loop {
            if let Some(problem) = rehearsals.all().iter().map(|it| it.problem()).find(|problem| !problem.is_empty()) {
                bail!("{problem}");
            }
            if rehearsals.all().iter().all(|rehearsal| rehearsal.epoch().is_some()) {
                return Ok(());
            }
            tokio::time::sleep(LOOK).await;
        }
    };
    tokio::time::timeout(PATIENCE, all).await.context("a candidate does not say who it is")?
}
