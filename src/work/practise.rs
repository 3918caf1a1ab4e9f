//! One press of the button: an avatar's home is brought to the state that the job wants, a cell of the avatar's own runs in it,
//! and what the run left becomes the home.
//!
//! Theory of operation. The avatar's lease is held from the first look at its home to the last; then a seat among the kata's
//! cells, then one among all katas'. New contents are written under names of their digests, beside the old ones; the home itself
//! is one record that names them, replaced by one rename after the run, so that a crash leaves the old home or the new one. What
//! the record does not name is swept when the answer is out, or by the next run.

use super::decide::Setting;
use super::katas::{self as kata, Wanted};
use super::own::Own;
use super::run::{self, Answered};
use super::stash::{Returned, Stash};
use super::{faults, queue, settings, warm};
use crate::model::avatar::{Avatar, AvatarName, KataId};
use crate::model::blob::Blob;
use crate::model::entry::EntryPath;
use crate::model::fault::Fault;
use crate::model::job::{EnvName, ImageRef, Job, Mount, MountSource, Text, User};
use crate::model::kata::{HomeFile, Kata, LastRun};
use crate::model::outcome::{AvatarRun, FileOut, HomeState, Outcome, PathOut, SharedState, Stream, path_parts};
use crate::model::paths::{GuestPath, HostPath};
use crate::model::policy::Policy;
use crate::model::quantity::{Bytes, Span};
use crate::model::reference::{Digest, DigestPrefix};
use crate::model::template::Report;
use crate::os::lease::Lease;
use crate::os::raze::{self, Size};
use crate::os::signal::Signals;
use crate::os::{clock, files};
use crate::rules::ceilings::MEMORY_LEAST;
use crate::rules::{home, merge};
use crate::store::avatars::AvatarDir;
use crate::store::depot::Depot;
use crate::store::katas;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// What a cell may take beyond its limit while its files are brought back (`work/supervise.rs`).
const HEADROOM: u64 = 64 << 20;
/// What is told of one file, and how many files, where the bundle does not say.
const REPORT_FILE: u64 = 1 << 20;
const REPORT_FILES: usize = 1000;
/// A press.
pub struct Request<'a> {
    pub avatar: Avatar,
    pub job: Job,
    /// sha256 of the job as it was given, in hex.
    pub digest: String,
    pub setting: Setting<'a>,
    pub cold: bool,
    /// How long to wait for the avatar's run before this one, and for a free cell; 0: not at all.
    pub patience: Span,
}

/// An answered press; the avatar is others' again when this is gone.
pub struct Pressed {
    answered: Answered,
    dir: AvatarDir,
    home: Vec<HomeFile>,
    _leases: Leases,
}

/// Whatever keeps others away.
#[derive(Debug)]
struct Leases {
    _kata: Lease,
    _avatar: Lease,
    _seats: Vec<Lease>,
}

/// A job that has become an avatar's.
struct Practice {
    kata: Kata,
    place: PathBuf,
    dir: AvatarDir,
    job: Job,
    policy: Policy,
    own: Own,
    keep: bool,
    report: Report,
    shared: Option<SharedState>,
    leases: Leases,
}

impl Pressed {
    pub fn outcome(&self) -> &Outcome {
        &self.answered.outcome
    }

    /// Removes the run's files, and contents that the home has no more.
    ///
    /// # Errors
    /// a sentence; gc and the next run then find what is left.
    pub fn clean_up(self) -> Result<(), String> {
        let Self { answered, dir, home, _leases } = self;
        let swept = dir.sweep(&home).map_err(|e| e.to_string());
        answered.clean_up().and(swept)
    }
}

