//! What the program left in /sandbox, sent by init when it is the last process: nothing moves any more, and the host
//! opens no path that the program made.

use super::deliver::{Delivered, SANDBOX};
use super::sieve::{Globs, Sieve};
use crate::model::wire::{CHUNK, Change, Collect, Found, Report, Skip};
use crate::os::socket::Peer;
use sha2::{Digest, Sha256};
use std::fs::{File, OpenOptions, Permissions};
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// Paths longer than this are not walked into: `PATH_MAX` is near.
const DEEP: usize = 3800;
/// How many entries that are not brought back are named one by one.
const SKIPPED_MOST: u64 = 1000;
/// tmpfs gives files whole pages.
const PAGE: u64 = 4096;

struct Harvest<'a> {
    peer: &'a Peer,
    globs: Globs,
    sieve: Sieve,
    collect: &'a Collect,
    delivered: Delivered,
    /// Of the delivered files, those that are still regular files.
    met: std::collections::BTreeSet<Vec<u8>>,
    bytes_left: u64,
    files_left: u64,
    skips_left: u64,
}

/// Sends all that matches, within the bounds.
///
/// # Errors
/// when the supervisor is gone.
pub fn send(peer: &Peer, collect: &Collect, delivered: Delivered) -> io::Result<()> {
    let mut harvest = Harvest {
        peer,
        globs: Globs::new(&collect.globs),
        sieve: Sieve::new(&collect.prune),
        collect,
        delivered,
        met: Default::default(),
        bytes_left: collect.total_bytes,
        files_left: collect.files,
        skips_left: SKIPPED_MOST,
    };
    harvest.walk()?;
    harvest.gone()
}

