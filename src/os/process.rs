//! Processes: our own children, held by pidfd, in groups of their own.

use super::error::{At, OsResult};
use super::watch::{self, For};
use super::{files, sys};
use nix::fcntl::{FcntlArg, fcntl};
use nix::sys::signal::{Signal, killpg};
use nix::sys::stat::{Mode, umask};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
use nix::unistd::Pid;
use std::cell::Cell;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::{Command, Stdio};

/// A process that we hold: as long as it is our child and we have not reaped it, its pid cannot be taken by another.
#[derive(Debug)]
pub struct Process {
    pub pid: i32,
    fd: OwnedFd,
    /// From its reaping on, its pid may be another's.
    reaped: Cell<bool>,
}

impl Process {
    /// Holds a process that is our child, or becomes it when its parent ends (we are its subreaper).
    ///
    /// # Errors
    /// ESRCH where it is gone.
    pub fn hold(pid: i32) -> io::Result<Self> {
        Ok(Self { pid, fd: sys::pidfd_open(pid)?, reaped: Cell::new(false) })
    }

    pub fn kill(&self) {
        // ESRCH: it is dead already, which is what we want.
        let _ = sys::pidfd_send_signal(self.fd.as_fd(), libc::SIGKILL);
    }

    /// Ends the process group that it leads, as long as nobody else can bear its number: until it has been reaped.
    pub fn kill_group(&self) {
        if !self.reaped.get() {
            let _ = killpg(Pid::from_raw(self.pid), Signal::SIGKILL); // none left is fine
        }
    }

    /// # Errors
    /// ESRCH where it is gone.
    pub fn terminate(&self) -> io::Result<()> {
        sys::pidfd_send_signal(self.fd.as_fd(), libc::SIGTERM)
    }

    /// How it has ended, if it has. It is not reaped by that: its number stays its own, and its group's.
    ///
    /// # Errors
    /// other than "not (yet) our child".
    pub fn ended(&self) -> io::Result<Option<End>> {
        self.status(WaitPidFlag::WNOWAIT)
    }

    fn status(&self, more: WaitPidFlag) -> io::Result<Option<End>> {
        match waitid(Id::PIDFd(self.fd.as_fd()), WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | more) {
            Ok(WaitStatus::StillAlive) => Ok(None),
            Ok(WaitStatus::Exited(_, 0)) => Ok(Some(End::Well)),
            Ok(_) => Ok(Some(End::Badly)),
            // Not our child (any more): a pidfd becomes readable when its process has ended.
            Err(nix::errno::Errno::ECHILD) => {
                Ok((!watch::any(&[((), self.fd.as_fd(), For::Read)], Some(0))?.is_empty()).then_some(End::Unknown))
            }
            Err(e) => Err(e.into()),
        }
    }

    /// Waits for its end until the deadline, without reaping it.
    ///
    /// # Errors
    /// of poll and waitid.
    pub fn await_end(&self, deadline_ns: u64) -> io::Result<Option<End>> {
        watch::any(&[((), self.fd.as_fd(), For::Read)], Some(deadline_ns))?;
        self.ended()
    }

    /// Waits for its end until the deadline, and reaps it.
    ///
    /// # Errors
    /// of poll and waitid.
    pub fn wait(&self, deadline_ns: u64) -> io::Result<Option<End>> {
        watch::any(&[((), self.fd.as_fd(), For::Read)], Some(deadline_ns))?;
        let end = self.status(WaitPidFlag::empty())?;
        self.reaped.set(self.reaped.get() || end.is_some());
        Ok(end)
    }

    /// The same, and what it has left in its process group ends with it.
    ///
    /// # Errors
    /// of poll and waitid.
    pub fn wait_group(&self, deadline_ns: u64) -> io::Result<Option<End>> {
        if self.await_end(deadline_ns)?.is_some() {
            self.kill_group();
        }
        self.wait(deadline_ns)
    }
}

/// How a process of ours ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    Well,
    Badly,
    /// It was not our child.
    Unknown,
}

impl AsFd for Process {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// What a program is started with.
#[derive(Debug)]
pub struct Spawn<'a> {
    pub program: &'a Path,
    /// What is executed in its place, under its name: an ELF file.
    pub image: Option<BorrowedFd<'a>>,
    pub args: &'a [String],
    /// What its environment has besides PATH.
    pub env: &'a [&'a str],
    /// Where its stdout and stderr go.
    pub log: File,
    /// What it finds from descriptor 3 on.
    pub fds: Vec<OwnedFd>,
    pub dir: &'a Path,
}

