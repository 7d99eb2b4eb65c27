//! Time for a call: until its deadline, and for its message only as long as it goes on coming. Whoever begins a message and does not go
//! on keeps the bytes that have come from others.

use std::{
    pin::pin,
    sync::atomic::{AtomicUsize, Ordering},
    time::{Duration, Instant},
};

use tonic::Status;

use super::unary::expired;

/// Between two looks at how much has come.
const LOOK: Duration = Duration::from_millis(2_500);
/// Looks in a row that find no more than before. Not one: after a stall of ours the first look finds what the socket still holds.
const LOOKS: u32 = 2;
/// Bytes between two looks that are progress: a slow line has ten times as many, and who sends fewer would take twenty minutes for a
/// message of the usual limit.
const PROGRESS: usize = 2 << 10;

/// What has come of a message.
#[derive(Debug, Default)]
pub(super) struct Arriving(AtomicUsize);

const COMPLETE: usize = usize::MAX;

impl Arriving {
    /// So many bytes are there.
    pub(super) fn have(&self, bytes: usize) {
        self.0.store(bytes, Ordering::Relaxed);
    }

    /// Nothing more will come.
    pub(super) fn is_complete(&self) {
        self.0.store(COMPLETE, Ordering::Relaxed);
    }
}

/// Waits for `answered` until `deadline`, which is `allowed` from the beginning, and only as long as its message comes.
///
/// # Errors
/// Its own, or DEADLINE_EXCEEDED.
pub(super) async fn in_time<T>(
    deadline: Instant,
    allowed: Duration,
    arriving: &Arriving,
    answered: impl Future<Output = Result<T, Status>>,
) -> Result<T, Status> {
    let mut answered = pin!(answered);
    let (mut seen, mut idle) = (0, 0);
    let mut look = deadline.min(Instant::now() + LOOK);
    loop {
        // The timer is only armed when the answer is not there at once.
        if let Ok(answered) = tokio::time::timeout_at(look.into(), answered.as_mut()).await {
            return answered;
        }
        let now = Instant::now();
        if now >= deadline {
            return Err(expired(allowed));
        }
        let have = arriving.0.load(Ordering::Relaxed);
        idle = if have == COMPLETE || have - seen >= PROGRESS { 0 } else { idle + 1 };
        if idle == LOOKS {
            return Err(stalled(have));
        }
        seen = have;
        look = deadline.min(now + LOOK);
    }
}

fn stalled(have: usize) -> Status {
    Status::deadline_exceeded(format!(
        "the request message has stalled: {have} bytes have come, fewer than {PROGRESS} of them in the last {:?}",
        LOOK * LOOKS
    ))
}
