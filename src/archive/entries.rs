//! The entries of a tar archive, one after the other, with all that its headers say about each.
//!
//! Theory of operation: an entry is one block, then its body in whole blocks. Blocks before it may say more about it: PAX records
//! (`x`, and `g` for all that follow) and GNU's long names (`L`, `K`). PAX wins over GNU, and both over the entry's own header. Two
//! blocks of zeros end an archive. What tools read differently is refused rather than guessed, since whoever looked at the
//! archive before us may have guessed otherwise: a link with a body, a size in a global header, anything behind the end.

use super::attributes::{Attributes, Mtime};
use super::header::{self, BLOCK, Header};
use super::pax::Pax;
use super::refusal::{malformed, reading, shown, too_large, unsupported};
use super::sparse::{self, Chunk};
use crate::model::fault::Fault;
use std::io::{self, Read};

/// Bytes of one extended header or long name: names have at most 4096, attributes 64 KiB.
const EXTENDED_MOST: u64 = 1024 * 1024;
/// Extended headers before one entry: real ones have at most one of each kind.
const EXTENDED_COUNT_MOST: usize = 16;
/// Zeros behind an archive, which tapes fill records with, in bytes.
const FILL_MOST: u64 = 16 * 1024 * 1024;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    File,
    HardLink,
    Symlink,
    Device,
    Directory,
    Fifo,
}

/// One entry. Its name and target are as the archive has them, not yet judged.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) name: Vec<u8>,
    pub(super) link: Vec<u8>,
    pub(super) kind: Kind,
    /// With owners of any size.
    pub(super) uid: u64,
    pub(super) gid: u64,
    /// Without owners.
    pub(super) attributes: Attributes,
    /// Of the file with its holes, in bytes.
    pub(super) size: u64,
    /// Where the body's bytes go, if the file has holes.
    pub(super) map: Option<Vec<Chunk>>,
}

pub(super) struct Entries<R> {
    input: R,
    /// Bytes read from the input.
    at: u64,
    /// Bytes of the current body, and of what fills its last block, that are still to be read.
    body: u64,
    fill: u64,
    global: Pax,
}

impl<R: Read> Entries<R> {
    pub(super) fn new(input: R) -> Self {
        Self { input, at: 0, body: 0, fill: 0, global: Pax::default() }
    }

    /// The next entry; what is left of the body before it is skipped. `None` is the end, after which nothing but zeros came.
    ///
    /// # Errors
    /// `archive:malformed`, `archive:unsupported`, `archive:too_large`, `archive:unreadable`: the archive is of no more use.
    pub(super) fn next(&mut self) -> Result<Option<Entry>, Fault> {
        io::copy(&mut self.rest_of_body(), &mut io::sink()).map_err(reading)?;
        let mut local = self.global.clone();
        let (mut long_name, mut long_link, mut extended) = (None, None, 0);
        loop {
            let Some(block) = self.block()? else {
                return if extended == 0 { Ok(None) } else { Err(malformed("the archive ends behind an extended header")) };
            };
            let header = header::parse(&block).map_err(malformed)?;
            if !matches!(header.kind, b'x' | b'g' | b'L' | b'K' | b'V') {
                return self.entry(header, local, long_name, long_link, &block).map(Some);
            }
            extended += 1;
            if extended > EXTENDED_COUNT_MOST {
                return Err(malformed(format!("more than {EXTENDED_COUNT_MOST} extended headers describe one entry")));
            }
            let words = self.words(header.size)?;
            match header.kind {
                b'x' => local.add(&words, sparse::CHUNKS_MOST).map_err(malformed)?,
                b'g' => {
                    self.all_that_follow(&words)?;
                    local.add(&words, sparse::CHUNKS_MOST).map_err(malformed)?;
                }
                b'L' => long_name = Some(header::text(&words).to_vec()),
                b'K' => long_link = Some(header::text(&words).to_vec()),
                // A label of the whole volume.
                _ => {}
            }
        }
    }

    fn all_that_follow(&mut self, words: &[u8]) -> Result<(), Fault> {
        self.global.add(words, sparse::CHUNKS_MOST).map_err(malformed)?;
        let g = &self.global;
        match g.path.is_some() || g.link.is_some() || g.size.is_some() || g.sparse.is_there() || !g.xattrs.is_empty() {
            true => Err(malformed("a global header gives one name, size or attribute to all entries")),
            false => Ok(()),
        }
    }

