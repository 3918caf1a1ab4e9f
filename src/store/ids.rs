//! Ranges of host ids: one cell each at a time.
//!
//! A range is a slot file with a lease on it. Its content is the run that took it: as long as that is there, the range is
//! quarantined even without an owner, as files or processes with its ids may be left. Only a verified teardown empties it.
//!
//! Ranges that are avatars' for life have a file of the same name among the katas as well, which outlasts a restart of the
//! host; only an avatar's own runs take such a slot, by its number.

use super::cells;
use super::home::{Home, RunDir};
use super::runs;
use crate::model::names::RunId;
use crate::model::policy::IdRange;
use crate::model::record::Record;
use crate::os::error::{At, OsResult};
use crate::os::files;
use crate::os::lease::{self, Lease};
use std::collections::BTreeSet;
use std::fs::File;
use std::io::{Read, Seek, Write};
use std::path::{Path, PathBuf};

/// A slot that we own.
#[derive(Debug)]
pub struct Slot {
    /// The first of its host ids, which is also its name: a policy with another range never confuses slots.
    pub first: u32,
    lease: Lease,
}

/// Takes the first free, clean slot. Put its number into the run's record, then [`Slot::mark`] it: in that order a crash
/// leaves either a slot that is clean, or one that gc finds by the record.
///
/// # Errors
/// of open and flock. `Ok(None)`: all are in use or quarantined.
pub fn take(home: &Home, range: IdRange) -> OsResult<Option<Slot>> {
    for number in 0..range.slots() {
        let first = range.slot(number);
        if let Some(slot) = open(home, first)?
            && slot.owner()?.is_none()
            && !home.reserved(first).exists()
        {
            return Ok(Some(slot));
        }
    }
    Ok(None)
}

/// Takes a slot for a run: its number goes into the record, which is written, and then the mark into the slot.
///
/// # Errors
/// of open, flock and write. `Ok(None)`: all are in use or quarantined.
pub fn lease(home: &Home, range: IdRange, dir: &RunDir, record: &mut Record) -> OsResult<Option<Slot>> {
    let Some(slot) = take(home, range)? else { return Ok(None) };
    record.first_id = Some(slot.first);
    runs::write(dir, record)?;
    slot.mark(&record.run)?;
    Ok(Some(slot))
}

/// Sets a range apart for an avatar, from the end of all: runs that belong to nobody take theirs from the beginning.
///
/// # Errors
/// of open, flock and write. `Ok(None)`: all are in use, quarantined, or others'.
pub fn reserve(home: &Home, range: IdRange, owner: &str) -> OsResult<Option<u32>> {
    for number in (0..range.slots()).rev() {
        let first = range.slot(number);
        let path = home.reserved(first);
        if path.exists() {
            continue;
        }
        // As long as we hold the slot nobody takes it, and whoever comes later sees that it is set apart.
        if let Some(slot) = open(home, first)?
            && slot.owner()?.is_none()
        {
            match File::create_new(&path) {
                Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => {}
                file => return file.and_then(|mut f| f.write_all(owner.as_bytes())).at("write", &path).map(|()| Some(first)),
            }
        }
    }
    Ok(None)
}

/// Gives an avatar's range back to all.
///
/// # Errors
/// of unlink; missing is fine.
pub fn unreserve(home: &Home, first: u32) -> OsResult<()> {
    let path = home.reserved(first);
    match std::fs::remove_file(&path) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(()),
        other => other.at("remove", &path),
    }
}

