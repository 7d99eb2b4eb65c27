//! `understudy.v1.TapService`: the way out of the [`Tap`](crate::tap::Tap).

use std::{sync::Arc, time::Duration};

use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, codegen::BoxStream};
use understudy::{
    edge::Peer,
    shutdown::{Phase, Phases},
    v1::{SubscribeRequest, TapDescription, TapMessage, tap_service_server::TapService},
};

use crate::predict::Predictor;

/// Exchanges in one message: whatever is queued, up to this.
const MAX_BATCH: usize = 256;
/// Between two messages, unless there is a whole batch: the first exchange after a pause goes at once, and those that follow share
/// the cost of a message, which is many times that of a copy.
const PACE: Duration = Duration::from_millis(2);
/// Counts that have changed are told at least so often, exchanges or not.
const COUNTS_INTERVAL: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(super) struct Service {
    predictor: Arc<Predictor>,
    phases: Phases,
}

impl Service {
    pub(super) fn new(predictor: Arc<Predictor>, phases: Phases) -> Self {
        Self { predictor, phases }
    }
}

#[tonic::async_trait]
impl TapService for Service {
    async fn subscribe(&self, request: Request<SubscribeRequest>) -> Result<Response<BoxStream<TapMessage>>, Status> {
        let peer = request.extensions().get::<Peer>().cloned();
        let request = request.into_inner();
        if !(0.0..=1.0).contains(&request.sample_rate) {
            let text = format!("sample_rate: expected 0 to 1, got {}", request.sample_rate);
            return Err(Status::invalid_argument(text));
        }
        let subscriber: String = request.subscriber.escape_debug().take(64).collect();
        let subscribed = self.predictor.tap.subscribe(&request);
        let mut subscription = subscribed.map_err(|most| {
            tracing::warn!(subscriber, ?peer, most, "a subscriber too many for the tap");
            Status::resource_exhausted(format!("too many subscribers: limit {most}"))
        })?;
        tracing::info!(subscriber, ?peer, sample_rate = request.sample_rate, "tap subscribed");
        let description = TapDescription {
            server_instance_id: self.predictor.ids.process().into(),
            models: self.predictor.models.describe(),
        };
        let phases = self.phases.clone();
        let (send, receive) = mpsc::channel(1);
        tokio::spawn(async move {
            let mut message = TapMessage { description: Some(description), ..TapMessage::default() };
            let mut told = subscription.counts();
            let mut ticks = tokio::time::interval(COUNTS_INTERVAL);
            let mut full = false;
            loop {
                // Waits for a slow subscriber; meanwhile its queue fills and what comes then is dropped.
                if send.send(Ok(message)).await.is_err() {
                    break;
                }
                message = TapMessage::default();
                if !full {
                    tokio::time::sleep(PACE).await;
                }
                loop {
                    tokio::select! {
                        more = subscription.next(&mut message.exchanges, MAX_BATCH) => if !more { return },
                        _ = ticks.tick() => {}
                        () = send.closed() => break,
                        () = phases.reached(Phase::Closing) => {
                            // An error means that the subscriber has gone, too.
                            drop(send.send(Err(Status::unavailable("shutting down"))).await);
                            return;
                        }
                    }
                    let counts = subscription.counts();
                    if counts != told {
                        message.counts = Some(counts);
                        told = counts;
                    }
                    if message.counts.is_some() || !message.exchanges.is_empty() {
                        break;
                    }
                }
                if send.is_closed() {
                    break;
                }
                full = message.exchanges.len() == MAX_BATCH;
            }
            tracing::info!(subscriber, counts = ?subscription.counts(), "tap unsubscribed");
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(receive))))
    }
}
