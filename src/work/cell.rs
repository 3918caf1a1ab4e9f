//! One living single-use container. Its states are types: it is created once, dispatched to once, and used up.

use super::hello::{self, NoCell};
use super::staged::Staged;
use super::{demolish, faults, order, prepare};
use crate::model::counters::Counters;
use crate::model::fault::Fault;
use crate::model::plan::{CgroupWrite, Fill, Shape};
use crate::model::wire::{Order, Report};
use crate::os::cgroup::Group;
use crate::os::counters::{self, Meters, OomWatch};
use crate::os::error::{At, OsError, OsResult};
use crate::os::namespaces::{Leaving, Namespaces};
use crate::os::process::{End, Process};
use crate::os::signal::Signals;
use crate::os::socket::{self, Packet, Peer};
use crate::os::watch::{self, For};
use crate::os::{clock, confine, mount};
use crate::rules::spec::{self, Place};
use crate::runtime::call::Call;
use crate::runtime::driver::{Runtime, Start};
use crate::store::depot::Depot;
use crate::store::home::{Home, RunDir};
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

/// What every state of a cell has.
#[derive(Debug)]
pub struct Cell<S> {
    pub run: RunDir,
    pub group: Group,
    pub state: S,
    guard: Guard,
}

/// The runtime is at work.
#[derive(Debug)]
pub struct Starting {
    /// The lifeline; none if the cell is to wait for somebody else.
    peer: Option<Peer>,
    staged: Staged,
}

/// Init runs and waits for its job.
#[derive(Debug)]
pub struct Waiting {
    pub peer: Peer,
    pub init: Process,
    gauges: Gauges,
}

/// What is kept open of a cell's group while jobs run in it.
#[derive(Debug)]
pub struct Gauges {
    pub meters: Meters,
    pub oom: Option<OomWatch>,
    /// Whether the limits are those that were written at the dispatch.
    pub limited: bool,
}

impl Gauges {
    fn open(group: &Group) -> Self {
        Self { meters: Meters::open(group), oom: None, limited: false }
    }
}

/// The job is under way.
#[derive(Debug)]
pub struct Running {
    pub peer: Peer,
    pub init: Process,
    pub gauges: Gauges,
    pub base: Counters,
    /// When the job was sent, in CLOCK_MONOTONIC ns.
    pub sent: u64,
    /// Whether init waits for word after the job.
    stays: bool,
}

/// Ends whatever lives should we leave early, by error or panic.
#[derive(Debug)]
struct Guard {
    group: Group,
    /// None where the runtime had ended before we came.
    runtime: Option<Process>,
    /// Init's, once there is one: to take them down is not init's business then.
    namespaces: Option<Namespaces>,
    /// The same, when they are to go with init.
    leaving: Option<Leaving>,
    armed: bool,
}

impl Guard {
    fn kill(&self, init: &Process) {
        self.group.kill();
        init.kill();
        if let Some(runtime) = &self.runtime {
            runtime.kill_group();
        }
    }

    /// From here on the mounts go as soon as init has. Where nothing can see to that, init's end waits for them.
    fn let_go(&mut self, lifeline: &Peer) {
        if let Some(namespaces) = self.namespaces.take()
            && let Ok(end) = lifeline.as_fd().try_clone_to_owned()
        {
            self.leaving = namespaces.leave_after(end).ok();
        }
    }

    /// Sees a cell whose init has ended, or been killed, to its end.
    fn bury(mut self, init: &Process) -> Result<(), String> {
        let deadline = clock::now_ns() + demolish::DEADLINE_NS;
        // The runtime first: until it has ended, init is its child and not ours to reap.
        if let Some(runtime) = &self.runtime
            && !runtime.wait_group(deadline).is_ok_and(|end| end.is_some())
        {
            return Err("the cell's runtime does not end".to_owned());
        }
        // A claimed cell's init is not ours to reap; that it has ended is what counts, and the group's removal proves the rest.
        if !init.wait(deadline).is_ok_and(|end| end.is_some()) {
            return Err("the cell's init does not end".to_owned());
        }
        demolish::empty(&self.group).map_err(|e| e.to_string())?;
        self.armed = false;
        Ok(())
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        if self.armed {
            if let Some(runtime) = &self.runtime {
                runtime.kill_group();
                // Until it is gone it may still be making groups, and files: on a busy disk it may not die for a while.
                let _ = runtime.wait(clock::now_ns() + demolish::DEADLINE_NS);
            }
            // Whatever fails here is left to gc, which finds it by the run's record.
            let _ = demolish::empty(&self.group);
        }
    }
}

