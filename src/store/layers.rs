//! Layers: immutable trees, each unpacked once for all images that have it, known by the digest of its uncompressed archive.
//!
//! A layer is there once its tree is on the shelf; what is told of it lies there before. It goes the other way round.

use super::bench::Bench;
use super::depot::Depot;
use super::merged::OPAQUE;
use crate::model::image::Layer;
use crate::model::reference::Digest;
use crate::os::error::{At, OsResult};
use crate::os::{files, mount, sys};
use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

const RECORD_MOST: u64 = 64 << 10;

/// A layer that lies finished on a bench.
#[derive(Debug)]
pub struct Fresh<'a> {
    pub layer: &'a Layer,
    pub tree: &'a Path,
    /// What the tree holds, for later comparison.
    pub listing: &'a Path,
    /// Its archive as it came, if that is to be kept; `layer.blob` says of what digest.
    pub blob: Option<&'a Path>,
    /// Directories that hide those beneath them, relative to the tree.
    pub opaque: &'a [Vec<u8>],
}

fn record(depot: &Depot, diff_id: &Digest) -> PathBuf {
    depot.listings().join(format!("{}.json", diff_id.hex()))
}

/// Puts a layer on its shelf; where it is there already, the fresh one stays on its bench. The store must be shared.
///
/// # Errors
/// of setting marks, writing or rename; the layer is not visible then.
pub fn put(depot: &Depot, fresh: &Fresh<'_>) -> OsResult<()> {
    let Fresh { layer, tree, listing, blob, opaque } = fresh;
    let target = depot.tree(&layer.diff_id);
    if target.exists() {
        return Ok(());
    }
    opaque.iter().try_for_each(|dir| mark_opaque(tree, Path::new(std::ffi::OsStr::from_bytes(dir))))?;
    files::sync(tree)?;
    let into = |from: &Path, to: PathBuf| std::fs::rename(from, &to).at("rename into place", &to);
    if let (Some(path), Some(blob)) = (blob, &layer.blob) {
        into(path, depot.blob(&blob.digest))?;
    }
    into(listing, depot.listing(&layer.diff_id))?;
    let path = record(depot, &layer.diff_id);
    let json = serde_json::to_vec(layer).map_err(io::Error::other).at("write", &path)?;
    files::replace_durably(&path, &json)?;
    match std::fs::rename(tree, &target) {
        // Another hand was faster, with the same content.
        Err(e) if matches!(e.raw_os_error(), Some(libc::ENOTEMPTY | libc::EEXIST)) => Ok(()),
        other => other.at("rename into place", &target),
    }
}

/// The tree has come from a stranger, so the way to the directory is not trusted either.
fn mark_opaque(tree: &Path, dir: &Path) -> OsResult<()> {
    let root = File::open(tree).at("open", tree)?;
    let open = mount::beneath(root.as_fd(), dir)?;
    sys::set_xattr(open.as_fd(), OPAQUE, b"y").at("mark as opaque", dir)
}

/// A layer of the store; `None` where it is not there.
///
/// # Errors
/// of reading, or where its record makes no sense.
pub fn get(depot: &Depot, diff_id: &Digest) -> OsResult<Option<Layer>> {
    if !depot.tree(diff_id).exists() {
        return Ok(None);
    }
    let path = record(depot, diff_id);
    let bytes = files::read_some(&path, RECORD_MOST)?;
    serde_json::from_slice(&bytes).map(Some).map_err(io::Error::other).at("understand", &path)
}

/// All layers, with the bytes that each occupies, its kept archive included.
///
/// # Errors
/// of reading one.
pub fn all(depot: &Depot) -> OsResult<BTreeMap<Digest, u64>> {
    let mut found = BTreeMap::new();
    for entry in std::fs::read_dir(depot.listings()).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        // Of one that was just being put there may be the listing alone.
        let hex = name.strip_suffix(".json").unwrap_or(&name);
        let Ok(diff_id) = Digest::try_from(format!("sha256:{hex}")) else { continue };
        let bytes = get(depot, &diff_id)?.map_or(0, |layer| layer.bytes + layer.blob.map_or(0, |b| b.size));
        found.insert(diff_id, bytes);
    }
    Ok(found)
}

/// Takes a layer away. The store must be owned, and no image may have it.
///
/// # Errors
/// of rename or unlink; what is left is taken by the next.
pub fn remove(depot: &Depot, diff_id: &Digest) -> OsResult<()> {
    let kept = get(depot, diff_id).ok().flatten().and_then(|layer| layer.blob);
    let tree = depot.tree(diff_id);
    if tree.exists() {
        // Out of sight in one step; its removal may take its time.
        let bench = Bench::new(depot)?;
        std::fs::rename(&tree, bench.path().join("tree")).at("take off the shelf", &tree)?;
    }
    let rest = [kept.map(|blob| depot.blob(&blob.digest)), Some(depot.listing(diff_id)), Some(record(depot, diff_id))];
    for path in rest.into_iter().flatten() {
        match std::fs::remove_file(&path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            other => other.at("remove", &path)?,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_layer_is_there_once_and_goes_with_all_that_was_told_of_it() {
        let dir = tempfile::tempdir().expect("tempdir");
        let depot = Depot::at(dir.path().to_owned());
        depot.open().expect("opened");
        let layer = Layer { diff_id: Digest::of_sha256([7; 32]), blob: None, bytes: 42, entries: 2 };
        for n in 0..2 {
            let bench = Bench::new(&depot).expect("bench");
            let (tree, listing) = (bench.path().join("tree"), bench.path().join("listing"));
            std::fs::create_dir_all(tree.join("a")).expect("mkdir");
            std::fs::write(tree.join("a/f"), format!("{n}")).expect("write");
            std::fs::write(&listing, "").expect("write");
            let opaque = if nix::unistd::geteuid().is_root() { vec![b"a".to_vec()] } else { vec![] };
            put(&depot, &Fresh { layer: &layer, tree: &tree, listing: &listing, blob: None, opaque: &opaque }).expect("put");
        }
        assert_eq!(std::fs::read(depot.tree(&layer.diff_id).join("a/f")).expect("there"), b"0", "the first one stays");
        assert_eq!(get(&depot, &layer.diff_id).expect("read"), Some(layer.clone()));
        assert_eq!(all(&depot).expect("read").into_iter().collect::<Vec<_>>(), [(layer.diff_id.clone(), 42)]);
        remove(&depot, &layer.diff_id).expect("removed");
        remove(&depot, &layer.diff_id).expect("twice is fine");
        assert_eq!((get(&depot, &layer.diff_id).expect("read"), all(&depot).expect("read").len()), (None, 0));
    }
}
