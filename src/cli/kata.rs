//! `runcell kata …`: words to use-cases; every answer is one JSON document.

use super::words::{Common, KataNew, KataRun, KataWords as Words};
use super::{jobs, report};
use crate::model::avatar::Avatar;
use crate::model::code::ExitCode;
use crate::model::document;
use crate::model::fault::Fault;
use crate::model::job::{FileIn, Glob, ImageRef};
use crate::model::names::BundleName;
use crate::model::paths::RelPath;
use crate::model::policy::Policy;
use crate::model::quantity::{Bytes, Span};
use crate::model::unique::Unique;
use crate::work::katas::{self, Wanted, avatar_name, kata_id};
use crate::work::practise::{self, Pressed};
use crate::work::refill::{self, Refill};
use crate::work::{directory, retire, settings};
use std::path::Path;

/// The longest that a press may be told to take: what `limits.wall` takes is more.
const SECONDS_MOST: u64 = 24 * 3600;

pub(super) fn kata(common: &Common, words: Words) -> Result<ExitCode, Fault> {
    let policy = settings::policy(common.policy.as_deref())?;
    let root = common.root.as_deref();
    match words {
        Words::New(args) => Ok(report::json(&katas::new(&policy, root, wanted(args)?)?)),
        Words::Avatar { kata, name, files } => {
            let name = name.as_deref().map(avatar_name).transpose()?;
            let files = files.as_deref().map_or_else(|| Ok(Unique::default()), self::files)?;
            Ok(report::json(&katas::avatar(&policy, root, &kata_id(&kata)?, name, files)?))
        }
        Words::Run(args) => run(common, &policy, &args),
        Words::Show { kata, name } => {
            let name = name.as_deref().map(avatar_name).transpose()?;
            Ok(report::json(&katas::show(&policy, root, &kata_id(&kata)?, name)?))
        }
        Words::List => Ok(report::json(&katas::list(&policy, root)?)),
        Words::Retire { kata, name } => {
            let (id, name) = (kata_id(&kata)?, name.as_deref().map(avatar_name).transpose()?);
            let retired = match name {
                Some(name) => retire::avatar(&policy, root, &id, name)?,
                None => retire::kata(&policy, root, &id)?,
            };
            Ok(report::json(&retired))
        }
        Words::Reap { unused_for, dry_run } => {
            let unused = span("unused-for", &unused_for)?;
            Ok(report::json(&retire::reap(&policy, root, unused.nanos() / 1_000_000, dry_run)?))
        }
    }
}

fn usage(flag: &'static str, why: String) -> Fault {
    Fault::caller("usage", why).at(flag)
}

/// A duration as a job has it: a number of seconds, or text with a unit.
fn span(flag: &'static str, word: &str) -> Result<Span, Fault> {
    let seconds = word.parse::<u64>().ok().and_then(|s| s.checked_mul(1_000_000_000)).map(Span::from_nanos);
    seconds.map_or_else(|| Span::from_text(word).map_err(|why| usage(flag, format!("--{flag}: {why}"))), Ok)
}

fn wanted(args: KataNew) -> Result<Wanted, Fault> {
    let bundle = |flag: &'static str, word: Option<String>| {
        word.map(BundleName::try_from).transpose().map_err(|why| usage(flag, format!("--{flag}: {why}")))
    };
    let globs = args.prune.map(|all| all.into_iter().map(Glob::try_from).collect::<Result<Vec<_>, _>>());
    if args.cells == Some(0) {
        return Err(usage("cells", "--cells 0 lets nobody run".into()));
    }
    Ok(Wanted {
        id: args.id.as_deref().map(kata_id).transpose()?,
        bundle: bundle("bundle", args.bundle)?,
        image: args.image.map(ImageRef::try_from).transpose().map_err(|why| Fault::caller("image:malformed", why).at("image"))?,
        colours: bundle("colours", args.colours)?,
        shared: args.shared,
        discard: args.discard,
        prune: globs.transpose().map_err(|why| usage("prune", why))?,
        cells: args.cells,
        memory: args.memory.as_deref().map(Bytes::from_text).transpose().map_err(|why| usage("memory", why))?,
    })
}

/// The files of a directory, of a JSON object, or of a file that holds one.
fn files(word: &str) -> Result<Unique<RelPath, FileIn>, Fault> {
    let object = match word {
        word if word.trim_start().starts_with('{') => word.to_owned(),
        word if Path::new(word).is_dir() => return directory::files(Path::new(word)),
        word => {
            let bytes = jobs::bytes(Path::new(word))?;
            String::from_utf8(bytes).map_err(|e| usage("files", format!("{word}: {e}")))?
        }
    };
    Ok(document::job(format!("{{\"files\":{object}}}").as_bytes())?.files)
}

fn run(common: &Common, policy: &Policy, args: &KataRun) -> Result<ExitCode, Fault> {
    let mut refill = None;
    let pressed = press(common, policy, args, &mut refill)?;
    let code = report::outcome(pressed.outcome());
    // The answer is out; whoever waits for it has it before the last files go.
    if let Err(why) = pressed.clean_up() {
        report::warning(&format!("some of the run is left: {why}; runcell gc removes it"));
    }
    drop(refill);
    Ok(code)
}

/// `refill` is to be kept until everything is over.
fn press(common: &Common, policy: &Policy, args: &KataRun, refill: &mut Option<Refill>) -> Result<Pressed, Fault> {
    let avatar = Avatar { kata: kata_id(&args.kata)?, name: avatar_name(&args.name)? };
    let mut given = jobs::read(args.job.as_deref(), &args.flags).map_err(|fault| match fault.path.as_deref() {
        Some("limits.wall") => Fault { code: "max_seconds:malformed", ..fault },
        _ => fault,
    })?;
    if let Some(seconds) = &args.max_seconds {
        given.job.limits.wall = Some(max_seconds(seconds)?);
    }
    if given.job.avatar.as_ref().is_some_and(|other| *other != avatar) {
        return Err(Fault::caller("job:malformed", "the job is another avatar's").at("avatar").hint("leave it out"));
    }
    given.job.avatar = Some(avatar.clone());
    let patience = match (args.no_wait, &args.wait) {
        (true, _) => Span::from_nanos(0),
        (false, Some(word)) => span("wait", word)?,
        (false, None) => policy.setup_timeout,
    };
    if args.refill || policy.katas.refill {
        *refill = Some(refill::prepare(&given.job, &common.words(), args.best_effort, 1)?);
    }
    practise::press(practise::Request {
        avatar,
        job: given.job,
        digest: given.digest,
        setting: common.setting(policy, args.best_effort),
        cold: args.cold,
        patience,
    })
}

fn max_seconds(word: &str) -> Result<Span, Fault> {
    match word.parse::<u64>() {
        Ok(seconds @ 1..=SECONDS_MOST) if !word.starts_with('+') => Ok(Span::from_nanos(seconds * 1_000_000_000)),
        _ => Err(Fault::caller("max_seconds:malformed", format!("{word:?} is no number of seconds from 1 to {SECONDS_MOST}"))
            .at("max_seconds")),
    }
}
