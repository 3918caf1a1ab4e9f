//! The jobs of a batch that wait for a slot, first come first.

use super::cellar;
use super::lane::Ticket;
use crate::model::fault::Fault;
use crate::model::job::Job;
use crate::model::names::JobId;
use crate::rules::ahead::Kind;
use crate::rules::reuse::Kin;
use std::collections::VecDeque;

/// They hold no more than this, beyond the last of them, in bytes of their lines.
const BYTES_MOST: u64 = 64 << 20;

/// One of them, and the kind of cell that it needs.
#[derive(Debug)]
pub struct Waiting {
    pub ticket: Ticket,
    pub kind: Kind,
    pub shape: Job,
}

#[derive(Debug, Default)]
pub struct Queue(VecDeque<Waiting>);

impl Queue {
    /// Whether one more may be read where so many may wait.
    pub fn has_room(&self, most: usize) -> bool {
        self.0.len() <= most && self.0.iter().map(|w| w.ticket.bytes).sum::<u64>() <= BYTES_MOST
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn iter(&self) -> impl Iterator<Item = &Waiting> {
        self.0.iter()
    }

    /// # Errors
    /// of spelling the job's kind.
    pub fn push(&mut self, ticket: Ticket) -> Result<(), Fault> {
        let (kind, shape) = cellar::kind(&ticket.errand.job)?;
        self.0.push_back(Waiting { ticket, kind, shape });
        Ok(())
    }

    /// Of the first of them.
    pub fn kin(&self) -> Option<&Kin> {
        self.0.front()?.ticket.kin.as_ref()
    }

    pub fn pop(&mut self) -> Option<Waiting> {
        self.0.pop_front()
    }

    /// Takes out the one of this id.
    pub fn take(&mut self, id: &JobId) -> Option<Ticket> {
        let place = self.0.iter().position(|w| w.ticket.id() == Some(id))?;
        self.0.remove(place).map(|w| w.ticket)
    }
}

/// Why those that still wait are not run.
pub(super) fn ending() -> Fault {
    Fault::host("batch:ending", "the batch was told to end before the job was started").hint("send it to the next batch")
}
