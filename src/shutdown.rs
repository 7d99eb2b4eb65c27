//! The end of a process, in phases that everything with a long life follows: answer as before, say "not serving" and go on
//! answering, take no new connections and finish what is in flight, be gone.

use std::thread;

use tokio::sync::{oneshot, watch};

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

/// Completes on SIGTERM or SIGINT. A second signal ends the process at once with exit code 130, whatever the caller's runtime is doing
/// or whether it is there at all: a thread of its own waits for it.
///
/// # Errors
/// The handlers can't be installed.
pub fn signal() -> std::io::Result<impl Future<Output = ()> + Send> {
    use tokio::signal::unix::{SignalKind, signal};
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    let (mut term, mut int) = {
        let _within = runtime.enter();
        (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?)
    };
    let (send, receive) = oneshot::channel();
    let waiting = async move {
        let mut next = async || {
            tokio::select! {
                _ = term.recv() => "SIGTERM",
                _ = int.recv() => "SIGINT",
            }
        };
        let which = next().await;
        tracing::info!(signal = which, "shutting down; a second signal ends the process at once");
        if send.send(()).is_err() {
            tracing::debug!("nobody waits for the signal any more: the process is on its way out already");
        }
        next().await;
        #[expect(clippy::exit, reason = "whoever signals twice does not want to wait for destructors")]
        std::process::exit(130);
    };
    thread::Builder::new().name("signals".into()).spawn(move || runtime.block_on(waiting))?;
    Ok(async move { drop(receive.await) })
}
