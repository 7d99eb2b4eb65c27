//! Clients that go on asking until they are told to stop.

use std::{
    ops::Range,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use tokio::task::JoinSet;
use tonic::{Status, transport::Channel};
use understudy::v1::prediction_service_client::PredictionServiceClient;

use crate::{Primary, adult};

/// Clients of `Predict`, each with one call at a time.
#[derive(Debug)]
pub struct Load {
    stop: Arc<AtomicBool>,
    clients: JoinSet<Outcome>,
}

/// What the clients saw.
#[derive(Debug, Default)]
pub struct Outcome {
    /// Calls that were answered.
    pub answered: u64,
    /// Calls that were not.
    pub failures: Vec<Status>,
}

impl Load {
    /// `clients` clients, each on a connection of its own, with one row a call.
    pub fn start(primary: &Primary, clients: usize) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let mut running = JoinSet::new();
        for client in 0..clients {
            let (stop, url) = (stop.clone(), primary.url());
            running.spawn(async move {
                let channel = crate::primary::endpoint(&url).connect_lazy();
                let rows = adult::test_set().rows.len();
                let endless = (0..rows).cycle().skip(client * rows / clients.max(1));
                ask(channel, endless.map(|row| row..row + 1).take_while(|_| !stop.load(Ordering::Relaxed))).await
            });
        }
        Self { stop, clients: running }
    }

    /// Ends it.
    pub async fn stop(self) -> Outcome {
        self.stop.store(true, Ordering::Relaxed);
        sum(self.clients.join_all().await)
    }
}

/// Asks for each of `rows` once, `batch` rows a call and eight calls at a time.
pub async fn once(primary: &Primary, rows: Range<usize>, batch: usize) -> Outcome {
    through(&primary.channel(), rows, batch).await
}

/// The same, over `channel`.
pub async fn through(channel: &Channel, rows: Range<usize>, batch: usize) -> Outcome {
    const CALLS: usize = 8;
    let (end, batches) = (rows.end, rows.step_by(batch));
    let share = |n| batches.clone().skip(n).step_by(CALLS).map(move |start| start..end.min(start + batch));
    let clients: JoinSet<Outcome> = (0..CALLS).map(|n| ask(channel.clone(), share(n))).collect();
    sum(clients.join_all().await)
}

async fn ask(channel: Channel, calls: impl Iterator<Item = Range<usize>>) -> Outcome {
    let mut client = PredictionServiceClient::new(channel);
    let mut outcome = Outcome::default();
    for rows in calls {
        match client.predict(adult::test_set().predict(rows)).await {
            Ok(_) => outcome.answered += 1,
            Err(status) => outcome.failures.push(status),
        }
    }
    outcome
}

fn sum(outcomes: Vec<Outcome>) -> Outcome {
    outcomes.into_iter().fold(Outcome::default(), |mut sum, outcome| {
        sum.answered += outcome.answered;
        sum.failures.extend(outcome.failures);
        sum
    })
}
