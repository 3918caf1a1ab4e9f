//! A directory that one layer is put into: things are made beneath it and nowhere else.
//!
//! Theory of operation: every thing is made by its last name in its parent, and the parent is opened from the tree's root by
//! openat2 without following a symlink, so that no name in the archive and no earlier entry leads out. The last parent stays
//! open: neighbours in an archive are mostly neighbours in the tree. Directories belong to us, with mode 0700, until the end.

use super::attributes::{Attributes, Mtime};
use super::place::{components, join, split};
use super::refusal::{malformed, shown, too_large, unwritable};
use super::spool::Directories;
use crate::model::fault::Fault;
use crate::os::beneath::{self, is_whiteout, kind, look};
use crate::os::error::{At, OsError};
use nix::errno::Errno;
use nix::fcntl::AtFlags;
use nix::sys::stat::{FileStat, Mode, SFlag, UtimensatFlags, fchmod, futimens, makedev, mkdirat, mknodat, utimensat};
use nix::sys::time::TimeSpec;
use nix::unistd::{Gid, Uid, UnlinkatFlags, fchown, fchownat, unlinkat};
use std::collections::BTreeSet;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

/// Paths to be reported are kept in memory: at most that many bytes of each sort.
const REPORTED_MOST: usize = 4 * 1024 * 1024;

/// Directories that the archive does not name.
const IMPLIED_MODE: u32 = 0o755;

pub(super) struct Tree<'a> {
    root: BorrowedFd<'a>,
    /// The last parent.
    parent: Option<(Vec<u8>, OwnedFd)>,
    directories: Directories,
    opaque: Paths,
    implied: Paths,
}

/// What is reported of a finished tree.
pub(super) struct Reported {
    pub(super) opaque: BTreeSet<Vec<u8>>,
    pub(super) implied: BTreeSet<Vec<u8>>,
}

#[derive(Default)]
struct Paths {
    all: BTreeSet<Vec<u8>>,
    bytes: usize,
}

impl Paths {
    fn add(&mut self, path: &[u8], what: &str) -> Result<(), Fault> {
        if !self.all.contains(path) {
            self.bytes += path.len() + 64;
            if self.bytes > REPORTED_MOST {
                return Err(too_large(format!("too many directories {what}")));
            }
            self.all.insert(path.to_vec());
        }
        Ok(())
    }
}

/// A fault of the host, about a thing in the tree.
pub(super) fn host(doing: &'static str, path: &[u8]) -> impl FnOnce(Errno) -> Fault {
    let on = Path::new(std::ffi::OsStr::new(".")).join(shown(path));
    move |errno| unwritable(&OsError { doing, on, source: errno.into() })
}

impl<'a> Tree<'a> {
    /// # Errors
    /// `archive:unwritable` where nothing can be made in it.
    pub(super) fn begin(root: BorrowedFd<'a>) -> Result<Self, Fault> {
        let mut tree = Self {
            root,
            parent: None,
            directories: Directories::begin(root).map_err(|e| unwritable(&e))?,
            opaque: Paths::default(),
            implied: Paths::default(),
        };
        tree.imply(b"")?;
        Ok(tree)
    }

