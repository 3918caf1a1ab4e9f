//! `runcell run`, in its two forms: for people and for programs.

use super::words::{Common, RunArgs};
use super::{jobs, report};
use crate::model::code::ExitCode;
use crate::model::fault::Fault;
use crate::model::job::Job;
use crate::work::pin;
use crate::work::refill::{self, Refill};
use crate::work::run::{self, Answered, Request};
use crate::work::scene::Live;
use crate::work::settings;
use std::os::fd::AsFd;

pub(super) fn run(common: &Common, args: RunArgs) -> ExitCode {
    let json = args.json || args.job.is_some();
    let mut refill = None;
    match answer(common, &args, json, &mut refill) {
        Err(fault) if json => report::fault(&fault, true),
        Err(fault) => {
            report::fault(&fault, false);
            ExitCode::from(125)
        }
        Ok(answered) => {
            let code = if json { report::outcome(&answered.outcome) } else { report::summary(&answered.outcome, args.quiet) };
            // The answer is out; whoever waits for it has it before the last files go.
            if let Err(why) = answered.clean_up() {
                report::warning(&format!("some of the run is left: {why}; runcell gc removes it"));
            }
            code
        }
    }
}

/// `refill` is to be kept until everything is over.
fn answer(common: &Common, args: &RunArgs, json: bool, refill: &mut Option<Refill>) -> Result<Answered, Fault> {
    let given = jobs::read(args.job.as_deref(), &args.flags)?;
    let policy = settings::policy(common.policy.as_deref())?;
    let count = args.refill.unwrap_or(usize::from(policy.warm.refill));
    if count > 0 {
        // An avatar's own cells are for `kata run`.
        let shape = Job { avatar: None, ..given.job.clone() };
        *refill = Some(refill::prepare(&shape, &common.words(), args.best_effort, count)?);
    }
    let stdin = std::io::stdin();
    let (stdout, stderr) = report::streams();
    // For people stdin goes through unless told otherwise; for programs it may be where the job came from.
    let inherit = match args.flags.stdin.as_deref() {
        Some("-") => args.job.as_deref().is_none_or(|job| job.as_os_str() != "-"),
        Some(_) => false,
        None => !json,
    };
    let pinned = match args.pin.wanted()? {
        Some((pin, count)) => Some(pin::lease(&settings::home(common.root.as_deref(), &policy)?, pin, count)?),
        None => None,
    };
    run::run(Request {
        stdin: inherit.then(|| stdin.as_fd()),
        live: (!json).then(|| Live { stdout: stdout.as_fd(), stderr: stderr.as_fd() }),
        cold: args.cold,
        pinned: pinned.as_ref(),
        ..Request::new(common.setting(&policy, args.best_effort), given.job, given.digest)
    })
}
