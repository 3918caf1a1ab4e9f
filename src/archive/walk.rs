//! Walks through a tree, each directory before what is in it, names in the order of their bytes. No symlink is followed and no
//! other mount entered.

use super::attributes::{Attributes, Mtime, kept, of_overlay};
use super::notices::Notices;
use super::place::join;
use super::refusal::{shown, too_large};
use crate::model::fault::Fault;
use crate::os::beneath::{self, is_whiteout, kind, look};
use crate::os::sys;
use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::readlinkat;
use nix::sys::stat::{FileStat, SFlag, fstat};
use std::ffi::CString;
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;

/// Names of directories that are being walked are kept in memory, to be sorted: together at most that many bytes.
const NAMES_MOST: usize = 16 * 1024 * 1024;
const OPAQUE: &str = "trusted.overlay.opaque";

/// What a thing in a tree is.
#[derive(Debug)]
pub(super) enum Thing {
    Directory {
        opaque: bool,
    },
    /// Opened for reading.
    File(File),
    Symlink(Vec<u8>),
    Fifo,
    Whiteout,
    Device,
    Socket,
}

pub(super) struct Found {
    /// The empty one is the root.
    pub(super) path: Vec<u8>,
    pub(super) thing: Thing,
    pub(super) attributes: Attributes,
    pub(super) stat: FileStat,
    /// Whether overlayfs keeps something beside it that says where its content is.
    pub(super) elsewhere: bool,
}

pub(super) struct Walk<'a> {
    root: BorrowedFd<'a>,
    levels: Vec<Level>,
    names: usize,
    begun: bool,
    pub(super) notices: Notices,
}

struct Level {
    dir: Dir,
    path: Vec<u8>,
    names: Names,
    next: usize,
}

/// Many names in one piece of memory.
#[derive(Default)]
struct Names {
    bytes: Vec<u8>,
    ends: Vec<(u32, u32)>,
}

impl Names {
    fn add(&mut self, name: &[u8]) {
        let begin = self.bytes.len() as u32;
        self.bytes.extend_from_slice(name);
        self.ends.push((begin, self.bytes.len() as u32));
    }

    fn name(&self, n: usize) -> Option<&[u8]> {
        self.ends.get(n).map(|(begin, end)| &self.bytes[*begin as usize..*end as usize])
    }

    fn sort(&mut self) {
        let bytes = &self.bytes;
        self.ends.sort_unstable_by_key(|(begin, end)| &bytes[*begin as usize..*end as usize]);
    }

    fn size(&self) -> usize {
        self.bytes.len() + 8 * self.ends.len()
    }
}

fn unreadable(doing: &str, path: &[u8], e: impl Into<std::io::Error>) -> Fault {
    Fault::host("archive:unreadable", format!("cannot {doing} {} of the tree: {}", shown(path), e.into()))
}

impl<'a> Walk<'a> {
    pub(super) fn new(root: BorrowedFd<'a>) -> Self {
        Self { root, levels: Vec::new(), names: 0, begun: false, notices: Notices::default() }
    }

    /// The next thing.
    ///
    /// # Errors
    /// `archive:unreadable`, `archive:too_large`.
    pub(super) fn next(&mut self) -> Result<Option<Found>, Fault> {
        if !self.begun {
            self.begun = true;
            let dir = beneath::directory(self.root, b"").map_err(|e| unreadable("open", b"", e))?;
            return self.directory(Vec::new(), dir).map(Some);
        }
        loop {
            let Some(level) = self.levels.last_mut() else { return Ok(None) };
            let Some(name) = level.names.name(level.next).map(<[u8]>::to_vec) else {
                self.names -= level.names.size();
                self.levels.pop();
                continue;
            };
            level.next += 1;
            let path = join(&level.path, &name);
            let stat = look(&level.dir, &name).map_err(|e| unreadable("look at", &path, e))?;
            let opened = match kind(&stat) {
                SFlag::S_IFDIR => beneath::directory(&level.dir, &name),
                SFlag::S_IFREG => beneath::readable(&level.dir, &name),
                SFlag::S_IFLNK => {
                    let target = readlinkat(&level.dir, &name[..]).map_err(|e| unreadable("read the link", &path, e))?;
                    return Ok(Some(Self::plain(path, stat, Thing::Symlink(target.into_vec()))));
                }
                other => {
                    let thing = match other {
                        SFlag::S_IFIFO => Thing::Fifo,
                        SFlag::S_IFSOCK => Thing::Socket,
                        _ if is_whiteout(&stat) => Thing::Whiteout,
                        _ => Thing::Device,
                    };
                    return Ok(Some(Self::plain(path, stat, thing)));
                }
            };
            match opened {
                Ok(fd) if kind(&stat) == SFlag::S_IFDIR => return self.directory(path, fd).map(Some),
                Ok(fd) => return Self::file(path, fd).map(Some),
                Err(Errno::EXDEV) => {
                    self.notices.add(|| format!("{} is a mount: what it hides or shows is left out", shown(&path)));
                    if kind(&stat) == SFlag::S_IFDIR {
                        return Ok(Some(Self::plain(path, stat, Thing::Directory { opaque: false })));
                    }
                }
                Err(e) => return Err(unreadable("open", &path, e)),
            }
        }
    }

