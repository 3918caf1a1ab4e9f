//! Signals as readable descriptors; no work is ever done in a handler.

use nix::sys::signal::{SigSet, SigmaskHow, Signal, sigprocmask};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};

/// Blocked signals, read one by one.
#[derive(Debug)]
pub struct Signals(SignalFd);

#[derive(Clone, Copy, Debug)]
pub struct Caught {
    pub signal: Signal,
    /// kill(2) by a process outside this pid namespace.
    pub from_outside: bool,
}

/// Blocks these signals and makes them readable. Children made by `std::process` start with an empty mask again.
///
/// # Errors
/// of sigprocmask and signalfd.
pub fn catch(signals: &[Signal]) -> io::Result<Signals> {
    let set: SigSet = signals.iter().copied().collect();
    sigprocmask(SigmaskHow::SIG_BLOCK, Some(&set), None)?;
    Ok(Signals(SignalFd::with_flags(&set, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?))
}

/// Lets every signal through again: for a child that is about to execute.
///
/// # Errors
/// of sigprocmask.
pub fn unblock_all() -> io::Result<()> {
    Ok(sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None)?)
}

impl Signals {
    /// The next signal, or `None` when there is none now.
    ///
    /// # Errors
    /// of read.
    pub fn next(&self) -> io::Result<Option<Caught>> {
        let one = self.0.read_signal()?;
        Ok(one.and_then(|info| {
            let signal = Signal::try_from(info.ssi_signo as i32).ok()?;
            // A sender inside can forge pid 0 by rt_sigqueueinfo(2), but the kernel does not let it claim SI_USER (measured).
            Some(Caught { signal, from_outside: info.ssi_code == libc::SI_USER && info.ssi_pid == 0 })
        }))
    }
}

impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
