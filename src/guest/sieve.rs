//! Created files that nobody wants: caches, object files.

use globset::{GlobBuilder, GlobSet, GlobSetBuilder};
use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// Globs, those without a slash apart: they are held against each part of a path.
#[derive(Debug)]
pub struct Sieve {
    parts: GlobSet,
    paths: GlobSet,
}

impl Sieve {
    /// # Errors
    /// of a glob that is none; those of a plan have been tried.
    pub fn new(globs: &[String]) -> io::Result<Self> {
        let (paths, parts): (Vec<&String>, Vec<&String>) = globs.iter().partition(|glob| glob.contains('/'));
        Ok(Self { parts: set(parts)?, paths: set(paths)? })
    }

    /// Whether a file relative to /sandbox falls through.
    pub fn drops(&self, path: &[u8]) -> bool {
        let one = |part: &[u8]| self.parts.is_match(Path::new(OsStr::from_bytes(part)));
        self.paths.is_match(Path::new(OsStr::from_bytes(path))) || path.split(|b| *b == b'/').any(one)
    }
}

/// Globs whose `*` stops at slashes.
///
/// # Errors
/// of a glob that is none.
pub fn set<'a>(globs: impl IntoIterator<Item = &'a String>) -> io::Result<GlobSet> {
    let mut all = GlobSetBuilder::new();
    for glob in globs {
        all.add(GlobBuilder::new(glob).literal_separator(true).build().map_err(io::Error::other)?);
    }
    all.build().map_err(io::Error::other)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_glob_without_slash_is_about_any_part() {
        let sieve = Sieve::new(&["__pycache__", "*.o", "out/*.log"].map(str::to_owned)).expect("globs");
        for gone in [&b"__pycache__/x.pyc"[..], b"a/__pycache__/b/c", b"x.o", b"a/x.o", b"out/a.log"] {
            assert!(sieve.drops(gone), "{gone:?}");
        }
        for stays in [&b"x.c"[..], b"__pycache__x", b"a/out/a.log", b"out/a/b.log", b"o", b"\xff"] {
            assert!(!sieve.drops(stays), "{stays:?}");
        }
    }
}
