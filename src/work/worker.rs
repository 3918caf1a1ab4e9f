//! One job of a batch in a process of its own: a supervisor gives up its rights for good, and dies alone.
//!
//! Its answer goes on a sheet. When that is whole it says one byte, which is all that the batch believes of it: the sheet is
//! sealed then and must be one line, but is not read, as a program wrote parts of it.

use super::answer::Frame;
use super::pin::Pinned;
use super::run::{self, Request};
use super::{demolish, faults, host, settings};
use crate::model::evidence::{Evidence, Fate};
use crate::model::fault::Fault;
use crate::model::job::Job;
use crate::model::lines::Refused;
use crate::model::outcome::{Outcome, Phases, Stream, Verdict};
use crate::model::policy::Policy;
use crate::os::error::At;
use crate::os::process::{self, Process};
use crate::os::{apart, sheet};
use crate::store::runs::{self, Found};
use nix::sys::signal::{Signal, raise};
use serde::Serialize;
use std::fs::File;
use std::io::{BufWriter, PipeReader, PipeWriter, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

/// What all jobs of a batch have in common.
#[derive(Clone, Copy)]
pub struct Setting<'a> {
    pub policy: &'a Policy,
    pub root: Option<&'a Path>,
    pub runtime: Option<&'a str>,
    pub best_effort: bool,
    /// Cores of the job's own.
    pub pinned: Option<&'a Pinned>,
}

/// A job as it was read.
#[derive(Clone, Debug)]
pub struct Errand {
    pub line: u64,
    pub job: Job,
    /// sha256 of the line, in hex.
    pub digest: String,
    /// Whether it is only to be told that it was called off.
    pub cancelled: bool,
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

impl Told {
    fn of(outcome: &Outcome) -> Self {
        match outcome.verdict {
            Verdict::Ok => Self::Ok,
            Verdict::Cancelled => Self::Cancelled,
            Verdict::HostError => Self::HostError,
            _ => Self::Otherwise,
        }
    }

    fn word(self) -> [u8; 1] {
        WORDS.iter().find(|(_, told)| *told == self).map_or([0], |(word, _)| [*word])
    }
}

/// A worker as its batch sees it.
#[derive(Debug)]
pub struct Worker {
    process: Process,
    word: PipeReader,
    sheet: File,
}

/// What a worker has come to.
#[derive(Debug)]
pub enum Word {
    /// Its answer: a sealed line of so many bytes.
    Told(Told, File, u64),
    /// It ended without one, or with one that cannot be passed on.
    Died,
}

impl Worker {
    /// Starts a worker on its errand.
    ///
    /// # Errors
    /// of memfd, pipe and fork.
    pub fn start(setting: Setting<'_>, errand: &Errand) -> Result<Self, Fault> {
        Self::beside(setting.pinned, |sheet, tell| work(setting, errand.clone(), sheet, tell))
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
        Self::beside(None, |sheet, tell| mourn(setting, errand.clone(), (pid, ticks), sheet, tell))
    }

    fn beside(pinned: Option<&Pinned>, act: impl FnOnce(&File, &PipeWriter) -> std::io::Result<()>) -> Result<Self, Fault> {
        let os = |e| faults::ours(&e);
        let sheet = sheet::blank().map_err(os)?;
        let (word, tell) = std::io::pipe().at("make", "a pipe").map_err(os)?;
        // Its cores stay its own should it outlive us for a moment.
        let mut keep = vec![sheet.as_fd(), tell.as_fd()];
        keep.extend(pinned.into_iter().flat_map(Pinned::fds));
        let process = apart::beside(&keep, || {
            // What cannot be told is told by our silence.
            let _ = act(&sheet, &tell);
        })
        .map_err(os)?;
        Ok(Self { process, word, sheet })
    }

    /// Readable when there is a word, or will never be one.
    pub fn word(&self) -> BorrowedFd<'_> {
        self.word.as_fd()
    }

    /// Takes its word.
    pub fn hear(&mut self) -> Word {
        let mut word = [0];
        let told = self.word.read(&mut word).ok().filter(|n| *n == 1);
        let told = told.and_then(|_| WORDS.iter().find(|(w, _)| *w == word[0]));
        let sealed = || {
            let length = sheet::seal(&self.sheet)?;
            Ok::<_, std::io::Error>((self.sheet.try_clone()?, length, sheet::is_one_line(&self.sheet, length)?))
        };
        match (told, sealed()) {
            (Some((_, told)), Ok((sheet, length, true))) => Word::Told(*told, sheet, length),
            _ => Word::Died,
        }
    }

    pub fn process(&self) -> &Process {
        &self.process
    }
}

fn work(setting: Setting<'_>, errand: Errand, sheet: &File, tell: &PipeWriter) -> std::io::Result<()> {
    let Errand { line, job, digest, cancelled } = errand;
    if cancelled {
        raise(Signal::SIGTERM)?; // blocked, as in our parent: it waits to be read
    }
    let id = job.id.clone();
    let Setting { policy, root, runtime, best_effort, pinned } = setting;
    let request = Request {
        job,
        digest,
        policy,
        root,
        runtime,
        best_effort,
        stdin: None,
        live: None,
        upper: None,
        stack: None,
        cold: false,
        own: None,
        pinned,
    };
    match run::run(request) {
        Ok(mut answered) => {
            answered.outcome.line = Some(line);
            say(&answered.outcome, Told::of(&answered.outcome), sheet, tell)?;
            answered.clean_up().map_err(std::io::Error::other)
        }
        Err(fault) => say(&Refused { line, id: id.as_ref(), error: &fault }, Told::Refused, sheet, tell),
    }
}

/// Spelled as it goes: escaped, 8 MiB of output can be 48 MiB.
fn say(document: &impl Serialize, told: Told, sheet: &File, mut tell: &PipeWriter) -> std::io::Result<()> {
    let mut out = BufWriter::with_capacity(64 * 1024, sheet);
    serde_json::to_writer(&mut out, document)?;
    out.write_all(b"\n")?;
    out.flush()?;
    drop(out);
    tell.write_all(&told.word())
}

fn mourn(setting: Setting<'_>, errand: Errand, dead: (i32, u64), sheet: &File, tell: &PipeWriter) -> std::io::Result<()> {
    let Errand { line, job, digest, .. } = errand;
    let id = job.id.clone();
    let refuse = |fault: Fault| say(&Refused { line, id: id.as_ref(), error: &fault }, Told::Refused, sheet, tell);
    let Some((run, buried)) = buried(setting, dead).unwrap_or_default() else {
        return refuse(Fault::ours("worker:died", "the job's supervisor died before the job was started"));
    };
    let labels = job.labels.clone();
    let Setting { policy, root, runtime, best_effort, .. } = setting;
    let planned = match run::decide(job, None, policy, root, runtime, best_effort) {
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
    say(&outcome, Told::HostError, sheet, tell)
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
