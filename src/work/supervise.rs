//! Watches one job from dispatch to the last byte: the one poll loop over init's socket, both streams, stdin, signals,
//! out-of-memory events and the clock. Whoever stops the job here writes the cause; the first cause stays.

use super::cell::{Cell, Running};
use super::feed::Feed;
use super::intake::Intake;
use super::streams::Capture;
use crate::model::evidence::{Channel, Fate, Stop};
use crate::model::limits::Limits;
use crate::model::outcome::{Collected, Stream};
use crate::model::wire::{Exit, Order, Report};
use crate::os::clock;
use crate::os::signal::Signals;
use crate::os::watch::{self, For};
use std::os::fd::{AsFd, BorrowedFd};

/// cpu time is read at least this often while it is limited; overshoot is at most this per busy core.
const CPU_TICK_NS: u64 = 25_000_000;
/// How long init may take, beyond what it was granted, before it is killed with everything else.
const PATIENCE_NS: u64 = 1_000_000_000;
/// What init has to say of a job besides its files: that it has started, has ended, and that this is all.
const REPORTS: usize = 3;
/// How long files may take to be brought back, and at the most what the dead have left in their pipes.
const HARVEST_NS: u64 = 30_000_000_000;
/// v1 tells of memory's end before it counts the kill: look again this often, for so long.
const OOM_RECHECK_NS: u64 = 2_000_000;
const OOM_RECHECKS: u32 = 100;
/// Room for init to bring the files back from a cell whose memory is full of tmpfs pages.
const HEADROOM: u64 = 64 << 20;

/// The streams and files of a job, on their way.
pub struct Desk<'a> {
    pub stdout: Capture<'a>,
    pub stderr: Capture<'a>,
    pub feed: Feed<'a>,
    pub intake: Intake<'a>,
    /// Whether init has been asked to bring files back.
    pub collecting: bool,
}

/// What was seen.
pub struct Seen {
    pub fate: Fate,
    pub stop: Option<Stop>,
    pub host_fault: Option<String>,
    pub stdout: Stream,
    pub stderr: Stream,
    pub files: Collected,
    pub times: Times,
}

/// When, in CLOCK_MONOTONIC ns.
#[derive(Clone, Copy, Debug, Default)]
pub struct Times {
    pub started: Option<u64>,
    pub ended: Option<u64>,
    pub harvested: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Source {
    Init,
    Signals,
    Out,
    Err,
    Stdin,
    LiveOut,
    LiveErr,
    Oom,
}

struct Watch<'w, 'a> {
    cell: &'w mut Cell<Running>,
    desk: Desk<'a>,
    limits: &'w Limits,
    cores: u64,
    times: Times,
    fate: Fate,
    stop: Option<Stop>,
    /// The sharpest order that init has been given.
    ordered: Option<Order>,
    host_fault: Option<String>,
    /// Init has nothing more to say.
    silent: bool,
    /// After this time init is not waited for any longer.
    give_up_at: u64,
    /// Until when each piece of what the dead have left grants the next one its time.
    drained_by: Option<u64>,
    /// The next look at the cpu counter.
    cpu_at: Option<u64>,
    oom_at: Option<(u64, u32)>,
    killed: bool,
    notice: Option<Notice<'a>>,
}

/// What is done once it is clear that the job is not over at once: when, and what.
pub struct Notice<'a> {
    pub at: u64,
    pub act: Box<dyn FnOnce() + 'a>,
}

/// Watches until the program is over and all that it wrote has arrived. `setup_deadline` bounds the time until it starts.
pub fn watch<'a>(
    cell: &mut Cell<Running>,
    desk: Desk<'a>,
    signals: &Signals,
    limits: &Limits,
    cores: u32,
    setup_deadline: u64,
    notice: Option<Notice<'_>>,
) -> Seen {
    let mut watch = Watch {
        cell,
        desk,
        limits,
        cores: u64::from(cores.max(1)),
        times: Times::default(),
        fate: Fate::NotReached,
        stop: None,
        ordered: None,
        host_fault: None,
        silent: false,
        give_up_at: setup_deadline,
        drained_by: None,
        cpu_at: None,
        oom_at: None,
        killed: false,
        notice,
    };
    let mut buf = Vec::new();
    while !watch.over() {
        if let Err(e) = watch.step(signals, &mut buf) {
            watch.broken(format!("supervision failed: {e}"));
        }
    }
    watch.times.harvested = clock::now_ns();
    let Watch { desk, fate, stop, host_fault, times, .. } = watch;
    Seen {
        fate,
        stop,
        host_fault,
        times,
        stdout: desk.stdout.finish(),
        stderr: desk.stderr.finish(),
        files: desk.intake.finish(),
    }
}

