//! Keeps the lock that guards moves between control groups ready.
//!
//! Joining a group takes a per-cpu lock for writing. When nobody has done so for a while that waits for an RCU grace period,
//! 8–16 ms (measured; kernel/cgroup/cgroup.c, `cgroup_threadgroup_rwsem`); within a grace period of the last time it takes
//! microseconds. While a runtime starts, a thread of ours therefore asks again and again to be moved to where it is: the lock is
//! taken for that too (7 to 16 ms the first time, 3 µs from then on; Linux 6.12 and 6.18), no group has to be made for it, and the
//! runtime's own joins, nine of them on a hybrid host, find the lock ready. Asked only once, first of all, is too early: a
//! runtime joins some 20 ms later (measured), when it is asleep again. Whoever waits for that lock keeps everybody else from
//! making and removing groups, so it is begun when none is to be made for the job's plan, by those who have no cell.
//!
//! It asks for itself alone, not for the process: were we moved meanwhile, v2 would refuse to part a thread from its process
//! (EOPNOTSUPP; the lock has been taken by then, measured), and v1 would take back nothing but this thread, which ends soon.

use super::cgroup::Trees;
use super::clock;
use nix::unistd::gettid;
use std::fs::OpenOptions;
use std::io::{self, Write};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

/// Well below a grace period.
const PAUSE_NS: u64 = 3_000_000;
/// Where a cpu is emulated even this costs more: the thread keeps below one part in so many of a core's time, as it works for
/// others who may have nothing but this core.
const SHARE: u64 = 20;
/// An end of its own, should we forget it.
const TIMES_MOST: usize = 10_000;
/// Bytes.
const STACK: usize = 64 << 10;

/// A thread at work until this is dropped.
#[derive(Debug)]
pub struct Primer {
    thread: Option<JoinHandle<()>>,
    lifeline: Option<Sender<()>>,
}

/// Starts it. Where it cannot do its work a runtime's start just takes longer.
pub fn start(trees: &Trees) -> Primer {
    let (lifeline, ours) = mpsc::channel();
    let trees = trees.clone();
    let work = move || drop(prime(&trees, &ours));
    Primer { thread: Builder::new().stack_size(STACK).spawn(work).ok(), lifeline: Some(lifeline) }
}

/// The thread's life: until the other end of its lifeline is gone.
fn prime(trees: &Trees, lifeline: &Receiver<()>) -> io::Result<()> {
    let place = trees.ours(&std::fs::read_to_string("/proc/self/cgroup")?).ok_or(io::ErrorKind::NotFound)?;
    let mut threads = OpenOptions::new().write(true).open(place)?;
    // By number: for "0", whoever writes, the lock is left alone where a single thread asks (`cgroup_procs_write_start`).
    let ourselves = gettid().to_string();
    for _ in 0..TIMES_MOST {
        let before = clock::thread_ns();
        match threads.write_all(ourselves.as_bytes()) {
            Err(e) if e.raw_os_error() != Some(libc::EOPNOTSUPP) => return Err(e),
            _ => {}
        }
        let pause = PAUSE_NS.max(clock::thread_ns().saturating_sub(before) * (SHARE - 1));
        match lifeline.recv_timeout(Duration::from_nanos(pause)) {
            Err(RecvTimeoutError::Timeout) => {}
            _ => break,
        }
    }
    Ok(())
}

impl Drop for Primer {
    /// Its last request is waited for: whoever gives up rights after this has given them up for good.
    fn drop(&mut self) {
        drop(self.lifeline.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join(); // it does not panic
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::facts::Layout;
    use crate::os::cgroup::{self, Tree};

    fn groups() -> String {
        std::fs::read_to_string("/proc/self/cgroup").expect("our groups")
    }

    #[test]
    fn it_asks_for_itself_until_it_is_dropped() {
        let mount = tempfile::tempdir().expect("a directory");
        let ours = groups().lines().find_map(|line| Some(line.strip_prefix("0::")?.trim_start_matches('/').to_owned()));
        let place = mount.path().join(ours.unwrap_or_default());
        std::fs::create_dir_all(&place).expect("made");
        let threads = place.join("cgroup.threads");
        std::fs::write(&threads, "").expect("made");
        let tree = Tree { mount: mount.path().into(), controllers: Vec::new(), unified: true };
        let primer = start(&Trees { layout: Layout::V2, trees: vec![tree] });
        let asked = || std::fs::read_to_string(&threads).expect("read");
        let soon = clock::now_ns() + 30_000_000_000;
        while groups().contains("0::") && asked().is_empty() && clock::now_ns() < soon {
            std::thread::yield_now();
        }
        drop(primer);
        assert!(!asked().starts_with(&std::process::id().to_string()), "{}", asked());
        assert_eq!(asked().is_empty(), !groups().contains("0::"), "{}", asked());
    }

    #[test]
    fn nobody_is_moved() {
        let before = groups();
        for trees in cgroup::here().iter() {
            drop(start(trees));
        }
        assert_eq!(groups(), before);
    }
}
