//! What was measured on.

use std::fs;

use serde::Serialize;

/// The processor, and how busy it was.
#[derive(Debug, Clone, Serialize)]
pub struct Machine {
    pub cpu: String,
    pub cpus: usize,
    /// Of the instruction sets that matter here, those that the processor has.
    pub instructions: Vec<String>,
    /// Over 1, 5 and 15 minutes.
    pub load_average: String,
}

impl Machine {
    pub fn now() -> Self {
        let text = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let field = |name: &str| {
            let line = text.lines().find(|line| line.split(':').next().is_some_and(|key| key.trim() == name));
            line.and_then(|line| line.split_once(':')).map_or("unknown", |(_, value)| value.trim()).to_owned()
        };
        let flags = field("flags");
        let wanted = ["avx2", "fma", "avx512f", "avx512bw", "avx512_vbmi"];
        let instructions = wanted.iter().filter(|&&flag| flags.split(' ').any(|have| have == flag));
        let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
        Self {
            cpu: format!("{} (family {}, model {})", field("model name"), field("cpu family"), field("model")),
            cpus: std::thread::available_parallelism().map_or(1, usize::from),
            instructions: instructions.map(|&flag| flag.to_owned()).collect(),
            load_average: load.split(' ').take(3).collect::<Vec<_>>().join(" "),
        }
    }
}
