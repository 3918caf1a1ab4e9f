//! What a tree holds, a line each thing, to be held against the tree later.
//!
//! A line: kind, mode, uid, gid, time, content, extended attributes, path. Kinds: `d`irectory, `o`paque directory, `f`ile (content:
//! size and SHA-256), `l`ink (content: target), `p`ipe, `w`hiteout, and what no layer has: `c` device, `s`ocket. Bytes that are no
//! printable ASCII, and those that separate, are escaped as `\xNN`. Lines are sorted as a walk goes: directory first, then what is
//! in it, by bytes.

use super::attributes::{Attributes, Mtime, Xattrs};
use super::place::components;
use super::refusal::{reading, unwritable};
use super::spool::Known;
use super::walk::{Found, Thing, Walk};
use crate::model::fault::Fault;
use crate::os::error::{At, OsError};
use sha2::{Digest as _, Sha256};
use std::cmp::Ordering;
use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs::File;
use std::io::{BufRead, BufReader, BufWriter, Read, Write};
use std::os::fd::BorrowedFd;

const FIRST_LINE: &str = "runcell listing 1";
const BUFFER: usize = 256 * 1024;
/// Attributes of one file have at most some 64 KiB, names 4 KiB; escaped they are four times that.
const LINE_MOST: u64 = 1024 * 1024;

/// One thing in a tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    /// Without a slash at either end; the empty one is the tree itself.
    pub path: Vec<u8>,
    pub content: Content,
    pub attributes: Attributes,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    Directory {
        /// Whether it hides what lower layers have in it.
        opaque: bool,
    },
    File {
        size: u64,
        sha256: [u8; 32],
    },
    Symlink(Vec<u8>),
    Fifo,
    Whiteout,
    Device,
    Socket,
}

/// One thing that is not as it was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    pub path: Vec<u8>,
    /// Such as `mode is 0644, not 0755`, or `missing`.
    pub what: String,
}

/// Walks through a tree and hashes each file.
pub fn scan(tree: BorrowedFd<'_>) -> impl Iterator<Item = Result<Item, Fault>> {
    let mut walk = Walk::new(tree);
    let mut buffer = vec![0; BUFFER];
    until_fault(move || walk.next()?.map(|found| item(found, |file, _| hash(file, &mut buffer))).transpose())
}

/// The same just after a layer was applied, when the hashes are known and opaque directories are not yet marked.
pub(super) fn scan_known<'a>(
    tree: BorrowedFd<'a>,
    known: &'a Known,
    opaque: &'a BTreeSet<Vec<u8>>,
) -> Result<impl Iterator<Item = Result<Item, Fault>> + 'a, Fault> {
    let mut walk = Walk::new(tree);
    let mut buffer = vec![0; BUFFER];
    Ok(until_fault(move || {
        let Some(mut found) = walk.next()? else { return Ok(None) };
        if let Thing::Directory { opaque: is } = &mut found.thing {
            *is = opaque.contains(&found.path);
        }
        item(found, |file, inode| match known.hash(inode) {
            Ok(Some(hash)) => Ok(hash),
            Ok(None) => hash(file, &mut buffer),
            Err(e) => Err(e),
        })
        .map(Some)
    }))
}

/// Items up to the first fault, which is the last of them.
fn until_fault(mut next: impl FnMut() -> Result<Option<Item>, Fault>) -> impl Iterator<Item = Result<Item, Fault>> {
    let mut over = false;
    std::iter::from_fn(move || {
        if over {
            return None;
        }
        let item = next().transpose();
        over = !matches!(item, Some(Ok(_)));
        item
    })
}

fn item(found: Found, hash: impl FnOnce(&File, u64) -> std::io::Result<[u8; 32]>) -> Result<Item, Fault> {
    let content = match found.thing {
        Thing::Directory { opaque } => Content::Directory { opaque },
        Thing::File(file) => Content::File {
            size: u64::try_from(found.stat.st_size).unwrap_or(0),
            sha256: hash(&file, found.stat.st_ino).map_err(reading)?,
        },
        Thing::Symlink(target) => Content::Symlink(target),
        Thing::Fifo => Content::Fifo,
        Thing::Whiteout => Content::Whiteout,
        Thing::Device => Content::Device,
        Thing::Socket => Content::Socket,
    };
    Ok(Item { path: found.path, content, attributes: found.attributes })
}

