//! Files with holes, in the four forms that GNU tar has written: the old one and PAX 0.0, 0.1, 1.0 (its manual, appendix
//! "Storing Sparse Files").

use super::header::{BLOCK, number};
use super::pax::{Sparse, decimal};
use super::refusal::{malformed, reading, shown};
use crate::model::fault::Fault;
use std::io;

/// Pieces of one file: the map of them is kept in memory.
pub(super) const CHUNKS_MOST: usize = 65_536;

/// A piece of a file that an archive holds; all between is a hole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Chunk {
    pub(super) offset: u64,
    pub(super) length: u64,
}

/// A file with holes.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Holes {
    /// With its holes, in bytes.
    pub(super) size: u64,
    /// Ascending once `check` has passed.
    pub(super) chunks: Vec<Chunk>,
}

/// Why there is no map.
pub(super) enum Unmapped {
    Unread(io::Error),
    Malformed(String),
}

impl Unmapped {
    pub(super) fn said_of(self, name: &[u8]) -> Fault {
        match self {
            Self::Unread(e) => reading(e),
            Self::Malformed(e) => malformed(format!("entry {}: {e}", shown(name))),
        }
    }
}

impl From<io::Error> for Unmapped {
    fn from(e: io::Error) -> Self {
        Self::Unread(e)
    }
}

impl From<String> for Unmapped {
    fn from(e: String) -> Self {
        Self::Malformed(format!("its map of holes {e}"))
    }
}

fn too_many() -> Unmapped {
    Unmapped::Malformed(format!("its map of holes has more than {CHUNKS_MOST} pieces"))
}

/// Old GNU: four pieces in the header, twenty-one in each block that follows it.
pub(super) fn old_gnu(header: &[u8; BLOCK], mut next: impl FnMut() -> io::Result<[u8; BLOCK]>) -> Result<Holes, Unmapped> {
    let mut chunks = Vec::new();
    let size = positive(&header[483..495])?;
    pieces(&header[386..482], &mut chunks)?;
    let mut more = header[482] != 0;
    while more {
        let block = next()?;
        pieces(&block[..504], &mut chunks)?;
        more = block[504] != 0;
    }
    Ok(Holes { size, chunks })
}

/// Unused places at the end are empty.
fn pieces(table: &[u8], chunks: &mut Vec<Chunk>) -> Result<(), Unmapped> {
    for piece in table.chunks_exact(24).take_while(|piece| piece[0] != 0) {
        chunks.push(Chunk { offset: positive(&piece[..12])?, length: positive(&piece[12..])? });
    }
    if chunks.len() > CHUNKS_MOST { Err(too_many()) } else { Ok(()) }
}

fn positive(field: &[u8]) -> Result<u64, String> {
    number(field).and_then(|n| u64::try_from(n).map_err(|_| "has a negative number".into()))
}

/// PAX: 0.x has the map in its records, 1.0 at the begin of the body, in decimal lines that fill whole blocks.
pub(super) fn pax(records: &Sparse, mut next: impl FnMut(&mut [u8; BLOCK]) -> io::Result<()>) -> Result<Holes, Unmapped> {
    let size = records.size.ok_or_else(|| "does not say the file's size".to_owned())?;
    let numbers = match records.version {
        Some((1, 0)) => lines(&mut next)?,
        None | Some((0, 0 | 1)) => records.map.clone(),
        Some((major, minor)) => return Err(format!("is of an unknown version {major}.{minor}").into()),
    };
    if numbers.len() % 2 != 0 {
        return Err("has an offset without a length".to_owned().into());
    }
    let chunks = numbers.chunks_exact(2).map(|pair| Chunk { offset: pair[0], length: pair[1] }).collect();
    Ok(Holes { size, chunks })
}

/// How many pieces, then each one's offset and length.
fn lines(next: &mut impl FnMut(&mut [u8; BLOCK]) -> io::Result<()>) -> Result<Vec<u64>, Unmapped> {
    let (mut block, mut at) = ([0; BLOCK], BLOCK);
    let mut line = || -> Result<u64, Unmapped> {
        let mut digits = Vec::new();
        loop {
            if at == BLOCK {
                next(&mut block)?;
                at = 0;
            }
            at += 1;
            match block[at - 1] {
                b'\n' if !digits.is_empty() => return Ok(decimal(&digits)?),
                digit @ b'0'..=b'9' if digits.len() < 20 => digits.push(digit),
                _ => return Err("is no number".to_owned().into()),
            }
        }
    };
    let count = usize::try_from(line()?).ok().filter(|n| *n <= CHUNKS_MOST).ok_or_else(too_many)?;
    (0..2 * count).map(|_| line()).collect()
}

/// Pieces that ascend, lie within the file, and are together what the body holds.
///
/// # Errors
/// in words.
pub(super) fn check(holes: &Holes, stored: u64) -> Result<(), String> {
    let (mut end, mut sum) = (0u64, 0u64);
    for chunk in &holes.chunks {
        let ends = chunk.offset.checked_add(chunk.length).filter(|ends| chunk.offset >= end && *ends <= holes.size);
        end = ends.ok_or("its map of holes has pieces that overlap or lie outside the file")?;
        sum += chunk.length;
    }
    if sum == stored { Ok(()) } else { Err(format!("its map of holes describes {sum} bytes, its body has {stored}")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chunk(offset: u64, length: u64) -> Chunk {
        Chunk { offset, length }
    }

    #[test]
    fn maps_ascend_and_fit() {
        let check = |size, chunks: &[Chunk], stored| check(&Holes { size, chunks: chunks.to_vec() }, stored);
        assert_eq!(check(10, &[chunk(1, 2), chunk(3, 0), chunk(5, 5), chunk(10, 0)], 7), Ok(()));
        assert_eq!(check(10, &[], 0), Ok(()));
        for (chunks, stored) in [
            (&[chunk(5, 2), chunk(1, 1)][..], 3),
            (&[chunk(0, 2), chunk(1, 2)], 4),
            (&[chunk(8, 3)], 3),
            (&[chunk(u64::MAX, 2)], 2),
            (&[chunk(0, 2)], 3),
            (&[], 1),
        ] {
            assert!(check(10, chunks, stored).is_err(), "{chunks:?}");
        }
    }

    #[test]
    fn lines_may_cross_blocks() {
        let text: String =
            std::iter::once("300".to_owned()).chain((0..600).map(|n| n.to_string())).collect::<Vec<_>>().join("\n") + "\n";
        let mut bytes = text.into_bytes();
        bytes.resize(bytes.len().next_multiple_of(BLOCK), 0);
        let mut blocks = bytes.chunks_exact(BLOCK);
        let read =
            |into: &mut [u8; BLOCK]| blocks.next().map(|b| into.copy_from_slice(b)).ok_or(io::ErrorKind::UnexpectedEof.into());
        let numbers = lines(&mut { read }).unwrap_or_default();
        assert_eq!(numbers, (0..600).collect::<Vec<u64>>());
    }
}
