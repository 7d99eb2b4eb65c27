//! The frames that a peer sends, followed through reads that end anywhere, and what those cost which carry no request.

use std::time::Instant;

/// Bytes of the preface of a client.
const PREFACE: usize = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".len();
/// Bytes of the head of a frame.
const HEAD: usize = 9;
/// Frames of RFC 9113, section 6.
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const SETTINGS: u8 = 4;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;
/// Of no kind that there is: it is passed over (section 4.1).
const UNKNOWN: u8 = 0xfa;
const END_HEADERS: u8 = 4;
const END_STREAM: u8 = 1;
const ACK: u8 = 1;
/// The place of its kind in the head of a frame.
const KIND: usize = 3;
/// The setting of the window that a stream begins with.
const INITIAL_WINDOW_SIZE: u16 = 4;
/// Bytes of a setting.
const SETTING: usize = 6;
/// What a request may bring along: BDP probes, window updates for its answer, its cancellation.
const FRAMES_A_REQUEST: u32 = 10;
/// DATA of less, with more to come, is counted: each costs us a wake-up and its sender next to nothing.
const SMALL_DATA: usize = 16;

/// SETTINGS: streams begin with a window of `bytes`.
pub(super) fn initial_window(bytes: u32) -> [u8; HEAD + SETTING] {
    let mut frame = [0; HEAD + SETTING];
    (frame[2], frame[KIND]) = (SETTING as u8, SETTINGS);
    frame[HEAD..][..2].copy_from_slice(&INITIAL_WINDOW_SIZE.to_be_bytes());
    frame[HEAD + 2..].copy_from_slice(&bytes.to_be_bytes());
    frame
}

/// WINDOW_UPDATE: so many `bytes` more on `stream`.
pub(super) fn window_update(stream: u32, bytes: u32) -> [u8; HEAD + 4] {
    let mut frame = [0; HEAD + 4];
    (frame[2], frame[KIND]) = (4, WINDOW_UPDATE);
    frame[5..HEAD].copy_from_slice(&stream.to_be_bytes());
    frame[HEAD..].copy_from_slice(&bytes.to_be_bytes());
    frame
}

/// SETTINGS, taken note of.
pub(super) fn acknowledgement() -> [u8; HEAD] {
    let mut frame = [0; HEAD];
    (frame[KIND], frame[KIND + 1]) = (SETTINGS, ACK);
    frame
}

/// Says in the SETTINGS that `bytes` begin with that streams begin with a window of `window`, if they say something of it.
pub(super) fn announce(bytes: &mut [u8], window: u32) {
    let Some((&mut [a, b, c, SETTINGS, 0, ..], settings)) = bytes.split_first_chunk_mut::<HEAD>() else { return };
    let length = u32::from_be_bytes([0, a, b, c]) as usize;
    for setting in settings.chunks_exact_mut(SETTING).take(length / SETTING) {
        if setting[..2] == INITIAL_WINDOW_SIZE.to_be_bytes() {
            setting[2..].copy_from_slice(&window.to_be_bytes());
        }
    }
}

/// What was read that the library below us has not seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Heard {
    /// SETTINGS of ours of which the peer has taken note.
    pub(super) acknowledged: u32,
    /// SETTINGS of its own, which are empty, of which it wants us to.
    pub(super) settings: u32,
}

/// Follows the frames of one direction through reads that end anywhere.
#[derive(Debug)]
pub(super) struct Frames {
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
    /// SETTINGS of the library below us, which come before all of ours, of which the peer has still to take note.
    awaited_below: u32,
    /// The frame that begins is the answer to one of ours, it seems; the library below us, which knows nothing of them, does not
    /// see it.
    hidden: bool,
    bucket: Bucket,
}

impl Frames {
    pub(super) fn new(burst: u32, rate: u32) -> Self {
        Self {
            skip: PREFACE,
            head: [0; HEAD],
            have: 0,
            kind: DATA,
            open_block: false,
            greeted: false,
            awaited_below: 1,
            hidden: false,
            bucket: Bucket { tokens: burst.into(), burst: burst.into(), rate, refilled: Instant::now() },
        }
    }

