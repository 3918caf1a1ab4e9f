//! Whether a disk has room left, asked before anything is put on it: a full one fails in the middle, and takes others along.

use super::faults;
use crate::model::fault::Fault;
use crate::model::policy::{Import, Policy};
use crate::model::quantity::Bytes;
use crate::os::space;
use crate::store::depot::Depot;
use crate::store::home::Home;
use std::path::Path;

/// Names that a run's directory, skeleton and runtime state take, generously.
const INODES: u64 = 1000;

/// For an import, or a stage of a build.
///
/// # Errors
/// exit 3 where there is none.
pub fn in_store(depot: &Depot, bounds: Import) -> Result<(), Fault> {
    free(space::existing(depot.root()), bounds.keep_free).map_err(|why| {
        Fault::host("store:full", why).at("store").hint(
            "runcell gc --unused-for 7d, or another place: store in the policy; import.keep_free there says how much stays free",
        )
    })
}

/// For a run.
///
/// # Errors
/// exit 3 where there is none.
pub fn for_state(home: &Home, policy: &Policy) -> Result<(), Fault> {
    free(home.root(), policy.keep_free).map_err(|why| {
        Fault::host("state:full", why)
            .at("root")
            .hint("runcell gc, or another place: root in the policy; keep_free there says how much stays free")
    })
}

fn free(place: &Path, least: Bytes) -> Result<(), String> {
    let free = match space::free(place) {
        Ok(free) => free,
        Err(e) => return Err(faults::ours(&e).message),
    };
    if free.bytes < least.0 {
        return Err(format!("{} has {} bytes free, and {least} must stay so", place.display(), free.bytes));
    }
    match free.inodes {
        Some(inodes) if inodes < INODES => Err(format!("{} has room for {inodes} files only", place.display())),
        _ => Ok(()),
    }
}
