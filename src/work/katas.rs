//! Katas and their avatars: made, and looked at.

use super::{faults, image, settings, taken};
use crate::model::avatar::{AvatarName, KataId};
use crate::model::entry::EntryPath;
use crate::model::fault::Fault;
use crate::model::job::{Content, FileIn, Glob, ImageRef};
use crate::model::kata::{HomeFile, HomeRules, Kata, LastRun, Member};
use crate::model::names::BundleName;
use crate::model::outcome::path_parts;
use crate::model::paths::RelPath;
use crate::model::policy::Policy;
use crate::model::quantity::Bytes;
use crate::model::reference::Digest;
use crate::model::unique::Unique;
use crate::os::lease::Lease;
use crate::os::mount::{self, Ids};
use crate::os::{clock, files, probe, watch};
use crate::rules::{home, plan};
use crate::store::avatars::{self, AvatarDir};
use crate::store::depot::Depot;
use crate::store::ids;
use crate::store::katas;
use serde::Serialize;
use std::path::Path;

/// Whom a shared directory belongs to on disk: nobody that runs (`nobody`, by Linux's convention). Each cell sees it as its own.
const SHARED_OWNER: u32 = 65_534;
/// How long whoever looks for ids that are nobody's may take.
const PATIENCE_NS: u64 = 10_000_000_000;

/// What a kata is to be.
#[derive(Clone, Debug, Default)]
pub struct Wanted {
    /// Made where it is missing.
    pub id: Option<KataId>,
    /// `dojo` where it is missing.
    pub bundle: Option<BundleName>,
    pub image: Option<ImageRef>,
    pub colours: Option<BundleName>,
    pub shared: bool,
    pub discard: bool,
    pub prune: Option<Vec<Glob>>,
    pub cells: Option<u32>,
    pub memory: Option<Bytes>,
}

/// A kata as it is told.
#[derive(Debug, Serialize)]
pub struct Shown {
    #[serde(flatten)]
    pub kata: Kata,
    /// The last run of any avatar, or when the kata was made; milliseconds since 1970.
    pub used_ms: u64,
    pub avatars: Vec<ShownAvatar>,
}

#[derive(Debug, Serialize)]
pub struct ShownAvatar {
    pub name: AvatarName,
    /// User and group inside.
    pub uid: u32,
    /// The first of its 65,536 host ids.
    pub first_id: u32,
    pub since_ms: u64,
    pub last: Option<LastRun>,
    /// Files in its home, and their bytes.
    pub files: u64,
    pub bytes: u64,
    /// The files one by one, where one avatar alone is asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub home: Option<Vec<ShownFile>>,
}

#[derive(Debug, Serialize)]
pub struct ShownFile {
    pub path: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path_base64: Option<String>,
    pub mode: String,
    pub bytes: u64,
    pub mtime_ns: i64,
    pub digest: Digest,
}

/// # Errors
/// exit 2 `kata_id:malformed`.
pub fn kata_id(word: &str) -> Result<KataId, Fault> {
    KataId::try_from(word.to_owned()).map_err(|why| {
        Fault::caller("kata_id:malformed", why).at("kata").hint("runcell kata new makes one; runcell kata list shows them")
    })
}

/// # Errors
/// exit 2 `avatar_name:malformed`.
pub fn avatar_name(word: &str) -> Result<AvatarName, Fault> {
    AvatarName::try_from(word.to_owned()).map_err(|why| Fault::caller("avatar_name:malformed", why).at("name"))
}

pub(super) fn no_kata(id: &KataId) -> Fault {
    Fault::caller("kata_id:!exists", format!("there is no kata {id}"))
        .at("kata")
        .hint("runcell kata list shows them; kata run with \"all\" makes one that was reaped anew")
}

pub(super) fn no_avatar(id: &KataId, name: AvatarName) -> Fault {
    Fault::caller("avatar_name:!exists", format!("the kata {id} has no avatar {name}"))
        .at("name")
        .hint(format!("runcell kata avatar {id} {name}"))
}

/// Joins those who work in a kata.
///
/// # Errors
/// exit 2 where there is none.
pub(super) fn enter(depot: &Depot, id: &KataId) -> Result<(Kata, Lease), Fault> {
    let lease = katas::share(depot, id).map_err(|e| faults::ours(&e))?.ok_or_else(|| no_kata(id))?;
    let kata = katas::get(depot, id).map_err(|e| faults::ours(&e))?.ok_or_else(|| no_kata(id))?;
    Ok((kata, lease))
}