const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Starts a program with nothing else of our environment than PATH, in a process group of its own.
///
/// # Errors
/// ENOENT and the like of execve.
pub fn spawn(s: Spawn<'_>) -> OsResult<Process> {
    let null = File::open("/dev/null").at("open", "/dev/null")?;
    let last = 2 + s.fds.len() as i32;
    // Out of the way of what comes down, and closed by the execve itself, which has opened it by then.
    let above = |fd: BorrowedFd<'_>| {
        let copy = fcntl(fd, FcntlArg::F_DUPFD_CLOEXEC(last + 1)).map_err(Into::into).and_then(sys::owned);
        copy.at("duplicate", s.program)
    };
    let given = [null.as_fd(), s.log.as_fd(), s.log.as_fd()].into_iter().chain(s.fds.iter().map(AsFd::as_fd));
    let given = given.map(above).collect::<OsResult<Vec<_>>>()?;
    let image = s.image.map(above).transpose()?;
    let executed = image.as_ref().map(|image| format!("/proc/self/fd/{}", image.as_raw_fd()));
    // What a runtime makes must be open to the cell's ids, whatever umask our caller has given us.
    umask(Mode::S_IWGRP | Mode::S_IWOTH);
    let name = s.program.to_string_lossy();
    let argv: Vec<&str> = std::iter::once(&*name).chain(s.args.iter().map(String::as_str)).collect();
    let program = executed.as_deref().map_or(s.program, Path::new);
    let path = format!("PATH={PATH}");
    let env: Vec<&str> = std::iter::once(&*path).chain(s.env.iter().copied()).collect();
    let born = || sys::spawn(program, &sys::Strings::new(&argv)?, &sys::Strings::new(&env)?, s.dir, &given);
    let pid = born().at("start", s.program)?;
    Process::hold(pid).at("hold", s.program)
}

/// The same with the rights of somebody else, as uid and gid and without further groups, and with no descriptors but its log.
fn spawn_as((uid, gid): (u32, u32), program: &Path, args: &[String], log: File) -> OsResult<Process> {
    use std::os::unix::process::CommandExt;
    #[allow(clippy::disallowed_methods)] // this is the one place
    let mut command = Command::new(program);
    let err = log.try_clone().at("duplicate", "a program's log")?;
    command.args(args).current_dir("/").env_clear().env("PATH", PATH);
    command.stdin(Stdio::null()).stdout(log).stderr(err).process_group(0);
    if uid != 0 {
        command.uid(uid).gid(gid); // and no groups, which std sees to where we are root
    }
    let child = command.spawn().at("start", program)?;
    // Dropping std's Child neither kills nor waits; the pidfd is what we hold from here on.
    Process::hold(child.id() as i32).at("hold", program)
}

/// Runs a program to its end with its output captured, for at most `timeout_ns`; for `runc --version` and the like.
///
/// # Errors
/// of starting it; TimedOut after the time, when its whole group has been killed.
pub fn output(program: &Path, args: &[String], timeout_ns: u64) -> OsResult<(Vec<u8>, bool)> {
    output_as(None, program, args, timeout_ns)
}

/// The same with the rights of somebody else, as uid and gid.
///
/// # Errors
/// as of [`output`].
pub fn output_as(ids: Option<(u32, u32)>, program: &Path, args: &[String], timeout_ns: u64) -> OsResult<(Vec<u8>, bool)> {
    use std::io::{Read, Seek};
    let name = nix::sys::memfd::memfd_create(c"output", nix::sys::memfd::MFdFlags::MFD_CLOEXEC).at("make", "a memfd")?;
    let mut log = File::from(name);
    let copy = log.try_clone().at("duplicate", program)?;
    let child = match ids {
        Some(ids) => spawn_as(ids, program, args, copy),
        None => spawn(Spawn { program, image: None, args, env: &[], log: copy, fds: Vec::new(), dir: Path::new("/") }),
    }?;
    let deadline = super::clock::now_ns() + timeout_ns;
    let ended = watch::any(&[((), child.as_fd(), For::Read)], Some(deadline)).at("wait for", program)?;
    if ended.is_empty() {
        child.kill_group();
        return Err(io::Error::from(io::ErrorKind::TimedOut)).at("wait for", program);
    }
    let status = waitid(Id::PIDFd(child.as_fd()), WaitPidFlag::WEXITED).at("wait for", program)?;
    let mut bytes = Vec::new();
    log.rewind().and_then(|()| log.take(1 << 20).read_to_end(&mut bytes)).at("read the output of", program)?;
    Ok((bytes, matches!(status, WaitStatus::Exited(_, 0))))
}

