//! Ranges of host ids: one cell each at a time.
//!
//! A range is a slot file with a lease on it. Its content is the run that took it: as long as that is there, the range is
//! quarantined even without an owner, as files or processes with its ids may be left. Only a verified teardown empties it.

use super::home::Home;
use crate::model::names::RunId;
use crate::model::policy::IdRange;
use crate::os::error::{At, OsResult};
use crate::os::lease::{self, Lease};
use std::io::{Read, Seek, Write};

/// A slot that we own.
#[derive(Debug)]
pub struct Slot {
    pub number: u32,
    lease: Lease,
}

/// Takes the first free, clean slot. Put its number into the run's record, then [`Slot::mark`] it: in that order a crash
/// leaves either a slot that is clean, or one that gc finds by the record.
///
/// # Errors
/// of open and flock. `Ok(None)`: all are in use or quarantined.
pub fn take(home: &Home, range: IdRange) -> OsResult<Option<Slot>> {
    for number in 0..range.slots() {
        if let Some(slot) = open(home, range, number)?
            && slot.owner()?.is_none()
        {
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
        assert_eq!((a.number, b.number), (0, 1));
        assert!(taken(3).is_none(), "all in use");
        drop(a);
        assert!(taken(3).is_none(), "abandoned, hence quarantined");
        let again = open(&home, range, 0).expect("open").expect("nobody has it");
        again.release(&run(9)).expect("not its owner");
        assert!(taken(3).is_none());
        open(&home, range, 0).expect("open").expect("nobody has it").release(&run(1)).expect("released");
        assert_eq!(taken(3).expect("free again").number, 0);
    }
}
