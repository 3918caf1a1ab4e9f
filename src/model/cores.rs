//! Physical cores, and what a program is given of them.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A physical core: all its threads come and go together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Core {
    /// What the kernel calls its cpus, in order; one without SMT.
    pub threads: Vec<u32>,
    /// The NUMA node it belongs to; 0 where there are none.
    pub node: u32,
    /// How fast it is beside the others, in no unit: hybrid machines have two kinds and more.
    pub strength: u64,
}

/// How cores are used that are a program's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pin {
    /// All threads of each.
    Whole,
    /// One thread of each; the others stay idle.
    Exclusive,
}

/// Where a program may run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Placement {
    pub cpus: Vec<u32>,
    /// Its own as well, and to be idle.
    pub idle: Vec<u32>,
    /// Which node its memory is to come from, where there are several.
    pub node: Option<u32>,
}

/// How undisturbed a program ran on cores of its own. What the host cannot tell is null.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Quality {
    /// How long the cpu limit held it back.
    pub throttled_ns: Option<u64>,
    /// How often its cpus were slowed down for heat, siblings counted each.
    pub heat_throttles: Option<u64>,
    /// How long a hypervisor withheld its cores, in steps of 10 ms.
    pub stolen_ns: Option<u64>,
    /// How long the siblings that were to be idle were not, in steps of 10 ms; null where there are none.
    pub siblings_busy_ns: Option<u64>,
    /// The most of its memory that was in swap.
    pub swap_peak_bytes: Option<u64>,
    /// How often its memory was reclaimed for `memory.high`.
    pub memory_high_events: Option<u64>,
    /// What governs its cores' frequency.
    pub governor: Option<String>,
}