/// The start time of a process in clock ticks since boot (field 22 of /proc/PID/stat, proc_pid_stat(5)).
pub fn start_ticks(proc_root: &Path, pid: i32) -> Option<u64> {
    let stat = files::text(&proc_root.join(pid.to_string()).join("stat")).ok()?;
    // The name in field 2 may hold blanks and parentheses: count from its last one.
    stat.rsplit_once(')')?.1.split_ascii_whitespace().nth(19)?.parse().ok()
}

/// Whether this very process still runs; one that only waits to be reaped does not.
pub fn alive(proc_root: &Path, pid: i32, start_ticks: u64) -> bool {
    let stat = files::text(&proc_root.join(pid.to_string()).join("stat")).unwrap_or_default();
    let dead = stat.rsplit_once(") ").is_none_or(|(_, rest)| rest.starts_with(['Z', 'X']));
    !dead && self::start_ticks(proc_root, pid) == Some(start_ticks)
}

/// Processes of host root whose command line has all of these words, such as a runtime that starts a certain run. Never a
/// program's of a cell, whatever it calls itself: no cell has host root.
pub fn naming(proc_root: &Path, words: &[&str]) -> Vec<Process> {
    let named = |entry: std::fs::DirEntry| {
        let pid: i32 = entry.file_name().to_str()?.parse().ok()?;
        let held = Process::hold(pid).ok()?;
        // Read after it is held: what is read is then the held process's, or nothing.
        let roots = std::fs::metadata(entry.path()).is_ok_and(|m| m.uid() == 0);
        let line = std::fs::read(entry.path().join("cmdline")).ok().filter(|_| roots)?;
        words.iter().all(|word| line.split(|b| *b == 0).any(|w| w == word.as_bytes())).then_some(held)
    };
    std::fs::read_dir(proc_root).into_iter().flatten().flatten().filter_map(named).collect()
}

