//! One job of a batch in a process of its own: a supervisor gives up its rights for good, and dies alone.
//!
//! Its answer goes on a sheet. When that is whole it says one byte, which is all that the batch believes of it: the sheet is
//! sealed then and must be one line, but is not read, as a program wrote parts of it. In that byte it also says whether its cell
//! stays for another job of the same avatar; that one comes as a line on a sheet, which its answer replaces.

use super::answer::Frame;
use super::decide::{Setting, decide};
use super::pin::Pinned;
use super::run::{self, Request};
use super::stay::Stay;
use super::{demolish, faults, host, settings};
use crate::model::document;
use crate::model::evidence::{Evidence, Fate};
use crate::model::fault::Fault;
use crate::model::job::Job;
use crate::model::lines::Refused;
use crate::model::outcome::{Outcome, Phases, Stream, Verdict};
use crate::os::error::At;
use crate::os::process::{self, Process};
use crate::os::socket::{self, Packet, Peer};
use crate::os::{apart, sheet};
use crate::runtime::replica::Replica;
use crate::store::runs::{self, Found};
use nix::sys::signal::{Signal, raise};
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::{BufWriter, PipeReader, PipeWriter, Read, Seek, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

/// A job as it was read.
#[derive(Clone, Debug)]
pub struct Errand {
    pub line: u64,
    pub job: Job,
    /// sha256 of the line, in hex.
    pub digest: String,
    /// Whether it is only to be told that it was called off.
    pub cancelled: bool,
    /// The line itself, where it may go to a cell that has served before; else nothing.
    pub text: Vec<u8>,
}

/// What goes with a line on a sheet.
#[derive(Debug, Serialize, Deserialize)]
struct Again {
    line: u64,
    digest: String,
}

/// What kind of answer is on the sheet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Told {
    /// An outcome: `ok`, or another verdict about the program.
    Ok,
    Otherwise,
    Cancelled,
    HostError,
    /// An error document: nothing was started.
    Refused,
}

const WORDS: [(u8, Told); 5] =
    [(b'o', Told::Ok), (b'n', Told::Otherwise), (b'c', Told::Cancelled), (b'h', Told::HostError), (b'r', Told::Refused)];

/// Says that there is no more to be had of it.
const DECLINED: [u8; 1] = *b"-";

impl Told {
    fn of(outcome: &Outcome) -> Self {
        match outcome.verdict {
            Verdict::Ok => Self::Ok,
            Verdict::Cancelled => Self::Cancelled,
            Verdict::HostError => Self::HostError,
            _ => Self::Otherwise,
        }
    }

    /// In capitals: and the cell stays.
    fn word(self, stays: bool) -> [u8; 1] {
        let word = WORDS.iter().find(|(_, told)| *told == self).map_or(0, |(word, _)| *word);
        [if stays { word.to_ascii_uppercase() } else { word }]
    }
}

/// A worker as its batch sees it.
#[derive(Debug)]
pub struct Worker {
    process: Process,
    word: PipeReader,
    sheet: File,
    /// Where more jobs go to, if its cell may stay.
    more: Option<Peer>,
}

/// What a worker has come to.
#[derive(Debug)]
pub enum Word {
    /// Its answer: a sealed line of so many bytes; and whether it is ready for another job.
    Told(Told, File, u64, bool),
    /// It has left before it took what it was given: nothing of that has begun.
    Declined,
    /// It ended without one, or with one that cannot be passed on.
    Died,
}

impl Worker {
    /// Starts a worker on its errand. `stays`: it may be given more of them.
    ///
    /// # Errors
    /// of memfd, pipe and fork.
    pub fn start(setting: Setting<'_>, pinned: Option<&Pinned>, errand: &Errand, stays: bool) -> Result<Self, Fault> {
        let (ours, theirs) = if stays { Some(socket::pair().map_err(|e| faults::ours(&e))?) } else { None }.unzip();
        let work = |sheet: &File, tell: &PipeWriter| work(setting, pinned, errand.clone(), sheet, tell, theirs.as_ref());
        let worker = Self::beside(setting.replica, pinned, theirs.as_ref(), work)?;
        Ok(Self { more: ours, ..worker })
    }