fn hash(mut file: &File, buffer: &mut [u8]) -> std::io::Result<[u8; 32]> {
    let mut hash = Sha256::new();
    loop {
        match file.read(buffer)? {
            0 => return Ok(hash.finalize().into()),
            n => hash.update(&buffer[..n]),
        }
    }
}

/// Writes items as lines; says how many they were.
///
/// # Errors
/// of the items, and `archive:unwritable`.
pub fn write(items: impl Iterator<Item = Result<Item, Fault>>, out: impl Write) -> Result<u64, Fault> {
    let mut out = BufWriter::with_capacity(BUFFER, out);
    let failed = |e: OsError| unwritable(&e);
    writeln!(out, "{FIRST_LINE}").at("write", "the listing").map_err(failed)?;
    let mut count = 0;
    for item in items {
        writeln!(out, "{}", line(&item?)).at("write", "the listing").map_err(failed)?;
        count += 1;
    }
    out.flush().at("write", "the listing").map_err(failed)?;
    Ok(count)
}

/// Reads what `write` wrote.
///
/// # Errors
/// the first item is one if this is no listing.
pub fn read(from: impl Read) -> impl Iterator<Item = Result<Item, Fault>> {
    let mut from = BufReader::with_capacity(BUFFER, from);
    let mut number = 0;
    until_fault(move || {
        loop {
            let mut line = Vec::new();
            from.by_ref().take(LINE_MOST).read_until(b'\n', &mut line).map_err(reading)?;
            number += 1;
            let bad = || Fault::ours("archive:listing", format!("line {number} of the listing is damaged"));
            match line.strip_suffix(b"\n") {
                None if line.is_empty() && number > 1 => return Ok(None),
                Some(first) if number == 1 && first == FIRST_LINE.as_bytes() => {}
                Some(rest) if number > 1 => return parse(rest).map(Some).ok_or_else(bad),
                _ => return Err(bad()),
            }
        }
    })
}

/// How a tree differs from its listing: at most `most` things.
///
/// # Errors
/// those of the items.
pub fn differences(
    expected: impl Iterator<Item = Result<Item, Fault>>,
    found: impl Iterator<Item = Result<Item, Fault>>,
    most: usize,
) -> Result<Vec<Difference>, Fault> {
    let (mut expected, mut found) = (expected.peekable(), found.peekable());
    let mut out = Vec::new();
    while out.len() < most {
        let order = match (expected.peek(), found.peek()) {
            (None, None) => break,
            (Some(Err(fault)), _) | (_, Some(Err(fault))) => return Err(fault.clone()),
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some(Ok(was)), Some(Ok(is))) => components(&was.path).cmp(components(&is.path)),
        };
        let was = if order.is_le() { expected.next().transpose()? } else { None };
        let is = if order.is_ge() { found.next().transpose()? } else { None };
        out.extend(match (was, is) {
            (Some(was), Some(is)) => change(&was, &is).map(|what| Difference { path: was.path, what }),
            (Some(was), None) => Some(Difference { path: was.path, what: "missing".into() }),
            (None, Some(is)) => Some(Difference { path: is.path, what: "not of this layer".into() }),
            (None, None) => None,
        });
    }
    Ok(out)
}

fn change(was: &Item, is: &Item) -> Option<String> {
    if was == is {
        return None;
    }
    let (a, b) = (&was.attributes, &is.attributes);
    let mut changes = Vec::new();
    if was.content != is.content {
        changes.push(match (&was.content, &is.content) {
            (Content::File { size: was, .. }, Content::File { size: is, .. }) if was == is => "content differs".to_owned(),
            (Content::File { size: was, .. }, Content::File { size: is, .. }) => format!("size is {is}, not {was}"),
            (Content::Symlink(was), Content::Symlink(is)) => format!("target is {}, not {}", escaped(is), escaped(was)),
            (was, is) => format!("is a {}, not a {}", name(is), name(was)),
        });
    }
    if a.mode != b.mode {
        changes.push(format!("mode is {:04o}, not {:04o}", b.mode, a.mode));
    }
    if (a.uid, a.gid) != (b.uid, b.gid) {
        changes.push(format!("owner is {}:{}, not {}:{}", b.uid, b.gid, a.uid, a.gid));
    }
    if a.mtime != b.mtime {
        changes.push(format!("time is {}, not {}", b.mtime, a.mtime));
    }
    if a.xattrs != b.xattrs {
        changes.push("extended attributes differ".into());
    }
    Some(changes.join("; "))
}

