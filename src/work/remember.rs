//! What a batch's journal says to a job that has just been read.

use super::faults;
use super::lane::Ticket;
use crate::model::fault::{Fault, Whose};
use crate::model::job::Job;
use crate::model::names::JobId;
use crate::store::journal::{self, JobDigest, Journal, Known, Untold, Unusable};
use sha2::{Digest, Sha256};
use std::fs::File;
use std::path::Path;

/// Opens the journal, and answers what is still to be told.
///
/// # Errors
/// exit 2 where it is in use, no journal, or not to be opened.
pub(super) fn open(path: &Path) -> Result<(Journal, Vec<Untold>), Fault> {
    let name = path.display();
    journal::open(path).map_err(|why| match why {
        Unusable::Busy => Fault::caller("journal:busy", format!("another batch writes the journal {name}")).at("journal"),
        Unusable::Damaged(at) => Fault::caller("journal:damaged", format!("{name} is no journal of a batch from byte {at} on"))
            .at("journal")
            .hint("name a new file, or the journal of the batch that is to go on"),
        Unusable::Os(e) => Fault { whose: Whose::Caller, ..faults::ours(&e) }.at("journal"),
    })
}

/// What a job is remembered by: sha256 of what it means, however it was spelled. `None`: an earlier batch has answered it.
///
/// # Errors
/// exit 2 where it has no id, or one that stands for another job.
pub(super) fn look(journal: &mut Journal, job: &Job) -> Result<Option<JobDigest>, Fault> {
    let id = job.id.as_ref().ok_or_else(|| {
        Fault::caller("job:no_id", "with a journal a job is known by its id").at("id").hint("give each job an id")
    })?;
    let words = serde_json::to_vec(job).map_err(|e| Fault::ours("internal", e.to_string()))?;
    let meaning: JobDigest = Sha256::digest(words).into();
    match journal.look(id, &meaning) {
        Known::New => Ok(Some(meaning)),
        Known::Done => Ok(None),
        Known::Again => Err(twice()),
        Known::Changed => Err(Fault::caller("job:changed", "the journal has the outcome of another job of this id")
            .at("id")
            .hint("give the job another id, or the batch another journal")),
    }
}

/// Writes an outcome down, if its job is known by an id; answers that.
///
/// # Errors
/// exit 4 where it cannot be written.
pub(super) fn done(journal: &mut Journal, ticket: &Ticket, sheet: &File, length: u64) -> Result<Option<JobId>, Fault> {
    let (Some(meaning), Some(id)) = (&ticket.meaning, ticket.id()) else { return Ok(None) };
    journal.done(id, meaning, sheet, length).map_err(|e| faults::ours(&e))?;
    Ok(Some(id.clone()))
}

pub(super) fn twice() -> Fault {
    Fault::caller("job:duplicate", "a job of this id was read before and would not be told from it")
        .at("id")
        .hint("give each job an id of its own")
}
