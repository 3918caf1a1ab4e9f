//! One job, end to end: plan, create a cell, dispatch, watch, judge, clean up.

use super::answer::Frame;
use super::cell::{Cell, NoCell, Running, Site, Starting, Waiting};
use super::claim::{self, Claimed, Found};
use super::host::{self, Host};
use super::own::{self, Own};
use super::pin::{Gauge, Pinned};
use super::stash::Stash;
use super::supervise::{self, Desk, Seen};
use super::taken::{self, Taken};
use super::{demolish, faults, feed, gc, intake, order, room, settings, shape, streams};
use crate::model::colour::ColourRule;
use crate::model::cores::Quality;
use crate::model::evidence::{Evidence, Fate, Stop};
use crate::model::fault::Fault;
use crate::model::image::Image;
use crate::model::job::{ImageRef, Job};
use crate::model::limits::Limits;
use crate::model::names::BundleName;
use crate::model::outcome::{Outcome, Phases, Start};
use crate::model::plan::{Fill, Plan, Shape};
use crate::model::policy::Policy;
use crate::model::record::{Process, Record, RunState};
use crate::model::wire::Step;
use crate::os::cgroup::{Group, Trees};
use crate::os::error::At;
use crate::os::signal::Signals;
use crate::os::{clock, counters, pipe, prime, probe, process, signal};
use crate::rules::{home, merge, plan, usage};
use crate::store::avatars::AvatarDir;
use crate::store::depot::Depot;
use crate::store::home::Home;
use crate::store::ids::Slot;
use crate::store::runs::{self, Owned};
use nix::sys::signal::Signal;
use std::fs::File;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::Path;

/// A job with all that surrounds it.
pub struct Request<'a> {
    pub job: Job,
    /// sha256 of the job as it was given, in hex.
    pub digest: String,
    pub policy: &'a Policy,
    pub root: Option<&'a Path>,
    pub runtime: Option<&'a str>,
    pub best_effort: bool,
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
}

/// Where streams go as they come.
#[derive(Clone, Copy)]
pub struct Live<'a> {
    pub stdout: BorrowedFd<'a>,
    pub stderr: BorrowedFd<'a>,
}

/// An answered job. What is left to be removed is removed by [`Answered::clean_up`], after the answer is out.
pub struct Answered {
    pub outcome: Outcome,
    /// Whether the files that the job brought found their place.
    pub delivered: bool,
    rest: Rest,
}

struct Rest {
    home: Home,
    owned: Owned,
    slot: Option<Slot>,
    provably_empty: bool,
    trees: Trees,
    /// Waiting cells that were found unfit.
    unfit: Vec<Owned>,
}

impl Answered {
    /// Removes the run's files and frees its id range.
    ///
    /// # Errors
    /// a sentence; `gc` then finds what is left.
    pub fn clean_up(self) -> Result<(), String> {
        let Rest { home, owned, slot, provably_empty, trees, unfit } = self.rest;
        // One that resists is found by gc, with no owner.
        unfit.into_iter().for_each(|owned| drop(demolish::stale(&home, &trees, owned)));
        match provably_empty {
            true => demolish::clear(&home, owned, slot).map_err(|e| e.to_string()),
            // The lease ends with us; the record stays, and the range in quarantine.
            false => Ok(()),
        }
    }
}

/// What is fixed before the first act.
pub(super) struct Planned {
    pub plan: Plan,
    pub host: Host,
    pub home: Home,
    pub image: String,
    pub depot: Depot,
    pub colours: Vec<ColourRule>,
    /// Holds the image in the store until the cell is over.
    pub taken: Option<Taken>,
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
    let Request { job, digest, policy, root, runtime, best_effort, stdin, live, upper, stack, cold, own, pinned } = request;
    let (id, labels) = (job.id.clone(), job.labels.clone());
    let mut planned = decide(job, stack, policy, root, runtime, best_effort)?;
    let mut stash = None;
    if let Some((mut own, home)) = own {
        planned.colours = own.colours.take().unwrap_or(planned.colours);
        own.imprint(&mut planned.plan, &mut planned.host, Some(&mut *home))?;
        stash = Some(home);
    }
    let Planned { mut plan, host, home, image, depot, colours, taken } = planned;
    plan.shape.builds = upper.is_some();
    if let Some(pinned) = pinned {
        pinned.keep(&mut plan, &host)?;
    }
    gc::in_passing(&home, &host.trees);
    room::for_state(&home, policy)?;

