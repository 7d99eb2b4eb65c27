//! What a peer sends, frame by frame, and what it never finishes. HTTP/2 lets a client send frames that cost us work and
//! itself nothing, and no library below us counts PING, SETTINGS, PRIORITY or WINDOW_UPDATE; neither does any hang up on a
//! socket on which the greeting never arrives, a header block that never ends or an answer that is never read.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering},
    },
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::{
    frames::{Frames, announce},
    turns::Turns,
    windows::Windows,
};

/// What is read of one peer until others have their turn on the worker.
const READ_AT_ONCE: usize = 64 << 10;
/// ...and while calls wait there, until a pause is over: most of what comes then is going to be refused.
const READ_AT_A_LOOK: usize = 16 << 10;
/// Answers are told apart by when they were ready, in so many parts of the time that a peer has to take them.
const GENERATIONS: usize = 8;
/// Bytes that are kept to be written together.
const MOST_HELD: usize = 16 << 10;
/// ...and of a buffer for them that has none.
const HELD_FOR_NOTHING: usize = 4 << 10;
/// What we sent allows for so many bytes a frame: a reader of a long stream grants window as it reads.
const SENT_BYTES_A_FRAME: u32 = 256;

/// Why a connection was given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Failing {
    /// No complete greeting in time.
    Greeting,
    /// A header block was begun and not ended in time.
    Headers,
    /// More control frames than any use of the protocol needs.
    Flood,
    /// An answer was ready and not taken in time, whatever became of others.
    Unread,
}

/// What the two sides of a connection, its socket and its driver, know about it.
#[derive(Debug)]
pub(super) struct State {
    began: Instant,
    greeted: AtomicBool,
    flooded: AtomicBool,
    /// The last call was.
    refused: AtomicBool,
    /// What is written is kept until the end of a poll...
    holds: AtomicBool,
    /// ...and something was.
    is_held: AtomicBool,
    pub(super) windows: Windows,
    /// Milliseconds from `began`, plus 1, to the last byte that came.
    heard: AtomicU64,
    /// Milliseconds from `began`, plus 1, to the beginning of a header block that has not ended; 0 without one.
    block: AtomicU64,
    /// Grows with time; answers are of the one in which they became ready.
    generation: AtomicUsize,
    /// Those of each generation that are not taken.
    unread: [AtomicU32; GENERATIONS],
}

/// How long a peer may take.
#[derive(Clone, Copy, Debug)]
pub(super) struct Patience {
    pub(super) greeting: Duration,
    pub(super) headers: Duration,
    pub(super) unread: Duration,
}

impl State {
    fn new(window: u32) -> Self {
        Self {
            began: Instant::now(),
            greeted: AtomicBool::new(false),
            flooded: AtomicBool::new(false),
            refused: AtomicBool::new(false),
            holds: AtomicBool::new(false),
            is_held: AtomicBool::new(false),
            windows: Windows::new(window),
            heard: AtomicU64::new(0),
            block: AtomicU64::new(0),
            generation: AtomicUsize::new(0),
            unread: [const { AtomicU32::new(0) }; GENERATIONS],
        }
    }

    fn now(&self) -> u64 {
        self.began.elapsed().as_millis() as u64 + 1
    }

    /// A call was answered, or was refused for want of room.
    pub(super) fn called(&self, is_refused: bool) {
        self.refused.store(is_refused, Ordering::Relaxed);
        if is_refused {
            self.windows.refused(Instant::now());
        }
    }

    /// What is written is kept from now on until [`Self::lets_go`]: the library below us flushes within an answer, and after each.
    pub(super) fn holds(&self) {
        self.holds.store(true, Ordering::Relaxed);
    }

    /// What was kept may be written; false when nothing was.
    pub(super) fn lets_go(&self) -> bool {
        self.holds.store(false, Ordering::Relaxed);
        self.is_held.swap(false, Ordering::Relaxed)
    }

    /// Since the last byte came, to the millisecond.
    pub(super) fn idle(&self) -> Duration {
        Duration::from_millis(self.now().saturating_sub(self.heard.load(Ordering::Relaxed)))
    }

