//! The runs of this host, live and stale.

use super::{faults, settings};
use crate::model::fault::Fault;
use crate::model::policy::Policy;
use crate::os::clock;
use crate::store::runs::{self, Found};
use serde::Serialize;
use std::path::Path;

#[derive(Debug, Serialize)]
pub struct Listed {
    pub run: String,
    pub id: Option<String>,
    /// Whether somebody alive owns it; if not, gc removes it.
    pub live: bool,
    pub state: Option<crate::model::record::RunState>,
    pub argv0: Option<String>,
    pub age_ms: u64,
}

/// # Errors
/// exit 3 or 4 where the state cannot be read.
pub fn list(policy: &Policy, root: Option<&Path>) -> Result<Vec<Listed>, Fault> {
    let home = settings::home(root, policy)?;
    let now = clock::wall_millis();
    let mut listed = Vec::new();
    for dir in runs::names(&home).map_err(|e| faults::ours(&e))? {
        // One claim at a time, and let go at once: a look must not be taken for an owner.
        let live = match runs::claim(dir.clone()).map_err(|e| faults::ours(&e))? {
            None => continue,
            Some(Found::Live(_)) => true,
            Some(Found::Stale(_)) => false,
        };
        let record = runs::read(&dir);
        listed.push(Listed {
            run: dir.id.to_string(),
            id: record.as_ref().and_then(|r| r.id.clone()).map(String::from),
            live,
            state: record.as_ref().map(|r| r.state),
            argv0: record.map(|r| r.argv0),
            age_ms: now.saturating_sub(dir.id.millis()),
        });
    }
    Ok(listed)
}
