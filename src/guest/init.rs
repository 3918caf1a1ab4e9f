//! Init's life, start to end.
//!
//! Theory of operation. The runtime starts this binary as PID 1 of a cell, with the job's own uid, no capability, and a
//! listening socket at descriptor 3. It accepts one connection, which is its lifeline: when that ends, init ends, and the
//! kernel kills the pid namespace. It receives a dispatch, starts the program in a session of its own, and polls the
//! socket and its signals from then on; it never blocks in wait, and for the program only until its execve. When the
//! program's main process has ended, everything else is killed, and only when init is the last process left does it report,
//! so a report proves that the cell is quiet.
//! One job is a cell's life, unless its dispatch names places to be emptied for another of the same avatar.
//!
//! The program shares our uid. It cannot trace us (not dumpable), signal us (PID 1 and, with Landlock ABI 6, scoped), nor
//! change our limits (seccomp). That is why the payload's descriptors never include our socket.

use super::exec::{self, Cradle, Started};
use super::ready::Ready;
use super::renew::Places;
use super::{deliver, harvest, reap};
use crate::model::code::ExitCode;
use crate::model::wire::{Dispatch, Exit, Order, Report, StartFailure, Step};
use crate::os::signal::Signals;
use crate::os::socket::{self, Peer};
use crate::os::watch::{self, For};
use crate::os::{clock, signal, sys};
use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};

/// How many seconds an unconnected init waits before it ends by itself, unless its command line says it.
const TTL: u64 = 60;
/// The largest dispatch apart from file contents: argv, env and file names of a 64 MiB job.
const DISPATCH_MOST: u64 = 128 << 20;

/// What ended the life early: the lifeline, or a system call that cannot fail in a sane cell.
struct Over;

impl From<io::Error> for Over {
    fn from(_: io::Error) -> Self {
        Self // nobody is left to be told: the supervisor sees the lifeline end
    }
}

/// Runs as PID 1. The exit code matters to nobody; reports go over the socket.
pub fn main() -> ExitCode {
    match live() {
        Ok(()) => ExitCode::SUCCESS,
        Err(Over) => ExitCode::FAILURE,
    }
}

fn live() -> Result<(), Over> {
    // Sooner or later everything is killed that we may signal: outside a pid namespace of our own that would be the host.
    if std::process::id() != 1 {
        return Err(Over);
    }
    let mut cradle = Cradle::new()?;
    // Before all that a program could meet: neither /proc/1/mem nor /proc/1/fd may be opened by it (measured: without this both
    // can be written).
    nix::sys::prctl::set_dumpable(false).map_err(io::Error::from)?;
    let listener = sys::inherited(3)?;
    // One that may prepare is told how long it may wait, and has the words at descriptor 4.
    let mut ahead = if std::env::args().nth(2).is_some() { Some(sys::inherited(4)?) } else { None };
    sys::cloexec_from(3)?;
    sys::default_signals();
    let signals = signal::catch(&[Signal::SIGCHLD, Signal::SIGTERM])?;
    let mut ready = Ready::default();
    let called = |until| Ok::<_, Over>(!watch::any(&[((), listener.as_fd(), For::Read)], Some(until))?.is_empty());
    if !called(0)? {
        if let Some(words) = ahead.take() {
            ready = Ready::for_ahead(words.into())?;
        }
        if !called(clock::now_ns().saturating_add(ttl()))? {
            return Err(Over);
        }
    }
    let peer = socket::accept(listener.as_fd())?;
    drop(listener);
    peer.send(&Report::Hello, &[])?;
    // Who is there already has as much to do now as this takes. If it fails, the program's start will, and tell why.
    if let Some(words) = ahead {
        ready = Ready::for_ahead(words.into()).unwrap_or_else(|e| Ready::failed(&e));
    }
    let mut places = None;
    while job(&peer, &signals, &mut cradle, &mut ready, &mut places)? {
        let (Some(places), Order::Renew) = (&places, next(&peer)?) else { sys::exit_now(0) };
        places.renew()?;
        peer.send(&Report::Renewed, &[])?;
    }
    // All that we hold goes with us; to give it back piece by piece would keep the supervisor waiting (0.07 ms of a warm run).
    sys::exit_now(0)
}

/// One job. `true`: there may be another.
fn job(
    peer: &Peer,
    signals: &Signals,
    cradle: &mut Cradle,
    ready: &mut Ready,
    places: &mut Option<Places>,
) -> Result<bool, Over> {
    let Some((dispatch, order, stdio)) = dispatch(peer)? else { return Ok(false) };
    if places.is_none() && !dispatch.places.is_empty() {
        *places = Some(Places::open(&dispatch.places)?);
        ready.for_more(&dispatch)?;
    }
    let delivered = match deliver::all(&dispatch.files, order) {
        Ok(delivered) => delivered,
        Err(failure) => {
            peer.send(&Report::NotStarted(failure), &[])?;
            return Ok(false);
        }
    };
    let started = exec::start(&dispatch, &stdio, ready, cradle).unwrap_or_else(|e| {
        let errno = e.raw_os_error().unwrap_or(libc::EAGAIN);
        Err(StartFailure { step: Step::Fork, errno, path: String::new(), head: Default::default(), mode: 0 })
    });
    drop(stdio);
    let Started { pid, at_ns } = match started {
        Ok(started) => started,
        Err(failure) => {
            peer.send(&Report::NotStarted(failure), &[])?;
            return Ok(false);
        }
    };
    peer.send(&Report::Started { at_ns }, &[])?;
    let (exit, at_ns) = Life::of(pid, &dispatch).watched(peer, signals)?;
    peer.send(&Report::Ended { exit, at_ns }, &[])?;
    if let Some(collect) = &dispatch.collect {
        while !matches!(next(peer)?, Order::Harvest) {} // Stop and Kill have nothing left to end
        harvest::send(peer, collect, delivered)?;
        peer.send(&Report::Done, &[])?;
    }
    Ok(places.is_some())
}

