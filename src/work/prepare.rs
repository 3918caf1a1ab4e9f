//! Puts a planned cell's root filesystem and configuration on disk.

use super::staged::Staged;
use super::{faults, layers};
use crate::model::fault::Fault;
use crate::model::plan::{PlannedMount, Root, Shape};
use crate::os::error::At;
use crate::os::files;
use crate::os::mount::{self, Ids};
use crate::rules::devices;
use crate::store::depot::Depot;
use crate::store::home::{Home, RunDir};
use crate::store::skeletons;
use oci_spec::runtime::Spec;
use std::collections::BTreeMap;
use std::path::Path;

/// Makes the skeleton, and, in the mount namespace that we are in, the mounts that the runtime cannot make itself. `upper` is where a writable root's changes are to
/// stay; without it they die with the run.
///
/// # Errors
/// exit 2 where a bind source cannot be reached without symlinks, exit 4 for the rest.
pub fn root(
    home: &Home,
    depot: &Depot,
    run: &RunDir,
    shape: &Shape,
    first_id: u32,
    upper: Option<&Path>,
    init: Option<&Path>,
) -> Result<Staged, Fault> {
    let os = |e| faults::ours(&e);
    let mut staged =
        Staged { rootfs: run.rootfs(), sources: BTreeMap::new(), devices: None, mounted: Vec::new(), shared: Vec::new() };
    let binds = shape.mounts.iter().any(|m| matches!(m, PlannedMount::Bind { .. }));
    if binds || shape.writable_root || matches!(shape.root, Root::Image { .. }) {
        files::dir(&run.staged(), 0o711).map_err(os)?;
    }
    match &shape.root {
        // A skeleton with mount points of a job's own would fill the shelf with as many as there are jobs.
        Root::Skeleton { entries, .. } if shape.mounts.is_empty() && !shape.writable_root => {
            staged.rootfs = skeletons::shared(home, entries).map_err(os)?
        }
        Root::Skeleton { entries, .. } => {
            let place = if shape.writable_root { run.skeleton() } else { run.rootfs() };
            files::dir(&run.rootfs(), 0o755).map_err(os)?;
            files::dir(&place, 0o755).map_err(os)?;
            skeletons::make(&place, entries).map_err(os)?;
        }
        Root::Image { entries, .. } => {
            files::dir(&run.rootfs(), 0o755).map_err(os)?;
            files::dir(&run.skeleton(), 0o755).map_err(os)?;
            skeletons::make(&run.skeleton(), entries).map_err(os)?;
            // On top of the image it lends its owners: what is root's there stays root's.
            skeletons::give(&run.skeleton(), entries, first_id).map_err(os)?;
        }
    }
    layers::mount(depot, run, shape, first_id, upper, &mut staged)?;
    if let Root::Skeleton { binds, .. } = &shape.root {
        // All of it goes with the one mount that carries it.
        if !staged.mounted.contains(&staged.rootfs) {
            mount::over_itself(&staged.rootfs).map_err(os)?;
            match staged.rootfs.starts_with(run.path()) {
                true => staged.mounted.push(staged.rootfs.clone()),
                false => staged.shared.push(staged.rootfs.clone()),
            }
        }
        for (source, target) in binds {
            mount::show(Path::new(source), &staged.rootfs.join(target.trim_start_matches('/'))).map_err(os)?;
        }
    }
    // Who may write to all of the root may find that of /dev too.
    if let Some(init) = init.filter(|_| !shape.writable_root) {
        let place = skeletons::shared(home, &devices::entries()).map_err(os)?;
        mount::over_itself(&place).map_err(os)?;
        staged.shared.push(place.clone());
        mount::seal(&place).map_err(os)?;
        let bind = |name: &str| mount::bind(&Path::new("/dev").join(name), &place.join(name)).map_err(os);
        devices::NODES.into_iter().try_for_each(bind)?;
        mount::show(init, &place.join(devices::INIT)).map_err(os)?;
        staged.devices = Some(place);
    }
    for (n, planned) in shape.mounts.iter().enumerate() {
        if let PlannedMount::Bind { source, writable, .. } = planned {
            let target = run.staged().join(n.to_string());
            bind(source.as_path(), &target, shape, first_id, !writable)?;
            staged.sources.insert(source.as_str().to_owned(), target.to_string_lossy().into_owned());
            staged.mounted.push(target);
        }
    }
    Ok(staged)
}

/// Stages one bind mount: its owner on the host is the job's user inside, and stays what it was on disk.
fn bind(source: &Path, target: &Path, shape: &Shape, first_id: u32, read_only: bool) -> Result<(), Fault> {
    let unreachable = |e: crate::os::error::OsError| {
        Fault::caller("mount:unreachable", e.to_string()).at("mounts").hint("name the real path, without symlinks")
    };
    let open = mount::source(source).map_err(unreachable)?;
    let meta = open.metadata().at("look at", source).map_err(unreachable)?;
    match meta.is_dir() {
        true => files::dir(target, 0o755),
        false => files::create(target, b"", 0o644),
    }
    .map_err(|e| faults::ours(&e))?;
    use std::os::unix::fs::MetadataExt;
    let one = |inside, job| Ids { inside, outside: first_id + job, count: 1 };
    mount::stage(&open, target, one(meta.uid(), shape.user.uid), one(meta.gid(), shape.user.gid), read_only)
        .map(drop)
        .map_err(|e| faults::ours(&e))
}

/// Spells `config.json`, its keys in order, so that the same plan gives the same bytes.
///
/// # Errors
/// exit 4 of spelling.
pub fn config(spec: &Spec) -> Result<Vec<u8>, Fault> {
    let internal = |e: serde_json::Error| Fault::ours("internal", e.to_string());
    let value = serde_json::to_value(spec).map_err(internal)?;
    serde_json::to_vec_pretty(&value).map_err(internal)
}
