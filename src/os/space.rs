//! What room the filesystem of a directory has, and what it is.

use super::error::{At, OsResult};
use nix::sys::statvfs::{FsFlags, statvfs};
use std::path::{Path, PathBuf};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Space {
    pub bytes: u64,
    /// `None` where the filesystem makes inodes as it goes and so counts none (btrfs).
    pub inodes: Option<u64>,
    pub read_only: bool,
}

/// # Errors
/// of statvfs(3).
pub fn free(dir: &Path) -> OsResult<Space> {
    let s = statvfs(dir).at("look at the filesystem of", dir)?;
    let inodes = (s.files() > 0).then(|| s.files_available());
    Ok(Space { bytes: s.blocks_available() * s.fragment_size(), inodes, read_only: s.flags().contains(FsFlags::ST_RDONLY) })
}

/// A mount as `/proc/self/mountinfo` tells of it (proc_pid_mountinfo(5)).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    /// The filesystem type.
    pub kind: String,
    /// The options of its superblock.
    pub options: String,
}

/// The mount that a path lies in.
pub fn mount(mountinfo: &str, path: &Path) -> Option<Mount> {
    let one = |line: &str| {
        let (left, right) = line.split_once(" - ")?;
        let at = PathBuf::from(left.split(' ').nth(4)?.replace("\\040", " "));
        let mut right = right.split(' ').map(str::to_owned);
        let mount = Mount { kind: right.next()?, options: right.nth(1).unwrap_or_default() };
        path.starts_with(&at).then(|| (at.components().count(), mount))
    };
    // Of equally deep mounts the last one lies on top.
    mountinfo.lines().filter_map(one).max_by_key(|(depth, _)| *depth).map(|(_, mount)| mount)
}

/// The nearest directory that exists, the path itself or one above it.
pub fn existing(path: &Path) -> &Path {
    path.ancestors().find(|dir| dir.is_dir()).unwrap_or(Path::new("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_deepest_mount_counts_and_the_last_of_equals() {
        let mounts = "1 0 8:1 / / rw - ext4 /dev/sda rw\n2 1 0:2 / /run rw shared:1 - tmpfs run rw\n\
                      3 1 0:3 / /srv/a\\040b rw - xfs x rw\n4 2 0:4 / /run rw - btrfs y rw\n";
        let kind = |path: &str| mount(mounts, Path::new(path)).expect("mounted").kind;
        assert_eq!((kind("/etc").as_str(), kind("/run/x").as_str(), kind("/running").as_str()), ("ext4", "btrfs", "ext4"));
        let inner = Mount { kind: "xfs".into(), options: "rw".into() };
        assert_eq!(mount(mounts, Path::new("/srv/a b/c")), Some(inner));
    }

    #[test]
    fn a_place_that_is_not_yet_has_the_room_of_what_is_above() {
        let dir = tempfile::tempdir().expect("tempdir");
        let inner = dir.path().join("not/yet");
        assert_eq!(existing(&inner), dir.path());
        let space = free(existing(&inner)).expect("statvfs");
        assert!(!space.read_only && space.bytes > 0);
        assert!(free(&inner).is_err());
    }
}
