//! Takes in what init reports of the files. Init is not believed: every figure is bounded here once more.

use super::stash::Stash;
use crate::model::blob::Blob;
use crate::model::outcome::{Collected, FileOut, PathOut, SkippedOut, path_parts};
use crate::model::wire::{Change, Collect, Found, Report, Skip};

/// More skipped or deleted entries than this are not an honest init's.
const ENTRIES_MOST: usize = 4096;
const PATH_MOST: usize = 4096;

/// Collected files so far.
#[derive(Debug)]
pub struct Intake<'a> {
    bounds: Collect,
    files: Collected,
    /// The file that is coming, and how much of it has come.
    open: Option<(Found, u64)>,
    content: Vec<u8>,
    count: u64,
    bytes: u64,
    /// Where contents go, if they are an avatar's; they are not held here then.
    stash: Option<&'a mut Stash>,
}

/// A report that breaks the rules; the rest of the harvest is worth nothing.
#[derive(Debug, PartialEq, Eq)]
pub struct Dishonest(pub &'static str);

impl<'a> Intake<'a> {
    /// Without `bounds` nothing is welcome.
    pub fn new(bounds: Option<Collect>, stash: Option<&'a mut Stash>) -> Self {
        let nothing = Collect { globs: Vec::new(), file_bytes: 0, total_bytes: 0, files: 0, whole: true, prune: Vec::new() };
        Self {
            bounds: bounds.unwrap_or(nothing),
            files: Collected::default(),
            open: None,
            content: Vec::new(),
            count: 0,
            bytes: 0,
            stash,
        }
    }

    /// Takes one report in.
    ///
    /// # Errors
    /// where it claims more than was allowed.
    pub fn take(&mut self, report: Report) -> Result<(), Dishonest> {
        match report {
            Report::Found(found) => self.found(found),
            Report::Data(bytes) => self.data(&bytes),
            Report::Deleted(path) => {
                if let Some(stash) = &mut self.stash {
                    return stash.deleted(&path).map_err(Dishonest);
                }
                self.bounded(path.len(), self.files.deleted.len())?;
                self.files.deleted.push(PathOut::new(&path));
                Ok(())
            }
            Report::Skipped { path, why } => {
                self.bounded(path.len(), self.files.skipped.len())?;
                let (path, path_base64) = path_parts(&path);
                self.files.skipped.push(SkippedOut { path, path_base64, why: reason(why).to_owned() });
                Ok(())
            }
            _ => Err(Dishonest("a report out of turn")),
        }
    }

    fn bounded(&self, path: usize, entries: usize) -> Result<(), Dishonest> {
        match path <= PATH_MOST && entries < ENTRIES_MOST {
            true => Ok(()),
            false => Err(Dishonest("too many entries or too long a path")),
        }
    }

    fn found(&mut self, found: Found) -> Result<(), Dishonest> {
        self.bounded(found.path.len(), 0)?;
        self.count += 1;
        self.bytes = self.bytes.saturating_add(found.kept);
        let allowed = found.kept <= self.bounds.file_bytes.min(found.bytes) && self.bytes <= self.bounds.total_bytes;
        if self.open.is_some() || self.count > self.bounds.files || !allowed {
            return Err(Dishonest("more or larger files than were allowed"));
        }
        if let Some(stash) = &mut self.stash {
            stash.begin(found.clone()).map_err(Dishonest)?;
        }
        self.open = Some((found, 0));
        self.close();
        Ok(())
    }

    fn data(&mut self, bytes: &[u8]) -> Result<(), Dishonest> {
        let Some((found, so_far)) = &mut self.open else { return Err(Dishonest("content of no file")) };
        *so_far += bytes.len() as u64;
        if *so_far > found.kept {
            return Err(Dishonest("more content than was said"));
        }
        match &mut self.stash {
            Some(stash) => stash.data(bytes),
            None => self.content.extend_from_slice(bytes),
        }
        self.close();
        Ok(())
    }

    /// Puts the open file away once it is whole.
    fn close(&mut self) {
        let Some((found, _)) = self.open.take_if(|(found, so_far)| *so_far == found.kept) else { return };
        if let Some(stash) = &mut self.stash {
            return stash.end();
        }
        let content = std::mem::take(&mut self.content);
        let (path, path_base64) = path_parts(&found.path);
        let file =
            FileOut { path, path_base64, content: Blob::new(content, found.bytes), mode: format!("{:04o}", found.mode & 0o7777) };
        match found.change {
            Change::Created => self.files.created.push(file),
            Change::Changed => self.files.changed.push(file),
        }
    }

    /// Init has said all.
    pub fn done(&mut self) {
        if let Some(stash) = &mut self.stash {
            stash.done();
        }
    }

    /// All of it, in alphabetical order.
    pub fn finish(mut self) -> Collected {
        self.files.created.sort_by(|a, b| a.path.cmp(&b.path));
        self.files.changed.sort_by(|a, b| a.path.cmp(&b.path));
        self.files.skipped.sort_by(|a, b| a.path.cmp(&b.path));
        self.files
    }
}

fn reason(why: Skip) -> &'static str {
    match why {
        Skip::Symlink => "symlink",
        Skip::Fifo => "fifo",
        Skip::Socket => "socket",
        Skip::Device => "device",
        Skip::Unreadable => "unreadable",
        Skip::TooMany => "too_many",
        Skip::TooLarge => "too_large",
        Skip::TooDeep => "too_deep",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bounds() -> Option<Collect> {
        Some(Collect { globs: vec![], file_bytes: 4, total_bytes: 6, files: 2, whole: false, prune: vec![] })
    }

    fn found(bytes: u64, kept: u64) -> Report {
        Report::Found(Found { path: b"a".to_vec().into(), change: Change::Created, mode: 0o100_644, mtime_ns: 0, bytes, kept })
    }

    #[test]
    fn whole_empty_and_truncated_files_arrive() {
        let mut intake = Intake::new(bounds(), None);
        intake.take(found(0, 0)).expect("an empty file");
        intake.take(found(9, 4)).expect("a long one");
        intake.take(Report::Data(b"ab".to_vec())).expect("half");
        intake.take(Report::Data(b"cd".to_vec())).expect("whole");
        let files = intake.finish().created;
        assert_eq!((files[0].content.bytes, files[0].content.truncated, files[0].mode.as_str()), (0, false, "0644"));
        assert_eq!(
            (files[1].content.text.as_deref(), files[1].content.bytes, files[1].content.truncated),
            (Some("abcd"), 9, true)
        );
    }

    #[test]
    fn a_lying_init_is_caught() {
        let taken = |reports: Vec<Report>| {
            let mut intake = Intake::new(bounds(), None);
            reports.into_iter().try_for_each(|r| intake.take(r))
        };
        assert!(taken(vec![found(5, 5)]).is_err(), "above the cap of one file");
        assert!(taken(vec![found(1, 2)]).is_err(), "more kept than there is");
        assert!(taken(vec![Report::Data(vec![1])]).is_err(), "content of no file");
        assert!(taken(vec![found(4, 4), found(0, 0)]).is_err(), "a file within a file");
        assert!(taken(vec![found(0, 0), found(0, 0), found(0, 0)]).is_err(), "too many");
        assert!(taken(vec![found(9, 1), Report::Data(vec![1, 2])]).is_err(), "more than was said");
        assert!(taken(vec![Report::Hello]).is_err());
        assert!(Intake::new(None, None).take(found(0, 0)).is_err(), "nothing was asked for");
    }
}