impl Watch<'_, '_> {
    fn over(&self) -> bool {
        self.silent && self.desk.stdout.source().is_none() && self.desk.stderr.source().is_none()
    }

    fn step(&mut self, signals: &Signals, buf: &mut Vec<u8>) -> std::io::Result<()> {
        let ready = watch::any(&self.sources(signals), Some(self.deadline()))?;
        for source in &ready {
            match source {
                Source::Init => self.hear()?,
                Source::Signals => self.signalled(signals)?,
                Source::Out if self.desk.stdout.read(buf)? => self.stop(Stop::OutputLimit(Channel::Stdout)),
                Source::Err if self.desk.stderr.read(buf)? => self.stop(Stop::OutputLimit(Channel::Stderr)),
                Source::Out | Source::Err => {}
                Source::Stdin => self.desk.feed.push(),
                Source::LiveOut => self.desk.stdout.write_some(),
                Source::LiveErr => self.desk.stderr.write_some(),
                Source::Oom => self.memory_event(),
            }
        }
        if ready.iter().any(|source| matches!(source, Source::Out | Source::Err)) {
            self.drained_some();
        }
        self.look_at_the_clock()
    }

    /// What is left in the pipes of the dead is finite, and only we, kept from the cpu, are late with it (measured: 1.7 s for 2 MB
    /// in a guest whose host was busy). Should somebody outside have been handed an end, `drained_by` bounds it.
    fn drained_some(&mut self) {
        if let Some(most) = self.drained_by {
            self.give_up_at = extended(self.give_up_at, clock::now_ns(), most);
        }
    }

