//! Calls wait for their turn on a worker. Under more load than it can carry each would wait as long as all before it take, and
//! everybody in such a standing queue waits for nothing; so whoever would wait for too long is refused when it comes, by the
//! connection that has read its headers and before a task, a buffer or a place is spent on it.
//!
//! * What waits is counted from the headers on: whose message is still to be read will be work, too. Once a worker has rested,
//!   those that are not complete wait for their clients and not for us, and are forgotten until they are.
//! * What is complete waits in one queue, in which clients take turns by the time that their calls have taken ([`fair`]): whoever
//!   asks for little is next, however much another asks for.
//! * Between two calls, and within one that takes long, the sockets are looked at when a slice of time ([`SLICE`]) has gone by: who has
//!   just come should not wait for others' work. Who was refused last, or has read much, reads on less often: however fast others ask
//!   and are refused, most of the time goes to who was let in, and who asks for little is heard at once.
//! * A burst is worked off, a standing queue is not: a call may wait for as long as the worker has rested in the last tenth of a
//!   second, and since it has refused somebody, which is what it can catch up on, and for a short limit more. This is the rule of request queues under CoDel (Maurer,
//!   "Fail at Scale", ACM Queue 13(8), 2015; Nichols and Jacobson, ACM Queue 10(5), 2012) without its switch from one limit to the
//!   other, and applied to the wait that is to be expected.

use std::{
    future::poll_fn,
    hash::{BuildHasher, Hash, RandomState},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Poll, Waker},
    time::{Duration, Instant},
};

use tokio::sync::Notify;
use tonic::Status;

use self::{
    fair::{Account, Place, Queue},
    rest::Rest,
};
use super::{
    admission::busy,
    cores::{Cores, Working},
    instruments::{Instruments, Refusal},
};

mod fair;
mod rest;
mod turn;

pub use turn::Turn;

/// What a burst may take to be worked off.
const BURST: Duration = Duration::from_millis(100);
/// Work between two looks at the sockets, where calls wait.
const SLICE: Duration = Duration::from_micros(200);
/// Until those read on who are put off: at most so long, so that who is refused knows it soon...
const LONGEST_PAUSE: Duration = Duration::from_millis(2);
/// ...and so many times what it took them the last time, in work: reading what is refused must not starve what was let in.
const WORK_FOR_READING: u32 = 8;
/// Calls on whose cost the expected wait is based.
const REMEMBERED: u64 = 16;
/// A call that has taken so many times what others take was held up: by another process, or a quota that was used up. All that has come in
/// the meantime would be refused for it. What has really become dearer is learnt all the same, by half with each call.
const OUTLIER: u64 = 8;
/// A worker that has waited for so long has read all that there was to read.
const RESTED: Duration = Duration::from_micros(100);
/// What a message may take to come that nobody holds up. Not much of what a worker rests for is due to its clients before that.
const ON_THE_WAY: Duration = Duration::from_millis(5);

/// The calls of one worker. Only its thread comes here, so that nothing is ever contended.
#[derive(Debug)]
pub(super) struct Turns {
    /// Of a wait without any rest.
    limit: Duration,
    instruments: Arc<Instruments>,
    cores: Arc<Cores>,
    hasher: RandomState,
    state: Mutex<State>,
    /// Calls wait, and nobody works.
    contended: Notify,
}

#[derive(Debug)]
struct State {
    queue: Queue,
    /// The worker is awake.
    at_work: Option<Working>,
    rest: Rest,
    /// Calls that have been let in since the worker has rested and whose work has not begun.
    let_in: usize,
    /// Those that had not come were forgotten.
    forgot: Instant,
    /// Nanoseconds of work of a call, an average that forgets. What is done in between is not counted: who is refused would keep others from
    /// being let in.
    each: u64,
    /// Somebody works, or is called to.
    held: bool,
    /// Work since the last look at the sockets.
    spent: Duration,
    /// Connections that read on later...
    put_off: Vec<Waker>,
    /// ...since they have done so...
    read_on: Instant,
    /// ...and the work since then...
    worked: Duration,
    /// ...and until they do it again.
    pause: Duration,
    /// Pauses that are over.
    pauses: u64,
}