/// Where a new cell comes from.
#[derive(Debug)]
pub struct Site<'a> {
    pub home: &'a Home,
    pub run: &'a RunDir,
    pub group: Group,
    /// Relative to each cgroup mount.
    pub cgroup: &'a str,
    pub runtime: &'a Runtime,
    pub first_id: u32,
    pub depot: &'a Depot,
    /// Where a writable root's changes are to stay.
    pub upper: Option<&'a Path>,
    /// How many seconds the cell is to wait for somebody to claim it; `None`: it is ours from the start.
    pub wait: Option<u64>,
    /// Whose rules init can prepare before the job comes; `None` where it must not.
    pub ahead: Option<&'a Fill>,
}

impl Cell<Starting> {
    /// Calls the runtime, and prepares the cell's root and configuration while that is busy with itself.
    ///
    /// # Errors
    /// of preparation, or where the runtime cannot even be executed. No process is left then.
    pub fn start(site: Site<'_>, shape: &Shape) -> Result<Self, Fault> {
        let os = |e| faults::ours(&e);
        let Site { home, run, group, cgroup, runtime, first_id, depot, upper, wait, ahead } = site;
        let init =
            std::env::current_exe().map_err(|e| Fault::ours("internal", format!("our own binary cannot be found: {e}")))?;
        mount::private_namespace().map_err(os)?;
        let listener = socket::listen_at(run.path(), RunDir::SOCKET).map_err(os)?;
        let connect = || socket::connect_to(run.path(), RunDir::SOCKET).map_err(os);
        let peer = if wait.is_none() { Some(connect()?) } else { None };
        let (log, console) = (run.log(), run.console());
        let blank = ahead.map(|_| order::blank()).transpose()?;
        let below = blank.as_ref().map(|blank| blank.as_fd().try_clone_to_owned()).transpose();
        let below = below.at("duplicate", "a memfd").map_err(os)?;
        let start = Start {
            id: run.id.as_str(),
            state: &home.runtimes(),
            bundle: run.bundle(),
            log: &log,
            console: &console,
            fds: std::iter::once(listener).chain(below).collect(),
            more: None,
        };
        let call = Call::new(runtime, start).map_err(os)?;
        if let Some((fill, blank)) = ahead.zip(blank.as_ref()) {
            order::ahead(fill, blank)?;
        }
        let mut staged = prepare::root(home, depot, run, shape, first_id, upper, runtime.quirks.devices.then_some(&*init))?;
        let devices = staged.devices.as_ref().map(|dir| dir.to_string_lossy().into_owned());
        let (rootfs, init) = (staged.rootfs.clone(), init.to_string_lossy());
        let place = Place {
            first_id,
            cgroup,
            rootfs: &rootfs.to_string_lossy(),
            init: &init,
            devices: devices.as_deref(),
            staged: std::mem::take(&mut staged.sources),
            sandbox: None,
        };
        let config = prepare::config(&spec::cell(shape, &place, wait.or(ahead.map(|_| PATIENCE)))?)?;
        let runtime = Some(call.configured(&config).map_err(os)?);
        let guard = Guard { group: group.clone(), runtime, namespaces: None, leaving: None, armed: true };
        Ok(Self { run: run.clone(), group, state: Starting { peer, staged }, guard })
    }

    /// Waits until the cell's init says hello. The runtime has mostly ended by then, 0.8 ms before (measured), so that there is time
    /// `meanwhile`.
    ///
    /// # Errors
    /// of the runtime (with its own words), of the deadline, of `meanwhile`; or cancellation. No process is left then.
    pub fn ready(
        mut self,
        signals: &Signals,
        deadline: u64,
        meanwhile: impl FnOnce() -> OsResult<()>,
    ) -> Result<Cell<Waiting>, NoCell> {
        let Starting { peer, mut staged } = self.state;
        let (Some(peer), Some(runtime)) = (peer, &self.guard.runtime) else {
            return Err(Fault::ours("internal", "the cell waits for somebody else").into());
        };
        let listen = |up| hello::await_hello(&peer, runtime, &self.run, signals, deadline, up);
        let early = listen(false)?;
        meanwhile()?;
        let gauges = Gauges::open(&self.group);
        let init = match early {
            Some(init) => init,
            None => listen(true)?.ok_or_else(|| hello::complaint(&self.run, hello::SILENT))?,
        };
        staged.detach()?;
        self.guard.namespaces = Namespaces::of(init.pid).ok();
        Ok(Cell { run: self.run, group: self.group, state: Waiting { peer, init, gauges }, guard: self.guard })
    }