/// Runs a job as an avatar.
///
/// # Errors
/// as of a run; exit 2 where kata or avatar are not there, exit 3 `busy` where patience ended. The home is as before then.
pub fn press(request: Request<'_>) -> Result<Pressed, Fault> {
    let os = |e| faults::ours(&e);
    let Request { avatar, mut job, digest, setting, cold, patience } = request;
    let Setting { policy, root, .. } = setting;
    let (signals, deadline) = (queue::signals()?, clock::now_ns().saturating_add(patience.nanos()));
    let all = job.all.take();
    if let Some(all) = &all {
        if !job.files.is_empty() || !job.deleted.is_empty() {
            return Err(Fault::caller(
                "job:malformed",
                "\"all\" is the whole home: \"files\" and \"deleted\" have no place beside it",
            )
            .at("all"));
        }
        revive(policy, root, &avatar, &job)?;
        job.files = all.clone();
    }
    let deleted: BTreeSet<EntryPath> = std::mem::take(&mut job.deleted).into_iter().collect();
    let mut practice = prepare(&avatar, job, policy, root, deadline, &signals)?;
    practice.leases._seats = queue::sit(
        &practice.place,
        &practice.kata.id,
        cells(&practice.kata, policy),
        policy,
        &settings::depot(root, policy),
        deadline,
        &signals,
    )?;
    let before = practice.dir.home().map_err(os)?;
    let new = practice.job.files.keys().map(|path| EntryPath::new(path.as_str().as_bytes().to_vec()));
    let new = new.collect::<Result<_, _>>().map_err(|why| Fault::caller("job:malformed", why).at("files"))?;
    let stays = home::stays(before.clone(), &new, &deleted, all.is_some())?;
    let mut stash = Stash::new(practice.dir.clone(), &before, stays);
    let answered = run::run(run::Request {
        cold,
        own: Some((practice.own, &mut stash)),
        ..run::Request::new(Setting { policy: &practice.policy, ..setting }, practice.job, digest)
    });
    let mut answered = match answered {
        Ok(answered) => answered,
        Err(fault) => {
            let _ = practice.dir.sweep(&before); // the next run sweeps again
            return Err(fault);
        }
    };
    let back = stash.finish();
    let (home, state, why) = settle(&practice.dir, before, &back, practice.keep, answered.delivered);
    let outcome = &mut answered.outcome;
    tell(outcome, &practice.dir, &back, &practice.report);
    outcome.avatar = Some(AvatarRun {
        kata: avatar.kata,
        name: avatar.name,
        home: state,
        why,
        files: home.len() as u64,
        bytes: home.iter().map(|file| file.bytes).sum(),
        created: back.changes.created.len() as u64,
        changed: back.changes.changed.len() as u64,
        shared: practice.shared,
    });
    let last = LastRun {
        at_ms: clock::wall_millis(),
        run: outcome.run.clone(),
        verdict: outcome.verdict,
        colour: outcome.colour.clone(),
    };
    // A stamp that cannot be set costs reap its order, not the run its answer.
    let _ = practice.dir.set_last(&last);
    Ok(Pressed { answered, dir: practice.dir, home, _leases: practice.leases })
}

/// Has a cell wait for an avatar's next run.
///
/// # Errors
/// as of [`warm::warm`] and of [`press`].
pub fn warm(avatar: &Avatar, request: warm::Request<'_>) -> Result<warm::Warmed, Fault> {
    if request.count > 1 {
        return Err(Fault::caller("usage", "an avatar has host ids for one cell at a time").at("count").hint("--count 1"));
    }
    let deadline = clock::now_ns().saturating_add(request.setting.policy.setup_timeout.nanos());
    let job = Job { deleted: Vec::new(), all: None, ..request.job };
    let Practice { job, policy, own, leases, .. } =
        prepare(avatar, job, request.setting.policy, request.setting.root, deadline, &queue::signals()?)?;
    let warmed =
        warm::warm(warm::Request { job, setting: Setting { policy: &policy, ..request.setting }, own: Some(own), ..request });
    drop(leases);
    warmed
}

/// Makes kata and avatar, where they are gone, for a caller who brings all of a home.
fn revive(policy: &Policy, root: Option<&Path>, avatar: &Avatar, job: &Job) -> Result<(), Fault> {
    let depot = settings::depot(root, policy);
    let fine = |made: Result<(), Fault>, code: &str| match made {
        Err(fault) if fault.code != code => Err(fault),
        _ => Ok(()), // another was first
    };
    if katas::get(&depot, &avatar.kata).map_err(|e| faults::ours(&e))?.is_none() {
        let id = Some(avatar.kata.clone());
        let wanted = Wanted { id, bundle: job.bundle.clone(), image: job.image.clone(), ..Wanted::default() };
        fine(kata::new(policy, root, wanted).map(drop), "kata_id:exists")?;
    }
    if !AvatarDir::of(&katas::dir(&depot, &avatar.kata), avatar.name).path().exists() {
        let made = kata::avatar(policy, root, &avatar.kata, Some(avatar.name), Default::default());
        fine(made.map(drop), "avatar_name:exists")?;
    }
    Ok(())
}

