//! Calls wait for their turn on a worker. Under more load than it can carry each would wait as long as all before it take, and
//! everybody in such a standing queue waits for nothing; so whoever would wait for too long is refused when it comes, by the
//! connection that has read it and before a task, a buffer or a place is spent on it.
//!
//! A burst is worked off, a standing queue is not: a call may wait for as long as the worker has rested in the last tenth of a
//! second, which is what it can catch up on, and for a short limit more. This is the rule of request queues under CoDel (Maurer,
//! "Fail at Scale", ACM Queue 13(8), 2015; Nichols and Jacobson, ACM Queue 10(5), 2012) without its switch from one limit to the
//! other, and applied to the wait that is to be expected: the calls that wait, times what one more has cost those before it.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    task::{Context, Waker},
    time::{Duration, Instant},
};

use hyper::rt::Executor;

/// What a burst may take to be worked off.
const BURST: Duration = Duration::from_millis(100);
/// Calls on whose cost the expected wait is based.
const REMEMBERED: u64 = 16;

/// The calls that wait for one worker. Only that worker writes to it, so nothing here is ever contended.
#[derive(Debug)]
pub(super) struct Turns {
    began: Instant,
    /// Of a wait without any rest.
    limit: Duration,
    waiting: AtomicUsize,
    /// Nanoseconds that each call in front has cost those behind it; an average that forgets.
    each: AtomicU64,
    /// Microseconds from `began` to when the worker was out of work.
    parked: AtomicU64,
    /// Microseconds from `began` to the beginning of the time over which rest is added up...
    since: AtomicU64,
    /// ...what there was of it...
    rested: AtomicU64,
    /// ...and what there was of it in the time before.
    rested_before: AtomicU64,
    /// The call that is handed to the executor next is a refusal.
    refused: AtomicBool,
}

impl Turns {
    pub(super) fn new(limit: Duration) -> Self {
        Self {
            began: Instant::now(),
            limit,
            waiting: AtomicUsize::new(0),
            each: AtomicU64::new(0),
            parked: AtomicU64::new(0),
            since: AtomicU64::new(0),
            rested: AtomicU64::new(0),
            rested_before: AtomicU64::new(0),
            refused: AtomicBool::new(false),
        }
    }

    /// A call has been read at `now`.
    ///
    /// # Errors
    /// How long it would have to wait, which is too long.
    pub(super) fn join(self: &Arc<Self>, now: Instant) -> Result<Turn, Duration> {
        let ahead = self.waiting.load(Ordering::Relaxed);
        let expected = Duration::from_nanos((ahead as u64).saturating_mul(self.each.load(Ordering::Relaxed)));
        // Nearly always: a product and a comparison.
        if expected > self.limit && expected > self.allowed(now) {
            self.refused.store(true, Ordering::Relaxed);
            return Err(expected);
        }
        self.waiting.store(ahead + 1, Ordering::Relaxed);
        Ok(Turn { turns: Some(self.clone()), arrived: now, ahead })
    }

    /// A call that had `ahead` calls before it has `waited`. From one that had none, too: who is first is never refused, so one
    /// stall can't make an estimate that keeps everybody out who would correct it.
    fn learn(&self, ahead: usize, waited: Duration) {
        let each = self.each.load(Ordering::Relaxed);
        let seen = waited.as_nanos() as u64 / ahead.max(1) as u64;
        self.each.store(each - each / REMEMBERED + seen / REMEMBERED, Ordering::Relaxed);
    }

    fn leave(&self) {
        self.waiting.store(self.waiting.load(Ordering::Relaxed).saturating_sub(1), Ordering::Relaxed);
    }

    /// The worker is out of work.
    pub(super) fn parks(&self) {
        self.parked.store(self.began.elapsed().as_micros() as u64, Ordering::Relaxed);
    }

    /// There is work again.
    pub(super) fn wakes(&self) {
        self.rests(self.parked.load(Ordering::Relaxed), self.began.elapsed().as_micros() as u64);
    }

    /// It had nothing to do from `parked` to `now`.
    fn rests(&self, parked: u64, now: u64) {
        let (since, rested) = (self.since.load(Ordering::Relaxed), self.rested.load(Ordering::Relaxed));
        let rested = rested + now.saturating_sub(parked);
        if now.saturating_sub(since) < BURST.as_micros() as u64 {
            return self.rested.store(rested, Ordering::Relaxed);
        }
        self.rested_before.store(rested, Ordering::Relaxed);
        self.since.store(now, Ordering::Relaxed);
        self.rested.store(0, Ordering::Relaxed);
    }

    /// What a call may wait that comes now.
    fn allowed(&self, now: Instant) -> Duration {
        let since = Duration::from_micros(self.since.load(Ordering::Relaxed));
        // A worker that never rests does not say so.
        if now.saturating_duration_since(self.began + since) > 2 * BURST {
            return self.limit;
        }
        let rested = self.rested.load(Ordering::Relaxed).max(self.rested_before.load(Ordering::Relaxed));
        self.limit.saturating_add(Duration::from_micros(rested).min(BURST))
    }
}

