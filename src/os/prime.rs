//! Keeps the lock that guards moves between control groups ready.
//!
//! Joining a group takes a per-cpu lock for writing. When nobody has done so for a while that waits for an RCU grace period,
//! 8–16 ms (measured; kernel/cgroup/cgroup.c, `cgroup_threadgroup_rwsem`); within a grace period of the last time it takes
//! microseconds. While a runtime starts, a thread of ours therefore asks again and again to be moved to where it is: the lock is
//! taken for that too (12 ms the first time, 1.3 µs from then on; Linux 6.18), nothing moves, no group has to be made for it, and
//! the runtime's own joins, nine of them on a hybrid host, find the lock ready. Asked only once, first of all, is too early: a
//! runtime joins some 20 ms later (measured), when it is asleep again. Whoever waits for that lock keeps everybody else from
//! making and removing groups, so the sooner it is begun the better, and who has a cell already leaves it alone.

use super::cgroup::{self, Trees};
use super::{clock, files};
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::Path;
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
pub fn start() -> Primer {
    let (lifeline, ours) = mpsc::channel();
    let work = move || drop(cgroup::here().map(|trees| prime(&trees, &ours)));
    Primer { thread: Builder::new().stack_size(STACK).spawn(work).ok(), lifeline: Some(lifeline) }
}

/// The thread's life: until the other end of its lifeline is gone.
fn prime(trees: &Trees, lifeline: &Receiver<()>) -> io::Result<()> {
    let mut procs = our_own(trees)?;
    for _ in 0..TIMES_MOST {
        let before = clock::thread_ns();
        procs.write_all(b"0")?; // "0" is whoever writes (cgroup-v2.rst, cgroup.procs)
        let pause = PAUSE_NS.max(clock::thread_ns().saturating_sub(before) * (SHARE - 1));
        match lifeline.recv_timeout(Duration::from_nanos(pause)) {
            Err(RecvTimeoutError::Timeout) => {}
            _ => break,
        }
    }
    Ok(())
}

/// The list of the processes in a group that we are in. What is called our group may be another's where a container has its
/// host's mount and a namespace of its own (cgroup_namespaces(7)), and what is written there would move us; so it must list us.
fn our_own(trees: &Trees) -> io::Result<File> {
    let place = trees.ours(&std::fs::read_to_string("/proc/self/cgroup")?).ok_or(io::ErrorKind::NotFound)?;
    let pid = std::process::id().to_string();
    let listed = |path: &Path| files::text(path).is_ok_and(|pids| pids.lines().any(|line| line == pid));
    if !listed(&place) {
        return Err(io::ErrorKind::NotFound.into());
    }
    OpenOptions::new().write(true).open(place)
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

    fn groups() -> String {
        std::fs::read_to_string("/proc/self/cgroup").expect("our groups")
    }

    #[test]
    fn what_is_asked_for_again_and_again_moves_nobody() {
        let before = groups();
        if let Some(trees) = cgroup::here().filter(|_| nix::unistd::geteuid().is_root()) {
            let mut ours = our_own(&trees).expect("a group that we are in");
            ours.write_all(b"0").expect("nothing to be done");
        }
        drop(start());
        assert_eq!(groups(), before);
    }

    #[test]
    fn a_group_that_does_not_list_us_is_left_alone() {
        let elsewhere = tempfile::tempdir().expect("a directory");
        std::fs::write(elsewhere.path().join("cgroup.procs"), "1\n").expect("write");
        let tree = cgroup::Tree { mount: elsewhere.path().into(), controllers: Vec::new(), unified: true };
        let trees = Trees { layout: crate::model::facts::Layout::V2, trees: vec![tree] };
        // Whatever our group is called there is no such directory, or it is this one, which is somebody else's.
        assert_eq!(our_own(&trees).expect_err("not ours").kind(), io::ErrorKind::NotFound);
        assert_eq!(std::fs::read_to_string(elsewhere.path().join("cgroup.procs")).expect("read"), "1\n");
    }
}
