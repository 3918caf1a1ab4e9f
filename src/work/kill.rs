//! Stops a run from outside: its supervisor is asked to cancel, and what has no supervisor is demolished.

use super::{demolish, faults, host, settings};
use crate::model::fault::Fault;
use crate::model::policy::Policy;
use crate::os::clock;
use crate::os::process::{self, Process};
use crate::os::watch;
use crate::store::home::{Home, RunDir};
use crate::store::runs::{self, Found};
use serde::Serialize;
use std::path::Path;

/// How long a cancelled run may take to end: the largest grace, and some.
const PATIENCE_NS: u64 = 30_000_000_000;

#[derive(Debug, Serialize)]
pub struct Killed {
    pub killed: Vec<String>,
}

/// Stops the runs that bear this name, as run id or as job id, and returns when they are gone.
///
/// # Errors
/// exit 2 `run:!exists` where there is none; exit 4 where one does not end.
pub fn kill(policy: &Policy, root: Option<&Path>, name: &str) -> Result<Killed, Fault> {
    let home = settings::home(root, policy)?;
    let bears =
        |dir: &RunDir| dir.id.as_str() == name || runs::read(dir).and_then(|r| r.id).is_some_and(|id| id.as_str() == name);
    let named: Vec<RunDir> = runs::names(&home).map_err(|e| faults::ours(&e))?.into_iter().filter(bears).collect();
    if named.is_empty() {
        return Err(Fault::caller("run:!exists", format!("there is no run {name:?}")).at("id").hint("runcell list shows them"));
    }
    let killed = named.iter().map(|dir| dir.id.to_string()).collect();
    for dir in named {
        stop(&home, dir)?;
    }
    Ok(Killed { killed })
}

/// Stops one run, and returns when it is gone.
///
/// # Errors
/// exit 4 where it does not end.
pub(super) fn stop(home: &Home, dir: RunDir) -> Result<(), Fault> {
    let deadline = clock::now_ns() + PATIENCE_NS;
    let mut asked = false;
    loop {
        match runs::claim(dir.clone()).map_err(|e| faults::ours(&e))? {
            None => return Ok(()),
            Some(Found::Stale(owned)) => {
                return demolish::stale(home, &host::trees()?, owned).map_err(|e| faults::ours(&e));
            }
            Some(Found::Live(_)) if !asked => asked = cancel(&dir),
            Some(Found::Live(_)) => {}
        }
        if clock::now_ns() >= deadline {
            return Err(Fault::ours("run:stuck", format!("the run {} does not end", dir.id)).hint("runcell doctor; runcell gc"));
        }
        // Leases tell nobody when they end: look again.
        let _ = watch::any::<()>(&[], Some(clock::now_ns() + 10_000_000));
    }
}

/// Sends TERM to the supervisor, if the pid in the record is still the process that wrote it.
fn cancel(dir: &RunDir) -> bool {
    let Some(supervisor) = runs::read(dir).map(|r| r.supervisor) else { return false };
    let Ok(process) = Process::hold(supervisor.pid) else { return false };
    let same = process::start_ticks(Path::new("/proc"), supervisor.pid) == Some(supervisor.start_ticks);
    same && process.terminate().is_ok()
}
