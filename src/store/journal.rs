//! A batch's memory of what it has answered, for the batch that goes on after a crash.
//!
//! Theory of operation. An outcome goes into the journal whole before its first byte goes to whoever listens, and after its last
//! byte a mark that it was told. So a job is either not in the journal, and has never been heard of, or its outcome is there.
//! What is there without a mark is told again, byte by byte the same: nothing is lost, and who has heard it already knows it by
//! its `run`. A record that a kill has cut short is the last one, and is cut off.
//!
//! A record is a line of ours, `{"done", "job", "bytes"}`, and behind it that many bytes of outcome: reading a journal needs no
//! look into what programs have written. Nothing is synced: a kill loses nothing that was written, a power cut may lose the
//! last jobs, which are then run again.

use crate::model::names::JobId;
use crate::os::error::{At, OsError, OsResult};
use crate::os::lease::{self, Lease};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

/// The longest line of ours: an id has at most 128 characters, which JSON spells with up to 12 bytes each.
const RECORD_MOST: u64 = 4096;
const VERSION: u32 = 1;

/// sha256 of a job.
pub type JobDigest = [u8; 32];

/// Held by one batch at a time.
#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
    lease: Lease,
    /// Half of each digest, by half of the id's: of 2^40 jobs the first two with the same are still to be expected.
    known: HashMap<[u8; 16], Entry>,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    job: [u8; 16],
    /// Whether the job was read since this journal was opened.
    read: bool,
}

/// What the journal knows of a job that has just been read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Known {
    /// It is still to be run.
    New,
    /// An earlier batch has run it.
    Done,
    /// Another job of that id is done.
    Changed,
    /// The same id was read and answered before by this very batch.
    Again,
}

/// An outcome that nobody may have heard: a piece of the journal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Untold {
    pub id: JobId,
    pub offset: u64,
    pub bytes: u64,
}

#[derive(Debug, Deserialize, Serialize)]
#[serde(untagged, deny_unknown_fields)]
enum Record {
    Begins { runcell_journal: u32 },
    Done { done: JobId, job: String, bytes: u64 },
    Told { told: JobId },
}

fn short(digest: &[u8]) -> [u8; 16] {
    let mut half = [0; 16];
    half.iter_mut().zip(digest).for_each(|(to, from)| *to = *from);
    half
}

fn key(id: &JobId) -> [u8; 16] {
    use sha2::Digest as _;
    short(&sha2::Sha256::digest(id.as_str()))
}

fn hex(digest: &JobDigest) -> String {
    digest.iter().map(|b| format!("{b:02x}")).collect()
}

fn unhex(text: &str) -> Option<JobDigest> {
    let mut digest = [0; 32];
    if text.len() != 64 || !text.is_ascii() {
        return None;
    }
    for (n, byte) in digest.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&text[2 * n..2 * n + 2], 16).ok()?;
    }
    Some(digest)
}

/// Why a journal cannot be used.
#[derive(Debug)]
pub enum Unusable {
    /// Another batch has it.
    Busy,
    /// It is something else, or somebody has changed it; at this byte.
    Damaged(u64),
    Os(OsError),
}

impl From<OsError> for Unusable {
    fn from(e: OsError) -> Self {
        Self::Os(e)
    }
}

/// Opens a journal or begins one, and answers what is still to be told, in order.
///
/// # Errors
/// of open, flock and read; where it is in use or makes no sense.
pub fn open(path: &Path) -> Result<(Journal, Vec<Untold>), Unusable> {
    let lease = lease::try_claim_file(path)?.ok_or(Unusable::Busy)?;
    let mut journal = Journal { path: path.to_owned(), lease, known: HashMap::new() };
    let length = journal.lease.file().metadata().at("look at", path)?.len();
    let (end, untold) = journal.read(length)?;
    let mut file = journal.lease.file();
    file.set_len(end).and_then(|()| file.seek(SeekFrom::Start(end))).at("cut", path)?;
    if end == 0 {
        journal.write(&Record::Begins { runcell_journal: VERSION })?;
    }
    Ok((journal, untold))
}

