//! The program's own process, from clone to execve: everything that must hold for it is set here, last the filter.

use super::ready::Ready;
use crate::model::wire::{Dispatch, StartFailure, Step};
use crate::os::{clock, limit, signal, sys, topology};
use nix::unistd::Pid;
use std::cell::Cell;
use std::ffi::{CString, OsStr};
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt};

/// How much of a program's beginning tells what it is (BINPRM_BUF_SIZE, linux/binfmts.h).
const HEAD: u64 = 256;

/// What a program is born with.
#[derive(Debug)]
pub struct Cradle {
    stack: sys::Stack,
    /// Our own place in the kernel's choice of whom to kill when memory ends. The program inherits another: its process has no way
    /// to its own file in /proc, which belongs to host root as long as it shares our memory (measured: EACCES).
    score: File,
    own_score: String,
}

impl Cradle {
    /// # Errors
    /// of mmap, and of opening what only a dumpable process may.
    pub fn new() -> io::Result<Self> {
        let mut score = File::options().read(true).write(true).open("/proc/self/oom_score_adj")?;
        let mut own_score = String::new();
        score.read_to_string(&mut own_score)?;
        Ok(Self { stack: sys::Stack::new()?, score, own_score })
    }
}

/// A program that runs.
#[derive(Debug)]
pub struct Started {
    pub pid: Pid,
    /// When its execve was called, as CLOCK_MONOTONIC tells it. On a busy host we may come to know long after.
    pub at_ns: u64,
}

/// Starts the program. The child shares our memory until its execve, so that nothing is copied and its word is known at once:
/// what became of it, or why nothing did. Meanwhile we hear nobody; a program on a file system that does not answer is ended from
/// outside.
///
/// # Errors
/// of clone, and of what comes before it.
pub fn start(
    d: &Dispatch,
    stdio: &[OwnedFd; 3],
    ready: &Ready,
    cradle: &mut Cradle,
) -> io::Result<Result<Started, StartFailure>> {
    let Cradle { stack, score, own_score } = cradle;
    let goal = Goal::of(d)?;
    let (mut failure, at_ns) = (None, Cell::new(0));
    score.write_at(d.oom_score_adj.to_string().as_bytes(), 0)?;
    let pid = sys::lend(stack, &mut || failure = Some(become_program(d, &goal, stdio, ready, &at_ns)));
    // Were that refused, we would be as likely to be chosen as the program, but for our size.
    let _ = score.write_at(own_score.as_bytes(), 0);
    let pid = Pid::from_raw(pid?);
    Ok(failure.map_or(Ok(Started { pid, at_ns: at_ns.get() }), Err))
}

/// What is executed. It is made before there is a child, which would leave it in our memory.
struct Goal {
    programs: Vec<Program>,
    env: sys::Strings,
}

/// One that may exist: some programs look at the name by which they were called.
struct Program {
    argv: sys::Strings,
    places: Vec<CString>,
}

impl Goal {
    fn of(d: &Dispatch) -> io::Result<Self> {
        let name = d.argv.first().map(String::as_str).unwrap_or_default();
        let programs = std::iter::once(name).chain(d.fallbacks.iter().map(String::as_str)).map(|name| {
            let argv: Vec<&str> = std::iter::once(name).chain(d.argv.iter().skip(1).map(String::as_str)).collect();
            let places = candidates(name, &d.env).into_iter().map(CString::new).collect::<Result<_, _>>()?;
            Ok(Program { argv: sys::Strings::new(&argv)?, places })
        });
        Ok(Self { programs: programs.collect::<io::Result<_>>()?, env: sys::Strings::new(&d.env)? })
    }
}

fn failed(step: Step, path: &str, e: &io::Error) -> StartFailure {
    let errno = e.raw_os_error().unwrap_or(libc::EIO);
    StartFailure { step, errno, path: path.chars().take(1024).collect(), head: Default::default(), mode: 0 }
}