    /// Its greeting is complete.
    pub(super) fn greeted(&self) -> bool {
        self.greeted
    }

    pub(super) fn is_within_headers(&self) -> bool {
        self.open_block || self.skip > 0 && matches!(self.kind, HEADERS | CONTINUATION)
    }

    /// What the peer has sent has made it run up more than anybody may.
    pub(super) fn is_flood(&mut self) -> bool {
        self.bucket.is_overdrawn()
    }

    /// So many frames more are nothing strange.
    pub(super) fn allow(&mut self, frames: u32) {
        self.bucket.add(frames);
    }

    /// The next `bytes`, in which those frames get another kind that are not for the library below us.
    /// The peer has still to take note of so many SETTINGS of ours: `awaited`.
    pub(super) fn read(&mut self, mut bytes: &mut [u8], awaited: u32) -> Heard {
        let mut heard = Heard::default();
        loop {
            let passed = self.skip.min(bytes.len());
            self.skip -= passed;
            bytes = &mut bytes[passed..];
            if self.skip > 0 {
                return heard;
            }
            self.greeted |= self.kind == SETTINGS;
            let taken = (HEAD - self.have).min(bytes.len());
            self.head[self.have..][..taken].copy_from_slice(&bytes[..taken]);
            // Its flags may not be there yet; so this is all to go by.
            let is_empty_settings =
                self.have <= KIND && self.have + taken > KIND && self.head[..=KIND] == [0, 0, 0, SETTINGS];
            if is_empty_settings && self.awaited_below == 0 && awaited > heard.acknowledged {
                bytes[KIND - self.have] = UNKNOWN;
                self.hidden = true;
            }
            self.have += taken;
            bytes = &mut bytes[taken..];
            if self.have < HEAD {
                return heard;
            }
            self.have = 0;
            self.begin(&mut heard);
        }
    }

    fn begin(&mut self, heard: &mut Heard) {
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
            SETTINGS if std::mem::take(&mut self.hidden) => {
                if flags & ACK > 0 {
                    heard.acknowledged += 1;
                } else {
                    heard.settings += 1;
                    self.bucket.take();
                }
            }
            SETTINGS if flags & ACK > 0 => {
                self.awaited_below = 0;
                self.bucket.take();
            }
            _ => self.bucket.take(),
        }
    }
}

/// Tokens that are refilled only when they have run out, so that the clock is read by nobody else.
#[derive(Debug)]
pub(super) struct Bucket {
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn frame(kind: u8, flags: u8, payload: usize) -> Vec<u8> {
        let mut frame = (payload as u32).to_be_bytes()[1..].to_vec();
        frame.extend([kind, flags, 0, 0, 0, 1]);
        frame.resize(HEAD + payload, 0);
        frame
    }

