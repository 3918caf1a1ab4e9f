//! Every orphan in the cell becomes init's child; none stays a zombie.

use crate::model::wire::Exit;
use nix::errno::Errno;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

/// Reaps all that have ended, without waiting.
pub fn all() -> Vec<(Pid, Exit)> {
    let mut ended = Vec::new();
    loop {
        match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::Exited(pid, code)) => ended.push((pid, Exit::Code(code))),
            Ok(WaitStatus::Signaled(pid, signal, _)) => ended.push((pid, Exit::Signal(signal as i32))),
            Err(Errno::EINTR) => {}
            Ok(WaitStatus::StillAlive) | Err(_) => return ended,
            Ok(_) => {} // a stop or a continuation is no end
        }
    }
}

/// Whether init is the last process of its namespace: whatever lives there descends from it, and orphans become its children.
pub fn none_left() -> bool {
    let flags = WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT | WaitPidFlag::WEXITED;
    matches!(nix::sys::wait::waitid(nix::sys::wait::Id::All, flags), Err(Errno::ECHILD))
}
