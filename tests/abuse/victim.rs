//! A neighbour who does nothing wrong: open loop, so that a server that stalls can't slow the clock down that it is judged by.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use support::{
    adult::test_set,
    grpc::{Call, PREDICT},
    open_loop::{OpenLoop, Schedule, Seen},
};

/// Calls a second.
const RATE: u32 = 500;

/// A running neighbour with one connection.
#[derive(Debug)]
pub(crate) struct Victim(OpenLoop);

impl Victim {
    pub(crate) fn start(address: SocketAddr) -> Self {
        let calls = Arc::new([Call::new(PREDICT, &test_set().predict(0..1))]);
        Self(OpenLoop::start(address, calls, &Schedule { rate: RATE, connections: 1, warm_up: Duration::ZERO }))
    }

    pub(crate) fn stop(self) -> Seen {
        self.0.stop()
    }
}

/// What a neighbour's p99 is without an attack, and how much of an attack's effect on it is this machine's.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Baseline {
    /// The median of quiet windows.
    pub(crate) quiet: Duration,
    /// The worst of them, and of one in which a thread does nothing but compute next to the victim.
    pub(crate) floor: Duration,
}

impl Baseline {
    pub(crate) async fn measure(address: SocketAddr, window: Duration) -> Self {
        let mut quiet = Vec::new();
        for _ in 0..3 {
            quiet.push(Self::window(address, window).await);
        }
        quiet.sort_unstable();
        let stop = Arc::new(AtomicBool::new(false));
        let told = stop.clone();
        let spinner = thread::spawn(move || {
            while !told.load(Ordering::Relaxed) {
                std::hint::spin_loop();
            }
        });
        let busy = Self::window(address, window).await;
        stop.store(true, Ordering::Relaxed);
        drop(spinner.join());
        Self { quiet: quiet[1], floor: busy.max(quiet[2]) }
    }

    async fn window(address: SocketAddr, window: Duration) -> Duration {
        let victim = Victim::start(address);
        tokio::time::sleep(window).await;
        let seen = tokio::task::spawn_blocking(move || victim.stop()).await.expect("the victim's thread");
        seen.p99()
    }

    /// Twice the quiet p99 (P18), or twice the noise floor where that is more.
    pub(crate) fn allowed(self) -> Duration {
        2 * self.floor.max(self.quiet)
    }

    /// Whether the neighbour was left alone, and what to print.
    pub(crate) fn judge(self, seen: &Seen) -> (bool, String) {
        let text = format!("victim {} calls, {} errors, p99 {:.1?}", seen.calls, seen.failed, seen.p99());
        let first = seen.errors.first().map(|error| format!(" ({error})")).unwrap_or_default();
        (seen.failed == 0 && seen.p99() <= self.allowed(), text + &first)
    }
}