/// The wait of one call.
#[derive(Debug)]
pub(super) struct Turn {
    /// Until it has left the queue.
    turns: Option<Arc<Turns>>,
    arrived: Instant,
    ahead: usize,
}

impl Turn {
    /// It is its turn.
    ///
    /// # Errors
    /// How long it has waited, when that is more than anybody should: what was expected was wrong.
    pub(super) fn take(mut self) -> Result<(), Duration> {
        let Some(turns) = self.turns.take() else { return Ok(()) };
        let waited = self.arrived.elapsed();
        turns.learn(self.ahead, waited);
        turns.leave();
        if waited <= turns.limit.saturating_add(BURST) { Ok(()) } else { Err(waited) }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        if let Some(turns) = self.turns.take() {
            turns.leave();
        }
    }
}

/// Runs each call as a task of its own; but a refusal at once, within the connection's, so that refusals that were read
/// together are written together.
#[derive(Clone, Debug)]
pub(super) struct CallExecutor(pub(super) Arc<Turns>);

impl<F: Future<Output = ()> + Send + 'static> Executor<F> for CallExecutor {
    fn execute(&self, call: F) {
        if !self.0.refused.swap(false, Ordering::Relaxed) {
            tokio::spawn(call);
            return;
        }
        let mut call: Pin<Box<F>> = Box::pin(call);
        if call.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending() {
            // Polled again with a waker that wakes.
            tokio::spawn(call);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MILLI: Duration = Duration::from_millis(1);

    impl Turns {
        fn each(&self) -> Duration {
            Duration::from_nanos(self.each.load(Ordering::Relaxed))
        }
    }

    /// Lets calls come in at once, `count` of them, and says how many may wait.
    fn burst(turns: &Arc<Turns>, at: Instant, count: usize) -> (Vec<Turn>, usize) {
        let (mut let_in, mut refused) = (Vec::new(), 0);
        for _ in 0..count {
            match turns.join(at) {
                Ok(turn) => let_in.push(turn),
                Err(_) => refused += 1,
            }
        }
        (let_in, refused)
    }

    #[test]
    fn as_long_as_it_has_rested_and_the_limit_may_be_waited_for() {
        let turns = Arc::new(Turns::new(5 * MILLI));
        // Nothing is known of what a call costs: all are let in.
        let (let_in, refused) = burst(&turns, turns.began, 1_000);
        assert_eq!((let_in.len(), refused), (1_000, 0));
        // Each has cost 1 ms.
        for turn in &let_in {
            turns.learn(turn.ahead, turn.ahead as u32 * MILLI);
        }
        drop(let_in);
        let each = turns.each();
        assert!(each > 9 * MILLI / 10 && each <= MILLI, "{each:?}");
        turns.each.store(1_000_000, Ordering::Relaxed);
        turns.rests(0, 1_000_000);
        let rested = turns.began + Duration::from_secs(1);
        let (mut let_in, refused) = burst(&turns, rested, 150);
        assert_eq!((let_in.len(), refused), (106, 44), "a tenth of a second and the limit");
        // Looking for the next batch is next to no rest: a millisecond in all.
        for look in 1..20 {
            turns.rests(1_000_000 + look * 10_000, 1_000_100 + look * 10_000);
        }
        let standing = rested + 190 * MILLI;
        assert_eq!(turns.join(standing).expect_err("standing"), 106 * MILLI);
        let_in.truncate(7);
        assert_eq!(turns.join(standing).expect_err("7 ms"), 7 * MILLI);
        let_in.truncate(6);
        let within = turns.join(standing).expect("within the limit");
        drop((let_in, within));
        assert_eq!(turns.waiting.load(Ordering::Relaxed), 0);
        // What was rested can be caught up on.
        turns.rests(1_280_000, 1_300_000);
        assert_eq!(burst(&turns, rested + 310 * MILLI, 50).1, 24);
        // Without any rest there is only the limit.
        assert_eq!(burst(&turns, rested + 501 * MILLI, 50).1, 44);
    }

    #[test]
    fn a_stall_is_forgotten_by_those_who_come_first() {
        let turns = Arc::new(Turns::new(5 * MILLI));
        // The machine stood still for ten seconds with two calls before one; there is never any rest.
        turns.learn(2, 10_000 * MILLI);
        let never_rested = turns.began + 10 * BURST;
        assert!(turns.each() > 300 * MILLI);
        // An average over 16 that forgets: after 200 nothing is left of it.
        for _ in 0..200 {
            let first = turns.join(never_rested).expect("nobody is before it");
            turns.learn(first.ahead, MILLI / 2);
        }
        let (let_in, refused) = burst(&turns, never_rested, 8);
        assert_eq!((let_in.len(), refused), (8, 0), "{:?} each", turns.each());
    }

    #[test]
    fn who_has_waited_beyond_any_burst_is_refused_all_the_same() {
        let turns = Arc::new(Turns::new(5 * MILLI));
        let mut turn = turns.join(Instant::now()).expect("let in");
        turn.arrived -= 2 * BURST;
        assert!(turn.take().expect_err("late") >= 2 * BURST);
        assert_eq!(turns.waiting.load(Ordering::Relaxed), 0);
    }
}
