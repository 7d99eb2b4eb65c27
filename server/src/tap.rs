//! The copy for whoever observes. Without a subscriber it costs one load of an empty list. With one: a few references
//! into a bounded queue, by `try_send`. It never waits; what finds no place is dropped, counted and told.

use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicU64, AtomicUsize, Ordering},
};

use arc_swap::ArcSwap;
use tokio::sync::mpsc;
use understudy::v1::{Exchange, SubscribeRequest, TapCounts};

use crate::metrics::{Metrics, TapMetrics};

/// The tap.
#[derive(Debug)]
pub struct Tap {
    subscribers: ArcSwap<Vec<Arc<Subscriber>>>,
    /// Held while the list is replaced; never on the path of a request.
    changing: Mutex<()>,
    metrics: Arc<Metrics>,
    /// Subscribers at the same time.
    most: usize,
    /// Exchanges that may wait for one subscriber.
    queue: usize,
    /// Bytes that may wait for one subscriber.
    queue_bytes: usize,
}

/// One subscriber, as requests see it.
#[derive(Debug)]
struct Subscriber {
    /// The other end is a [`Subscription`].
    queue: mpsc::Sender<Exchange>,
    /// Of every 2^32 exchanges; absent: all.
    sample: Option<u32>,
    models: Vec<String>,
    counts: Counts,
    metrics: TapMetrics,
}

#[derive(Debug, Default)]
struct Counts {
    offered: AtomicU64,
    dropped: AtomicU64,
    dropped_rows: AtomicU64,
    sampled_out: AtomicU64,
    /// Bytes in the queue.
    bytes: AtomicUsize,
}

/// The receiving end. Dropping it ends the subscription.
#[derive(Debug)]
pub struct Subscription {
    tap: Arc<Tap>,
    subscriber: Arc<Subscriber>,
    queue: mpsc::Receiver<Exchange>,
}

impl Tap {
    /// Nobody listens yet. At most `most` will, each with a queue of so many exchanges and bytes.
    pub fn new(metrics: Arc<Metrics>, most: usize, queue: usize, queue_bytes: usize) -> Self {
        Self { subscribers: ArcSwap::default(), changing: Mutex::new(()), metrics, most, queue, queue_bytes }
    }

    /// Offers the exchange that `make` builds to every subscriber. `make` is not called when nobody listens.
    pub fn offer(&self, make: impl FnOnce() -> Exchange) {
        let subscribers = self.subscribers.load();
        let Some((last, others)) = subscribers.split_last() else { return };
        let exchange = make();
        for subscriber in others {
            subscriber.offer(exchange.clone(), self.queue_bytes);
        }
        last.offer(exchange, self.queue_bytes);
    }

    /// A new subscriber.
    ///
    /// # Errors
    /// How many there are, if there may be no more.
    pub fn subscribe(self: &Arc<Self>, request: &SubscribeRequest) -> Result<Subscription, usize> {
        let _guard = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        if self.subscribers.load().len() >= self.most {
            return Err(self.most);
        }
        let name: String = request.subscriber.chars().filter(|c| !c.is_control()).take(64).collect();
        let (send, receive) = mpsc::channel(self.queue);
        let rate = request.sample_rate;
        let subscriber = Arc::new(Subscriber {
            queue: send,
            sample: (rate > 0.0 && rate < 1.0).then_some((rate * 2_f64.powi(32)) as u32),
            models: request.models.clone(),
            counts: Counts::default(),
            metrics: self.metrics.tap(&name),
        });
        self.change(|subscribers| subscribers.push(subscriber.clone()));
        Ok(Subscription { tap: self.clone(), subscriber, queue: receive })
    }

    /// While `changing` is held.
    fn change(&self, change: impl FnOnce(&mut Vec<Arc<Subscriber>>)) {
        let mut subscribers = self.subscribers.load().as_ref().clone();
        change(&mut subscribers);
        self.metrics.subscribers.set(subscribers.len() as f64);
        self.subscribers.store(Arc::new(subscribers));
    }
}

impl Subscriber {
    fn offer(&self, mut exchange: Exchange, queue_bytes: usize) {
        if !self.models.is_empty() && !self.models.contains(&exchange.model) {
            return;
        }
        let counts = &self.counts;
        if self.sample.is_some_and(|sample| fastrand::u32(..) >= sample) {
            counts.sampled_out.fetch_add(1, Ordering::Relaxed);
            self.metrics.sampled_out.increment(1);
            return;
        }
        exchange.sequence = counts.offered.fetch_add(1, Ordering::Relaxed) + 1;
        let (bytes, rows) = (size(&exchange), exchange.rows);
        let fits = counts.bytes.fetch_add(bytes, Ordering::Relaxed) + bytes <= queue_bytes;
        if fits && self.queue.try_send(exchange).is_ok() {
            self.metrics.queued.increment(1);
            return;
        }
        counts.bytes.fetch_sub(bytes, Ordering::Relaxed);
        counts.dropped.fetch_add(1, Ordering::Relaxed);
        counts.dropped_rows.fetch_add(u64::from(rows), Ordering::Relaxed);
        self.metrics.dropped.increment(1);
    }
}

