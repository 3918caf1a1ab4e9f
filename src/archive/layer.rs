//! Applies one layer to an empty directory, in the format of overlayfs.
//!
//! Whiteouts become character devices 0:0. Opaque directories are only reported: their mark needs CAP_SYS_ADMIN, which whoever
//! reads foreign bytes shall not have. What it needs, for owners and modes that are not its own: CAP_CHOWN, CAP_DAC_OVERRIDE,
//! CAP_FOWNER, CAP_FSETID, CAP_SETFCAP.

use super::attributes::{kept, of_overlay};
use super::entries::{Entries, Entry, Kind};
use super::listing;
use super::notices::Notices;
use super::place::{self, Meaning, Reach};
use super::refusal::{malformed, reading, shown, too_large, unwritable};
use super::spool::Hashes;
use super::tree::{Tree, host, settle, settle_at};
use crate::model::fault::Fault;
use crate::os::beneath::{self, is_whiteout, kind};
use crate::os::error::At;
use crate::os::sys;
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag};
use nix::sys::stat::{Mode, SFlag, fstat, mknodat};
use nix::unistd::{linkat, symlinkat};
use sha2::{Digest as _, Sha256};
use std::collections::BTreeSet;
use std::ffi::CString;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::fd::{AsFd, BorrowedFd};

const BUFFER: usize = 256 * 1024;
/// Owners that a cell's id range has.
const ID_MOST: u64 = 65_535;
/// The longest target of a symlink, in bytes (PATH_MAX without its NUL).
const TARGET_MOST: usize = 4095;

/// What an archive may cost.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Sum of the sizes of its regular files, with their holes, in bytes.
    pub bytes: u64,
    /// Entries in the archive, whether they are kept or not.
    pub entries: u64,
    /// Components of a path.
    pub depth: usize,
    /// Bytes of a path; more than 4095 cannot be opened.
    pub path: usize,
}

impl Default for Bounds {
    fn default() -> Self {
        Self { bytes: 16 << 30, entries: 1_000_000, depth: 128, path: 4095 }
    }
}

/// A layer that is in its tree.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Applied {
    /// Sum of the sizes of its regular files, in bytes.
    pub bytes: u64,
    /// Things in the tree, itself and whiteouts included.
    pub entries: u64,
    /// Directories that hide what lower layers have in them, by their paths in the tree; the empty one is the tree itself. Whoever
    /// has CAP_SYS_ADMIN sets `trusted.overlay.opaque` to `y` on each.
    pub opaque: BTreeSet<Vec<u8>>,
    /// Directories that the archive only names as part of other names. They are root's, 0755 and of 1970; where a lower layer
    /// has them, its attributes are the right ones.
    pub implied: BTreeSet<Vec<u8>>,
    /// What was left out.
    pub notices: Notices,
}

/// Applies a layer, given as its uncompressed tar archive, to an empty directory, and writes the listing of what is there then.
///
/// On `Ok` the archive has been read to its end. On `Err` the directory has anything, beneath it alone; the caller removes it.
///
/// # Errors
/// `archive:malformed`, `archive:unsupported`, `archive:too_large` for what the archive is; `archive:unreadable` and
/// `archive:unwritable` for the host.
pub fn apply(tar: impl Read, tree: BorrowedFd<'_>, listing: impl Write, bounds: &Bounds) -> Result<Applied, Fault> {
    let mut layer = Layer {
        hashes: Hashes::begin(tree).map_err(|e| unwritable(&e))?,
        tree: Tree::begin(tree)?,
        applied: Applied::default(),
        bounds,
        buffer: vec![0; BUFFER],
    };
    let mut entries = Entries::new(tar);
    let mut count = 0;
    while let Some(entry) = entries.next()? {
        count += 1;
        if count > bounds.entries {
            return Err(too_large(format!("the archive has more than {} entries", bounds.entries)));
        }
        layer.entry(entry, &mut entries)?;
    }
    drop(entries);
    layer.finish(tree, listing)
}

struct Layer<'a> {
    tree: Tree<'a>,
    hashes: Hashes,
    applied: Applied,
    bounds: &'a Bounds,
    buffer: Vec<u8>,
}

