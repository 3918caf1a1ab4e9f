//! A job of a batch between its beginning and its last trace: who works on it, and who answers for one that died.

use super::decide::Setting;
use super::pin::Pinned;
use super::worker::{Errand, Told, Word, Worker};
use crate::model::fault::Fault;
use crate::model::names::JobId;
use crate::os::clock;
use crate::rules::reuse::Kin;
use crate::store::journal::JobDigest;
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd};

/// What else belongs to a job in a batch.
#[derive(Clone, Debug)]
pub struct Ticket {
    pub errand: Errand,
    /// sha256 of what the job means, however it was spelled; where there is a journal.
    pub meaning: Option<JobDigest>,
    /// How long its line was.
    pub bytes: u64,
    /// What a job must have alike to follow this one in its cell, or this one another; `None`: it is alone.
    pub kin: Option<Kin>,
}

impl Ticket {
    pub fn id(&self) -> Option<&JobId> {
        self.errand.job.id.as_ref()
    }
}

/// One job under way.
#[derive(Debug)]
pub struct Lane {
    pub ticket: Ticket,
    worker: Worker,
    /// Who answers for it.
    mourner: Option<Worker>,
    answered: bool,
    /// Which cores it has, by number.
    pub place: Option<usize>,
    /// Whether its cell has served before.
    pub follows: bool,
}

/// What has become of a job.
#[derive(Debug)]
pub enum News {
    /// A sealed line of so many bytes; and whether its worker is ready for another job.
    Answer(Told, File, u64, bool),
    /// Neither it nor who answered for it has said anything.
    Silence,
    /// Its worker had gone, as it may, before it came.
    Declined,
    /// Nothing yet.
    Later,
    /// Answered before, and now all of it is gone.
    Over,
}

impl Lane {
    /// # Errors
    /// of fork and what it needs.
    pub fn begin(setting: Setting<'_>, pinned: Option<(usize, &Pinned)>, ticket: Ticket) -> Result<Self, Box<(Ticket, Fault)>> {
        let place = pinned.map(|(place, _)| place);
        match Worker::start(setting, pinned.map(|(_, pinned)| pinned), &ticket.errand, ticket.kin.is_some()) {
            Ok(worker) => Ok(Self { ticket, worker, mourner: None, answered: false, place, follows: false }),
            Err(fault) => Err(Box::new((ticket, fault))),
        }
    }

    /// The same with a worker whose cell has served before.
    ///
    /// # Errors
    /// gives the ticket back where it has gone.
    pub fn follow(mut worker: Worker, ticket: Ticket) -> Result<Self, Box<(Worker, Ticket)>> {
        match worker.again(&ticket.errand) {
            Ok(()) => Ok(Self { ticket, worker, mourner: None, answered: false, place: None, follows: true }),
            Err(_) => Err(Box::new((worker, ticket))),
        }
    }

    /// Its worker, which is not at work for it, and its ticket.
    pub fn part(self) -> (Worker, Ticket) {
        (self.worker, self.ticket)
    }

    /// Readable when there are news.
    pub fn source(&self) -> BorrowedFd<'_> {
        let active = self.mourner.as_ref().unwrap_or(&self.worker);
        if self.answered { active.process().as_fd() } else { active.word() }
    }

    /// TERM: the program gets it too, and its grace; a second one is impatience. A worker that is ready for another job ends of it.
    pub fn cancel(&self) {
        let _ = self.worker.process().terminate(); // it may just have ended
    }

    /// Looks what has become of it, once [`Self::source`] is readable.
    pub fn look(&mut self, setting: Setting<'_>) -> News {
        if self.answered {
            return self.reap();
        }
        let word = self.mourner.as_mut().unwrap_or(&mut self.worker).hear();
        match word {
            Word::Told(told, sheet, bytes, ready) => {
                self.answered = true;
                return News::Answer(told, sheet, bytes, ready);
            }
            Word::Declined if self.follows && self.mourner.is_none() => return News::Declined,
            Word::Declined | Word::Died => {}
        }
        if self.mourner.is_none() {
            // One that says nonsense is as good as dead, and must not go on.
            self.worker.process().kill();
            let _ = self.worker.process().await_end(clock::now_ns() + 1_000_000_000);
            self.mourner = self.worker.mourn(setting, &self.ticket.errand).ok();
            if self.mourner.is_some() {
                return News::Later;
            }
        }
        self.answered = true;
        News::Silence
    }

    /// The worker's number is free for others only when nobody needs it any more to find what it has left.
    fn reap(&mut self) -> News {
        let now = clock::now_ns();
        let all = [Some(&self.worker), self.mourner.as_ref()];
        let over = all.into_iter().flatten().all(|worker| !matches!(worker.process().wait(now), Ok(None)));
        if over { News::Over } else { News::Later }
    }
}
