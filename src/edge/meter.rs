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

use super::turns::Turns;

/// Bytes of the preface of a client.
const PREFACE: usize = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".len();
/// Bytes of the head of a frame.
const HEAD: usize = 9;
/// Frames of RFC 9113, section 6.
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const SETTINGS: u8 = 4;
const CONTINUATION: u8 = 9;
const END_HEADERS: u8 = 4;
const END_STREAM: u8 = 1;
/// What a request may bring along: BDP probes, window updates for its answer, its cancellation.
const FRAMES_A_REQUEST: u32 = 10;
/// DATA of less, with more to come, is counted: each costs us a wake-up and its sender next to nothing.
const SMALL_DATA: usize = 16;
/// What is read of one peer until others have their turn on the worker.
const READ_AT_ONCE: usize = 64 << 10;
/// ...and while calls wait there, until a pause is over: most of what comes then is going to be refused.
const READ_AT_A_LOOK: usize = 16 << 10;
/// Answers are told apart by when they were ready, in so many parts of the time that a peer has to take them.
const GENERATIONS: usize = 8;
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
    fn new() -> Self {
        Self {
            began: Instant::now(),
            greeted: AtomicBool::new(false),
            flooded: AtomicBool::new(false),
            refused: AtomicBool::new(false),
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
    state: Arc<State>,
    turns: Arc<Turns>,
}

impl<I> Metered<I> {
    /// `burst` control frames at once, `rate` a second after that.
    pub(super) fn new(io: I, burst: u32, rate: u32, turns: Arc<Turns>) -> (Self, Arc<State>) {
        let state = Arc::new(State::new());
        let frames = Frames::new(burst, rate);
        (Self { io, read: 0, put_off: None, has_paused: false, frames, state: state.clone(), turns }, state)
    }

    fn received(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.frames.read(bytes);
        self.state.heard.store(self.state.now(), Ordering::Relaxed);
        if self.frames.greeted && !self.state.greeted.load(Ordering::Relaxed) {
            self.state.greeted.store(true, Ordering::Relaxed);
        }
        let pending = self.frames.is_within_headers();
        if pending != (self.state.block.load(Ordering::Relaxed) > 0) {
            self.state.block.store(if pending { self.state.now() } else { 0 }, Ordering::Relaxed);
        }
        if self.frames.bucket.is_overdrawn() {
            self.state.flooded.store(true, Ordering::Relaxed);
            return Err(io::Error::other("more control frames than requests and answers account for"));
        }
        Ok(())
    }
}

/// Follows the frames of one direction through reads that end anywhere.
#[derive(Debug)]
struct Frames {
    /// Bytes to pass over: of the preface or of a payload.
    skip: usize,
    head: [u8; HEAD],
    /// Bytes of `head` that are there.
    have: usize,
    /// The kind of the frame whose payload is passed over.
    kind: u8,
    /// Within a header block: its last frame is still to come.
    open_block: bool,
    /// The preface and the first SETTINGS are complete.
    greeted: bool,
    bucket: Bucket,
}

impl Frames {
    fn new(burst: u32, rate: u32) -> Self {
        Self {
            skip: PREFACE,
            head: [0; HEAD],
            have: 0,
            kind: DATA,
            open_block: false,
            greeted: false,
            bucket: Bucket { tokens: burst.into(), burst: burst.into(), rate, refilled: Instant::now() },
        }
    }

    fn is_within_headers(&self) -> bool {
        self.open_block || self.skip > 0 && matches!(self.kind, HEADERS | CONTINUATION)
    }

    fn read(&mut self, mut bytes: &[u8]) {
        loop {
            let passed = self.skip.min(bytes.len());
            self.skip -= passed;
            bytes = &bytes[passed..];
            if self.skip > 0 {
                return;
            }
            self.greeted |= self.kind == SETTINGS;
            let taken = (HEAD - self.have).min(bytes.len());
            self.head[self.have..][..taken].copy_from_slice(&bytes[..taken]);
            self.have += taken;
            bytes = &bytes[taken..];
            if self.have < HEAD {
                return;
            }
            self.have = 0;
            self.begin();
        }
    }

    fn begin(&mut self) {
        let [a, b, c, kind, flags, ..] = self.head;
        self.skip = u32::from_be_bytes([0, a, b, c]) as usize;
        self.kind = kind;
        match kind {
            DATA if self.skip >= SMALL_DATA || flags & END_STREAM > 0 => {}
            HEADERS => {
                self.bucket.add(FRAMES_A_REQUEST);
                self.open_block = flags & END_HEADERS == 0;
            }
            CONTINUATION => {
                self.open_block &= flags & END_HEADERS == 0;
                self.bucket.take();
            }
            _ => self.bucket.take(),
        }
    }
}

/// Tokens that are refilled only when they have run out, so that the clock is read by nobody else.
#[derive(Debug)]
struct Bucket {
    /// Below 0: taken from what time has yet to bring.
    tokens: i64,
    burst: i64,
    /// A second.
    rate: u32,
    refilled: Instant,
}

impl Bucket {
    fn add(&mut self, tokens: u32) {
        self.tokens = (self.tokens + i64::from(tokens)).min(self.burst);
    }

    fn take(&mut self) {
        self.tokens -= 1;
    }

    /// Whether more was taken than there was and time has brought since.
    fn is_overdrawn(&mut self) -> bool {
        if self.tokens >= 0 {
            return false;
        }
        let now = Instant::now();
        let earned = now.duration_since(self.refilled).as_secs_f64() * f64::from(self.rate);
        self.refilled = now;
        // A float that is too large becomes the largest number.
        self.add(earned as u32);
        self.tokens < 0
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
        let comes_last = self.read >= READ_AT_A_LOOK || !self.has_paused && self.state.refused.load(Ordering::Relaxed);
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
        }
        ready!(polled)?;
        self.read += to.filled().len() - before;
        Poll::Ready(self.received(&to.filled()[before..]))
    }
}

