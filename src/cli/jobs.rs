//! Jobs out of bytes, with errors that name their place.

use super::report;
use super::words::{BundleArgs, Common};
use crate::model::code::ExitCode;
use crate::model::document::{self, MOST};
use crate::model::fault::Fault;
use crate::model::job::Job;
use crate::work::{bundle, settings};
use sha2::{Digest, Sha256};
use std::io::Read;
use std::path::Path;

/// A job with the digest of its words.
pub(super) struct Given {
    pub job: Job,
    pub digest: String,
}

/// The job of a document (`-` is stdin) with flags over it, or of flags alone.
///
/// # Errors
/// exit 2, naming the field.
pub(super) fn read(document: Option<&Path>, flags: &super::flags::JobFlags) -> Result<Given, Fault> {
    let spelled = flags.job()?;
    let Some(path) = document else {
        let bytes = serde_json::to_vec(&spelled).map_err(|e| Fault::ours("internal", e.to_string()))?;
        return Ok(Given { job: spelled, digest: digest(&bytes) });
    };
    let bytes = bytes(path)?;
    let job = document::job(&bytes)?;
    Ok(Given { digest: digest(&bytes), job: spelled.over(job) })
}

fn digest(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|b| format!("{b:02x}")).collect()
}

/// One byte more than a document may have is enough to know that it has too many.
///
/// # Errors
/// exit 2 of reading.
pub(super) fn bytes(path: &Path) -> Result<Vec<u8>, Fault> {
    let mut bytes = Vec::new();
    let read = match path.as_os_str() == "-" {
        true => std::io::stdin().lock().take(MOST + 1).read_to_end(&mut bytes),
        false => std::fs::File::open(path).and_then(|f| f.take(MOST + 1).read_to_end(&mut bytes)),
    };
    read.map_err(|e| Fault::caller("job:unreadable", format!("cannot read the job {}: {e}", path.display())).at("job"))?;
    Ok(bytes)
}

/// `runcell bundle`.
///
/// # Errors
/// as of a run.
pub(super) fn bundle(common: &Common, args: BundleArgs) -> Result<ExitCode, Fault> {
    let given = read(args.job.as_deref(), &args.flags)?;
    let policy = settings::policy(common.policy.as_deref())?;
    let written =
        bundle::write(given.job, &policy, common.root.as_deref(), common.runtime.as_deref(), &args.out, args.best_effort)?;
    Ok(report::json(&written))
}
