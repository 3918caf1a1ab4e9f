//! One stage: once and never again, whoever asks for it at the same time.
//!
//! The key's lease makes one builder work while the others wait and then find what it gave. The run takes place in a process of
//! its own, as a supervisor gives up its rights for good before it reads what a program wrote. What the program changed lies on a
//! bench until it is whole and named; a crash leaves a bench without owner, which gc sweeps.

use super::decide::Setting;
use super::recipes::Step;
use super::run;
use super::scene::Live;
use super::{commit, faults, room};
use crate::model::fault::Fault;
use crate::model::image::{Defaults, Image, Layer};
use crate::model::job::ImageRef;
use crate::model::outcome::{Outcome, Verdict};
use crate::model::policy::Policy;
use crate::model::reference::{Digest, DigestPrefix};
use crate::os::error::OsError;
use crate::os::lease::Lease;
use crate::os::{apart, clock, files, watch};
use crate::store::bench::Bench;
use crate::store::depot::Depot;
use crate::store::{layers, stages};
use serde::{Deserialize, Serialize};
use std::path::Path;

/// Set-up, teardown and collection of a run, besides the program's own time.
const AROUND_NS: u64 = 120_000_000_000;
const PAUSE_NS: u64 = 20_000_000;

/// What stages are built with.
pub struct Workshop<'a> {
    pub depot: &'a Depot,
    pub policy: &'a Policy,
    pub root: Option<&'a Path>,
    pub runtime: Option<&'a str>,
    pub best_effort: bool,
    /// Where stages' output goes as it comes.
    pub live: Option<Live<'a>>,
}

/// What became of a stage.
pub enum Became {
    /// It had been done before, by us or by another while we waited.
    Known(Layer),
    Done(Layer, Box<Outcome>),
    /// Its program did not end well.
    Failed(Box<Outcome>),
}

/// What the process of a run answers.
#[derive(Serialize, Deserialize)]
enum Answer {
    Outcome(Box<Outcome>),
    Fault { message: String, path: Option<String>, hint: Option<String>, code: u8 },
}

/// The layer that a key has given, if the store still has it.
///
/// # Errors
/// exit 4 of reading.
pub fn known(depot: &Depot, key: &Digest) -> Result<Option<Layer>, Fault> {
    match stages::get(depot, key.hex()) {
        Some(diff_id) => layers::get(depot, &diff_id).map_err(|e| faults::ours(&e)),
        None => Ok(None),
    }
}

/// Takes a key for ourselves, or finds what another gave while we waited; waits at most `patience_ns`.
///
/// # Errors
/// exit 3 where another works on it for longer.
pub fn take(depot: &Depot, key: &Digest, patience_ns: u64) -> Result<Result<Lease, Layer>, Fault> {
    let deadline = clock::now_ns().saturating_add(patience_ns);
    loop {
        if let Some(layer) = known(depot, key)? {
            return Ok(Err(layer));
        }
        if let Some(lease) = stages::lease(depot, key.hex()).map_err(|e| faults::ours(&e))? {
            // Who had it may have finished between our two looks.
            return Ok(known(depot, key)?.map_or(Ok(lease), Err));
        }
        if clock::now_ns() >= deadline {
            return Err(Fault::host("build:busy", "another builder has been at work on the same stage for too long")
                .hint("runcell list shows its run; wait for it, or stop it"));
        }
        let _ = watch::any::<()>(&[], Some(clock::now_ns() + PAUSE_NS));
    }
}

