//! What stages of recipes have given: by a stage's key, the layer on top of its parent's.

use super::depot::Depot;
use crate::model::reference::Digest;
use crate::os::error::{At, OsResult};
use crate::os::files;
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
}
