//! Garbage: whatever no living process owns.

use super::prune::{self, Pruned};
use super::{demolish, faults, host, retire, settings, shape};
use crate::model::fault::Fault;
use crate::model::policy::Policy;
use crate::os::cgroup::Trees;
use crate::os::clock;
use crate::rules::garbage::Wishes;
use crate::store::cells::{self, Waiting};
use crate::store::home::Home;
use crate::store::runs::{self, Found};
use crate::store::skeletons;
use serde::Serialize;
use std::path::Path;

/// How long a start may spend on the leftovers of others.
const IN_PASSING_NS: u64 = 20_000_000;

#[derive(Debug, Default, Serialize)]
pub struct Swept {
    pub dry_run: bool,
    /// Runs that were demolished, or would be.
    pub removed: Vec<String>,
    /// Runs that somebody alive owns.
    pub live: Vec<String>,
    /// Cells that wait for a job.
    pub waiting: Vec<String>,
    /// Runs that resisted, and why.
    pub failed: Vec<Failure>,
    /// Katas, avatars' host ids and katas' groups that crashes had left half gone.
    pub katas: usize,
    /// What went from the image store.
    pub store: Pruned,
}

#[derive(Debug, Serialize)]
pub struct Failure {
    pub run: String,
    pub why: String,
}

/// Demolishes every run without an owner, and what nobody needs in the image store; with `dry_run` only names it all.
///
/// # Errors
/// exit 3 or 4 where the state cannot be read at all; a run that resists is reported, not an error.
pub fn gc(policy: &Policy, root: Option<&Path>, wishes: Wishes, dry_run: bool) -> Result<Swept, Fault> {
    let home = settings::home(root, policy)?;
    let trees = host::trees()?;
    let mut swept = Swept { dry_run, ..Swept::default() };
    for dir in runs::names(&home).map_err(|e| faults::ours(&e))? {
        let Some(found) = demolish::claim_dead(dir).map_err(|e| faults::ours(&e))? else { continue };
        match found {
            Found::Live(dir) => swept.live.push(dir.id.to_string()),
            Found::Stale(owned) => {
                let run = owned.dir.id.to_string();
                let done = if dry_run { Ok(()) } else { demolish::stale(&home, &trees, owned) };
                match done {
                    Ok(()) => swept.removed.push(run),
                    Err(e) => swept.failed.push(Failure { run, why: e.to_string() }),
                }
            }
        }
    }
    cells(&home, &trees, &mut swept)?;
    if !dry_run {
        skeletons::sweep(&home).map_err(|e| faults::ours(&e))?;
        swept.katas = retire::sweep(policy, root)?;
    }
    swept.store = prune::prune(&settings::depot(root, policy), wishes, dry_run)?;
    Ok(swept)
}

/// Ends waiting cells that nobody will take: expired, dead, or of another boot, kernel or build.
fn cells(home: &Home, trees: &Trees, swept: &mut Swept) -> Result<(), Fault> {
    let epoch = shape::epoch().map_err(|e| faults::ours(&e))?;
    for cell in cells::all(home) {
        let run = cell.id.to_string();
        let alive = runs::read(&cell.dir()).is_some_and(|record| !trees.group(&record.cgroup).processes().is_empty());
        let kept = alive && !cell.expired() && cell.shape.split('.').next() == Some(epoch.as_str());
        let done = if kept || swept.dry_run { Ok(!kept) } else { demolish::burn(home, trees, &cell) };
        match done {
            Ok(true) => swept.removed.push(run),
            Ok(false) => swept.waiting.extend(kept.then_some(run)),
            Err(e) => swept.failed.push(Failure { run, why: e.to_string() }),
        }
    }
    if !swept.dry_run {
        cells::tidy(home);
    }
    Ok(())
}

/// What each start does for the others, for a bounded time; trouble is left to `gc`, which tells of it. `waiting` are the cells
/// that there are.
pub fn in_passing(home: &Home, trees: &Trees, waiting: &[Waiting]) {
    let deadline = clock::now_ns() + IN_PASSING_NS;
    for dir in runs::names(home).unwrap_or_default() {
        if let Ok(Some(Found::Stale(owned))) = runs::claim(dir) {
            let _ = demolish::stale(home, trees, owned);
        }
        // Looked at afterwards: however slow this host is, each start gets something done.
        if clock::now_ns() >= deadline {
            return;
        }
    }
    for cell in waiting.iter().filter(|cell| cell.expired()) {
        let _ = demolish::burn(home, trees, cell);
        if clock::now_ns() >= deadline {
            return;
        }
    }
}