    impl Frames {
        fn take(&mut self, bytes: &[u8]) -> Heard {
            self.read(&mut bytes.to_vec(), 1)
        }
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
            bytes.chunks(cut).for_each(|chunk| {
                frames.take(chunk);
            });
            assert_eq!(frames.bucket.tokens, 98, "SETTINGS is paid back by HEADERS, the PINGs are not; cut at {cut}");
            assert!(frames.greeted && !frames.is_within_headers(), "{cut}");
        }
    }

    #[test]
    fn a_greeting_ends_with_the_first_settings() {
        let mut frames = Frames::new(10, 1);
        let greeting = greeting();
        frames.take(&greeting[..greeting.len() - 1]);
        assert!(!frames.greeted);
        frames.take(&greeting[greeting.len() - 1..]);
        assert!(frames.greeted);
    }

    #[test]
    fn a_header_block_is_open_until_its_last_frame() {
        let mut frames = Frames::new(10, 1);
        frames.take(&greeting());
        frames.take(&frame(HEADERS, END_HEADERS, 9)[..12]);
        assert!(frames.is_within_headers(), "its payload is not there");
        frames.take(&[0; 6]);
        assert!(!frames.is_within_headers());
        frames.take(&frame(HEADERS, 0, 9));
        assert!(frames.is_within_headers(), "CONTINUATION is to come");
        frames.take(&frame(CONTINUATION, END_HEADERS, 9));
        assert!(!frames.is_within_headers());
    }

    /// How many of `frame` it takes until the bucket is overdrawn, at most 1,000.
    fn until_overdrawn(frames: &mut Frames, frame: &[u8]) -> usize {
        (0..1_000)
            .find(|_| {
                frames.take(frame);
                frames.bucket.tokens < 0
            })
            .unwrap_or(1_000)
    }

    #[test]
    fn a_flood_runs_the_bucket_out_and_requests_fill_it() {
        let mut frames = Frames::new(10, 1);
        frames.take(&greeting());
        let ping = frame(6, 0, 8);
        assert_eq!(until_overdrawn(&mut frames, &ping), 9, "ten with SETTINGS");
        frames.take(&frame(HEADERS, END_HEADERS, 0));
        assert_eq!(until_overdrawn(&mut frames, &ping), 9, "and ten for a request, of which one was owed");
    }

    #[test]
    fn data_counts_when_it_is_next_to_nothing() {
        for (flags, payload, taken) in [(0, 1, 9), (0, 0, 9), (END_STREAM, 1, 1_000), (0, SMALL_DATA, 1_000)] {
            let mut frames = Frames::new(10, 1);
            frames.take(&greeting());
            assert_eq!(until_overdrawn(&mut frames, &frame(DATA, flags, payload)), taken, "{flags} {payload}");
        }
    }

    /// A read holds thousands of frames: one token that time has brought must not forgive them all.
    #[test]
    fn a_burst_is_owed_for_as_long_as_it_takes() {
        let mut frames = Frames::new(10, 1_000);
        frames.take(&greeting());
        frames.take(&frame(6, 0, 8).repeat(4_000));
        frames.bucket.refilled =
            Instant::now().checked_sub(Duration::from_secs(1)).expect("the machine is up for longer");
        assert!(frames.bucket.is_overdrawn(), "4,000 at once and 1,000 a second");
    }

    #[test]
    fn another_window_is_announced() {
        let settings = |window: u32| [&[0, 3, 0, 0, 0, 9][..], &initial_window(window)[HEAD..]].concat();
        let greeting = |window| [&frame(SETTINGS, 0, 12)[..HEAD], &settings(window), &[7; 13]].concat();
        let mut announced = greeting(2_000);
        announce(&mut announced, 1_000);
        assert_eq!(announced, greeting(1_000));
        // Where there is nothing to say it in, nothing is changed.
        for other in [acknowledgement().to_vec(), frame(HEADERS, 0, 20), greeting(5)[..20].to_vec(), vec![]] {
            let mut announced = other.clone();
            announce(&mut announced, 1_000);
            assert_eq!(announced, other);
        }
    }

    /// The same whichever way the bytes are cut; the first answer is not to ours.
    #[test]
    fn what_answers_our_settings_is_hidden() {
        let (answer, theirs) = (acknowledgement().to_vec(), frame(SETTINGS, 0, 0));
        let bytes =
            [greeting(), answer.clone(), answer.clone(), frame(HEADERS, END_HEADERS, 3), answer.clone(), theirs]
                .concat();
        let mut hidden = bytes.clone();
        let second = greeting().len() + HEAD;
        (hidden[second + KIND], hidden[bytes.len() - 2 * HEAD + KIND]) = (UNKNOWN, UNKNOWN);
        for cut in 1..bytes.len() {
            let mut frames = Frames::new(100, 1);
            let mut passed = bytes.clone();
            let mut heard = Heard::default();
            for chunk in passed.chunks_mut(cut) {
                let Heard { acknowledged, settings } = frames.read(chunk, 2 - heard.acknowledged);
                heard.acknowledged += acknowledged;
                heard.settings += settings;
            }
            assert_eq!((passed == hidden, heard), (true, Heard { acknowledged: 2, settings: 0 }), "cut at {cut}");
        }
        // What looks like an answer and is none is wanted one for.
        let mut frames = Frames::new(100, 1);
        frames.take(&[greeting(), answer.clone()].concat());
        assert_eq!(frames.take(&frame(SETTINGS, 0, 0)), Heard { acknowledged: 0, settings: 1 });
        assert_eq!(frames.take(&answer), Heard { acknowledged: 1, settings: 0 });
    }
}