    fn plain(path: Vec<u8>, stat: FileStat, thing: Thing) -> Found {
        let mut attributes = attributes(&stat);
        match thing {
            // A mark, with nothing of its own to keep.
            Thing::Whiteout => attributes = Attributes::default(),
            Thing::Symlink(_) => attributes.mode = 0o777,
            _ => {}
        }
        Found { path, thing, attributes, stat, elsewhere: false }
    }

    fn file(path: Vec<u8>, fd: OwnedFd) -> Result<Found, Fault> {
        let mut found = Self::of_descriptor(path, fd.as_fd())?;
        if kind(&found.stat) != SFlag::S_IFREG {
            return Err(unreadable("read", &found.path, Errno::ESTALE));
        }
        found.thing = Thing::File(File::from(fd));
        Ok(found)
    }

    fn directory(&mut self, path: Vec<u8>, fd: OwnedFd) -> Result<Found, Fault> {
        let found = Self::of_descriptor(path, fd.as_fd())?;
        let mut dir = Dir::from_fd(fd).map_err(|e| unreadable("list", &found.path, e))?;
        let mut names = Names::default();
        for entry in dir.iter() {
            let entry = entry.map_err(|e| unreadable("list", &found.path, e))?;
            match entry.file_name().to_bytes() {
                b"." | b".." => {}
                name => names.add(name),
            }
            if self.names + names.size() > NAMES_MOST {
                return Err(too_large(format!("directory {} has too many entries to be sorted", shown(&found.path))));
            }
        }
        names.sort();
        self.names += names.size();
        self.levels.push(Level { dir, path: found.path.clone(), names, next: 0 });
        Ok(found)
    }

    /// A directory, or what is about to be a file.
    fn of_descriptor(path: Vec<u8>, fd: BorrowedFd<'_>) -> Result<Found, Fault> {
        let stat = fstat(fd).map_err(|e| unreadable("look at", &path, e))?;
        let mut found =
            Found { attributes: attributes(&stat), stat, path, thing: Thing::Directory { opaque: false }, elsewhere: false };
        let names = match sys::list_xattrs(fd) {
            Ok(names) => names,
            Err(e) if e.raw_os_error() == Some(libc::EOPNOTSUPP) => Vec::new(),
            Err(e) => return Err(unreadable("list the attributes of", &found.path, e)),
        };
        for name in names.split(|b| *b == 0).filter(|name| kept(name) || of_overlay(name)) {
            let key = CString::new(name).map_err(|e| unreadable("read an attribute of", &found.path, e))?;
            let value = sys::get_xattr(fd, &key).map_err(|e| unreadable("read an attribute of", &found.path, e))?;
            if kept(name) {
                found.attributes.xattrs.insert(name.to_vec(), value);
            } else if name == OPAQUE.as_bytes() {
                found.thing = Thing::Directory { opaque: value == b"y" };
            } else if name.ends_with(b"overlay.redirect") || name.ends_with(b"overlay.metacopy") {
                found.elsewhere = true;
            }
        }
        Ok(found)
    }
}

fn attributes(stat: &FileStat) -> Attributes {
    let mtime = Mtime { seconds: stat.st_mtime, nanoseconds: u32::try_from(stat.st_mtime_nsec).unwrap_or(0) };
    Attributes { mode: stat.st_mode & 0o7777, uid: stat.st_uid, gid: stat.st_gid, mtime, ..Attributes::default() }
}
