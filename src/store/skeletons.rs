//! Skeletons: the directories, links and small files of a cell's root, below which nothing is ever written.
//!
//! Cells whose roots are planned alike share one: it belongs to host root, which no cell has, and is mounted read-only.
//! It is made once and named by its plan, so making it costs its 40 entries only the first time.

use super::home::Home;
use crate::model::plan::Entry;
use crate::os::error::{At, OsResult};
use crate::os::{files, probe};
use sha2::{Digest, Sha256};
use std::path::{Path, PathBuf};

/// The shared skeleton of these entries; `Ok` says that it is there whole, not that this call has made it.
///
/// # Errors
/// of making it; nothing is visible then.
pub fn shared(home: &Home, entries: &[Entry]) -> OsResult<PathBuf> {
    let digest: String = Sha256::digest(format!("{entries:?}")).iter().take(16).map(|b| format!("{b:02x}")).collect();
    let path = home.skeleton(&digest);
    if path.exists() {
        return Ok(path);
    }
    let fresh = home.skeleton(&format!("{digest}.{:x}", probe::random()?));
    files::dir(&fresh, 0o755)?;
    make(&fresh, entries)?;
    match std::fs::rename(&fresh, &path) {
        // Somebody else was first with the very same.
        Err(e) if e.raw_os_error() == Some(libc::ENOTEMPTY) || e.raw_os_error() == Some(libc::EEXIST) => {
            files::remove_tree(&fresh)?
        }
        other => other.at("rename into place", &path)?,
    }
    Ok(path)
}

/// Removes what makers that were killed have left; whoever still makes one is given a minute.
///
/// # Errors
/// of reading the shelf.
pub fn sweep(home: &Home) -> OsResult<()> {
    let shelf = home.skeleton("");
    for entry in std::fs::read_dir(&shelf).at("list", &shelf)?.flatten() {
        let unfinished = entry.file_name().to_string_lossy().contains('.');
        let age = entry.metadata().ok().and_then(|m| m.modified().ok()).and_then(|t| t.elapsed().ok());
        if unfinished && age.is_some_and(|age| age.as_secs() > 60) {
            files::remove_tree(&entry.path())?;
        }
    }
    Ok(())
}

/// Makes the entries below `root`; parents come first in the plan.
///
/// # Errors
/// of mkdir, open, symlink.
pub fn make(root: &Path, entries: &[Entry]) -> OsResult<()> {
    let at = |path: &str| root.join(path.trim_start_matches('/'));
    for entry in entries {
        match entry {
            Entry::Directory { path, mode } => files::dir(&at(path), *mode)?,
            Entry::File { path, content } => files::create(&at(path), content.as_bytes(), 0o644)?,
            Entry::Symlink { path, to } => std::os::unix::fs::symlink(to, at(path)).at("make the symlink", at(path))?,
        }
    }
    Ok(())
}

/// Gives a skeleton of one run to a host id.
///
/// # Errors
/// of chown.
pub fn give(root: &Path, entries: &[Entry], id: u32) -> OsResult<()> {
    let give = |path: &Path| std::os::unix::fs::lchown(path, Some(id), Some(id)).at("chown", path);
    give(root)?;
    entries.iter().try_for_each(|entry| match entry {
        Entry::Directory { path, .. } | Entry::File { path, .. } | Entry::Symlink { path, .. } => {
            give(&root.join(path.trim_start_matches('/')))
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_plan_shares_one_tree() {
        let dir = tempfile::tempdir().expect("tempdir");
        let home = Home::open(dir.path().to_owned()).expect("home");
        let entries = |content: &str| {
            vec![
                Entry::Directory { path: "/etc".into(), mode: 0o755 },
                Entry::File { path: "/etc/hosts".into(), content: content.into() },
                Entry::Symlink { path: "/bin".into(), to: "usr/bin".into() },
            ]
        };
        let first = shared(&home, &entries("a")).expect("made");
        assert_eq!(shared(&home, &entries("a")).expect("found"), first);
        assert_ne!(shared(&home, &entries("b")).expect("another"), first);
        assert_eq!(std::fs::read_to_string(first.join("etc/hosts")).expect("read"), "a");
        assert_eq!(std::fs::read_link(first.join("bin")).expect("link"), Path::new("usr/bin"));
    }
}
