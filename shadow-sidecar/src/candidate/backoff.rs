//! A server that can't be reached, or whose answers are all longer than they may be, is left alone for a while. Every exchange would else
//! open a connection, or take what is on its way before the answer can be stopped: a candidate whose certificate has expired made the
//! sidecar shake hands a thousand times a second, and one that answers with 100 MiB each made it take 300 MiB a second, on the primary's
//! own machine.

use std::{
    error::Error,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use tonic::{Code, ConnectError, Status, TimeoutExpired, transport};

/// Connections may break now and then, and what was under way on them breaks with them. An answer may be too long now and then, too.
const FAILURES: u32 = 3;
/// The first pause and the longest; each is twice the one before.
const PAUSES: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));

/// When to try again.
#[derive(Debug, Default)]
pub(super) struct Backoff(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// One after the other, of the connection or for the length of an answer.
    failures: u32,
    pause: Duration,
    until: Option<Instant>,
    /// The last one.
    too_long: bool,
}

/// What is no answer of a call but a reason to leave the server alone.
enum Trouble {
    /// There never was a connection.
    Unreachable,
    /// The connection has failed, and not the call.
    Broken,
    /// The answer is longer than it may be.
    TooLong,
}

impl Backoff {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// # Errors
    /// It is not time yet: UNAVAILABLE, or OUT_OF_RANGE as for an answer that is too long.
    pub(super) fn check(&self, now: Instant) -> Result<(), Status> {
        let state = self.state();
        match state.until {
            Some(until) if now < until && state.too_long => {
                Err(Status::out_of_range(format!("its answers are too long; asked again in {:.0?}", until - now)))
            }
            Some(until) if now < until => {
                Err(Status::unavailable(format!("can't be reached; tried again in {:.0?}", until - now)))
            }
            _ => Ok(()),
        }
    }

    /// A call has ended.
    pub(super) fn ended(&self, outcome: Result<(), &Status>, now: Instant) {
        let mut state = self.state();
        let Some(trouble) = outcome.err().and_then(trouble) else {
            if state.failures > 0 {
                *state = State::default();
            }
            return;
        };
        state.failures = state.failures.saturating_add(1);
        state.too_long = matches!(trouble, Trouble::TooLong);
        // Calls that were under way together fail together: that is one failure.
        let pausing = state.until.is_some_and(|until| now < until);
        if (matches!(trouble, Trouble::Unreachable) || state.failures >= FAILURES) && !pausing {
            state.pause = (2 * state.pause).clamp(PAUSES.0, PAUSES.1);
            state.until = Some(now + state.pause);
        }
    }
}

/// The status of a call, UNAVAILABLE where its connection has ended: the library says CANCELLED or UNKNOWN of some, as if the
/// candidate had.
pub(super) fn told(status: Status) -> Status {
    match trouble(&status) {
        Some(Trouble::Unreachable | Trouble::Broken) => Status::unavailable(status.message()),
        Some(Trouble::TooLong) | None => status,
    }
}

/// How the library begins what it says of an answer that is too long. A candidate that says so itself is left alone just as well.
const TOO_LONG: &str = "Error, decoded message length too large";

fn trouble(status: &Status) -> Option<Trouble> {
    if status.code() == Code::OutOfRange && status.message().starts_with(TOO_LONG) {
        return Some(Trouble::TooLong);
    }
    let mut cause = status.source();
    let mut broken = None;
    while let Some(error) = cause {
        if error.is::<ConnectError>() {
            return Some(Trouble::Unreachable);
        }
        // It was too late, or the candidate has reset the call, on a connection as good as any.
        if error.is::<TimeoutExpired>() || error.downcast_ref::<h2::Error>().is_some_and(h2::Error::is_reset) {
            return None;
        }
        if error.is::<transport::Error>() || error.is::<h2::Error>() {
            broken = Some(Trouble::Broken);
        }
        cause = error.source();
    }
    broken
}

#[cfg(test)]
mod tests {
    use std::{io, sync::Arc};

    use super::*;

    #[test]
    fn pauses_grow_until_it_answers() {
        let backoff = Backoff::default();
        let refused = Status::from_error(Box::new(ConnectError(Box::new(io::Error::other("refused")))));
        let mut now = Instant::now();
        for pause in [50, 100, 200, 400, 800, 1_000, 1_000] {
            backoff.check(now).expect("time to try");
            backoff.ended(Err(&refused), now);
            // The others that were under way.
            backoff.ended(Err(&refused), now);
            let pause = Duration::from_millis(pause);
            let early = pause.saturating_sub(Duration::from_millis(1));
            assert_eq!(backoff.check(now + early).expect_err("too early").code(), tonic::Code::Unavailable);
            now += pause;
        }
        backoff.check(now).expect("time to try");
        // It refuses the call, so it is there.
        backoff.ended(Err(&Status::not_found("no such model")), now);
        backoff.check(now).expect("reached");
        backoff.ended(Err(&refused), now);
        backoff.check(now + PAUSES.0).expect("the first pause again");
    }

    #[test]
    fn answers_that_are_too_long_one_after_the_other_are_not_asked_for() {
        let backoff = Backoff::default();
        let now = Instant::now();
        let too_long = Status::out_of_range(format!("{TOO_LONG}: found 2 bytes, the limit is: 1 bytes"));
        for _ in 0..10 {
            backoff.ended(Err(&too_long), now);
            backoff.ended(Err(&too_long), now);
            backoff.check(now).expect("now and then");
            backoff.ended(Ok(()), now);
        }
        for _ in 0..FAILURES {
            backoff.check(now).expect("not yet");
            backoff.ended(Err(&too_long), now);
        }
        assert_eq!(backoff.check(now).expect_err("too early").code(), Code::OutOfRange);
        backoff.check(now + PAUSES.0).expect("time to ask");
        // What a candidate says of a request is an answer.
        backoff.ended(Err(&Status::out_of_range("row 3")), now + PAUSES.0);
        backoff.check(now + PAUSES.0).expect("it answers");
    }

    #[test]
    fn what_a_candidate_says_is_no_broken_connection() {
        let backoff = Backoff::default();
        let now = Instant::now();
        for status in [Status::unavailable("overloaded"), Status::internal("panicked"), Status::deadline_exceeded("")] {
            for _ in 0..10 {
                backoff.ended(Err(&status), now);
            }
        }
        backoff.check(now).expect("it answers");
        let mut status = Status::unavailable("broken pipe");
        status.set_source(Arc::new(io::Error::other("some cause")));
        assert!(trouble(&status).is_none());
    }
}
