//! Many jobs: lines in, answers out, so many at a time.
//!
//! Theory of operation. One poll loop. A line becomes a ticket and waits in a short queue; nothing more is read while that is
//! full, or while whoever listens is slow. A ticket gets a lane, which is a process of its own (`work/worker.rs`): the rights to
//! start cells stay here, where nothing is read that a program wrote. Its answer is a sealed file, copied to the journal and
//! then out. Between lanes there is nothing to share but the id ranges, so that one job's disaster is its own.
//!
//! The end comes by stages. No more lines: what was read is finished. A first signal: what runs is finished, what waits and what
//! comes is refused. A second one, or nobody listening: what runs is stopped.

use super::cellar::{Aid, Cellar};
use super::decide::Setting;
use super::host;
use super::kept::Kept;
use super::lane::{Lane, News, Ticket};
use super::outbox::Outbox;
use super::pin::{self, Pinned};
use super::tally::{End, Tally};
use super::waiting::{self, Queue, Waiting};
use super::worker::{Errand, Told};
use super::{faults, gc, remember, settings};
use crate::model::cores::Pin;
use crate::model::document;
use crate::model::fault::Fault;
use crate::model::job::Job;
use crate::model::lines::{self, Heard, Line, Malformed, Refused, Was};
use crate::model::names::JobId;
use crate::os::error::At;
use crate::os::lines::{Lines, Piece};
use crate::os::signal::{self, Signals};
use crate::os::watch::{self, For};
use crate::os::{clock, probe};
use crate::rules::ahead::Kind;
use crate::rules::reuse::{self, Kin};
use crate::store::cells;
use crate::store::journal::Journal;
use nix::sys::signal::Signal;
use serde::Serialize;
use sha2::{Digest, Sha256};
use std::os::fd::BorrowedFd;
use std::path::Path;

/// How often progress is told.
const TICK_NS: u64 = 250_000_000;

/// What is to be done.
pub struct Request<'a> {
    pub setting: Setting<'a>,
    pub input: BorrowedFd<'a>,
    pub out: BorrowedFd<'a>,
    /// How many jobs run at a time.
    pub jobs: usize,
    /// How many more are read, and how many cells wait for them.
    pub ahead: usize,
    pub journal: Option<&'a Path>,
    /// How many cores each of them has of its own, if any, and how.
    pub pin: Option<(Pin, usize)>,
    /// Whether a cell may serve one job of an avatar after the other.
    pub reuse: bool,
    /// Whom to tell how far it has come, now and then.
    pub progress: Option<&'a mut dyn FnMut(&Tally)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Stage {
    Open,
    Draining,
    CalledOff,
}

/// What is remembered of an answer until it is out.
struct Tag {
    /// To be marked in the journal.
    journaled: Option<JobId>,
    /// `None` where it is about no job.
    told: Option<Told>,
    bytes: u64,
}

struct Batch<'a> {
    setting: Setting<'a>,
    input: BorrowedFd<'a>,
    jobs: usize,
    ahead: usize,
    /// Cores for as many jobs as run, or for none.
    pins: &'a [Pinned],
    lines: Lines,
    line: u64,
    queue: Queue,
    lanes: Vec<Lane>,
    cellar: Cellar,
    kept: Kept,
    /// Whether there may be such.
    reuse: bool,
    outbox: Outbox<'a, Tag>,
    journal: Option<Journal>,
    stage: Stage,
    tally: Tally,
    began_ns: u64,
}

