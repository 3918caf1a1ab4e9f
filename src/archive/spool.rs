//! What is learned while a layer is applied and needed when it is done: kept in nameless files beside the tree, since an archive
//! decides how much it is.

use super::attributes::{Attributes, Mtime};
use crate::os::beneath;
use crate::os::error::{At, OsResult};
use nix::fcntl::OFlag;
use nix::sys::stat::Mode;
use nix::unistd::{UnlinkatFlags, unlinkat};
use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Seek, Write};
use std::os::fd::BorrowedFd;
use std::os::unix::fs::FileExt;

const NAME: &str = ".runcell-spool";
const BUFFER: usize = 64 * 1024;

/// A file without a name in the filesystem of `tree`, which must be empty.
///
/// Not O_TMPFILE: overlayfs has that only since Linux 6.3.
fn nameless(tree: BorrowedFd<'_>) -> OsResult<File> {
    let flags = OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_RDWR;
    let fd = beneath::open(tree, NAME.as_bytes(), flags, Mode::S_IRUSR | Mode::S_IWUSR).at("create", NAME)?;
    unlinkat(tree, NAME, UnlinkatFlags::NoRemoveDir).at("unlink", NAME)?;
    Ok(File::from(fd))
}

/// Directories with the attributes that they get in the end, when nothing is put into them any more.
pub(super) struct Directories(BufWriter<File>);

impl Directories {
    pub(super) fn begin(tree: BorrowedFd<'_>) -> OsResult<Self> {
        Ok(Self(BufWriter::with_capacity(BUFFER, nameless(tree)?)))
    }

    pub(super) fn add(&mut self, path: &[u8], a: &Attributes) -> io::Result<()> {
        let length = u32::try_from(path.len()).map_err(io::Error::other)?;
        for number in [length, a.mode, a.uid, a.gid, a.mtime.nanoseconds] {
            self.0.write_all(&number.to_ne_bytes())?;
        }
        self.0.write_all(&a.mtime.seconds.to_ne_bytes())?;
        self.0.write_all(path)
    }

    /// All that were added, in that order; their extended attributes are not among it.
    pub(super) fn finish(self) -> io::Result<impl Iterator<Item = io::Result<(Vec<u8>, Attributes)>>> {
        let mut file = self.0.into_inner().map_err(io::IntoInnerError::into_error)?;
        let mut left = file.stream_position()?;
        file.rewind()?;
        let mut from = BufReader::with_capacity(BUFFER, file);
        Ok(std::iter::from_fn(move || {
            let item = (left > 0).then(|| directory(&mut from));
            left -= item.as_ref().map_or(0, |i| i.as_ref().map_or(left, |(path, _)| 28 + path.len() as u64));
            item
        }))
    }
}

fn directory(from: &mut impl Read) -> io::Result<(Vec<u8>, Attributes)> {
    let mut number = || -> io::Result<u32> {
        let mut bytes = [0; 4];
        from.read_exact(&mut bytes)?;
        Ok(u32::from_ne_bytes(bytes))
    };
    let (length, mode, uid, gid, nanoseconds) = (number()?, number()?, number()?, number()?, number()?);
    let mut seconds = [0; 8];
    from.read_exact(&mut seconds)?;
    let mut path = vec![0; length as usize];
    from.read_exact(&mut path)?;
    let mtime = Mtime { seconds: i64::from_ne_bytes(seconds), nanoseconds };
    Ok((path, Attributes { mode, uid, gid, mtime, ..Attributes::default() }))
}

/// Content hashes by inode number: eight bytes a file in memory, the hashes in a file.
pub(super) struct Hashes {
    inodes: Vec<u64>,
    hashes: BufWriter<File>,
}

/// The same, to be looked up.
pub(super) struct Known {
    inodes: Vec<u64>,
    /// Indices into `inodes`, sorted by what they point at, and then by themselves.
    order: Vec<u32>,
    hashes: File,
}

impl Hashes {
    pub(super) fn begin(tree: BorrowedFd<'_>) -> OsResult<Self> {
        Ok(Self { inodes: Vec::new(), hashes: BufWriter::with_capacity(BUFFER, nameless(tree)?) })
    }

    pub(super) fn add(&mut self, inode: u64, hash: &[u8; 32]) -> io::Result<()> {
        self.inodes.push(inode);
        self.hashes.write_all(hash)
    }

    pub(super) fn finish(self) -> io::Result<Known> {
        let hashes = self.hashes.into_inner().map_err(io::IntoInnerError::into_error)?;
        let inodes = self.inodes;
        let mut order: Vec<u32> = (0..u32::try_from(inodes.len()).map_err(io::Error::other)?).collect();
        order.sort_unstable_by_key(|n| (inodes[*n as usize], *n));
        Ok(Known { inodes, order, hashes })
    }
}

impl Known {
    /// The hash of an inode. Numbers of removed files are used again: the last one counts.
    pub(super) fn hash(&self, inode: u64) -> io::Result<Option<[u8; 32]>> {
        let behind = self.order.partition_point(|n| self.inodes[*n as usize] <= inode);
        match behind.checked_sub(1).map(|at| self.order[at]).filter(|n| self.inodes[*n as usize] == inode) {
            None => Ok(None),
            Some(n) => {
                let mut hash = [0; 32];
                self.hashes.read_exact_at(&mut hash, u64::from(n) * 32)?;
                Ok(Some(hash))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;

    #[test]
    fn spools_give_back_what_they_got() {
        let dir = tempfile::tempdir().expect("tempdir");
        let tree = File::open(dir.path()).expect("open");
        let mut directories = Directories::begin(tree.as_fd()).expect("begun");
        let mtime = Mtime { seconds: -5, nanoseconds: 7 };
        let all: Vec<_> = (0..5000u32)
            .map(|n| {
                (vec![b'x'; n as usize % 70], Attributes { mode: n & 0o7777, uid: n, gid: n + 1, mtime, ..Attributes::default() })
            })
            .collect();
        all.iter().for_each(|(path, a)| directories.add(path, a).expect("added"));
        let back: Vec<_> = directories.finish().expect("finished").collect::<Result<_, _>>().expect("read");
        assert_eq!(back, all);

        let mut hashes = Hashes::begin(tree.as_fd()).expect("begun");
        for (inode, byte) in [(9, 1), (3, 2), (9, 3), (4, 4)] {
            hashes.add(inode, &[byte; 32]).expect("added");
        }
        let known = hashes.finish().expect("finished");
        for (inode, is) in [(9, Some(3)), (3, Some(2)), (4, Some(4)), (1, None), (5, None), (10, None)] {
            assert_eq!(known.hash(inode).expect("read"), is.map(|byte| [byte; 32]), "{inode}");
        }
        assert_eq!(std::fs::read_dir(dir.path()).expect("listed").count(), 0);
    }
}