/// The ranges that are set apart.
pub fn reserved(home: &Home) -> BTreeSet<u32> {
    let entries = std::fs::read_dir(home.reservations()).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

/// Takes a certain slot whoever it was quarantined for; `None` where somebody alive has it.
///
/// # Errors
/// of open and flock.
pub fn open(home: &Home, first: u32) -> OsResult<Option<Slot>> {
    let path = home.ids().join(first.to_string());
    Ok(lease::try_claim_file(&path)?.map(|lease| Slot { first, lease }))
}

/// Slot files in quarantine whose run is gone: no gc will come to release them. Only looks, and locks nothing, as a lock
/// would have others take the slot for one in use.
///
/// # Errors
/// of reading the directory.
pub fn orphaned(home: &Home) -> OsResult<Vec<PathBuf>> {
    let dir = home.ids();
    let owner = |path: &Path| RunId::try_from(String::from_utf8(files::read_some(path, 64).ok()?).ok()?).ok();
    let waiting: BTreeSet<RunId> = cells::all(home).into_iter().map(|cell| cell.id).collect();
    let mut orphans = Vec::new();
    for entry in std::fs::read_dir(&dir).at("list", &dir)?.flatten() {
        let path = entry.path();
        // A teardown empties the slot before the run goes: what is still marked afterwards stays so.
        let gone =
            owner(&path).is_some_and(|run| !waiting.contains(&run) && !home.run(&run).path().exists()) && owner(&path).is_some();
        orphans.extend(gone.then_some(path));
    }
    orphans.sort();
    Ok(orphans)
}

impl Slot {
    /// Marks the range as this run's, until it is released.
    ///
    /// # Errors
    /// of write.
    pub fn mark(&self, run: &RunId) -> OsResult<()> {
        self.lease.file().write_all(run.as_str().as_bytes()).at("mark", "an id slot")
    }

    /// The run that the range is marked for.
    ///
    /// # Errors
    /// of read.
    pub fn owner(&self) -> OsResult<Option<String>> {
        let mut text = String::new();
        let mut file = self.lease.file();
        file.rewind().and_then(|()| file.take(64).read_to_string(&mut text)).at("read", "an id slot")?;
        Ok((!text.is_empty()).then_some(text))
    }

    /// Ends the quarantine, if it is this run's: nothing with these ids is left.
    ///
    /// # Errors
    /// of truncate.
    pub fn release(self, run: &RunId) -> OsResult<()> {
        if self.owner()?.as_deref() == Some(run.as_str()) {
            self.lease.file().set_len(0).at("empty", "an id slot")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_disjoint_and_quarantined_until_released() {
        let dir = tempfile::tempdir().expect("tempdir");
        let home = Home::open(dir.path().to_owned()).expect("home");
        let range = IdRange { first: 65_536, count: 2 * 65_536 };
        let run = |n| RunId::new(1, n);
        let taken = |n| {
            let slot = take(&home, range).expect("take")?;
            slot.mark(&run(n)).expect("marked");
            Some(slot)
        };
        let a = taken(1).expect("free");
        let b = taken(2).expect("free");
        assert_eq!((a.first, b.first), (65_536, 131_072));
        assert!(taken(3).is_none(), "all in use");
        drop(a);
        assert!(taken(3).is_none(), "abandoned, hence quarantined");
        let again = open(&home, 65_536).expect("open").expect("nobody has it");
        again.release(&run(9)).expect("not its owner");
        assert!(taken(3).is_none());
        open(&home, 65_536).expect("open").expect("nobody has it").release(&run(1)).expect("released");
        let again = taken(3).expect("free again");
        assert_eq!(again.first, 65_536);
    }

    #[test]
    fn an_avatars_range_is_nobody_elses() {
        let dir = tempfile::tempdir().expect("tempdir");
        let home = Home::open(dir.path().to_owned()).expect("home").with_katas(&dir.path().join("katas"));
        std::fs::create_dir_all(home.reservations()).expect("mkdir");
        let range = IdRange { first: 65_536, count: 3 * 65_536 };
        let used = take(&home, range).expect("take").expect("free");
        let own = [reserve(&home, range, "a lion").expect("reserve"), reserve(&home, range, "a bear").expect("reserve")];
        assert_eq!(own, [Some(3 * 65_536), Some(2 * 65_536)]);
        assert_eq!(reserve(&home, range, "a bee").expect("reserve"), None, "the last one is in use");
        drop(used);
        let again = take(&home, range).expect("take").expect("free");
        assert!(again.first == 65_536 && take(&home, range).expect("take").is_none());
        assert_eq!(reserved(&home), [2 * 65_536, 3 * 65_536].into());
        unreserve(&home, 3 * 65_536).expect("given back");
        unreserve(&home, 3 * 65_536).expect("twice is fine");
        assert_eq!(take(&home, range).expect("take").expect("free").first, 3 * 65_536);
    }

    #[test]
    fn a_slot_whose_run_is_gone_is_an_orphan() {
        let dir = tempfile::tempdir().expect("tempdir");
        let home = Home::open(dir.path().to_owned()).expect("home");
        let range = IdRange { first: 65_536, count: 2 * 65_536 };
        let (gone, there) = (RunId::new(1, 1), RunId::new(1, 2));
        std::fs::create_dir(home.run(&there).path()).expect("mkdir");
        take(&home, range).expect("take").expect("free").mark(&gone).expect("marked");
        take(&home, range).expect("take").expect("free").mark(&there).expect("marked");
        assert_eq!(orphaned(&home).expect("list"), [home.ids().join("65536")]);
    }
}