impl Journal {
    /// All records that are whole: where the last one ends, and what is untold.
    fn read(&mut self, length: u64) -> Result<(u64, Vec<Untold>), Unusable> {
        let mut reader = BufReader::new(File::open(&self.path).at("open", &self.path)?);
        let (mut at, mut untold, mut line) = (0u64, BTreeMap::new(), Vec::new());
        loop {
            line.clear();
            let read = reader.by_ref().take(RECORD_MOST).read_until(b'\n', &mut line).at("read", &self.path)? as u64;
            let damaged = || Unusable::Damaged(at);
            if read == 0 || (at + read == length && line.last() != Some(&b'\n')) {
                // The end of a killed batch's journal, unless it has never been one.
                let ours =
                    at > 0 || spell(&Record::Begins { runcell_journal: VERSION }).at("spell", &self.path)?.starts_with(&line);
                if !ours {
                    return Err(damaged());
                }
                break;
            }
            let after = at + read;
            at = match serde_json::from_slice(&line).map_err(|_| damaged())? {
                Record::Begins { runcell_journal: VERSION } if at == 0 => after,
                Record::Done { done, job, bytes } if at > 0 => {
                    if length.saturating_sub(after) < bytes {
                        break; // cut short
                    }
                    let job = unhex(&job).ok_or_else(damaged)?;
                    self.known.insert(key(&done), Entry { job: short(&job), read: false });
                    let skip = i64::try_from(bytes).map_err(|_| damaged())?;
                    reader.seek_relative(skip).at("read", &self.path)?;
                    untold.insert(done.as_str().to_owned(), Untold { id: done, offset: after, bytes });
                    after + bytes
                }
                Record::Told { told } if at > 0 => {
                    untold.remove(told.as_str());
                    after
                }
                _ => return Err(damaged()),
            };
        }
        let mut untold: Vec<Untold> = untold.into_values().collect();
        untold.sort_by_key(|u| u.offset);
        Ok((at, untold))
    }

    /// What is known of a job that has just been read.
    pub fn look(&mut self, id: &JobId, job: &JobDigest) -> Known {
        match self.known.get_mut(&key(id)) {
            None => Known::New,
            Some(entry) if entry.job != short(job) => Known::Changed,
            Some(entry) if entry.read => Known::Again,
            Some(entry) => {
                entry.read = true;
                Known::Done
            }
        }
    }

    /// Keeps an outcome: the first `bytes` of `outcome`, a line with its end.
    ///
    /// # Errors
    /// of write: what is there then is cut off by the next [`open`], and nothing more may be written.
    pub fn done(&mut self, id: &JobId, job: &JobDigest, outcome: &File, bytes: u64) -> OsResult<()> {
        self.write(&Record::Done { done: id.clone(), job: hex(job), bytes })?;
        let mut outcome = outcome;
        let copied = outcome.rewind().and_then(|()| io::copy(&mut outcome.take(bytes), &mut self.lease.file()));
        if copied.at("write", &self.path)? != bytes {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof)).at("write", &self.path);
        }
        self.known.insert(key(id), Entry { job: short(job), read: true });
        Ok(())
    }

    /// Marks an outcome: whoever listens has all of it.
    ///
    /// # Errors
    /// of write, as of [`Self::done`].
    pub fn told(&mut self, id: &JobId) -> OsResult<()> {
        self.write(&Record::Told { told: id.clone() })
    }

    /// The journal, to read what is [`Untold`].
    ///
    /// # Errors
    /// of open.
    pub fn file(&self) -> OsResult<File> {
        File::open(&self.path).at("open", &self.path)
    }

    fn write(&self, record: &Record) -> OsResult<()> {
        let line = spell(record).at("spell", &self.path)?;
        self.lease.file().write_all(&line).at("write", &self.path)
    }
}