    // Called off before anything was made.
    let called_off = signals.next().at("read", "signals").map_err(|e| faults::ours(&e))?.is_some();
    // A writable root's changes are to stay in a place that is this job's alone.
    let found =
        if cold || upper.is_some() || called_off { Found::default() } else { waiting(&plan, &host, policy, &depot, &home) };
    let (owned, slot, cell) = match found.claimed {
        Some(Claimed { owned, slot, cell }) => (owned, Some(slot), Some(cell)),
        None => (runs::create(&home).map_err(|e| faults::ours(&e))?, None, None),
    };
    let start = if cell.is_some() { Start::Warm } else { Start::Cold };
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
    let frame = Frame::new(id, labels, &digest, &plan, &host, image).started(start).coloured(colours);
    let run_id = owned.dir.id.to_string();

    let mut rest = Rest { home, owned, slot, provably_empty: false, trees: host.trees.clone(), unfit: found.unfit };
    let scene = Scene {
        host: &host,
        policy,
        group: &group,
        cgroup: &cgroup,
        signals: &signals,
        stdin,
        live,
        began,
        depot: &depot,
        upper,
        pinned,
    };
    let acted =
        if called_off { Ok(scene.never_ran(Stop::Cancelled)) } else { scene.act(plan, cell, &mut record, &mut rest, stash) };
    let told = match acted {
        Ok(told) => told,
        Err(fault) => {
            if demolish::groups(&host.trees, &cgroup).is_ok() {
                // Nothing ran, so nothing can have been left in a state that we cannot remove.
                let _ = demolish::clear(&rest.home, rest.owned, rest.slot);
            }
            return Err(fault);
        }
    };
    drop(taken);
    rest.provably_empty = told.buried.is_ok();
    let Told { evidence, quality, mut phases, buried, ended } = told;
    let delivered = !matches!(&evidence.fate, Fate::NotStarted(failure) if failure.step == Step::Files);
    phases.teardown_ns = clock::now_ns().saturating_sub(ended);
    let cancelled = evidence.stop == Some(Stop::Cancelled);
    record.state = if cancelled { RunState::Cancelled } else { RunState::Complete };
    // The run's end stands on disk before it is told; where that fails the answer is still true.
    let _ = runs::write(&rest.owned.dir, &record);
    let mut outcome = frame.outcome(run_id, evidence, phases, buried);
    outcome.cores = pinned.map(|pinned| pinned.placement.cpus.clone());
    outcome.quality = quality;
    Ok(Answered { outcome, delivered, rest })
}

/// A waiting cell that fits. Where it cannot even be named, a cold one tells why.
fn waiting(plan: &Plan, host: &Host, policy: &Policy, depot: &Depot, home: &Home) -> Found {
    let shape = shape::name(&plan.shape, host, policy, depot);
    shape.map(|shape| claim::claim(home, &host.trees, &shape)).unwrap_or_default()
}

/// Everything that is decided before anything is made.
///
/// # Errors
/// as of [`plan::plan`], and of looking at the host.
pub(super) fn decide(
    job: Job,
    stack: Option<Image>,
    policy: &Policy,
    root: Option<&Path>,
    runtime: Option<&str>,
    best_effort: bool,
) -> Result<Planned, Fault> {
    home::belongs_to_none(&job)?;
    let bundle = bundle_name(&job)?;
    let mut template = settings::template(&bundle, policy)?;
    let colours = settings::colours(&mut template, policy)?;
    let job = merge::merge(job, template);
    let home = settings::home(root, policy)?;
    let host = host::look(&home, policy, runtime)?;
    let depot = settings::depot(root, policy);
    let taken = match stack {
        Some(image) => Some(taken::stack(&depot, image)),
        None => taken::take(&depot, job.image.as_ref())?,
    };
    let job = match &taken {
        Some(taken) => merge::with_image(job, taken.image().defaults.clone())?,
        None => job,
    };
    let facts = host.facts(&job, taken.as_ref())?;
    let image = job.image.clone().unwrap_or(ImageRef::Host);
    let image = match (&taken, image) {
        (Some(taken), ImageRef::Named(name)) => format!("{name}@{}", taken.image().digest),
        (Some(taken), _) => taken.image().digest.to_string(),
        (None, image) => String::from(image),
    };
    let plan = plan::plan(job, bundle, policy, &facts, best_effort)?;
    Ok(Planned { plan, host, home, image, depot, colours, taken })
}

