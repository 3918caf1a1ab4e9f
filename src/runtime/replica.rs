//! A runtime's binary as a copy in memory, for whoever starts many cells with it.

use crate::os::error::{At, OsResult};
use crate::os::{files, process, replica};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// How long it may take to say its version.
const TRIAL_NS: u64 = 5_000_000_000;

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

    /// Copies, tries whether what is in memory may be executed here (`vm.memfd_noexec`, or what else a host may have against it), and
    /// seals; another process may do so that has this one's descriptor.
    ///
    /// # Errors
    /// of reading, of memory, of executing; where it is no ELF file. It is no whole one then, and never will be.
    pub fn fill(&self) -> OsResult<()> {
        replica::copy(&self.binary, &self.copy)?;
        let copy = PathBuf::from(format!("/proc/self/fd/{}", self.copy.as_raw_fd()));
        let (_, well) = process::output(&copy, &["--version".to_owned()], TRIAL_NS)?;
        let failed = || Err(io::ErrorKind::PermissionDenied.into());
        if well { replica::seal(&self.copy) } else { failed() }.at("execute a copy of", &self.binary)
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
        std::fs::copy("/bin/true", &binary).expect("copied"); // which says its version, or nothing, and ends well
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
        std::fs::copy("/bin/false", &binary).expect("copied");
        let useless = draft();
        assert!(useless.fill().is_err() && useless.finish().is_none(), "it fails");
    }
}
