//! The root filesystem of a cell with an image, or with a root that can be written: one overlay mount in our private namespace.
//!
//! All layers of the store come through one id-mapped mount of their shelf, of which the overlay shows only those that it names.
//! Layers still cost: of 127 against 2, 3 to 5 ms more until the program starts (13 pairs, Linux 6.18, unoptimised build).

use super::faults;
use super::staged::Staged;
use crate::model::fault::Fault;
use crate::model::plan::{ImageRoot, Root, Shape};
use crate::model::policy::IDS_PER_CELL;
use crate::os::error::{At, OsError};
use crate::os::files;
use crate::os::mount::{self, Ids, Upper};
use crate::store::depot::Depot;
use crate::store::home::RunDir;
use std::path::{Path, PathBuf};

/// Mounts it at the run's rootfs, if this shape wants one; the skeleton lies ready.
///
/// # Errors
/// exit 3 where this kernel or filesystem cannot do it, exit 4 for the rest.
pub fn mount(
    depot: &Depot,
    run: &RunDir,
    shape: &Shape,
    first_id: u32,
    upper: Option<&Path>,
    staged: &mut Staged,
) -> Result<(), Fault> {
    let mut layers: Vec<PathBuf> = vec![run.skeleton()];
    match &shape.root {
        Root::Skeleton { .. } if !shape.writable_root => return Ok(()),
        // Root inside may change what the skeleton holds, as far as it looks like its own.
        Root::Skeleton { .. } => layers = vec![mapped(&run.skeleton(), "skeleton", run, first_id, true, staged)?],
        Root::Image { image: ImageRoot::Directory(directory), .. } => {
            layers.push(mapped(directory.as_path(), "image", run, first_id, true, staged)?);
        }
        Root::Image { image: ImageRoot::Layers(all), .. } => {
            let shelf = mapped(&depot.layers(), "image", run, first_id, true, staged)?;
            layers.extend(all.iter().map(|diff_id| shelf.join(Depot::tree_name(diff_id))));
        }
    }
    let written = match (shape.writable_root, upper) {
        (false, _) => None,
        (true, Some(kept)) => Some(mapped(kept, "upper", run, first_id, false, staged)?),
        (true, None) => Some(passing(run, shape, first_id, staged)?),
    };
    let places = written.as_ref().map(|dir| (dir.join("upper"), dir.join("work")));
    let owner = upper.map(|_| first_id);
    let upper = places.as_ref().map(|(upper, work)| Upper { upper, work, owner });
    let layers: Vec<&Path> = layers.iter().map(PathBuf::as_path).collect();
    mount::overlay(&layers, upper, &run.rootfs()).map_err(|e| {
        Fault::host("image:overlay", e.to_string())
            .at("image")
            .hint("this kernel or the image's filesystem cannot do overlayfs; runcell doctor tells")
    })?;
    staged.mounted.push(run.rootfs());
    Ok(())
}

/// A directory as the cell's ids see it: what belongs to root on disk belongs to root inside.
fn mapped(from: &Path, name: &str, run: &RunDir, first_id: u32, read_only: bool, staged: &mut Staged) -> Result<PathBuf, Fault> {
    let os = |e: OsError| faults::ours(&e);
    let place = run.staged().join(name);
    files::dir(&place, 0o755).map_err(os)?;
    let source = mount::source(from).map_err(os)?;
    let whole = Ids { inside: 0, outside: first_id, count: IDS_PER_CELL };
    mount::stage(&source, &place, whole, whole, read_only).map_err(os)?;
    staged.mounted.push(place.clone());
    Ok(place)
}

/// Where a writable root's changes go that nobody keeps.
fn passing(run: &RunDir, shape: &Shape, first_id: u32, staged: &mut Staged) -> Result<PathBuf, Fault> {
    let os = |e: OsError| faults::ours(&e);
    let place = run.staged().join("upper");
    files::dir(&place, 0o755).map_err(os)?;
    mount::tmpfs(&place, shape.sandbox_bytes, shape.inodes).map_err(os)?;
    staged.mounted.push(place.clone());
    for dir in ["upper", "work"].map(|name| place.join(name)) {
        files::dir(&dir, 0o755).map_err(os)?;
        // It lends its owner to the whole's root directory.
        std::os::unix::fs::chown(&dir, Some(first_id), Some(first_id)).at("chown", &dir).map_err(os)?;
    }
    Ok(place)
}