/// The bundle that a job names, or `default`.
pub(super) fn bundle_name(job: &Job) -> Result<BundleName, Fault> {
    match &job.bundle {
        Some(name) => Ok(name.clone()),
        None => BundleName::try_from("default".to_owned()).map_err(|why| Fault::ours("internal", why)),
    }
}

pub(super) fn ourselves() -> Process {
    let pid = std::process::id() as i32;
    Process { pid, start_ticks: process::start_ticks(Path::new("/proc"), pid).unwrap_or(0) }
}

/// Where one run takes place.
struct Scene<'s, 'a> {
    host: &'s Host,
    policy: &'s Policy,
    group: &'s Group,
    cgroup: &'s str,
    signals: &'s Signals,
    stdin: Option<BorrowedFd<'a>>,
    live: Option<Live<'a>>,
    began: u64,
    depot: &'s Depot,
    upper: Option<&'a Path>,
    pinned: Option<&'a Pinned>,
}

/// A cell on its way to its job.
enum Begun {
    Cold(Cell<Starting>),
    Warm(Cell<Waiting>),
}

struct Told {
    evidence: Evidence,
    quality: Option<Quality>,
    phases: Phases,
    buried: Result<(), String>,
    ended: u64,
}

impl<'a> Scene<'_, 'a> {
    fn act(
        &self,
        plan: Plan,
        warm: Option<Cell<Waiting>>,
        record: &mut Record,
        rest: &mut Rest,
        stash: Option<&'a mut Stash>,
    ) -> Result<Told, Fault> {
        let os = |e| faults::ours(&e);
        let deadline = clock::now_ns().saturating_add(self.policy.setup_timeout.nanos());
        let Plan { shape, fill, limits, cgroup, .. } = plan;
        let (begun, primer, asked) = match warm {
            Some(cell) => (Begun::Warm(cell), None, None),
            None => {
                let trees = &self.host.trees;
                rest.slot = Some(own::ids(self.policy, trees, shape.first_id, &rest.home, &rest.owned.dir, record)?);
                let primer = prime::start(self.host.trees.group(&demolish::primer(self.cgroup))).map_err(os)?;
                let asked = clock::now_ns();
                (Begun::Cold(self.begin(&shape, record, rest)?), Some(primer), Some(asked))
            }
        };
        // While the runtime is at work: everything of the job that needs no cell.
        let first_id = record.first_id.unwrap_or_default();
        let owner = (first_id + shape.user.uid, first_id + shape.user.gid);
        let kept = stash.as_ref().map(|stash| stash.dir.clone());
        let (order, stdio, desk) = self.lay_out(fill, &limits, owner, stash)?;
        let cell = match begun {
            Begun::Warm(cell) => cell,
            Begun::Cold(cell) => match cell.ready(self.signals, deadline) {
                Ok(cell) => cell,
                Err(NoCell::Fault(fault)) => return Err(fault),
                Err(NoCell::Cancelled) => return Ok(self.never_ran(Stop::Cancelled)),
            },
        };
        record.state = RunState::Running;
        runs::write(&rest.owned.dir, record).map_err(os)?;
        let gauge = self.pinned.map(|pinned| Gauge::begin(&pinned.placement, self.group, self.host.swapless()));
        let mut cell = cell.dispatch(&order, &cgroup, &stdio)?;
        drop((order, stdio));
        drop(primer);
        let confined = cell.confine_ourselves(&rest.home, kept.as_ref().map(AvatarDir::path));
        let cores = limits.cpus.map_or(probe::cpus(), |c| c.ceil() as u32);
        let seen = supervise::watch(&mut cell, desk, self.signals, &limits, cores, deadline);
        Ok(self.conclude(cell, seen, confined, asked, gauge))
    }

    /// Has the runtime start a cell of this run's own.
    fn begin(&self, shape: &Shape, record: &Record, rest: &Rest) -> Result<Cell<Starting>, Fault> {
        let site = Site {
            home: &rest.home,
            run: &rest.owned.dir,
            group: self.group.clone(),
            cgroup: self.cgroup,
            runtime: &self.host.runtime,
            first_id: record.first_id.unwrap_or_default(),
            depot: self.depot,
            upper: self.upper,
            wait: None,
        };
        Cell::start(site, shape)
    }

    /// The order, the program's three streams, and our ends of them.
    fn lay_out(
        &self,
        mut fill: Fill,
        limits: &Limits,
        (uid, gid): (u32, u32),
        stash: Option<&'a mut Stash>,
    ) -> Result<(File, [OwnedFd; 3], Desk<'a>), Fault> {
        let os = |e| faults::ours(&e);
        let (out, err) = (pipe::from_program(uid, gid).map_err(os)?, pipe::from_program(uid, gid).map_err(os)?);
        let (stdin, feed) = feed::open(fill.stdin.take(), self.stdin, uid, gid)?;
        let collect = fill.collect.clone();
        let desk = Desk {
            stdout: streams::Capture::new(out.read, limits.output.0, self.live.map(|l| l.stdout)),
            stderr: streams::Capture::new(err.read, limits.output.0, self.live.map(|l| l.stderr)),
            feed,
            collecting: collect.is_some(),
            intake: intake::Intake::new(collect, stash),
        };
        let place = self.pinned.map(|pinned| pinned.placement.clone()).unwrap_or_default();
        Ok((order::write(fill, limits, &place)?, [stdin, out.write, err.write], desk))
    }

    fn conclude(
        &self,
        mut cell: Cell<Running>,
        seen: Seen,
        confined: std::io::Result<()>,
        asked: Option<u64>,
        gauge: Option<Gauge>,
    ) -> Told {
        // A waiting cell is asked for nothing but its job.
        let asked = asked.unwrap_or(cell.state.sent);
        let times = seen.times;
        let wall = times.started.zip(times.ended).map(|(from, to)| to - from);
        let end = counters::read(&cell.group, cell.state.peak.as_mut());
        let usage = usage::usage(&cell.state.base, &end, cell.state.peak.is_some(), wall);
        let quality = gauge.map(|gauge| gauge.end(&cell.group, usage.throttled_ns));
        let host_fault = seen
            .host_fault
            .or_else(|| confined.err().map(|e| format!("the supervisor could not confine itself: {e}")))
            .or_else(|| {
                cell.runtime_failure().filter(|_| matches!(seen.fate, Fate::NotReached | Fate::Ran(None)) && seen.stop.is_none())
            });
        let started = times.started.unwrap_or(times.harvested);
        let ended = times.ended.unwrap_or(times.harvested);
        let phases = Phases {
            setup_ns: asked.saturating_sub(self.began),
            start_ns: started.saturating_sub(asked),
            run_ns: ended.saturating_sub(started),
            harvest_ns: times.harvested.saturating_sub(ended),
            teardown_ns: 0,
        };
        let evidence = Evidence {
            fate: seen.fate,
            stop: seen.stop,
            host_fault,
            usage,
            stdout: seen.stdout,
            stderr: seen.stderr,
            files: seen.files,
        };
        Told { evidence, quality, phases, buried: cell.bury(), ended: times.harvested }
    }

    /// The answer of a job that was cancelled before its cell was ready.
    fn never_ran(&self, stop: Stop) -> Told {
        let now = clock::now_ns();
        let nothing = || crate::model::outcome::Stream::new(Vec::new(), 0);
        let evidence = Evidence {
            fate: Fate::NotReached,
            stop: Some(stop),
            host_fault: None,
            usage: Default::default(),
            stdout: nothing(),
            stderr: nothing(),
            files: Default::default(),
        };
        let phases = Phases { setup_ns: now.saturating_sub(self.began), ..Phases::default() };
        Told {
            evidence,
            quality: None,
            phases,
            buried: demolish::groups(&self.host.trees, self.cgroup).map_err(|e| e.to_string()),
            ended: now,
        }
    }
}