/// Answers lines until there are no more.
///
/// # Errors
/// exit 2 for a journal that cannot be used, exit 3 where this host cannot run cells, exit 4 where the input cannot be read or
/// the journal not written; what was running has been stopped then.
pub fn batch(request: Request<'_>) -> Result<End, Fault> {
    let os = |e| faults::ours(&e);
    let Request { setting, input, out, jobs, ahead, journal, pin, reuse, mut progress } = request;
    let signals = signal::catch(&[Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP]).at("catch", "signals").map_err(os)?;
    let home = settings::home(setting.root, setting.policy)?;
    let host = host::look(&home, setting.policy, setting.runtime)?;
    let pins = match pin {
        None => Vec::new(),
        Some((pin, count)) => (0..jobs).map(|_| pin::lease(&home, pin, count)).collect::<Result<_, _>>()?,
    };
    let (journal, untold) = journal.map(remember::open).transpose()?.unzip();
    // Cells that wait must not take the ranges of host ids that jobs need.
    // Nor must those that make them disturb jobs that are to be undisturbed.
    let ahead_of_time = if pin.is_some() { 0 } else { ahead };
    let slots = setting.policy.ids.slots() as usize;
    let most = ahead_of_time.min(slots.saturating_sub(if reuse { 2 * jobs } else { jobs }));
    let cellar = Cellar::new(home.clone(), &host, ahead, most, probe::cpus() as usize);
    let stat = nix::sys::stat::fstat(input).ok().filter(|stat| stat.st_mode & libc::S_IFMT == libc::S_IFREG);
    let mut batch = Batch {
        setting,
        input,
        jobs,
        ahead,
        pins: &pins,
        lines: Lines::new(document::MOST as usize),
        line: 0,
        queue: Queue::default(),
        lanes: Vec::new(),
        cellar,
        kept: Kept::new(jobs, slots - most),
        reuse,
        outbox: Outbox::new(out),
        journal,
        stage: Stage::Open,
        tally: Tally { input_bytes: stat.map(|stat| stat.st_size as u64), ..Tally::default() },
        began_ns: clock::now_ns(),
    };
    for (piece, journal) in untold.into_iter().flatten().zip(batch.journal.iter().cycle()) {
        let file = journal.file().map_err(os)?;
        batch.outbox.put_file(file, piece.offset, piece.bytes, Tag { journaled: Some(piece.id), told: None, bytes: 0 });
    }
    let mut tick = progress.as_ref().map(|_| 0);
    let mut failed = None;
    while !batch.over() {
        if let Err(fault) = batch.step(&signals, tick) {
            if failed.is_some() {
                break; // what still runs is told by our end
            }
            batch.journal = None;
            batch.call_off();
            failed = Some(fault);
        }
        if let (Some(progress), Some(at)) = (&mut progress, tick)
            && clock::now_ns() >= at
        {
            progress(&batch.tally());
            tick = Some(clock::now_ns() + TICK_NS);
        }
    }
    batch.cellar.drain();
    gc::in_passing(&home, &host.trees, &cells::all(&home));
    if let Some(progress) = progress {
        progress(&batch.tally());
    }
    match failed {
        Some(fault) => Err(fault),
        None if batch.lines.ended() && !batch.outbox.deserted() => Ok(End::Whole),
        None => Ok(End::Early),
    }
}

#[derive(Clone, Copy)]
enum Source {
    Input,
    Signals,
    Out,
    Lane(usize),
    Aid(Aid),
    Kept,
}

