//! `understudy record`: the tap's exchanges to Parquet files, for a candidate that does not exist yet.

use std::{
    path::PathBuf,
    process::ExitCode,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use shadow_sidecar::{
    recording::{Bounds, Counts, Recorder},
    tally::DropReason,
};
use understudy::v1::{SubscribeRequest, tap_service_client::TapServiceClient};

use crate::{
    connect::{connect, failed},
    live::Live,
    output::{self, Output},
    words::count,
};

/// Between two looks at the clock and the counters.
const LOOK: Duration = Duration::from_millis(200);

/// Record exchanges from a server's tap, until Ctrl-C or as told
///
/// The tap answers on the server's Unix socket and on loopback only, unless the server is told otherwise.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// HOST:PORT, http://HOST:PORT or unix:PATH
    #[arg(long, env = "UNDERSTUDY_SERVER", value_name = "ADDRESS", default_value = "http://127.0.0.1:8001")]
    server: String,
    /// Only this model [default: all]
    #[arg(long, value_name = "NAME")]
    model: Option<String>,
    /// The share of exchanges to record, above 0 and at most 1
    #[arg(long, value_name = "SHARE", default_value_t = 1.0, value_parser = share)]
    sample_rate: f64,
    /// End after this time
    #[arg(long = "for", value_name = "DURATION", value_parser = humantime::parse_duration)]
    duration: Option<Duration>,
    /// End after so many exchanges
    #[arg(long, value_name = "N")]
    exchanges: Option<u64>,
    /// Bytes of a file, before compression
    #[arg(long, value_name = "BYTES", default_value_t = Bounds::default().file_bytes)]
    file_bytes: u64,
    /// Bytes of all files; then the oldest are deleted
    #[arg(long, value_name = "BYTES", default_value_t = Bounds::default().directory_bytes)]
    max_bytes: u64,
    /// A directory; made if it is not there
    #[arg(value_name = "DIR")]
    directory: PathBuf,
}

pub(crate) fn share(text: &str) -> Result<f64, String> {
    let share = text.parse().map_err(|error| format!("{error}"))?;
    if share > 0.0 && share <= 1.0 {
        Ok(share)
    } else {
        Err(format!("expected more than 0 and at most 1, got {share}"))
    }
}

/// # Errors
/// Nobody listens, the tap refuses, or the directory can't be written.
pub(crate) fn run(arguments: &Arguments, output: Output) -> anyhow::Result<ExitCode> {
    let bounds = Bounds { file_bytes: arguments.file_bytes, directory_bytes: arguments.max_bytes, ..Bounds::default() };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("no runtime")?;
    let recorder = Recorder::start(&arguments.directory, bounds, 1.0)?;
    let mut live = Live::new(output);
    let ended = runtime.block_on(follow(arguments, &recorder, &mut live));
    live.clear();
    // What was recorded before something failed is worth keeping.
    let counts = recorder.finish()?;
    output::line(format!("{} in {}", described(&counts), arguments.directory.display()))?;
    ended?;
    Ok(if counts.failed > 0 { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn described(counts: &Counts) -> String {
    let lost = [(counts.dropped, "dropped: the disk is too slow"), (counts.failed, "lost: the disk refuses")];
    let lost = lost.iter().filter(|(lost, _)| *lost > 0).map(|(lost, why)| format!(", {} {why}", count(*lost)));
    format!("{} exchanges recorded{}", count(counts.written), lost.collect::<String>())
}

async fn follow(arguments: &Arguments, recorder: &Recorder, live: &mut Live) -> anyhow::Result<()> {
    let channel = connect(&arguments.server).await?;
    // A message is at most what the server had queued for us, which the server bounds.
    let mut client = TapServiceClient::new(channel).max_decoding_message_size(usize::MAX);
    let request = SubscribeRequest {
        subscriber: "understudy-record".into(),
        sample_rate: arguments.sample_rate,
        models: arguments.model.iter().cloned().collect(),
    };
    let mut messages = client.subscribe(request).await.map_err(|status| failed(&status, 0))?.into_inner();
    let began = Instant::now();
    let (mut lost_on_server, mut lost_rows) = (0, 0);
    let mut looks = tokio::time::interval(LOOK);
    let interrupted = tokio::signal::ctrl_c();
    tokio::pin!(interrupted);
    loop {
        tokio::select! {
            message = messages.message() => {
                let Some(message) = message.map_err(|status| failed(&status, 0))? else {
                    return Ok(());
                };
                if let Some(description) = message.description {
                    recorder.describe(description);
                }
                for exchange in message.exchanges {
                    if arguments.exchanges.is_some_and(|most| recorder.counts().offered >= most) {
                        return Ok(());
                    }
                    recorder.offer(&exchange);
                }
                if let Some(counts) = message.counts {
                    let lost = counts.dropped_queue_full.saturating_sub(lost_on_server);
                    recorder.lost(DropReason::ServerQueueFull, lost, counts.dropped_rows.saturating_sub(lost_rows));
                    (lost_on_server, lost_rows) = (counts.dropped_queue_full, counts.dropped_rows);
                }
            }
            _ = looks.tick() => {
                let counts = recorder.counts();
                let view = || {
                    let lost = if lost_on_server > 0 {
                        format!(", {} lost on the server", count(lost_on_server))
                    } else {
                        String::new()
                    };
                    format!("{}{lost}, {:.0} s", described(&counts), began.elapsed().as_secs_f64())
                };
                live.show(|_| vec![view()], view)?;
                let enough = arguments.exchanges.is_some_and(|most| counts.offered >= most);
                if enough || arguments.duration.is_some_and(|longest| began.elapsed() >= longest) {
                    return Ok(());
                }
            }
            _ = &mut interrupted => return Ok(()),
        }
    }
}
