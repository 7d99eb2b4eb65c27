//! How a sidecar shares its cores with others, the primary above all.

use std::str::FromStr;

/// As sched(7) has it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Scheduling {
    /// Only while nobody else wants the core (`SCHED_IDLE`). Whoever has niceness alone keeps the core for up to a slice, which is
    /// milliseconds, when others wake (EEVDF: Linux 6.6 and later); an idle thread loses it at once. Measured by tests/faults: beside
    /// a candidate that refuses connections the primary's p99 is 0.8 ms with niceness, 0.4 ms with this, and 0.35 ms without a sidecar.
    Idle,
    /// As all others, by niceness.
    #[default]
    Normal,
}

impl Scheduling {
    /// For the thread that asks for it, and those that it starts.
    ///
    /// # Errors
    /// What the system says.
    #[cfg(target_os = "linux")]
    pub fn apply(self) -> Result<(), String> {
        use thread_priority::{
            NormalThreadSchedulePolicy, ThreadPriority, ThreadSchedulePolicy, set_thread_priority_and_policy,
            thread_native_id,
        };
        let idle = ThreadSchedulePolicy::Normal(NormalThreadSchedulePolicy::Idle);
        match self {
            Self::Idle => set_thread_priority_and_policy(thread_native_id(), ThreadPriority::Min, idle)
                .map_err(|error| format!("SCHED_IDLE: {error}")),
            Self::Normal => Ok(()),
        }
    }

    /// There is no such thing on this system.
    ///
    /// # Errors
    /// None.
    #[cfg(not(target_os = "linux"))]
    pub fn apply(self) -> Result<(), String> {
        Ok(())
    }
}

impl FromStr for Scheduling {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "idle" => Ok(Self::Idle),
            "normal" => Ok(Self::Normal),
            _ => Err(format!("expected idle or normal, got {text:?}")),
        }
    }
}
