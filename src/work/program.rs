//! Programs of the host that do a part of the work: mmdebstrap, skopeo.

use crate::os::error::{At, OsResult};
use crate::os::process::{self, End, Spawn};
use crate::os::watch::{self, For};
use crate::os::{clock, files, signal};
use nix::sys::signal::Signal;
use std::fs::File;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

/// How much of a tool's last words an error repeats, in bytes.
const SHOWN: usize = 2000;

/// util-linux's way to let nothing of a tool outlive us, not even if we are killed: the first dies with its parent, the second's
/// child is PID 1 of a namespace and dies with it (prctl(2), PR_SET_PDEATHSIG; unshare(1), --kill-child).
const TIED: [&str; 8] =
    ["/usr/bin/setpriv", "--pdeathsig", "KILL", "/usr/bin/unshare", "--pid", "--kill-child", "--mount-proc", "--"];

/// The tool with its words, tied to us where the host has the means.
fn tied(tool: &Path, args: &[String]) -> (PathBuf, Vec<String>) {
    if !TIED.iter().filter(|word| word.starts_with('/')).all(|program| Path::new(program).exists()) {
        return (tool.to_owned(), args.to_vec());
    }
    let words = TIED[1..].iter().map(|word| (*word).to_owned());
    (TIED[0].into(), words.chain([tool.to_string_lossy().into_owned()]).chain(args.iter().cloned()).collect())
}

/// Runs a tool to its end; `None` where we were told to stop, or it took too long. It and its group are gone then.
///
/// # Errors
/// of starting it.
pub fn run(tool: &Path, args: &[String], log: &Path, dir: &Path, patience_ns: u64) -> OsResult<Option<End>> {
    let signals = signal::catch(&[Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP]).at("catch", "signals")?;
    let log = File::create(log).at("create", log)?;
    let (program, args) = tied(tool, args);
    let child = process::spawn(Spawn { program: &program, image: None, args: &args, env: &[], log, fds: Vec::new(), dir })?;
    let deadline = clock::now_ns().saturating_add(patience_ns);
    loop {
        if let Some(end) = child.ended().at("wait for", tool)? {
            let _ = child.wait_group(deadline);
            return Ok(Some(end));
        }
        let told = signals.next().at("read", "signals")?.is_some();
        if told || clock::now_ns() >= deadline {
            child.kill_group();
            let _ = child.wait(clock::now_ns() + 10_000_000_000);
            return Ok(None);
        }
        watch::any(&[((), child.as_fd(), For::Read), ((), signals.as_fd(), For::Read)], Some(deadline)).at("wait for", tool)?;
    }
}

/// The last words of a tool.
pub fn last_words(log: &Path) -> String {
    let log = files::read_some(log, 16 << 20).unwrap_or_default();
    String::from_utf8_lossy(&log[log.len().saturating_sub(SHOWN)..]).trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tool_and_all_that_it_starts_end_with_who_started_it() {
        let dir = tempfile::tempdir().expect("tempdir");
        let place = dir.path().join("log");
        let args = ["-c", "sleep 300 & echo up; sleep 300"].map(str::to_owned);
        let (program, args) = tied(Path::new("/bin/sh"), &args);
        if program == Path::new("/bin/sh") || !nix::unistd::geteuid().is_root() {
            return; // a host without util-linux, or a namespace that takes root
        }
        let start = || {
            let log = File::create(&place).expect("ours");
            let child = process::spawn(Spawn {
                program: &program,
                image: None,
                args: &args,
                env: &[],
                log,
                fds: Vec::new(),
                dir: dir.path(),
            });
            while files::read_some(&place, 100).expect("ours") != b"up\n" {
                let _ = watch::any::<()>(&[], Some(clock::now_ns() + 1_000_000));
            }
            child.expect("started")
        };
        // Its parent is the thread, as the kernel has it, and that ends here.
        let child = std::thread::scope(|scope| scope.spawn(start).join().expect("no panic"));
        let end = child.wait(clock::now_ns() + 20_000_000_000).expect("ours");
        assert!(end.is_some(), "it was to die with its parent");
    }
}
