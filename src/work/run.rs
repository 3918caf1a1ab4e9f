//! One job, end to end: plan, find or make a cell, run, judge; and what is left to be removed after the answer.

use super::answer::Frame;
use super::claim::{self, Claimed, Found};
use super::decide::{Planned, Setting, decide};
use super::own::Own;
use super::pin::Pinned;
use super::scene::{Live, Scene, Told, Way};
use super::stash::Stash;
use super::stay::{Alike, Stay};
use super::taken::Taken;
use super::{demolish, faults, gc, room, shape};
use crate::model::evidence::{Fate, Stop};
use crate::model::fault::Fault;
use crate::model::image::Image;
use crate::model::job::Job;
use crate::model::outcome::{Outcome, Start};
use crate::model::record::{Process, Record, RunState};
use crate::model::wire::Step;
use crate::os::cgroup::Trees;
use crate::os::error::At;
use crate::os::namespaces::Leaving;
use crate::os::{clock, process, signal};
use crate::rules::reuse;
use crate::store::cells;
use crate::store::home::Home;
use crate::store::ids::Slot;
use crate::store::runs::{self, Owned};
use nix::sys::signal::Signal;
use std::os::fd::BorrowedFd;
use std::path::Path;

/// A job with all that surrounds it.
pub struct Request<'a> {
    pub job: Job,
    /// sha256 of the job as it was given, in hex.
    pub digest: String,
    pub setting: Setting<'a>,
    /// Where stdin comes from if the job does not say.
    pub stdin: Option<BorrowedFd<'a>>,
    /// The caller's own streams, in the human form.
    pub live: Option<Live<'a>>,
    /// Where the changes of a writable root are to stay: a directory with `upper` and `work` in it.
    pub upper: Option<&'a Path>,
    /// What stands for the image that the job names: layers that are no image yet.
    pub stack: Option<Image>,
    /// Whether the job must have a cell made for it, though one may be waiting.
    pub cold: bool,
    /// Whose job it is, and the home that it works in.
    pub own: Option<(Own, &'a mut Stash)>,
    /// Cores that are its own.
    pub pinned: Option<&'a Pinned>,
    /// Whether its cell may serve its avatar's next jobs too.
    pub stays: bool,
}

impl Request<'_> {
    /// A job that is like most.
    pub fn new(setting: Setting<'_>, job: Job, digest: String) -> Request<'_> {
        Request {
            job,
            digest,
            setting,
            stdin: None,
            live: None,
            upper: None,
            stack: None,
            cold: false,
            own: None,
            pinned: None,
            stays: false,
        }
    }
}

/// An answered job. What is left to be removed is removed by [`Answered::clean_up`], after the answer is out.
pub struct Answered {
    pub outcome: Outcome,
    /// Whether the files that the job brought found their place.
    pub delivered: bool,
    rest: Rest,
    /// The cell, where it is ready for another job.
    pub(super) stay: Option<Box<Stay>>,
}

struct Rest {
    home: Home,
    owned: Owned,
    slot: Option<Slot>,
    provably_empty: bool,
    trees: Trees,
    /// Waiting cells that were found unfit.
    unfit: Vec<Owned>,
    /// The cell's mounts, on their way, and with them the image that they show.
    leaving: Option<Leaving>,
    taken: Option<Taken>,
}

impl Answered {
    /// Removes the run's files and frees its id range.
    ///
    /// # Errors
    /// a sentence; `gc` then finds what is left.
    pub fn clean_up(self) -> Result<(), String> {
        let Rest { home, owned, slot, mut provably_empty, trees, unfit, leaving, taken } = self.rest;
        if let Some(stay) = self.stay {
            provably_empty = stay.end().is_ok();
        }
        // One that resists is found by gc, with no owner.
        unfit.into_iter().for_each(|owned| drop(demolish::stale(&home, &trees, owned)));
        let cleared = match provably_empty {
            true => demolish::clear(&home, owned, slot).map_err(|e| e.to_string()),
            // The lease ends with us; the record stays, and the range in quarantine.
            false => Ok(()),
        };
        // What was mounted has had time to go meanwhile; the image is held as long as anything shows it.
        drop(leaving);
        drop(taken);
        cleared
    }
}

