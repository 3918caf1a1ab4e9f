//! One job in one cell, from the cell's beginning to its end.

use super::cell::{Cell, Running, Site, Starting, Waiting};
use super::hello::NoCell;
use super::host::Host;
use super::pin::{Gauge, Pinned};
use super::pipes::{Anchors, Pipes};
use super::stash::Stash;
use super::supervise::{self, Desk, Notice, Seen};
use super::{demolish, faults, feed, intake, order, own, streams};
use crate::model::cores::Quality;
use crate::model::evidence::{Evidence, Fate, Stop};
use crate::model::fault::Fault;
use crate::model::limits::Limits;
use crate::model::outcome::Phases;
use crate::model::plan::{CgroupWrite, Plan};
use crate::model::policy::Policy;
use crate::model::record::{Record, RunState};
use crate::os::cgroup::Group;
use crate::os::error::OsResult;
use crate::os::namespaces::Leaving;
use crate::os::prime::Primer;
use crate::os::signal::Signals;
use crate::os::{clock, probe};
use crate::rules::usage;
use crate::store::avatars::AvatarDir;
use crate::store::depot::Depot;
use crate::store::home::{Home, RunDir};
use crate::store::ids::Slot;
use crate::store::runs;
use std::fs::File;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::Path;

/// A record of a job that is over before this costs as much as the job (measured, on ext4).
const NOTICE_NS: u64 = 10_000_000;

/// Where streams go as they come.
#[derive(Clone, Copy)]
pub struct Live<'a> {
    pub stdout: BorrowedFd<'a>,
    pub stderr: BorrowedFd<'a>,
}

/// Where one run takes place.
pub(super) struct Scene<'s, 'a> {
    pub host: &'s Host,
    pub policy: &'s Policy,
    pub home: &'s Home,
    pub run: &'s RunDir,
    pub group: &'s Group,
    pub cgroup: &'s str,
    pub signals: &'s Signals,
    pub stdin: Option<BorrowedFd<'a>>,
    pub live: Option<Live<'a>>,
    pub began: u64,
    pub depot: &'s Depot,
    pub upper: Option<&'a Path>,
    pub pinned: Option<&'a Pinned>,
    /// What is emptied after the job so that another of its kind may come; nothing: the cell ends with it.
    pub places: &'s [String],
}

/// How a job comes to a cell.
pub(super) enum Way {
    /// It gets one of its own, and the lock that its making takes is being made ready where it takes one.
    Cold(Option<Primer>),
    /// One has waited for it.
    Warm(Box<Cell<Waiting>>),
}

/// A cell on its way to its job.
enum Begun {
    Cold(Cell<Starting>),
    Warm(Cell<Waiting>),
}

/// What came of a job.
pub(super) struct Told {
    pub evidence: Evidence,
    pub quality: Option<Quality>,
    pub phases: Phases,
    /// Why the cell cannot be proven empty, where it cannot.
    pub buried: Result<(), String>,
    /// Its mounts, where they are still on their way.
    pub leaving: Option<Leaving>,
    /// The cell, where it is as new.
    pub kept: Option<Kept>,
    pub ended: u64,
}

/// A cell that is ready for the next job.
pub(super) struct Kept {
    pub cell: Cell<Waiting>,
    pipes: Anchors,
}

/// A job on its way into a cell.
struct Errand<'a> {
    order: File,
    stdio: [OwnedFd; 3],
    desk: Desk<'a>,
    limits: Limits,
    cgroup: Vec<CgroupWrite>,
    pipes: Option<Anchors>,
}

