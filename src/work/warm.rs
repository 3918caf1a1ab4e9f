//! Cells made ahead of their jobs. Whoever makes them ends; they wait in the state directory until a job of their shape
//! claims one (`work/claim.rs`), or their time is up: init ends by itself then, and what is left goes with the next start or gc.

use super::cell::{Cell, Site};
use super::decide::{Planned, Setting, decide};
use super::hello::NoCell;
use super::own::{self, Own};
use super::run;
use super::{demolish, faults, gc, host, room, settings, shape};
use crate::model::fault::Fault;
use crate::model::job::{Job, Text};
use crate::model::names::RunId;
use crate::model::policy::Policy;
use crate::model::record::{Record, RunState};
use crate::os::error::At;
use crate::os::lease::Lease;
use crate::os::signal::{self, Signals};
use crate::os::{clock, counters, watch};
use crate::store::cells::{self, Waiting};
use crate::store::home::Home;
use crate::store::runs;
use nix::sys::signal::Signal;
use serde::Serialize;
use std::path::Path;

/// What is to wait.
pub struct Request<'a> {
    /// Of the job only its shape counts: neither program, environment, files nor limits, other than the sizes of its tmpfs.
    pub job: Job,
    pub setting: Setting<'a>,
    /// How many cells of this shape are to wait in the end, those that do already included.
    pub count: usize,
    /// How long each waits, in seconds.
    pub ttl: u64,
    /// Whose cells they are to be.
    pub own: Option<Own>,
}

#[derive(Debug, Serialize)]
pub struct Warmed {
    pub shape: String,
    /// How many were made now.
    pub made: usize,
    /// How many wait.
    pub waiting: usize,
}

/// A cell that has begun to wait.
#[derive(Debug)]
pub struct Made {
    pub shape: String,
    pub run: RunId,
}

/// A waiting cell.
#[derive(Debug, Serialize)]
pub struct Listed {
    pub run: String,
    pub shape: String,
    pub expires_in_s: u64,
    /// What it is charged with now; null where the host cannot tell.
    pub memory_bytes: Option<u64>,
    /// Its processes; 0 for one that has died, which gc removes.
    pub processes: usize,
}

#[derive(Debug, Default, Serialize)]
pub struct Drained {
    pub removed: Vec<String>,
    /// Cells that resisted, and why.
    pub failed: Vec<gc::Failure>,
}

/// Makes cells until so many wait.
///
/// # Errors
/// as of a run; those that were made before stay.
pub fn warm(request: Request<'_>) -> Result<Warmed, Fault> {
    let Request { setting: Setting { policy, .. }, count, ttl, .. } = request;
    let (planned, signals, name) = begin(request)?;
    let home = &planned.home;
    let _alone = alone(home, &name, policy)?;
    let waiting = || cells::of(home, &name).into_iter().filter(|cell| !cell.expired()).count();
    let mut made = 0;
    while waiting() < count {
        one(&planned, policy, &signals, &name, ttl)?;
        made += 1;
    }
    let waiting = waiting();
    Ok(Warmed { shape: name, made, waiting })
}

/// Makes one cell more, whatever waits already.
///
/// # Errors
/// as of a run.
pub fn more(request: Request<'_>) -> Result<Made, Fault> {
    let Request { setting: Setting { policy, .. }, ttl, .. } = request;
    let (planned, signals, shape) = begin(request)?;
    let run = one(&planned, policy, &signals, &shape, ttl)?;
    Ok(Made { shape, run })
}

/// Everything before the first cell: the plan, and the shape's name.
fn begin(request: Request<'_>) -> Result<(Planned, Signals, String), Fault> {
    let os = |e| faults::ours(&e);
    let signals = signal::catch(&[Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP]).at("catch", "signals").map_err(os)?;
    let Request { mut job, setting, own, .. } = request;
    if job.argv.is_none() {
        let any = Text::try_from("true".to_owned()).map_err(|why| Fault::ours("internal", why))?;
        job.argv = Some(vec![any]);
    }
    let mut planned = decide(job, None, setting)?;
    if let Some(own) = own {
        own.imprint(&mut planned.plan, &mut planned.host, None)?;
    }
    gc::in_passing(&planned.home, &planned.host.trees, &cells::all(&planned.home));
    room::for_state(&planned.home, setting.policy)?;
    let Planned { plan, host, depot, ground, .. } = &planned;
    let name = shape::name(&plan.shape, host, setting.policy, depot, &ground.facts.seen).map_err(os)?;
    Ok((planned, signals, name))
}

