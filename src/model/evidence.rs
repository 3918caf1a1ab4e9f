//! What was seen of one job; the verdict is made of this alone.

use super::outcome::{Collected, Stream, Usage};
use super::wire::{Exit, StartFailure};

/// Why the job was stopped, written by the hand that stopped it. The first cause stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    Cancelled,
    OutputLimit(Channel),
    Memory,
    CpuTime,
    WallTime,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Channel {
    Stdout,
    Stderr,
}

/// What became of the program itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fate {
    /// Neither started nor refused: we were stopped before, or failed.
    NotReached,
    NotStarted(StartFailure),
    /// Its execve succeeded, and it ended so; `None` if the cell ended without init's word.
    Ran(Option<Exit>),
}

#[derive(Clone, Debug)]
pub struct Evidence {
    pub fate: Fate,
    pub stop: Option<Stop>,
    /// Something that is not the program's doing.
    pub host_fault: Option<String>,
    pub usage: Usage,
    pub stdout: Stream,
    pub stderr: Stream,
    pub files: Collected,
}
