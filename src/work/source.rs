//! A source of an image as its caller names it: a path, or stdin.

use super::faults;
use super::unpack::Source;
use crate::model::fault::Fault;
use crate::model::policy::Import;
use crate::os::files;
use crate::store::bench::Bench;
use crate::store::depot::Depot;
use std::fs::File;
use std::io::{self, Read, Seek};
use std::path::Path;

/// Opens it. What cannot be sought in (stdin, a FIFO) is copied to a bench first, which the caller keeps until it is done.
///
/// # Errors
/// exit 2 where it cannot be read or is larger than the policy allows.
pub fn open<'a>(depot: &Depot, named: &'a Path, bench: &mut Option<Bench>, bounds: Import) -> Result<Source<'a>, Fault> {
    let unreadable = |e: io::Error| {
        Fault::caller("archive:unreadable", format!("cannot read {}: {e}", named.display()))
            .at("source")
            .hint("name a file or directory")
    };
    let mut file = match named.to_str() {
        Some("-") => File::from(std::os::fd::AsFd::as_fd(&io::stdin()).try_clone_to_owned().map_err(unreadable)?),
        _ => File::open(named).map_err(unreadable)?,
    };
    if file.metadata().map_err(unreadable)?.is_dir() {
        return Ok(Source::Directory(named));
    }
    if file.stream_position().is_ok() {
        return Ok(Source::File(file));
    }
    depot.open().map_err(|e| faults::ours(&e))?;
    let place = bench.insert(Bench::new(depot).map_err(|e| faults::ours(&e))?).path().join("spool");
    files::create(&place, b"", 0o600).map_err(|e| faults::ours(&e))?;
    let mut spool = File::options().read(true).write(true).open(&place).map_err(unreadable)?;
    let copied = io::copy(&mut file.take(bounds.bytes.0 + 1), &mut spool).map_err(unreadable)?;
    if copied > bounds.bytes.0 {
        return Err(Fault::caller("archive:too_large", format!("the archive is larger than {}", bounds.bytes))
            .at("source")
            .hint("the policy bounds it (import.bytes)"));
    }
    spool.rewind().map_err(unreadable)?;
    Ok(Source::File(spool))
}