impl Batch<'_> {
    fn over(&self) -> bool {
        let no_more = self.lines.ended() || self.stage != Stage::Open;
        no_more && self.queue.is_empty() && self.lanes.is_empty() && self.outbox.is_empty() && self.kept.is_empty()
    }

    fn step(&mut self, signals: &Signals, tick: Option<u64>) -> Result<(), Fault> {
        let os = |e| faults::ours(&e);
        self.take_lines();
        self.fill_lanes();
        let mut barren = None;
        if self.stage == Stage::Open {
            let waits = |w: &&Waiting| !w.ticket.kin.as_ref().is_some_and(|kin| self.has(kin));
            let queued: Vec<(Kind, &Job)> = self.queue.iter().filter(waits).map(|w| (w.kind, &w.shape)).collect();
            // Without cells made ahead it is slower, no more.
            barren = self.cellar.tend(self.setting, self.lanes.len(), &queued, !self.lines.ended()).ok().flatten();
        }
        if self.over() {
            return Ok(());
        }
        let tick = tick.filter(|_| !self.lanes.is_empty());
        let idle = self.kept.tend();
        let until = [tick, idle, barren].into_iter().flatten().min();
        let ready = watch::any(&self.sources(signals), until).at("wait for", "the batch's jobs").map_err(os)?;
        // From the last number to the first, as what is over is taken out.
        for source in ready.into_iter().rev() {
            match source {
                Source::Input => self.lines.fill(self.input).at("read", "the batch's input").map_err(os)?,
                Source::Signals => self.signalled(signals)?,
                Source::Out => self.push()?,
                Source::Lane(n) => self.look(n)?,
                Source::Aid(aid) => self.cellar.hear(aid),
                Source::Kept => self.kept.reap(),
            }
        }
        Ok(())
    }

    fn sources<'s>(&'s self, signals: &'s Signals) -> Vec<(Source, BorrowedFd<'s>, For)> {
        use std::os::fd::AsFd;
        let mut all = vec![(Source::Signals, signals.as_fd(), For::Read)];
        if self.lines.open() && self.wants_lines() {
            all.push((Source::Input, self.input, For::Read));
        }
        all.extend(self.outbox.source().map(|(fd, what)| (Source::Out, fd, what)));
        all.extend(self.lanes.iter().enumerate().map(|(n, lane)| (Source::Lane(n), lane.source(), For::Read)));
        all.extend(self.cellar.sources().map(|(aid, fd)| (Source::Aid(aid), fd, For::Read)));
        all.extend(self.kept.sources().map(|fd| (Source::Kept, fd, For::Read)));
        all
    }

    /// One more than there is to be looked ahead: behind as many jobs as run and wait, a cancellation is still heard.
    fn wants_lines(&self) -> bool {
        let room = self.queue.has_room(self.ahead);
        match self.stage {
            Stage::Open => room && !self.clogged(),
            // A file's lines need no refusal each: whoever has the file knows that they are not answered.
            Stage::Draining => self.tally.input_bytes.is_none() && !self.clogged(),
            Stage::CalledOff => false,
        }
    }

    /// Whoever listens is slow.
    fn clogged(&self) -> bool {
        self.outbox.len() > self.jobs + self.ahead
    }

    fn take_lines(&mut self) {
        while self.wants_lines()
            && let Some(piece) = self.lines.take()
        {
            self.line += 1;
            match piece {
                Piece::TooLong => {
                    let fault = Fault::caller("job:too_large", "the line is longer than 64 MiB").at("job");
                    self.refuse(self.line, None, &fault.hint("name large files by {\"file\": …} or mount them"), 0);
                }
                Piece::Line(line) if line.iter().all(u8::is_ascii_whitespace) => {}
                Piece::Line(line) => self.take(&line),
            }
        }
    }

    fn take(&mut self, line: &[u8]) {
        let bytes = line.len() as u64 + 1;
        match lines::read(line) {
            Ok(Line::Cancel(id)) => self.cancel(&id, bytes),
            Err(Malformed { id, fault }) => self.refuse(self.line, id.as_ref(), &fault, bytes),
            Ok(Line::Job(job)) => {
                let id = job.id.clone();
                if let Err(fault) = self.admit(*job, line, bytes) {
                    self.refuse(self.line, id.as_ref(), &fault, bytes);
                }
            }
        }
    }

    /// Puts a job into the queue, unless it is done already.
    fn admit(&mut self, job: Job, line: &[u8], bytes: u64) -> Result<(), Fault> {
        if self.stage != Stage::Open {
            return Err(waiting::ending());
        }
        let same = |ticket: &Ticket| job.id.is_some() && ticket.id() == job.id.as_ref();
        if self.queue.iter().any(|w| same(&w.ticket)) || self.lanes.iter().any(|lane| same(&lane.ticket)) {
            return Err(remember::twice());
        }
        let meaning = match &mut self.journal {
            None => None,
            Some(journal) => match remember::look(journal, &job)? {
                Some(meaning) => Some(meaning),
                None => {
                    self.tally.before += 1;
                    self.tally.done_bytes += bytes;
                    return Ok(());
                }
            },
        };
        let digest = Sha256::digest(line).iter().map(|b| format!("{b:02x}")).collect();
        let kin = reuse::kin(&job).filter(|_| self.reuse);
        let text = if kin.is_some() && reuse::may_follow(&job) { line.to_vec() } else { Vec::new() };
        let errand = Errand { line: self.line, job, digest, cancelled: false, text };
        self.queue.push(Ticket { errand, meaning, bytes, kin })
    }

    fn fill_lanes(&mut self) {
        while self.lanes.iter().filter(|lane| !lane.ticket.errand.cancelled).count() < self.jobs
            && !self.clogged()
            && !self.queue.is_empty()
            && self.kept.make_room(self.lanes.len(), self.queue.kin())
            && let Some(Waiting { ticket, kind, shape }) = self.queue.pop()
        {
            match self.kept.follow(ticket) {
                Ok(lane) => self.lanes.push(lane),
                Err(ticket) => {
                    self.begin(*ticket);
                    self.cellar.begins(kind, shape);
                }
            }
        }
        if self.stage != Stage::Open || (self.lines.ended() && self.queue.is_empty()) {
            self.kept.drain(); // nothing comes any more
        }
        self.tally.running = self.lanes.len();
    }

    /// Whether a cell of this kin serves, or waits to.
    fn has(&self, kin: &Kin) -> bool {
        self.kept.has(kin) || self.lanes.iter().any(|lane| lane.ticket.kin.as_ref() == Some(kin))
    }

    fn begin(&mut self, ticket: Ticket) {
        let free = |n: &usize| self.lanes.iter().all(|lane| lane.place != Some(*n));
        let place = (0..self.pins.len()).find(free).filter(|_| !ticket.errand.cancelled);
        let pinned = place.and_then(|n| Some((n, self.pins.get(n)?)));
        match Lane::begin(self.cellar.furnish(self.setting, self.lanes.len()), pinned, ticket) {
            Ok(lane) => self.lanes.push(lane),
            Err(failed) => {
                let (ticket, fault) = *failed;
                self.refuse(ticket.errand.line, ticket.id(), &fault, ticket.bytes);
            }
        }
    }

    fn cancel(&mut self, id: &JobId, bytes: u64) {
        let queued = self.queue.take(id);
        let running = self.lanes.iter().find(|lane| lane.ticket.id() == Some(id));
        let was = match (&queued, running) {
            (Some(_), _) => Was::Queued,
            (None, Some(_)) => Was::Running,
            (None, None) => Was::Unknown,
        };
        running.into_iter().for_each(Lane::cancel);
        self.answer(&Heard { line: self.line, cancel: id, was }, None, bytes);
        if let Some(mut ticket) = queued {
            ticket.errand.cancelled = true;
            self.begin(ticket);
        }
    }

    fn refuse(&mut self, line: u64, id: Option<&JobId>, fault: &Fault, bytes: u64) {
        self.answer(&Refused { line, id, error: fault }, Some(Told::Refused), bytes);
    }

    fn answer(&mut self, document: &impl Serialize, told: Option<Told>, bytes: u64) {
        // Words of ours: they can be spelled.
        let mut text = serde_json::to_vec(document).unwrap_or_default();
        text.push(b'\n');
        self.outbox.put(text, Tag { journaled: None, told, bytes });
    }

    fn look(&mut self, n: usize) -> Result<(), Fault> {
        let Some(lane) = self.lanes.get_mut(n) else { return Ok(()) };
        match lane.look(self.setting) {
            News::Later => {}
            News::Over => {
                self.lanes.swap_remove(n);
                self.cellar.over();
            }
            News::Silence => {
                let Ticket { errand, bytes, .. } = &lane.ticket;
                let (line, id, bytes) = (errand.line, errand.job.id.clone(), *bytes);
                let fault = Fault::ours("worker:died", "the job's supervisor died, and so did the one that was to answer for it");
                self.refuse(line, id.as_ref(), &fault.hint("runcell gc removes what is left"), bytes);
            }
            News::Declined => {
                let (worker, ticket) = self.lanes.swap_remove(n).part();
                self.kept.dismiss(worker);
                self.begin(ticket);
            }
            News::Answer(told, sheet, length, ready) => {
                // What only our own end has stopped is to be run by the batch that goes on.
                let ours = told == Told::Cancelled && self.stage == Stage::CalledOff;
                let journal = self.journal.as_mut().filter(|_| !ours && told != Told::Refused);
                let journaled =
                    journal.map(|journal| remember::done(journal, &lane.ticket, &sheet, length)).transpose()?.flatten();
                self.outbox.put_file(sheet, 0, length, Tag { journaled, told: Some(told), bytes: lane.ticket.bytes });
                if ready {
                    let lane = self.lanes.swap_remove(n);
                    if !lane.follows {
                        self.cellar.over();
                    }
                    let (worker, Ticket { kin, .. }) = lane.part();
                    if let Some(kin) = kin {
                        self.kept.put(worker, kin);
                    }
                }
            }
        }
        Ok(())
    }

    fn push(&mut self) -> Result<(), Fault> {
        let out = self.outbox.push().at("write", "the batch's answers").map_err(|e| faults::ours(&e))?;
        if self.outbox.deserted() {
            self.call_off();
        }
        let Some(Tag { journaled, told, bytes }) = out else { return Ok(()) };
        if let (Some(id), Some(journal)) = (journaled, &mut self.journal) {
            journal.told(&id).map_err(|e| faults::ours(&e))?;
        }
        self.tally.count(told, bytes);
        Ok(())
    }

    fn signalled(&mut self, signals: &Signals) -> Result<(), Fault> {
        // One a turn, so that a storm of them does not keep answers from being told.
        if signals.next().at("read", "signals").map_err(|e| faults::ours(&e))?.is_some() {
            match self.stage {
                Stage::Open => self.drain(),
                Stage::Draining | Stage::CalledOff => self.call_off(),
            }
        }
        Ok(())
    }

    /// What runs is finished; what waits is refused.
    fn drain(&mut self) {
        self.stage = Stage::Draining;
        while let Some(Waiting { ticket, .. }) = self.queue.pop() {
            self.refuse(ticket.errand.line, ticket.id(), &waiting::ending(), ticket.bytes);
        }
    }

    /// What runs is stopped; once more, and it is killed.
    fn call_off(&mut self) {
        self.drain();
        self.stage = Stage::CalledOff;
        self.lanes.iter().for_each(Lane::cancel);
    }

    fn tally(&self) -> Tally {
        Tally { elapsed_ns: clock::now_ns().saturating_sub(self.began_ns), ..self.tally }
    }
}