    /// An answer waits to be read, until the result is dropped.
    pub(super) fn answering(self: &Arc<Self>) -> Answering {
        let generation = self.generation.load(Ordering::Relaxed) % GENERATIONS;
        self.unread[generation].fetch_add(1, Ordering::Relaxed);
        Answering { state: self.clone(), generation }
    }

    /// Begins the next generation; false when answers are left of the one that was in its place.
    fn next_generation(&self) -> bool {
        let next = self.generation.fetch_add(1, Ordering::Relaxed) + 1;
        self.unread[next % GENERATIONS].load(Ordering::Relaxed) == 0
    }

    pub(super) fn flooded(&self) -> bool {
        self.flooded.load(Ordering::Relaxed)
    }

    /// Completes when the peer is to be given up.
    pub(super) async fn fails(&self, patience: Patience) -> Failing {
        const LOOK: Duration = Duration::from_secs(1);
        // What is counted is the time that passes here: a process that was stopped has not read either.
        let mut aged = Duration::ZERO;
        // Of the last generations none is older than patience allows, and of the one before them all are.
        let generation = (patience.unread / (GENERATIONS as u32 - 1)).max(Duration::from_millis(10));
        // The greeting is the first thing to be late for, and by much the shortest where it is configured to be.
        let mut next = LOOK.min(patience.greeting).min(generation);
        loop {
            tokio::time::sleep(next).await;
            if !self.greeted.load(Ordering::Relaxed) && self.began.elapsed() >= patience.greeting {
                return Failing::Greeting;
            }
            let block = self.block.load(Ordering::Relaxed);
            if block > 0 && Duration::from_millis(self.now() - block) >= patience.headers {
                return Failing::Headers;
            }
            aged += next;
            if aged >= generation {
                aged -= generation;
                if !self.next_generation() {
                    return Failing::Unread;
                }
            }
            next = LOOK.min(generation);
        }
    }
}

/// An answer that is ready and not yet handed to the socket.
#[derive(Debug)]
pub(super) struct Answering {
    state: Arc<State>,
    generation: usize,
}

impl Drop for Answering {
    fn drop(&mut self) {
        self.state.unread[self.generation].fetch_sub(1, Ordering::Relaxed);
    }
}

/// A socket whose frames are counted.
#[derive(Debug)]
pub(super) struct Metered<I> {
    io: I,
    /// Bytes since others had their turn.
    read: usize,
    /// Reads on after this pause of the worker's.
    put_off: Option<u64>,
    /// Reads on after one, until there is no more.
    has_paused: bool,
    frames: Frames,
    /// What is written next, from `written` on.
    held: Vec<u8>,
    written: usize,
    /// Something was written.
    has_begun: bool,
    state: Arc<State>,
    turns: Arc<Turns>,
}

impl<I> Metered<I> {
    /// `burst` control frames at once, `rate` a second after that; streams begin with a window of `window` bytes.
    pub(super) fn new(io: I, (burst, rate): (u32, u32), window: u32, turns: Arc<Turns>) -> (Self, Arc<State>) {
        let state = Arc::new(State::new(window));
        let metered = Self {
            io,
            read: 0,
            put_off: None,
            has_paused: false,
            frames: Frames::new(burst, rate),
            held: Vec::new(),
            written: 0,
            has_begun: false,
            state: state.clone(),
            turns,
        };
        (metered, state)
    }

    fn received(&mut self, bytes: &mut [u8]) -> io::Result<()> {
        let heard = self.frames.read(bytes, self.state.windows.unanswered());
        self.state.windows.heard(heard);
        self.state.heard.store(self.state.now(), Ordering::Relaxed);
        if self.frames.greeted() && !self.state.greeted.load(Ordering::Relaxed) {
            self.state.greeted.store(true, Ordering::Relaxed);
        }
        let pending = self.frames.is_within_headers();
        if pending != (self.state.block.load(Ordering::Relaxed) > 0) {
            self.state.block.store(if pending { self.state.now() } else { 0 }, Ordering::Relaxed);
        }
        if self.frames.is_flood() {
            self.state.flooded.store(true, Ordering::Relaxed);
            return Err(io::Error::other("more control frames than requests and answers account for"));
        }
        Ok(())
    }
}

