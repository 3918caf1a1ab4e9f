//! The job's files, written into /sandbox by init with the job's own uid.

use crate::model::wire::{Delivery, StartFailure, Step};
use nix::sys::stat::{Mode, umask};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;
use std::time::{Duration, UNIX_EPOCH};

pub const SANDBOX: &str = "/sandbox";

/// What was delivered, to be told from what the program made: SHA-256 and mode by path.
pub type Delivered = BTreeMap<Vec<u8>, ([u8; 32], u32)>;

/// Writes every file; their contents follow one another in `contents`.
///
/// # Errors
/// the file that could not be written, as a fact for the outcome.
pub fn all(files: &[Delivery], mut contents: File) -> Result<Delivered, StartFailure> {
    umask(Mode::empty()); // modes are meant as they are written
    let mut delivered = Delivered::new();
    for file in files {
        match one(file, &mut contents) {
            Ok(hash) => drop(delivered.insert(file.path.clone(), (hash, file.mode))),
            Err(e) => {
                let errno = e.raw_os_error().unwrap_or(libc::EIO);
                return Err(StartFailure {
                    step: Step::Files,
                    errno,
                    path: String::from_utf8_lossy(&file.path).into_owned(),
                    head: Default::default(),
                    mode: 0,
                });
            }
        }
    }
    umask(Mode::S_IWGRP | Mode::S_IWOTH); // the usual one, not that of whoever called runcell
    Ok(delivered)
}

fn one(file: &Delivery, contents: &mut File) -> io::Result<[u8; 32]> {
    let path = Path::new(SANDBOX).join(OsStr::from_bytes(&file.path));
    if let Some(parent) = path.parent() {
        DirBuilder::new().recursive(true).mode(0o755).create(parent)?;
    }
    let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK;
    let mut out = OpenOptions::new().write(true).create(true).truncate(true).mode(file.mode).custom_flags(flags).open(path)?;
    let (mut left, mut hash, mut buf) = (file.bytes, Sha256::new(), vec![0u8; 64 * 1024]);
    while left > 0 {
        let most = buf.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        let n = contents.read(&mut buf[..most])?;
        if n == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        hash.update(&buf[..n]);
        out.write_all(&buf[..n])?;
        left -= n as u64;
    }
    if let Some(ns) = file.mtime_ns {
        let since = Duration::from_nanos(ns.unsigned_abs());
        let then = if ns < 0 { UNIX_EPOCH.checked_sub(since) } else { UNIX_EPOCH.checked_add(since) };
        out.set_modified(then.unwrap_or(UNIX_EPOCH))?;
    }
    Ok(hash.finalize().into())
}