impl State {
    fn works(&mut self, took: Duration) {
        self.spent += took;
        self.worked += took;
    }

    fn learn(&mut self, cost: Duration) {
        let most = if self.each == 0 { u64::MAX } else { self.each.saturating_mul(OUTLIER) };
        self.each = self.each - self.each / REMEMBERED + (cost.as_nanos() as u64).min(most) / REMEMBERED;
    }

    /// How long a call of `account` would have to wait that comes at `now`, if that is too long: it is to be refused then.
    fn too_long(&mut self, account: &Account, limit: Duration, now: Instant) -> Option<Duration> {
        let wait = |calls: usize| Duration::from_nanos((calls as u64).saturating_mul(self.each));
        // Nearly always: a product and a comparison.
        if wait(self.let_in) <= limit {
            return None;
        }
        let expected = wait(self.queue.before(account));
        if expected <= limit || expected <= self.rest.allowed(limit, now) {
            return None;
        }
        self.rest.use_up();
        Some(expected)
    }

    fn enter(&mut self, account: &Account) -> Place {
        self.let_in += 1;
        self.queue.enter(account, self.each)
    }

    /// A call that was let in begins its work, or never will.
    fn leave(&mut self, account: &Account, place: Place) {
        if self.queue.leave(account, place) {
            self.let_in = self.let_in.saturating_sub(1);
        }
    }

    /// Calls who is next; false when nobody waits.
    fn call_next(&mut self) -> bool {
        self.held = false;
        while let Some(call) = self.queue.next() {
            // Whoever has gone in the meantime does not hear it.
            if call.send(()).is_ok() {
                self.held = true;
                return true;
            }
        }
        false
    }
}