/// Returns only if it failed.
fn become_program(d: &Dispatch, goal: &Goal, stdio: &[OwnedFd; 3], ready: &Ready, at_ns: &Cell<u64>) -> StartFailure {
    match prepare(d, stdio, ready) {
        Err(failure) => failure,
        Ok(()) => execute(d, goal, at_ns),
    }
}

fn prepare(d: &Dispatch, stdio: &[OwnedFd; 3], ready: &Ready) -> Result<(), StartFailure> {
    let fork = |e: io::Error| failed(Step::Fork, "", &e);
    nix::unistd::setsid().map_err(|e| fork(e.into()))?;
    sys::default_sigpipe();
    signal::unblock_all().map_err(fork)?;
    for (number, fd) in (0..).zip(stdio) {
        sys::place(fd.as_fd(), number).map_err(fork)?;
    }
    std::env::set_current_dir(&d.cwd).map_err(|e| failed(Step::Cwd, &d.cwd, &e))?;
    ready.rules(d).map_err(|e| failed(Step::Confine, "landlock", &e))?;
    if !d.cpus.is_empty() {
        topology::keep_to(&d.cpus).map_err(|e| failed(Step::Confine, "cpus", &e))?;
    }
    // A wish: a kernel without NUMA has no far memory either.
    let _ = d.node.map(topology::prefer_node);
    for (name, value) in &d.rlimits {
        limit::set(*name, *value).map_err(|e| failed(Step::Rlimit, &format!("{name:?}"), &e))?;
    }
    ready.filter(d.filter.as_ref().map(|filter| filter.as_slice())).map_err(|e| failed(Step::Confine, "seccomp", &e))
}

/// Tries each place where the program may be, as execvp(3) does, but keeps apart what that lumps together: a program that
/// exists and whose interpreter does not ends the search, as the answer would else be "no such program".
fn execute(d: &Dispatch, goal: &Goal, at_ns: &Cell<u64>) -> StartFailure {
    let mut answer = (libc::ENOENT, d.argv.first().cloned().unwrap_or_default());
    let all = goal.programs.iter().flat_map(|program| program.places.iter().map(move |place| (program, place)));
    for (program, path) in all {
        let place = OsStr::from_bytes(path.to_bytes());
        // Most places have no such program, and a look is cheaper than a try.
        if std::fs::symlink_metadata(place).is_err_and(|e| e.kind() == io::ErrorKind::NotFound) {
            continue;
        }
        at_ns.set(clock::now_ns()); // a cell: to the compiler nobody would see a plain variable's new value if this succeeds
        let errno = sys::execve(path, &program.argv, &goal.env).raw_os_error().unwrap_or(libc::EIO);
        let exists = std::fs::metadata(place).is_ok();
        let place = || path.to_string_lossy().into_owned();
        match errno {
            libc::ENOENT | libc::ENOTDIR if !exists => {}
            // Not the last word: a later directory may have one that can be executed.
            libc::EACCES => answer = (errno, place()),
            _ => return described(errno, &place()),
        }
    }
    described(answer.0, &answer.1)
}

fn candidates(name: &str, env: &[String]) -> Vec<String> {
    if name.contains('/') {
        return vec![name.to_owned()];
    }
    let path = env.iter().find_map(|line| line.strip_prefix("PATH=")).unwrap_or_default();
    let place = |dir: &str| if dir.is_empty() { format!("./{name}") } else { format!("{dir}/{name}") };
    path.split(':').map(place).collect()
}

fn described(errno: i32, path: &str) -> StartFailure {
    let mode = std::fs::metadata(path).map_or(0, |m| m.mode());
    let mut head = Vec::new();
    if mode & libc::S_IFMT == libc::S_IFREG
        && let Ok(file) = File::open(path)
    {
        let _ = file.take(HEAD).read_to_end(&mut head);
    }
    StartFailure { step: Step::Exec, errno, path: path.chars().take(1024).collect(), head: head.into(), mode }
}
