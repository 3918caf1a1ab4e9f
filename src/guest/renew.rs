//! Between two jobs of one avatar: nothing of the first is left in any place that it could write.

use crate::os::{raze, sys};
use nix::sys::stat::{Mode, fchmod, fstat};
use nix::sys::statvfs::fstatvfs;
use std::ffi::CStr;
use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::path::PathBuf;

/// Directories that are mounts of their own, so that no program can take another's place, with the modes that they had.
#[derive(Debug)]
pub struct Places(Vec<Place>);

#[derive(Debug)]
struct Place {
    path: PathBuf,
    dir: File,
    mode: Mode,
}

impl Places {
    /// As they are before anything has run.
    ///
    /// # Errors
    /// where one is not there.
    pub fn open(paths: &[String]) -> io::Result<Self> {
        let place = |path: &String| {
            let dir = File::open(path)?;
            let mode = Mode::from_bits_truncate(fstat(&dir)?.st_mode);
            Ok(Place { path: path.into(), dir, mode })
        };
        paths.iter().map(place).collect::<io::Result<_>>().map(Self)
    }

    /// Empties them and gives them back what they had. Nothing else may run.
    ///
    /// # Errors
    /// of the first thing that cannot be removed: there must be no other job then.
    pub fn renew(&self) -> io::Result<()> {
        self.0.iter().try_for_each(Place::renew)
    }
}

impl Place {
    fn renew(&self) -> io::Result<()> {
        if !self.is_empty()? {
            fchmod(&self.dir, self.mode | Mode::S_IRWXU)?;
            raze::empty(&self.path).map_err(io::Error::other)?;
        }
        let names = sys::list_xattrs(self.dir.as_fd()).unwrap_or_default();
        for name in names.split_inclusive(|b| *b == 0).filter_map(|name| CStr::from_bytes_with_nul(name).ok()) {
            let _ = sys::remove_xattr(self.dir.as_fd(), name); // what may not be taken was there before
        }
        if Mode::from_bits_truncate(fstat(&self.dir)?.st_mode) != self.mode {
            fchmod(&self.dir, self.mode)?;
        }
        Ok(())
    }

    /// A tmpfs counts its inodes, where they are limited: a lone one is its root.
    fn is_empty(&self) -> io::Result<bool> {
        let stat = fstatvfs(&self.dir)?;
        Ok(stat.files() > 0 && stat.files() - stat.files_free() == 1)
    }
}
