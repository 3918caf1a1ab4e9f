//! One tree that shows what a stack of layers shows: its own directories, and of everything else further names (link(2)), so that
//! it occupies next to nothing. Layers never change, so neither does what they share.
//!
//! No symlink of a stranger's is ever gone through: a directory is entered in a layer only where that layer was seen to have a
//! directory there, part by part from its root.

use super::merged::{opaque, whiteout};
use crate::os::error::{At, OsResult};
use crate::os::sys;
use std::collections::BTreeMap;
use std::ffi::{CStr, OsString};
use std::fs::{File, FileTimes, Metadata, Permissions};
use std::os::fd::AsFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};

/// What lies under one name.
enum Found {
    /// A whiteout: nothing, and no layer below has a say.
    Hidden,
    /// Anything but a directory.
    Thing(PathBuf),
    /// Directories that show together, the topmost first, and whether one that is opaque ends them.
    Directories(Vec<PathBuf>, bool),
}

/// Lays the merged tree of these layers, the topmost first, at a path where nothing is. All must be on one filesystem.
///
/// # Errors
/// of reading, mkdir or link: EMLINK and ENAMETOOLONG too are for the caller to live with, since the layers themselves still serve.
pub fn lay(trees: &[PathBuf], target: &Path) -> OsResult<()> {
    let Some(top) = trees.first() else { return std::fs::create_dir(target).at("mkdir", target) };
    let root = std::fs::symlink_metadata(top).at("look at", top)?;
    std::fs::create_dir(target).at("mkdir", target)?;
    within(trees, target)?;
    dress(top, &root, target)
}

fn within(directories: &[PathBuf], target: &Path) -> OsResult<()> {
    for (name, found) in names(directories)? {
        let place = target.join(&name);
        match found {
            Found::Hidden => {}
            Found::Thing(path) => std::fs::hard_link(&path, &place).at("link to", &path)?,
            Found::Directories(all, _) => lay(&all, &place)?,
        }
    }
    Ok(())
}

fn names(directories: &[PathBuf]) -> OsResult<BTreeMap<OsString, Found>> {
    let mut names: BTreeMap<OsString, Found> = BTreeMap::new();
    for directory in directories {
        for entry in std::fs::read_dir(directory).at("list", directory)? {
            let entry = entry.at("list", directory)?;
            let path = entry.path();
            let meta = std::fs::symlink_metadata(&path).at("look at", &path)?;
            match names.get_mut(&entry.file_name()) {
                None => drop(names.insert(entry.file_name(), first(path, &meta))),
                Some(Found::Directories(all, ended @ false)) => {
                    let merges = meta.is_dir();
                    *ended = !merges || opaque(&path);
                    all.extend(merges.then_some(path));
                }
                Some(_) => {}
            }
        }
    }
    Ok(names)
}

fn first(path: PathBuf, meta: &Metadata) -> Found {
    if whiteout(meta) {
        Found::Hidden
    } else if meta.is_dir() {
        let ended = opaque(&path);
        Found::Directories(vec![path], ended)
    } else {
        Found::Thing(path)
    }
}

/// Gives a directory the attributes of its model, except overlayfs's own marks.
fn dress(model: &Path, meta: &Metadata, target: &Path) -> OsResult<()> {
    let (from, to) = (File::open(model).at("open", model)?, File::open(target).at("open", target)?);
    fchown(&to, Some(meta.uid()), Some(meta.gid())).at("chown", target)?;
    to.set_permissions(Permissions::from_mode(meta.mode() & 0o7777)).at("chmod", target)?;
    for name in sys::list_xattrs(from.as_fd()).at("list the attributes of", model)?.split_inclusive(|b| *b == 0) {
        let Ok(name) = CStr::from_bytes_with_nul(name) else { continue };
        if !name.to_bytes().starts_with(b"trusted.overlay.") {
            let value = sys::get_xattr(from.as_fd(), name).at("read an attribute of", model)?;
            sys::set_xattr(to.as_fd(), name, &value).at("set an attribute of", target)?;
        }
    }
    // Last: what was done above has changed it.
    let times = meta.accessed().and_then(|a| Ok(FileTimes::new().set_accessed(a).set_modified(meta.modified()?)));
    times.and_then(|times| to.set_times(times)).at("set the times of", target)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::merged::Merged;
    use crate::store::merged::tests::whiteout_at;
    use std::os::unix::fs::symlink;

    #[test]
    fn it_shows_what_the_layers_show_together() {
        let dir = tempfile::tempdir().expect("tempdir");
        let trees = ["top", "middle", "bottom"].map(|n| dir.path().join(n));
        let put = |layer: usize, path: &str| {
            let path = trees[layer].join(path);
            std::fs::create_dir_all(path.parent().expect("a parent")).expect("mkdir");
            std::fs::write(&path, format!("{layer}")).expect("write");
        };
        for (layer, path) in [(2, "a/below"), (2, "a/both"), (1, "a/both"), (0, "a/above"), (2, "gone/x"), (2, "b/hidden")] {
            put(layer, path);
        }
        for (layer, path) in [(2, "c/x"), (1, "c"), (0, "c/new"), (2, "link/x"), (1, "keep/me"), (2, "f")] {
            put(layer, path);
        }
        whiteout_at(&trees[1].join("gone"));
        std::fs::create_dir(trees[1].join("b")).expect("mkdir");
        whiteout_at(&trees[1].join("b/hidden"));
        symlink("/etc", trees[0].join("link")).expect("symlink");
        std::fs::set_permissions(trees[0].join("a"), Permissions::from_mode(0o711)).expect("chmod");
        let flat = dir.path().join("flat");
        lay(&trees, &flat).expect("laid");

        let merged = Merged::new(trees.to_vec());
        let shown = ["a", "a/below", "a/both", "a/above", "b", "c", "c/new", "link", "keep/me", "f"];
        for path in shown {
            let seen = Merged::new(vec![flat.clone()]).kind(path);
            assert!(seen.is_some() && seen == merged.kind(path), "{path}: {seen:?}");
        }
        for path in ["gone", "b/hidden", "c/x", "link/x"] {
            assert!(std::fs::symlink_metadata(flat.join(path)).is_err() && merged.kind(path).is_none(), "{path}");
        }
        assert_eq!(std::fs::read(flat.join("a/both")).expect("there"), b"1");
        let inode = |path: PathBuf| std::fs::metadata(path).expect("there").ino();
        assert_eq!(inode(flat.join("f")), inode(trees[2].join("f")), "a further name, no copy");
        let (of, model) = [flat.join("a"), trees[0].join("a")].map(|p| std::fs::metadata(p).expect("there")).into();
        assert_eq!((of.mode(), of.mtime_nsec()), (model.mode(), model.mtime_nsec()));
    }

    #[test]
    fn what_an_opaque_directory_hides_stays_hidden() {
        let dir = tempfile::tempdir().expect("tempdir");
        let trees = ["top", "bottom"].map(|n| dir.path().join(n));
        for (layer, path) in [(0, "d/new"), (1, "d/old")] {
            std::fs::create_dir_all(trees[layer].join("d")).expect("mkdir");
            std::fs::write(trees[layer].join(path), "").expect("write");
        }
        let root = nix::unistd::geteuid().is_root();
        if root {
            let mark = File::open(trees[0].join("d")).expect("ours");
            sys::set_xattr(mark.as_fd(), c"trusted.overlay.opaque", b"y").expect("as root");
        }
        let flat = dir.path().join("flat");
        lay(&trees, &flat).expect("laid");
        assert!(flat.join("d/new").exists() && flat.join("d/old").exists() != root && !opaque(&flat.join("d")));
    }
}
