//! A batch's copy of its runtime. To make one costs as much as a few cells gain by it, so it is made when so many have been started;
//! by a process beside, while jobs run. Where none can be made, the runtime is executed from its file as ever.

use crate::os::apart;
use crate::os::error::OsResult;
use crate::os::process::Process;
use crate::runtime::driver::Runtime;
use crate::runtime::replica::{Draft, Replica};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::PathBuf;

/// A copy takes 28 ms and its trial 10, and it spares each cell 2 to 3 (runc 1.1.5, `os/replica.rs`).
const WORTH: usize = 20;

/// Who makes it, if anybody is to.
#[derive(Debug)]
pub enum Copyist {
    /// After so many cells more.
    Waiting(PathBuf, usize),
    Working(Process, Draft),
    Done(Replica),
    /// It would be of no use, or could not be made.
    Idle,
}

impl Copyist {
    pub fn of(runtime: &Runtime) -> Self {
        if runtime.quirks.sealed { Self::Waiting(runtime.binary.clone(), WORTH) } else { Self::Idle }
    }

    /// A job has begun that needs a cell.
    pub fn begins(&mut self) {
        if let Self::Waiting(binary, left) = self {
            *left = left.saturating_sub(1);
            if *left == 0 {
                *self = Self::start(binary.clone()).unwrap_or(Self::Idle);
            }
        }
    }

    fn start(binary: PathBuf) -> OsResult<Self> {
        let draft = Draft::new(&binary)?;
        // Whether it has succeeded is seen by the copy.
        let process = apart::beside(&[draft.as_fd()], || drop(draft.fill()))?;
        Ok(Self::Working(process, draft))
    }

    /// Readable when it has done what it could.
    pub fn source(&self) -> Option<BorrowedFd<'_>> {
        if let Self::Working(process, _) = self { Some(process.as_fd()) } else { None }
    }

    /// Takes what it has made, once [`Self::source`] is readable.
    pub fn hear(&mut self) {
        if let Self::Working(process, draft) = std::mem::replace(self, Self::Idle) {
            let _ = process.wait(0); // it has ended
            *self = draft.finish().map_or(Self::Idle, Self::Done);
        }
    }

    /// What cells are started from now.
    pub fn replica(&self) -> Option<&Replica> {
        if let Self::Done(replica) = self { Some(replica) } else { None }
    }
}
