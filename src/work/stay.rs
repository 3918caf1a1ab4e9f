//! A cell that stays for the next jobs of its avatar. Between two of them everything is killed, every place that a program could
//! write is emptied, and the pipes and the counters begin anew (`Cell::renew`); a job that had to be stopped is the cell's last.
//!
//! Its supervisor has given up its rights with the first job. So all that a further job's plan needs was looked at before, and a
//! job that names what was not is none of this cell's (`rules/reuse.rs`).

use super::answer::Frame;
use super::decide::{Ground, Setting};
use super::host::Host;
use super::scene::{Kept, Scene, Told};
use super::taken::Taken;
use super::{demolish, faults};
use crate::model::colour::ColourRule;
use crate::model::fault::Fault;
use crate::model::job::Job;
use crate::model::names::RunId;
use crate::model::outcome::{Outcome, Start};
use crate::model::plan::{CgroupWrite, Plan, Shape};
use crate::model::record::Record;
use crate::os::cgroup::Group;
use crate::os::signal::Signals;
use crate::os::watch::{self, For};
use crate::os::{clock, probe};
use crate::store::depot::Depot;
use crate::store::home::{Home, RunDir};
use crate::store::runs;
use std::os::fd::{AsFd, BorrowedFd};

/// After this time without a job the record names none: until then another is likely, and a record costs as much as a program.
const IDLE_NS: u64 = 50_000_000;

/// What every job of one cell must have alike, and a number to name their runs by.
#[derive(Debug)]
pub(super) struct Alike {
    shape: Shape,
    cgroup: Vec<CgroupWrite>,
    number: u128,
}

impl Alike {
    /// # Errors
    /// exit 4 without randomness.
    pub(super) fn of(plan: &Plan) -> Result<Self, Fault> {
        let number = probe::random().map_err(|e| faults::ours(&e))?;
        Ok(Self { shape: plan.shape.clone(), cgroup: plan.cgroup.clone(), number })
    }
}

pub(super) struct Stay {
    /// `None` where it has ended with its last job.
    pub(super) kept: Option<Kept>,
    pub(super) alike: Alike,
    pub(super) ground: Ground,
    pub(super) host: Host,
    pub(super) home: Home,
    pub(super) run: RunDir,
    pub(super) depot: Depot,
    pub(super) image: String,
    pub(super) colours: Vec<ColourRule>,
    pub(super) signals: Signals,
    pub(super) group: Group,
    pub(super) places: Vec<String>,
    pub(super) record: Record,
    /// Holds the image in the store until the cell is over.
    pub(super) taken: Option<Taken>,
}

impl Stay {
    /// Whether it is still ready for a job.
    pub(super) fn ready(&self) -> bool {
        self.kept.is_some()
    }

    /// Waits until there is something to read. `false`: the cell has ended meanwhile, or is to end.
    pub(super) fn wait(&mut self, errands: BorrowedFd<'_>) -> bool {
        #[derive(Clone, Copy, PartialEq)]
        enum Source {
            Errands,
            Signals,
            Init,
        }
        let Some(kept) = &self.kept else { return false };
        let sources = [
            (Source::Errands, errands, For::Read),
            (Source::Signals, self.signals.as_fd(), For::Read),
            (Source::Init, kept.cell.state.peer.as_fd(), For::Read),
        ];
        let mut until = Some(clock::now_ns() + IDLE_NS);
        loop {
            match watch::any(&sources, until) {
                Ok(ready) if ready.is_empty() => {
                    if until.take().is_some() {
                        (self.record.id, self.record.argv0) = (None, String::new());
                        let _ = runs::write(&self.run, &self.record); // it names a job that is over, no more
                    }
                }
                Ok(ready) => return ready == [Source::Errands],
                Err(_) => return false,
            }
        }
    }

    /// Runs the next job.
    ///
    /// # Errors
    /// the fault that kept it from being started; the cell may have ended with it.
    pub(super) fn next(&mut self, job: Job, digest: &str, setting: Setting<'_>) -> Result<Outcome, Fault> {
        let began = clock::now_ns();
        let (id, labels) = (job.id.clone(), job.labels.clone());
        let plan = self.ground.plan(job, setting.policy, setting.best_effort)?;
        let other = plan.shape != self.alike.shape || plan.cgroup != self.alike.cgroup;
        let Some(kept) = self.kept.take_if(|_| !other) else {
            return Err(Fault::ours("internal", "a job has come to a cell that is not of its kind"));
        };
        self.record.id = id.clone();
        self.record.argv0 = plan.fill.argv.first().cloned().unwrap_or_default();
        let frame = Frame::new(id, labels, digest, &plan, &self.host, self.image.clone())
            .started(Start::Reused)
            .coloured(self.colours.clone());
        let scene = Scene {
            host: &self.host,
            policy: setting.policy,
            home: &self.home,
            run: &self.run,
            group: &self.group,
            cgroup: &self.record.cgroup.clone(),
            signals: &self.signals,
            stdin: None,
            live: None,
            began,
            depot: &self.depot,
            upper: None,
            pinned: None,
            places: &self.places,
        };
        let Told { evidence, mut phases, buried, kept, ended, .. } = scene.again(plan, kept, &mut self.record)?;
        self.kept = kept;
        phases.teardown_ns = clock::now_ns().saturating_sub(ended);
        // The directory keeps the first one's name; what is told is each one's own.
        self.alike.number = self.alike.number.wrapping_add(1);
        let run = RunId::new(clock::wall_millis(), self.alike.number);
        Ok(frame.outcome(run.to_string(), evidence, phases, buried))
    }

    /// Ends the cell, and proves it empty.
    ///
    /// # Errors
    /// where something resists.
    pub(super) fn end(self) -> Result<(), String> {
        let ended = match self.kept {
            Some(kept) => kept.cell.bury(),
            None => demolish::empty(&self.group).map_err(|e| e.to_string()),
        };
        // Not before: until then a cell shows it.
        drop(self.taken);
        ended
    }
}
