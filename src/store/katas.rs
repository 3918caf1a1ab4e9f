//! Katas: a directory each, which appears whole and goes at once.
//!
//! ```text
//! katas/<id>/kata.json               what was fixed when it was made; whoever runs in it shares the directory's lease
//! katas/<id>/avatars/<name>/         an avatar, see `store/avatars.rs`
//! katas/<id>/seats/<n>               leased by each of its cells
//! katas/<id>/shared/                 what its avatars write together, where it has that
//! katas/new-<ULID>, gone-<ULID>      on the way here, and away; the latter until nothing of it is left
//! katas/ids/<first>                  host ids that are an avatar's (`store/ids.rs`)
//! katas/seats/<n>, katas/queue/<n>   leased by each cell of any kata, and by each run that waits for one
//! katas/lock                         shared by those who make avatars, exclusive for those who look for ids that are nobody's
//! ```

use super::depot::Depot;
use crate::model::avatar::KataId;
use crate::model::kata::Kata;
use crate::model::names::RunId;
use crate::model::reference::Digest;
use crate::os::error::{At, OsResult};
use crate::os::lease::{self, Lease};
use crate::os::{clock, files, probe, watch};
use sha2::{Digest as _, Sha256};
use std::io;
use std::path::{Path, PathBuf};

const RECORD: &str = "kata.json";
const GONE: &str = "gone-";
const NEW: &str = "new-";
/// How long somebody who only looks may have a kata for himself.
const LOOK_NS: u64 = 1_000_000_000;

pub fn shelf(depot: &Depot) -> PathBuf {
    depot.root().join("katas")
}

pub fn dir(depot: &Depot, id: &KataId) -> PathBuf {
    shelf(depot).join(id.as_str())
}

pub fn avatars(kata: &Path) -> PathBuf {
    kata.join("avatars")
}

pub fn shared(kata: &Path) -> PathBuf {
    kata.join("shared")
}

/// What the names of all groups of this store's katas end in: another store on this host has its own.
fn mark(depot: &Depot) -> String {
    let hash = Sha256::digest(depot.root().as_os_str().as_encoded_bytes());
    hash.iter().take(4).map(|b| format!("{b:02x}")).collect()
}

/// The name of a kata's control group, below that of all cells.
pub fn group(depot: &Depot, id: &KataId) -> String {
    format!("kata-{id}-{}", mark(depot))
}

/// The kata whose group this is, if it is one of this store's.
pub fn of_group(depot: &Depot, name: &str) -> Option<KataId> {
    let (id, rest) = name.strip_prefix("kata-")?.split_once('-')?;
    KataId::try_from(id.to_owned()).ok().filter(|_| rest == mark(depot))
}

/// Makes what is missing; only root may enter.
///
/// # Errors
/// of mkdir.
pub fn open(depot: &Depot) -> OsResult<()> {
    files::private_dir(&depot.root().join("katas/ids"))
}

/// A fresh place for what is to be renamed to where others see it.
///
/// # Errors
/// of mkdir.
pub fn aside(depot: &Depot) -> OsResult<PathBuf> {
    let path = shelf(depot).join(format!("{NEW}{}", RunId::new(clock::wall_millis(), probe::random()?)));
    files::private_dir(&path)?;
    Ok(path)
}

/// Puts a kata on its shelf. `Ok(false)`: there is one of that id.
///
/// # Errors
/// of writing; nothing is visible then.
pub fn put(depot: &Depot, kata: &Kata, owner_of_shared: u32) -> OsResult<bool> {
    open(depot)?;
    let fresh = aside(depot)?;
    files::private_dir(&avatars(&fresh))?;
    files::private_dir(&fresh.join("seats"))?;
    if kata.shared {
        let shared = shared(&fresh);
        files::dir(&shared, 0o700)?;
        std::os::unix::fs::chown(&shared, Some(owner_of_shared), Some(owner_of_shared)).at("chown", &shared)?;
    }
    let json = serde_json::to_vec(kata).map_err(io::Error::other).at("write", &fresh)?;
    files::replace_durably(&fresh.join(RECORD), &json)?;
    match std::fs::rename(&fresh, dir(depot, &kata.id)) {
        Err(e) if matches!(e.raw_os_error(), Some(libc::ENOTEMPTY | libc::EEXIST)) => {
            files::remove_tree(&fresh)?;
            Ok(false)
        }
        other => other.at("rename into place", dir(depot, &kata.id)).map(|()| true),
    }
}

/// # Errors
/// of reading, or where its record makes no sense. `Ok(None)`: there is none of that id.
pub fn get(depot: &Depot, id: &KataId) -> OsResult<Option<Kata>> {
    let path = dir(depot, id).join(RECORD);
    match files::read_some(&path, 1 << 20) {
        Err(e) if e.errno() == libc::ENOENT => Ok(None),
        bytes => serde_json::from_slice(&bytes?).map(Some).map_err(io::Error::other).at("understand", &path),
    }
}

/// The ids of all katas, in order.
pub fn all(depot: &Depot) -> Vec<KataId> {
    let mut ids: Vec<KataId> = names(depot).into_iter().filter_map(|name| KataId::try_from(name).ok()).collect();
    ids.sort();
    ids
}

/// The images that katas need.
///
/// # Errors
/// as of [`get`].
pub fn images(depot: &Depot) -> OsResult<Vec<Digest>> {
    let mut found = Vec::new();
    for id in all(depot) {
        found.extend(get(depot, &id)?.and_then(|kata| kata.digest));
    }
    Ok(found)
}