/// Does a stage on top of these layers, unless it has been done. The store must be shared.
///
/// # Errors
/// the fault that kept it from being done.
pub fn build(shop: &Workshop<'_>, step: &Step, below: &[Layer], defaults: &Defaults, platform: &str) -> Result<Became, Fault> {
    let os = |e: OsError| faults::ours(&e);
    let limit = step.job.limits.wall.map_or(0, |wall| wall.nanos()).saturating_add(AROUND_NS);
    let lease = match take(shop.depot, &step.key, limit)? {
        Ok(lease) => lease,
        Err(layer) => return Ok(Became::Known(layer)),
    };
    let bench = Bench::new(shop.depot).map_err(os)?;
    for dir in ["upper", "work"] {
        files::dir(&bench.path().join(dir), 0o755).map_err(os)?;
    }
    let stack = Image {
        digest: step.key.clone(),
        layers: below.to_vec(),
        flat: None,
        // Of the image below only the environment holds for a stage; its own commands are for runs.
        defaults: Defaults { env: defaults.env.clone(), ..Defaults::default() },
        platform: platform.to_owned(),
        since_ms: 0,
        labels: Default::default(),
    };
    // Nothing else bounds what a stage writes to the store's filesystem: its upper directory lies there.
    let mut low = None;
    let mut room_left = || {
        low = low.take().or(room::in_store(shop.depot, shop.policy.import).err());
        low.is_none()
    };
    let work = || answer(shop, step, stack, bench.path());
    let answer = apart::looked_after(clock::now_ns().saturating_add(limit), &mut room_left, work).map_err(os)?;
    if let Some(fault) = low {
        return Err(Fault { message: format!("{} was stopped: {}", step.place, fault.message), ..fault });
    }
    let outcome = match answer.and_then(|bytes| serde_json::from_slice(&bytes).ok()) {
        Some(Answer::Outcome(outcome)) => outcome,
        Some(Answer::Fault { message, path, hint, code }) => return Err(fault(message, path, hint, code)),
        None => return Err(Fault::ours("build:failed", "the process of a stage ended without an answer").at(step.place.clone())),
    };
    match outcome.verdict {
        Verdict::Ok => {
            let layer = commit::commit(shop.depot, bench.path(), &bench.path().join("upper"))?;
            stages::put(shop.depot, step.key.hex(), &layer.diff_id).map_err(os)?;
            stages::release(shop.depot, step.key.hex(), lease).map_err(os)?;
            Ok(Became::Done(layer, outcome))
        }
        Verdict::HostError => Err(Fault::ours("build:failed", outcome.reason).at(step.place.clone())),
        _ => {
            stages::release(shop.depot, step.key.hex(), lease).map_err(os)?;
            Ok(Became::Failed(outcome))
        }
    }
}

/// The run, in its own process.
fn answer(shop: &Workshop<'_>, step: &Step, stack: Image, upper: &Path) -> Vec<u8> {
    let mut policy = shop.policy.clone();
    policy.bind.extend(step.binds.iter().cloned());
    let setting = Setting {
        policy: &policy,
        root: shop.root,
        runtime: shop.runtime,
        best_effort: shop.best_effort,
        replica: None,
        crowded: false,
    };
    let mut job = step.job.clone();
    let answered =
        DigestPrefix::try_from(step.key.as_str().to_owned()).map_err(|why| Fault::ours("internal", why)).and_then(|key| {
            job.image = Some(ImageRef::Digest(key));
            run::run(run::Request {
                cold: true,
                live: shop.live,
                upper: Some(upper),
                stack: Some(stack),
                ..run::Request::new(setting, job, step.key.hex().to_owned())
            })
        });
    let answer = match answered {
        Ok(answered) => {
            let outcome = Box::new(answered.outcome.clone());
            // What is left is gc's; the answer is true all the same.
            let _ = answered.clean_up();
            Answer::Outcome(outcome)
        }
        Err(Fault { whose, message, path, hint, .. }) => Answer::Fault { message, path, hint, code: whose as u8 },
    };
    serde_json::to_vec(&answer).unwrap_or_default()
}

/// A fault as it was before it travelled; its code does not, being a word of ours and not a text.
fn fault(message: String, path: Option<String>, hint: Option<String>, whose: u8) -> Fault {
    use crate::model::fault::Whose;
    let make = match whose {
        w if w == Whose::Caller as u8 => Fault::caller,
        w if w == Whose::Host as u8 => Fault::host,
        _ => Fault::ours,
    };
    Fault { path, hint, ..make("build:refused", message) }
}