/// Runs a job and answers it.
///
/// # Errors
/// the fault that kept the job from being started; nothing is left then.
pub fn run(request: Request<'_>) -> Result<Answered, Fault> {
    let began = clock::now_ns();
    let signals =
        signal::catch(&[Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP]).at("catch", "signals").map_err(|e| faults::ours(&e))?;
    process::become_subreaper().at("become subreaper", "of the cell").map_err(|e| faults::ours(&e))?;
    let Request { job, digest, setting, stdin, live, upper, stack, cold, own, pinned, stays } = request;
    let policy = setting.policy;
    let (id, labels) = (job.id.clone(), job.labels.clone());
    let mut planned = decide(job, stack, setting)?;
    let mut stash = None;
    if let Some((mut own, home)) = own {
        planned.colours = own.colours.take().unwrap_or(planned.colours);
        own.imprint(&mut planned.plan, &mut planned.host, Some(&mut *home))?;
        stash = Some(home);
    }
    let Planned { mut plan, host, home, image, depot, colours, taken, ground } = planned;
    plan.shape.builds = upper.is_some();
    if let Some(pinned) = pinned {
        pinned.keep(&mut plan, &host)?;
    }
    // A writable root's changes are to stay in a place that is this job's alone; and the filter that a waiting init has put on
    // allows no choice of a node for memory.
    let own = upper.is_some() || pinned.is_some_and(|pinned| pinned.placement.node.is_some());
    let there = cells::look(&home);
    let alone = cold || own || there.is_none();
    // What is planned has its groups by now.
    let primer = if alone { host.prime() } else { None };
    let there = there.unwrap_or_default();
    gc::in_passing(&home, &host.trees, &there);
    room::for_state(&home, policy)?;

    // Called off before anything was made.
    let called_off = signals.next().at("read", "signals").map_err(|e| faults::ours(&e))?.is_some();
    // Where a waiting cell cannot even be named, a cold one tells why.
    let named = || shape::name(&plan.shape, &host, policy, &depot, &ground.facts.seen);
    let shape = if alone || called_off { None } else { named().ok() };
    let found = shape.map_or_else(Found::default, |shape| claim::claim(&home, &host.trees, &shape, &there));
    let (owned, mut slot, way, start) = match found.claimed {
        Some(Claimed { owned, slot, cell }) => (owned, Some(slot), Way::Warm(Box::new(cell)), Start::Warm),
        None => {
            let primer = primer.or_else(|| host.prime());
            (runs::create(&home).map_err(|e| faults::ours(&e))?, None, Way::Cold(primer), Start::Cold)
        }
    };
    let cgroup = format!("{}/{}", host.parent, owned.dir.id);
    let group = host.trees.group(&cgroup);
    let mut record = Record {
        run: owned.dir.id.clone(),
        id: id.clone(),
        state: RunState::Preparing,
        supervisor: ourselves(),
        argv0: plan.fill.argv.first().cloned().unwrap_or_default(),
        cgroup: cgroup.clone(),
        first_id: slot.as_ref().map(|slot| slot.first),
        floor: None,
    };
    let frame = Frame::new(id, labels, &digest, &plan, &host, image.clone()).started(start).coloured(colours.clone());
    let places = if stays { reuse::places(&plan).unwrap_or_default() } else { Vec::new() };
    let alike = (!places.is_empty()).then(|| Alike::of(&plan)).transpose()?;
    let run_id = owned.dir.id.to_string();
    let scene = Scene {
        host: &host,
        policy,
        home: &home,
        run: &owned.dir,
        group: &group,
        cgroup: &cgroup,
        signals: &signals,
        stdin,
        live,
        began,
        depot: &depot,
        upper,
        pinned,
        places: &places,
    };
    let acted = match called_off {
        true => Ok(scene.never_ran(&mut record, Stop::Cancelled)),
        false => scene.act(plan, way, &mut record, &mut slot, stash),
    };
    let told = match acted {
        Ok(told) => told,
        Err(fault) => {
            if demolish::extinguish(&host.trees, &owned.dir.id, &cgroup).is_ok() {
                // Nothing ran, so nothing can have been left in a state that we cannot remove.
                let _ = demolish::clear(&home, owned, slot);
            }
            return Err(fault);
        }
    };
    let Told { evidence, quality, mut phases, buried, leaving, kept, ended } = told;
    let delivered = !matches!(&evidence.fate, Fate::NotStarted(failure) if failure.step == Step::Files);
    phases.teardown_ns = clock::now_ns().saturating_sub(ended);
    let provably_empty = buried.is_ok();
    let mut outcome = frame.outcome(run_id, evidence, phases, buried);
    outcome.cores = pinned.map(|pinned| pinned.placement.cpus.clone());
    outcome.quality = quality;
    // The image is held as long as a cell shows it.
    let (staying, taken) = if kept.is_some() { (taken, None) } else { (None, taken) };
    let trees = host.trees.clone();
    let rest = Rest { home: home.clone(), slot, provably_empty, trees, unfit: found.unfit, owned, leaving, taken };
    let stay = kept.zip(alike).map(|(kept, alike)| {
        let run = rest.owned.dir.clone();
        Box::new(Stay {
            kept: Some(kept),
            alike,
            ground,
            host,
            home,
            run,
            depot,
            image,
            colours,
            signals,
            group,
            places,
            record,
            taken: staying,
        })
    });
    Ok(Answered { outcome, delivered, rest, stay })
}

pub(super) fn ourselves() -> Process {
    let pid = std::process::id() as i32;
    Process { pid, start_ticks: process::start_ticks(Path::new("/proc"), pid).unwrap_or(0) }
}
