//! What is mounted for a cell before the runtime starts, and taken away once it has it.

use crate::os::error::OsResult;
use crate::os::mount;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// Mounts of ours that the runtime is to bind; to be taken away once it has.
#[derive(Debug)]
pub struct Staged {
    /// The cell's root filesystem.
    pub rootfs: PathBuf,
    /// By the source that the job named.
    pub sources: BTreeMap<String, String>,
    pub(super) mounted: Vec<PathBuf>,
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