/// Makes a kata.
///
/// # Errors
/// exit 2: there is one of that id, or no such bundle, image or rules; exit 3 where this host cannot share a directory.
pub fn new(policy: &Policy, root: Option<&Path>, wanted: Wanted) -> Result<Shown, Fault> {
    let os = |e| faults::ours(&e);
    let depot = settings::depot(root, policy);
    let dojo = || BundleName::try_from("dojo".to_owned()).map_err(|why| Fault::ours("internal", why));
    let bundle = wanted.bundle.map_or_else(dojo, Ok)?;
    let template = settings::template(&bundle, policy)?;
    if let Some(colours) = &wanted.colours {
        settings::rules(colours, policy)?;
    }
    let given = wanted.id.is_some();
    let image = wanted.image.or(template.image);
    // Nothing is taken away from the store until the kata says what it needs.
    let in_store = matches!(image, Some(ImageRef::Named(_) | ImageRef::Digest(_)));
    let _shared = in_store.then(|| image::share(&depot)).transpose()?;
    let held = taken::take(&depot, image.as_ref())?;
    katas::open(&depot).map_err(os)?;
    if wanted.shared {
        can_share(&depot)?;
    }
    loop {
        let id = match &wanted.id {
            Some(id) => id.clone(),
            None => KataId::new(probe::random().map_err(os)?),
        };
        let kata = Kata {
            id: id.clone(),
            bundle: bundle.clone(),
            image: image.clone(),
            digest: held.as_ref().map(|taken| taken.image().digest.clone()),
            colours: wanted.colours.clone(),
            shared: wanted.shared,
            home: HomeRules { keep: wanted.discard.then_some(false), prune: wanted.prune.clone() },
            cells: wanted.cells,
            memory: wanted.memory,
            since_ms: clock::wall_millis(),
        };
        if katas::put(&depot, &kata, SHARED_OWNER).map_err(os)? {
            return Ok(Shown { used_ms: kata.since_ms, kata, avatars: Vec::new() });
        }
        if given {
            return Err(Fault::caller("kata_id:exists", format!("there is a kata {id} already")).at("kata"));
        }
    }
}

/// Shared directories need mounts that show each avatar the same files as its own.
fn can_share(depot: &Depot) -> Result<(), Fault> {
    let ids = Ids { inside: SHARED_OWNER, outside: SHARED_OWNER - 1, count: 1 };
    mount::try_id_map(&katas::shelf(depot), ids).map_err(|e| {
        Fault::host("kata:shared", format!("{} cannot be id-mapped: {e}", depot.root().display()))
            .at("shared")
            .hint("put the policy's `store` on ext4, xfs or btrfs, with Linux 5.12 or newer; or do without a shared directory")
    })
}

/// Makes an avatar, with host ids of its own and these files in its home. Without a name: the first in alphabetical order that
/// is free.
///
/// # Errors
/// exit 2: there is no such kata, or such an avatar already; exit 3 where no host ids are left.
pub fn avatar(
    policy: &Policy,
    root: Option<&Path>,
    id: &KataId,
    name: Option<AvatarName>,
    files: Unique<RelPath, FileIn>,
) -> Result<ShownAvatar, Fault> {
    let os = |e| faults::ours(&e);
    let depot = settings::depot(root, policy);
    let state = settings::home(root, policy)?;
    let (_, _inside) = enter(&depot, id)?;
    let kata = katas::dir(&depot, id);
    let names = name.map_or_else(|| AvatarName::all().collect(), |name| vec![name]);
    let paths = files.keys().map(|path| EntryPath::new(path.as_str().as_bytes().to_vec()));
    let paths = paths.collect::<Result<_, _>>().map_err(|why| Fault::caller("job:malformed", why).at("files"))?;
    home::stays(Vec::new(), &paths, &Default::default(), true)?;
    let contents: Vec<_> = files.iter().map(|(path, file)| (path.clone(), file.mode, file.content.clone())).collect();
    plan::contents_permitted(policy, &contents, None)?;
    for name in names {
        if AvatarDir::of(&kata, name).path().exists() {
            continue;
        }
        if !kata.exists() {
            return Err(no_kata(id));
        }
        let _making = making(&depot)?;
        let first_id = ids::reserve(&state, policy.ids, &format!("{id} {name}")).map_err(os)?.ok_or_else(no_ids)?;
        let member = Member { name, first_id, since_ms: clock::wall_millis() };
        let made = make(&depot, &kata, &member, contents.clone());
        if !matches!(made, Ok(true)) {
            ids::unreserve(&state, first_id).map_err(os)?;
        }
        if made? {
            return show_avatar(&AvatarDir::of(&kata, name), member, false);
        }
    }
    let taken = name.map_or("all 64 avatars are there".to_owned(), |name| format!("there is an avatar {name} in it already"));
    Err(Fault::caller("avatar_name:exists", taken).at("name"))
}

fn no_ids() -> Fault {
    Fault::host("ids:exhausted", "every id range of the policy is in use, in quarantine, or an avatar's")
        .at("ids")
        .hint("retire or reap katas, or widen ids in the policy: an avatar keeps 65,536 of them for life")
}

