//! The record of a run: what it is and how far it has come. Written whole, before each act that it announces.

use super::names::{JobId, RunId};
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    pub run: RunId,
    pub id: Option<JobId>,
    pub state: RunState,
    /// The supervisor, by pid and start time (field 22 of /proc/PID/stat), so that a recycled pid is never taken for it.
    pub supervisor: Process,
    pub argv0: String,
    /// The cell's group relative to each cgroup mount.
    pub cgroup: String,
    /// The first of the cell's host ids, once leased.
    pub first_id: Option<u32>,
    /// What a waiting cell was charged with when it began to wait, in bytes; null where the host cannot tell.
    #[serde(default)]
    pub floor: Option<u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    pub pid: i32,
    pub start_ticks: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RunState {
    Preparing,
    /// A cell that waits for its job.
    Waiting,
    /// Written before the program can run: from here on a run is never repeated.
    Running,
    /// It is over, and something of it could not be removed: where all is gone, so is the record.
    Complete,
    Cancelled,
}

impl RunState {
    /// A run moves forward only, and its end is decided once.
    pub fn may_become(self, next: Self) -> bool {
        use RunState::{Cancelled, Complete, Preparing, Running, Waiting};
        matches!(
            (self, next),
            (Preparing, Waiting | Running | Complete | Cancelled)
                | (Waiting, Running | Cancelled)
                | (Running, Complete | Cancelled)
        )
    }
}

#[cfg(test)]
mod tests {
    use super::RunState::{self, Cancelled, Complete, Preparing, Running, Waiting};

    #[test]
    fn an_end_is_final() {
        for end in [Complete, Cancelled] {
            for next in [Preparing, Waiting, Running, Complete, Cancelled] {
                assert!(!RunState::may_become(end, next), "{end:?} -> {next:?}");
            }
        }
        assert!(Preparing.may_become(Running) && !Running.may_become(Preparing));
        assert!(Waiting.may_become(Running) && !Running.may_become(Waiting));
    }
}