/// In nanoseconds.
fn ttl() -> u64 {
    let told = std::env::args().nth(2).and_then(|seconds| seconds.parse().ok());
    told.unwrap_or(TTL).saturating_mul(1_000_000_000)
}

/// The next order; its absence is the end of the lifeline.
fn next(peer: &Peer) -> Result<Order, Over> {
    peer.receive::<Order>(false)?.map(|packet| packet.message).ok_or(Over)
}

/// Waits for a job: its words, the memfd standing at the first file's content, and the program's three streams.
fn dispatch(peer: &Peer) -> Result<Option<(Dispatch, File, [OwnedFd; 3])>, Over> {
    let packet = peer.receive::<Order>(false)?.ok_or(Over)?;
    if packet.message != Order::Dispatch {
        return Ok(None); // stopped before anything began
    }
    let [order, stdin, stdout, stderr]: [OwnedFd; 4] = packet.fds.try_into().map_err(|_| Over)?;
    let mut order = File::from(order);
    let mut length = [0u8; 8];
    order.read_exact(&mut length)?;
    let most = usize::try_from(u64::from_le_bytes(length).min(DISPATCH_MOST)).map_err(|_| Over)?;
    let mut bytes = vec![0u8; most];
    order.read_exact(&mut bytes)?;
    let dispatch = postcard::from_bytes(&bytes).map_err(|_| Over)?;
    Ok(Some((dispatch, order, [stdin, stdout, stderr])))
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Source {
    Socket,
    Signals,
}

/// The program's life as init sees it.
struct Life {
    main: Pid,
    /// The main process's end, and when.
    exit: Option<(Exit, u64)>,
    /// After this time everything is killed, again and again until nothing is left.
    kill_at: Option<u64>,
    /// A stop of our own, should the supervisor be asleep.
    backstop: u64,
    grace: u64,
}

impl Life {
    fn of(main: Pid, d: &Dispatch) -> Self {
        let backstop = clock::now_ns().saturating_add(d.backstop_ns);
        Self { main, exit: None, kill_at: None, backstop, grace: d.grace_ns }
    }

    /// Stays until every process but us is gone: how the main one ended, and when.
    fn watched(mut self, peer: &Peer, signals: &Signals) -> Result<(Exit, u64), Over> {
        loop {
            if let Some(end) = self.exit
                && reap::none_left()
            {
                return Ok(end);
            }
            self.step(peer, signals)?;
        }
    }

    fn step(&mut self, peer: &Peer, signals: &Signals) -> Result<(), Over> {
        let sources = [(Source::Socket, peer.as_fd(), For::Read), (Source::Signals, signals.as_fd(), For::Read)];
        let ready = watch::any(&sources, Some(self.kill_at.unwrap_or(self.backstop)))?;
        if ready.contains(&Source::Socket) {
            match next(peer)? {
                Order::Stop => self.stop(),
                Order::Kill => self.kill_at = Some(0),
                Order::Dispatch | Order::Harvest | Order::Renew => {}
            }
        }
        while let Some(caught) = signals.next()? {
            // A TERM from inside is the program's own game.
            if caught.signal == Signal::SIGTERM && caught.from_outside {
                self.stop();
            }
        }
        self.reap();
        if clock::now_ns() >= self.backstop && self.kill_at.is_none() {
            self.stop();
        }
        self.kill_if_due();
        Ok(())
    }

    /// TERM to the program's process group, KILL to all after the grace; without grace at once, and no last word.
    fn stop(&mut self) {
        if self.kill_at.is_none() && self.grace == 0 {
            self.kill_at = Some(0);
        }
        if self.kill_at.is_none() {
            let _ = killpg(self.main, Signal::SIGTERM);
            // A stopped process acts on TERM only once it continues.
            let _ = killpg(self.main, Signal::SIGCONT);
            self.kill_at = Some(clock::now_ns().saturating_add(self.grace));
        }
    }

    fn reap(&mut self) {
        for (pid, exit) in reap::all() {
            // Only this pid: by clone(CLONE_PARENT) a stranger can become our child (measured).
            if pid == self.main && self.exit.is_none() {
                self.exit = Some((exit, clock::now_ns()));
                self.kill_at = Some(0); // what it leaves behind ends with it
            }
        }
    }

    fn kill_if_due(&mut self) {
        if self.kill_at.is_some_and(|at| clock::now_ns() >= at) {
            // Everything that we may signal in this pid namespace, except ourselves (kill(2)).
            let _ = kill(Pid::from_raw(-1), Signal::SIGKILL);
            self.reap();
            self.kill_at = Some(clock::now_ns() + 5_000_000);
        }
    }
}
