//! A bounded number of places, each a file with a lease: whoever holds one counts, however he ends.

use crate::os::error::OsResult;
use crate::os::files;
use crate::os::lease::{self, Lease};
use std::path::Path;

/// Takes a free seat of `count`; `None` where all are taken, or what they belong to has gone: nothing above `dir` is made anew.
///
/// # Errors
/// of mkdir, open and flock.
pub fn take(dir: &Path, count: u32) -> OsResult<Option<Lease>> {
    let sought = files::dir(dir, 0o700).and_then(|()| {
        for seat in 0..count {
            if let Some(lease) = lease::try_claim_file(&dir.join(seat.to_string()))? {
                return Ok(Some(lease));
            }
        }
        Ok(None)
    });
    match sought {
        Err(e) if e.errno() == libc::ENOENT => Ok(None),
        answer => answer,
    }
}

/// Becomes the one of those who wait for a seat that looks for it. `None`: another is.
///
/// # Errors
/// of open and flock.
pub fn turn(dir: &Path) -> OsResult<Option<Lease>> {
    match lease::try_claim_file(&dir.join("turn")) {
        Err(e) if e.errno() == libc::ENOENT => Ok(None),
        answer => answer,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_many_and_no_more() {
        let dir = tempfile::tempdir().expect("tempdir");
        let seats = dir.path().join("seats");
        let [one, two] = [(); 2].map(|()| take(&seats, 2).expect("lock").expect("free"));
        assert!(take(&seats, 2).expect("lock").is_none());
        drop(one);
        assert!(take(&seats, 2).expect("lock").is_some());
        let first = turn(&seats).expect("lock").expect("nobody waits");
        assert!(turn(&seats).expect("lock").is_none());
        drop((two, first));
        assert!(take(&seats, 0).expect("lock").is_none());
        assert!(take(&dir.path().join("gone/seats"), 1).expect("no error").is_none() && !dir.path().join("gone").exists());
    }
}
