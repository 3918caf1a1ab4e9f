//! Keeps the lock that guards moves between control groups ready.
//!
//! Joining a group takes a per-cpu lock for writing. When nobody has done so for a while that waits for an RCU grace period,
//! 8–13 ms (measured; kernel/cgroup/cgroup.c, `cgroup_threadgroup_rwsem`); within a grace period of the last time it takes
//! microseconds. A helper therefore moves itself to and fro between two empty groups of ours while a runtime starts, and
//! the runtime's own joins, nine of them on a hybrid host, find the lock ready. One single move, made first of all, is too
//! early: a runtime joins some 20 ms later (measured), when it is asleep again.

use super::cgroup::Group;
use super::error::{At, OsResult};
use super::process::Process;
use super::watch::{self, For};
use super::{clock, files, sys};
use std::fs::{File, OpenOptions};
use std::io::{PipeReader, PipeWriter, Write};
use std::os::fd::AsFd;
use std::path::PathBuf;

/// Well below a grace period.
const PAUSE_NS: u64 = 3_000_000;
/// An end of its own, should our pipe never close.
const MOVES_MOST: u32 = 10_000;

/// A helper at work. Ends with us: it watches the pipe whose other end this is.
#[derive(Debug)]
pub struct Primer {
    helper: Process,
    _lifeline: PipeWriter,
    group: Group,
}

/// Starts the helper in a group of its own, made here, that [`Primer::stop`] removes.
///
/// # Errors
/// of mkdir, open, fork.
pub fn start(group: Group) -> OsResult<Primer> {
    let one = group.begin()?;
    let other = one.with_file_name("other");
    files::dir(&other, 0o755)?;
    let open = |path: PathBuf| OpenOptions::new().write(true).open(&path).at("open", &path);
    let groups = [open(one)?, open(other.join("cgroup.procs"))?];
    let (lifeline, ours) = std::io::pipe().at("make", "a pipe")?;
    match sys::fork().at("fork", "a helper")? {
        sys::Fork::Child => {
            drop(ours);
            move_about(groups, &lifeline);
            sys::exit_now(0)
        }
        sys::Fork::Parent(pid) => Ok(Primer { helper: Process::hold(pid).at("hold", "a helper")?, _lifeline: ours, group }),
    }
}

fn move_about(groups: [File; 2], lifeline: &PipeReader) {
    for mut group in groups.iter().cycle().take(MOVES_MOST as usize) {
        let moved = group.write_all(b"0"); // "0" is whoever writes
        let ended = watch::any(&[((), lifeline.as_fd(), For::Read)], Some(clock::now_ns() + PAUSE_NS));
        if moved.is_err() || !ended.is_ok_and(|ready| ready.is_empty()) {
            return;
        }
    }
}

impl Primer {
    /// Ends the helper and removes its groups.
    ///
    /// # Errors
    /// of rmdir; gc removes them with the run.
    pub fn stop(self) -> OsResult<()> {
        let Self { helper, _lifeline: lifeline, group } = self;
        drop(lifeline);
        let deadline = clock::now_ns() + 1_000_000_000;
        let _ = helper.wait(deadline);
        group.remove(deadline)
    }
}