fn names(depot: &Depot) -> Vec<String> {
    let entries = std::fs::read_dir(shelf(depot)).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().into_string().ok()).collect()
}

/// Joins those who work in a kata: it stays as long as this is held. `Ok(None)`: it is not there (any more).
///
/// # Errors
/// of open and flock.
pub fn share(depot: &Depot, id: &KataId) -> OsResult<Option<Lease>> {
    let (dir, deadline) = (dir(depot, id), clock::now_ns() + LOOK_NS);
    loop {
        match lease::try_share(&dir)? {
            Some(lease) => return Ok(Some(lease)),
            // Whoever only looks who is at work has it for a moment; whoever takes it away has it gone in the next.
            None if dir.exists() && clock::now_ns() < deadline => {
                let _ = watch::any::<()>(&[], Some(clock::now_ns() + 1_000_000));
            }
            None => return Ok(None),
        }
    }
}

/// Takes a kata, or one of its avatars, off its shelf: from here on nobody finds it. Who is in it stays until he has ended.
/// `Ok(None)`: it was not there.
///
/// # Errors
/// of rename.
pub fn put_away(depot: &Depot, path: &Path) -> OsResult<Option<PathBuf>> {
    let gone = shelf(depot).join(format!("{GONE}{}", RunId::new(clock::wall_millis(), probe::random()?)));
    match std::fs::rename(path, &gone) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        other => other.at("take off the shelf", path).map(|()| Some(gone)),
    }
}

/// What was taken off its shelf and is not gone yet.
pub fn going(depot: &Depot) -> Vec<PathBuf> {
    names(depot).into_iter().filter(|name| name.starts_with(GONE)).map(|name| shelf(depot).join(name)).collect()
}

/// Removes what makers that were killed have left; whoever still makes something is given a minute.
///
/// # Errors
/// of removing.
pub fn sweep(depot: &Depot) -> OsResult<()> {
    for name in names(depot).into_iter().filter(|name| name.starts_with(NEW)) {
        let path = shelf(depot).join(name);
        let age = std::fs::metadata(&path).ok().and_then(|m| m.modified().ok()).and_then(|t| t.elapsed().ok());
        if age.is_some_and(|age| age.as_secs() > 60) {
            files::remove_tree(&path)?;
        }
    }
    Ok(())
}

/// Makes avatars, together with others who do.
///
/// # Errors
/// of open and flock. `Ok(None)`: somebody looks for ids that are nobody's.
pub fn making(depot: &Depot) -> OsResult<Option<Lease>> {
    lease::try_share_file(&shelf(depot).join("lock"))
}

/// Nobody makes avatars while this is held.
///
/// # Errors
/// of open and flock. `Ok(None)`: somebody does.
pub fn quiet(depot: &Depot) -> OsResult<Option<Lease>> {
    lease::try_claim_file(&shelf(depot).join("lock"))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::model::names::BundleName;

    pub(crate) fn kata(random: u128) -> Kata {
        Kata {
            id: KataId::new(random),
            bundle: BundleName::try_from("dojo".to_owned()).expect("a name"),
            image: None,
            digest: None,
            colours: None,
            shared: true,
            home: Default::default(),
            cells: None,
            memory: None,
            since_ms: 1,
        }
    }

    #[test]
    fn a_kata_is_there_once_and_then_not_at_all() {
        let place = tempfile::tempdir().expect("tempdir");
        let depot = Depot::at(place.path().to_owned());
        let owner = nix::unistd::getuid().as_raw();
        let one = kata(1);
        assert!(put(&depot, &one, owner).expect("put") && !put(&depot, &one, owner).expect("no error"));
        assert!(put(&depot, &kata(2), owner).expect("put"));
        let group = group(&depot, &one.id);
        assert_eq!(of_group(&depot, &group), Some(one.id.clone()));
        assert_eq!(of_group(&Depot::at("/elsewhere".into()), &group), None);
        assert_eq!((all(&depot).len(), get(&depot, &one.id).expect("read")), (2, Some(one.clone())));
        let inside = share(&depot, &one.id).expect("lock").expect("there");
        assert!(share(&depot, &one.id).expect("lock").is_some(), "many may work in it");
        let gone = put_away(&depot, &dir(&depot, &one.id)).expect("renamed").expect("it was there");
        assert!(share(&depot, &one.id).expect("lock").is_none() && get(&depot, &one.id).expect("read").is_none());
        assert!(lease::try_claim(&gone).expect("lock").is_none(), "somebody is still inside");
        drop(inside);
        assert!(lease::try_claim(&gone).expect("lock").is_some() && going(&depot) == [gone]);
        assert!(put(&depot, &one, owner).expect("put"), "its id is free again");
        assert!(put_away(&depot, &place.path().join("none")).expect("no error").is_none());
    }

    #[test]
    fn makers_and_lookers_keep_out_of_each_others_way() {
        let place = tempfile::tempdir().expect("tempdir");
        let depot = Depot::at(place.path().to_owned());
        open(&depot).expect("opened");
        let makers = [making(&depot).expect("lock"), making(&depot).expect("lock")];
        assert!(makers.iter().all(Option::is_some) && quiet(&depot).expect("lock").is_none());
        drop(makers);
        let alone = quiet(&depot).expect("lock");
        assert!(alone.is_some() && making(&depot).expect("lock").is_none());
    }
}
