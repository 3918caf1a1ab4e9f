//! Writes a job's OCI bundle without running it: the program in init's place, all limits in its configuration.

use super::decide::bundle_name;
use super::{faults, host, order, prepare, settings};
use crate::model::fault::Fault;
use crate::model::job::{Content, Job};
use crate::model::paths::RelPath;
use crate::model::plan::{ImageRoot, PlannedMount, Root};
use crate::model::policy::Policy;
use crate::os::error::{At, OsError};
use crate::os::files;
use crate::rules::spec::{self, Place};
use crate::rules::{merge, plan};
use crate::store::skeletons;
use serde::Serialize;
use std::path::{Path, PathBuf};

#[derive(Debug, Serialize)]
pub struct Written {
    pub bundle: PathBuf,
    /// The host ids that the container has; nothing reserves them.
    pub first_id: u32,
    pub ids: u32,
}

/// Writes `config.json`, `rootfs`, and `sandbox` for the job's files, into a directory that must be new or empty.
///
/// # Errors
/// as of a run; exit 2 where the directory is not empty, or a directory image lacks a mount point.
pub fn write(
    job: Job,
    policy: &Policy,
    root: Option<&Path>,
    runtime: Option<&str>,
    out: &Path,
    best_effort: bool,
) -> Result<Written, Fault> {
    let os = |e| faults::ours(&e);
    let name = bundle_name(&job)?;
    let job = merge::merge(job, settings::template(&name, policy)?);
    let home = settings::home(root, policy)?;
    let host = host::look(&home, policy, runtime)?;
    let facts = host.facts(&job, None)?;
    let plan = plan::plan(job, name, policy, &facts, best_effort)?;
    let out = std::path::absolute(out).map_err(|e| Fault::caller("usage", e.to_string()).at("out"))?;
    let unusable = |e: OsError| Fault::caller("usage", e.to_string()).at("out").hint("name a new directory in one that exists");
    files::dir(&out, 0o711).map_err(unusable)?;
    let mut existing = std::fs::read_dir(&out).at("list", &out).map_err(unusable)?;
    if existing.next().is_some() {
        return Err(Fault::caller("usage", format!("{} is not empty", out.display())).at("out").hint("name a new directory"));
    }
    let rootfs = match &plan.shape.root {
        Root::Skeleton { entries, .. } => {
            let rootfs = out.join("rootfs");
            files::dir(&rootfs, 0o755).map_err(os)?;
            skeletons::make(&rootfs, entries).map_err(os)?;
            "rootfs".to_owned()
        }
        Root::Image { image: ImageRoot::Layers(_), .. } => {
            return Err(Fault::caller("image:unusable", "a bare runtime cannot put an image's layers together")
                .at("image")
                .hint("runcell image export IMAGE --out DIR, unpack that (umoci unpack), and name the directory as image"));
        }
        Root::Image { image: ImageRoot::Directory(directory), .. } => {
            let targets = plan.shape.mounts.iter().map(|m| match m {
                PlannedMount::Bind { target, .. } | PlannedMount::Tmpfs { target, .. } => target.as_str(),
            });
            for point in ["/proc", "/dev", "/sandbox", "/tmp"].into_iter().chain(targets) {
                if !facts.image.entries.contains_key(point) {
                    return Err(Fault::caller(
                        "image:unusable",
                        format!("the image {directory} lacks {point}, where something is mounted"),
                    )
                    .at("image")
                    .hint(format!("mkdir -p {directory}{point}; runcell itself needs no such directory, a bare runtime does")));
                }
            }
            directory.to_string()
        }
    };
    let first_id = policy.ids.slot(0);
    let owner = (first_id + plan.shape.user.uid, first_id + plan.shape.user.gid);
    let sandbox = out.join("sandbox");
    let has_files = !plan.fill.files.is_empty();
    if has_files {
        deliver(&sandbox, &plan.fill.files, owner).map_err(os)?;
    }
    let sandbox = sandbox.to_string_lossy();
    let place = Place {
        first_id,
        cgroup: &format!("{}/bundle-{}", host.parent, std::process::id()),
        rootfs: &rootfs,
        init: "",
        devices: None,
        staged: Default::default(),
        sandbox: has_files.then_some(&*sandbox),
    };
    let spec = spec::standalone(&plan, &place, &facts.devices)?;
    files::create(&out.join("config.json"), &prepare::config(&spec)?, 0o644).map_err(|e| faults::ours(&e))?;
    Ok(Written { bundle: out, first_id, ids: crate::model::policy::IDS_PER_CELL })
}

/// The job's files in a directory of the host that belongs to the container's user.
fn deliver(dir: &Path, all: &[(RelPath, u32, Content)], owner: (u32, u32)) -> crate::os::error::OsResult<()> {
    let chown = |path: &Path| std::os::unix::fs::chown(path, Some(owner.0), Some(owner.1)).at("chown", path);
    files::dir(dir, 0o755)?;
    chown(dir)?;
    for (path, mode, content) in all {
        for parent in path.parents() {
            files::dir(&dir.join(parent), 0o755)?;
            chown(&dir.join(parent))?;
        }
        let target = dir.join(path.as_str());
        let bytes = order::bytes(content)?;
        files::create(&target, &bytes, *mode)?;
        chown(&target)?;
    }
    Ok(())
}
