//! Files that appear whole, and files that are opened without being led astray.

use super::error::{At, OsResult};
use nix::fcntl::{AT_FDCWD, OFlag, OpenHow, RenameFlags, ResolveFlag, openat2, renameat2};
use nix::sys::stat::Mode;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};

/// A reader of `path` sees the whole old content or the whole new one, never a part, however many write it at once; a crash
/// leaves at most one file beside it whose name ends in `.new`.
///
/// Not synced to disk: what is written so describes processes, groups and leases, which no power cut survives either,
/// and an fsync costs 2 ms where `/run` is no tmpfs (measured). An old file is exchanged and then removed, not renamed over:
/// ext4 writes the new one's blocks out at once there (`auto_da_alloc`, ext4(5)), which costs 0.1 ms on an idle disk.
///
/// # Errors
/// of create, write or rename; the old content then still stands.
pub fn replace(path: &Path, bytes: &[u8]) -> OsResult<()> {
    write_aside(path, bytes, false)
}

/// [`replace`] for what must outlast a power cut.
///
/// # Errors
/// as of [`replace`], and of fsync.
pub fn replace_durably(path: &Path, bytes: &[u8]) -> OsResult<()> {
    write_aside(path, bytes, true)
}

fn write_aside(path: &Path, bytes: &[u8], durable: bool) -> OsResult<()> {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let mut fresh = path.as_os_str().to_owned();
    fresh.push(format!(".{}-{}.new", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed)));
    let fresh = Path::new(&fresh);
    let mut file = File::create(fresh).at("create", fresh)?;
    file.write_all(bytes).at("write", fresh)?;
    if durable {
        file.sync_all().at("sync", fresh)?;
        return std::fs::rename(fresh, path).at("rename into place", path);
    }
    match renameat2(AT_FDCWD, fresh, AT_FDCWD, path, RenameFlags::RENAME_EXCHANGE) {
        Ok(()) => std::fs::remove_file(fresh).at("remove the old", path),
        // There is none yet, or the filesystem cannot do it.
        Err(_) => std::fs::rename(fresh, path).at("rename into place", path),
    }
}

/// Opens a regular file for reading without following any symlink, waiting for a FIFO or acquiring a terminal.
///
/// # Errors
/// ELOOP for a symlink anywhere in the path, EINVAL for what is no regular file.
pub fn open_regular(path: &Path) -> OsResult<File> {
    let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK | OFlag::O_NOCTTY;
    let how = OpenHow::new()
        .flags(flags)
        .mode(Mode::empty())
        .resolve(ResolveFlag::RESOLVE_NO_SYMLINKS | ResolveFlag::RESOLVE_NO_MAGICLINKS);
    let root = File::open("/").at("open", "/")?;
    let file = File::from(openat2(root.as_fd(), path, how).at("open", path)?);
    match file.metadata().at("look at", path)? {
        meta if meta.is_file() => Ok(file),
        _ => Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file")).at("read", path),
    }
}

/// Room for what kernel files and records usually hold: std begins with 32 bytes where a file says that it has none, and
/// a start reads some 40 of them.
const USUAL: usize = 4096;

/// The beginning of a small file, at most `most` bytes.
///
/// # Errors
/// of open and read.
pub fn read_some(path: &Path, most: u64) -> OsResult<Vec<u8>> {
    let mut bytes = Vec::with_capacity(USUAL);
    File::open(path).and_then(|f| f.take(most).read_to_end(&mut bytes)).at("read", path)?;
    Ok(bytes)
}

/// Text of a kernel file (procfs, sysfs, cgroupfs), trimmed.
///
/// # Errors
/// of open and read.
pub fn text(path: &Path) -> OsResult<String> {
    let mut text = String::with_capacity(USUAL);
    File::open(path).and_then(|f| f.take(u64::MAX).read_to_string(&mut text)).at("read", path)?;
    Ok(text.trim_end().to_owned())
}

/// Writes one value into a kernel file in one write(2), as such files want it.
///
/// # Errors
/// of open and write; EBUSY, EINVAL and the like are the kernel's answers.
pub fn set(path: &Path, value: &str) -> OsResult<()> {
    OpenOptions::new().write(true).open(path).and_then(|mut f| f.write_all(value.as_bytes())).at("write", path)
}

/// A directory that only root enters, made if missing.
///
/// # Errors
/// of mkdir.
pub fn private_dir(path: &Path) -> OsResult<()> {
    use std::os::unix::fs::DirBuilderExt;
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path).at("create directory", path)
}

/// A directory below one that must exist, with exactly this mode, whatever umask our caller has; having it already is fine.
///
/// # Errors
/// of mkdir and chmod.
pub fn dir(path: &Path, mode: u32) -> OsResult<()> {
    use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
    match std::fs::DirBuilder::new().mode(mode).create(path) {
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        other => other
            .and_then(|()| std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)))
            .at("create directory", path),
    }
}

/// A new file that must not exist yet, never through a symlink, with exactly this mode.
///
/// # Errors
/// of open, chmod and write.
pub fn create(path: &Path, bytes: &[u8], mode: u32) -> OsResult<()> {
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .custom_flags(libc::O_NOFOLLOW)
        .open(path)
        .at("create", path)?;
    let exact = std::os::unix::fs::PermissionsExt::from_mode(mode);
    file.set_permissions(exact).and_then(|()| file.write_all(bytes)).at("write", path)
}

