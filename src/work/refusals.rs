//! What a batch has against a journal, or a line, that it can do nothing with.

use super::faults;
use crate::model::fault::{Fault, Whose};
use crate::store::journal::Unusable;
use std::path::Path;

pub fn journal(path: &Path, why: Unusable) -> Fault {
    let name = path.display();
    match why {
        Unusable::Busy => Fault::caller("journal:busy", format!("another batch writes the journal {name}")).at("journal"),
        Unusable::Damaged(at) => Fault::caller("journal:damaged", format!("{name} is no journal of a batch from byte {at} on"))
            .at("journal")
            .hint("name a new file, or the journal of the batch that is to go on"),
        Unusable::Os(e) => Fault { whose: Whose::Caller, ..faults::ours(&e) }.at("journal"),
    }
}

pub fn ending() -> Fault {
    Fault::host("batch:ending", "the batch was told to end before the job was started").hint("send it to the next batch")
}

pub fn twice() -> Fault {
    Fault::caller("job:duplicate", "a job of this id was read before and would not be told from it")
        .at("id")
        .hint("give each job an id of its own")
}