/// Takes the avatar's lease, and has the job be what its kata wants: bundle, image, user, environment, bounds.
fn prepare(
    avatar: &Avatar,
    job: Job,
    policy: &Policy,
    root: Option<&Path>,
    deadline: u64,
    signals: &Signals,
) -> Result<Practice, Fault> {
    let os = |e| faults::ours(&e);
    let depot = settings::depot(root, policy);
    let (kata, inside) = kata::enter(&depot, &avatar.kata)?;
    let place = katas::dir(&depot, &kata.id);
    let dir = AvatarDir::of(&place, avatar.name);
    let lease = queue::wait(deadline, signals, || match dir.claim() {
        Ok(None) if !dir.path().exists() => Err(kata::no_avatar(&kata.id, avatar.name)),
        claimed => claimed.map_err(os),
    })?
    .ok_or_else(|| queue::busy("avatar", format!("another run of the avatar {} is in progress", avatar.name)))?;
    let member = dir.member().map_err(os)?.ok_or_else(|| kata::no_avatar(&kata.id, avatar.name))?;
    fits(&kata, &job)?;
    let mut template = settings::template(&kata.bundle, policy)?;
    let (report, rules) = (std::mem::take(&mut template.report), std::mem::take(&mut template.home));
    let mut job = merge::merge(job, template);
    job.bundle = Some(kata.bundle.clone());
    job.avatar = Some(avatar.clone());
    job.image = kata
        .digest
        .as_ref()
        .map_or(Ok(kata.image.clone()), |digest| {
            DigestPrefix::try_from(digest.to_string()).map(|digest| Some(ImageRef::Digest(digest)))
        })
        .map_err(|why| Fault::ours("internal", why))?;
    job.collect = None;
    job.user = Some(User { uid: avatar.name.uid(), gid: avatar.name.uid() });
    identify(&mut job, avatar.name, &kata.id)?;
    let mut policy = policy.clone();
    let shared = if kata.shared { Some(share(&mut job, &mut policy, &katas::shared(&place))?) } else { None };
    let group = bound(&mut job, &kata, &policy, &depot)?;
    let colours = kata.colours.as_ref().map(|name| settings::rules(name, &policy)).transpose()?;
    let prune = kata.home.prune.clone().or(rules.prune).unwrap_or_default().into_iter().map(String::from).collect();
    Ok(Practice {
        keep: kata.home.keep.or(rules.keep).unwrap_or(true),
        own: Own { first_id: member.first_id, group, colours, prune },
        leases: Leases { _kata: inside, _avatar: lease, _seats: Vec::new() },
        kata,
        place,
        dir,
        job,
        policy,
        report,
        shared,
    })
}

/// What a kata fixes, a job does not say otherwise.
fn fits(kata: &Kata, job: &Job) -> Result<(), Fault> {
    let wrong = |field: &'static str, why: String| Err(Fault::caller("job:malformed", why).at(field).hint("leave it out"));
    match job {
        Job { bundle: Some(bundle), .. } if *bundle != kata.bundle => {
            wrong("bundle", format!("the kata {} has the bundle {}", kata.id, kata.bundle))
        }
        Job { image: Some(image), .. } if kata.image.as_ref() != Some(image) => {
            wrong("image", format!("the kata {} has an image of its own", kata.id))
        }
        Job { user: Some(_), .. } => wrong("user", "an avatar has a user of its own".into()),
        Job { collect: Some(_), .. } => wrong("collect", "of an avatar's run everything comes back".into()),
        _ => Ok(()),
    }
}

/// Who the program is, in its environment.
fn identify(job: &mut Job, name: AvatarName, kata: &KataId) -> Result<(), Fault> {
    let vars = [
        ("CYBER_DOJO_ID", kata.as_str()),
        ("CYBER_DOJO_KATA_ID", kata.as_str()),
        ("CYBER_DOJO_AVATAR_NAME", name.as_str()),
        ("CYBER_DOJO_SANDBOX", "/sandbox"),
    ];
    for (name, value) in vars {
        let internal = |why| Fault::ours("internal", why);
        let name = EnvName::try_from(name.to_owned()).map_err(internal)?;
        job.env.insert(name, Text::try_from(value.to_owned()).map_err(internal)?);
    }
    Ok(())
}

/// Mounts the kata's directory, writable unless it holds too much: a host directory has no bound of its own.
fn share(job: &mut Job, policy: &mut Policy, dir: &Path) -> Result<SharedState, Fault> {
    let most = Size { bytes: policy.katas.shared.0, entries: policy.katas.shared_entries };
    let size = raze::measure(dir, most).map_err(|e| faults::ours(&e))?;
    let writable = size.bytes <= most.bytes && size.entries <= most.entries;
    let nameless =
        |why: String| Fault::host("policy:unusable", why).at("store").hint("give the store a path without special components");
    let source = HostPath::try_from(dir.to_string_lossy().into_owned()).map_err(nameless)?;
    let target = GuestPath::try_from("/shared".to_owned()).map_err(|why| Fault::ours("internal", why))?;
    policy.bind.push(source.clone());
    policy.bind_writable.push(source.clone());
    job.mounts.push(Mount { target, source: MountSource::Bind { source, writable } });
    Ok(if writable { SharedState::Writable } else { SharedState::Full })
}

