//! What stages of recipes have given: by a stage's key, the layer on top of its parent's.

use super::depot::Depot;
use crate::model::reference::Digest;
use crate::os::error::{At, OsResult};
use crate::os::files;
use crate::os::lease::{self, Lease};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// A stage that has been done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Done {
    /// 64 hexadecimal digits.
    pub key: String,
    pub layer: Digest,
}

fn path(depot: &Depot, key: &str) -> PathBuf {
    depot.stages().join(key)
}

fn read(path: &Path) -> Option<Done> {
    serde_json::from_slice(&files::read_some(path, 4096).ok()?).ok()
}

/// The layer that a stage gave, if it is still there; counts as used now.
pub fn get(depot: &Depot, key: &str) -> Option<Digest> {
    let path = path(depot, key);
    let done = read(&path).filter(|done| done.key == key && depot.tree(&done.layer).exists())?;
    let file = std::fs::OpenOptions::new().write(true).open(&path);
    // A stamp that cannot be set costs gc its order, not the build its layer.
    let _ = file.and_then(|f| f.set_modified(SystemTime::now()));
    Some(done.layer)
}

/// Remembers what a stage gave; the layer must be on its shelf.
///
/// # Errors
/// of writing.
pub fn put(depot: &Depot, key: &str, layer: &Digest) -> OsResult<()> {
    let path = path(depot, key);
    let done = Done { key: key.to_owned(), layer: layer.clone() };
    files::replace_durably(&path, &serde_json::to_vec(&done).map_err(std::io::Error::other).at("write", &path)?)
}

/// All of them, with their last use in milliseconds since 1970.
pub fn all(depot: &Depot) -> Vec<(Done, u64)> {
    let entries = std::fs::read_dir(depot.stages()).into_iter().flatten().flatten();
    let used = |entry: &std::fs::DirEntry| {
        let stamp = entry.metadata().and_then(|m| m.modified()).ok();
        stamp.and_then(|t| t.duration_since(SystemTime::UNIX_EPOCH).ok()).map_or(0, |d| d.as_millis() as u64)
    };
    let finished = entries.filter(|entry| entry.path().extension().is_none());
    finished.filter_map(|entry| Some((read(&entry.path())?, used(&entry)))).collect()
}

/// Forgets a stage; missing is fine.
///
/// # Errors
/// of unlink.
pub fn remove(depot: &Depot, key: &str) -> OsResult<()> {
    let path = path(depot, key);
    match std::fs::remove_file(&path) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(()),
        other => other.at("remove", &path),
    }
}

fn lock(depot: &Depot, key: &str) -> PathBuf {
    depot.stages().join(format!("{key}.lock"))
}

/// Takes a stage's key for whoever is to do it; `None` where another has it.
///
/// # Errors
/// of open and flock.
pub fn lease(depot: &Depot, key: &str) -> OsResult<Option<Lease>> {
    lease::try_claim_file(&lock(depot, key))
}

/// Gives a key back. Its file goes while it is still ours: whoever has opened it finds it unlinked and looks again.
///
/// # Errors
/// of unlink.
pub fn release(depot: &Depot, key: &str, lease: Lease) -> OsResult<()> {
    let path = lock(depot, key);
    let gone = std::fs::remove_file(&path).at("remove", &path);
    drop(lease);
    gone
}

/// Removes the leases of builders that were killed. The store must be owned.
pub fn sweep(depot: &Depot) {
    for entry in std::fs::read_dir(depot.stages()).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if let Some(key) = name.strip_suffix(".lock")
            && let Ok(Some(lease)) = self::lease(depot, key)
        {
            let _ = release(depot, key, lease); // what stays is in nobody's way
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stage_is_remembered_as_long_as_its_layer_lives() {
        let dir = tempfile::tempdir().expect("tempdir");
        let depot = Depot::at(dir.path().to_owned());
        depot.open().expect("opened");
        let (key, layer) = ("ab".repeat(32), Digest::of_sha256([9; 32]));
        put(&depot, &key, &layer).expect("put");
        assert_eq!(get(&depot, &key), None, "without its layer it is worth nothing");
        std::fs::create_dir(depot.tree(&layer)).expect("mkdir");
        assert_eq!(get(&depot, &key), Some(layer.clone()));
        assert_eq!(all(&depot).iter().map(|(done, _)| done.layer.clone()).collect::<Vec<_>>(), [layer]);
        remove(&depot, &key).expect("removed");
        remove(&depot, &key).expect("twice is fine");
        assert_eq!(all(&depot), []);
    }

    #[test]
    fn one_at_a_time_does_a_stage_and_its_lease_leaves_nothing() {
        let dir = tempfile::tempdir().expect("tempdir");
        let depot = Depot::at(dir.path().to_owned());
        depot.open().expect("opened");
        let first = lease(&depot, "a").expect("open").expect("free");
        assert!(lease(&depot, "a").expect("open").is_none() && lease(&depot, "b").expect("open").is_some());
        release(&depot, "a", first).expect("released");
        let again = lease(&depot, "a").expect("open").expect("free again");
        sweep(&depot);
        assert!(lease(&depot, "a").expect("open").is_none(), "the living keep theirs");
        drop(again);
        sweep(&depot);
        assert_eq!(std::fs::read_dir(depot.stages()).expect("list").count(), 0);
    }
}
