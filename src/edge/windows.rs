//! How much of a body may come before anybody wants it. To refuse a call costs little, to read a body that nobody wants costs a
//! multiple, and under overload most are not wanted. So on a connection of which calls are refused, streams begin with a small window
//! (RFC 9113, 6.9.2), and whoever reads a body opens the rest of it: the sender of a call that is refused is not heard to the end.
//! Once nothing has been refused for a while, streams begin with their whole window again, and no call waits for it.
//!
//! The library below us can change the window of all streams, not of one. It is left to believe in twice the whole window, which
//! is the most that a stream can come to have: a small one was opened, and then made larger by what all get. What goes over the wire is
//! written between its frames, and the answer to it is kept from it.

use std::{
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    task::Waker,
    time::{Duration, Instant},
};

use super::frames::{Heard, acknowledgement, initial_window, window_update};

/// Of a body that nobody has asked for: a request of a row or a few.
const SMALL: u32 = 2 << 10;
/// Without a refusal, until streams begin with their whole window.
const CALM: Duration = Duration::from_millis(500);

/// The windows of the streams that the peer of a connection has opened. Only the thread of the connection comes here, so that
/// nothing is ever contended.
#[derive(Debug)]
pub(super) struct Windows {
    full: u32,
    /// Something is to be written, or was.
    is_due: AtomicBool,
    is_small: AtomicBool,
    /// SETTINGS of which the peer has not taken note.
    unanswered: AtomicU32,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    /// The last refusal, while windows are small.
    refused: Option<Instant>,
    /// Streams of which somebody waits for more, and whether their window was opened for it.
    wanted: Vec<(u32, bool)>,
    /// To be written between two frames.
    frames: Vec<u8>,
    /// The connection's.
    waker: Option<Waker>,
}

impl Windows {
    pub(super) fn new(full: u32) -> Self {
        Self {
            full,
            is_due: AtomicBool::new(false),
            is_small: AtomicBool::new(false),
            unanswered: AtomicU32::new(0),
            inner: Mutex::default(),
        }
    }

