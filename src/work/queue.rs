//! Those who wait: for an avatar's run before theirs, and for a seat among the cells of a kata and of all.

use super::faults;
use super::katas as kata;
use crate::model::avatar::KataId;
use crate::model::fault::Fault;
use crate::model::policy::Policy;
use crate::os::clock;
use crate::os::error::At;
use crate::os::lease::Lease;
use crate::os::signal::{self, Signals};
use crate::os::watch::{self, For};
use crate::store::depot::Depot;
use crate::store::{katas, seats};
use nix::sys::signal::Signal;
use std::os::fd::AsFd;
use std::path::Path;

/// How often somebody who waits looks again: at first, and when he has waited for long.
const LOOK_NS: u64 = 2_000_000;
const LOOK_SELDOM_NS: u64 = 25_000_000;

/// A seat among the kata's cells, and one among all; where there is none, a place in the queue until there is.
///
/// # Errors
/// exit 3 `busy` where patience ends or the queue is full, exit 2 where the kata has gone.
pub(super) fn sit(
    place: &Path,
    id: &KataId,
    cells: u32,
    policy: &Policy,
    depot: &Depot,
    deadline: u64,
    signals: &Signals,
) -> Result<Vec<Lease>, Fault> {
    let os = |e| faults::ours(&e);
    let all = katas::shelf(depot);
    let rows = [
        ("kata", place.join("seats"), cells, "cells of the kata run already"),
        ("host", all.join("seats"), policy.katas.cells_in_all, "cells of katas run on this host already"),
    ];
    let (mut taken, mut queued) = (Vec::new(), None);
    for (what, dir, count, why) in rows {
        let ask = || match seats::take(&dir, count).map_err(os)? {
            None if !place.exists() => Err(kata::no_kata(id)),
            seat => Ok(seat),
        };
        let mut seat = ask()?;
        if seat.is_none() && queued.is_none() {
            queued = seats::take(&all.join("queue"), policy.katas.queue).map_err(os)?;
            if queued.is_none() {
                return Err(busy("queue", format!("{} runs wait already", policy.katas.queue)));
            }
        }
        if seat.is_none() {
            // One of those who wait for the same looks often, the others only for its turn.
            let turn = wait(deadline, signals, || match seats::turn(&dir).map_err(os)? {
                None if !place.exists() => Err(kata::no_kata(id)),
                turn => Ok(turn),
            })?;
            seat = if turn.is_some() { often(deadline, signals, ask)? } else { None };
        }
        taken.push(seat.ok_or_else(|| busy(what, format!("{count} {why}")))?);
    }
    Ok(taken)
}

/// The fault of one whose patience has ended.
pub(super) fn busy(what: &'static str, why: String) -> Fault {
    Fault::host("busy", why).at(what).hint("try again, or give it more time with --wait")
}

/// Asks again and again, ever less often, until there is an answer, or the deadline.
///
/// # Errors
/// of asking; exit 3 `cancelled` where a signal comes first, which stays to be read.
pub(super) fn wait<T>(deadline: u64, signals: &Signals, ask: impl Fn() -> Result<Option<T>, Fault>) -> Result<Option<T>, Fault> {
    // Of 64 who wait, each looking every 2 ms, two cores had nothing left for those who run (measured).
    asked(deadline, signals, ask, LOOK_SELDOM_NS)
}

/// The same without ever losing patience: for one at a time.
fn often<T>(deadline: u64, signals: &Signals, ask: impl Fn() -> Result<Option<T>, Fault>) -> Result<Option<T>, Fault> {
    asked(deadline, signals, ask, LOOK_NS)
}

fn asked<T>(
    deadline: u64,
    signals: &Signals,
    ask: impl Fn() -> Result<Option<T>, Fault>,
    seldom: u64,
) -> Result<Option<T>, Fault> {
    let began = clock::now_ns();
    loop {
        let now = clock::now_ns();
        match ask()? {
            None if now < deadline => {
                let pause = ((now - began) / 8).clamp(LOOK_NS, seldom);
                let told = watch::any(&[((), signals.as_fd(), For::Read)], Some(deadline.min(now + pause)));
                if told.is_ok_and(|told| !told.is_empty()) {
                    return Err(Fault::host("cancelled", "stopped by a signal while it waited; nothing was started"));
                }
            }
            answer => return Ok(answer),
        }
    }
}

/// From here on a signal ends a wait, or cancels the run.
///
/// # Errors
/// of signalfd.
pub(super) fn signals() -> Result<Signals, Fault> {
    signal::catch(&[Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP]).at("catch", "signals").map_err(|e| faults::ours(&e))
}
