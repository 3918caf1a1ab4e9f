//! The one poll loop's one call: wait for any of several descriptors, at most until a deadline.

use super::clock;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::io;
use std::os::fd::BorrowedFd;

/// What is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum For {
    /// Something to read, or the end.
    Read,
    /// Room to write, or nobody who reads.
    Write,
    /// Nobody who reads what is written here any more; room to write is not waited for.
    Desertion,
    /// A change that the kernel notifies by POLLPRI (memory.events, cgroup.events).
    Change,
}

/// Answers the tags of what is ready; empty when the deadline (CLOCK_MONOTONIC ns) came first or a signal interrupted.
///
/// # Errors
/// ENOMEM; nothing else can go wrong with descriptors that are alive.
pub fn any<T: Copy>(sources: &[(T, BorrowedFd<'_>, For)], deadline_ns: Option<u64>) -> io::Result<Vec<T>> {
    let flags = |what: For| match what {
        For::Read => PollFlags::POLLIN,
        For::Write => PollFlags::POLLOUT,
        For::Desertion => PollFlags::empty(), // an error or a hang-up is told unasked (poll(2))
        For::Change => PollFlags::POLLPRI,
    };
    let mut fds: Vec<PollFd<'_>> = sources.iter().map(|(_, fd, what)| PollFd::new(*fd, flags(*what))).collect();
    match poll(&mut fds, timeout(deadline_ns)) {
        Ok(_) => {}
        Err(Errno::EINTR) => return Ok(Vec::new()), // the caller's loop looks at the clock again
        Err(e) => return Err(e.into()),
    }
    let ready = |fd: &PollFd<'_>| fd.revents().is_some_and(|r| !r.is_empty());
    Ok(sources.iter().zip(&fds).filter(|(_, fd)| ready(fd)).map(|((tag, ..), _)| *tag).collect())
}

fn timeout(deadline_ns: Option<u64>) -> PollTimeout {
    let Some(deadline) = deadline_ns else { return PollTimeout::NONE };
    // Rounded up: a timeout of 0 ms with time left would spin until the deadline.
    let left_ms = deadline.saturating_sub(clock::now_ns()).div_ceil(1_000_000);
    PollTimeout::try_from(left_ms).unwrap_or(PollTimeout::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;

    #[test]
    fn the_deadline_ends_the_wait_and_the_ready_are_named() {
        let (r, w) = nix::unistd::pipe().expect("pipe");
        let soon = || Some(clock::now_ns() + 1_000_000);
        assert_eq!(any(&[(1, r.as_fd(), For::Read)], soon()).expect("poll"), Vec::<i32>::new());
        assert_eq!(any(&[(1, r.as_fd(), For::Read), (2, w.as_fd(), For::Write)], None).expect("poll"), [2]);
        assert_eq!(any(&[(1, w.as_fd(), For::Desertion)], soon()).expect("poll"), Vec::<i32>::new());
        drop(w);
        assert_eq!(any(&[(1, r.as_fd(), For::Read)], None).expect("poll"), [1], "the end counts as readable");
        let (r, w) = nix::unistd::pipe().expect("pipe");
        drop(r);
        assert_eq!(any(&[(1, w.as_fd(), For::Desertion)], None).expect("poll"), [1]);
    }
}
