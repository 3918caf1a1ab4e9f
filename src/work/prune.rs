//! Garbage of the image store: what crashes left on benches, layers that no image has, and, on request, images and stages that
//! nobody has used for long or for which there is no room.

use super::faults;
use crate::model::fault::Fault;
use crate::model::reference::Digest;
use crate::os::error::OsResult;
use crate::os::{clock, lease};
pub use crate::rules::garbage::Wishes;
use crate::rules::garbage::{self, Keeper, What};
use crate::store::depot::Depot;
use crate::store::{bench, images, katas, layers, names, stages};
use serde::Serialize;
use std::collections::BTreeSet;

/// How long those who add to the store are waited for.
const PATIENCE_NS: u64 = 5_000_000_000;

/// What went from the store, or would go; images and stages in the order in which they go.
#[derive(Debug, Default, Serialize)]
pub struct Pruned {
    pub images: Vec<Digest>,
    pub stages: Vec<String>,
    /// Layers that nobody has any more.
    pub layers: Vec<Digest>,
    /// What those occupied.
    pub freed_bytes: u64,
    /// What unfinished imports and builds of killed processes left.
    pub benches: Vec<String>,
    /// An import or a build is at work: of the rest nothing was touched.
    pub busy: bool,
}

/// Prunes the store; with `dry_run` only tells.
///
/// # Errors
/// exit 4 where the store cannot be read or changed.
pub fn prune(depot: &Depot, wishes: Wishes, dry_run: bool) -> Result<Pruned, Fault> {
    if !depot.root().join("bench").exists() {
        return Ok(Pruned::default());
    }
    act(depot, wishes, dry_run).map_err(|e| faults::ours(&e))
}

fn act(depot: &Depot, wishes: Wishes, dry_run: bool) -> OsResult<Pruned> {
    let mut pruned = Pruned::default();
    let Some(_alone) = depot.own(PATIENCE_NS)? else {
        return Ok(Pruned { busy: true, ..pruned });
    };
    pruned.benches = match dry_run {
        false => bench::sweep(depot)?,
        true => {
            let file_name = |(path, _): &(std::path::PathBuf, _)| path.file_name().map(|n| n.to_string_lossy().into_owned());
            bench::abandoned(depot)?.iter().filter_map(file_name).collect()
        }
    };
    let sizes = layers::all(depot)?;
    let (gone, unneeded) = garbage::choose(keepers(depot)?, &sizes, wishes, clock::wall_millis());
    let left = |layer: &Digest| sizes.get(layer).copied().unwrap_or(0);
    for what in gone {
        match what {
            // Somebody may have taken it into use since: then it stays, and its layers must.
            What::Image(digest) if dry_run || images::remove(depot, &digest)? => pruned.images.push(digest),
            What::Image(_) => return Ok(pruned),
            What::Stage(key) => {
                if !dry_run {
                    stages::remove(depot, &key)?;
                }
                pruned.stages.push(key);
            }
        }
    }
    pruned.freed_bytes = unneeded.iter().map(left).sum();
    if !dry_run {
        unneeded.iter().try_for_each(|layer| layers::remove(depot, layer))?;
        tidy(depot)?;
    }
    pruned.layers = unneeded;
    Ok(pruned)
}

fn keepers(depot: &Depot) -> OsResult<Vec<Keeper>> {
    let mut named: BTreeSet<Digest> = names::all(depot).into_values().collect();
    named.extend(katas::images(depot)?);
    let mut keepers = Vec::new();
    for image in images::all(depot)? {
        let in_use = lease::try_claim(&depot.image(&image.digest))?.is_none();
        let layers: Vec<Digest> = image.kept().map(|layer| layer.diff_id.clone()).collect();
        keepers.push(Keeper {
            needed: in_use || named.contains(&image.digest),
            used_ms: images::used_ms(depot, &image),
            what: What::Image(image.digest),
            layers,
        });
    }
    // A stage is of use only on top of what it was built on, but that has keepers of its own.
    keepers.extend(stages::all(depot).into_iter().map(|(done, used_ms)| Keeper {
        what: What::Stage(done.key),
        used_ms,
        needed: false,
        layers: vec![done.layer],
    }));
    Ok(keepers)
}

/// Archives that no layer tells of (a crash came between the two), files that were just being written, and names that point to
/// nothing.
fn tidy(depot: &Depot) -> OsResult<()> {
    let half =
        [depot.names(), depot.stages(), depot.listings()].into_iter().flat_map(|shelf| std::fs::read_dir(shelf).into_iter());
    for entry in half.flatten().flatten().filter(|entry| entry.path().extension().is_some_and(|e| e == "new")) {
        let _ = std::fs::remove_file(entry.path());
    }
    let mut kept = BTreeSet::new();
    for diff_id in layers::all(depot)?.keys() {
        kept.extend(layers::get(depot, diff_id)?.and_then(|layer| layer.blob).map(|blob| depot.blob(&blob.digest)));
    }
    for entry in std::fs::read_dir(depot.blobs()).into_iter().flatten().flatten() {
        if !kept.contains(&entry.path()) {
            let _ = std::fs::remove_file(entry.path());
        }
    }
    stages::sweep(depot);
    for (name, digest) in names::all(depot) {
        if !depot.image(&digest).exists() {
            names::remove(depot, &name)?;
        }
    }
    Ok(())
}