    /// Gives it one more.
    ///
    /// # Errors
    /// of memfd; EPIPE where it has gone.
    pub fn again(&mut self, errand: &Errand) -> std::io::Result<()> {
        let Some(more) = &self.more else { return Err(std::io::ErrorKind::Unsupported.into()) };
        let mut sheet = sheet::blank().map_err(std::io::Error::other)?;
        sheet.write_all(&errand.text)?;
        more.send(&Again { line: errand.line, digest: errand.digest.clone() }, &[sheet.as_fd()])?;
        self.sheet = sheet;
        Ok(())
    }

    /// There will be none: it ends its cell, and itself.
    pub fn dismiss(&mut self) {
        self.more = None;
    }

    /// Starts one that answers for another, which has died: it demolishes that one's cell. Nothing is left to be told by it then
    /// but whose fault that was.
    ///
    /// # Errors
    /// of memfd, pipe and fork.
    pub fn mourn(&self, setting: Setting<'_>, errand: &Errand) -> Result<Self, Fault> {
        // Until it is reaped nobody else can have its number.
        let pid = self.process.pid;
        let ticks = process::start_ticks(Path::new("/proc"), pid).unwrap_or(0);
        Self::beside(None, None, None, |sheet, tell| mourn(setting, errand.clone(), (pid, ticks), sheet, tell))
    }

    fn beside(
        replica: Option<&Replica>,
        pinned: Option<&Pinned>,
        more: Option<&Peer>,
        act: impl FnOnce(&File, &PipeWriter) -> std::io::Result<()>,
    ) -> Result<Self, Fault> {
        let os = |e| faults::ours(&e);
        let sheet = sheet::blank().map_err(os)?;
        let (word, tell) = std::io::pipe().at("make", "a pipe").map_err(os)?;
        // Its cores stay its own should it outlive us for a moment.
        let mut keep = vec![sheet.as_fd(), tell.as_fd()];
        keep.extend(pinned.into_iter().flat_map(Pinned::fds));
        keep.extend(replica.map(AsFd::as_fd));
        keep.extend(more.map(AsFd::as_fd));
        let process = apart::beside(&keep, || {
            // What cannot be told is told by our silence.
            let _ = act(&sheet, &tell);
        })
        .map_err(os)?;
        Ok(Self { process, word, sheet, more: None })
    }

    /// Readable when there is a word, or will never be one.
    pub fn word(&self) -> BorrowedFd<'_> {
        self.word.as_fd()
    }

    /// Takes its word.
    pub fn hear(&mut self) -> Word {
        let mut word = [0];
        let told = self.word.read(&mut word).ok().filter(|n| *n == 1);
        if told.is_some() && word == DECLINED {
            return Word::Declined;
        }
        let told = told.and_then(|_| WORDS.iter().find(|(w, _)| w.eq_ignore_ascii_case(&word[0])));
        let sealed = || {
            let length = sheet::seal(&self.sheet)?;
            Ok::<_, std::io::Error>((self.sheet.try_clone()?, length, sheet::is_one_line(&self.sheet, length)?))
        };
        match (told, sealed()) {
            (Some((_, told)), Ok((sheet, length, true))) => Word::Told(*told, sheet, length, word[0].is_ascii_uppercase()),
            _ => Word::Died,
        }
    }

    pub fn process(&self) -> &Process {
        &self.process
    }
}

fn work(
    setting: Setting<'_>,
    pinned: Option<&Pinned>,
    errand: Errand,
    sheet: &File,
    tell: &PipeWriter,
    more: Option<&Peer>,
) -> std::io::Result<()> {
    let Errand { line, job, digest, cancelled, .. } = errand;
    if cancelled {
        raise(Signal::SIGTERM)?; // blocked, as in our parent: it waits to be read
    }
    let id = job.id.clone();
    match run::run(Request { pinned, stays: more.is_some(), ..Request::new(setting, job, digest) }) {
        Ok(mut answered) => {
            answered.outcome.line = Some(line);
            let stay = answered.stay.as_mut();
            say(&answered.outcome, Told::of(&answered.outcome).word(stay.is_some()), sheet, tell)?;
            if let Some((stay, more)) = stay.zip(more) {
                let _ = serve(stay, more, setting, tell); // whoever does not hear us any more has died
            }
            answered.clean_up().map_err(std::io::Error::other)
        }
        Err(fault) => say(&Refused { line, id: id.as_ref(), error: &fault }, Told::Refused.word(false), sheet, tell),
    }
}

