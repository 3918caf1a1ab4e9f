//! Namespaces of a cell, held beyond its init's end (namespaces(7)).
//!
//! Theory of operation. The last to leave a mount namespace takes its mounts down: it waits for a grace period of RCU, and ends
//! the file systems that were mounted nowhere else, with what is in them. A cell's init would do so while its supervisor waits
//! for its end (0.35 of the 0.5 ms that a cell of 41 mounts takes to end; Linux 6.18, by its trace). Whoever holds the namespace
//! does it in init's place, and here in a thread of its own, while there is still something to do besides. The thread is best
//! made while the job runs: to wake one on a cpu that sleeps takes up to 0.2 ms in a virtual machine. It goes by init's end of the
//! lifeline, which is closed when init has left its namespaces (exit_task_work comes after them), and not by init's end, which
//! comes later.
//!
//! A network namespace without members is taken down by the kernel's workers, with several grace periods of its own. By its trace
//! they preempted init's end and the removal of groups. It is held until all else is over.

use super::watch::{self, For};
use nix::sched::{sched_getaffinity, sched_getcpu, sched_setaffinity};
use nix::unistd::{Pid, gettid};
use std::fs::File;
use std::io::{self, PipeWriter};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};
use std::thread::{Builder, JoinHandle};

/// Those that are held.
#[derive(Debug)]
pub struct Namespaces {
    mounts: File,
    network: File,
}

impl Namespaces {
    /// # Errors
    /// EACCES without CAP_SYS_PTRACE over its user namespace; ENOENT where the process is gone.
    pub fn of(pid: i32) -> io::Result<Self> {
        let open = |kind: &str| File::open(format!("/proc/{pid}/ns/{kind}"));
        Ok(Self { mounts: open("mnt")?, network: open("net")? })
    }

    /// Lets go of the mounts as soon as nobody has the other end of that lifeline, or what is returned is dropped; that is over when
    /// the drop is. The network is let go of with the drop.
    ///
    /// # Errors
    /// EMFILE, or EAGAIN where there can be no thread; all has been let go of then.
    pub fn leave_after(self, lifeline: OwnedFd) -> io::Result<Leaving> {
        let (word, giver) = io::pipe()?;
        let Self { mounts, network } = self;
        let number = Arc::new(AtomicI32::new(0));
        let told = Arc::clone(&number);
        let leave = move || {
            told.store(gettid().as_raw(), Ordering::Relaxed);
            // Where nothing can be waited for, the process takes its mounts down itself.
            let _ = watch::any(&[((), lifeline.as_fd(), For::Desertion), ((), word.as_fd(), For::Read)], None);
            drop(mounts);
            told.store(0, Ordering::Relaxed); // somebody else's, soon
        };
        let thread = Builder::new().stack_size(STACK).spawn(leave)?;
        Ok(Leaving { giver: Some(giver), thread: Some(thread), number, _network: network })
    }
}

/// Keeps a thread off a cpu. One that is woken there would wait for whoever has it, even with another cpu idle: where the two share
/// no cache, as in many virtual machines, the kernel does not look at it (select_idle_sibling, Linux 6.18; by its trace the mounts
/// of every other cell went only when its supervisor waited for that).
fn off(cpu: usize, thread: Pid) -> nix::Result<()> {
    let mut others = sched_getaffinity(thread)?;
    others.unset(cpu)?;
    sched_setaffinity(thread, &others)
}

/// Bytes; a poll and a close need little. glibc asks for 16 KiB at least (pthread_attr_setstacksize(3)).
const STACK: usize = 64 << 10;

/// Namespaces that are being left.
#[derive(Debug)]
pub struct Leaving {
    /// Its end is the word to go.
    giver: Option<PipeWriter>,
    thread: Option<JoinHandle<()>>,
    /// The thread's, while it runs; else 0.
    number: Arc<AtomicI32>,
    _network: File,
}

impl Leaving {
    /// Has the thread wake up on another cpu than the caller's, who may be busy on it by then. To be called once it waits: one that
    /// runs would be moved at once, by a thread of the kernel's and into the midst of what runs there, which is the job (20 µs of a
    /// warm run, by its trace).
    pub fn make_way(&self) {
        let number = self.number.load(Ordering::Relaxed);
        // Where there is no other cpu they take turns.
        if number > 0 {
            let _ = sched_getcpu().and_then(|ours| off(ours, Pid::from_raw(number)));
        }
    }
}

impl Drop for Leaving {
    fn drop(&mut self) {
        drop(self.giver.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join(); // nothing in it panics
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::os::clock;
    use std::os::unix::net::UnixStream;

    /// How many descriptors of ours are namespaces of this kind; nobody else among the unit tests has any.
    fn held(kind: &str) -> usize {
        let links = std::fs::read_dir("/proc/self/fd").expect("our descriptors").flatten();
        links.filter(|fd| std::fs::read_link(fd.path()).is_ok_and(|to| to.to_string_lossy().starts_with(kind))).count()
    }

    #[test]
    fn mounts_are_held_until_the_lifeline_ends_or_nobody_waits_for_that_and_the_network_until_then() {
        let soon = clock::now_ns() + 30_000_000_000;
        let leave = |end: &UnixStream| {
            let end = end.as_fd().try_clone_to_owned().expect("a copy");
            Namespaces::of(std::process::id() as i32).expect("they are ours").leave_after(end).expect("a thread")
        };
        let (ours, theirs) = UnixStream::pair().expect("a pair");
        let leaving = leave(&ours);
        assert_eq!((held("mnt:["), held("net:[")), (1, 1));
        drop(leaving);
        assert_eq!((held("mnt:["), held("net:[")), (0, 0));

        let leaving = leave(&ours);
        assert_eq!((held("mnt:["), held("net:[")), (1, 1));
        drop(theirs);
        while held("mnt:[") > 0 {
            assert!(clock::now_ns() < soon, "the lifeline has ended");
            std::thread::yield_now();
        }
        assert_eq!(held("net:["), 1);
        drop(leaving);
        assert_eq!(held("net:["), 0);
    }

    #[test]
    fn nobody_has_none() {
        assert_eq!(Namespaces::of(-1).expect_err("nobody").kind(), io::ErrorKind::NotFound);
    }
}
