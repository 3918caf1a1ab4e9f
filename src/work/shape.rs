//! The name of a shape: all that is fixed when a cell is made, as one word. Cells of one name take each other's jobs.

use super::host::Host;
use crate::model::plan::{ImageRoot, PlannedMount, Root, Shape};
use crate::model::policy::Policy;
use crate::os::error::OsResult;
use crate::os::{files, probe};
use crate::runtime::driver::Runtime;
use crate::store::depot::Depot;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::hash::{Hash, Hasher};
use std::path::{Path, PathBuf};

/// What no cell outlasts: this boot of this kernel, and this build of runcell.
///
/// # Errors
/// of reading what they are.
pub fn epoch() -> OsResult<String> {
    let boot = files::text(Path::new("/proc/sys/kernel/random/boot_id"))?;
    let mut all = Digested(Sha256::new());
    (probe::kernel(), boot, files::build(Path::new("/proc/self/exe"))?).hash(&mut all);
    Ok(all.short())
}

/// `<epoch>.<everything else>`, so that cells of another epoch are told from ours without knowing their jobs.
///
/// Where a path is bound, what lies there now counts, as a cell goes on showing what lay there when it was made: ldconfig
/// and package managers rename new files into place. `seen` is what has just been looked at for the plan.
///
/// # Errors
/// of looking at the runtime, or at a path that is to be bound.
pub fn name(shape: &Shape, host: &Host, policy: &Policy, depot: &Depot, seen: &BTreeMap<String, String>) -> OsResult<String> {
    let mut all = Digested(Sha256::new());
    shape.hash(&mut all);
    (format!("{policy:?}"), &host.parent).hash(&mut all);
    let Runtime { binary, version, quirks, replica: _, crowded: _ } = &host.runtime;
    (files::build(binary)?, format!("{binary:?} {version:?} {quirks:?}")).hash(&mut all);
    for path in bound(shape, depot) {
        match path.to_str().and_then(|path| seen.get(path)) {
            Some(identity) => identity.hash(&mut all),
            None => files::identity(&path)?.hash(&mut all),
        }
    }
    Ok(format!("{}.{}", epoch()?, all.short()))
}

/// What is hashed is digested: `Hash` tells each value so that no two tell the same, in a manner that a build of ours keeps to.
struct Digested(Sha256);

impl Hasher for Digested {
    fn write(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    fn finish(&self) -> u64 {
        self.0.clone().finalize().iter().take(8).fold(0, |number, byte| number << 8 | u64::from(*byte))
    }
}

impl Digested {
    fn short(self) -> String {
        self.0.finalize().iter().take(16).map(|b| format!("{b:02x}")).collect()
    }
}

fn bound(shape: &Shape, depot: &Depot) -> Vec<PathBuf> {
    let mut paths: Vec<PathBuf> = match &shape.root {
        Root::Skeleton { binds, .. } => binds.iter().map(|(source, _)| source.into()).collect(),
        Root::Image { image: ImageRoot::Directory(directory), .. } => vec![directory.as_path().to_owned()],
        Root::Image { image: ImageRoot::Layers(layers), .. } => layers.iter().map(|layer| depot.tree(layer)).collect(),
    };
    paths.extend(shape.mounts.iter().filter_map(|mount| match mount {
        PlannedMount::Bind { source, .. } => Some(source.as_path().to_owned()),
        PlannedMount::Tmpfs { .. } => None,
    }));
    paths
}
