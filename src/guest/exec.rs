//! The program's own process, from fork to execve: everything that must hold for it is set here, last the filter.

use super::ready::Ready;
use crate::model::wire::{Dispatch, StartFailure, Step};
use crate::os::{limit, signal, sys, topology};
use nix::unistd::Pid;
use std::ffi::CString;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;

/// How much of a program's beginning tells what it is (BINPRM_BUF_SIZE, linux/binfmts.h).
const HEAD: u64 = 256;

/// A child on its way to execve.
pub struct Started {
    pub pid: Pid,
    /// Ends silently when execve succeeds (it is close-on-exec), or carries why it did not.
    pub word: OwnedFd,
}

/// Forks the program's process.
///
/// # Errors
/// of pipe and fork.
pub fn start(dispatch: &Dispatch, stdio: [OwnedFd; 3], ready: &Ready) -> io::Result<Started> {
    let (word, tell) = io::pipe()?;
    match sys::fork()? {
        sys::Fork::Child => {
            drop(word);
            let failure = become_program(dispatch, &stdio, ready);
            // At most 4 KiB, which a pipe takes in one piece.
            let bytes = postcard::to_stdvec(&failure).unwrap_or_default();
            let _ = (&tell).write_all(&bytes);
            sys::exit_now(127)
        }
        sys::Fork::Parent(pid) => Ok(Started { pid: Pid::from_raw(pid), word: word.into() }),
    }
}

/// What the child had to say: nothing, if its execve succeeded.
///
/// # Errors
/// of read.
pub fn failure(word: OwnedFd) -> io::Result<Option<StartFailure>> {
    let mut bytes = Vec::new();
    File::from(word).take(64 * 1024).read_to_end(&mut bytes)?;
    match bytes.is_empty() {
        true => Ok(None),
        false => postcard::from_bytes(&bytes).map(Some).map_err(io::Error::other),
    }
}

fn failed(step: Step, path: &str, e: &io::Error) -> StartFailure {
    let errno = e.raw_os_error().unwrap_or(libc::EIO);
    StartFailure { step, errno, path: path.chars().take(1024).collect(), head: Default::default(), mode: 0 }
}

/// Returns only if it failed.
fn become_program(d: &Dispatch, stdio: &[OwnedFd; 3], ready: &Ready) -> StartFailure {
    match prepare(d, stdio, ready) {
        Err(failure) => failure,
        Ok((argv, env)) => execute(d, &argv, &env),
    }
}

type Strings = Vec<CString>;

fn prepare(d: &Dispatch, stdio: &[OwnedFd; 3], ready: &Ready) -> Result<(Strings, Strings), StartFailure> {
    let strings = |all: &[String]| all.iter().map(|s| CString::new(s.as_str())).collect::<Result<Strings, _>>();
    let invalid = |_| failed(Step::Exec, "argv", &io::Error::from_raw_os_error(libc::EINVAL));
    let (argv, env) = (strings(&d.argv).map_err(invalid)?, strings(&d.env).map_err(invalid)?);
    let fork = |e: io::Error| failed(Step::Fork, "", &e);
    nix::unistd::setsid().map_err(|e| fork(e.into()))?;
    // /proc/self of an undumpable process belongs to host root (measured: EACCES). No program runs yet that could look at us.
    nix::sys::prctl::set_dumpable(true).map_err(|e| fork(e.into()))?;
    std::fs::write("/proc/self/oom_score_adj", d.oom_score_adj.to_string()).map_err(fork)?;
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
    ready.filter(d).map_err(|e| failed(Step::Confine, "seccomp", &e))?;
    Ok((argv, env))
}

/// Tries each place where the program may be, as execvp(3) does, but keeps apart what that lumps together: a program that
/// exists and whose interpreter does not ends the search, as the answer would else be "no such program".
fn execute(d: &Dispatch, argv: &[CString], env: &[CString]) -> StartFailure {
    let name = d.argv.first().map(String::as_str).unwrap_or_default();
    let mut answer = (libc::ENOENT, name.to_owned());
    for candidate in candidates(name, &d.env) {
        let Ok(path) = CString::new(candidate.as_str()) else { continue };
        // Most places have no such program, and a look is cheaper than a try.
        if std::fs::symlink_metadata(&candidate).is_err_and(|e| e.kind() == io::ErrorKind::NotFound) {
            continue;
        }
        let errno = match nix::unistd::execve(&path, argv, env) {
            Ok(never) => match never {},
            Err(e) => e as i32,
        };
        let exists = std::fs::metadata(&candidate).is_ok();
        match errno {
            libc::ENOENT | libc::ENOTDIR if !exists => {}
            // Not the last word: a later directory may have one that can be executed.
            libc::EACCES => answer = (errno, candidate),
            _ => return described(errno, &candidate),
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
