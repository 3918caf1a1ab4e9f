//! Measuring and removing a tree that strangers have written: any depth, any names, and no path of theirs is ever followed.

use super::beneath;
use super::error::{At, OsResult};
use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, RenameFlags, renameat2};
use nix::sys::stat::{FchmodatFlags, Mode, SFlag, fchmod, fchmodat, fstat, fstatat};
use nix::unistd::{UnlinkatFlags, unlinkat};
use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

/// What a tree holds, as far as it was looked at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Size {
    /// On disk.
    pub bytes: u64,
    pub entries: u64,
}

/// A directory's entries but itself and its parent.
fn names(dir: impl AsFd) -> nix::Result<Vec<CString>> {
    // A descriptor of its own: reading moves an offset that copies would share.
    let fresh = beneath::open(dir, b"", OFlag::O_RDONLY | OFlag::O_DIRECTORY, Mode::empty())?;
    let mut found = Vec::new();
    for entry in Dir::from_fd(fresh)?.iter() {
        let name = entry?.file_name().to_owned();
        if !matches!(name.as_bytes(), b"." | b"..") {
            found.push(name);
        }
    }
    Ok(found)
}

fn open(dir: &Path) -> OsResult<OwnedFd> {
    std::fs::File::open(dir).map(OwnedFd::from).at("open", dir)
}

/// Adds a tree up; stops as soon as it is more than `most` in either figure. What lies deeper than a path reaches counts as too
/// much.
///
/// # Errors
/// of opening the directory itself; what vanishes meanwhile is not counted.
pub fn measure(dir: &Path, most: Size) -> OsResult<Size> {
    let (top, mut size) = (open(dir)?, Size::default());
    let mut todo = vec![Vec::new()];
    while let Some(path) = todo.pop() {
        let inner = match beneath::directory(&top, &path) {
            Ok(inner) => inner,
            Err(Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP) => continue,
            Err(_) => return Ok(Size { entries: u64::MAX, ..size }),
        };
        for name in names(&inner).unwrap_or_default() {
            let Ok(stat) = fstatat(&inner, name.as_c_str(), AtFlags::AT_SYMLINK_NOFOLLOW) else { continue };
            size.entries += 1;
            size.bytes = size.bytes.saturating_add(u64::try_from(stat.st_blocks).unwrap_or(0).saturating_mul(512));
            if beneath::kind(&stat) == SFlag::S_IFDIR {
                let slash: &[u8] = if path.is_empty() { b"" } else { b"/" };
                todo.push([&path, slash, name.as_bytes()].concat());
            }
            if size.entries > most.entries || size.bytes > most.bytes {
                return Ok(size);
            }
        }
    }
    Ok(size)
}

/// Removes a tree; nobody else may be writing in it.
///
/// # Errors
/// of the first thing that cannot be removed.
pub fn raze(dir: &Path) -> OsResult<()> {
    if !dir.exists() {
        return Ok(());
    }
    empty(dir)?;
    std::fs::remove_dir(dir).at("remove", dir)
}

/// Removes all that is in a directory. Directories that are not empty are moved up to its top first, so that neither depth nor the
/// length of a path matters; those that are closed to us, their owner, are opened. Nobody else may be writing in it.
///
/// # Errors
/// of the first thing that cannot be removed: what is mounted there, for one.
pub fn empty(dir: &Path) -> OsResult<()> {
    let top = open(dir)?;
    let mut count = 0u64;
    loop {
        let here = names(&top).at("list", dir)?;
        if here.is_empty() {
            return Ok(());
        }
        for name in here {
            if !remove(&top, &name).at("remove what is in", dir)? {
                let inner = inside(&top, &name).at("open a directory in", dir)?;
                for below in names(&inner).at("list a directory in", dir)? {
                    if !remove(&inner, &below).at("remove what is in", dir)? {
                        lift(&inner, &below, &top, &mut count).at("move up within", dir)?;
                    }
                }
            }
        }
    }
}

