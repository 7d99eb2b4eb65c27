//! Whose call is next. Start-time fair queuing (Goyal, Vin and Cheng, IEEE/ACM Transactions on Networking 5(5), 1997): each call
//! gets a place in a time that goes on with the work that is done, behind the work of its own client and of nobody else. A client
//! that has asked for little since the last look is before one that has asked for much.

use std::{
    cmp::{Ordering, Reverse},
    collections::{BinaryHeap, HashMap},
    sync::{
        Arc, Weak,
        atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use tokio::sync::oneshot;

/// What a worker knows of one client. Written by the worker's thread only, under the lock of its queue.
#[derive(Debug, Default)]
pub(crate) struct Account {
    /// Calls that were let in and whose work has not begun...
    let_in: AtomicUsize,
    /// ...since the worker had rested so often.
    rests: AtomicU64,
    /// Where the next of its calls comes at the earliest.
    behind: AtomicU64,
}

impl Account {
    fn let_in(&self, rests: u64) -> usize {
        if self.rests.load(Relaxed) == rests { self.let_in.load(Relaxed) } else { 0 }
    }

    fn set(&self, let_in: usize, rests: u64) {
        self.let_in.store(let_in, Relaxed);
        self.rests.store(rests, Relaxed);
    }
}

/// Calls that are complete and wait.
#[derive(Debug, Default)]
pub(super) struct Queue {
    /// How often the worker has rested.
    rests: u64,
    waiting: BinaryHeap<Reverse<Waiting>>,
    /// Nanoseconds of work: the place of the call that has begun last.
    now: u64,
    /// Orders what has the same place.
    pushed: u64,
    accounts: HashMap<u64, Weak<Account>>,
    /// How many accounts there may be until those that are gone are looked for.
    room: usize,
}

/// Where a call was let in.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    start: u64,
    /// What it was thought to take.
    nanos: u64,
    /// How often the worker had rested.
    rests: u64,
}

impl Place {
    /// Where it goes on that has worked for so long.
    pub(super) fn after(self, worked: Duration) -> Self {
        Self { start: self.start.saturating_add(worked.as_nanos() as u64), ..self }
    }
}

#[derive(Debug)]
struct Waiting {
    start: u64,
    pushed: u64,
    call: oneshot::Sender<()>,
}

impl PartialEq for Waiting {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Waiting {}

impl PartialOrd for Waiting {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Waiting {
    fn cmp(&self, other: &Self) -> Ordering {
        (self.start, self.pushed).cmp(&(other.start, other.pushed))
    }
}

impl Queue {
    /// Kept for as long as somebody else keeps it.
    pub(super) fn account(&mut self, key: u64) -> Arc<Account> {
        if let Some(known) = self.accounts.get(&key).and_then(Weak::upgrade) {
            return known;
        }
        if self.accounts.len() >= self.room {
            self.accounts.retain(|_, account| account.strong_count() > 0);
            self.room = (2 * self.accounts.len()).max(64);
        }
        let account = Arc::new(Account::default());
        self.accounts.insert(key, Arc::downgrade(&account));
        account
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// A call of `account` is let in, which is thought to take `nanos`.
    pub(super) fn enter(&self, account: &Account, nanos: u64) -> Place {
        account.set(account.let_in(self.rests) + 1, self.rests);
        let start = account.behind.load(Relaxed).max(self.now);
        account.behind.store(start + nanos, Relaxed);
        Place { start, nanos, rests: self.rests }
    }

    /// Whether the call at `place` is among those that were let in.
    pub(super) fn counts(&self, place: Place) -> bool {
        place.rests == self.rests
    }

    /// It is not any more; false when it was not.
    pub(super) fn leave(&self, account: &Account, place: Place) -> bool {
        let counted = self.counts(place);
        if counted {
            account.set(account.let_in(self.rests).saturating_sub(1), self.rests);
        }
        counted
    }

    /// All that were let in are not counted any more.
    pub(super) fn forgets(&mut self) {
        self.rests += 1;
    }

    /// Calls that would be answered before one more of `account`: of every client as many as it would have itself.
    pub(super) fn before(&self, account: &Account) -> usize {
        let own = account.let_in(self.rests) + 1;
        let all = self.accounts.values().filter_map(Weak::upgrade);
        all.map(|other| other.let_in(self.rests).min(own)).sum()
    }

    /// The call at `place` is complete and waits.
    pub(super) fn push(&mut self, place: Place, call: oneshot::Sender<()>) {
        self.pushed += 1;
        self.waiting.push(Reverse(Waiting { start: place.start, pushed: self.pushed, call }));
    }

    /// Who is next.
    pub(super) fn next(&mut self) -> Option<oneshot::Sender<()>> {
        let Reverse(Waiting { start, call, .. }) = self.waiting.pop()?;
        self.now = self.now.max(start);
        Some(call)
    }

    /// The call at `place` begins, and had nobody to wait for.
    pub(super) fn begins(&mut self, place: Place) {
        self.now = self.now.max(place.start);
    }

    /// The call of `account` at `place` has taken `nanos`.
    pub(super) fn ends(account: &Account, place: Place, nanos: u64) {
        let behind = account.behind.load(Relaxed);
        account.behind.store((behind + nanos).saturating_sub(place.nanos), Relaxed);
    }
}
