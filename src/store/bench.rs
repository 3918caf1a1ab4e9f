//! Work in progress on the store: a directory of its own, leased by whoever works there, so that what a crash leaves is known.

use super::depot::Depot;
use crate::model::names::RunId;
use crate::os::error::{At, OsResult};
use crate::os::lease::{self, Lease};
use crate::os::{clock, files, probe};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

/// A workplace; gone with its owner, however that ends (then by [`sweep`]).
#[derive(Debug)]
pub struct Bench {
    path: PathBuf,
    _lease: Lease,
}

impl Bench {
    /// A new one.
    ///
    /// # Errors
    /// of mkdir and flock.
    pub fn new(depot: &Depot) -> OsResult<Self> {
        loop {
            let name = RunId::new(clock::wall_millis(), probe::random()?);
            let path = depot.bench().join(name.as_str());
            std::fs::DirBuilder::new().mode(0o700).create(&path).at("create directory", &path)?;
            // Between mkdir and flock a sweep may have taken it for a leftover.
            if let Some(lease) = lease::try_claim(&path)? {
                return Ok(Self { path, _lease: lease });
            }
        }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        // What fails here is left to the next sweep.
        let _ = files::remove_tree(&self.path);
    }
}

/// Whether a workplace is nobody's, and which.
///
/// # Errors
/// of reading the shelf.
pub fn abandoned(depot: &Depot) -> OsResult<Vec<(PathBuf, Lease)>> {
    let shelf = depot.bench();
    let entries = match std::fs::read_dir(&shelf) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.at("list", &shelf)?,
    };
    let mut found = Vec::new();
    for entry in entries.flatten() {
        if let Some(lease) = lease::try_claim(&entry.path())? {
            found.push((entry.path(), lease));
        }
    }
    Ok(found)
}

/// Removes the workplaces of those who were killed; answers their names.
///
/// # Errors
/// of the first that cannot be removed.
pub fn sweep(depot: &Depot) -> OsResult<Vec<String>> {
    let mut swept = Vec::new();
    for (path, _lease) in abandoned(depot)? {
        files::remove_tree(&path)?;
        swept.extend(path.file_name().map(|n| n.to_string_lossy().into_owned()));
    }
    Ok(swept)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nobody_owns_is_swept_and_the_rest_is_not() {
        let dir = tempfile::tempdir().expect("tempdir");
        let depot = Depot::at(dir.path().to_owned());
        depot.open().expect("opened");
        let kept = Bench::new(&depot).expect("made");
        std::fs::create_dir_all(depot.bench().join("stale/tree")).expect("mkdir");
        assert_eq!(sweep(&depot).expect("swept"), ["stale"]);
        assert!(kept.path().is_dir());
        let path = kept.path().to_owned();
        drop(kept);
        assert!(!path.exists());
    }
}
