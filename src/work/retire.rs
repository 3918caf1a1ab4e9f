//! Katas and avatars end: their runs stopped, their waiting cells ended, homes and groups gone, host ids free.
//!
//! Theory of operation. The first act takes the kata's directory off its shelf, by one rename: nobody finds it any more, and
//! whoever is in it is stopped. What follows needs nothing but that directory, and each step may be done twice, so that gc
//! finishes what a crash left half done. A range of host ids is given back only when its slot is clean, which is the proof that
//! no process has them.

use super::katas::{self as kata, Shown};
use super::{demolish, faults, host, kill, own, settings};
use crate::model::avatar::{AvatarName, KataId};
use crate::model::fault::Fault;
use crate::model::kata::Member;
use crate::model::policy::Policy;
use crate::os::cgroup::Trees;
use crate::os::error::OsResult;
use crate::os::{clock, files, lease, raze, watch};
use crate::store::avatars::{self, AvatarDir};
use crate::store::depot::Depot;
use crate::store::home::Home;
use crate::store::{cells, ids, katas, runs};
use serde::Serialize;
use std::collections::BTreeSet;
use std::path::Path;

/// How long what was told to stop may take: the largest grace of a job, and some.
const PATIENCE_NS: u64 = 60_000_000_000;

#[derive(Debug, Serialize)]
pub struct Retired {
    pub kata: KataId,
    /// Who had been in it, or the one that was asked for.
    pub avatars: Vec<AvatarName>,
}

#[derive(Debug, Default, Serialize)]
pub struct Reaped {
    pub dry_run: bool,
    /// In the order in which they went, or would go: the least recently used first.
    pub reaped: Vec<Shown>,
    /// Old enough, but with a run in progress.
    pub busy: Vec<KataId>,
}

/// Retires a kata, and returns when nothing of it is left.
///
/// # Errors
/// exit 2 where there is none; exit 4 where something resists, which gc tries again.
pub fn kata(policy: &Policy, root: Option<&Path>, id: &KataId) -> Result<Retired, Fault> {
    let ground = Ground::new(policy, root)?;
    let dir = katas::dir(&ground.depot, id);
    let gone = katas::put_away(&ground.depot, &dir).map_err(|e| faults::ours(&e))?.ok_or_else(|| kata::no_kata(id))?;
    let members = ground.finish(&gone)?;
    ground.dissolve(id)?;
    Ok(Retired { kata: id.clone(), avatars: members })
}

/// Retires one avatar, and returns when nothing of it is left but what it wrote into the kata's shared directory.
///
/// # Errors
/// as of [`kata()`].
pub fn avatar(policy: &Policy, root: Option<&Path>, id: &KataId, name: AvatarName) -> Result<Retired, Fault> {
    let ground = Ground::new(policy, root)?;
    let (_, _inside) = kata::enter(&ground.depot, id)?;
    let dir = AvatarDir::of(&katas::dir(&ground.depot, id), name);
    let gone = katas::put_away(&ground.depot, dir.path()).map_err(|e| faults::ours(&e))?;
    ground.finish(&gone.ok_or_else(|| kata::no_avatar(id, name))?)?;
    Ok(Retired { kata: id.clone(), avatars: vec![name] })
}

/// Retires every kata that nobody has used for so long, the least recently used first and none with a run in progress; with
/// `dry_run` only tells.
///
/// # Errors
/// exit 4 where one cannot be read, or resists.
pub fn reap(policy: &Policy, root: Option<&Path>, unused_ms: u64, dry_run: bool) -> Result<Reaped, Fault> {
    let os = |e| faults::ours(&e);
    let ground = Ground::new(policy, root)?;
    let now = clock::wall_millis();
    let mut old = kata::list(policy, root)?;
    old.retain(|shown| now.saturating_sub(shown.used_ms) >= unused_ms);
    let mut told = Reaped { dry_run, ..Reaped::default() };
    for shown in old.into_iter().rev() {
        let id = shown.kata.id.clone();
        let dir = katas::dir(&ground.depot, &id);
        // Alone in it: nobody begins a run meanwhile, and whoever did since it was looked at has made it young.
        let Some(alone) = lease::try_claim(&dir).map_err(os)? else {
            told.busy.extend(dir.exists().then_some(id));
            continue;
        };
        let again = kata::look(&ground.depot, shown.kata.clone(), None)?;
        if now.saturating_sub(again.used_ms) < unused_ms {
            continue;
        }
        if !dry_run && let Some(gone) = katas::put_away(&ground.depot, &dir).map_err(os)? {
            drop(alone);
            ground.finish(&gone)?;
            ground.dissolve(&id)?;
        }
        told.reaped.push(again);
    }
    Ok(told)
}

/// Finishes what crashes have left of katas; answers how many things went.
///
/// # Errors
/// of the first that resists.
pub(super) fn sweep(policy: &Policy, root: Option<&Path>) -> Result<usize, Fault> {
    let os = |e| faults::ours(&e);
    if !katas::shelf(&settings::depot(root, policy)).exists() {
        return Ok(0);
    }
    let ground = Ground::new(policy, root)?;
    let mut count = 0;
    for gone in katas::going(&ground.depot) {
        // Its retirer may be alive, and at it.
        if let Some(_alone) = lease::try_claim(&gone).map_err(os)? {
            ground.clear(&gone)?;
            count += 1;
        }
    }
    katas::sweep(&ground.depot).map_err(os)?;
    if let Some(_quiet) = katas::quiet(&ground.depot).map_err(os)? {
        let mut known = BTreeSet::new();
        for place in katas::all(&ground.depot).iter().map(|id| katas::dir(&ground.depot, id)).chain(katas::going(&ground.depot)) {
            known.extend(members(&place).map_err(os)?.into_iter().map(|member| member.first_id));
        }
        for first in ids::reserved(&ground.home).difference(&known) {
            ids::unreserve(&ground.home, *first).map_err(os)?;
            count += 1;
        }
    }
    for id in groups(&ground) {
        if !katas::dir(&ground.depot, &id).exists() {
            ground.dissolve(&id)?;
            count += 1;
        }
    }
    Ok(count)
}