impl Layer<'_> {
    fn reach(&self) -> Reach {
        Reach { depth: self.bounds.depth, length: self.bounds.path }
    }

    fn entry<R: Read>(&mut self, mut entry: Entry, body: &mut Entries<R>) -> Result<(), Fault> {
        let path = match place::meaning(&entry.name, self.reach())? {
            Meaning::Nothing => return Ok(()),
            Meaning::Whiteout(path) => return self.tree.whiteout(&path),
            Meaning::Opaque(path) => return self.hide_below(&path),
            Meaning::Thing(path) => path,
        };
        self.own(&mut entry)?;
        match entry.kind {
            Kind::Directory => self.directory(&path, &entry),
            Kind::File => self.file(&path, &entry, body),
            Kind::HardLink => self.hard_link(&path, &entry),
            Kind::Symlink => self.symlink(&path, &entry),
            Kind::Fifo => self.fifo(&path, &entry),
            Kind::Device => {
                self.applied.notices.add(|| format!("device {} skipped: cells have devices of their own", shown(&path)));
                Ok(())
            }
        }
    }

    /// Takes the owner over, and those of the extended attributes that go with a tree.
    fn own(&mut self, entry: &mut Entry) -> Result<(), Fault> {
        let id = |what: &str, n: u64| match u32::try_from(n) {
            Ok(id) if n <= ID_MOST => Ok(id),
            _ => Err(malformed(format!("entry {} has the {what} {n}; cells have 0 to {ID_MOST}", shown(&entry.name)))),
        };
        (entry.attributes.uid, entry.attributes.gid) = (id("uid", entry.uid)?, id("gid", entry.gid)?);
        let takes = matches!(entry.kind, Kind::File | Kind::Directory);
        let (name, notices) = (&entry.name, &mut self.applied.notices);
        entry.attributes.xattrs.retain(|key, _| {
            let keep = takes && kept(key) && (entry.kind == Kind::File || key.starts_with(b"user."));
            if !keep && !of_overlay(key) {
                notices.add(|| format!("attribute {} of {} dropped", shown(key), shown(name)));
            }
            keep
        });
        Ok(())
    }

    fn hide_below(&mut self, path: &[u8]) -> Result<(), Fault> {
        if !path.is_empty() {
            // The directory must be in this layer for the mark to have a place.
            let below = place::join(path, b".");
            self.tree.parent(&below)?;
        }
        self.tree.make_opaque(path)
    }

    fn directory(&mut self, path: &[u8], entry: &Entry) -> Result<(), Fault> {
        self.tree.directory(path, &entry.attributes)?;
        if entry.attributes.xattrs.is_empty() {
            return Ok(());
        }
        let fd = self.tree.opened(path)?;
        self.attributes(fd.as_fd(), path, entry)
    }

    fn file<R: Read>(&mut self, path: &[u8], entry: &Entry, body: &mut Entries<R>) -> Result<(), Fault> {
        self.applied.bytes = self.applied.bytes.saturating_add(entry.size);
        if self.applied.bytes > self.bounds.bytes {
            return Err(too_large(format!("the files of the archive have more than {} bytes", self.bounds.bytes)));
        }
        let flags = OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_WRONLY;
        let fd = self.tree.put(path, |parent, name| beneath::open(parent, name, flags, Mode::S_IRUSR | Mode::S_IWUSR))?;
        let mut file = File::from(fd);
        let hash = match &entry.map {
            None => self.copy(path, entry.size, body, &mut file, Sha256::new())?,
            Some(_) => self.pieces(path, entry, body, &mut file)?,
        };
        let stat = fstat(&file).map_err(host("look at", path))?;
        let hash: [u8; 32] = hash.finalize().into();
        self.hashes.add(stat.st_ino, &hash).at("write", "a spool").map_err(|e| unwritable(&e))?;
        if entry.attributes.xattrs.is_empty() {
            return settle(file.as_fd(), &entry.attributes).map_err(host("set attributes of", path));
        }
        settle(file.as_fd(), &entry.attributes).map_err(host("set attributes of", path))?;
        // A change of owner takes capabilities away, so they come behind it.
        self.attributes(file.as_fd(), path, entry)
    }

    fn copy<R: Read>(
        &mut self,
        path: &[u8],
        size: u64,
        body: &mut Entries<R>,
        file: &mut File,
        mut hash: Sha256,
    ) -> Result<Sha256, Fault> {
        let mut left = size;
        while left > 0 {
            let most = usize::try_from(left).unwrap_or(usize::MAX).min(self.buffer.len());
            let n = match body.read(&mut self.buffer[..most]) {
                Ok(n) => n,
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => continue,
                Err(e) => return Err(reading(e)),
            };
            let bytes = &self.buffer[..n];
            hash.update(bytes);
            file.write_all(bytes).at("write", shown(path)).map_err(|e| unwritable(&e))?;
            left -= n as u64;
        }
        Ok(hash)
    }

    /// A file with holes: what is between its pieces is never written, and hashed as the zeros that it reads as.
    fn pieces<R: Read>(&mut self, path: &[u8], entry: &Entry, body: &mut Entries<R>, file: &mut File) -> Result<Sha256, Fault> {
        static ZEROS: [u8; 64 * 1024] = [0; 64 * 1024];
        let (mut hash, mut at) = (Sha256::new(), 0);
        let hole = |hash: &mut Sha256, mut length: u64| {
            while length > 0 {
                let n = length.min(ZEROS.len() as u64);
                hash.update(&ZEROS[..usize::try_from(n).unwrap_or(0)]);
                length -= n;
            }
        };
        for chunk in entry.map.iter().flatten() {
            hole(&mut hash, chunk.offset - at);
            file.seek(SeekFrom::Start(chunk.offset)).at("write", shown(path)).map_err(|e| unwritable(&e))?;
            hash = self.copy(path, chunk.length, body, file, hash)?;
            at = chunk.offset + chunk.length;
        }
        hole(&mut hash, entry.size - at);
        file.set_len(entry.size).at("write", shown(path)).map_err(|e| unwritable(&e))?;
        Ok(hash)
    }

    fn attributes(&mut self, fd: BorrowedFd<'_>, path: &[u8], entry: &Entry) -> Result<(), Fault> {
        for (key, value) in &entry.attributes.xattrs {
            let bad = || malformed(format!("entry {} has an attribute {} that is none", shown(path), shown(key)));
            let name = CString::new(key.as_slice()).map_err(|_| bad())?;
            match sys::set_xattr(fd, &name, value) {
                Ok(()) => {}
                Err(e) => match Errno::from_raw(e.raw_os_error().unwrap_or(0)) {
                    Errno::EOPNOTSUPP => self
                        .applied
                        .notices
                        .add(|| format!("attribute {} of {} dropped: this filesystem has none", shown(key), shown(path))),
                    Errno::EINVAL | Errno::ERANGE | Errno::E2BIG => return Err(bad()),
                    errno => return Err(host("set an extended attribute of", path)(errno)),
                },
            }
        }
        Ok(())
    }

    fn symlink(&mut self, path: &[u8], entry: &Entry) -> Result<(), Fault> {
        let target = &entry.link[..];
        if target.is_empty() || target.contains(&0) || target.len() > TARGET_MOST {
            return Err(malformed(format!("symlink {} has a target that none can have", shown(path))));
        }
        self.tree.put(path, |parent, name| symlinkat(target, parent, name))?;
        self.settle_by_name(path, entry)
    }

    fn fifo(&mut self, path: &[u8], entry: &Entry) -> Result<(), Fault> {
        self.tree.put(path, |parent, name| mknodat(parent, name, SFlag::S_IFIFO, Mode::S_IRUSR | Mode::S_IWUSR, 0))?;
        // Opened for both ends it waits for nobody; its mode needs a descriptor, as there is no fchmodat without following.
        let (parent, name) = self.tree.parent(path)?;
        let fd = beneath::open(parent, name, OFlag::O_RDWR | OFlag::O_NONBLOCK, Mode::empty()).map_err(host("open", path))?;
        settle(fd.as_fd(), &entry.attributes).map_err(host("set attributes of", path))
    }

    fn settle_by_name(&mut self, path: &[u8], entry: &Entry) -> Result<(), Fault> {
        let (parent, name) = self.tree.parent(path)?;
        settle_at(parent, name, &entry.attributes).map_err(host("set attributes of", path))
    }

    /// Links to what this layer has; the entry's own attributes are those of the file and need not be set again.
    fn hard_link(&mut self, path: &[u8], entry: &Entry) -> Result<(), Fault> {
        let refused = |why: &str| malformed(format!("hard link {} to {}: {why}", shown(path), shown(&entry.link)));
        let target = place::path(&entry.link, self.reach())?;
        let found = self.tree.find(&target);
        let (dir, stat) = match found {
            Ok((dir, stat)) if !is_whiteout(&stat) => (dir, stat),
            Ok(_) | Err(Errno::ENOENT) => {
                return Err(refused("the layer has no such file before it").hint("a layer must hold both ends of a hard link"));
            }
            Err(Errno::ELOOP | Errno::ENOTDIR) => return Err(refused("the way there is no directory")),
            Err(e) => return Err(host("open", &target)(e)),
        };
        if kind(&stat) == SFlag::S_IFDIR {
            return Err(refused("that is a directory"));
        }
        let (parent, name) = self.tree.parent(path)?;
        // A link onto itself would remove what it links to.
        if beneath::look(parent, name).is_ok_and(|there| (there.st_dev, there.st_ino) == (stat.st_dev, stat.st_ino)) {
            return Ok(());
        }
        let last = place::split(&target).1;
        self.tree.put(path, |parent, name| linkat(&dir, last, parent, name, AtFlags::empty())).map(drop)
    }

    fn finish(self, tree: BorrowedFd<'_>, listing: impl Write) -> Result<Applied, Fault> {
        let reported = self.tree.finish()?;
        let known = self.hashes.finish().at("write", "a spool").map_err(|e| unwritable(&e))?;
        let found = listing::scan_known(tree, &known, &reported.opaque)?;
        let entries = listing::write(found, listing)?;
        Ok(Applied { entries, opaque: reported.opaque, implied: reported.implied, ..self.applied })
    }
}
