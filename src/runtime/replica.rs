//! A runtime's binary as a copy in memory, for whoever starts many cells with it.

use crate::os::error::OsResult;
use crate::os::{files, replica};
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// One that is whole.
#[derive(Clone, Debug)]
pub struct Replica {
    copy: Arc<File>,
    /// Which build of which binary it is of.
    build: String,
}

/// One that is being made.
#[derive(Debug)]
pub struct Draft {
    binary: PathBuf,
    copy: File,
    build: String,
}

impl Draft {
    /// # Errors
    /// of looking at the binary; of memory.
    pub fn new(binary: &Path) -> OsResult<Self> {
        Ok(Self { binary: binary.to_owned(), copy: replica::blank()?, build: files::build(binary)? })
    }

    /// Copies; another process may do so that has this one's descriptor.
    ///
    /// # Errors
    /// of reading, of memory, where it is no ELF file. It is no whole one then, and never will be.
    pub fn fill(&self) -> OsResult<()> {
        replica::copy(&self.binary, &mut &self.copy)
    }

    /// What has become of it; nothing if it is not whole, or no copy of what the binary is now.
    pub fn finish(self) -> Option<Replica> {
        let Self { binary, copy, build } = self;
        let replica = Replica { copy: Arc::new(copy), build };
        (replica::is_whole(&replica.copy) && replica.is_of(&binary)).then_some(replica)
    }
}

impl AsFd for Draft {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.copy.as_fd()
    }
}

impl Replica {
    /// Whether it is a copy of what this binary is now: one that is upgraded is another one.
    pub fn is_of(&self, binary: &Path) -> bool {
        files::build(binary).is_ok_and(|build| build == self.build)
    }
}

impl AsFd for Replica {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.copy.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replica_is_of_one_build() {
        let dir = tempfile::tempdir().expect("tempdir");
        let binary = dir.path().join("runtime");
        std::fs::copy(std::env::current_exe().expect("ours"), &binary).expect("copied");
        let draft = || Draft::new(&binary).expect("memfd");
        assert!(draft().finish().is_none(), "nobody has filled it");
        let (early, late) = (draft(), draft());
        early.fill().expect("filled");
        late.fill().expect("filled");
        let replica = early.finish().expect("whole");
        assert!(replica.is_of(&binary));
        std::fs::write(&binary, b"another").expect("upgraded");
        assert!(!replica.is_of(&binary) && late.finish().is_none());
        assert!(Draft::new(&dir.path().join("nothing")).is_err());
    }
}