    fn sources<'s>(&'s self, signals: &'s Signals) -> Vec<(Source, BorrowedFd<'s>, For)> {
        let mut all = vec![(Source::Signals, signals.as_fd(), For::Read)];
        let mut add = |tag, fd: Option<BorrowedFd<'s>>, what| all.extend(fd.map(|fd| (tag, fd, what)));
        add(Source::Init, Some(self.cell.state.peer.as_fd()).filter(|_| !self.silent), For::Read);
        add(Source::Out, self.desk.stdout.source(), For::Read);
        add(Source::Err, self.desk.stderr.source(), For::Read);
        add(Source::LiveOut, self.desk.stdout.sink(), For::Write);
        add(Source::LiveErr, self.desk.stderr.sink(), For::Write);
        if let Some((fd, what)) = self.desk.feed.waits() {
            add(Source::Stdin, Some(fd), what);
        }
        if let Some((fd, what)) = self.cell.state.gauges.oom.as_ref().map(|oom| oom.source()) {
            add(Source::Oom, Some(fd), what);
        }
        all
    }

    fn deadline(&self) -> u64 {
        [Some(self.give_up_at), self.wall_at(), self.cpu_at, self.oom_at.map(|(at, _)| at), self.notice.as_ref().map(|n| n.at)]
            .into_iter()
            .flatten()
            .min()
            .unwrap_or(u64::MAX)
    }

    /// The wall limit counts from execve, and only while nothing has ended or stopped the job.
    fn wall_at(&self) -> Option<u64> {
        let running = self.times.ended.is_none() && self.stop.is_none();
        self.times.started.filter(|_| running).map(|at| at.saturating_add(self.limits.wall.nanos()))
    }

    fn look_at_the_clock(&mut self) -> std::io::Result<()> {
        let now = clock::now_ns();
        if let Some(notice) = self.notice.take_if(|notice| now >= notice.at) {
            (notice.act)();
        }
        if self.wall_at().is_some_and(|at| now >= at) {
            self.stop(Stop::WallTime);
        }
        if self.cpu_at.is_some_and(|at| now >= at) {
            self.look_at_cpu(now);
        }
        if let Some((at, left)) = self.oom_at
            && now >= at
        {
            self.oom_at = left.checked_sub(1).map(|left| (now + OOM_RECHECK_NS, left));
            self.count_oom();
        }
        // Who was kept from the cpu meanwhile may not have heard yet what was said in time.
        for _ in 0..REPORTS {
            if now < self.give_up_at || self.silent {
                break;
            }
            self.hear()?;
        }
        if now >= self.give_up_at && !self.over() {
            self.give_up(now);
        }
        Ok(())
    }

    /// Init has not kept its time: everything dies, and its socket has nothing more to say.
    fn give_up(&mut self, now: u64) {
        if self.stop.is_none() {
            let what = if self.times.started.is_none() { "start the program" } else { "finish" };
            self.host_fault.get_or_insert(format!("the cell's init did not {what} in time"));
        }
        if self.killed {
            // Even after that somebody holds our pipes: a process that cannot die. Its last bytes are not waited for.
            self.silent = true;
            self.desk.stdout.close();
            self.desk.stderr.close();
        }
        self.cell.kill();
        self.killed = true;
        self.give_up_at = now + PATIENCE_NS;
    }

    /// What happens depends on what it is for: a deadline or a cancellation leaves the program its grace, a flood of any
    /// kind does not, as each further moment costs what the limit protects.
    fn stop(&mut self, cause: Stop) {
        let gently = matches!(cause, Stop::WallTime | Stop::Cancelled);
        let again = self.stop.is_some();
        // There is no sharper order than Kill: a flood that goes on asks for it with each piece.
        let useless = self.times.ended.is_some() || self.ordered == Some(Order::Kill);
        if useless || (again && gently && cause != Stop::Cancelled) {
            return;
        }
        self.stop.get_or_insert(cause);
        self.desk.feed.close();
        // A second cancellation is impatience.
        let order = if gently && !again { Order::Stop } else { Order::Kill };
        let grace = if order == Order::Stop { self.limits.grace.nanos() } else { 0 };
        let until = clock::now_ns().saturating_add(grace + grace / 4).saturating_add(PATIENCE_NS);
        self.give_up_at = if again { self.give_up_at.min(until) } else { until };
        // If init has just ended it cannot be told any more, but its last reports are still to be read.
        let _ = self.cell.state.peer.send(&order, &[]);
        self.ordered = Some(order);
    }

    fn signalled(&mut self, signals: &Signals) -> std::io::Result<()> {
        // One a turn: a storm of them must not keep us from the rest.
        if signals.next()?.is_some() {
            self.stop(Stop::Cancelled);
        }
        Ok(())
    }

    fn look_at_cpu(&mut self, now: u64) {
        let limit = self.limits.cpu.map_or(u64::MAX, |c| c.nanos());
        let base = self.cell.state.base.cpu_ns.unwrap_or(0);
        let used = self.cell.state.gauges.meters.cpu_ns().unwrap_or(base).saturating_sub(base);
        if used >= limit {
            self.cpu_at = None;
            self.stop(Stop::CpuTime);
            return;
        }
        // All cores busy, the limit is reached no sooner than this.
        let soonest = (limit - used) / self.cores;
        self.cpu_at = Some(now + soonest.clamp(1_000_000, CPU_TICK_NS));
    }

    fn memory_event(&mut self) {
        if let Some(oom) = &mut self.cell.state.gauges.oom {
            oom.rearm();
        }
        self.oom_at = Some((clock::now_ns() + OOM_RECHECK_NS, OOM_RECHECKS));
        self.count_oom();
    }

    fn count_oom(&mut self) {
        let base = self.cell.state.base.oom_kills.unwrap_or(0);
        if self.cell.state.gauges.meters.oom_kills().is_some_and(|n| n > base) {
            self.oom_at = None;
            self.headroom();
            self.stop(Stop::Memory);
        }
    }

    /// Pages of the tmpfs stay charged when the program is dead; init must not be the next to die of them.
    fn headroom(&mut self) {
        self.cell.state.gauges.limited = false;
        let more = self.limits.memory.0.saturating_add(HEADROOM).to_string();
        let files = ["memory.memsw.limit_in_bytes", "memory.limit_in_bytes", "memory.max"];
        for file in files {
            // Each layout has some of them, in this order; a limit that cannot be raised changes nothing.
            let _ = self.cell.group.set("memory", file, &more);
        }
    }

    /// Takes one report.
    fn hear(&mut self) -> std::io::Result<()> {
        let report = match self.cell.state.peer.receive::<Report>(true) {
            Ok(Some(packet)) => packet.message,
            Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => return Ok(()),
            Ok(None) => {
                self.lost();
                return Ok(());
            }
            Err(e) => return Err(e),
        };
        let now = clock::now_ns();
        match report {
            Report::Started { at_ns } if self.times.started.is_none() => self.started(at_ns.min(now)),
            Report::NotStarted(failure) if self.times.started.is_none() => {
                self.fate = Fate::NotStarted(failure);
                self.give_up_at = now + PATIENCE_NS;
            }
            Report::Ended { exit, at_ns } if self.times.ended.is_none() && self.times.started.is_some() => {
                self.ended(exit, at_ns.min(now))
            }
            Report::Done => {
                if self.times.ended.is_some() {
                    self.desk.intake.done();
                }
                self.silent = true;
            }
            _ if self.times.ended.is_none() => self.broken("init reported out of turn".into()),
            file => {
                if let Err(lie) = self.desk.intake.take(file) {
                    self.broken(format!("init reported {}", lie.0));
                }
            }
        }
        Ok(())
    }

    fn started(&mut self, at: u64) {
        self.times.started = Some(at);
        self.fate = Fate::Ran(None);
        self.cell.begun();
        if self.stop.is_none() {
            self.give_up_at = u64::MAX;
        }
        if self.limits.cpu.is_some() {
            self.look_at_cpu(clock::now_ns());
        }
    }

    fn ended(&mut self, exit: Exit, at: u64) {
        // Both layouts count a kill before they send it (mm/oom_kill.c), so what memory has ended is known here, though the end
        // may be heard of first.
        self.count_oom();
        self.times.ended = Some(at.max(self.times.started.unwrap_or(0)));
        self.fate = Fate::Ran(Some(exit));
        self.cpu_at = None;
        self.desk.feed.close();
        self.rest();
        if self.desk.collecting {
            self.headroom();
            self.give_up_at = clock::now_ns() + HARVEST_NS;
            if self.cell.state.peer.send(&Order::Harvest, &[]).is_err() {
                self.lost();
            }
        } else {
            self.desk.intake.done();
            self.silent = true;
        }
    }

    /// The lifeline has ended: init is dead, and with it the pid namespace. Streams end by themselves.
    fn lost(&mut self) {
        self.silent = true;
        self.killed = true;
        self.count_oom();
        self.rest();
    }

    /// Nothing runs any more; only what was written is still to be read.
    fn rest(&mut self) {
        let now = clock::now_ns();
        self.give_up_at = now + PATIENCE_NS;
        self.drained_by.get_or_insert(now + HARVEST_NS);
    }

    fn broken(&mut self, why: String) {
        self.host_fault.get_or_insert(why);
        self.lost();
        self.cell.kill();
    }
}

/// When to give up, after another piece has come `now`: never sooner than before, at the latest at `most`.
fn extended(give_up_at: u64, now: u64, most: u64) -> u64 {
    give_up_at.max(most.min(now.saturating_add(PATIENCE_NS)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_piece_grants_the_next_its_time_but_not_for_ever() {
        let (ended, most) = (5 * PATIENCE_NS, 5 * PATIENCE_NS + HARVEST_NS);
        let first = ended + PATIENCE_NS;
        assert_eq!(extended(first, ended, most), first);
        assert_eq!(extended(first, first + 7, most), first + 7 + PATIENCE_NS);
        assert_eq!(extended(first, most - 1, most), most);
        // One that is granted more already, for files, keeps it.
        assert_eq!(extended(most + 3, ended, most), most + 3);
    }
}
