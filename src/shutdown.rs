//! The end of a process, in phases that everything with a long life follows: answer as before, say "not serving" and go on
//! answering, take no new connections and finish what is in flight, be gone.

use tokio::sync::watch;

/// Where a process is in its life. The order is the order of time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// Answering.
    Running,
    /// Health says `NOT_SERVING`, so that load balancers look elsewhere; requests are still answered.
    Draining,
    /// No new connection or stream; what is in flight may end.
    Closing,
}

/// The side that decides.
#[derive(Clone, Debug)]
pub struct Shutdown(watch::Sender<Phase>);

/// The side that follows. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Phases(watch::Receiver<Phase>);

impl Shutdown {
    /// A process that is running.
    pub fn new() -> (Self, Phases) {
        let (send, receive) = watch::channel(Phase::Running);
        (Self(send), Phases(receive))
    }

    /// Moves on to `phase`; never back.
    pub fn advance(&self, phase: Phase) {
        self.0.send_if_modified(|now| {
            let later = phase > *now;
            if later {
                *now = phase;
            }
            later
        });
    }
}

impl Phases {
    /// The phase now.
    pub fn now(&self) -> Phase {
        *self.0.borrow()
    }

    /// Waits until `phase` is reached. Also returns when the deciding side is gone: nobody can drain any more.
    pub async fn reached(&self, phase: Phase) {
        let mut receiver = self.0.clone();
        // An error means that the sender is gone, which is as good as the end.
        drop(receiver.wait_for(|now| *now >= phase).await);
    }
}

/// Completes on SIGTERM or SIGINT. A second signal ends the process at once with exit code 130.
///
/// # Errors
/// The handlers can't be installed.
pub fn signal() -> std::io::Result<impl Future<Output = ()> + Send> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut term = signal(SignalKind::terminate())?;
    let mut int = signal(SignalKind::interrupt())?;
    Ok(async move {
        let which = tokio::select! {
            _ = term.recv() => "SIGTERM",
            _ = int.recv() => "SIGINT",
        };
        tracing::info!(signal = which, "shutting down; a second signal ends the process at once");
        tokio::spawn(async move {
            tokio::select! { _ = term.recv() => {}, _ = int.recv() => {} }
            #[expect(clippy::exit, reason = "whoever signals twice does not want to wait for destructors")]
            std::process::exit(130);
        });
    })
}