/// A record as its line.
fn spell(record: &Record) -> io::Result<Vec<u8>> {
    let mut line = serde_json::to_vec(record)?;
    line.push(b'\n');
    Ok(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(text: &str) -> JobId {
        JobId::try_from(text.to_owned()).expect("an id")
    }

    fn outcome(text: &str) -> File {
        let mut file = tempfile::tempfile().expect("tempfile");
        file.write_all(text.as_bytes()).expect("write");
        file
    }

    fn done(journal: &mut Journal, name: &str, job: u8, text: &str) {
        journal.done(&id(name), &[job; 32], &outcome(text), text.len() as u64).expect("written");
    }

    fn words(path: &Path, untold: &[Untold]) -> Vec<String> {
        let bytes = std::fs::read(path).expect("read");
        let piece = |u: &Untold| &bytes[u.offset as usize..(u.offset + u.bytes) as usize];
        untold.iter().map(|u| format!("{}: {}", u.id, String::from_utf8_lossy(piece(u)).trim_end())).collect()
    }

    #[test]
    fn what_was_told_is_known_and_what_was_not_is_told_again() {
        let dir = tempfile::tempdir().expect("tempdir");
        let path = dir.path().join("journal");
        let (mut journal, untold) = open(&path).expect("a new one");
        assert!(untold.is_empty() && matches!(open(&path), Err(Unusable::Busy)));
        assert_eq!(journal.look(&id("a"), &[1; 32]), Known::New);
        done(&mut journal, "b", 2, "{\"done\": \"not a record\"}\n");
        done(&mut journal, "a", 1, "A\n");
        done(&mut journal, "c", 3, "C\n");
        journal.told(&id("a")).expect("written");
        assert_eq!(journal.look(&id("a"), &[1; 32]), Known::Again);
        drop(journal);
        let (mut journal, untold) = open(&path).expect("again");
        assert_eq!(words(&path, &untold), ["b: {\"done\": \"not a record\"}", "c: C"]);
        let known = [("a", 1), ("a", 1), ("b", 1), ("b", 2), ("d", 4)].map(|(name, job)| journal.look(&id(name), &[job; 32]));
        assert_eq!(known, [Known::Done, Known::Again, Known::Changed, Known::Done, Known::New]);
    }

    #[test]
    fn cut_at_any_byte_it_has_what_was_whole() {
        let dir = tempfile::tempdir().expect("tempdir");
        let path = dir.path().join("journal");
        let (mut journal, _) = open(&path).expect("a new one");
        let mut whole = Vec::new(); // where each job's record ends, and the mark of the second
        for (n, name) in ["a", "b"].iter().enumerate() {
            done(&mut journal, name, n as u8, "outcome\n");
            whole.push(std::fs::metadata(&path).expect("there").len());
        }
        journal.told(&id("b")).expect("written");
        drop(journal);
        let bytes = std::fs::read(&path).expect("read");
        for length in 0..=bytes.len() {
            let cut = dir.path().join("cut");
            std::fs::write(&cut, &bytes[..length]).expect("write");
            let (mut journal, untold) = open(&cut).expect("a torn end is no damage");
            let jobs = whole.iter().filter(|end| **end <= length as u64).count();
            let told = usize::from(length == bytes.len());
            assert_eq!((journal.known.len(), untold.len()), (jobs, jobs - told), "{length}");
            done(&mut journal, "z", 9, "more\n");
            drop(journal);
            let (journal, untold) = open(&cut).expect("it goes on");
            assert_eq!((journal.known.len(), untold.len()), (jobs + 1, jobs + 1 - told), "{length}");
        }
    }

    #[test]
    fn another_file_is_no_journal() {
        let dir = tempfile::tempdir().expect("tempdir");
        let path = dir.path().join("notes");
        for text in ["hello\n", "{}\n", "{\"told\":\"a\"}\n", "{\"runcell_journal\":2}\n"] {
            std::fs::write(&path, text).expect("write");
            assert!(matches!(open(&path), Err(Unusable::Damaged(0))), "{text}");
            assert_eq!(std::fs::read_to_string(&path).expect("read"), text, "it is left alone");
        }
        // Not even a line: a kill leaves no more than the beginning of ours.
        std::fs::write(&path, "precious").expect("write");
        assert!(matches!(open(&path), Err(Unusable::Damaged(0))));
    }
}