/// What an exchange keeps alive.
fn size(exchange: &Exchange) -> usize {
    size_of::<Exchange>() + exchange.request.len() + exchange.response.len()
}

impl Subscription {
    /// Waits for exchanges and moves all that are queued, at most `limit`, into `batch`. False when the tap has ended.
    pub async fn next(&mut self, batch: &mut Vec<Exchange>, limit: usize) -> bool {
        let received = self.queue.recv_many(batch, limit).await;
        let bytes = batch.iter().map(size).sum();
        self.subscriber.counts.bytes.fetch_sub(bytes, Ordering::Relaxed);
        received > 0
    }

    /// Cumulative since the subscription began.
    pub fn counts(&self) -> TapCounts {
        let counts = &self.subscriber.counts;
        TapCounts {
            offered: counts.offered.load(Ordering::Relaxed),
            dropped_queue_full: counts.dropped.load(Ordering::Relaxed),
            dropped_rows: counts.dropped_rows.load(Ordering::Relaxed),
            sampled_out: counts.sampled_out.load(Ordering::Relaxed),
        }
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        let guard = self.tap.changing.lock().unwrap_or_else(PoisonError::into_inner);
        self.tap.change(|subscribers| subscribers.retain(|other| !Arc::ptr_eq(other, &self.subscriber)));
        drop(guard);
        self.queue.close();
        while self.queue.try_recv().is_ok() {
            self.subscriber.metrics.gone.increment(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tap(queue: usize, bytes: usize) -> Arc<Tap> {
        Arc::new(Tap::new(Arc::new(Metrics::new().expect("a recorder")), 2, queue, bytes))
    }

    fn exchange(model: &str, bytes: usize) -> Exchange {
        Exchange { model: model.into(), rows: 2, request: vec![0; bytes].into(), ..Exchange::default() }
    }

    #[test]
    fn without_a_subscriber_nothing_is_built() {
        tap(1, 1 << 20).offer(|| unreachable!("nobody listens"));
    }

    #[tokio::test]
    async fn what_does_not_fit_is_dropped_and_counted() {
        let tap = tap(2, 1 << 20);
        let mut subscription = tap.subscribe(&SubscribeRequest::default()).expect("a place");
        for _ in 0..5 {
            tap.offer(|| exchange("a", 10));
        }
        let mut batch = Vec::new();
        assert!(subscription.next(&mut batch, 10).await);
        assert_eq!(batch.iter().map(|exchange| exchange.sequence).collect::<Vec<_>>(), [1, 2]);
        let counts = subscription.counts();
        assert_eq!((counts.offered, counts.dropped_queue_full, counts.dropped_rows), (5, 3, 6));
    }

    #[tokio::test]
    async fn the_queue_is_bounded_in_bytes_and_frees_them() {
        let tap = tap(1000, 3000);
        let mut subscription = tap.subscribe(&SubscribeRequest::default()).expect("a place");
        for round in 1..=3 {
            for _ in 0..4 {
                tap.offer(|| exchange("a", 1000));
            }
            let mut batch = Vec::new();
            assert!(subscription.next(&mut batch, 10).await);
            assert_eq!(batch.len(), 2, "round {round}");
        }
        assert_eq!(subscription.counts().dropped_queue_full, 6);
    }

    #[test]
    fn there_are_so_many_subscribers() {
        let tap = tap(1, 1);
        let subscribe = || tap.subscribe(&SubscribeRequest::default());
        let both = [subscribe().expect("the first"), subscribe().expect("the second")];
        assert_eq!(subscribe().expect_err("a third"), 2);
        drop(both);
        subscribe().expect("a place again");
    }

    #[tokio::test]
    async fn a_subscriber_gets_its_models_and_its_share() {
        let tap = tap(100_000, 1 << 30);
        let request = SubscribeRequest { models: vec!["a".into()], sample_rate: 0.25, ..Default::default() };
        let subscription = tap.subscribe(&request).expect("a place");
        for _ in 0..20_000 {
            tap.offer(|| exchange("a", 0));
            tap.offer(|| exchange("b", 0));
        }
        let counts = subscription.counts();
        assert_eq!(counts.offered + counts.sampled_out, 20_000);
        assert!((4_500..5_500).contains(&counts.offered), "{counts:?}");
        drop(subscription);
        tap.offer(|| unreachable!("nobody listens any more"));
    }
}
