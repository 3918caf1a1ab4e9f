//! Ownership that dies with its owner: a flock on a file or directory, held open close-on-exec.

use super::error::{At, OsResult};
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

/// Held until dropped, or until this process ends in whatever way. Children do not inherit it (close-on-exec).
#[derive(Debug)]
pub struct Lease(Flock<File>);

/// Claims a directory, or answers `None` where somebody alive owns it or it has just been removed.
///
/// # Errors
/// of open and flock.
pub fn try_claim(path: &Path) -> OsResult<Option<Lease>> {
    // The directory itself is locked: there is no lock file to leak, nor one to unlink under a rival.
    match File::open(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        file => lock(file.at("open for lease", path)?, path),
    }
}

/// Claims a file that is made if missing and never unlinked.
///
/// # Errors
/// of open and flock.
pub fn try_claim_file(path: &Path) -> OsResult<Option<Lease>> {
    let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path);
    lock(file.at("open for lease", path)?, path)
}

/// Shares a directory with others who do; `None` where somebody owns it alone, or it is not there.
///
/// # Errors
/// of open and flock.
pub fn try_share(path: &Path) -> OsResult<Option<Lease>> {
    match File::open(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        file => locked(file.at("open for lease", path)?, path, FlockArg::LockSharedNonblock),
    }
}

/// Shares a file that is made if missing and never unlinked.
///
/// # Errors
/// of open and flock.
pub fn try_share_file(path: &Path) -> OsResult<Option<Lease>> {
    let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path);
    locked(file.at("open for lease", path)?, path, FlockArg::LockSharedNonblock)
}

fn lock(file: File, path: &Path) -> OsResult<Option<Lease>> {
    locked(file, path, FlockArg::LockExclusiveNonblock)
}

fn locked(file: File, path: &Path, how: FlockArg) -> OsResult<Option<Lease>> {
    match Flock::lock(file, how) {
        Ok(lock) if lock.metadata().at("look at", path)?.nlink() == 0 => Ok(None), // removed between open and lock
        Ok(lock) => Ok(Some(Lease(lock))),
        Err((_, Errno::EWOULDBLOCK)) => Ok(None),
        Err((_, e)) => Err(e).at("lease", path),
    }
}

impl Lease {
    pub fn file(&self) -> &File {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_may_share_but_not_with_an_owner() {
        let dir = tempfile::tempdir().expect("tempdir");
        let both = [try_share(dir.path()).expect("lock"), try_share(dir.path()).expect("lock")];
        assert!(both.iter().all(Option::is_some) && try_claim(dir.path()).expect("lock").is_none());
        drop(both);
        let owner = try_claim(dir.path()).expect("lock").expect("free");
        assert!(try_share(dir.path()).expect("lock").is_none());
        drop(owner);
    }

    #[test]
    fn one_owner_at_a_time() {
        let dir = tempfile::tempdir().expect("tempdir");
        let first = try_claim(dir.path()).expect("lock").expect("free");
        assert!(try_claim(dir.path()).expect("lock").is_none());
        drop(first);
        assert!(try_claim(dir.path()).expect("lock").is_some());
        assert!(try_claim(&dir.path().join("missing")).expect("no error").is_none());
    }
}
