//! Recording beside the traffic: a bounded queue before a thread that writes. Whatever does not fit is dropped and counted.

use std::{
    io,
    path::Path,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
        mpsc::{Receiver, RecvTimeoutError, SyncSender, channel, sync_channel},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use understudy::v1::{Exchange, TapDescription};

use super::{Bounds, RecordingError, Writer};
use crate::tally::DropReason;

/// Exchanges that may wait for the disk.
const QUEUE: usize = 4_096;
/// Bytes that may wait for it.
const QUEUE_BYTES: usize = 32 << 20;
/// Between two looks at whether there is a place in the queue for its end.
const LOOK: Duration = Duration::from_millis(2);

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
    /// Not told to the writer yet: the reason, exchanges and rows.
    lost: Mutex<Vec<(DropReason, u64, u64)>>,
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

    fn lost(&self, reason: DropReason, exchanges: u64, rows: u64) {
        if exchanges == 0 {
            return;
        }
        let mut all = self.lost.lock().unwrap_or_else(PoisonError::into_inner);
        match all.iter_mut().find(|(known, ..)| *known == reason) {
            Some(known) => (known.1, known.2) = (known.1.saturating_add(exchanges), known.2.saturating_add(rows)),
            None => all.push((reason, exchanges, rows)),
        }
    }

    /// Before a file is complete.
    fn tell(&self, writer: &mut Writer) {
        for (reason, exchanges, rows) in self.lost.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
            writer.lost(reason, exchanges, rows);
        }
    }

    /// What has not been written by now is lost.
    fn give_up(&self) {
        let Counts { offered, written, sampled_out, dropped, failed } = self.counts();
        let left = offered.saturating_sub(written + sampled_out + dropped + failed);
        self.dropped.fetch_add(left, Ordering::Relaxed);
        tracing::warn!(exchanges = left, "the disk does not take what was to be recorded");
    }
}

impl Counts {
    /// By name, but what was offered.
    pub fn outcomes(self) -> impl Iterator<Item = (&'static str, u64)> {
        let Self { offered: _, written, sampled_out, dropped, failed } = self;
        [("written", written), ("sampled_out", sampled_out), ("queue_full", dropped), ("failed", failed)].into_iter()
    }
}

/// An exchange with what is known of the models; nothing: the end.
type Message = Option<(Arc<TapDescription>, Exchange)>;

/// Records from now until [`Recorder::finish`].
#[derive(Debug)]
pub struct Recorder {
    queue: SyncSender<Message>,
    shared: Arc<Shared>,
    rate: f64,
    /// Absent before the first.
    description: Mutex<Option<Arc<TapDescription>>>,
    writing: JoinHandle<()>,
    /// Closed when the last file is complete.
    ended: Mutex<Receiver<()>>,
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
        let (ending, ended) = channel();
        let writing = thread::Builder::new().name("recorder".into()).spawn(move || {
            let mut refused = false;
            let mut described: Option<Arc<TapDescription>> = None;
            for message in messages {
                let Some((description, exchange)): Message = message else { break };
                counted.queued_bytes.fetch_sub(size(&exchange), Ordering::Relaxed);
                let (mut outcome, rows) = (Ok(()), u64::from(exchange.rows));
                counted.tell(&mut writer);
                if described.as_ref().is_none_or(|known| !Arc::ptr_eq(known, &description)) {
                    outcome = writer.describe(&description);
                    described = Some(description);
                }
                let outcome = outcome.and_then(|()| writer.write(exchange));
                if outcome.is_ok() {
                    counted.written.fetch_add(1, Ordering::Relaxed);
                } else {
                    counted.failed.fetch_add(1, Ordering::Relaxed);
                    counted.lost(DropReason::Shed, 1, rows);
                }
                note(outcome, &mut refused);
            }
            counted.tell(&mut writer);
            note(writer.finish(), &mut refused);
            drop(ending);
        });
        let writing = writing.map_err(|source| RecordingError::Io { path: directory.into(), source })?;
        Ok(Self { queue, shared, rate, description: Mutex::default(), writing, ended: Mutex::new(ended) })
    }

    /// What is known of the models from now on. Nothing is recorded before.
    pub fn describe(&self, description: TapDescription) {
        *self.description.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(description));
    }

    /// Takes a copy of one exchange. Never waits.
    pub fn offer(&self, exchange: &Exchange) {
        let description = self.description.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let Some(description) = description.filter(|_| !exchange.marked) else { return };
        let Shared { offered, sampled_out, dropped, queued_bytes, .. } = &*self.shared;
        offered.fetch_add(1, Ordering::Relaxed);
        if self.rate < 1.0 && fastrand::f64() >= self.rate {
            sampled_out.fetch_add(1, Ordering::Relaxed);
            return;
        }
        let bytes = size(exchange);
        let fits = queued_bytes.fetch_add(bytes, Ordering::Relaxed) + bytes <= QUEUE_BYTES;
        let sent = fits && self.queue.try_send(Some((description, exchange.clone()))).is_ok();
        if !sent {
            queued_bytes.fetch_sub(bytes, Ordering::Relaxed);
            dropped.fetch_add(1, Ordering::Relaxed);
            self.shared.lost(DropReason::Shed, 1, exchange.rows.into());
        }
    }

    /// So much was lost on the way here: it is said in the recording, the share of it that would have been recorded.
    pub fn lost(&self, reason: DropReason, exchanges: u64, rows: u64) {
        let share = |count: u64| if self.rate < 1.0 { (count as f64 * self.rate).round() as u64 } else { count };
        self.shared.lost(reason, share(exchanges), share(rows));
    }

    /// What became of them so far.
    pub fn counts(&self) -> Counts {
        self.shared.counts()
    }

    /// Writes what is queued and completes the last file, at most for `limit`; what is offered later is dropped, and so is what
    /// the disk does not take within the limit. Blocks.
    pub fn close(&self, limit: Duration) {
        let until = Instant::now() + limit;
        while self.queue.try_send(None).is_err() {
            if Instant::now() >= until {
                return self.shared.give_up();
            }
            thread::sleep(LOOK);
        }
        let ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
        // Nothing is ever sent: that the other side is gone is the news.
        if ended.recv_timeout(until.saturating_duration_since(Instant::now())) == Err(RecvTimeoutError::Timeout) {
            self.shared.give_up();
        }
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
