//! Opening beneath a directory and never out of it (openat2(2)): no `..`, no symlink on the way, no other mount.

use nix::fcntl::{AtFlags, OFlag, OpenHow, ResolveFlag, openat2};
use nix::sys::stat::{FileStat, Mode, SFlag, fstatat, major, minor};
use std::os::fd::{AsFd, OwnedFd};

/// Opens `path`, which is relative to `dir`; an empty path is the directory itself.
///
/// # Errors
/// ELOOP for a symlink anywhere in the path, EXDEV where it would leave the directory or its mount, ENOTDIR, ENOENT, …
pub fn open(dir: impl AsFd, path: &[u8], flags: OFlag, mode: Mode) -> nix::Result<OwnedFd> {
    let how = OpenHow::new().flags(flags | OFlag::O_CLOEXEC | OFlag::O_NOCTTY).mode(mode).resolve(
        ResolveFlag::RESOLVE_BENEATH
            | ResolveFlag::RESOLVE_NO_SYMLINKS
            | ResolveFlag::RESOLVE_NO_MAGICLINKS
            | ResolveFlag::RESOLVE_NO_XDEV,
    );
    openat2(dir, if path.is_empty() { &b"."[..] } else { path }, how)
}

/// Opens a directory for looking up and listing.
///
/// # Errors
/// as `open`.
pub fn directory(dir: impl AsFd, path: &[u8]) -> nix::Result<OwnedFd> {
    open(dir, path, OFlag::O_RDONLY | OFlag::O_DIRECTORY, Mode::empty())
}

/// Opens what should be a regular file for reading: a FIFO does not make it wait.
///
/// # Errors
/// as `open`.
pub fn readable(dir: impl AsFd, path: &[u8]) -> nix::Result<OwnedFd> {
    open(dir, path, OFlag::O_RDONLY | OFlag::O_NONBLOCK, Mode::empty())
}

/// What a name is, without following it; `name` is one component, or empty for the directory itself.
///
/// # Errors
/// ENOENT, …
pub fn look(dir: impl AsFd, name: &[u8]) -> nix::Result<FileStat> {
    fstatat(dir, name, AtFlags::AT_SYMLINK_NOFOLLOW | AtFlags::AT_EMPTY_PATH)
}

/// The bits of a mode that say what a file is.
pub fn kind(stat: &FileStat) -> SFlag {
    SFlag::from_bits_truncate(stat.st_mode & SFlag::S_IFMT.bits())
}

/// Whether it is what overlayfs calls a whiteout: a character device 0:0 (kernel documentation, overlayfs.rst).
pub fn is_whiteout(stat: &FileStat) -> bool {
    kind(stat) == SFlag::S_IFCHR && major(stat.st_rdev) == 0 && minor(stat.st_rdev) == 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::errno::Errno;
    use std::fs::File;

    #[test]
    fn no_path_leads_out() {
        let dir = tempfile::tempdir().expect("tempdir");
        let at = |name: &str| dir.path().join(name);
        std::fs::create_dir_all(at("in/a")).expect("mkdir");
        std::fs::write(at("out"), "x").expect("write");
        std::fs::write(at("in/a/file"), "x").expect("write");
        std::os::unix::fs::symlink("a", at("in/link")).expect("link");
        let root = File::open(at("in")).expect("open");
        assert!(directory(&root, b"").is_ok() && directory(&root, b"a").is_ok() && readable(&root, b"a/file").is_ok());
        for (path, why) in [
            (&b"../out"[..], Errno::EXDEV),
            (b"/etc", Errno::EXDEV),
            (b"link", Errno::ELOOP),
            (b"link/file", Errno::ELOOP),
            (b"a/file/x", Errno::ENOTDIR),
            (b"none", Errno::ENOENT),
        ] {
            assert_eq!(readable(&root, path).err(), Some(why), "{path:?}");
        }
    }

    #[test]
    fn attributes_are_listed_whatever_their_length() {
        let dir = tempfile::tempdir().expect("tempdir");
        let file = File::create(dir.path().join("file")).expect("create");
        let (short, long) = (c"user.short", c"user.long");
        // Older kernels have no user.* attributes on tmpfs.
        match crate::os::sys::set_xattr(file.as_fd(), short, b"") {
            Err(e) if e.raw_os_error() == Some(libc::EOPNOTSUPP) => return,
            set => set.expect("set"),
        }
        crate::os::sys::set_xattr(file.as_fd(), long, &[7; 1000]).expect("set");
        assert_eq!(crate::os::sys::get_xattr(file.as_fd(), short).ok(), Some(vec![]));
        assert_eq!(crate::os::sys::get_xattr(file.as_fd(), long).ok(), Some(vec![7; 1000]));
        assert_eq!(
            crate::os::sys::get_xattr(file.as_fd(), c"user.none").err().and_then(|e| e.raw_os_error()),
            Some(libc::ENODATA)
        );
        let names = crate::os::sys::list_xattrs(file.as_fd()).expect("listed");
        assert!(names.split(|b| *b == 0).any(|n| n == b"user.long"), "{names:?}");
    }
}