impl Turns {
    pub(super) fn new(limit: Duration, instruments: Arc<Instruments>, cores: Arc<Cores>) -> Self {
        let at_work = Some(cores.work());
        Self {
            limit,
            instruments,
            cores,
            hasher: RandomState::new(),
            state: Mutex::new(State {
                queue: Queue::default(),
                at_work,
                rest: Rest::new(Instant::now()),
                let_in: 0,
                forgot: Instant::now(),
                each: 0,
                held: false,
                spent: Duration::ZERO,
                put_off: Vec::new(),
                read_on: Instant::now(),
                worked: Duration::ZERO,
                pause: SLICE,
                pauses: 0,
            }),
            contended: Notify::new(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// That of a client: the same for all of its connections to this worker.
    fn account(&self, key: u64) -> Arc<Account> {
        self.state().queue.account(key)
    }

    /// The headers of a call have been read at `now`.
    ///
    /// # Errors
    /// How long it would have to wait, which is too long. It is counted.
    fn join(self: &Arc<Self>, account: &Arc<Account>, now: Instant) -> Result<Turn, Duration> {
        let mut state = self.state();
        if let Some(wait) = state.too_long(account, self.limit, now) {
            drop(state);
            self.instruments.refused(Refusal::Queue);
            return Err(wait);
        }
        let place = state.enter(account);
        drop(state);
        Ok(Turn::of(self, account, place))
    }

    /// The worker is out of work at `now`.
    pub(super) fn parks(&self, now: Instant) {
        let mut state = self.state();
        state.rest.begins(now);
        state.at_work = None;
        // Nobody waits here for others, whatever has gone wrong.
        Self::reads_on(state);
    }

    /// There is work again at `now`, and the sockets have been looked at.
    pub(super) fn wakes(&self, now: Instant) {
        let mut state = self.state();
        state.at_work = Some(self.cores.work());
        (state.spent, state.worked, state.pause) = (Duration::ZERO, Duration::ZERO, SLICE);
        if state.rest.ends(now) >= RESTED && now.saturating_duration_since(state.forgot) >= ON_THE_WAY {
            state.forgot = now;
            state.let_in = 0;
            state.queue.forgets();
        }
    }

    /// Calls those who wait, a slice at a time with a look at the sockets before each. Never ends.
    pub(super) async fn call(&self) {
        loop {
            self.contended.notified().await;
            let looks = Instant::now();
            let is_due = self.ends_pause(looks);
            // A task that yields is woken after the driver has been polled; and once more, so that the calls which have just been
            // read are in the queue, too.
            tokio::task::yield_now().await;
            give_way().await;
            let mut state = self.state();
            state.spent = Duration::ZERO;
            if is_due {
                state.worked = Duration::ZERO;
                state.pause = looks.elapsed().saturating_mul(WORK_FOR_READING).clamp(SLICE, LONGEST_PAUSE);
            }
            if !state.held && !state.call_next() {
                Self::reads_on(state);
            }
        }
    }

    /// A connection has read much, or its last call was refused. While calls wait it reads on after the pause that is returned, and is
    /// woken then.
    pub(super) fn puts_off(&self, waker: &Waker) -> Option<u64> {
        let mut state = self.state();
        if !state.held || state.queue.is_empty() {
            return None;
        }
        state.put_off.push(waker.clone());
        Some(state.pauses)
    }

    /// Whether that pause is not over.
    pub(super) fn is_pausing(&self, pause: u64) -> bool {
        self.state().pauses == pause
    }

    /// Lets those read on who are put off, if it is time.
    fn ends_pause(&self, now: Instant) -> bool {
        let mut state = self.state();
        let is_due = state.worked >= state.pause || now.duration_since(state.read_on) >= LONGEST_PAUSE;
        if is_due {
            state.read_on = now;
            Self::reads_on(state);
        }
        is_due
    }

    fn reads_on(mut state: MutexGuard<'_, State>) {
        state.pauses += 1;
        let put_off = std::mem::take(&mut state.put_off);
        drop(state);
        put_off.into_iter().for_each(Waker::wake);
    }

    fn busy(&self, wait: Duration) -> Status {
        self.instruments.refused(Refusal::Queue);
        late(wait)
    }
}

/// Lets every task run that is ready now.
async fn give_way() {
    let mut given = false;
    poll_fn(|context| {
        if std::mem::replace(&mut given, true) {
            return Poll::Ready(());
        }
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

/// Where the calls of a connection come from.
#[derive(Debug)]
pub(super) struct Seat {
    turns: Arc<Turns>,
    account: Arc<Account>,
    /// Of the token that was seen last.
    by_token: Mutex<Option<(u64, Arc<Account>)>>,
}

impl Seat {
    pub(super) fn new(turns: &Arc<Turns>, client: impl Hash) -> Self {
        let account = turns.account(turns.hasher.hash_one(client));
        Self { turns: turns.clone(), account, by_token: Mutex::default() }
    }

    /// As [`Turns::join`], for the client that `token` tells apart from others on this connection.
    pub(super) fn join(&self, token: Option<&[u8]>, now: Instant) -> Result<Turn, Duration> {
        let Some(token) = token else { return self.turns.join(&self.account, now) };
        let key = self.turns.hasher.hash_one(token);
        let mut last = self.by_token.lock().unwrap_or_else(PoisonError::into_inner);
        let known = last.take_if(|(known, _)| *known == key);
        let (_, account) = last.insert(known.unwrap_or_else(|| (key, self.turns.account(key))));
        self.turns.join(account, now)
    }
}

/// What is said to whoever is refused. In whole milliseconds: the same to many, which a connection then says in a byte (HPACK).
pub(super) fn late(wait: Duration) -> Status {
    let wait = Duration::from_millis(wait.as_micros().div_ceil(1_000) as u64);
    busy(&format!("calls wait for {wait:?} already"), wait)
}

#[cfg(test)]
mod tests;
