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
    /// What is bound at its /dev.
    pub devices: Option<PathBuf>,
    pub(super) mounted: Vec<PathBuf>,
    /// Skeletons that others have too, mounted over themselves with the host's parts below. In nobody's way: for one run they go
    /// with our namespace.
    pub(super) shared: Vec<PathBuf>,
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

    /// The same with what need not go for one run alone, for those who make many cells.
    ///
    /// # Errors
    /// of umount.
    pub fn detach_all(&mut self) -> OsResult<()> {
        self.detach()?;
        self.shared.drain(..).try_for_each(|skeleton| mount::detach(&skeleton))
    }
}