fn name(content: &Content) -> &'static str {
    match content {
        Content::Directory { opaque: false } => "directory",
        Content::Directory { opaque: true } => "directory that hides lower ones",
        Content::File { .. } => "file",
        Content::Symlink(_) => "symlink",
        Content::Fifo => "FIFO",
        Content::Whiteout => "whiteout",
        Content::Device => "device",
        Content::Socket => "socket",
    }
}

fn line(item: &Item) -> String {
    let a = &item.attributes;
    let (kind, content) = match &item.content {
        Content::Directory { opaque: false } => ('d', "-".to_owned()),
        Content::Directory { opaque: true } => ('o', "-".to_owned()),
        Content::File { size, sha256 } => ('f', format!("{size}:{}", hex(sha256))),
        Content::Symlink(target) => ('l', escaped(target)),
        Content::Fifo => ('p', "-".to_owned()),
        Content::Whiteout => ('w', "-".to_owned()),
        Content::Device => ('c', "-".to_owned()),
        Content::Socket => ('s', "-".to_owned()),
    };
    let xattrs: Vec<String> = a.xattrs.iter().map(|(key, value)| format!("{}={}", escaped(key), hex(value))).collect();
    let xattrs = if xattrs.is_empty() { "-".to_owned() } else { xattrs.join(",") };
    let path = if item.path.is_empty() { ".".to_owned() } else { escaped(&item.path) };
    format!("{kind} {:04o} {} {} {} {content} {xattrs} {path}", a.mode, a.uid, a.gid, a.mtime)
}

fn parse(line: &[u8]) -> Option<Item> {
    let mut words = std::str::from_utf8(line).ok()?.split(' ');
    let mut word = || words.next();
    let kind = word()?;
    let mut attributes = Attributes {
        mode: u32::from_str_radix(word()?, 8).ok()?,
        uid: word()?.parse().ok()?,
        gid: word()?.parse().ok()?,
        mtime: Mtime::parse(word()?.as_bytes())?,
        ..Attributes::default()
    };
    let content = match (kind, word()?) {
        ("d", "-") => Content::Directory { opaque: false },
        ("o", "-") => Content::Directory { opaque: true },
        ("f", content) => {
            let (size, sha256) = content.split_once(':')?;
            Content::File { size: size.parse().ok()?, sha256: unhex(sha256)?.try_into().ok()? }
        }
        ("l", target) => Content::Symlink(unescaped(target)?),
        ("p", "-") => Content::Fifo,
        ("w", "-") => Content::Whiteout,
        ("c", "-") => Content::Device,
        ("s", "-") => Content::Socket,
        _ => return None,
    };
    attributes.xattrs = match word()? {
        "-" => Xattrs::new(),
        all => all.split(',').map(xattr).collect::<Option<_>>()?,
    };
    let path = match word()? {
        "." => Vec::new(),
        path => unescaped(path)?,
    };
    word().is_none().then_some(Item { path, content, attributes })
}

fn xattr(word: &str) -> Option<(Vec<u8>, Vec<u8>)> {
    let (key, value) = word.split_once('=')?;
    Some((unescaped(key)?, unhex(value)?))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut out, b| {
        // Writing into a string cannot fail.
        let _ = write!(out, "{b:02x}");
        out
    })
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let digits = text.as_bytes();
    let pairs = digits.chunks_exact(2).map(|pair| std::str::from_utf8(pair).ok().and_then(|s| u8::from_str_radix(s, 16).ok()));
    if digits.len().is_multiple_of(2) { pairs.collect() } else { None }
}

fn escaped(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len());
    for b in bytes {
        match b {
            b'\\' | b',' | b'=' | 0..=b' ' | 0x7f.. => {
                let _ = write!(out, "\\x{b:02x}");
            }
            _ => out.push(char::from(*b)),
        }
    }
    out
}

fn unescaped(text: &str) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, behind @ ..] = rest {
        rest = match (first, behind) {
            (b'\\', [b'x', high, low, behind @ ..]) => {
                out.extend(unhex(std::str::from_utf8(&[*high, *low]).ok()?)?);
                behind
            }
            (b'\\', _) => return None,
            _ => {
                out.push(*first);
                behind
            }
        };
    }
    Some(out)
}