impl<I: AsyncRead + Unpin> AsyncRead for Metered<I> {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, to: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if let Some(pause) = self.put_off {
            // Somebody else has woken the connection: an answer is ready, perhaps.
            if self.turns.is_pausing(pause) {
                return Poll::Pending;
            }
            (self.put_off, self.has_paused) = (None, true);
        }
        // With small windows hardly anything comes that nobody wants.
        let at_a_look = if self.state.windows.is_small() { READ_AT_ONCE } else { READ_AT_A_LOOK };
        let refused = self.state.refused.load(Ordering::Relaxed);
        let comes_last = self.read >= at_a_look || !self.has_paused && refused;
        if comes_last && let Some(pause) = self.turns.puts_off(context.waker()) {
            (self.read, self.put_off, self.has_paused) = (0, Some(pause), false);
            return Poll::Pending;
        }
        if self.read >= READ_AT_ONCE {
            self.read = 0;
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        let before = to.filled().len();
        let polled = Pin::new(&mut self.io).poll_read(context, to);
        if polled.is_pending() {
            (self.read, self.has_paused) = (0, false);
            self.state.windows.waits(context.waker());
        }
        ready!(polled)?;
        self.read += to.filled().len() - before;
        Poll::Ready(self.received(&mut to.filled_mut()[before..]))
    }
}

impl<I: AsyncWrite + Unpin> Metered<I> {
    /// Keeps `bytes` to be written with what comes next, or nothing when they have to be written now.
    fn hold(&mut self, bytes: &[u8]) -> Option<usize> {
        if !self.has_begun {
            self.has_begun = true;
            self.held.extend_from_slice(bytes);
            announce(&mut self.held, self.state.windows.full());
            return Some(bytes.len());
        }
        let holds = self.state.holds.load(Ordering::Relaxed) && self.held.len() + bytes.len() <= MOST_HELD;
        holds.then(|| self.held.extend_from_slice(bytes))?;
        self.state.is_held.store(true, Ordering::Relaxed);
        Some(bytes.len())
    }

    fn poll_held(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.written < self.held.len() {
            let written = ready!(Pin::new(&mut self.io).poll_write(context, &self.held[self.written..]))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.written += written;
        }
        self.written = 0;
        self.held.clear();
        // Of thousands of connections each would keep it.
        self.held.shrink_to(HELD_FOR_NOTHING);
        Poll::Ready(Ok(()))
    }

    fn sent(&mut self, bytes: usize) -> Poll<io::Result<usize>> {
        self.frames.allow(u32::try_from(bytes).unwrap_or(u32::MAX) / SENT_BYTES_A_FRAME);
        Poll::Ready(Ok(bytes))
    }
}

impl<I: AsyncWrite + Unpin> AsyncWrite for Metered<I> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if let Some(held) = self.hold(bytes) {
            return self.sent(held);
        }
        ready!(self.poll_held(context))?;
        let written = ready!(Pin::new(&mut self.io).poll_write(context, bytes))?;
        self.sent(written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let first = bytes.iter().find(|slice| !slice.is_empty()).map_or(&[][..], |slice| slice);
        if let Some(held) = self.hold(first) {
            return self.sent(held);
        }
        ready!(self.poll_held(context))?;
        let written = ready!(Pin::new(&mut self.io).poll_write_vectored(context, bytes))?;
        self.sent(written)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Self { state, held, .. } = &mut *self;
        // The library below us flushes when all that it had is written: between two frames.
        state.windows.write(held);
        if state.holds.load(Ordering::Relaxed) && !held.is_empty() {
            state.is_held.store(true, Ordering::Relaxed);
            return Poll::Ready(Ok(()));
        }
        ready!(self.poll_held(context))?;
        Pin::new(&mut self.io).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_held(context))?;
        Pin::new(&mut self.io).poll_shutdown(context)
    }
}
