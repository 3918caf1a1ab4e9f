//! The files of an image layout, in a directory or in a tar archive. Names come from digests and from documents inside the layout:
//! they lead beneath the directory, or to entries of the archive, and nowhere else.

use super::entries::{Entries, Kind};
use super::place::{self, Reach, split};
use super::refusal::{malformed, reading, shown, too_large, unsupported};
use crate::model::fault::Fault;
use crate::os::beneath;
use nix::errno::Errno;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufReader, Read};
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

/// Layouts have a few entries for each layer.
const ENTRIES_MOST: usize = 20_000;
const REACH: Reach = Reach { depth: 16, length: 1024 };
/// Links from one entry to the next that lead to a file.
const LINKS_MOST: usize = 8;
const BUFFER: usize = 256 * 1024;

pub(super) enum Files {
    Directory(OwnedFd),
    Archive { file: Arc<File>, index: BTreeMap<Vec<u8>, Slot> },
}

/// Where an entry of an archive is.
#[derive(Debug)]
pub(super) enum Slot {
    Body { begin: u64, size: u64 },
    Link(Vec<u8>),
}

/// One file, from its begin to its end.
pub(super) struct Piece {
    file: Arc<File>,
    at: u64,
    end: u64,
}

impl Piece {
    pub(super) fn size(&self) -> u64 {
        self.end - self.at
    }
}

impl Read for Piece {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let most = usize::try_from(self.size()).unwrap_or(usize::MAX).min(into.len());
        let n = self.file.read_at(&mut into[..most], self.at)?;
        if n == 0 && most > 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.at += n as u64;
        Ok(n)
    }
}

impl Files {
    /// Makes an index of an uncompressed archive; `None` if it has so many entries that it is no layout.
    ///
    /// # Errors
    /// `archive:malformed`, `archive:unsupported`, `archive:unreadable`.
    pub(super) fn of_archive(file: File) -> Result<Option<Self>, Fault> {
        let file = Arc::new(file);
        let size = file.metadata().map_err(reading)?.len();
        let mut magic = [0; 4];
        let begins = file.read_at(&mut magic, 0).map_err(reading)?;
        if magic[..begins].starts_with(&[0x1f, 0x8b]) || magic == [0x28, 0xb5, 0x2f, 0xfd] {
            return Err(unsupported("the layout is compressed as a whole").hint("decompress it with gunzip or unzstd"));
        }
        let whole = Piece { file: Arc::clone(&file), at: 0, end: size };
        let mut entries = Entries::new(BufReader::with_capacity(BUFFER, Seekable(whole)));
        let mut index = BTreeMap::new();
        while let Some(entry) = entries.next()? {
            if index.len() >= ENTRIES_MOST {
                return Ok(None);
            }
            let begin = entries.position();
            let slot = match entry.kind {
                Kind::File if entry.map.is_none() => Some(Slot::Body { begin, size: entry.size }),
                Kind::HardLink => place::path(&entry.link, REACH).ok().map(Slot::Link),
                Kind::Symlink => {
                    place::path(&entry.name, REACH).ok().and_then(|name| resolved(&name, &entry.link)).map(Slot::Link)
                }
                _ => None,
            };
            entries.pass(skip).map_err(reading)?;
            // What has no name of a layout's files is none of them.
            if let (Ok(name), Some(slot)) = (place::path(&entry.name, REACH), slot) {
                index.insert(name, slot);
            }
        }
        Ok(Some(Self::Archive { file, index }))
    }

    pub(super) fn has(&self, name: &str) -> bool {
        match self {
            Self::Directory(dir) => beneath::readable(dir, name.as_bytes()).is_ok(),
            Self::Archive { index, .. } => index.contains_key(name.as_bytes()),
        }
    }

    /// # Errors
    /// `archive:malformed` for what is not there, or is no file.
    pub(super) fn open(&self, name: &str) -> Result<Piece, Fault> {
        let absent =
            || malformed(format!("the layout lacks {}", shown(name.as_bytes()))).hint("copy it again, with all its blobs");
        match self {
            Self::Directory(dir) => {
                let fd = match beneath::readable(dir, name.as_bytes()) {
                    Ok(fd) => fd,
                    Err(Errno::ENOENT | Errno::ENOTDIR) => return Err(absent()),
                    Err(Errno::ELOOP | Errno::EXDEV) => {
                        return Err(malformed(format!("{} of the layout leads elsewhere", shown(name.as_bytes()))));
                    }
                    Err(e) => return Err(reading(e.into())),
                };
                let file = File::from(fd);
                let meta = file.metadata().map_err(reading)?;
                match meta.is_file() {
                    true => Ok(Piece { file: Arc::new(file), at: 0, end: meta.len() }),
                    false => Err(malformed(format!("{} of the layout is no file", shown(name.as_bytes())))),
                }
            }
            Self::Archive { file, index } => {
                let mut name = place::path(name.as_bytes(), REACH)?;
                for _ in 0..LINKS_MOST {
                    match index.get(&name).ok_or_else(absent)? {
                        Slot::Body { begin, size } => return Ok(Piece { file: Arc::clone(file), at: *begin, end: begin + size }),
                        Slot::Link(target) => name.clone_from(target),
                    }
                }
                Err(malformed(format!("{} of the layout is a link that leads nowhere", shown(&name))))
            }
        }
    }

    /// A whole small file.
    ///
    /// # Errors
    /// as `open`; `archive:too_large` beyond `most` bytes.
    pub(super) fn document(&self, name: &str, most: u64) -> Result<Vec<u8>, Fault> {
        let piece = self.open(name)?;
        if piece.size() > most {
            return Err(too_large(format!(
                "{} of the layout has {} bytes; at most {most} are read",
                shown(name.as_bytes()),
                piece.size()
            )));
        }
        let mut bytes = Vec::new();
        piece.take(most).read_to_end(&mut bytes).map_err(reading)?;
        Ok(bytes)
    }
}

/// The way that a symlink means, without leaving the archive.
fn resolved(link: &[u8], target: &[u8]) -> Option<Vec<u8>> {
    let mut path: Vec<&[u8]> = if target.starts_with(b"/") { Vec::new() } else { place::components(split(link).0).collect() };
    for component in place::components(target) {
        match component {
            b".." => drop(path.pop()?),
            name => path.push(name),
        }
    }
    Some(path.join(&b'/'))
}

/// A piece that a buffer in front of it may be moved over.
struct Seekable(Piece);

impl Read for Seekable {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.0.read(into)
    }
}

fn skip(from: &mut BufReader<Seekable>, mut length: u64) -> io::Result<()> {
    let buffered = from.buffer().len();
    let first = usize::try_from(length).unwrap_or(usize::MAX).min(buffered);
    io::BufRead::consume(from, first);
    length -= first as u64;
    let rest = &mut from.get_mut().0;
    if length > rest.size() {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    rest.at += length;
    Ok(())
}