impl<'a> Scene<'_, 'a> {
    /// Runs a plan.
    ///
    /// # Errors
    /// the fault that kept the job from being started.
    pub(super) fn act(
        &self,
        plan: Plan,
        way: Way,
        record: &mut Record,
        slot: &mut Option<Slot>,
        stash: Option<&'a mut Stash>,
    ) -> Result<Told, Fault> {
        let os = |e| faults::ours(&e);
        let deadline = self.deadline();
        let shape = &plan.shape;
        let (begun, primer, asked) = match way {
            Way::Warm(cell) => (Begun::Warm(*cell), None, None),
            Way::Cold(primer) => {
                let trees = &self.host.trees;
                *slot = Some(own::ids(self.policy, trees, shape.first_id, self.home, self.run, record)?);
                let asked = clock::now_ns();
                (Begun::Cold(self.begin(&plan, record)?), primer, Some(asked))
            }
        };
        // While the runtime is at work: everything of the job that needs no cell.
        let first_id = record.first_id.unwrap_or_default();
        let pipes = Pipes::make(first_id + shape.user.uid, first_id + shape.user.gid).map_err(os)?;
        let anchors = if self.places.is_empty() { None } else { Some(pipes.anchors().map_err(os)?) };
        let kept = stash.as_ref().map(|stash| stash.dir.clone());
        let errand = self.lay_out(plan, pipes, anchors, stash)?;
        let cell = match begun {
            Begun::Warm(cell) => cell,
            Begun::Cold(cell) => match cell.ready(self.signals, deadline, || self.announce(record)) {
                Ok(cell) => cell,
                Err(NoCell::Fault(fault)) => return Err(fault),
                Err(NoCell::Cancelled) => return Ok(self.never_ran(record, Stop::Cancelled)),
            },
        };
        let confine = |cell: &Cell<Running>| {
            drop(primer);
            cell.confine_ourselves(self.home, kept.as_ref().map(AvatarDir::path))
        };
        self.play(cell, errand, record, deadline, asked, confine)
    }

    /// Runs a plan in a cell that has run another before.
    ///
    /// # Errors
    /// the fault that kept the job from being started; the cell has ended then.
    pub(super) fn again(&self, plan: Plan, kept: Kept, record: &mut Record) -> Result<Told, Fault> {
        let pipes = kept.pipes.pipes(plan.fill.stdin.is_some()).map_err(|e| faults::ours(&e))?;
        let errand = self.lay_out(plan, pipes, Some(kept.pipes), None)?;
        self.play(kept.cell, errand, record, self.deadline(), None, |_| Ok(()))
    }

    /// Says that the program runs, before it can.
    fn announce(&self, record: &mut Record) -> OsResult<()> {
        record.state = RunState::Running;
        runs::write(self.run, record)
    }

    fn deadline(&self) -> u64 {
        clock::now_ns().saturating_add(self.policy.setup_timeout.nanos())
    }

    /// From the dispatch to the end. `asked` is when the runtime was, for a cell of the job's own.
    fn play(
        &self,
        cell: Cell<Waiting>,
        errand: Errand<'a>,
        record: &mut Record,
        deadline: u64,
        asked: Option<u64>,
        confine: impl FnOnce(&Cell<Running>) -> std::io::Result<()>,
    ) -> Result<Told, Fault> {
        let Errand { order, stdio, desk, limits, cgroup, pipes } = errand;
        let announced = record.state == RunState::Running;
        if !announced {
            self.announce(record).map_err(|e| faults::ours(&e))?;
        }
        let gauge = self.pinned.map(|pinned| Gauge::begin(&pinned.placement, self.group, self.host.swapless()));
        let mut cell = cell.dispatch(&order, &cgroup, &stdio, pipes.is_some())?;
        drop(stdio);
        let confined = confine(&cell);
        cell.expect_end();
        drop(order); // while the program runs: whoever lets go of it last frees its memory, and init has done so by now
        let cores = limits.cpus.map_or(probe::cpus(), |c| c.ceil() as u32);
        // A cell that stays is known to run already. The name of its next job is of use to those alone who see it run.
        let notice = (announced && asked.is_none()).then(|| {
            let write = || drop(runs::write(self.run, record));
            Notice { at: clock::now_ns() + NOTICE_NS, act: Box::new(write) }
        });
        let mut seen = supervise::watch(&mut cell, desk, self.signals, &limits, cores, deadline, notice);
        let unconfined = || confined.err().map(|e| format!("the supervisor could not confine itself: {e}"));
        seen.host_fault = seen.host_fault.or_else(unconfined);
        Ok(self.conclude(cell, seen, record, asked, gauge, pipes))
    }

    /// Has the runtime start a cell of this run's own.
    fn begin(&self, plan: &Plan, record: &Record) -> Result<Cell<Starting>, Fault> {
        let site = Site {
            home: self.home,
            run: self.run,
            group: self.group.clone(),
            cgroup: self.cgroup,
            runtime: &self.host.runtime,
            first_id: record.first_id.unwrap_or_default(),
            depot: self.depot,
            upper: self.upper,
            wait: None,
            ahead: self.prepared().then_some(&plan.fill),
        };
        Cell::start(site, &plan.shape)
    }

    /// Whether init can live under the filter before the job comes: no node for memory can be chosen then (`guest/ready.rs`).
    fn prepared(&self) -> bool {
        self.pinned.is_none_or(|pinned| pinned.placement.node.is_none())
    }

    /// The order, the program's three streams, and our ends of them.
    fn lay_out(
        &self,
        plan: Plan,
        pipes: Pipes,
        anchors: Option<Anchors>,
        stash: Option<&'a mut Stash>,
    ) -> Result<Errand<'a>, Fault> {
        let Plan { mut fill, limits, cgroup, .. } = plan;
        let Pipes { program, stdin, stdout, stderr } = pipes;
        let feed = feed::open(fill.stdin.take(), self.stdin, stdin)?;
        let collect = fill.collect.clone();
        let desk = Desk {
            stdout: streams::Capture::new(stdout, limits.output.0, self.live.map(|l| l.stdout)),
            stderr: streams::Capture::new(stderr, limits.output.0, self.live.map(|l| l.stderr)),
            feed,
            collecting: collect.is_some(),
            intake: intake::Intake::new(collect, stash),
        };
        let place = self.pinned.map(|pinned| pinned.placement.clone()).unwrap_or_default();
        let order = order::write(fill, &limits, &place, self.prepared(), self.places)?;
        Ok(Errand { order, stdio: program, desk, limits, cgroup, pipes: anchors })
    }

    fn conclude(
        &self,
        cell: Cell<Running>,
        seen: Seen,
        record: &mut Record,
        asked: Option<u64>,
        gauge: Option<Gauge>,
        pipes: Option<Anchors>,
    ) -> Told {
        // A waiting cell is asked for nothing but its job.
        let asked = asked.unwrap_or(cell.state.sent);
        let times = seen.times;
        let wall = times.started.zip(times.ended).map(|(from, to)| to - from);
        let meters = &cell.state.gauges.meters;
        let usage = usage::usage(&cell.state.base, &meters.read(), meters.peak_is_own(), wall);
        let quality = gauge.map(|gauge| gauge.end(&cell.group, usage.throttled_ns));
        let host_fault = seen.host_fault.or_else(|| {
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
        // What had to be stopped, or failed us, is not trusted with another job.
        let well = matches!(evidence.fate, Fate::Ran(Some(_))) && evidence.stop.is_none() && evidence.host_fault.is_none();
        let cancelled = evidence.stop == Some(Stop::Cancelled);
        // A run that leaves nothing is told of by its answer alone.
        let mut bury = |cell: Cell<Running>| cell.bury().inspect_err(|_| self.note_end(record, cancelled));
        let (buried, kept) = match pipes.filter(|_| well) {
            None => (bury(cell), None),
            Some(pipes) => match cell.renew() {
                Ok(cell) => (Ok(None), Some(Kept { cell, pipes })),
                Err(cell) => (bury(*cell), None),
            },
        };
        let (buried, leaving) = match buried {
            Ok(leaving) => (Ok(()), leaving),
            Err(why) => (Err(why), None),
        };
        Told { evidence, quality, phases, buried, leaving, kept, ended: times.harvested }
    }

    /// The run's end stands on disk before it is told; where that fails the answer is still true.
    fn note_end(&self, record: &mut Record, cancelled: bool) {
        record.state = if cancelled { RunState::Cancelled } else { RunState::Complete };
        let _ = runs::write(self.run, record);
    }

    /// The answer of a job that was cancelled before its cell was ready.
    pub(super) fn never_ran(&self, record: &mut Record, stop: Stop) -> Told {
        self.note_end(record, stop == Stop::Cancelled);
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
        let buried = demolish::extinguish(&self.host.trees, &self.run.id, self.cgroup).map_err(|e| e.to_string());
        Told { evidence, quality: None, phases, buried, leaving: None, kept: None, ended: now }
    }
}
