//! Work in a process of its own: for what confines itself for good, or must not take us along when it fails.
//!
//! It is a copy of ours and not a program, so that it takes whatever we know. It ends with us: if we are killed it gets SIGTERM.
//! (PR_SET_PDEATHSIG fires when the thread ends that forked; here that is our only one.) Who waits for it ([`apart`]) passes
//! signals on to it; who does not ([`beside`]) says itself when it is to end.

use super::clock;
use super::error::{At, OsResult};
use super::process::Process;
use super::signal::{self, Signals};
use super::sys;
use super::watch::{self, For};
use nix::sys::signal::Signal;
use nix::unistd::Pid;
use std::fs::File;
use std::io::{PipeReader, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};

/// The most that is taken back.
const ANSWER_MOST: u64 = 256 << 20;

/// Does the work there and answers what it answers; `None` where it ended without. Only for processes with one thread.
///
/// # Errors
/// of pipe, fork, poll; TimedOut after the deadline, when it has been killed.
pub fn apart(deadline_ns: u64, work: impl FnOnce() -> Vec<u8>) -> OsResult<Option<Vec<u8>>> {
    looked_after(deadline_ns, &mut || true, work)
}

/// How often whoever looks after work may do so.
const LOOK_NS: u64 = 100_000_000;

/// The same, with somebody who looks every 100 ms whether it may go on; at each look that says no it gets SIGTERM.
///
/// # Errors
/// as of [`apart`].
pub fn looked_after(
    deadline_ns: u64,
    may_go_on: &mut dyn FnMut() -> bool,
    work: impl FnOnce() -> Vec<u8>,
) -> OsResult<Option<Vec<u8>>> {
    let what = "a process for work of its own";
    let (reader, mut writer) = std::io::pipe().at("make", "a pipe")?;
    let signals = signal::catch(&[Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP]).at("catch", "signals")?;
    let ours = std::process::id();
    match sys::fork().at("fork", what)? {
        sys::Fork::Child => {
            drop(reader);
            let tied = nix::sys::prctl::set_pdeathsig(Signal::SIGTERM).is_ok();
            // Had we been killed before that, nobody would tell it.
            if tied && nix::unistd::getppid().as_raw() as u32 == ours {
                let _ = writer.write_all(&work());
            }
            sys::exit_now(0)
        }
        sys::Fork::Parent(pid) => {
            drop(writer);
            let child = Process::hold(pid).at("hold", what)?;
            let answer = listen(reader, &child, &signals, deadline_ns, may_go_on).at("wait for", what);
            if answer.is_err() {
                child.kill();
            }
            let _ = child.wait(deadline_ns.max(clock::now_ns() + 1_000_000_000));
            Ok(Some(answer?).filter(|bytes| !bytes.is_empty()))
        }
    }
}

