//! `runcell batch`: words to the use-case.

use super::report;
use super::words::{BatchArgs, Common};
use crate::model::code::ExitCode;
use crate::model::fault::Fault;
use crate::work::batch::{self, Request};
use crate::work::settings;
use crate::work::tally::{End, Tally};
use std::fs::File;
use std::os::fd::AsFd;

const JOBS_MOST: usize = 1024;
/// What is left unanswered was not the jobs' fault, nor ours: as of a job that was cancelled.
const EARLY: u8 = 130;

pub(super) fn batch(common: &Common, args: BatchArgs) -> Result<ExitCode, Fault> {
    let policy = settings::policy(common.policy.as_deref())?;
    let usage = |flag: &'static str, why: String| Fault::caller("usage", why).at(flag);
    let cores = std::thread::available_parallelism().map_or(1, |n| n.get());
    let jobs = args.jobs.unwrap_or(cores);
    if !(1..=JOBS_MOST).contains(&jobs) {
        return Err(usage("jobs", format!("--jobs {jobs} is not between 1 and {JOBS_MOST}")));
    }
    let ahead = args.ahead.unwrap_or(jobs);
    if ahead > JOBS_MOST {
        return Err(usage("ahead", format!("--ahead {ahead} is more than {JOBS_MOST}")));
    }
    let stdin = std::io::stdin();
    let file = match args.source.as_os_str() == "-" {
        true => None,
        false => Some(File::open(&args.source).map_err(|e| {
            Fault::caller("job:unreadable", format!("cannot read the jobs {}: {e}", args.source.display())).at("FILE")
        })?),
    };
    let (stdout, _) = report::streams();
    let mut pace = if args.quiet { None } else { report::Pace::new() };
    let mut tell = |tally: &Tally| pace.iter_mut().for_each(|pace| pace.tell(tally));
    let watched = !args.quiet && report::Pace::new().is_some();
    let ended = batch::batch(Request {
        setting: common.setting(&policy, args.best_effort),
        input: file.as_ref().map_or_else(|| stdin.as_fd(), AsFd::as_fd),
        out: stdout.as_fd(),
        jobs,
        ahead,
        journal: args.journal.as_deref(),
        pin: args.pin.wanted()?,
        reuse: args.reuse.is_some(),
        progress: if watched { Some(&mut tell) } else { None },
    });
    if let Some(pace) = pace {
        pace.over();
    }
    Ok(match ended? {
        End::Whole => ExitCode::SUCCESS,
        End::Early => ExitCode::from(EARLY),
    })
}
