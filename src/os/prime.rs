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
use std::io::{PipeReader, PipeWriter};
use std::os::fd::AsFd;
use std::path::PathBuf;

/// Well below a grace period.
const PAUSE_NS: u64 = 3_000_000;
/// What a move costs, of a core's time: some 30 µs, and milliseconds where a cpu is emulated. The helper keeps below one part in
/// so many, as it works for others who may have nothing but this core.
const SHARE: u64 = 20;
/// An end of its own, should our pipe never close.
const MOVES_MOST: usize = 10_000;

/// A helper at work until this is dropped. Ends with us: it watches the pipe whose other end this is.
#[derive(Debug)]
pub struct Primer {
    helper: Process,
    lifeline: Option<PipeWriter>,
    group: Group,
}

/// Starts the helper in a group of its own, made here and removed with it.
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
            let _ = help(&groups, &lifeline);
            sys::exit_now(0)
        }
        sys::Fork::Parent(pid) => Ok(Primer { helper: Process::hold(pid).at("hold", "a helper")?, lifeline: Some(ours), group }),
    }
}

/// The helper's life. It keeps three descriptors and no other: with a copy of its parent's leases it would outlive it as owner.
fn help(groups: &[File; 2], lifeline: &PipeReader) -> std::io::Result<()> {
    sys::close_all_but(0, &[groups[0].as_fd(), groups[1].as_fd(), lifeline.as_fd()])?;
    for group in groups.iter().cycle().take(MOVES_MOST) {
        let before = clock::used_ns();
        nix::unistd::write(group, b"0")?; // "0" is whoever writes
        let pause = PAUSE_NS.max(clock::used_ns().saturating_sub(before) * (SHARE - 1));
        if !watch::any(&[((), lifeline.as_fd(), For::Read)], Some(clock::now_ns() + pause))?.is_empty() {
            break;
        }
    }
    Ok(())
}

impl Drop for Primer {
    /// Ends the helper and removes its groups. What fails is gc's, which finds them by the run's record.
    fn drop(&mut self) {
        drop(self.lifeline.take());
        let deadline = clock::now_ns() + 1_000_000_000;
        let _ = self.helper.wait(deadline);
        let _ = self.group.remove(deadline);
    }
}