/// Begins work and does not wait for it; it may hear of its end by the process. Of our descriptors it has `keep` and stderr,
/// and no signal of our terminal reaches it. Only for processes with one thread.
///
/// # Errors
/// of fork.
pub fn beside(keep: &[BorrowedFd<'_>], work: impl FnOnce()) -> OsResult<Process> {
    let what = "a process for work of its own";
    let ours = std::process::id();
    match sys::fork().at("fork", what)? {
        sys::Fork::Child => {
            let tied = nix::sys::prctl::set_pdeathsig(Signal::SIGTERM).is_ok();
            if tied && nix::unistd::getppid().as_raw() as u32 == ours && leave(keep).is_ok() {
                // A panic must not walk up into what is our parent's.
                let _ = catch_unwind(AssertUnwindSafe(work));
            }
            sys::exit_now(0)
        }
        sys::Fork::Parent(pid) => Process::hold(pid).at("hold", what),
    }
}

/// Lets go of what is our parent's: its terminal's signals, its streams, its leases, the ends of others' pipes.
fn leave(keep: &[BorrowedFd<'_>]) -> std::io::Result<()> {
    nix::unistd::setpgid(Pid::from_raw(0), Pid::from_raw(0))?;
    let null = File::options().read(true).write(true).open("/dev/null")?;
    for stream in [0, 1] {
        sys::place(null.as_fd(), stream)?;
    }
    drop(null);
    sys::close_all_but(3, keep)
}

fn listen(
    mut reader: PipeReader,
    child: &Process,
    signals: &Signals,
    deadline_ns: u64,
    may_go_on: &mut dyn FnMut() -> bool,
) -> std::io::Result<Vec<u8>> {
    #[derive(Clone, Copy)]
    enum From {
        Work,
        Outside,
    }
    let mut answer = Vec::new();
    let mut chunk = vec![0; 64 << 10];
    let mut look_at = clock::now_ns() + LOOK_NS;
    loop {
        let ready = watch::any(
            &[(From::Work, reader.as_fd(), For::Read), (From::Outside, signals.as_fd(), For::Read)],
            Some(deadline_ns.min(look_at)),
        )?;
        if ready.is_empty() && clock::now_ns() >= deadline_ns {
            return Err(std::io::ErrorKind::TimedOut.into());
        }
        if clock::now_ns() >= look_at {
            if !may_go_on() {
                let _ = child.terminate(); // it may just have ended
            }
            look_at = clock::now_ns() + LOOK_NS;
        }
        for from in ready {
            match from {
                From::Outside => {
                    while signals.next()?.is_some() {
                        let _ = child.terminate(); // it may just have ended
                    }
                }
                From::Work => match reader.read(&mut chunk)? {
                    0 => return Ok(answer),
                    n if answer.len() as u64 + n as u64 > ANSWER_MOST => return Err(std::io::ErrorKind::FileTooLarge.into()),
                    n => answer.extend_from_slice(&chunk[..n]),
                },
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsRawFd;

    fn soon() -> u64 {
        clock::now_ns() + 20_000_000_000
    }

    // The tests' own process has threads: what is done apart here only makes system calls.
    #[test]
    fn the_answer_comes_back_whole_and_an_end_without_one_is_told() {
        let long = vec![7; 300_000];
        let copy = long.clone();
        assert_eq!(apart(soon(), || copy).expect("forked"), Some(long));
        assert_eq!(apart(soon(), || sys::exit_now(1)).expect("forked"), None);
    }

    #[test]
    fn whoever_looks_after_it_may_stop_it() {
        let wait = || {
            let signals = signal::catch(&[Signal::SIGTERM]).expect("caught");
            let _ = watch::any(&[((), signals.as_fd(), For::Read)], Some(soon()));
            vec![u8::from(signals.next().is_ok_and(|s| s.is_some()))]
        };
        let mut looks = 0;
        let mut twice = || {
            looks += 1;
            looks < 2
        };
        assert_eq!(looked_after(soon(), &mut twice, wait).expect("forked"), Some(vec![1]));
        assert!(looks >= 2);
    }

    #[test]
    fn what_works_beside_us_has_what_it_was_given_and_ends_when_told() {
        let (mut reader, writer) = std::io::pipe().expect("pipe");
        let (other, _kept) = std::io::pipe().expect("pipe");
        let (word, theirs) = (writer.try_clone().expect("dup"), format!("/proc/self/fd/{}", other.as_raw_fd()));
        let child = beside(&[word.as_fd(), writer.as_fd()], || {
            let gone = !std::path::Path::new(&theirs).exists();
            let _ = (&writer).write_all(if gone { b"gone" } else { b"here" });
            nix::unistd::pause();
        });
        drop((word, other));
        let child = child.expect("forked");
        let mut said = [0; 4];
        reader.read_exact(&mut said).expect("its word");
        assert_eq!(&said, b"gone");
        child.terminate().expect("it lives");
        assert!(child.wait(soon()).expect("ours").is_some());
    }

    #[test]
    fn work_that_never_ends_is_ended() {
        let hang = || -> Vec<u8> {
            loop {
                nix::unistd::pause();
            }
        };
        let told = apart(clock::now_ns() + 50_000_000, hang).expect_err("hangs");
        assert_eq!(told.source.kind(), std::io::ErrorKind::TimedOut);
    }
}