/// Makes this process the parent of whatever its descendants leave behind.
///
/// # Errors
/// none on kernels since 3.4.
pub fn become_subreaper() -> io::Result<()> {
    Ok(nix::sys::prctl::set_child_subreaper(true)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_hangs_is_ended() {
        let sh = Path::new("/bin/sh");
        let (out, fine) = output(sh, &["-c".into(), "echo hi; echo no >&2".into()], 5_000_000_000).expect("runs");
        assert_eq!((out.as_slice(), fine), (b"hi\nno\n".as_slice(), true));
        let hang = output(sh, &["-c".into(), "sleep 60".into()], 50_000_000).expect_err("hangs");
        assert_eq!(hang.source.kind(), io::ErrorKind::TimedOut);
    }

    fn shell(args: &[String], env: &[&str], log: File, fds: Vec<OwnedFd>, dir: &Path) -> OsResult<Process> {
        spawn(Spawn { program: Path::new("/bin/sh"), image: None, args, env, log, fds, dir })
    }

    #[test]
    fn a_process_is_found_by_a_word_of_its_command_line() {
        let word = format!("word-{}", std::process::id());
        let args = ["-c".to_owned(), "sleep 60; :".to_owned(), word.clone()];
        let log = File::options().write(true).open("/dev/null").expect("open");
        let child = shell(&args, &[], log, Vec::new(), Path::new("/")).expect("spawn");
        let named = |words: &[&str]| naming(Path::new("/proc"), words).iter().any(|p| p.pid == child.pid);
        // We go on when it has left our memory, a moment before it has a command line of its own (exec_mmap, fs/exec.c).
        let soon = super::super::clock::now_ns() + 5_000_000_000;
        while nix::unistd::geteuid().is_root() && !named(&[&word]) && super::super::clock::now_ns() < soon {
            let _ = watch::any::<()>(&[], Some(super::super::clock::now_ns() + 1_000_000));
        }
        let found = (named(&["-c", &word]), named(&[&word, "another"]), named(&[&word[1..]]));
        child.kill_group();
        assert_eq!(found, (nix::unistd::geteuid().is_root(), false, false));
        assert!(child.wait(super::super::clock::now_ns() + 5_000_000_000).expect("wait").is_some());
        // What it had forked and not yet made sleep dies with its group, but in its own time.
        let deadline = super::super::clock::now_ns() + 5_000_000_000;
        while !naming(Path::new("/proc"), &[&word]).is_empty() {
            assert!(super::super::clock::now_ns() < deadline, "it is found after its end");
            let _ = watch::any::<()>(&[], Some(super::super::clock::now_ns() + 1_000_000));
        }
    }

    #[test]
    fn a_program_has_what_it_is_given_besides_its_path() {
        let dir = tempfile::tempdir().expect("tempdir");
        let log = File::create(dir.path().join("log")).expect("made");
        let args = ["-c".to_owned(), "tr '\\0' '\\n' </proc/self/environ".to_owned()];
        let child = shell(&args, &["MORE=1", "AND=2"], log, Vec::new(), dir.path()).expect("spawn");
        assert_eq!(child.wait(super::super::clock::now_ns() + 10_000_000_000).expect("wait"), Some(End::Well));
        let told = std::fs::read_to_string(dir.path().join("log")).expect("read");
        let mut own: Vec<&str> = told.lines().filter(|line| !line.starts_with("PWD=")).collect(); // which dash adds
        own.sort_unstable();
        assert_eq!(own, ["AND=2", "MORE=1", &format!("PATH={PATH}")], "{told}");
    }

    #[test]
    fn a_program_finds_its_descriptors_directory_and_nothing_of_ours() {
        use nix::sys::signal::{SigSet, SigmaskHow, pthread_sigmask};
        let dir = tempfile::tempdir().expect("tempdir");
        let log = File::create(dir.path().join("log")).expect("made");
        let files = ["three", "four", "five"].map(|name| {
            std::fs::write(dir.path().join(name), name).expect("written");
            OwnedFd::from(File::open(dir.path().join(name)).expect("open"))
        });
        // SIGPIPE is ignored in a program of Rust's, and we have signals blocked.
        let mut before = SigSet::empty();
        pthread_sigmask(SigmaskHow::SIG_BLOCK, Some(&SigSet::from(Signal::SIGTERM)), Some(&mut before)).expect("blocked");
        let script = "cat <&3; cat <&4; cat <&5; [ -e /proc/self/fd/6 ] && echo six; pwd; tr '\\0' ' ' </proc/$$/cmdline; env; \
                      grep -E 'SigBlk|SigIgn' /proc/self/status; cut -d' ' -f5 /proc/self/stat; echo $$";
        let args = ["-c".to_owned(), script.to_owned(), "zero".to_owned()];
        let child = shell(&args, &[], log, files.into(), dir.path());
        pthread_sigmask(SigmaskHow::SIG_SETMASK, Some(&before), None).expect("as before");
        let child = child.expect("spawn");
        let end = child.wait(super::super::clock::now_ns() + 10_000_000_000).expect("wait");
        let told = std::fs::read_to_string(dir.path().join("log")).expect("read");
        assert_eq!(end, Some(End::Well), "{told}");
        let place = dir.path().canonicalize().expect("ours");
        assert!(told.starts_with(&format!("threefourfive{}\n/bin/sh -c ", place.display())), "{told}");
        assert!(told.contains(&format!("zero PATH={PATH}\n")), "{told}");
        for set in ["SigBlk", "SigIgn"] {
            let line = told.lines().find(|line| line.starts_with(set)).expect("told");
            assert!(line.ends_with("\t0000000000000000"), "{line}");
        }
        let last: Vec<&str> = told.lines().rev().take(2).collect();
        assert_eq!((last[0], last[1]), (&*child.pid.to_string(), &*child.pid.to_string()), "a group of its own: {told}");
    }

    #[test]
    fn what_cannot_be_executed_is_told_at_once() {
        let dir = tempfile::tempdir().expect("tempdir");
        let log = || File::create(dir.path().join("log")).expect("made");
        let started = |program: &Path, dir: &Path| {
            spawn(Spawn { program, image: None, args: &[], env: &[], log: log(), fds: Vec::new(), dir }).map(|child| child.pid)
        };
        std::fs::write(dir.path().join("text"), "no program").expect("written");
        let errno = |program: &Path, dir: &Path| started(program, dir).expect_err("no program").errno();
        assert_eq!(errno(&dir.path().join("none"), dir.path()), libc::ENOENT);
        assert_eq!(errno(&dir.path().join("text"), dir.path()), libc::EACCES);
        assert_eq!(errno(Path::new("/bin/true"), &dir.path().join("none")), libc::ENOENT);
    }

    #[test]
    fn our_own_start_time_can_be_read() {
        let me = std::process::id() as i32;
        assert!(start_ticks(Path::new("/proc"), me).is_some_and(|t| t > 0));
        assert_eq!(start_ticks(Path::new("/proc"), i32::MAX), None);
        let ticks = start_ticks(Path::new("/proc"), me).expect("ours");
        assert!(alive(Path::new("/proc"), me, ticks) && !alive(Path::new("/proc"), me, ticks + 1));
        assert!(!alive(Path::new("/proc"), i32::MAX, ticks));
    }
}