fn making(depot: &Depot) -> Result<Lease, Fault> {
    let deadline = clock::now_ns() + PATIENCE_NS;
    loop {
        match katas::making(depot).map_err(|e| faults::ours(&e))? {
            Some(lease) => return Ok(lease),
            None if clock::now_ns() < deadline => drop(watch::any::<()>(&[], Some(clock::now_ns() + 2_000_000))),
            None => {
                return Err(
                    Fault::ours("kata:stuck", "somebody looks for lost host ids for too long").hint("look for a runcell gc")
                );
            }
        }
    }
}

/// `Ok(false)`: another was first with that name.
fn make(depot: &Depot, kata: &Path, member: &Member, given: Vec<(RelPath, u32, Content)>) -> Result<bool, Fault> {
    let os = |e| faults::ours(&e);
    let fresh = AvatarDir::at(katas::aside(depot).map_err(os)?);
    let filled = fresh.found(member).map_err(os).and_then(|()| fill(&fresh, given));
    let place = AvatarDir::of(kata, member.name);
    let moved = filled.and_then(|()| match std::fs::rename(fresh.path(), place.path()) {
        Err(e) if matches!(e.raw_os_error(), Some(libc::ENOTEMPTY | libc::EEXIST)) => Ok(false),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(false), // the kata has just gone
        other => crate::os::error::At::at(other, "rename into place", place.path()).map(|()| true).map_err(os),
    });
    if !matches!(moved, Ok(true)) {
        files::remove_tree(fresh.path()).map_err(os)?;
    }
    moved
}

fn fill(dir: &AvatarDir, given: Vec<(RelPath, u32, Content)>) -> Result<(), Fault> {
    let mut stash = super::stash::Stash::new(dir.clone(), &[], Vec::new());
    stash.bring(given)?;
    let back = stash.finish();
    dir.set_home(&back.given, &back.fresh).map_err(|e| faults::ours(&e))
}

/// One kata with its avatars, or with one of them and its files.
///
/// # Errors
/// exit 2 where there is none.
pub fn show(policy: &Policy, root: Option<&Path>, id: &KataId, name: Option<AvatarName>) -> Result<Shown, Fault> {
    let depot = settings::depot(root, policy);
    let (kata, _inside) = enter(&depot, id)?;
    let mut shown = look(&depot, kata, name)?;
    if let Some(name) = name {
        shown.avatars.retain(|avatar| avatar.name == name);
        if shown.avatars.is_empty() {
            return Err(no_avatar(id, name));
        }
    }
    Ok(shown)
}

/// All katas, the one that was used last first.
///
/// # Errors
/// exit 4 where one cannot be read.
pub fn list(policy: &Policy, root: Option<&Path>) -> Result<Vec<Shown>, Fault> {
    let depot = settings::depot(root, policy);
    let mut all = Vec::new();
    for id in katas::all(&depot) {
        // One that has just gone is none.
        if let Some(kata) = katas::get(&depot, &id).map_err(|e| faults::ours(&e))? {
            all.push(look(&depot, kata, None)?);
        }
    }
    all.sort_by(|a, b| b.used_ms.cmp(&a.used_ms).then(a.kata.id.cmp(&b.kata.id)));
    Ok(all)
}

pub(super) fn look(depot: &Depot, kata: Kata, one: Option<AvatarName>) -> Result<Shown, Fault> {
    let dir = katas::dir(depot, &kata.id);
    let mut shown = Vec::new();
    for member in avatars::all(&dir).map_err(|e| faults::ours(&e))? {
        let whole = one == Some(member.name);
        shown.push(show_avatar(&AvatarDir::of(&dir, member.name), member, whole)?);
    }
    let used = shown.iter().map(|avatar| avatar.last.as_ref().map_or(avatar.since_ms, |last| last.at_ms)).max();
    Ok(Shown { used_ms: used.unwrap_or(0).max(kata.since_ms), kata, avatars: shown })
}

fn show_avatar(dir: &AvatarDir, member: Member, whole: bool) -> Result<ShownAvatar, Fault> {
    let os = |e| faults::ours(&e);
    let home = dir.home().map_err(os)?;
    let file = |file: &HomeFile| {
        let (path, path_base64) = path_parts(file.path.as_bytes());
        let mode = format!("{:04o}", file.mode);
        ShownFile { path, path_base64, mode, bytes: file.bytes, mtime_ns: file.mtime_ns, digest: file.content.clone() }
    };
    Ok(ShownAvatar {
        name: member.name,
        uid: member.name.uid(),
        first_id: member.first_id,
        since_ms: member.since_ms,
        last: dir.last().map_err(os)?,
        files: home.len() as u64,
        bytes: home.iter().map(|file| file.bytes).sum(),
        home: whole.then(|| home.iter().map(file).collect()),
    })
}