    /// The directory that `path` lies in, made if it is not there, and the last name of it.
    ///
    /// # Errors
    /// `archive:malformed` where something else than a directory is in the way, or `path` is the root.
    pub(super) fn parent<'p>(&mut self, path: &'p [u8]) -> Result<(BorrowedFd<'_>, &'p [u8]), Fault> {
        let (parent, name) = split(path);
        if name.is_empty() {
            return Err(malformed("the root of the tree is no directory"));
        }
        if self.parent.as_ref().is_none_or(|(path, _)| path != parent) {
            let fd = match beneath::directory(self.root, parent) {
                Ok(fd) => fd,
                Err(Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP) => self.make_all(parent)?,
                Err(e) => return Err(host("open", parent)(e)),
            };
            self.parent = Some((parent.to_vec(), fd));
        }
        match &self.parent {
            Some((_, fd)) => Ok((fd.as_fd(), name)),
            None => Err(Fault::ours("archive:parent", "a directory was opened and is not there")),
        }
    }

    /// Makes what is missing of a path.
    fn make_all(&mut self, path: &[u8]) -> Result<OwnedFd, Fault> {
        let mut dir = beneath::directory(self.root, b"").map_err(host("open", b""))?;
        let mut so_far = Vec::new();
        for name in components(path) {
            so_far = join(&so_far, name);
            let stat = match look(&dir, name) {
                Ok(stat) => Some(stat),
                Err(Errno::ENOENT) => None,
                Err(e) => return Err(host("look at", &so_far)(e)),
            };
            match stat {
                Some(stat) if kind(&stat) == SFlag::S_IFDIR => {}
                Some(stat) if !is_whiteout(&stat) => {
                    let what = if kind(&stat) == SFlag::S_IFLNK { "a symlink" } else { "no directory" };
                    return Err(malformed(format!("entry {} has entries below it and is {what}", shown(&so_far)))
                        .hint("a layer must spell directories, not ways through links"));
                }
                gone => {
                    if gone.is_some() {
                        unlinkat(&dir, name, UnlinkatFlags::NoRemoveDir).map_err(host("remove", &so_far))?;
                        self.make_opaque(&so_far)?;
                    }
                    mkdirat(&dir, name, Mode::S_IRWXU).map_err(host("create", &so_far))?;
                    self.imply(&so_far)?;
                }
            }
            dir = beneath::directory(&dir, name).map_err(host("open", &so_far))?;
        }
        Ok(dir)
    }

    fn imply(&mut self, path: &[u8]) -> Result<(), Fault> {
        self.implied.add(path, "are implied by names alone")?;
        let attributes = Attributes { mode: IMPLIED_MODE, mtime: Mtime::default(), ..Attributes::default() };
        self.directories.add(path, &attributes).at("write", "a spool").map_err(|e| unwritable(&e))
    }

    /// Marks a directory of this layer as hiding what lower layers have in it. It need not exist yet.
    ///
    /// # Errors
    /// `archive:too_large` if there are too many.
    pub(super) fn make_opaque(&mut self, path: &[u8]) -> Result<(), Fault> {
        self.opaque.add(path, "are opaque")
    }

    /// Makes a directory, or takes the one that is there, and gives it attributes.
    ///
    /// # Errors
    /// as `parent`; `archive:unwritable`.
    pub(super) fn directory(&mut self, path: &[u8], attributes: &Attributes) -> Result<(), Fault> {
        if !path.is_empty() {
            let (parent, name) = self.parent(path)?;
            match mkdirat(parent, name, Mode::S_IRWXU) {
                Ok(()) => {}
                Err(Errno::EEXIST) => {
                    let stat = look(parent, name).map_err(host("look at", path))?;
                    if kind(&stat) != SFlag::S_IFDIR {
                        unlinkat(parent, name, UnlinkatFlags::NoRemoveDir).map_err(host("remove", path))?;
                        mkdirat(parent, name, Mode::S_IRWXU).map_err(host("create", path))?;
                        if is_whiteout(&stat) {
                            self.make_opaque(path)?;
                        }
                    }
                }
                Err(e) => return Err(host("create", path)(e)),
            }
        }
        self.implied.all.remove(path);
        self.directories.add(path, attributes).at("write", "a spool").map_err(|e| unwritable(&e))
    }

    /// Makes something that is no directory by `make`, which gets its parent and name and fails with EEXIST where something is
    /// in the way: that is removed first.
    ///
    /// # Errors
    /// as `parent`; `archive:malformed` where a directory with something in it is in the way; `archive:unwritable`.
    pub(super) fn put<T>(
        &mut self,
        path: &[u8],
        mut make: impl FnMut(BorrowedFd<'_>, &[u8]) -> nix::Result<T>,
    ) -> Result<T, Fault> {
        let (parent, name) = self.parent(path)?;
        match make(parent, name) {
            Err(Errno::EEXIST) => {}
            made => return made.map_err(host("create", path)),
        }
        match unlinkat(parent, name, UnlinkatFlags::NoRemoveDir) {
            Err(Errno::EISDIR | Errno::EPERM) => match unlinkat(parent, name, UnlinkatFlags::RemoveDir) {
                Ok(()) => {}
                Err(Errno::ENOTEMPTY | Errno::EEXIST) => {
                    return Err(malformed(format!("entry {} replaces a directory that has entries", shown(path))));
                }
                Err(e) => return Err(host("remove", path)(e)),
            },
            removed => removed.map_err(host("remove", path))?,
        }
        // Should the directory have been removed that stays open, its descriptor would lead nowhere.
        self.parent = None;
        let (parent, name) = self.parent(path)?;
        make(parent, name).map_err(host("create", path))
    }

    /// Hides what lower layers have at that place. What this layer has there stays (layer.md: "Whiteout files MUST only apply
    /// to resources in lower/parent layers"); a directory then hides the lower one whole.
    ///
    /// A character device 0:0 needs no capability since Linux 5.8.
    ///
    /// # Errors
    /// as `parent`; `archive:unwritable`.
    pub(super) fn whiteout(&mut self, path: &[u8]) -> Result<(), Fault> {
        let (parent, name) = self.parent(path)?;
        match mknodat(parent, name, SFlag::S_IFCHR, Mode::empty(), makedev(0, 0)) {
            Ok(()) => stamp(parent, name, Mtime::default()).map_err(host("set the time of", path)),
            Err(Errno::EEXIST) => match kind(&look(parent, name).map_err(host("look at", path))?) {
                SFlag::S_IFDIR => self.make_opaque(path),
                _ => Ok(()),
            },
            Err(e) => Err(host("create the whiteout", path)(e)),
        }
    }

    /// Something in the tree that is no directory: its parent, opened, and what it is.
    pub(super) fn find(&self, path: &[u8]) -> nix::Result<(OwnedFd, FileStat)> {
        let (parent, name) = split(path);
        let dir = beneath::directory(self.root, parent)?;
        let stat = look(&dir, name)?;
        Ok((dir, stat))
    }

    /// The directory opened, to give it extended attributes.
    pub(super) fn opened(&self, path: &[u8]) -> Result<OwnedFd, Fault> {
        beneath::directory(self.root, path).map_err(host("open", path))
    }

    /// Gives all directories their attributes, the last that were said of each.
    ///
    /// # Errors
    /// `archive:unwritable`.
    pub(super) fn finish(self) -> Result<Reported, Fault> {
        for item in self.directories.finish().at("read", "a spool").map_err(|e| unwritable(&e))? {
            let (path, attributes) = item.at("read", "a spool").map_err(|e| unwritable(&e))?;
            match beneath::directory(self.root, &path) {
                Ok(fd) => settle(fd.as_fd(), &attributes).map_err(host("set attributes of", &path))?,
                // A later entry took its place.
                Err(Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP) => {}
                Err(e) => return Err(host("open", &path)(e)),
            }
        }
        let is_there = |path: &Vec<u8>| beneath::directory(self.root, path).is_ok();
        let opaque = self.opaque.all.into_iter().filter(is_there).collect();
        let implied = self.implied.all.into_iter().filter(is_there).collect();
        Ok(Reported { opaque, implied })
    }
}

fn times(mtime: Mtime) -> TimeSpec {
    TimeSpec::new(mtime.seconds, mtime.nanoseconds.into())
}

/// Owner, then mode, which a change of owner may cut, then time.
pub(super) fn settle(fd: BorrowedFd<'_>, a: &Attributes) -> nix::Result<()> {
    fchown(fd, Some(Uid::from_raw(a.uid)), Some(Gid::from_raw(a.gid)))?;
    fchmod(fd, Mode::from_bits_truncate(a.mode))?;
    futimens(fd, &times(a.mtime), &times(a.mtime))
}

/// The same of what cannot be opened. Symlinks have no mode.
pub(super) fn settle_at(dir: BorrowedFd<'_>, name: &[u8], a: &Attributes) -> nix::Result<()> {
    fchownat(dir, name, Some(Uid::from_raw(a.uid)), Some(Gid::from_raw(a.gid)), AtFlags::AT_SYMLINK_NOFOLLOW)?;
    stamp(dir, name, a.mtime)
}

fn stamp(dir: BorrowedFd<'_>, name: &[u8], mtime: Mtime) -> nix::Result<()> {
    utimensat(dir, name, &times(mtime), &times(mtime), UtimensatFlags::NoFollowSymlink)
}
