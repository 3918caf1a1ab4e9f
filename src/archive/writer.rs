//! Writes a tree as one tar archive, in the form that an OCI layer has. The same tree always gives the same bytes.
//!
//! Entries come as a walk finds them: sorted, each directory before what is in it. What a header cannot say goes into a PAX header
//! before it: long or odd numbers, long names, fractions of seconds, extended attributes.

use super::attributes::Mtime;
use super::header::BLOCK;
use super::notices::Notices;
use super::place::{join, split};
use super::refusal::{shown, unwritable};
use super::walk::{Found, Thing, Walk};
use crate::model::fault::Fault;
use crate::os::error::At;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufWriter, Read, Write};
use std::os::fd::BorrowedFd;

const BUFFER: usize = 256 * 1024;
/// Twelve bytes: eleven octal digits and NUL.
const NUMBER_MOST: u64 = 0o777_7777_7777;
/// Eight bytes.
const ID_MOST: u32 = 0o777_7777;

/// What a tree is to be taken for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// A layer in the format of overlayfs: character devices 0:0 are whiteouts, and directories may be opaque. Seeing the marks
    /// of those takes CAP_SYS_ADMIN.
    Layer,
    /// A whole root filesystem.
    Root,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Written {
    /// Sum of the sizes of its regular files, in bytes.
    pub bytes: u64,
    pub entries: u64,
    /// What was left out: devices, sockets, and what other mounts show.
    pub notices: Notices,
}

/// Writes a tree. Nothing but reading is done to it; it must not change meanwhile.
///
/// # Errors
/// `archive:unreadable` for what cannot be read or changes, `archive:unrepresentable` for what no archive can say,
/// `archive:unwritable`.
pub fn write(tree: BorrowedFd<'_>, form: Form, out: impl Write) -> Result<Written, Fault> {
    let mut writer = Writer {
        out: BufWriter::with_capacity(BUFFER, out),
        form,
        written: Written::default(),
        links: BTreeMap::new(),
        notices: Notices::default(),
    };
    let mut walk = Walk::new(tree);
    while let Some(found) = walk.next()? {
        writer.thing(found)?;
    }
    let end = writer.out.write_all(&[0; 2 * BLOCK]).and_then(|()| writer.out.flush());
    end.at("write", "an archive").map_err(|e| unwritable(&e))?;
    let mut notices = writer.notices;
    walk.notices.lines.into_iter().for_each(|line| notices.add(|| line));
    notices.more += walk.notices.more;
    Ok(Written { notices, ..writer.written })
}

struct Writer<W: Write> {
    out: BufWriter<W>,
    form: Form,
    written: Written,
    /// The first name of each file that has more, until all of them have come.
    links: BTreeMap<u64, (Vec<u8>, u64)>,
    notices: Notices,
}

/// One entry, before it is bytes.
struct Entry<'a> {
    kind: u8,
    name: Vec<u8>,
    link: &'a [u8],
    size: u64,
}

fn unrepresentable(path: &[u8], why: &str) -> Fault {
    Fault::host("archive:unrepresentable", format!("{} cannot be part of a layer: {why}", shown(path)))
}

impl<W: Write> Writer<W> {
    fn thing(&mut self, mut found: Found) -> Result<(), Fault> {
        if found.elsewhere {
            return Err(unrepresentable(&found.path, "its content lies in a lower layer")
                .hint("mount the overlay with redirect_dir=off and metacopy=off"));
        }
        let (parent, name) = split(&found.path);
        if self.form == Form::Layer && name.starts_with(b".wh.") {
            return Err(unrepresentable(&found.path, "names that begin with .wh. are whiteouts"));
        }
        let plain = |kind, link| Entry { kind, name: found.path.clone(), link, size: 0 };
        let thing = std::mem::replace(&mut found.thing, Thing::Fifo);
        match thing {
            Thing::Directory { opaque } => {
                let name = if found.path.is_empty() { b"./".to_vec() } else { [&found.path[..], b"/"].concat() };
                self.entry(&Entry { kind: b'5', name, link: b"", size: 0 }, &found)?;
                if opaque && self.form == Form::Layer { self.mark(join(&found.path, b".wh..wh..opq")) } else { Ok(()) }
            }
            Thing::Whiteout if self.form == Form::Layer => self.mark(join(parent, &[b".wh.", name].concat())),
            Thing::File(file) => self.file(&found, file),
            Thing::Symlink(target) => self.entry(&plain(b'2', &target), &found),
            Thing::Fifo => self.entry(&plain(b'6', b""), &found),
            Thing::Whiteout | Thing::Device => {
                self.notices.add(|| format!("device {} skipped: cells have devices of their own", shown(&found.path)));
                Ok(())
            }
            Thing::Socket => {
                self.notices.add(|| format!("socket {} skipped", shown(&found.path)));
                Ok(())
            }
        }
    }

    /// A name that says something about lower layers, root's and of 1970.
    fn mark(&mut self, name: Vec<u8>) -> Result<(), Fault> {
        self.written.entries += 1;
        let pax = if name.len() > 100 { record(b"path", &name) } else { Vec::new() };
        let head = head(b'0', &name, 0o600).finish();
        self.extended(&pax)?;
        self.put(&head)
    }

