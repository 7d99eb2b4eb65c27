//! The turn of one call.

use std::{
    sync::{Arc, MutexGuard},
    time::{Duration, Instant},
};

use tokio::sync::oneshot;
use tonic::Status;

use super::{
    BURST, SLICE, State, Turns,
    fair::{Account, Place, Queue},
};

/// The turn of one call, from its headers to the end of what is done for it at once.
#[derive(Debug)]
pub struct Turn(pub(super) Option<Wait>);

#[derive(Debug)]
pub(super) struct Wait {
    turns: Arc<Turns>,
    account: Arc<Account>,
    place: Place,
    /// Its work, but for what it does now.
    worked: Duration,
    pub(super) stage: Stage,
}

#[derive(Debug)]
pub(super) enum Stage {
    /// Its message is still to be read.
    Coming,
    /// It waits to be called.
    Waiting(oneshot::Receiver<()>),
    /// It works since.
    Working(Instant),
    /// It has worked for a slice, or more, and waits to be called for the next.
    Paused(oneshot::Receiver<()>),
    /// It was called too late: nothing is learnt from how little it takes then, or ever more would be let in.
    Late,
}

impl Turn {
    /// Of a call of `account` whose headers have come.
    pub(super) fn of(turns: &Arc<Turns>, account: &Arc<Account>, place: Place) -> Self {
        let (turns, account) = (turns.clone(), account.clone());
        Self(Some(Wait { turns, account, place, worked: Duration::ZERO, stage: Stage::Coming }))
    }

    /// Of a call that is answered whenever it comes.
    pub(in crate::edge) fn exempt() -> Self {
        Self(None)
    }

    /// The message is there; returns when the work may begin. The work is what is done until [`Self::end`], at once.
    ///
    /// # Errors
    /// RESOURCE_EXHAUSTED with `grpc-retry-pushback-ms` when it would wait, or has waited, longer than anybody should. It is
    /// counted.
    pub(in crate::edge) async fn begin(&mut self) -> Result<(), Status> {
        let Some(wait) = &mut self.0 else { return Ok(()) };
        let now = Instant::now();
        if wait.begins_at_once(now)? {
            return Ok(());
        }
        if let Stage::Waiting(called) = &mut wait.stage {
            // It can't fail: who is in the queue is called.
            drop(called.await);
        }
        let began = Instant::now();
        wait.turns.state().leave(&wait.account, wait.place);
        let waited = began.duration_since(now);
        if waited > wait.turns.limit.saturating_add(BURST) {
            wait.stage = Stage::Late;
            return Err(wait.turns.busy(waited));
        }
        wait.stage = Stage::Working(began);
        Ok(())
    }

    /// Its work takes long: returns at once while the slice is not over, else when it is its turn again, after who has just come and
    /// those who have asked for less.
    pub async fn next_slice(&mut self) {
        let Some(wait) = &mut self.0 else { return tokio::task::yield_now().await };
        wait.pauses(Instant::now());
        if let Stage::Paused(called) = &mut wait.stage {
            // It can't fail, as in `begin`.
            drop(called.await);
            wait.stage = Stage::Working(Instant::now());
        }
    }

    /// What is done at once is done, and the rest is done elsewhere: the next one may begin.
    pub fn end(&mut self) {
        self.0 = None;
    }
}

impl Wait {
    /// False when it has joined the queue instead.
    fn begins_at_once(&mut self, now: Instant) -> Result<bool, Status> {
        let mut state = self.turns.state();
        if !state.queue.counts(self.place) {
            // Slow, and not counted any more.
            if let Some(wait) = state.too_long(&self.account, self.turns.limit, now) {
                drop(state);
                return Err(self.turns.busy(wait));
            }
            Queue::ends(&self.account, self.place, 0);
            self.place = state.enter(&self.account);
        }
        if !state.held && state.queue.is_empty() && state.spent < SLICE {
            state.held = true;
            state.queue.begins(self.place);
            state.leave(&self.account, self.place);
            drop(state);
            self.stage = Stage::Working(now);
            return Ok(true);
        }
        let (call, called) = oneshot::channel();
        state.queue.push(self.place, call);
        let is_held = state.held;
        drop(state);
        self.stage = Stage::Waiting(called);
        if !is_held {
            self.turns.contended.notify_one();
        }
        Ok(false)
    }

    /// It was called and does not want to work any more.
    fn gives_up(&self) {
        let state = self.turns.state();
        Queue::ends(&self.account, self.place, 0);
        self.next(state);
    }

    /// Joins the queue again when the slice is over in which it works.
    pub(super) fn pauses(&mut self, now: Instant) {
        let Stage::Working(began) = self.stage else { return };
        let took = now.saturating_duration_since(began);
        let mut state = self.turns.state();
        if state.spent + took < SLICE {
            return;
        }
        state.works(took);
        self.worked += took;
        let (call, called) = oneshot::channel();
        state.queue.push(self.place.after(self.worked), call);
        self.next(state);
        self.stage = Stage::Paused(called);
    }

    /// Its work, which goes on since `began`, is done.
    fn ends(&self, began: Instant) {
        let took = began.elapsed();
        let mut state = self.turns.state();
        state.works(took);
        let all = self.worked + took;
        Queue::ends(&self.account, self.place, all.as_nanos() as u64);
        state.learn(all);
        self.next(state);
    }

    fn next(&self, mut state: MutexGuard<'_, State>) {
        if state.spent < SLICE {
            if !state.call_next() {
                Turns::reads_on(state);
            }
            return;
        }
        state.held = false;
        if state.queue.is_empty() {
            Turns::reads_on(state);
        } else {
            self.turns.contended.notify_one();
        }
    }
}

impl Drop for Wait {
    fn drop(&mut self) {
        match &mut self.stage {
            Stage::Coming => {
                let mut state = self.turns.state();
                state.leave(&self.account, self.place);
                Queue::ends(&self.account, self.place, 0);
            }
            Stage::Waiting(called) => {
                called.close();
                let was_called = called.try_recv().is_ok();
                let mut state = self.turns.state();
                state.leave(&self.account, self.place);
                Queue::ends(&self.account, self.place, 0);
                if was_called {
                    self.next(state);
                }
            }
            Stage::Paused(called) => {
                called.close();
                let was_called = called.try_recv().is_ok();
                let state = self.turns.state();
                Queue::ends(&self.account, self.place, self.worked.as_nanos() as u64);
                if was_called {
                    self.next(state);
                }
            }
            Stage::Late => self.gives_up(),
            &mut Stage::Working(began) => self.ends(began),
        }
    }
}
