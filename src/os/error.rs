//! An operating system's error: doing what, on what, because.

use std::io;
use std::path::{Path, PathBuf};

#[derive(Debug, thiserror::Error)]
#[error("cannot {doing} {}: {source}", on.display())]
pub struct OsError {
    pub doing: &'static str,
    pub on: PathBuf,
    pub source: io::Error,
}

pub type OsResult<T> = Result<T, OsError>;

/// Says what was being done when a system call failed.
pub trait At<T> {
    /// # Errors
    /// the error it was, with its place.
    fn at(self, doing: &'static str, on: impl AsRef<Path>) -> OsResult<T>;
}

impl<T> At<T> for io::Result<T> {
    fn at(self, doing: &'static str, on: impl AsRef<Path>) -> OsResult<T> {
        self.map_err(|source| OsError { doing, on: on.as_ref().to_owned(), source })
    }
}

impl<T> At<T> for nix::Result<T> {
    fn at(self, doing: &'static str, on: impl AsRef<Path>) -> OsResult<T> {
        self.map_err(io::Error::from).at(doing, on)
    }
}

impl OsError {
    pub fn errno(&self) -> i32 {
        self.source.raw_os_error().unwrap_or(libc::EIO)
    }
}