    fn file(&mut self, found: &Found, file: File) -> Result<(), Fault> {
        if found.stat.st_nlink > 1 {
            if let Some((first, left)) = self.links.get_mut(&found.stat.st_ino) {
                let first = first.clone();
                *left -= 1;
                if *left == 0 {
                    self.links.remove(&found.stat.st_ino);
                }
                return self.entry(&Entry { kind: b'1', name: found.path.clone(), link: &first, size: 0 }, found);
            }
            // Beneath one mount an inode number is one file.
            self.links.insert(found.stat.st_ino, (found.path.clone(), found.stat.st_nlink - 1));
        }
        let size = u64::try_from(found.stat.st_size).unwrap_or(0);
        self.entry(&Entry { kind: b'0', name: found.path.clone(), link: b"", size }, found)?;
        self.written.bytes += size;
        let changed = || Fault::host("archive:unreadable", format!("file {} changed while it was read", shown(&found.path)));
        let mut content = file.take(size.saturating_add(1));
        let n = io::copy(&mut content, &mut self.out).at("copy", shown(&found.path)).map_err(|e| unwritable(&e))?;
        if n != size {
            return Err(changed());
        }
        self.fill(size)
    }

    fn entry(&mut self, entry: &Entry<'_>, found: &Found) -> Result<(), Fault> {
        let a = &found.attributes;
        let mut pax = Vec::new();
        let mut head = head(entry.kind, &entry.name, a.mode);
        let mut number = |range: std::ops::Range<usize>, value: u64, most: u64, key: &[u8]| match value <= most {
            true => head.number(range, value),
            false => pax.extend(record(key, value.to_string().as_bytes())),
        };
        number(108..116, a.uid.into(), ID_MOST.into(), b"uid");
        number(116..124, a.gid.into(), ID_MOST.into(), b"gid");
        number(124..136, entry.size, NUMBER_MOST, b"size");
        match a.mtime {
            Mtime { seconds, nanoseconds: 0 } if u64::try_from(seconds).is_ok_and(|s| s <= NUMBER_MOST) => {
                head.number(136..148, seconds.unsigned_abs());
            }
            mtime => pax.extend(record(b"mtime", mtime.to_string().as_bytes())),
        }
        head.text(157..257, entry.link);
        if entry.name.len() > 100 {
            pax.extend(record(b"path", &entry.name));
        }
        if entry.link.len() > 100 {
            pax.extend(record(b"linkpath", entry.link));
        }
        if entry.kind != b'1' {
            for (key, value) in &a.xattrs {
                pax.extend(record(&[b"SCHILY.xattr.", &key[..]].concat(), value));
            }
        }
        self.written.entries += 1;
        self.extended(&pax)?;
        self.put(&head.finish())
    }

    fn extended(&mut self, pax: &[u8]) -> Result<(), Fault> {
        if pax.is_empty() {
            return Ok(());
        }
        let mut head = head(b'x', b"PaxHeaders/entry", 0o644);
        head.number(124..136, pax.len() as u64);
        self.put(&head.finish())?;
        self.put(pax)?;
        self.fill(pax.len() as u64)
    }

    fn put(&mut self, bytes: &[u8]) -> Result<(), Fault> {
        self.out.write_all(bytes).at("write", "an archive").map_err(|e| unwritable(&e))
    }

    /// Zeros up to the end of a block.
    fn fill(&mut self, size: u64) -> Result<(), Fault> {
        let over = usize::try_from(size % BLOCK as u64).unwrap_or(0);
        if over == 0 { Ok(()) } else { self.put(&[0; BLOCK][over..]) }
    }
}

struct Head([u8; BLOCK]);

/// A ustar header of nothing, of root's and of 1970.
fn head(kind: u8, name: &[u8], mode: u32) -> Head {
    let mut head = Head([0; BLOCK]);
    head.text(0..100, name);
    head.number(100..108, mode.into());
    head.number(108..116, 0);
    head.number(116..124, 0);
    head.number(124..136, 0);
    head.number(136..148, 0);
    head.0[156] = kind;
    head.0[257..265].copy_from_slice(b"ustar\x0000");
    head
}

impl Head {
    /// As much as fits.
    fn text(&mut self, range: std::ops::Range<usize>, text: &[u8]) {
        let length = text.len().min(range.len());
        self.0[range.start..range.start + length].copy_from_slice(&text[..length]);
    }

    /// Octal digits up to the last byte, which is NUL.
    fn number(&mut self, range: std::ops::Range<usize>, value: u64) {
        let digits = format!("{value:0width$o}", width = range.len() - 1);
        self.text(range, digits.as_bytes());
    }

    fn finish(mut self) -> [u8; BLOCK] {
        self.0[148..156].fill(b' ');
        let sum: u64 = self.0.iter().map(|b| u64::from(*b)).sum();
        self.number(148..155, sum);
        self.0[154] = 0;
        self.0
    }
}

/// A PAX record, which counts its own length.
fn record(key: &[u8], value: &[u8]) -> Vec<u8> {
    let rest = key.len() + value.len() + 3;
    let mut length = rest + 1;
    while length != rest + length.to_string().len() {
        length += 1;
    }
    [length.to_string().as_bytes(), b" ", key, b"=", value, b"\n"].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_count_themselves() {
        for length in 0..200 {
            let record = record(b"k", &vec![b'v'; length]);
            assert!(record.starts_with(format!("{} k=", record.len()).as_bytes()), "{length}");
        }
    }

    #[test]
    fn headers_are_read_as_they_were_written() {
        let mut head = head(b'0', b"name", 0o4755);
        head.number(124..136, NUMBER_MOST);
        let read = super::super::header::parse(&head.finish()).expect("a header");
        assert_eq!((&read.name[..], read.mode, read.size, read.mtime), (&b"name"[..], 0o4755, NUMBER_MOST, 0));
    }
}
