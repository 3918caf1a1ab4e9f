//! A process's mount namespace, held beyond the process's own end.
//!
//! Theory of operation. The last to leave a mount namespace takes its mounts down: it waits for a grace period of RCU, and ends
//! the file systems that were mounted nowhere else, with what is in them. A cell's init would do so while its supervisor waits
//! for its end (0.35 of the 0.5 ms that a cell of 41 mounts takes to end; Linux 6.18, by its trace). Whoever holds the namespace
//! does it in init's place, and here in a thread of its own, while there is still something to do besides.

use std::fs::File;
use std::io;
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

    /// Lets go of it. It is over when what is returned has been dropped.
    #[must_use]
    pub fn leave(self) -> Leaving {
        // Where there is no other thread to be had, this one does it: the closure, and with it the file, is dropped.
        Leaving(Builder::new().name("unmount".into()).stack_size(STACK).spawn(move || drop(self.0)).ok())
    }
}

/// Bytes; it is an order to close one file. glibc asks for at least 16 KiB (pthread_attr_setstacksize(3)).
const STACK: usize = 64 << 10;

/// A namespace that somebody is leaving; waits for that when dropped.
#[derive(Debug)]
pub struct Leaving(Option<JoinHandle<()>>);

impl Drop for Leaving {
    fn drop(&mut self) {
        if let Some(thread) = self.0.take() {
            let _ = thread.join(); // closing a file does not panic
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many descriptors of ours are mount namespaces; nobody else among the unit tests has any.
    fn held() -> usize {
        let links = std::fs::read_dir("/proc/self/fd").expect("our descriptors").flatten();
        links.filter(|fd| std::fs::read_link(fd.path()).is_ok_and(|to| to.to_string_lossy().starts_with("mnt:["))).count()
    }

    #[test]
    fn a_namespace_is_held_until_it_has_been_left() {
        let mounts = Mounts::of(std::process::id() as i32).expect("it is ours");
        assert_eq!(held(), 1);
        drop(mounts.leave());
        assert_eq!(held(), 0);
        assert_eq!(Mounts::of(-1).expect_err("nobody").kind(), io::ErrorKind::NotFound);
    }
}
