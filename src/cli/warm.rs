//! `runcell warm …`: words to use-cases.

use super::words::{Common, WarmArgs};
use super::{jobs, report};
use crate::model::code::ExitCode;
use crate::model::fault::Fault;
use crate::model::quantity::Span;
use crate::work::warm::{self, Request};
use crate::work::{practise, settings};

/// The longest that a cell may wait, in seconds.
const TTL_MOST: u64 = 7 * 86_400;
const COUNT_MOST: usize = 10_000;

pub(super) fn warm(common: &Common, args: WarmArgs) -> Result<ExitCode, Fault> {
    let policy = settings::policy(common.policy.as_deref())?;
    let root = common.root.as_deref();
    if args.list {
        return Ok(report::json(&warm::list(&policy, root)?));
    }
    if args.drain {
        let drained = warm::drain(&policy, root)?;
        let code = report::json(&drained);
        return Ok(if drained.failed.is_empty() { code } else { ExitCode::from(4) });
    }
    let usage = |flag: &'static str, why: String| Fault::caller("usage", why).at(flag);
    let ttl = args.ttl.parse().or_else(|_| Span::from_text(&args.ttl).map(|span| span.nanos() / 1_000_000_000));
    let ttl = ttl.map_err(|why| usage("ttl", why))?;
    if !(1..=TTL_MOST).contains(&ttl) {
        return Err(usage("ttl", format!("--ttl {} is not between 1s and 7d", args.ttl)));
    }
    if !(1..=COUNT_MOST).contains(&args.count) {
        return Err(usage("count", format!("--count {} is not between 1 and {COUNT_MOST}", args.count)));
    }
    let given = jobs::read(args.job.as_deref(), &args.flags)?;
    let avatar = given.job.avatar.clone();
    let request =
        Request { job: given.job, setting: common.setting(&policy, args.best_effort), count: args.count, ttl, own: None };
    let warmed = match avatar {
        Some(avatar) => practise::warm(&avatar, request)?,
        None => warm::warm(request)?,
    };
    Ok(report::json(&warmed))
}
