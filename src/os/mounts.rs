//! A process's mount namespace, held beyond the process's own end.
//!
//! Theory of operation. The last to leave a mount namespace takes its mounts down: it waits for a grace period of RCU, and ends
//! the file systems that were mounted nowhere else, with what is in them. A cell's init would do so while its supervisor waits
//! for its end (0.35 of the 0.5 ms that a cell of 41 mounts takes to end; Linux 6.18, by its trace). Whoever holds the namespace
//! does it in init's place, and here in a thread of its own, while there is still something to do besides.

use super::watch::{self, For};
use std::fs::File;
use std::io;
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

    /// Lets go of it when the process of that pidfd has ended, at the deadline at the latest. It is over when what is returned
    /// has been dropped.
    #[must_use]
    pub fn leave_after(self, process: OwnedFd, deadline_ns: u64) -> Leaving {
        let leave = move || {
            // Where nothing can be waited for, the process takes its mounts down itself.
            let _ = watch::any(&[((), process.as_fd(), For::Read)], Some(deadline_ns));
            drop(self.0);
        };
        // Without a thread the closure is dropped here, and the namespace with it.
        Leaving(Builder::new().stack_size(STACK).spawn(leave).ok())
    }
}

/// Bytes; a poll and a close need little. glibc asks for 16 KiB at least (pthread_attr_setstacksize(3)).
const STACK: usize = 64 << 10;

/// A namespace that is being left; waits for that when dropped.
#[derive(Debug)]
pub struct Leaving(Option<JoinHandle<()>>);

impl Drop for Leaving {
    fn drop(&mut self) {
        if let Some(thread) = self.0.take() {
            let _ = thread.join(); // neither of the two panics
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
    fn a_namespace_is_held_until_its_process_has_ended() {
        let log = File::options().write(true).open("/dev/null").expect("open");
        let (program, dir) = (Path::new("/bin/sleep"), Path::new("/"));
        let spawned = process::spawn(Spawn { program, args: &["60".into()], log, fds: Vec::new(), dir, ids: None });
        let (child, soon) = (spawned.expect("spawn"), clock::now_ns() + 30_000_000_000);
        let end = child.as_fd().try_clone_to_owned().expect("a copy");
        let leaving = Mounts::of(child.pid).expect("it is ours").leave_after(end, soon);
        assert_eq!(held(), 1);
        child.kill();
        drop(leaving);
        assert_eq!(held(), 0);
        assert!(child.wait(soon).expect("wait").is_some());
    }

    #[test]
    fn nobody_has_none() {
        assert_eq!(Mounts::of(-1).expect_err("nobody").kind(), io::ErrorKind::NotFound);
    }
}
