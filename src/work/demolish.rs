//! The only teardown: of a normal end, of a panic, and of what gc finds. Every step is idempotent and reads what it needs
//! from the run's record, so it may be done twice, or from any half-way point.

use crate::model::names::RunId;
use crate::model::record::Record;
use crate::os::cgroup::{Group, Trees};
use crate::os::error::{At, OsResult};
use crate::os::{clock, files, process, watch};
use crate::runtime::driver;
use crate::store::cells::{self, Waiting};
use crate::store::home::{Home, RunDir};
use crate::store::ids::{self, Slot};
use crate::store::runs::{self, Found, Owned};
use std::path::Path;

/// How long dying processes may take before the cell counts as not cleaned up.
pub(super) const DEADLINE_NS: u64 = 5_000_000_000;

/// Ends every process of the group and removes it: rmdir succeeds only on an empty group, so `Ok` is a proof.
///
/// # Errors
/// EBUSY where something resists (a process in uninterruptible sleep).
pub fn empty(group: &Group) -> OsResult<()> {
    let deadline = clock::now_ns() + DEADLINE_NS;
    // Mostly there is nothing to kill any more.
    if group.remove(0).is_ok() {
        return Ok(());
    }
    group.kill();
    group.remove(deadline)
}

/// Ends all that belongs to a run and proves it gone: [`empty`], after the runtime that may still be at work, for whoever asked
/// it was killed or has given up. It is in no group of the cell's, and would go on making what is removed here.
///
/// # Errors
/// EBUSY where the runtime or a process resists.
pub fn extinguish(trees: &Trees, run: &RunId, cgroup: &str) -> OsResult<()> {
    let deadline = clock::now_ns() + DEADLINE_NS;
    for runtime in driver::starting(run.as_str()) {
        runtime.kill_group();
        runtime.kill();
        let ended = runtime.wait(deadline).at("wait for the runtime of", run.as_str())?;
        ended.ok_or_else(busy).at("end the runtime of", run.as_str())?;
    }
    empty(&trees.group(cgroup))
}

/// Removes what only the runtime needed, of a cell that is up: whoever ends it asks no runtime.
///
/// # Errors
/// of the first step that fails.
pub fn strip(home: &Home, run: &RunDir) -> OsResult<()> {
    files::remove_tree(&home.container(&run.id))?;
    [run.config(), run.log(), run.console()].iter().try_for_each(|path| std::fs::remove_file(path).at("remove", path))
}

/// Removes what is left of a run whose cell is proven empty.
///
/// # Errors
/// of the first step that fails; what is undone stays for gc, the id range in quarantine.
pub fn clear(home: &Home, owned: Owned, slot: Option<Slot>) -> OsResult<()> {
    files::remove_tree(&home.container(&owned.dir.id))?;
    if let Some(slot) = slot {
        slot.release(&owned.dir.id)?;
    }
    runs::remove(&owned.dir)
}

/// Demolishes a run that nobody owns any more.
///
/// # Errors
/// of the first step that fails; gc may come again.
pub fn stale(home: &Home, trees: &Trees, owned: Owned) -> OsResult<()> {
    let Some(Record { cgroup, first_id, .. }) = runs::read(&owned.dir) else {
        // A crash came before its record, and so before anything else was made.
        return files::remove_tree(owned.dir.path());
    };
    extinguish(trees, &owned.dir.id, &cgroup)?;
    let slot = first_id.map(|first| reopen(home, first)).transpose()?;
    clear(home, owned, slot)
}

/// Who owns a run. A child that its supervisor was just making when it was killed has a copy of its lease until it executes,
/// or notices: that moment is waited for, lest such a run be taken for a live one.
pub(super) fn claim_dead(dir: RunDir) -> OsResult<Option<Found>> {
    for _ in 0..100 {
        match runs::claim(dir.clone())? {
            Some(Found::Live(dir)) if abandoned(&dir) => {
                let _ = watch::any::<()>(&[], Some(clock::now_ns() + 5_000_000));
            }
            found => return Ok(found),
        }
    }
    Ok(Some(Found::Live(dir)))
}

/// Demolishes all runs that nobody owns any more; what resists is left to gc, which tells of it.
///
/// # Errors
/// of listing the runs.
pub(super) fn dead(home: &Home, trees: &Trees) -> OsResult<()> {
    for dir in runs::names(home)? {
        if let Ok(Some(Found::Stale(owned))) = claim_dead(dir) {
            let _ = stale(home, trees, owned);
        }
    }
    Ok(())
}

fn abandoned(dir: &RunDir) -> bool {
    let supervisor = runs::read(dir).map(|record| record.supervisor);
    supervisor.is_some_and(|s| !process::alive(Path::new("/proc"), s.pid, s.start_ticks))
}

/// Takes a waiting cell and demolishes it. `Ok(false)`: somebody else has taken it.
///
/// # Errors
/// of the first step that fails; it is among the runs then, with no owner.
pub(super) fn burn(home: &Home, trees: &Trees, cell: &Waiting) -> OsResult<bool> {
    let Some(owned) = cells::take(home, cell)? else { return Ok(false) };
    stale(home, trees, owned).map(|()| true)
}

fn busy() -> std::io::Error {
    std::io::Error::from_raw_os_error(libc::EBUSY)
}

/// A dead run's slot. Whoever looks for a free one holds each for a moment: wait for that.
pub(super) fn reopen(home: &Home, first: u32) -> OsResult<Slot> {
    for _ in 0..100 {
        if let Some(slot) = ids::open(home, first)? {
            return Ok(slot);
        }
        let _ = watch::any::<()>(&[], Some(clock::now_ns() + 1_000_000));
    }
    // The run stays as it is, and with it the mark of who must free the range: gc comes again.
    Err(busy()).at("free the id range", home.ids().join(first.to_string()))
}
