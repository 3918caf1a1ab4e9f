//! Runs: a directory each, owned by whoever holds its lease.

use super::home::{Home, RunDir};
use crate::model::names::RunId;
use crate::model::record::Record;
use crate::os::error::{At, OsResult};
use crate::os::lease::{self, Lease};
use crate::os::{clock, files, probe};
use std::os::unix::fs::DirBuilderExt;

/// A run directory that we own.
#[derive(Debug)]
pub struct Owned {
    pub dir: RunDir,
    _lease: Lease,
}

impl Owned {
    pub(super) fn new(dir: RunDir, lease: Lease) -> Self {
        Self { dir, _lease: lease }
    }
}

/// A run directory as found.
#[derive(Debug)]
pub enum Found {
    /// Somebody alive owns it.
    Live(RunDir),
    /// Nobody does; now we do.
    Stale(Owned),
}

/// Makes a new run and owns it.
///
/// # Errors
/// of mkdir and flock.
pub fn create(home: &Home) -> OsResult<Owned> {
    loop {
        let id = RunId::new(clock::wall_millis(), probe::random()?);
        let dir = home.run(&id);
        std::fs::DirBuilder::new().mode(0o711).create(dir.path()).at("create directory", dir.path())?;
        // Between mkdir and flock a gc may have taken it for a leftover and removed it: then we take another name.
        if let Some(lease) = lease::try_claim(dir.path())? {
            // Our caller's umask is not to close it to the cell's ids.
            let open = std::os::unix::fs::PermissionsExt::from_mode(0o711);
            lease.file().set_permissions(open).at("open up", dir.path())?;
            return Ok(Owned { dir, _lease: lease });
        }
    }
}

/// The runs' directories in order of time, unclaimed.
///
/// # Errors
/// of reading the directory.
pub fn names(home: &Home) -> OsResult<Vec<RunDir>> {
    let runs = home.runs();
    let entries = std::fs::read_dir(&runs).at("list", &runs)?;
    let id = |entry: std::fs::DirEntry| RunId::try_from(entry.file_name().into_string().ok()?).ok();
    let mut ids: Vec<RunId> = entries.flatten().filter_map(id).collect();
    ids.sort();
    Ok(ids.iter().map(|id| home.run(id)).collect())
}

/// Looks who owns a run; `None` where it has just gone.
///
/// # Errors
/// of open and flock.
pub fn claim(dir: RunDir) -> OsResult<Option<Found>> {
    match lease::try_claim(dir.path())? {
        Some(lease) => Ok(Some(Found::Stale(Owned { dir, _lease: lease }))),
        None if dir.path().exists() => Ok(Some(Found::Live(dir))),
        None => Ok(None),
    }
}

/// Writes a run's record, whole.
///
/// # Errors
/// of writing.
pub fn write(dir: &RunDir, record: &Record) -> OsResult<()> {
    let json = serde_json::to_vec(record).map_err(std::io::Error::other).at("spell", dir.record())?;
    files::replace(&dir.record(), &json)
}

/// Reads a run's record; `None` where a crash came before it or it makes no sense.
pub fn read(dir: &RunDir) -> Option<Record> {
    serde_json::from_slice(&files::read_some(&dir.record(), 1 << 20).ok()?).ok()
}

/// Removes a run's directory. At the end of most runs these two are all that is in it, and to list a directory costs as much again.
///
/// # Errors
/// of the first thing that cannot be removed.
pub fn remove(dir: &RunDir) -> OsResult<()> {
    for file in [dir.path().join(RunDir::SOCKET), dir.record()] {
        let _ = std::fs::remove_file(file);
    }
    std::fs::remove_dir(dir.path()).or_else(|_| files::remove_tree(dir.path()))
}