    fn entry(
        &mut self,
        header: Header,
        mut pax: Pax,
        long_name: Option<Vec<u8>>,
        long_link: Option<Vec<u8>>,
        block: &[u8; BLOCK],
    ) -> Result<Entry, Fault> {
        let name = pax.sparse.name.take().or(pax.path.take()).or(long_name).unwrap_or(header.name);
        let stored = pax.size.unwrap_or(header.size);
        let about = |e: String| malformed(format!("entry {}: {e}", shown(&name)));
        let kind = match header.kind {
            // Archives older than ustar tell directories by a slash.
            b'0' | 0 | b'7' if name.ends_with(b"/") => Kind::Directory,
            b'0' | 0 | b'7' | b'S' => Kind::File,
            b'1' => Kind::HardLink,
            b'2' => Kind::Symlink,
            b'3' | b'4' => Kind::Device,
            b'5' => Kind::Directory,
            b'6' => Kind::Fifo,
            b'M' => return Err(unsupported(format!("entry {} continues another volume", shown(&name)))),
            other => return Err(unsupported(format!("entry {} is of an unknown type {}", shown(&name), shown(&[other])))),
        };
        if kind != Kind::File && (stored > 0 || pax.sparse.is_there()) {
            return Err(about("something other than a file has content".into()));
        }
        let size = stored.checked_next_multiple_of(BLOCK as u64).ok_or_else(|| about("its size is beyond 64 bits".into()))?;
        (self.body, self.fill) = (stored, size - stored);
        let holes = match header.kind {
            b'S' => Some(sparse::old_gnu(block, || self.block_of_body()).map_err(|e| e.said_of(&name))?),
            _ if pax.sparse.is_there() => {
                let mut used = 0;
                let read = |into: &mut [u8; BLOCK]| {
                    used += BLOCK as u64;
                    if used > stored { Err(io::ErrorKind::UnexpectedEof.into()) } else { self.input.read_exact(into) }
                };
                let holes = sparse::pax(&pax.sparse, read).map_err(|e| e.said_of(&name))?;
                self.at += used;
                self.body -= used;
                Some(holes)
            }
            _ => None,
        };
        let (size, map) = match holes {
            Some(holes) => {
                sparse::check(&holes, self.body).map_err(about)?;
                (holes.size, Some(holes.chunks))
            }
            None => (stored, None),
        };
        Ok(Entry {
            kind,
            link: pax.link.take().or(long_link).unwrap_or(header.link),
            uid: pax.uid.unwrap_or(header.uid),
            gid: pax.gid.unwrap_or(header.gid),
            attributes: Attributes {
                mode: header.mode,
                mtime: pax.mtime.unwrap_or(Mtime { seconds: header.mtime, nanoseconds: 0 }),
                xattrs: pax.xattrs,
                ..Attributes::default()
            },
            size,
            map,
            name,
        })
    }

    /// Reads from the current body.
    ///
    /// # Errors
    /// `UnexpectedEof` where the archive ends before the body does.
    pub(super) fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let most = usize::try_from(self.body).unwrap_or(usize::MAX).min(into.len());
        if most == 0 {
            return Ok(0);
        }
        match self.input.read(&mut into[..most])? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            n => {
                (self.at, self.body) = (self.at + n as u64, self.body - n as u64);
                Ok(n)
            }
        }
    }

    /// Where the next unread byte is, counted from the archive's begin.
    pub(super) fn position(&self) -> u64 {
        self.at
    }

    /// Lets `skip` move the input over the rest of the current body, as by seeking.
    pub(super) fn pass(&mut self, skip: impl FnOnce(&mut R, u64) -> io::Result<()>) -> io::Result<()> {
        let rest = self.body + self.fill;
        skip(&mut self.input, rest)?;
        (self.at, self.body, self.fill) = (self.at + rest, 0, 0);
        Ok(())
    }

    fn rest_of_body(&mut self) -> impl Read + '_ {
        self.body += std::mem::take(&mut self.fill);
        Body(self)
    }

    /// The body of an extended header.
    fn words(&mut self, size: u64) -> Result<Vec<u8>, Fault> {
        if size > EXTENDED_MOST {
            return Err(too_large(format!("an extended header has {size} bytes; at most {EXTENDED_MOST} are read")));
        }
        (self.body, self.fill) = (size, size.next_multiple_of(BLOCK as u64) - size);
        let mut words = Vec::new();
        self.rest_of_body().read_to_end(&mut words).map_err(reading)?;
        words.truncate(usize::try_from(size).unwrap_or(usize::MAX));
        Ok(words)
    }

    /// A block between the header and the body, which the size does not count.
    fn block_of_body(&mut self) -> io::Result<[u8; BLOCK]> {
        let mut block = [0; BLOCK];
        self.input.read_exact(&mut block)?;
        self.at += BLOCK as u64;
        Ok(block)
    }

    /// The next header, or `None` at the end of the archive.
    fn block(&mut self) -> Result<Option<[u8; BLOCK]>, Fault> {
        let block = self.block_of_body().map_err(reading)?;
        if block != [0; BLOCK] {
            return Ok(Some(block));
        }
        let mut buffer = [0; 16 * BLOCK];
        let mut fill = 0;
        loop {
            match self.input.read(&mut buffer) {
                Ok(0) => return Ok(None),
                Ok(n) if buffer[..n].iter().any(|b| *b != 0) => {
                    return Err(malformed("something follows the end of the archive")
                        .hint("join archives before, not behind one another"));
                }
                Ok(n) => fill += n as u64,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(reading(e)),
            }
            if fill > FILL_MOST {
                return Err(too_large(format!("more than {FILL_MOST} bytes of zeros follow the end of the archive")));
            }
        }
    }
}

struct Body<'a, R>(&'a mut Entries<R>);

impl<R: Read> Read for Body<'_, R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.0.read(into)
    }
}
