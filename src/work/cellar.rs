//! A batch's own waiting cells, made ahead by processes of their own while jobs run. A job finds them as it finds any waiting
//! cell, so that nothing depends on one: where one has died or another has taken it, the job's cell is made for it.

use super::copyist::Copyist;
use super::decide::Setting;
use super::host::Host;
use super::warm::{self, Made, Request};
use super::{demolish, faults};
use crate::model::fault::Fault;
use crate::model::job::Job;
use crate::model::limits::Asked;
use crate::model::names::RunId;
use crate::os::cgroup::Trees;
use crate::os::error::At;
use crate::os::process::Process;
use crate::os::{apart, clock};
use crate::rules::ahead::{self, Kind, Stock};
use crate::store::cells::{self, Waiting};
use crate::store::home::Home;
use sha2::{Digest, Sha256};
use std::io::{PipeReader, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};

/// How long a cell waits, in seconds: also what is left of a batch that was killed is gone after it.
const TTL: u64 = 300;
/// After this time without a job nothing more is made: cells that nobody takes are not made again and again.
const IDLE_NS: u64 = TTL * 1_000_000_000;
/// How long a kind is left alone of which a cell could not be made.
const BARREN_NS: u64 = 10_000_000_000;
/// More kinds than these are not remembered as barren.
const BARREN_MOST: usize = 64;
/// Two numbers and a blank: the words of a maker.
const WORDS_MOST: u64 = 256;

/// Who works for a batch's cells.
#[derive(Clone, Copy, Debug)]
pub enum Aid {
    /// By number.
    Maker(usize),
    Copyist,
}

#[derive(Debug)]
struct Maker {
    process: Process,
    word: PipeReader,
    kind: Kind,
}

/// A cell that we have made and nobody has taken, as far as we know.
#[derive(Debug)]
struct Own {
    cell: Waiting,
    kind: Kind,
    /// A job is on its way to it.
    promised: bool,
}

/// What is made ahead.
#[derive(Debug)]
pub struct Cellar {
    home: Home,
    trees: Trees,
    makers: Vec<Maker>,
    copyist: Copyist,
    own: Vec<Own>,
    /// Whether some of them may have gone since they were looked at: only a job takes one.
    stale: bool,
    barren: Vec<(Kind, u64)>,
    /// The job that began last, as its shape.
    last: Option<(Kind, Job)>,
    last_ns: u64,
    spare: usize,
    most: usize,
    /// As many as there are cpus.
    makers_most: usize,
}

/// The kind of a job, and the job that is left when all is taken away that a cell is given late.
pub fn kind(job: &Job) -> Result<(Kind, Job), Fault> {
    let limits = Asked { memory: job.limits.memory, sandbox: job.limits.sandbox, inodes: job.limits.inodes, ..Asked::default() };
    let shape = Job {
        bundle: job.bundle.clone(),
        image: job.image.clone(),
        user: job.user,
        mounts: job.mounts.clone(),
        network: job.network,
        writable_root: job.writable_root,
        limits,
        ..Job::default()
    };
    let words = serde_json::to_vec(&shape).map_err(|e| Fault::ours("internal", e.to_string()))?;
    let mut half = Kind::default();
    half.iter_mut().zip(Sha256::digest(words)).for_each(|(to, from)| *to = from);
    Ok((half, shape))
}

impl Cellar {
    /// At most `most` cells wait, `spare` of them beyond what the queue needs; as many processes make them at a time as there are `cpus`.
    pub fn new(home: Home, host: &Host, spare: usize, most: usize, cpus: usize) -> Self {
        Self {
            home,
            trees: host.trees.clone(),
            makers: Vec::new(),
            copyist: Copyist::of(&host.runtime),
            own: Vec::new(),
            stale: false,
            barren: Vec::new(),
            last: None,
            last_ns: 0,
            spare,
            most,
            makers_most: cpus,
        }
    }

    /// A job begins: one of its kind is promised to it.
    pub fn begins(&mut self, kind: Kind, shape: Job) {
        if let Some(own) = self.own.iter_mut().find(|own| own.kind == kind && !own.promised) {
            own.promised = true;
        }
        self.last = Some((kind, shape));
        self.last_ns = clock::now_ns();
        self.stale = true;
        self.copyist.begins();
    }

    /// The setting in which one cell more is made, beside so many jobs that run: by now the runtime may be a copy.
    pub fn furnish<'s>(&'s self, setting: Setting<'s>, running: usize) -> Setting<'s> {
        let crowded = running + self.makers.len() + 1 >= self.makers_most;
        Setting { replica: self.copyist.replica(), crowded, ..setting }
    }

