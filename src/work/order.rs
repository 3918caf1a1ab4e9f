//! The dispatch as it travels: a memfd that holds the job's words and the contents of its files.

use super::faults;
use crate::model::cores::Placement;
use crate::model::fault::Fault;
use crate::model::job::Content;
use crate::model::kata::HomeFile;
use crate::model::limits::Limits;
use crate::model::paths::RelPath;
use crate::model::plan::Fill;
use crate::model::wire::{Ahead, Delivery, Dispatch};
use crate::os::error::At;
use crate::os::files;
use crate::rules::seccomp;
use nix::sys::memfd::{MFdFlags, memfd_create};
use serde_bytes::ByteBuf;
use std::fs::File;
use std::io::{Read, Seek, Write};

/// The program is the kernel's first choice when memory ends; init, at 0, the last.
const OOM_SCORE: i32 = 500;
/// How long after its deadline init stops the program by itself.
const BACKSTOP_NS: u64 = 2_000_000_000;

/// Writes the order. `filtered`: init lives under the filter already; `places` are emptied should another job follow.
///
/// # Errors
/// exit 2 where a host file cannot be read.
pub fn write(fill: Fill, limits: &Limits, place: &Placement, filtered: bool, places: &[String]) -> Result<File, Fault> {
    let mut sources = Vec::new();
    let mut deliveries = Vec::new();
    for (path, mode, content) in fill.files {
        let (source, bytes) = open(&path, content)?;
        deliveries.push(Delivery { path: String::from(path).into_bytes(), mode, bytes, mtime_ns: None });
        sources.push((source, bytes));
    }
    for brought in &fill.brought {
        let HomeFile { path, mode, bytes, mtime_ns, .. } = &brought.file;
        deliveries.push(Delivery { path: path.as_bytes().to_vec(), mode: *mode, bytes: *bytes, mtime_ns: Some(*mtime_ns) });
    }
    let dispatch = Dispatch {
        argv: fill.argv,
        fallbacks: fill.fallbacks,
        env: fill.env,
        cwd: fill.cwd.into(),
        files: deliveries,
        rlimits: fill.rlimits,
        writable: fill.writable,
        filter: if filtered { None } else { Some(ByteBuf::from(seccomp::program(fill.deny_suid)?)) },
        oom_score_adj: OOM_SCORE,
        grace_ns: limits.grace.nanos(),
        backstop_ns: limits.wall.nanos().saturating_add(BACKSTOP_NS),
        collect: fill.collect,
        cpus: place.cpus.clone(),
        node: place.node,
        places: places.to_vec(),
    };
    let words = postcard::to_stdvec(&dispatch).map_err(|e| Fault::ours("internal", e.to_string()))?;
    let mut file =
        memfd_create(c"order", MFdFlags::MFD_CLOEXEC).map(File::from).at("make", "a memfd").map_err(|e| faults::ours(&e))?;
    let mut put = || {
        file.write_all(&(words.len() as u64).to_le_bytes())?;
        file.write_all(&words)?;
        for (source, bytes) in &mut sources {
            let copied = std::io::copy(&mut source.take(*bytes), &mut file)?;
            if copied < *bytes {
                return Err(std::io::Error::other("a file became shorter while it was read"));
            }
        }
        // One at a time: a home may have more files than we may have open.
        for brought in &fill.brought {
            let copied = std::io::copy(&mut File::open(&brought.blob)?, &mut file)?;
            if copied != brought.file.bytes {
                return Err(std::io::Error::other("a file of the home is not what was put there"));
            }
        }
        file.rewind()
    };
    put().at("write", "a memfd").map_err(|e| faults::ours(&e))?;
    Ok(file)
}

/// What init is told ahead of its job, a memfd: it is handed down with nothing in it, and written before init can read it.
///
/// # Errors
/// exit 4 where none can be made.
pub fn blank() -> Result<File, Fault> {
    memfd_create(c"ahead", MFdFlags::MFD_CLOEXEC).map(File::from).at("make", "a memfd").map_err(|e| faults::ours(&e))
}

/// Writes there what of a plan init can prepare for.
///
/// # Errors
/// exit 4 where it cannot be written.
pub fn ahead(fill: &Fill, mut blank: &File) -> Result<(), Fault> {
    let ahead = Ahead { writable: fill.writable.clone(), filter: seccomp::program(fill.deny_suid)?.to_vec() };
    let words = postcard::to_stdvec(&ahead).map_err(|e| Fault::ours("internal", e.to_string()))?;
    // Init shares the place in it: it is to find the beginning.
    blank.write_all(&words).and_then(|()| blank.rewind()).at("write", "a memfd").map_err(|e| faults::ours(&e))
}

/// A content's bytes, read whole.
///
/// # Errors
/// of opening and reading a host file.
pub fn bytes(content: &Content) -> crate::os::error::OsResult<Vec<u8>> {
    match content {
        Content::Bytes(bytes) => Ok(bytes.clone()),
        Content::File(path) => {
            let mut bytes = Vec::new();
            files::open_regular(path.as_path())?.read_to_end(&mut bytes).at("read", path.as_path())?;
            Ok(bytes)
        }
    }
}

/// A content, and how many bytes of it count.
///
/// # Errors
/// exit 2 where a host file cannot be read.
pub(super) fn open(path: &RelPath, content: Content) -> Result<(Box<dyn Read>, u64), Fault> {
    match content {
        Content::Bytes(bytes) => {
            let len = bytes.len() as u64;
            Ok((Box::new(std::io::Cursor::new(bytes)), len))
        }
        Content::File(host) => {
            let unreadable = |why: String| {
                Fault::caller("file:unreadable", why)
                    .at(format!("files.{}", path.as_str()))
                    .hint("name a regular file, without symlinks in its path")
            };
            let file = files::open_regular(host.as_path()).map_err(|e| unreadable(e.to_string()))?;
            let bytes = file.metadata().map_err(|e| unreadable(e.to_string()))?.len();
            Ok((Box::new(file), bytes))
        }
    }
}
