//! Jobs out of bytes, with errors that name their place.

use super::words::{BundleArgs, Common};
use super::{policy, report};
use crate::model::fault::Fault;
use crate::model::job::Job;
use crate::work::bundle;
use sha2::{Digest, Sha256};
use std::io::Read;
use std::path::Path;
use std::process::ExitCode;

/// The largest job document.
const MOST: u64 = 64 << 20;

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
    let job = typed(&bytes)?;
    Ok(Given { digest: digest(&bytes), job: spelled.over(job) })
}

fn digest(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|b| format!("{b:02x}")).collect()
}

fn bytes(path: &Path) -> Result<Vec<u8>, Fault> {
    let mut bytes = Vec::new();
    let read = match path.as_os_str() == "-" {
        true => std::io::stdin().lock().take(MOST + 1).read_to_end(&mut bytes),
        false => std::fs::File::open(path).and_then(|f| f.take(MOST + 1).read_to_end(&mut bytes)),
    };
    read.map_err(|e| Fault::caller("job:unreadable", format!("cannot read the job {}: {e}", path.display())).at("job"))?;
    if bytes.len() as u64 > MOST {
        return Err(Fault::caller("job:too_large", "the job is larger than 64 MiB")
            .at("job")
            .hint("name large files by {\"file\": …} or mount them"));
    }
    Ok(bytes)
}

/// A job of JSON bytes.
///
/// # Errors
/// exit 2 with the path of the first thing that is wrong.
pub(super) fn typed(bytes: &[u8]) -> Result<Job, Fault> {
    let malformed = |path: String, why: String| {
        let fault = Fault::caller("job:malformed", why).hint("runcell schema job prints what a job may hold");
        if path == "." { fault.at("job") } else { fault.at(path) }
    };
    let text = std::str::from_utf8(bytes).map_err(|e| malformed(".".into(), format!("the job is not UTF-8: {e}")))?;
    let mut json = serde_json::Deserializer::from_str(text);
    let job = serde_path_to_error::deserialize(&mut json).map_err(|e| malformed(e.path().to_string(), e.inner().to_string()))?;
    json.end().map_err(|_| malformed(".".into(), "something follows the job; one document holds one job".into()))?;
    Ok(job)
}

/// `runcell bundle`.
///
/// # Errors
/// as of a run.
pub(super) fn bundle(common: &Common, args: BundleArgs) -> Result<ExitCode, Fault> {
    let given = read(args.job.as_deref(), &args.flags)?;
    let policy = policy(common)?;
    let written =
        bundle::write(given.job, &policy, common.root.as_deref(), common.runtime.as_deref(), &args.out, args.best_effort)?;
    Ok(report::json(&written))
}
