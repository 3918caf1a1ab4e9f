//! Programs of the host that do a part of the work: mmdebstrap, skopeo.

use crate::os::error::{At, OsResult};
use crate::os::process::{self, End, Spawn};
use crate::os::watch::{self, For};
use crate::os::{clock, files, signal};
use nix::sys::signal::Signal;
use std::fs::File;
use std::os::fd::AsFd;
use std::path::Path;

/// How much of a tool's last words an error repeats, in bytes.
const SHOWN: usize = 2000;

/// Runs a tool to its end; `None` where we were told to stop, or it took too long. It and its group are gone then.
///
/// # Errors
/// of starting it.
pub fn run(tool: &Path, args: &[String], log: &Path, dir: &Path, patience_ns: u64) -> OsResult<Option<End>> {
    let signals = signal::catch(&[Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP]).at("catch", "signals")?;
    let log = File::create(log).at("create", log)?;
    let child = process::spawn(Spawn { program: tool, args, log, fd3: None, dir, ids: None })?;
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
