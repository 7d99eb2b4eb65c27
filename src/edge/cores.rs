//! The cores that a process may use, and how many of its threads are at work.

use std::{
    num::NonZero,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

/// Whoever thinks of giving work to another thread asks here first: without a core for it both would only be late. Threads of other
/// processes are not seen.
#[derive(Debug)]
pub struct Cores {
    all: usize,
    busy: AtomicUsize,
}

impl Cores {
    /// Those that the system lets this process use: its affinity, and the quota of its cgroup.
    pub fn available() -> Arc<Self> {
        Self::of(thread::available_parallelism().map_or(1, NonZero::get))
    }

    /// As if there were `all`.
    pub fn of(all: usize) -> Arc<Self> {
        Arc::new(Self { all, busy: AtomicUsize::new(0) })
    }

    /// Whether one has nothing to do.
    pub fn has_idle(&self) -> bool {
        self.busy.load(Ordering::Relaxed) < self.all
    }

    /// A thread is at work for as long as the answer is kept.
    pub fn work(self: &Arc<Self>) -> Working {
        self.busy.fetch_add(1, Ordering::Relaxed);
        Working(self.clone())
    }
}

/// A thread that is at work.
#[derive(Debug)]
pub struct Working(Arc<Cores>);

impl Drop for Working {
    fn drop(&mut self) {
        self.0.busy.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_core_is_idle_while_fewer_threads_work() {
        let cores = Cores::of(2);
        let first = cores.work();
        assert!(cores.has_idle());
        let second = cores.work();
        assert!(!cores.has_idle());
        let third = cores.work();
        drop((first, second));
        assert!(cores.has_idle());
        drop(third);
        assert!(cores.has_idle() && cores.busy.load(Ordering::Relaxed) == 0);
    }
}
