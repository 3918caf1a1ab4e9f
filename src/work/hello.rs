//! A cell's first word, or what its runtime says in its place.

use super::faults;
use crate::model::fault::Fault;
use crate::model::wire::Report;
use crate::os::error::OsError;
use crate::os::process::{End, Process};
use crate::os::signal::Signals;
use crate::os::socket::{self, Packet, Peer};
use crate::os::watch::{self, For};
use crate::os::{clock, files};
use crate::runtime::log;
use crate::store::home::RunDir;
use std::os::fd::AsFd;
use std::path::Path;

pub(super) const FAILED: &str = "the runtime could not start the cell";
pub(super) const SILENT: &str = "the cell's init ended before it was ready";
pub(super) const LATE: &str = "the cell was not ready before the set-up deadline";

/// Why there is no cell.
#[derive(Debug)]
pub enum NoCell {
    Fault(Fault),
    /// A signal came first.
    Cancelled,
}

impl From<Fault> for NoCell {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

impl From<OsError> for NoCell {
    fn from(e: OsError) -> Self {
        Self::Fault(faults::ours(&e))
    }
}

/// Waits for init's first word; the runtime may still be busy with itself then. `None`: it is `up`, which was not known before.
pub(super) fn await_hello(
    peer: &Peer,
    runtime: &Process,
    run: &RunDir,
    signals: &Signals,
    deadline: u64,
    up: bool,
) -> Result<Option<Process>, NoCell> {
    #[derive(Clone, Copy, PartialEq)]
    enum Source {
        Peer,
        Runtime,
        Signals,
    }
    loop {
        let mut sources = vec![(Source::Peer, peer.as_fd(), For::Read), (Source::Signals, signals.as_fd(), For::Read)];
        if !up {
            sources.push((Source::Runtime, runtime.as_fd(), For::Read));
        }
        let ready = watch::any(&sources, Some(deadline)).map_err(|e| faults::ours(&socket::on_socket(e)))?;
        if ready.contains(&Source::Signals) && signals.next().is_ok_and(|s| s.is_some()) {
            return Err(NoCell::Cancelled);
        }
        if ready.contains(&Source::Peer) {
            match peer.receive::<Report>(true) {
                Ok(Some(Packet { message: Report::Hello, pid: Some(pid), .. })) => {
                    return Process::hold(pid).map(Some).map_err(|e| faults::ours(&socket::on_socket(e)).into());
                }
                // A runtime that fails closes the socket a moment before it has ended.
                _ => match runtime.await_end(deadline.min(clock::now_ns() + 1_000_000_000)) {
                    Ok(Some(End::Badly)) => return Err(complaint(run, FAILED).into()),
                    _ => return Err(complaint(run, SILENT).into()),
                },
            }
        }
        if ready.contains(&Source::Runtime) {
            match runtime.ended() {
                Ok(None) => {}
                Ok(Some(End::Well | End::Unknown)) => return Ok(None),
                Ok(Some(End::Badly)) | Err(_) => return Err(complaint(run, FAILED).into()),
            }
        }
        if clock::now_ns() >= deadline {
            let fault = complaint(run, LATE);
            return Err(Fault { code: "runtime:timeout", ..fault }.into());
        }
    }
}

/// The runtime's own words as a fault.
pub(super) fn complaint(run: &RunDir, what: &str) -> Fault {
    let read = |path: &Path| String::from_utf8_lossy(&files::read_some(path, 1 << 20).unwrap_or_default()).into_owned();
    let words = log::complaint(&read(&run.log()), &read(&run.console()));
    let message = if words.is_empty() { what.to_owned() } else { format!("{what}: {words}") };
    Fault::ours(log::code(&words), message).hint("runcell doctor tells what this host lacks")
}
