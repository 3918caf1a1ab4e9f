//! A reading of a cell's counters. What a kernel does not count is unknown, not 0.

/// One reading.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    pub cpu_ns: Option<u64>,
    pub user_ns: Option<u64>,
    pub system_ns: Option<u64>,
    pub throttled_ns: Option<u64>,
    pub memory_now: Option<u64>,
    pub memory_peak: Option<u64>,
    pub oom_kills: Option<u64>,
    pub pids_peak: Option<u64>,
    pub io_read: Option<u64>,
    pub io_write: Option<u64>,
}
