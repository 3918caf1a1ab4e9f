//! Takes a waiting cell for a job. Whoever gets its lease looks whether it is as it was left; one that is not is burnt, and
//! the next is tried.

use super::cell::{Cell, Waiting};
use super::demolish;
use crate::model::record::{Record, RunState};
use crate::os::cgroup::Trees;
use crate::os::clock;
use crate::store::cells;
use crate::store::home::Home;
use crate::store::ids::Slot;
use crate::store::runs::{self, Owned};

/// How long unfit cells may keep a job waiting before it gets a cold one.
const PATIENCE_NS: u64 = 250_000_000;
/// How much more than at its beginning a waiting cell may take up, in bytes: init's start comes after the first look.
const GROWTH: u64 = 4 << 20;
/// The same where that look was not possible.
const MOST: u64 = 16 << 20;

/// A cell that has become ours.
#[derive(Debug)]
pub struct Claimed {
    pub owned: Owned,
    pub slot: Slot,
    pub cell: Cell<Waiting>,
}

/// A waiting cell of this shape; `None` where there is no fit one.
pub fn claim(home: &Home, trees: &Trees, shape: &str) -> Option<Claimed> {
    let deadline = clock::now_ns() + PATIENCE_NS;
    for waiting in cells::of(home, shape) {
        if clock::now_ns() >= deadline {
            return None;
        }
        if waiting.expired() {
            continue;
        }
        // Somebody else has it, or looks at it.
        let Ok(Some(owned)) = cells::take(home, &waiting) else { continue };
        match fit(home, trees, &owned) {
            Ok((slot, cell)) => return Some(Claimed { owned, slot, cell }),
            // What cannot be removed now is found among the runs by gc, with no owner.
            Err(_) => drop(demolish::stale(home, trees, owned)),
        }
    }
    None
}

fn fit(home: &Home, trees: &Trees, owned: &Owned) -> Result<(Slot, Cell<Waiting>), String> {
    let Some(Record { state: RunState::Waiting, cgroup, first_id: Some(first), floor, .. }) = runs::read(&owned.dir) else {
        return Err("its record makes no sense".to_owned());
    };
    let slot = demolish::reopen(home, first).map_err(|e| e.to_string())?;
    if slot.owner().map_err(|e| e.to_string())?.as_deref() != Some(owned.dir.id.as_str()) {
        return Err("its ids are marked for another".to_owned());
    }
    let most = floor.map_or(MOST, |floor| floor.saturating_add(GROWTH));
    let cell = Cell::claim(owned.dir.clone(), trees.group(&cgroup), most)?;
    Ok((slot, cell))
}