impl<I> Metered<I> {
    fn sent(&mut self, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if let Poll::Ready(Ok(bytes)) = &written {
            self.frames.bucket.add(u32::try_from(*bytes).unwrap_or(u32::MAX) / SENT_BYTES_A_FRAME);
        }
        written
    }
}

impl<I: AsyncWrite + Unpin> AsyncWrite for Metered<I> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.io).poll_write(context, bytes);
        self.sent(written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.io).poll_write_vectored(context, bytes);
        self.sent(written)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, flags: u8, payload: usize) -> Vec<u8> {
        let mut frame = (payload as u32).to_be_bytes()[1..].to_vec();
        frame.extend([kind, flags, 0, 0, 0, 1]);
        frame.resize(HEAD + payload, 0);
        frame
    }

    fn greeting() -> Vec<u8> {
        [vec![b'x'; PREFACE], frame(SETTINGS, 0, 6)].concat()
    }

    /// The same whichever way the bytes are cut.
    #[test]
    fn frames_are_followed_through_any_cut() {
        let bytes =
            [greeting(), frame(HEADERS, END_HEADERS, 30), frame(DATA, 1, 100), frame(6, 0, 8), frame(6, 0, 8)].concat();
        for cut in 1..bytes.len() {
            let mut frames = Frames::new(100, 1);
            bytes.chunks(cut).for_each(|chunk| frames.read(chunk));
            assert_eq!(frames.bucket.tokens, 98, "SETTINGS is paid back by HEADERS, the PINGs are not; cut at {cut}");
            assert!(frames.greeted && !frames.is_within_headers(), "{cut}");
        }
    }

    #[test]
    fn a_greeting_ends_with_the_first_settings() {
        let mut frames = Frames::new(10, 1);
        let greeting = greeting();
        frames.read(&greeting[..greeting.len() - 1]);
        assert!(!frames.greeted);
        frames.read(&greeting[greeting.len() - 1..]);
        assert!(frames.greeted);
    }

    #[test]
    fn a_header_block_is_open_until_its_last_frame() {
        let mut frames = Frames::new(10, 1);
        frames.read(&greeting());
        frames.read(&frame(HEADERS, END_HEADERS, 9)[..12]);
        assert!(frames.is_within_headers(), "its payload is not there");
        frames.read(&[0; 6]);
        assert!(!frames.is_within_headers());
        frames.read(&frame(HEADERS, 0, 9));
        assert!(frames.is_within_headers(), "CONTINUATION is to come");
        frames.read(&frame(CONTINUATION, END_HEADERS, 9));
        assert!(!frames.is_within_headers());
    }

    /// How many of `frame` it takes until the bucket is overdrawn, at most 1,000.
    fn until_overdrawn(frames: &mut Frames, frame: &[u8]) -> usize {
        (0..1_000)
            .find(|_| {
                frames.read(frame);
                frames.bucket.tokens < 0
            })
            .unwrap_or(1_000)
    }

    #[test]
    fn a_flood_runs_the_bucket_out_and_requests_fill_it() {
        let mut frames = Frames::new(10, 1);
        frames.read(&greeting());
        let ping = frame(6, 0, 8);
        assert_eq!(until_overdrawn(&mut frames, &ping), 9, "ten with SETTINGS");
        frames.read(&frame(HEADERS, END_HEADERS, 0));
        assert_eq!(until_overdrawn(&mut frames, &ping), 9, "and ten for a request, of which one was owed");
    }

    #[test]
    fn data_counts_when_it_is_next_to_nothing() {
        for (flags, payload, taken) in [(0, 1, 9), (0, 0, 9), (END_STREAM, 1, 1_000), (0, SMALL_DATA, 1_000)] {
            let mut frames = Frames::new(10, 1);
            frames.read(&greeting());
            assert_eq!(until_overdrawn(&mut frames, &frame(DATA, flags, payload)), taken, "{flags} {payload}");
        }
    }

    /// A read holds thousands of frames: one token that time has brought must not forgive them all.
    #[test]
    fn a_burst_is_owed_for_as_long_as_it_takes() {
        let mut frames = Frames::new(10, 1_000);
        frames.read(&greeting());
        frames.read(&frame(6, 0, 8).repeat(4_000));
        frames.bucket.refilled =
            Instant::now().checked_sub(Duration::from_secs(1)).expect("the machine is up for longer");
        assert!(frames.bucket.is_overdrawn(), "4,000 at once and 1,000 a second");
    }
}
