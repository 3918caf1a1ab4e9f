//! Workers whose cells wait for the next job of their avatar.

use super::lane::{Lane, Ticket};
use super::worker::Worker;
use crate::os::clock;
use crate::rules::reuse::Kin;
use std::os::fd::{AsFd, BorrowedFd};

/// After this time without a job a cell is ended: it holds memory and host ids.
const IDLE_NS: u64 = 10_000_000_000;

#[derive(Debug)]
struct Idle {
    worker: Worker,
    kin: Kin,
    since_ns: u64,
}

/// At most so many of them, the longest idle first to go.
#[derive(Debug)]
pub struct Kept {
    most: usize,
    /// How many ranges of host ids there are for them and for jobs that run.
    ranges: usize,
    idle: Vec<Idle>,
    /// Told to end, and not yet gone.
    leaving: Vec<Worker>,
}

impl Kept {
    pub fn new(most: usize, ranges: usize) -> Self {
        Self { most, ranges, idle: Vec::new(), leaving: Vec::new() }
    }

    /// Gives a job to a cell that has served its avatar before.
    ///
    /// # Errors
    /// the job, where there is none.
    pub fn follow(&mut self, mut ticket: Ticket) -> Result<Lane, Box<Ticket>> {
        while !ticket.errand.text.is_empty()
            && let Some(worker) = ticket.kin.as_ref().and_then(|kin| self.take(kin))
        {
            match Lane::follow(worker, ticket) {
                Ok(lane) => return Ok(lane),
                Err(gone) => {
                    self.dismiss(gone.0);
                    ticket = gone.1;
                }
            }
        }
        Err(Box::new(ticket))
    }

    /// The worker that has waited the shortest.
    fn take(&mut self, kin: &Kin) -> Option<Worker> {
        let last = self.idle.iter().rposition(|idle| idle.kin == *kin)?;
        Some(self.idle.remove(last).worker)
    }

    /// Whether a job of this kin can begin beside so many that run. Where only the idle stand in its way the next of them ends.
    pub fn make_room(&mut self, running: usize, kin: Option<&Kin>) -> bool {
        let room = running + self.idle.len() + self.leaving.len() < self.ranges;
        if room || kin.is_some_and(|kin| self.has(kin)) || (self.idle.is_empty() && self.leaving.is_empty()) {
            return true;
        }
        if self.leaving.is_empty() {
            self.leave(1);
        }
        false
    }

    pub fn has(&self, kin: &Kin) -> bool {
        self.idle.iter().any(|idle| idle.kin == *kin)
    }

    pub fn put(&mut self, worker: Worker, kin: Kin) {
        self.idle.push(Idle { worker, kin, since_ns: clock::now_ns() });
        self.leave(self.idle.len().saturating_sub(self.most));
    }

    /// One that cannot be given a job any more.
    pub fn dismiss(&mut self, mut worker: Worker) {
        worker.dismiss();
        self.leaving.push(worker);
    }

    /// Has the first so many end.
    fn leave(&mut self, count: usize) {
        for idle in self.idle.drain(..count.min(self.idle.len())).collect::<Vec<_>>() {
            self.dismiss(idle.worker);
        }
    }

    /// Ends those that have waited for long; answers when that will be so of the next.
    pub fn tend(&mut self) -> Option<u64> {
        let now = clock::now_ns();
        self.leave(self.idle.iter().take_while(|idle| idle.since_ns + IDLE_NS <= now).count());
        self.idle.first().map(|idle| idle.since_ns + IDLE_NS)
    }

    /// Ends all.
    pub fn drain(&mut self) {
        self.leave(usize::MAX);
    }

    /// Whether all have gone.
    pub fn is_empty(&self) -> bool {
        self.idle.is_empty() && self.leaving.is_empty()
    }

    /// Readable when one has ended.
    pub fn sources(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.idle.iter().map(|idle| &idle.worker).chain(&self.leaving).map(|worker| worker.process().as_fd())
    }

    /// Reaps those that have ended.
    pub fn reap(&mut self) {
        let now = clock::now_ns();
        let lives = |worker: &Worker| matches!(worker.process().wait(now), Ok(None));
        self.idle.retain(|idle| lives(&idle.worker));
        self.leaving.retain(lives);
    }
}