/// Has a tree's whole filesystem on disk before it is renamed to where others see it.
///
/// # Errors
/// of open and syncfs.
pub fn sync(tree: &Path) -> OsResult<()> {
    let dir = File::open(tree).at("open", tree)?;
    nix::unistd::syncfs(dir).at("sync", tree)
}

/// What makes a file or directory the same one: device and inode, symlinks followed.
///
/// # Errors
/// of stat.
pub fn identity(path: &Path) -> OsResult<String> {
    std::fs::metadata(path).at("look at", path).map(|meta| same(&meta))
}

/// [`identity`] of what has been looked at.
pub fn same(meta: &std::fs::Metadata) -> String {
    format!("{:x}-{:x}", meta.dev(), meta.ino())
}

/// [`identity`], and whether its content is the same: a program that is upgraded in place is another one.
///
/// # Errors
/// of stat.
pub fn build(path: &Path) -> OsResult<String> {
    let meta = std::fs::metadata(path).at("look at", path)?;
    Ok(format!("{}-{:x}-{:x}.{:x}", same(&meta), meta.size(), meta.ctime(), meta.ctime_nsec()))
}

/// What lies at a path, the last component not followed.
pub fn kind(path: &Path) -> Option<crate::model::facts::EntryKind> {
    use crate::model::facts::EntryKind;
    let meta = std::fs::symlink_metadata(path).ok()?;
    Some(match meta.file_type() {
        t if t.is_dir() => EntryKind::Directory { mode: meta.mode() & 0o7777 },
        t if t.is_file() => EntryKind::File,
        t if t.is_symlink() => EntryKind::Symlink,
        _ => EntryKind::Other,
    })
}

/// `major:minor` of a block device.
///
/// # Errors
/// of stat; EINVAL for what is no block device.
pub fn block_device(path: &Path) -> OsResult<String> {
    let meta = std::fs::metadata(path).at("look at", path)?;
    if !meta.file_type().is_block_device() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a block device")).at("use", path);
    }
    Ok(format!("{}:{}", nix::sys::stat::major(meta.rdev()), nix::sys::stat::minor(meta.rdev())))
}

/// Removes a tree of our own making, never following a symlink and never leaving its filesystem; missing is fine.
///
/// # Errors
/// of the first thing that cannot be removed. EXDEV where something is mounted inside: that is never deleted through.
pub fn remove_tree(path: &Path) -> OsResult<()> {
    let meta = match std::fs::symlink_metadata(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        meta => meta.at("look at", path)?,
    };
    if !meta.is_dir() {
        return std::fs::remove_file(path).at("remove", path);
    }
    for entry in std::fs::read_dir(path).at("list", path)? {
        let entry = entry.at("list", path)?;
        let inner = entry.metadata().at("look at", entry.path())?;
        if inner.dev() != meta.dev() {
            return Err(io::Error::from_raw_os_error(libc::EXDEV)).at("remove the mount", entry.path());
        }
        match inner.is_dir() {
            true => remove_tree(&entry.path())?,
            false => std::fs::remove_file(entry.path()).at("remove", entry.path())?,
        }
    }
    std::fs::remove_dir(path).at("remove", path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replaced_files_are_whole_and_leave_nothing() {
        let dir = tempfile::tempdir().expect("tempdir");
        let path = dir.path().join("a");
        replace(&path, b"one").expect("written");
        replace(&path, b"two").expect("written again");
        assert_eq!(std::fs::read(&path).expect("there"), b"two");
        assert_eq!(std::fs::read_dir(dir.path()).expect("list").count(), 1);
    }

    #[test]
    fn many_may_replace_a_file_at_once() {
        let dir = tempfile::tempdir().expect("tempdir");
        let path = dir.path().join("a");
        std::thread::scope(|scope| {
            for n in 0..8u8 {
                let path = &path;
                scope.spawn(move || (0..200).for_each(|_| replace(path, &[n; 4096]).expect("written")));
            }
        });
        let whole = std::fs::read(&path).expect("there");
        assert!(whole.len() == 4096 && whole.iter().all(|b| *b == whole[0]), "one writer's content, whole");
        assert_eq!(std::fs::read_dir(dir.path()).expect("list").count(), 1);
    }

    #[test]
    fn only_regular_files_without_symlinks_are_opened() {
        let dir = tempfile::tempdir().expect("tempdir");
        let at = |name: &str| dir.path().join(name);
        std::fs::write(at("file"), "x").expect("write");
        std::fs::create_dir(at("dir")).expect("mkdir");
        std::os::unix::fs::symlink("file", at("link")).expect("link");
        std::os::unix::fs::symlink(dir.path(), at("around")).expect("link");
        nix::unistd::mkfifo(&at("fifo"), Mode::S_IRUSR).expect("fifo");
        assert!(open_regular(&at("file")).is_ok());
        for bad in ["dir", "link", "fifo", "around/file", "missing"] {
            assert!(open_regular(&at(bad)).is_err(), "{bad}");
        }
    }

    #[test]
    fn trees_are_removed_but_links_are_not_followed() {
        let (dir, other) = (tempfile::tempdir().expect("tempdir"), tempfile::tempdir().expect("tempdir"));
        std::fs::write(other.path().join("kept"), "x").expect("write");
        let tree = dir.path().join("tree");
        std::fs::create_dir_all(tree.join("a/b")).expect("mkdir");
        std::os::unix::fs::symlink(other.path(), tree.join("a/link")).expect("link");
        remove_tree(&tree).expect("removed");
        remove_tree(&tree).expect("twice is fine");
        assert!(!tree.exists() && other.path().join("kept").exists());
    }
}