/// The group around a kata's cells, where its memory is bounded; and each cell's part of that, so that none takes another's.
fn bound(job: &mut Job, kata: &Kata, policy: &Policy, depot: &Depot) -> Result<Option<(String, u64)>, Fault> {
    let bounds = [kata.memory, policy.katas.memory];
    let Some(memory) = bounds.into_iter().flatten().min() else { return Ok(None) };
    let cells = cells(kata, policy);
    let part = (memory.0 / u64::from(cells.max(1))).saturating_sub(HEADROOM);
    if part < MEMORY_LEAST {
        return Err(Fault::host(
            "policy:refused",
            format!("{memory} for {cells} cells leave each less than the {} that it needs", Bytes(MEMORY_LEAST + HEADROOM)),
        )
        .at("katas.memory")
        .hint("fewer cells, or more memory: katas.cells and katas.memory in the policy, --cells and --memory of kata new"));
    }
    let asked = job.limits.memory.unwrap_or(crate::model::limits::Limits::default().memory);
    job.limits.memory = Some(asked.min(Bytes(part)));
    Ok(Some((katas::group(depot, &kata.id), memory.0)))
}

fn cells(kata: &Kata, policy: &Policy) -> u32 {
    kata.cells.map_or(policy.katas.cells, |cells| cells.min(policy.katas.cells))
}

/// Makes the home what it is to be after this run. Where that cannot be, it is as it was.
fn settle(
    dir: &AvatarDir,
    before: Vec<HomeFile>,
    back: &Returned,
    keep: bool,
    delivered: bool,
) -> (Vec<HomeFile>, HomeState, Option<String>) {
    if !delivered {
        return (before, HomeState::Unchanged, Some("the home could not be brought into the sandbox".to_owned()));
    }
    let left = back.lacking.is_none().then(|| home::after(&back.given, &back.changes)).flatten();
    let (wanted, state, why) = match left {
        Some(left) if keep => (left, HomeState::Kept, None),
        Some(_) => (back.given.clone(), HomeState::Given, None),
        None => (back.given.clone(), HomeState::Given, back.lacking.clone()),
    };
    if wanted == before {
        return (wanted, state, why);
    }
    let named: BTreeSet<&Digest> = wanted.iter().map(|file| &file.content).collect();
    let fresh = back.fresh.iter().filter(|fresh| named.contains(fresh)).cloned().collect();
    match dir.set_home(&wanted, &fresh) {
        Ok(()) => (wanted, state, why),
        Err(e) => (before, HomeState::Unchanged, Some(e.to_string())),
    }
}

/// What is told: less than what is kept.
fn tell(outcome: &mut Outcome, dir: &AvatarDir, back: &Returned, report: &Report) {
    let most = report.files.unwrap_or(REPORT_FILES);
    let file = report.file.map_or(REPORT_FILE, |file| file.0);
    let one = |told: &HomeFile| {
        let (path, path_base64) = path_parts(told.path.as_bytes());
        let kept = files::read_some(&dir.content(&told.content), file).unwrap_or_default();
        FileOut { path, path_base64, content: Blob::new(kept, told.bytes), mode: format!("{:04o}", told.mode) }
    };
    outcome.files.created = back.changes.created.iter().take(most).map(one).collect();
    outcome.files.changed = back.changes.changed.iter().take(most).map(one).collect();
    outcome.files.deleted = back.changes.deleted.iter().map(|path| PathOut::new(path.as_bytes())).collect();
    if let Some(Bytes(most)) = report.stream {
        for stream in [&mut outcome.stdout, &mut outcome.stderr] {
            shorten(stream, most);
        }
    }
}

fn shorten(stream: &mut Stream, most: u64) {
    let most = usize::try_from(most).unwrap_or(usize::MAX);
    let kept = match (&stream.text, &stream.base64) {
        (Some(text), _) => text.as_bytes().to_vec(),
        (None, Some(base64)) => crate::model::blob::decode(base64).unwrap_or_default(),
        (None, None) => return,
    };
    if kept.len() > most {
        *stream = Blob::new(kept[..most].to_vec(), stream.bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_are_cut_by_bytes_and_keep_their_length() {
        let mut stream = Stream::new("aé€".as_bytes().to_vec(), 6);
        shorten(&mut stream, 6);
        assert!(!stream.truncated);
        shorten(&mut stream, 4);
        assert_eq!((stream.text.as_deref(), stream.bytes, stream.truncated), (Some("aé"), 6, true));
        let mut binary = Stream::new(vec![0xff, 0, 1], 3);
        shorten(&mut binary, 2);
        assert_eq!((binary.base64.as_deref(), binary.bytes, binary.truncated), (Some("/wA="), 3, true));
    }
}