    /// Starts makers where cells are wanted, beside so many jobs that are `running`. `queued`: the jobs that wait, first come first; `more`: whether others may come.
    /// Answers when a kind of which none could be made is to be tried again: by then nothing else may have happened.
    ///
    /// # Errors
    /// of pipe and fork.
    pub fn tend(
        &mut self,
        setting: Setting<'_>,
        running: usize,
        queued: &[(Kind, &Job)],
        more: bool,
    ) -> Result<Option<u64>, Fault> {
        let now = clock::now_ns();
        if self.most == 0 || self.makers.len() >= self.makers_most || now.saturating_sub(self.last_ns) > IDLE_NS {
            return Ok(None);
        }
        self.own.retain(|own| !own.cell.expired() && (!self.stale || own.cell.dir().path().exists()));
        self.stale = false;
        self.barren.retain(|(_, until)| *until > now);
        let spare = if more { self.spare } else { 0 };
        let kinds: Vec<Kind> = queued.iter().map(|(kind, _)| *kind).collect();
        while self.makers.len() < self.makers_most {
            let waiting = self.own.iter().filter(|own| !own.promised).map(|own| own.kind);
            let cells: Vec<Kind> = waiting.chain(self.makers.iter().map(|maker| maker.kind)).collect();
            let last = self.last.as_ref().map(|(kind, _)| *kind);
            let stock = Stock { queued: &kinds, cells: &cells, last, spare, most: self.most };
            let Some(kind) = ahead::next(stock, |kind| self.barren.iter().any(|(k, _)| k == kind)) else { break };
            let shapes = queued.iter().map(|(k, shape)| (k, *shape)).chain(self.last.iter().map(|(k, shape)| (k, shape)));
            let Some((_, shape)) = shapes.into_iter().find(|(k, _)| **k == kind) else { break };
            let maker = Maker::start(self.furnish(setting, running), kind, shape)?;
            self.makers.push(maker);
        }
        Ok(self.barren.iter().map(|(_, until)| *until).min())
    }

    /// What to poll for reading.
    pub fn sources(&self) -> impl Iterator<Item = (Aid, BorrowedFd<'_>)> {
        let makers = self.makers.iter().enumerate().map(|(n, maker)| (Aid::Maker(n), maker.word.as_fd()));
        makers.chain(self.copyist.source().map(|fd| (Aid::Copyist, fd)))
    }

    /// Takes the word of who has ended.
    pub fn hear(&mut self, aid: Aid) {
        match aid {
            Aid::Maker(number) => self.hear_maker(number),
            Aid::Copyist => self.copyist.hear(),
        }
    }

    fn hear_maker(&mut self, number: usize) {
        let mut maker = self.makers.swap_remove(number);
        match maker.hear() {
            // Where it is not found a job has taken it already.
            Some((shape, run)) => {
                let cell = cells::of(&self.home, &shape).into_iter().find(|cell| cell.id == run);
                self.own.extend(cell.map(|cell| Own { cell, kind: maker.kind, promised: false }));
            }
            None if self.barren.len() < BARREN_MOST => self.barren.push((maker.kind, clock::now_ns() + BARREN_NS)),
            None => {}
        }
    }

    /// A job is over: what it was promised and did not take is there for the next.
    pub fn over(&mut self) {
        self.own.retain(|own| own.cell.dir().path().exists());
        if let Some(own) = self.own.iter_mut().find(|own| own.promised) {
            own.promised = false;
        }
    }

    /// Ends all of it.
    pub fn drain(&mut self) {
        for maker in &self.makers {
            let _ = maker.process.terminate(); // it may just have ended
        }
        while !self.makers.is_empty() {
            self.hear_maker(0); // its end bounds this: it stops at once, and has the policy's time at most
        }
        for own in self.own.drain(..) {
            let _ = demolish::burn(&self.home, &self.trees, &own.cell); // one that resists is left to gc
        }
        cells::tidy(&self.home);
    }
}

impl Maker {
    fn start(setting: Setting<'_>, kind: Kind, shape: &Job) -> Result<Self, Fault> {
        let os = |e| faults::ours(&e);
        let (word, tell) = std::io::pipe().at("make", "a pipe").map_err(os)?;
        let keep: Vec<_> = std::iter::once(tell.as_fd()).chain(setting.replica.map(AsFd::as_fd)).collect();
        let process = apart::beside(&keep, || {
            let request = Request { job: shape.clone(), setting, count: 1, ttl: TTL, own: None };
            // Why there is none, the job itself will tell.
            if let Ok(Made { shape, run }) = warm::more(request) {
                let _ = (&tell).write_all(format!("{shape} {run}").as_bytes());
            }
        })
        .map_err(os)?;
        Ok(Self { process, word, kind })
    }

    /// Waits for its end: the shape and the run of what it has made.
    fn hear(&mut self) -> Option<(String, RunId)> {
        let mut words = String::new();
        let _ = self.word.by_ref().take(WORDS_MOST).read_to_string(&mut words);
        let _ = self.process.wait(clock::now_ns() + 1_000_000_000);
        let (shape, run) = words.split_once(' ')?;
        Some((shape.to_owned(), RunId::try_from(run.to_owned()).ok()?))
    }
}
