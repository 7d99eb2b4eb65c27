//! Recording beside the traffic: a bounded queue before a thread that writes. Whatever does not fit is dropped and counted.

use std::{
    io,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
        mpsc::{SyncSender, TrySendError, sync_channel},
    },
    thread::{self, JoinHandle},
};

use understudy::v1::{Exchange, TapDescription};

use super::{Bounds, RecordingError, Writer};

/// Exchanges that may wait for the disk.
const QUEUE: usize = 4_096;
/// Bytes that may wait for it.
const QUEUE_BYTES: usize = 32 << 20;

/// What became of the exchanges that were offered: offered = written + sampled out + dropped + failed, once it has ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Offered.
    pub offered: u64,
    /// On disk, or in the file that is open.
    pub written: u64,
    /// Left out by sampling.
    pub sampled_out: u64,
    /// Lost because the disk did not keep up.
    pub dropped: u64,
    /// Lost because the disk refused.
    pub failed: u64,
}

#[derive(Debug, Default)]
struct Shared {
    offered: AtomicU64,
    written: AtomicU64,
    sampled_out: AtomicU64,
    dropped: AtomicU64,
    failed: AtomicU64,
    queued_bytes: AtomicUsize,
}

impl Shared {
    fn counts(&self) -> Counts {
        let of = |count: &AtomicU64| count.load(Ordering::Relaxed);
        Counts {
            offered: of(&self.offered),
            written: of(&self.written),
            sampled_out: of(&self.sampled_out),
            dropped: of(&self.dropped),
            failed: of(&self.failed),
        }
    }
}

enum Message {
    Description(TapDescription),
    Exchange(Exchange),
}

/// Records from now until [`Recorder::finish`].
#[derive(Debug)]
pub struct Recorder {
    queue: SyncSender<Message>,
    shared: Arc<Shared>,
    rate: f64,
    writing: JoinHandle<()>,
}

impl Recorder {
    /// Into `directory`, the share `rate` of what is offered.
    ///
    /// # Errors
    /// The directory can't be written, or the thread not started.
    pub fn start(directory: &Path, bounds: Bounds, rate: f64) -> Result<Self, RecordingError> {
        let mut writer = Writer::create(directory, bounds)?;
        let shared = Arc::new(Shared::default());
        let (queue, messages) = sync_channel(QUEUE);
        let counted = shared.clone();
        let writing = thread::Builder::new().name("recorder".into()).spawn(move || {
            let mut refused = false;
            for message in messages {
                let outcome = match message {
                    Message::Description(description) => writer.describe(&description),
                    Message::Exchange(exchange) => {
                        counted.queued_bytes.fetch_sub(size(&exchange), Ordering::Relaxed);
                        let outcome = writer.write(exchange);
                        let count = if outcome.is_ok() { &counted.written } else { &counted.failed };
                        count.fetch_add(1, Ordering::Relaxed);
                        outcome
                    }
                };
                note(outcome, &mut refused);
            }
            note(writer.finish(), &mut refused);
        });
        let writing = writing.map_err(|source| RecordingError::Io { path: directory.into(), source })?;
        Ok(Self { queue, shared, rate, writing })
    }

    /// What is known of the models from now on. Waits for a place in the queue: without it what follows can't be read.
    pub fn describe(&self, description: TapDescription) {
        // The thread ends only after this side.
        drop(self.queue.send(Message::Description(description)));
    }

    /// Takes a copy of one exchange. Never waits.
    pub fn offer(&self, exchange: &Exchange) {
        if exchange.marked {
            return;
        }
        let Shared { offered, sampled_out, dropped, queued_bytes, .. } = &*self.shared;
        offered.fetch_add(1, Ordering::Relaxed);
        if self.rate < 1.0 && fastrand::f64() >= self.rate {
            sampled_out.fetch_add(1, Ordering::Relaxed);
            return;
        }
        let bytes = size(exchange);
        let fits = queued_bytes.fetch_add(bytes, Ordering::Relaxed) + bytes <= QUEUE_BYTES;
        let sent = fits
            && match self.queue.try_send(Message::Exchange(exchange.clone())) {
                Ok(()) => true,
                Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => false,
            };
        if !sent {
            queued_bytes.fetch_sub(bytes, Ordering::Relaxed);
            dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// What became of them so far.
    pub fn counts(&self) -> Counts {
        self.shared.counts()
    }

    /// Writes what is queued and completes the last file. Blocks.
    ///
    /// # Errors
    /// The thread has panicked.
    pub fn finish(self) -> io::Result<Counts> {
        let Self { queue, shared, writing, .. } = self;
        // Its end is the end of the thread.
        drop(queue);
        writing.join().map_err(|_| io::Error::other("the recorder's thread has panicked"))?;
        Ok(shared.counts())
    }
}

fn size(exchange: &Exchange) -> usize {
    size_of::<Exchange>() + exchange.request.len() + exchange.response.len()
}

/// A full disk is told once, and once more when it is over.
fn note(outcome: Result<(), RecordingError>, refused: &mut bool) {
    match outcome {
        Err(error) if !*refused => {
            tracing::error!(%error, "exchanges are not recorded");
            *refused = true;
        }
        Ok(()) if *refused => {
            tracing::info!("exchanges are recorded again");
            *refused = false;
        }
        _ => {}
    }
}