/// One job after the other, as long as there are any and the cell is fit for them.
fn serve(stay: &mut Stay, more: &Peer, setting: Setting<'_>, mut tell: &PipeWriter) -> std::io::Result<()> {
    while stay.wait(more.as_fd()) {
        let Some(Packet { message: Again { line, digest }, fds, .. }) = more.receive(true)? else { break };
        let [sheet]: [OwnedFd; 1] = fds.try_into().map_err(|_| std::io::ErrorKind::InvalidData)?;
        let mut sheet = File::from(sheet);
        let mut text = Vec::new();
        sheet.rewind()?;
        sheet.read_to_end(&mut text)?;
        sheet.set_len(0)?;
        sheet.rewind()?;
        let job = document::job(&text).map_err(|fault| std::io::Error::other(fault.message))?; // it was one when it was read
        let id = job.id.clone();
        match stay.next(job, &digest, setting) {
            Ok(mut outcome) => {
                outcome.line = Some(line);
                say(&outcome, Told::of(&outcome).word(stay.ready()), &sheet, tell)?;
            }
            Err(fault) => {
                say(&Refused { line, id: id.as_ref(), error: &fault }, Told::Refused.word(stay.ready()), &sheet, tell)?;
            }
        }
    }
    tell.write_all(&DECLINED)
}

/// Spelled as it goes: escaped, 8 MiB of output can be 48 MiB.
fn say(document: &impl Serialize, word: [u8; 1], sheet: &File, mut tell: &PipeWriter) -> std::io::Result<()> {
    let mut out = BufWriter::with_capacity(32 * 1024, sheet);
    serde_json::to_writer(&mut out, document)?;
    out.write_all(b"\n")?;
    out.flush()?;
    drop(out);
    tell.write_all(&word)
}

fn mourn(setting: Setting<'_>, errand: Errand, dead: (i32, u64), sheet: &File, tell: &PipeWriter) -> std::io::Result<()> {
    let Errand { line, job, digest, .. } = errand;
    let id = job.id.clone();
    let refuse = |fault: Fault| say(&Refused { line, id: id.as_ref(), error: &fault }, Told::Refused.word(false), sheet, tell);
    let Some((run, buried)) = buried(setting, dead).unwrap_or_default() else {
        return refuse(Fault::ours("worker:died", "the job's supervisor died before the job was started"));
    };
    let labels = job.labels.clone();
    let planned = match decide(job, None, setting) {
        Ok(planned) => planned,
        Err(fault) => return refuse(fault),
    };
    let frame = Frame::new(id.clone(), labels, &digest, &planned.plan, &planned.host, planned.image);
    let nothing = || Stream::new(Vec::new(), 0);
    let evidence = Evidence {
        fate: Fate::NotReached,
        stop: None,
        host_fault: Some("the job's supervisor died".to_owned()),
        usage: Default::default(),
        stdout: nothing(),
        stderr: nothing(),
        files: Default::default(),
    };
    let mut outcome = frame.outcome(run, evidence, Phases::default(), buried);
    outcome.line = Some(line);
    say(&outcome, Told::HostError.word(false), sheet, tell)
}

/// A run, and why not all of it is gone where that is so.
type Burial = (String, Result<(), String>);

/// Demolishes the run of a supervisor that has died, if it had begun one, and answers its name and whether all of it is gone.
fn buried(setting: Setting<'_>, (pid, ticks): (i32, u64)) -> Result<Option<Burial>, Fault> {
    let home = settings::home(setting.root, setting.policy)?;
    let trees = host::trees()?;
    for dir in runs::names(&home).map_err(|e| faults::ours(&e))? {
        let its = runs::read(&dir).is_some_and(|r| (r.supervisor.pid, r.supervisor.start_ticks) == (pid, ticks));
        if !its {
            continue;
        }
        let run = dir.id.to_string();
        let demolished = match demolish::claim_dead(dir) {
            Ok(Some(Found::Stale(owned))) => demolish::stale(&home, &trees, owned).map_err(|e| e.to_string()),
            Ok(None) => Ok(()),
            Ok(Some(Found::Live(_))) => Err("somebody holds on to it".to_owned()),
            Err(e) => Err(e.to_string()),
        };
        return Ok(Some((run, demolished)));
    }
    Ok(None)
}