    /// Waits until the runtime has started the cell, and leaves it to whoever claims it. Its memory then is the answer.
    ///
    /// # Errors
    /// of the runtime (with its own words), of the deadline; or cancellation. No process is left then.
    pub fn park(mut self, signals: &Signals, deadline: u64) -> Result<Option<u64>, NoCell> {
        let Some(runtime) = &self.guard.runtime else { return Err(Fault::ours("internal", "nothing was started").into()) };
        let sources = [(true, runtime.as_fd(), For::Read), (false, signals.as_fd(), For::Read)];
        let ready = watch::any(&sources, Some(deadline)).map_err(|e| faults::ours(&socket::on_socket(e)))?;
        if ready.contains(&false) && signals.next().is_ok_and(|s| s.is_some()) {
            return Err(NoCell::Cancelled);
        }
        match runtime.wait_group(deadline) {
            Ok(Some(End::Well)) => {}
            Ok(None) => return Err(Fault { code: "runtime:timeout", ..hello::complaint(&self.run, hello::LATE) }.into()),
            _ => return Err(hello::complaint(&self.run, hello::FAILED).into()),
        }
        self.state.staged.detach_all()?;
        self.group.shed();
        self.guard.armed = false;
        Ok(counters::memory(&self.group))
    }
}

impl Cell<Waiting> {
    /// Takes over a cell that has been waiting, if it is as it was left: its init answers, is its only process, and takes up
    /// no more than `most` bytes of memory.
    ///
    /// # Errors
    /// why it is not fit; its processes have been killed then, but may still be dying.
    pub fn claim(run: RunDir, group: Group, most: u64) -> Result<Self, String> {
        match meet(&run, &group, most) {
            Ok(state) => {
                // From here on whatever goes wrong ends the cell.
                let namespaces = Namespaces::of(state.init.pid).ok();
                let guard = Guard { group: group.clone(), runtime: None, namespaces, leaving: None, armed: true };
                Ok(Cell { run, group, state, guard })
            }
            Err(why) => {
                group.kill();
                Err(why)
            }
        }
    }
}

fn meet(run: &RunDir, group: &Group, most: u64) -> Result<Waiting, String> {
    let peer = socket::connect_to(run.path(), RunDir::SOCKET).map_err(|e| e.to_string())?;
    // Looked at while init wakes up, which takes it as long. Whose pid says hello below has been the listener all the while, so
    // that a number that is listed here is its own.
    let (inside, memory, gauges) = (group.members(), counters::memory(group), Gauges::open(group));
    let soon = clock::now_ns() + CLAIM_NS;
    watch::any(&[((), peer.as_fd(), For::Read)], Some(soon)).map_err(|e| e.to_string())?;
    let Ok(Some(Packet { message: Report::Hello, pid: Some(pid), .. })) = peer.receive::<Report>(true) else {
        return Err("its init does not answer".to_owned());
    };
    let init = Process::hold(pid).map_err(|e| e.to_string())?;
    if !inside.iter().eq([&pid]) {
        return Err(format!("{} processes are in it", inside.len()));
    }
    match memory {
        Some(now) if now > most => Err(format!("it takes up {now} bytes")),
        _ => Ok(Waiting { peer, init, gauges }),
    }
}

impl Cell<Waiting> {
    /// Ends a cell that nobody needs any more, and proves that nothing is left.
    ///
    /// # Errors
    /// where something resists; the guard has then done what can be done.
    pub fn bury(self) -> Result<(), String> {
        self.guard.kill(&self.state.init);
        self.guard.bury(&self.state.init)
    }

    /// Writes the late-bound limits, reads the counters, sends the job. From here on the program may run. `stays`: the order names
    /// places to be emptied for another.
    ///
    /// # Errors
    /// exit 3 where the kernel refuses a limit, exit 4 where init is gone.
    pub fn dispatch(
        self,
        order: &File,
        writes: &[CgroupWrite],
        stdio: &[OwnedFd; 3],
        stays: bool,
    ) -> Result<Cell<Running>, Fault> {
        let Waiting { peer, init, mut gauges } = self.state;
        if !gauges.limited {
            for write in writes {
                self.group.set(write.controller, write.file, &write.value).map_err(|e| refused(write, &e))?;
            }
        }
        gauges.limited = true;
        if gauges.oom.is_none() && writes.iter().any(|w| w.limit == "memory") {
            gauges.oom = Some(OomWatch::new(&self.group).map_err(|e| faults::ours(&e))?);
        }
        gauges.meters.reset_peak();
        let base = gauges.meters.read();
        let [stdin, stdout, stderr] = stdio;
        let fds = [order.as_fd(), stdin.as_fd(), stdout.as_fd(), stderr.as_fd()];
        let sent = clock::now_ns();
        peer.send(&Order::Dispatch, &fds).map_err(|e| faults::ours(&socket::on_socket(e)))?;
        let state = Running { peer, init, gauges, base, sent, stays };
        Ok(Cell { run: self.run, group: self.group, state, guard: self.guard })
    }
}