/// One maker at a time, so that many who top up the same shape do not make more than each of them wants.
fn alone(home: &Home, shape: &str, policy: &Policy) -> Result<Lease, Fault> {
    let deadline = clock::now_ns().saturating_add(policy.setup_timeout.nanos());
    loop {
        if let Some(lease) = cells::alone(home, shape).map_err(|e| faults::ours(&e))? {
            return Ok(lease);
        }
        if clock::now_ns() >= deadline {
            return Err(Fault::ours("warm:busy", "somebody else makes cells of this shape all the time").hint("try again later"));
        }
        let _ = watch::any::<()>(&[], Some(clock::now_ns() + 10_000_000));
    }
}

fn one(planned: &Planned, policy: &Policy, signals: &Signals, shape: &str, ttl: u64) -> Result<RunId, Fault> {
    let os = |e| faults::ours(&e);
    let Planned { plan, host, home, depot, .. } = planned;
    let _primer = host.prime();
    let expires = (clock::wall_millis() / 1000).saturating_add(ttl);
    let owned = runs::create(home).map_err(os)?;
    let cgroup = format!("{}/{}", host.parent, owned.dir.id);
    let mut record = Record {
        run: owned.dir.id.clone(),
        id: None,
        state: RunState::Preparing,
        supervisor: run::ourselves(),
        argv0: String::new(),
        cgroup: cgroup.clone(),
        first_id: None,
        floor: None,
    };
    let mut slot = None;
    let made = (|| {
        let own = plan.shape.first_id;
        let slot = slot.insert(own::ids(policy, &host.trees, own, home, &owned.dir, &mut record)?);
        let deadline = clock::now_ns().saturating_add(policy.setup_timeout.nanos());
        let site = Site {
            home,
            run: &owned.dir,
            group: host.trees.group(&cgroup),
            cgroup: &cgroup,
            runtime: &host.runtime,
            first_id: slot.first,
            depot,
            upper: None,
            wait: Some(ttl),
            ahead: Some(&plan.fill),
        };
        record.floor = Cell::start(site, &plan.shape)?.park(signals, deadline)?;
        demolish::strip(home, &owned.dir)?;
        record.state = RunState::Waiting;
        runs::write(&owned.dir, &record)?;
        Ok(())
    })();
    match made {
        // The range stays marked for it, with nobody holding it.
        Ok(()) => {
            let run = owned.dir.id.clone();
            cells::put(home, owned, shape, expires).map_err(os).map(|()| run)
        }
        Err(fault) => {
            if demolish::extinguish(&host.trees, &owned.dir.id, &cgroup).is_ok() {
                let _ = demolish::clear(home, owned, slot);
            }
            Err(match fault {
                NoCell::Fault(fault) => fault,
                NoCell::Cancelled => Fault::ours("warm:cancelled", "stopped by a signal"),
            })
        }
    }
}

/// The cells that wait, by shape and age.
///
/// # Errors
/// exit 3 or 4 where state or groups cannot be read.
pub fn list(policy: &Policy, root: Option<&Path>) -> Result<Vec<Listed>, Fault> {
    let home = settings::home(root, policy)?;
    let trees = host::trees()?;
    let now = clock::wall_millis() / 1000;
    let look = |cell: Waiting| {
        let group = trees.group(&runs::read(&cell.dir())?.cgroup);
        Some(Listed {
            run: cell.id.to_string(),
            expires_in_s: cell.expires.saturating_sub(now),
            memory_bytes: counters::memory(&group),
            processes: group.processes().len(),
            shape: cell.shape.to_string(),
        })
    };
    Ok(cells::all(&home).into_iter().filter_map(look).collect())
}

/// Ends every cell that waits.
///
/// # Errors
/// exit 3 or 4 where state or groups cannot be read; a cell that resists is reported, not an error.
pub fn drain(policy: &Policy, root: Option<&Path>) -> Result<Drained, Fault> {
    let home = settings::home(root, policy)?;
    let trees = host::trees()?;
    let mut drained = Drained::default();
    for cell in cells::all(&home) {
        let run = cell.id.to_string();
        match demolish::burn(&home, &trees, &cell) {
            Ok(true) => drained.removed.push(run),
            Ok(false) => {} // a job has just taken it
            Err(e) => drained.failed.push(gc::Failure { run, why: e.to_string() }),
        }
    }
    cells::tidy(&home);
    Ok(drained)
}