impl Harvest<'_> {
    /// Depth first, without recursion: the tree's depth is the program's choice.
    fn walk(&mut self) -> io::Result<()> {
        let root = Path::new(SANDBOX);
        let mut todo = vec![root.to_owned()];
        while let Some(dir) = todo.pop() {
            let relative = name(&dir, root);
            if dir.as_os_str().len() > DEEP {
                self.skip(&relative, Skip::TooDeep)?;
                continue;
            }
            let Some(entries) = list(&dir) else {
                self.skip(&relative, Skip::Unreadable)?;
                continue;
            };
            for entry in entries.flatten() {
                let path = entry.path();
                let Ok(kind) = entry.file_type() else { continue };
                if kind.is_dir() {
                    todo.push(path);
                } else {
                    self.entry(&path, &name(&path, root), kind)?;
                }
            }
        }
        Ok(())
    }

    fn entry(&mut self, path: &Path, relative: &[u8], kind: std::fs::FileType) -> io::Result<()> {
        let ours = self.delivered.contains_key(relative);
        if kind.is_file() && ours {
            self.met.insert(relative.to_vec());
        }
        if !self.globs.hold(relative) || (!ours && self.sieve.drops(relative)) {
            return Ok(());
        }
        match kind {
            k if k.is_symlink() => self.skip(relative, Skip::Symlink),
            k if k.is_fifo() => self.skip(relative, Skip::Fifo),
            k if k.is_socket() => self.skip(relative, Skip::Socket),
            k if !k.is_file() => self.skip(relative, Skip::Device),
            _ => self.file(path, relative),
        }
    }

    fn file(&mut self, path: &Path, relative: &[u8]) -> io::Result<()> {
        let Ok((mut file, mode, mtime_ns, size)) = open(path) else { return self.skip(relative, Skip::Unreadable) };
        let change = match self.delivered.get(relative) {
            None => Change::Created,
            Some((was, had)) if (!self.collect.whole || *had == mode) && hash(&mut file, size).is_ok_and(|is| is == *was) => {
                return self.stays(relative, size);
            }
            Some(_) => Change::Changed,
        };
        if self.collect.whole {
            return self.whole(
                relative,
                file,
                Found { path: relative.to_vec().into(), change, mode, mtime_ns, bytes: size, kept: size },
            );
        }
        let kept = size.min(self.collect.file_bytes).min(self.bytes_left);
        if self.files_left == 0 {
            return self.skip(relative, Skip::TooMany);
        }
        if kept == 0 && size > 0 {
            return self.skip(relative, Skip::TooLarge);
        }
        self.files_left -= 1;
        self.bytes_left -= kept;
        self.bring(file, Found { path: relative.to_vec().into(), change, mode, mtime_ns, bytes: size, kept })
    }

    /// All of a file, or nothing: there is no bound that it is cut to.
    fn whole(&mut self, relative: &[u8], file: File, found: Found) -> io::Result<()> {
        match found.kept <= self.collect.file_bytes && self.fits(found.kept) {
            true => self.bring(file, found),
            false if self.files_left == 0 => self.skip(relative, Skip::TooMany),
            false => self.skip(relative, Skip::TooLarge),
        }
    }

    /// An unchanged file. Where all that is there must find room again, it takes its part.
    fn stays(&mut self, relative: &[u8], size: u64) -> io::Result<()> {
        match !self.collect.whole || self.fits(size) {
            true => Ok(()),
            false => self.skip(relative, Skip::TooLarge),
        }
    }

    fn fits(&mut self, bytes: u64) -> bool {
        let pages = bytes.div_ceil(PAGE).saturating_mul(PAGE);
        let fits = self.files_left > 0 && pages <= self.bytes_left;
        if fits {
            self.files_left -= 1;
            self.bytes_left -= pages;
        }
        fits
    }

    fn bring(&mut self, mut file: File, found: Found) -> io::Result<()> {
        let kept = found.kept;
        self.peer.send(&Report::Found(found), &[])?;
        io::Seek::rewind(&mut file)?;
        let (mut left, mut buf) = (kept, vec![0u8; CHUNK]);
        while left > 0 {
            let most = buf.len().min(usize::try_from(left).unwrap_or(usize::MAX));
            // A file cannot shrink now; were it unreadable half-way, zeros would lie, so the supervisor sees the lifeline end.
            file.read_exact(&mut buf[..most])?;
            self.peer.send(&Report::Data(buf[..most].to_vec()), &[])?;
            left -= most as u64;
        }
        Ok(())
    }

    fn skip(&mut self, relative: &[u8], why: Skip) -> io::Result<()> {
        if self.skips_left == 0 {
            return Ok(());
        }
        self.skips_left -= 1;
        self.peer.send(&Report::Skipped { path: relative.to_vec().into(), why }, &[])
    }

    /// Delivered files that are gone, or no regular files any more.
    fn gone(&self) -> io::Result<()> {
        let matches = |path: &[u8]| self.globs.hold(path);
        for path in self.delivered.keys().filter(|path| !self.met.contains(*path) && matches(path)) {
            self.peer.send(&Report::Deleted(path.clone()), &[])?;
        }
        Ok(())
    }
}

fn name(path: &Path, root: &Path) -> Vec<u8> {
    path.strip_prefix(root).unwrap_or(path).as_os_str().as_bytes().to_vec()
}

/// A directory's entries; one that the program closed to itself is opened again, we are its owner too.
fn list(dir: &PathBuf) -> Option<std::fs::ReadDir> {
    std::fs::read_dir(dir).ok().or_else(|| {
        std::fs::set_permissions(dir, Permissions::from_mode(0o700)).ok()?;
        std::fs::read_dir(dir).ok()
    })
}

/// A file with its mode, time and size as the program left them.
fn open(path: &Path) -> io::Result<(File, u32, i64, u64)> {
    let meta = std::fs::symlink_metadata(path)?;
    let attempt = || OpenOptions::new().read(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_NOCTTY).open(path);
    let file = attempt().or_else(|_| {
        std::fs::set_permissions(path, Permissions::from_mode(0o600))?;
        attempt()
    })?;
    let mtime_ns = meta.mtime().saturating_mul(1_000_000_000).saturating_add(meta.mtime_nsec());
    Ok((file, meta.mode() & 0o7777, mtime_ns, meta.size()))
}

fn hash(file: &mut File, size: u64) -> io::Result<[u8; 32]> {
    let (mut hash, mut buf, mut left) = (Sha256::new(), vec![0u8; 64 * 1024], size);
    while left > 0 {
        let most = buf.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        let n = file.read(&mut buf[..most])?;
        if n == 0 {
            break;
        }
        hash.update(&buf[..n]);
        left -= n as u64;
    }
    Ok(hash.finalize().into())
}
