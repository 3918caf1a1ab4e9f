//! Tops a shape up once a job is over: a `runcell warm` of its own, started before we give up our rights, that begins when
//! we have ended. It reads the job from a pipe whose writing end we keep open until then.
//!
//! Not at a lower priority: cells, and the programs in them, would inherit it.

use super::faults;
use crate::model::fault::Fault;
use crate::model::job::Job;
use crate::os::error::At;
use crate::os::process::{self, Spawn};
use std::fs::OpenOptions;
use std::io::{PipeWriter, Write};
use std::os::fd::OwnedFd;
use std::path::Path;

/// What a pipe takes without a reader (pipe(7)); a shape without files and environment is far smaller.
const MOST: usize = 60_000;

/// Waits as long as this lives.
#[derive(Debug)]
pub struct Refill {
    _gate: PipeWriter,
}

/// Starts the one who will make cells of this job's shape until `count` wait; `common` are the words before the subcommand.
///
/// # Errors
/// exit 2 where the job's shape takes too many words; of spawning.
pub fn prepare(job: &Job, common: &[String], best_effort: bool, count: usize) -> Result<Refill, Fault> {
    let os = |e| faults::ours(&e);
    let shape = Job {
        id: None,
        argv: None,
        env: Default::default(),
        files: Default::default(),
        deleted: Vec::new(),
        all: None,
        stdin: None,
        labels: Default::default(),
        ..job.clone()
    };
    let words = serde_json::to_vec(&shape).map_err(|e| Fault::ours("internal", e.to_string()))?;
    if words.len() > MOST {
        return Err(Fault::caller("usage", "the job has too many mounts for --refill").at("refill"));
    }
    let (job, mut gate) = std::io::pipe().at("make", "a pipe").map_err(os)?;
    gate.write_all(&words).at("write", "a pipe").map_err(os)?;
    let program = std::env::current_exe().at("find", "our own binary").map_err(os)?;
    let log = OpenOptions::new().write(true).open("/dev/null").at("open", "/dev/null").map_err(os)?;
    let mut args = common.to_vec();
    args.extend(["warm", "--job", "/proc/self/fd/3", "--count"].map(str::to_owned));
    args.push(count.to_string());
    args.extend(best_effort.then(|| "--best-effort".to_owned()));
    // It ends by itself, and is nobody's to wait for.
    process::spawn(Spawn {
        program: &program,
        image: None,
        env: &[],
        args: &args,
        log,
        fds: vec![OwnedFd::from(job)],
        dir: Path::new("/"),
    })
    .map_err(os)?;
    Ok(Refill { _gate: gate })
}
