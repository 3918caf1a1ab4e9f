//! What an avatar's cells have that others' have not: host ids for life, a home, and a group of its kata's around their own.

use super::host::Host;
use super::stash::Stash;
use super::{demolish, faults};
use crate::model::colour::ColourRule;
use crate::model::facts::Layout;
use crate::model::fault::Fault;
use crate::model::plan::Plan;
use crate::model::policy::Policy;
use crate::model::record::Record;
use crate::os::cgroup::Trees;
use crate::os::error::OsResult;
use crate::os::{clock, watch};
use crate::rules::home;
use crate::store::cells;
use crate::store::home::{Home, RunDir};
use crate::store::ids::{self, Slot};
use crate::store::runs::{self, Found};

/// How long whoever has an avatar's ids for a moment is waited for: one that makes a cell ahead of its run, or looks for a slot.
const PATIENCE_NS: u64 = 10_000_000_000;

/// What is an avatar's own.
#[derive(Clone, Debug)]
pub struct Own {
    /// The first of its host ids.
    pub first_id: u32,
    /// Its kata's group and the bytes that it may use, where it has a bound.
    pub group: Option<(String, u64)>,
    /// Colour rules in place of the bundle's.
    pub colours: Option<Vec<ColourRule>>,
    /// Created files that nobody wants.
    pub prune: Vec<String>,
}

impl Own {
    /// Has a plan, and the host as it sees it, be this avatar's; `stash` is its home where it is to run.
    ///
    /// # Errors
    /// of the kata's group, of the job's files.
    pub(super) fn imprint(self, plan: &mut Plan, host: &mut Host, stash: Option<&mut Stash>) -> Result<(), Fault> {
        plan.shape.first_id = Some(self.first_id);
        if let Some((name, memory)) = self.group {
            let parent = format!("{}/{name}", host.parent);
            enclose(&host.trees, &parent, memory).map_err(|e| faults::ours(&e))?;
            host.parent = parent;
        }
        if let Some(stash) = stash {
            plan.fill.brought = stash.bring(std::mem::take(&mut plan.fill.files))?;
            plan.fill.collect = Some(home::collect(&plan.limits, self.prune));
        }
        Ok(())
    }
}

/// Makes a group around a kata's cells, or finds it, and bounds their memory together.
fn enclose(trees: &Trees, name: &str, memory: u64) -> OsResult<()> {
    trees.prepare(name)?;
    let (controller, file) = match trees.layout {
        Layout::V2 => ("memory", "memory.max"),
        Layout::V1 => ("memory", "memory.limit_in_bytes"),
    };
    let group = trees.group(name);
    group.make(controller)?;
    group.set(controller, file, &memory.to_string())
}

/// Leases a range of host ids for the run: its number into the record first, then the mark, so that a crash leaves a clean
/// slot or one that gc finds.
pub(super) fn ids(
    policy: &Policy,
    trees: &Trees,
    own: Option<u32>,
    home: &Home,
    dir: &RunDir,
    record: &mut Record,
) -> Result<Slot, Fault> {
    match own {
        Some(first) => lease(home, trees, first, dir, record),
        None => anybodys(policy, trees, home, dir, record).map_err(|e| faults::ours(&e))?.ok_or_else(no_ids),
    }
}

/// Leases a range that is nobody's. Where there is none, the dead may have them: more of those than each start clears in passing.
fn anybodys(policy: &Policy, trees: &Trees, home: &Home, dir: &RunDir, record: &mut Record) -> OsResult<Option<Slot>> {
    if let Some(slot) = ids::lease(home, policy.ids, dir, record)? {
        return Ok(Some(slot));
    }
    demolish::dead(home, trees)?;
    ids::lease(home, policy.ids, dir, record)
}

fn no_ids() -> Fault {
    Fault::host("ids:exhausted", "every id range of the policy is in use or in quarantine")
        .at("ids")
        .hint("run fewer jobs at once, free quarantined ranges with: runcell gc; or widen ids in the policy")
}

/// Leases the ids that are an avatar's for a run of its, as [`ids::lease`] does any. A cell that waits with them, of another
/// shape or no longer fit, is ended; a run that died with them is demolished.
///
/// # Errors
/// exit 3 where somebody has them for good; exit 4 of flock and write.
fn lease(home: &Home, trees: &Trees, first: u32, dir: &RunDir, record: &mut Record) -> Result<Slot, Fault> {
    let os = |e| faults::ours(&e);
    let deadline = clock::now_ns() + PATIENCE_NS;
    loop {
        if let Some(slot) = ids::open(home, first).map_err(os)? {
            let Some(run) = slot.owner().map_err(os)? else {
                record.first_id = Some(first);
                runs::write(dir, record).map_err(os)?;
                slot.mark(&record.run).map_err(os)?;
                return Ok(slot);
            };
            drop(slot);
            vacate(home, trees, &run).map_err(os)?;
        }
        if clock::now_ns() >= deadline {
            return Err(Fault::host("ids:busy", format!("the host ids from {first}, which are this avatar's, are in use"))
                .at("avatar")
                .hint(
                    "runcell list shows who runs; runcell gc frees what crashes left; runcell doctor tells of ids in quarantine",
                ));
        }
        let _ = watch::any::<()>(&[], Some(clock::now_ns() + 1_000_000));
    }
}

/// Ends what waits, or is left, of a run with an avatar's ids.
///
/// # Errors
/// of the first step that fails.
pub(super) fn vacate(home: &Home, trees: &Trees, run: &str) -> OsResult<()> {
    if let Some(cell) = cells::all(home).into_iter().find(|cell| cell.id.as_str() == run) {
        return demolish::burn(home, trees, &cell).map(drop);
    }
    let Ok(id) = crate::model::names::RunId::try_from(run.to_owned()) else { return Ok(()) };
    match demolish::claim_dead(home.run(&id))? {
        Some(Found::Stale(owned)) => demolish::stale(home, trees, owned),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::policy::IdRange;
    use crate::model::record::RunState;
    use crate::work::run;

    fn record(dir: &RunDir) -> Record {
        Record {
            run: dir.id.clone(),
            id: None,
            state: RunState::Preparing,
            supervisor: run::ourselves(),
            argv0: String::new(),
            cgroup: format!("/none/{}", dir.id),
            first_id: None,
            floor: None,
        }
    }

    #[test]
    fn ids_that_only_the_dead_have_are_free_and_those_of_the_living_are_not() {
        let root = tempfile::tempdir().expect("tempdir");
        let home = Home::open(root.path().to_owned()).expect("home");
        let policy = Policy { ids: IdRange { first: 1 << 30, count: 65_536 }, ..Policy::default() };
        let trees = Trees { layout: Layout::V2, trees: Vec::new() };
        let one = runs::create(&home).expect("created");
        let mut told = record(&one.dir);
        let slot = ids(&policy, &trees, None, &home, &one.dir, &mut told).expect("free");
        let two = runs::create(&home).expect("created");
        let take = || ids(&policy, &trees, None, &home, &two.dir, &mut record(&two.dir));
        assert_eq!(take().expect_err("in use").code, "ids:exhausted");
        // Its supervisor is gone, with every lease that it had.
        let path = one.dir.path().to_owned();
        drop((slot, one));
        assert_eq!(take().expect("cleared").first, 1 << 30);
        assert!(!path.exists());
    }
}