/// Katas that have a group, be it in one hierarchy alone: whoever removed it may have been killed in the midst of that.
fn groups(ground: &Ground) -> BTreeSet<KataId> {
    let parent = ground.parent.as_ref().map(|parent| ground.trees.group(parent));
    let dirs = parent.iter().flat_map(|parent| parent.directories());
    let entries = dirs.flat_map(|dir| std::fs::read_dir(dir).into_iter().flatten().flatten());
    entries.filter_map(|entry| katas::of_group(&ground.depot, entry.file_name().to_str()?)).collect()
}

/// The avatars of a kata, or the one that this directory is.
fn members(dir: &Path) -> OsResult<Vec<Member>> {
    let mut all = avatars::all(dir)?;
    all.extend(AvatarDir::at(dir.to_owned()).member()?);
    Ok(all)
}

/// Where katas are.
struct Ground {
    depot: Depot,
    home: Home,
    trees: Trees,
    /// The group of all cells; where there is none for us, katas have none either.
    parent: Option<String>,
}

impl Ground {
    fn new(policy: &Policy, root: Option<&Path>) -> Result<Self, Fault> {
        let trees = host::trees()?;
        let parent = host::parent(&trees, policy).ok();
        Ok(Self { depot: settings::depot(root, policy), home: settings::home(root, policy)?, trees, parent })
    }

    /// Stops who is in there, and removes it when all are out.
    fn finish(&self, gone: &Path) -> Result<Vec<AvatarName>, Fault> {
        let os = |e| faults::ours(&e);
        let deadline = clock::now_ns() + PATIENCE_NS;
        let members = members(gone).map_err(os)?;
        let first: BTreeSet<u32> = members.iter().map(|member| member.first_id).collect();
        let alone = loop {
            self.stop(&first)?;
            if let Some(alone) = lease::try_claim(gone).map_err(os)? {
                break alone;
            }
            if clock::now_ns() >= deadline {
                return Err(Fault::ours("kata:stuck", "a run in it does not end").hint("runcell list; runcell gc tries again"));
            }
            let _ = watch::any::<()>(&[], Some(clock::now_ns() + 5_000_000));
        };
        self.clear(gone)?;
        drop(alone);
        Ok(members.into_iter().map(|member| member.name).collect())
    }

    /// Cancels the runs that have one of these ranges of host ids.
    fn stop(&self, first: &BTreeSet<u32>) -> Result<(), Fault> {
        for dir in runs::names(&self.home).map_err(|e| faults::ours(&e))? {
            if runs::read(&dir).and_then(|record| record.first_id).is_some_and(|id| first.contains(&id)) {
                kill::stop(&self.home, dir)?;
            }
        }
        Ok(())
    }

    /// Ends the waiting cells, frees the ids, removes the files.
    fn clear(&self, gone: &Path) -> Result<(), Fault> {
        let os = |e| faults::ours(&e);
        for member in members(gone).map_err(os)? {
            let slot = demolish::reopen(&self.home, member.first_id).map_err(os)?;
            let owner = slot.owner().map_err(os)?;
            drop(slot);
            if let Some(run) = owner {
                own::vacate(&self.home, &self.trees, &run).map_err(os)?;
            }
            let slot = demolish::reopen(&self.home, member.first_id).map_err(os)?;
            if let Some(run) = slot.owner().map_err(os)? {
                let why = format!("the host ids of {} are still marked for {run}", member.name);
                return Err(Fault::ours("ids:quarantined", why).hint("runcell gc; runcell doctor"));
            }
            ids::unreserve(&self.home, member.first_id).map_err(os)?;
        }
        cells::tidy(&self.home);
        // Strangers have written in there; the rest has names of ours.
        raze::raze(&katas::shared(gone)).map_err(os)?;
        // A crash in the midst of this must not leave records that name ids which are others' by then: they go first.
        forget(gone).map_err(os)?;
        files::remove_tree(gone).map_err(os)
    }

    /// Removes a kata's group, which is empty now; unless there is a kata of that id again.
    fn dissolve(&self, id: &KataId) -> Result<(), Fault> {
        let Some(parent) = self.parent.as_ref().filter(|_| !katas::dir(&self.depot, id).exists()) else { return Ok(()) };
        let group = self.trees.group(&format!("{parent}/{}", katas::group(&self.depot, id)));
        group.remove(clock::now_ns() + 1_000_000_000).map_err(|e| faults::ours(&e))
    }
}

/// Removes the records of who was there.
fn forget(gone: &Path) -> OsResult<()> {
    let places = AvatarName::all().map(|name| AvatarDir::of(gone, name)).chain([AvatarDir::at(gone.to_owned())]);
    places.into_iter().try_for_each(|dir| dir.forget())
}