/// Opens a directory to remove what is in it.
fn inside(dir: impl AsFd, name: &CStr) -> nix::Result<OwnedFd> {
    let open = || beneath::directory(dir.as_fd(), name.to_bytes());
    let inner = match open() {
        Err(Errno::EACCES) => {
            fchmodat(dir.as_fd(), name, Mode::S_IRWXU, FchmodatFlags::FollowSymlink)?; // it is a directory, and stays one
            open()?
        }
        inner => inner?,
    };
    let mode = Mode::from_bits_truncate(fstat(&inner)?.st_mode);
    if !mode.contains(Mode::S_IRWXU) {
        fchmod(&inner, mode | Mode::S_IRWXU)?;
    }
    Ok(inner)
}

/// `Ok(false)`: it is a directory with something in it.
fn remove(dir: impl AsFd, name: &CStr) -> nix::Result<bool> {
    match unlinkat(dir.as_fd(), name, UnlinkatFlags::NoRemoveDir) {
        Err(Errno::EISDIR | Errno::EPERM) => match unlinkat(dir.as_fd(), name, UnlinkatFlags::RemoveDir) {
            Err(Errno::ENOTEMPTY | Errno::EEXIST) => Ok(false),
            done => done.map(|()| true),
        },
        done => done.map(|()| true),
    }
}

fn lift(from: impl AsFd, name: &CStr, top: impl AsFd, count: &mut u64) -> nix::Result<()> {
    // Whoever is not root moves only directories that he may write to (rename(2)).
    drop(inside(from.as_fd(), name)?);
    loop {
        *count += 1;
        match renameat2(from.as_fd(), name, top.as_fd(), format!(".{count}").as_str(), RenameFlags::RENAME_NOREPLACE) {
            Err(Errno::EEXIST) => {} // a name of theirs
            done => return done,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tree_of_any_depth_goes_and_nothing_else() {
        let place = tempfile::tempdir().expect("tempdir");
        let (tree, kept) = (place.path().join("tree"), place.path().join("kept"));
        std::fs::create_dir(&tree).expect("mkdir");
        std::fs::write(&kept, "x").expect("write");
        std::os::unix::fs::symlink(&kept, tree.join("link")).expect("link");
        std::os::unix::fs::symlink(place.path(), tree.join("around")).expect("link");
        for name in [".1", ".2", "a\nb"] {
            std::fs::create_dir_all(tree.join(name).join("in/side")).expect("mkdir");
        }
        // Deeper than a path can name.
        let mut deep = open(&tree).expect("opened");
        for _ in 0..3000 {
            nix::sys::stat::mkdirat(&deep, "dd", Mode::S_IRWXU).expect("mkdir");
            deep = beneath::directory(&deep, b"dd").expect("opened");
        }
        let most = Size { bytes: u64::MAX, entries: 1 << 20 };
        assert_eq!(measure(&tree, most).expect("measured").entries, u64::MAX, "too deep to be measured");
        raze(&tree).expect("razed");
        raze(&tree).expect("twice is fine");
        assert!(!tree.exists() && kept.exists() && place.path().exists());
    }

    #[test]
    fn a_directory_is_emptied_and_stays() {
        let place = tempfile::tempdir().expect("tempdir");
        let inner = place.path().join("a/b/c");
        std::fs::create_dir_all(&inner).expect("mkdir");
        std::fs::write(inner.join("f"), "x").expect("write");
        for dir in ["a/b/c", "a/b", "a"] {
            let closed = std::os::unix::fs::PermissionsExt::from_mode(0o0);
            std::fs::set_permissions(place.path().join(dir), closed).expect("chmod");
        }
        empty(place.path()).expect("emptied");
        assert_eq!(std::fs::read_dir(place.path()).expect("it stays").count(), 0);
    }

    #[test]
    fn a_tree_is_measured_until_it_is_too_much() {
        let place = tempfile::tempdir().expect("tempdir");
        for n in 0..10 {
            std::fs::write(place.path().join(format!("{n}")), vec![1; 5000]).expect("write");
        }
        let size = |bytes, entries| measure(place.path(), Size { bytes, entries }).expect("measured");
        let all = size(u64::MAX, 100);
        assert!(all.entries == 10 && all.bytes >= 50_000, "{all:?}");
        assert_eq!(size(u64::MAX, 4).entries, 5);
        assert!(size(20_000, 100).bytes < all.bytes);
    }
}
