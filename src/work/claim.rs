//! Takes a waiting cell for a job. Whoever gets its lease looks whether it is as it was left; one that is not is killed, and
//! the next is tried. What is left of the killed is removed after the answer: no job waits for the dead.

use super::cell::{self, Cell};
use super::demolish;
use crate::model::record::{Record, RunState};
use crate::os::cgroup::Trees;
use crate::store::cells::{self, Waiting};
use crate::store::home::Home;
use crate::store::ids::Slot;
use crate::store::runs::{self, Owned};

/// After so many unfit cells a job gets a cold one: each that does not even answer has cost half a second.
const UNFIT: usize = 4;
/// How much more than at its beginning a waiting cell may take up, in bytes: init's start comes after the first look.
const GROWTH: u64 = 4 << 20;
/// The same where that look was not possible.
const MOST: u64 = 16 << 20;

/// A cell that has become ours.
#[derive(Debug)]
pub struct Claimed {
    pub owned: Owned,
    pub slot: Slot,
    pub cell: Cell<cell::Waiting>,
}

/// What came of the search.
#[derive(Debug, Default)]
pub struct Found {
    /// `None` where there is no fit one.
    pub claimed: Option<Claimed>,
    /// Runs of cells that were not fit: ours, dead, and still to be demolished.
    pub unfit: Vec<Owned>,
}

/// Looks for a waiting cell of this shape: among those that were `there` a moment ago, and once more where others had them all.
pub fn claim(home: &Home, trees: &Trees, shape: &str, there: &[Waiting]) -> Found {
    let mut found = Found::default();
    let known = there.iter().filter(|waiting| *waiting.shape == *shape).cloned();
    let later = std::iter::once_with(|| cells::of(home, shape)).flatten();
    for waiting in known.chain(later).filter(|waiting| !waiting.expired()) {
        // Somebody else has it, or looks at it.
        let Ok(Some(owned)) = cells::take(home, &waiting) else { continue };
        match fit(home, trees, &owned) {
            Ok((slot, cell)) => {
                found.claimed = Some(Claimed { owned, slot, cell });
                break;
            }
            Err(_) => found.unfit.push(owned),
        }
        if found.unfit.len() == UNFIT {
            break;
        }
    }
    found
}

fn fit(home: &Home, trees: &Trees, owned: &Owned) -> Result<(Slot, Cell<cell::Waiting>), String> {
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
