//! A process's mount namespace, held beyond the process's own end.
//!
//! Theory of operation. The last to leave a mount namespace takes its mounts down: it waits for a grace period of RCU, and ends
//! the file systems that were mounted nowhere else, with what is in them. A cell's init would do so while its supervisor waits
//! for its end (0.35 of the 0.5 ms that a cell of 41 mounts takes to end; Linux 6.18, by its trace). Whoever holds the namespace
//! does it in init's place, and here in a thread of its own, while there is still something to do besides. The thread is best
//! made while the job runs: to wake one on a cpu that sleeps takes up to 0.2 ms in a virtual machine.

use super::watch::{self, For};
use std::fs::File;
use std::io::{self, PipeWriter};
use std::os::fd::{AsFd, OwnedFd};
use std::thread::{Builder, JoinHandle};

/// A mount namespace that is held (namespaces(7)).
#[derive(Debug)]
pub struct Mounts(File);

impl Mounts {
    /// # Errors
    /// EACCES without CAP_SYS_PTRACE over its user namespace; ENOENT where the process is gone.
    pub fn of(pid: i32) -> io::Result<Self> {
        File::open(format!("/proc/{pid}/ns/mnt")).map(Self)
    }

    /// Lets go of it as soon as the process of that pidfd has ended, or what is returned is dropped; it is over when the drop is.
    ///
    /// # Errors
    /// EMFILE, or EAGAIN where there can be no thread; the namespace has been let go of then.
    pub fn leave_after(self, process: OwnedFd) -> io::Result<Leaving> {
        let (word, giver) = io::pipe()?;
        let leave = move || {
            // Where nothing can be waited for, the process takes its mounts down itself.
            let _ = watch::any(&[((), process.as_fd(), For::Read), ((), word.as_fd(), For::Read)], None);
            drop(self.0);
        };
        let thread = Builder::new().stack_size(STACK).spawn(leave)?;
        Ok(Leaving { giver: Some(giver), thread: Some(thread) })
    }
}

/// Bytes; a poll and a close need little. glibc asks for 16 KiB at least (pthread_attr_setstacksize(3)).
const STACK: usize = 64 << 10;

/// A namespace that is being left.
#[derive(Debug)]
pub struct Leaving {
    /// Its end is the word to go.
    giver: Option<PipeWriter>,
    thread: Option<JoinHandle<()>>,
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
    use crate::os::process::{self, Spawn};
    use std::path::Path;

    /// How many descriptors of ours are mount namespaces; nobody else among the unit tests has any.
    fn held() -> usize {
        let links = std::fs::read_dir("/proc/self/fd").expect("our descriptors").flatten();
        links.filter(|fd| std::fs::read_link(fd.path()).is_ok_and(|to| to.to_string_lossy().starts_with("mnt:["))).count()
    }

    #[test]
    fn a_namespace_is_held_until_its_process_has_ended_or_nobody_waits_for_that() {
        let log = File::options().write(true).open("/dev/null").expect("open");
        let (program, dir) = (Path::new("/bin/sleep"), Path::new("/"));
        let spawned = process::spawn(Spawn { program, image: None, args: &["60".into()], log, fds: Vec::new(), dir, ids: None });
        let (child, soon) = (spawned.expect("spawn"), clock::now_ns() + 30_000_000_000);
        let leave = || {
            let end = child.as_fd().try_clone_to_owned().expect("a copy");
            Mounts::of(child.pid).expect("it is ours").leave_after(end).expect("a thread")
        };
        let leaving = leave();
        assert_eq!(held(), 1);
        drop(leaving);
        assert_eq!(held(), 0);

        let leaving = leave();
        assert_eq!(held(), 1);
        child.kill();
        assert!(child.wait(soon).expect("wait").is_some());
        while held() > 0 {
            assert!(clock::now_ns() < soon, "its process has ended");
            std::thread::yield_now();
        }
        drop(leaving);
    }

    #[test]
    fn nobody_has_none() {
        assert_eq!(Mounts::of(-1).expect_err("nobody").kind(), io::ErrorKind::NotFound);
    }
}