    /// What the library below us has to believe where streams begin with `full` bytes.
    pub(super) fn believed(full: u32) -> u32 {
        full.saturating_mul(2).min(i32::MAX as u32)
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Bytes that a stream begins with.
    pub(super) fn full(&self) -> u32 {
        self.full
    }

    /// What comes is wanted, but for little.
    pub(super) fn is_small(&self) -> bool {
        self.is_small.load(Ordering::Relaxed)
    }

    /// A call was refused at `now`.
    pub(super) fn refused(&self, now: Instant) {
        if self.full <= SMALL {
            return;
        }
        let mut inner = self.inner();
        if inner.refused.replace(now).is_none() {
            self.begin_with(SMALL, &mut inner);
            let Inner { wanted, frames, .. } = &mut *inner;
            for (stream, is_open) in wanted {
                if !std::mem::replace(is_open, true) {
                    frames.extend(window_update(*stream, self.full - SMALL));
                }
            }
        }
    }

    fn begin_with(&self, window: u32, inner: &mut Inner) {
        inner.frames.extend(initial_window(window));
        self.unanswered.fetch_add(1, Ordering::Relaxed);
        self.is_small.store(window == SMALL, Ordering::Relaxed);
        self.is_due.store(true, Ordering::Relaxed);
    }

    /// Somebody waits at `now` for more of the body of `stream`. To be told once for each, and followed by [`Self::ended`].
    pub(super) fn want(&self, stream: u32, now: impl FnOnce() -> Instant) {
        let mut inner = self.inner();
        let Some(refused) = inner.refused else {
            inner.wanted.push((stream, false));
            return;
        };
        let is_calm = now().saturating_duration_since(refused) >= CALM;
        inner.wanted.push((stream, !is_calm));
        if is_calm {
            inner.refused = None;
            self.begin_with(self.full, &mut inner);
        } else {
            inner.frames.extend(window_update(stream, self.full - SMALL));
            self.is_due.store(true, Ordering::Relaxed);
        }
        if let Some(waker) = inner.waker.take() {
            drop(inner);
            waker.wake();
        }
    }

    /// Nothing more is wanted of `stream`.
    pub(super) fn ended(&self, stream: u32) {
        let mut inner = self.inner();
        if let Some(at) = inner.wanted.iter().rposition(|(wanted, _)| *wanted == stream) {
            inner.wanted.swap_remove(at);
        }
    }

    /// Whether nothing more can come of a body of which nobody wants anything and `bytes` have come.
    pub(super) fn is_shut(&self, bytes: usize) -> bool {
        bytes >= SMALL as usize && self.is_small.load(Ordering::Relaxed) && self.unanswered() == 0
    }

    /// Appends what the peer is to know.
    pub(super) fn write(&self, to: &mut Vec<u8>) {
        if self.is_due.load(Ordering::Relaxed) {
            self.is_due.store(false, Ordering::Relaxed);
            to.append(&mut self.inner().frames);
        }
    }

    /// Of how many SETTINGS the peer has still to take note.
    pub(super) fn unanswered(&self) -> u32 {
        self.unanswered.load(Ordering::Relaxed)
    }

    /// The peer has taken note of so many of our SETTINGS, and has sent so many of which the library below us does not take note.
    pub(super) fn heard(&self, Heard { acknowledged, settings }: Heard) {
        if acknowledged > 0 {
            self.unanswered.fetch_sub(acknowledged, Ordering::Relaxed);
        }
        if settings > 0 {
            let frames = &mut self.inner().frames;
            (0..settings).for_each(|_| frames.extend(acknowledgement()));
            self.is_due.store(true, Ordering::Relaxed);
        }
    }

    /// The connection waits for its peer, and for what is wanted of it.
    pub(super) fn waits(&self, waker: &Waker) {
        if self.is_small.load(Ordering::Relaxed) {
            let mut inner = self.inner();
            if !inner.waker.as_ref().is_some_and(|known| known.will_wake(waker)) {
                inner.waker = Some(waker.clone());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FULL: u32 = 64 << 10;

    fn written(windows: &Windows) -> Vec<u8> {
        let mut frames = Vec::new();
        windows.write(&mut frames);
        frames
    }

    #[test]
    fn windows_are_small_while_calls_are_refused() {
        let (windows, now) = (Windows::new(FULL), Instant::now());
        windows.want(1, || now);
        assert!(written(&windows).is_empty(), "nobody was refused");
        windows.refused(now);
        let opened = window_update(1, FULL - SMALL);
        assert_eq!(written(&windows), [&initial_window(SMALL)[..], &opened].concat());
        windows.refused(now);
        windows.want(3, || now);
        assert_eq!(written(&windows), window_update(3, FULL - SMALL));
        windows.ended(1);
        windows.ended(3);
        // Whoever wants something after a while, has not to wait for it, nor has who comes next.
        windows.want(5, || now + CALM);
        windows.want(7, || now + CALM);
        assert_eq!(written(&windows), initial_window(FULL));
        // And at the next refusal both are opened; a second time nothing is.
        windows.refused(now + 2 * CALM);
        let opened = [window_update(5, FULL - SMALL), window_update(7, FULL - SMALL)].concat();
        assert_eq!(written(&windows), [&initial_window(SMALL)[..], &opened].concat());
        windows.want(9, || now + 3 * CALM);
        windows.refused(now + 3 * CALM);
        let opened = window_update(9, FULL - SMALL);
        assert_eq!(written(&windows), [&initial_window(FULL)[..], &initial_window(SMALL), &opened].concat());
    }

    #[test]
    fn a_body_is_shut_when_its_sender_knows_of_its_window() {
        let (windows, small) = (Windows::new(FULL), SMALL as usize);
        assert!(!windows.is_shut(FULL as usize), "more may come with the next update");
        windows.refused(Instant::now());
        assert!(!windows.is_shut(small), "it may have been sent before that was known");
        windows.heard(Heard { acknowledged: 1, settings: 0 });
        assert!(windows.is_shut(small) && !windows.is_shut(small - 1));
    }

    #[test]
    fn a_window_that_is_small_already_is_left_as_it_is() {
        let windows = Windows::new(SMALL);
        windows.refused(Instant::now());
        windows.want(1, Instant::now);
        assert!(written(&windows).is_empty());
    }
}
