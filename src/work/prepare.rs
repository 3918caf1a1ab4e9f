//! Puts a planned cell's root filesystem and configuration on disk.

use super::faults;
use crate::model::fault::Fault;
use crate::model::plan::{PlannedMount, Root, Shape};
use crate::model::policy::IDS_PER_CELL;
use crate::os::error::{At, OsResult};
use crate::os::files;
use crate::os::mount::{self, Ids};
use crate::store::home::{Home, RunDir};
use crate::store::skeletons;
use oci_spec::runtime::Spec;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Mounts of ours that the runtime is to bind; to be taken away once it has.
#[derive(Debug)]
pub struct Staged {
    /// The cell's root filesystem.
    pub rootfs: PathBuf,
    /// By the source that the job named.
    pub sources: BTreeMap<String, String>,
    mounted: Vec<PathBuf>,
}

/// Makes the skeleton, and the mounts that the runtime cannot make itself.
///
/// # Errors
/// exit 2 where a bind source cannot be reached without symlinks, exit 4 for the rest.
pub fn root(home: &Home, run: &RunDir, shape: &Shape, first_id: u32) -> Result<Staged, Fault> {
    let os = |e| faults::ours(&e);
    let mut staged = Staged { rootfs: run.rootfs(), sources: BTreeMap::new(), mounted: Vec::new() };
    let binds = shape.mounts.iter().any(|m| matches!(m, PlannedMount::Bind { .. }));
    if binds || matches!(shape.root, Root::Image { .. }) {
        mount::private_namespace().map_err(os)?;
        files::dir(&run.staged(), 0o711).map_err(os)?;
    }
    match &shape.root {
        // A skeleton with mount points of a job's own would fill the shelf with as many as there are jobs.
        Root::Skeleton { entries, .. } if shape.mounts.is_empty() => {
            staged.rootfs = skeletons::shared(home, entries).map_err(os)?
        }
        Root::Skeleton { entries, .. } => {
            files::dir(&run.rootfs(), 0o755).map_err(os)?;
            skeletons::make(&run.rootfs(), entries).map_err(os)?;
        }
        Root::Image { directory, entries } => {
            files::dir(&run.rootfs(), 0o755).map_err(os)?;
            files::dir(&run.skeleton(), 0o755).map_err(os)?;
            skeletons::make(&run.skeleton(), entries).map_err(os)?;
            let lower = run.staged().join("image");
            files::dir(&lower, 0o755).map_err(os)?;
            let source = mount::source(directory.as_path()).map_err(os)?;
            let whole = Ids { inside: 0, outside: first_id, count: IDS_PER_CELL };
            mount::stage(&source, &lower, whole, whole, true).map_err(os)?;
            staged.mounted.push(lower.clone());
            mount::overlay(&run.skeleton(), &lower, &run.rootfs()).map_err(|e| {
                Fault::host("image:overlay", e.to_string())
                    .at("image")
                    .hint("this kernel or the image's filesystem cannot do overlayfs")
            })?;
            staged.mounted.push(run.rootfs());
        }
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

impl Drop for Staged {
    /// A run that ends early must not find its own mounts in the way of its removal.
    fn drop(&mut self) {
        let _ = self.detach();
    }
}

impl Staged {
    /// The container has its own clones of these mounts now; ours go.
    ///
    /// # Errors
    /// of umount.
    pub fn detach(&mut self) -> OsResult<()> {
        self.mounted.drain(..).rev().try_for_each(|target| mount::detach(&target))
    }
}

/// Writes `config.json`, its keys in order, so that the same plan gives the same bytes.
///
/// # Errors
/// exit 4 of writing.
pub fn config(bundle: &Path, spec: &Spec) -> Result<(), Fault> {
    let internal = |e: serde_json::Error| Fault::ours("internal", e.to_string());
    let value = serde_json::to_value(spec).map_err(internal)?;
    let json = serde_json::to_vec_pretty(&value).map_err(internal)?;
    files::create(&bundle.join("config.json"), &json, 0o644).map_err(|e| faults::ours(&e))
}