fn refused(write: &CgroupWrite, e: &OsError) -> Fault {
    Fault::host("cgroup:refused", format!("the kernel refuses limits.{}: {e}", write.limit))
        .at(format!("limits.{}", write.limit))
        .hint("ask for another value, or run with --best-effort where the host lacks the file")
}

/// For how many seconds an init that is ours from the start waits, should we end before it is there.
const PATIENCE: u64 = 60;
/// A waiting init answers within microseconds; one that has not by now is not fit for work.
const CLAIM_NS: u64 = 500_000_000;
/// How long init may take to empty a cell; where that is more than a new one takes, it is not worth it.
const RENEW_NS: u64 = 500_000_000;

impl Cell<Running> {
    /// Gives up all rights that are not needed any more, before anything that the program made is read. `more` is a directory that
    /// is still to be written.
    ///
    /// # Errors
    /// of Landlock or capset.
    pub fn confine_ourselves(&self, home: &Home, more: Option<&Path>) -> std::io::Result<()> {
        let mut ours = vec![home.root().to_owned()];
        ours.extend(more.map(Path::to_owned));
        // Removing a group needs rights on the directory above it.
        ours.extend(self.group.directories().filter_map(Path::parent).map(Path::to_owned));
        let ours: Vec<&Path> = ours.iter().map(std::path::PathBuf::as_path).collect();
        confine::supervisor(&ours)?;
        confine::drop_capabilities()
    }

    /// To be called while there is nothing to do but wait: makes ready what must be done when init ends, if it ends with this job.
    pub fn expect_end(&mut self) {
        if !self.state.stays {
            self.guard.let_go(&self.state.peer);
        }
    }

    /// To be called when the program has begun: what was made ready waits by then, and can be told where.
    pub fn begun(&self) {
        self.guard.leaving.iter().for_each(Leaving::make_way);
    }

    /// Kills without asking init: for one that is frozen, stopped, out of memory or dishonest.
    pub fn kill(&self) {
        self.guard.kill(&self.state.init);
    }

    /// Has init make the cell as new for another job: it kills and empties, and is the only process left.
    ///
    /// # Errors
    /// the cell, which is to be buried then.
    pub fn renew(self) -> Result<Cell<Waiting>, Box<Self>> {
        if !self.renewed().unwrap_or(false) {
            return Err(Box::new(self));
        }
        let Running { peer, init, gauges, .. } = self.state;
        Ok(Cell { run: self.run, group: self.group, state: Waiting { peer, init, gauges }, guard: self.guard })
    }

    fn renewed(&self) -> std::io::Result<bool> {
        let Running { peer, init, gauges, .. } = &self.state;
        peer.send(&Order::Renew, &[])?;
        watch::any(&[((), peer.as_fd(), For::Read)], Some(clock::now_ns() + RENEW_NS))?;
        let said = peer.receive::<Report>(true)?.map(|packet| packet.message);
        let alone = || gauges.meters.tasks().map_or_else(|| self.group.members().iter().eq([&init.pid]), |tasks| tasks == 1);
        Ok(said == Some(Report::Renewed) && alone())
    }

    /// Proves that nothing is left: init reaped, the runtime reaped, the group removed. What was mounted may be on its way yet,
    /// where nobody can use it any more.
    ///
    /// # Errors
    /// where something resists; the guard has then done what can be done.
    pub fn bury(self) -> Result<Option<Leaving>, String> {
        let Self { state: Running { peer, init, gauges, stays, .. }, mut guard, .. } = self;
        if stays {
            let _ = peer.send(&Order::Kill, &[]); // it may have ended
        }
        guard.let_go(&peer);
        let leaving = guard.leaving.take();
        drop(gauges);
        // Init ends by itself after its last report; dead or not, the pid namespace ends with it.
        let soon = clock::now_ns() + 500_000_000;
        if !init.await_end(soon).is_ok_and(|end| end.is_some()) {
            guard.kill(&init);
        }
        guard.bury(&init).map(|()| leaving)
    }

    /// What the runtime had to say, if it ended badly.
    pub fn runtime_failure(&self) -> Option<String> {
        let runtime = self.guard.runtime.as_ref()?;
        matches!(runtime.ended(), Ok(Some(End::Badly))).then(|| hello::complaint(&self.run, "the runtime failed").message)
    }
}
