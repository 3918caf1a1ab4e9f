//! Ranges of host ids: one cell each at a time.
//!
//! A range is a slot file with a lease on it. Its content is the run that took it: as long as that is there, the range is
//! quarantined even without an owner, as files or processes with its ids may be left. Only a verified teardown empties it.

use super::home::Home;
use crate::model::names::RunId;
use crate::model::policy::IdRange;
use crate::os::error::{At, OsResult};
use crate::os::files;
use crate::os::lease::{self, Lease};
use std::io::{Read, Seek, Write};
use std::path::{Path, PathBuf};

/// A slot that we own.
#[derive(Debug)]
pub struct Slot {
    pub number: u32,
    lease: Lease,
}

/// Takes the first free, clean slot.
///
/// # Errors
/// of open and flock. `Ok(None)`: all are in use or quarantined.
pub fn take(home: &Home, range: IdRange, run: &RunId) -> OsResult<Option<Slot>> {
    for number in 0..range.slots() {
        let Some(slot) = open(home, range, number)? else { continue };
        if slot.owner()?.is_none() {
            let path = home.ids();
            slot.lease.file().write_all(run.as_str().as_bytes()).at("write a slot in", &path)?;
            return Ok(Some(slot));
        }
    }
    Ok(None)
}

/// Takes a certain slot whoever it was quarantined for; `None` where somebody alive has it.
///
/// # Errors
/// of open and flock.
pub fn open(home: &Home, range: IdRange, number: u32) -> OsResult<Option<Slot>> {
    // The name is the first host id: a policy with another range then never confuses slots.
    let path = home.ids().join(range.slot(number).to_string());
    Ok(lease::try_claim_file(&path)?.map(|lease| Slot { number, lease }))
}

/// Slot files in quarantine whose run is gone: no gc will come to release them. Only looks, and locks nothing, as a lock
/// would have others take the slot for one in use.
///
/// # Errors
/// of reading the directory.
pub fn orphaned(home: &Home) -> OsResult<Vec<PathBuf>> {
    let dir = home.ids();
    let owner = |path: &Path| RunId::try_from(String::from_utf8(files::read_some(path, 64).ok()?).ok()?).ok();
    let mut orphans = Vec::new();
    for entry in std::fs::read_dir(&dir).at("list", &dir)?.flatten() {
        let path = entry.path();
        // A teardown empties the slot before the run goes: what is still marked afterwards stays so.
        let gone = owner(&path).is_some_and(|run| !home.run(&run).path().exists()) && owner(&path).is_some();
        orphans.extend(gone.then_some(path));
    }
    orphans.sort();
    Ok(orphans)
}

impl Slot {
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
        let a = take(&home, range, &run(1)).expect("take").expect("free");
        let b = take(&home, range, &run(2)).expect("take").expect("free");
        assert_eq!((a.number, b.number), (0, 1));
        assert!(take(&home, range, &run(3)).expect("take").is_none(), "all in use");
        drop(a);
        assert!(take(&home, range, &run(3)).expect("take").is_none(), "abandoned, hence quarantined");
        let again = open(&home, range, 0).expect("open").expect("nobody has it");
        again.release(&run(9)).expect("not its owner");
        assert!(take(&home, range, &run(3)).expect("take").is_none());
        open(&home, range, 0).expect("open").expect("nobody has it").release(&run(1)).expect("released");
        assert_eq!(take(&home, range, &run(3)).expect("take").expect("free again").number, 0);
    }
    #[test]
    fn a_slot_whose_run_is_gone_is_an_orphan() {
        let dir = tempfile::tempdir().expect("tempdir");
        let home = Home::open(dir.path().to_owned()).expect("home");
        let range = IdRange { first: 65_536, count: 2 * 65_536 };
        let (gone, there) = (RunId::new(1, 1), RunId::new(1, 2));
        std::fs::create_dir(home.run(&there).path()).expect("mkdir");
        drop(take(&home, range, &gone).expect("take").expect("free"));
        drop(take(&home, range, &there).expect("take").expect("free"));
        assert_eq!(orphaned(&home).expect("list"), [home.ids().join("65536")]);
    }
}
