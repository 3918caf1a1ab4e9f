//! Images: a directory each, which appears whole and never changes; in use while anybody holds a shared lease on it.

use super::bench::Bench;
use super::depot::Depot;
use super::names;
use crate::model::image::Image;
use crate::model::job::ImageRef;
use crate::model::reference::Digest;
use crate::os::error::{At, OsResult};
use crate::os::lease::{self, Lease};
use crate::os::{clock, files, watch};
use std::io;
use std::path::Path;
use std::time::SystemTime;

const RECORD: &str = "image.json";
const CONFIG: &str = "config.json";
/// Its mtime is when the image was last used.
const USED: &str = "used";
/// How long somebody who looks, or takes away, may have an image for himself.
const LOOK_NS: u64 = 1_000_000_000;
/// The largest record: an image of 127 layers has some 50 KiB.
const RECORD_MOST: u64 = 8 << 20;

/// An image that cannot be taken away while this is held.
#[derive(Debug)]
pub struct Held {
    pub image: Image,
    _lease: Lease,
}

/// Puts an image on its shelf. Its layers must be there, and the store shared (see [`Depot::share`]).
///
/// # Errors
/// of writing; nothing is visible then.
pub fn put(depot: &Depot, image: &Image, config: &[u8]) -> OsResult<()> {
    let bench = Bench::new(depot)?;
    let fresh = bench.path().join("image");
    files::private_dir(&fresh)?;
    let json = serde_json::to_vec(image).map_err(io::Error::other).at("write", fresh.join(RECORD))?;
    for (name, bytes) in [(RECORD, &json[..]), (CONFIG, config), (USED, b"")] {
        files::create(&fresh.join(name), bytes, 0o600)?;
    }
    files::sync(&fresh)?;
    let path = depot.image(&image.digest);
    match std::fs::rename(&fresh, &path) {
        // The same image from another hand: the same content, which is what its digest says.
        Err(e) if matches!(e.raw_os_error(), Some(libc::ENOTEMPTY | libc::EEXIST)) => Ok(()),
        other => other.at("rename into place", &path),
    }
}

/// An image by its whole digest.
///
/// # Errors
/// of reading, or where its record makes no sense. `Ok(None)`: it is not in the store.
pub fn get(depot: &Depot, digest: &Digest) -> OsResult<Option<Image>> {
    read(&depot.image(digest))
}

fn read(dir: &Path) -> OsResult<Option<Image>> {
    let path = dir.join(RECORD);
    match files::read_some(&path, RECORD_MOST) {
        Err(e) if e.errno() == libc::ENOENT => Ok(None),
        bytes => serde_json::from_slice(&bytes?).map(Some).map_err(io::Error::other).at("understand", &path),
    }
}

/// The configuration document as it came.
///
/// # Errors
/// of reading.
pub fn config(depot: &Depot, digest: &Digest) -> OsResult<Vec<u8>> {
    files::read_some(&depot.image(digest).join(CONFIG), RECORD_MOST)
}

/// All images, in order of their digests.
///
/// # Errors
/// of reading one.
pub fn all(depot: &Depot) -> OsResult<Vec<Image>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(depot.images()).into_iter().flatten().flatten() {
        found.extend(read(&entry.path())?);
    }
    found.sort_by(|a, b| a.digest.cmp(&b.digest));
    Ok(found)
}

/// How a reference is answered.
#[derive(Debug, PartialEq, Eq)]
pub enum Found {
    One(Digest),
    None,
    /// The beginning of more digests than one.
    Ambiguous,
}

/// Which image a reference means. What is no reference to the store is not found.
///
/// # Errors
/// of reading the shelf.
pub fn find(depot: &Depot, reference: &ImageRef) -> OsResult<Found> {
    match reference {
        ImageRef::Named(name) => Ok(names::resolve(depot, name).map_or(Found::None, Found::One)),
        ImageRef::Digest(prefix) => {
            let mut matching = all(depot)?.into_iter().map(|i| i.digest).filter(|d| d.begins_with(prefix));
            Ok(match (matching.next(), matching.next()) {
                (Some(digest), None) => Found::One(digest),
                (None, _) => Found::None,
                _ => Found::Ambiguous,
            })
        }
        ImageRef::Host | ImageRef::Directory(_) => Ok(Found::None),
    }
}

/// Takes an image into use: it stays as long as the answer is held, and counts as used now.
///
/// # Errors
/// of reading. `Ok(None)`: it is not there, or has just been taken away.
pub fn hold(depot: &Depot, digest: &Digest) -> OsResult<Option<Held>> {
    let dir = depot.image(digest);
    let deadline = clock::now_ns() + LOOK_NS;
    let lease = loop {
        match lease::try_share(&dir)? {
            Some(lease) => break lease,
            // A gc that only looks who uses what has each image for a moment; one that takes it away has it gone in the next.
            None if dir.exists() && clock::now_ns() < deadline => {
                let _ = watch::any::<()>(&[], Some(clock::now_ns() + 1_000_000));
            }
            None => return Ok(None),
        }
    };
    let Some(image) = read(&dir)? else { return Ok(None) };
    let used = std::fs::OpenOptions::new().write(true).open(dir.join(USED));
    // A stamp that cannot be set costs gc its order, not the run its image.
    let _ = used.and_then(|f| f.set_modified(SystemTime::now()));
    Ok(Some(Held { image, _lease: lease }))
}

/// When an image was last used, in milliseconds since 1970; at the latest when it came.
pub fn used_ms(depot: &Depot, image: &Image) -> u64 {
    let stamp = std::fs::metadata(depot.image(&image.digest).join(USED)).and_then(|m| m.modified()).ok();
    let since = stamp.and_then(|t| t.duration_since(SystemTime::UNIX_EPOCH).ok()).map_or(0, |d| d.as_millis() as u64);
    since.max(image.since_ms)
}

/// Takes an image off its shelf, unless it is in use; its layers stay for those who share them.
///
/// # Errors
/// of rename. `Ok(false)`: somebody uses it.
pub fn remove(depot: &Depot, digest: &Digest) -> OsResult<bool> {
    let dir = depot.image(digest);
    let Some(_lease) = lease::try_claim(&dir)? else { return Ok(!dir.exists()) };
    let bench = Bench::new(depot)?;
    std::fs::rename(&dir, bench.path().join("image")).at("take off the shelf", &dir)?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::image::Defaults;
    use crate::model::reference::{DigestPrefix, ImageName};

    fn image(n: u8) -> Image {
        Image {
            digest: Digest::of_sha256([n; 32]),
            layers: Vec::new(),
            flat: None,
            defaults: Defaults::default(),
            platform: "linux/amd64".into(),
            since_ms: 5,
            labels: Default::default(),
        }
    }

    #[test]
    fn whoever_only_looks_does_not_keep_a_run_from_its_image() {
        let dir = tempfile::tempdir().expect("tempdir");
        let depot = Depot::at(dir.path().to_owned());
        depot.open().expect("opened");
        put(&depot, &image(1), b"{}").expect("put");
        let looking = lease::try_claim(&depot.image(&image(1).digest)).expect("lock").expect("free");
        std::thread::scope(|scope| {
            let run = scope.spawn(|| hold(&depot, &image(1).digest).expect("read"));
            let _ = watch::any::<()>(&[], Some(clock::now_ns() + 20_000_000));
            drop(looking);
            assert!(run.join().expect("no panic").is_some());
        });
    }

    #[test]
    fn images_are_found_by_name_and_digest_and_stay_while_they_are_held() {
        let dir = tempfile::tempdir().expect("tempdir");
        let depot = Depot::at(dir.path().to_owned());
        depot.open().expect("opened");
        let (one, two) = (image(0xab), image(0xac));
        for i in [&one, &two, &one] {
            put(&depot, i, b"{}").expect("put, and put again");
        }
        assert_eq!(all(&depot).expect("all").len(), 2);
        assert_eq!(config(&depot, &one.digest).expect("there"), b"{}");
        let name = ImageName::try_from("x:1".to_owned()).expect("a name");
        names::point(&depot, &name, &one.digest).expect("pointed");
        assert_eq!(find(&depot, &ImageRef::Named(name)).expect("read"), Found::One(one.digest.clone()));
        let prefix = |s: &str| ImageRef::Digest(DigestPrefix::try_from(s.to_owned()).expect("a prefix"));
        assert_eq!(find(&depot, &prefix("sha256:abababababab")).expect("read"), Found::One(one.digest.clone()));
        assert_eq!(find(&depot, &prefix("sha256:0bababababab")).expect("read"), Found::None);

        let held = hold(&depot, &one.digest).expect("read").expect("there");
        assert_eq!(held.image, one);
        assert!(used_ms(&depot, &one) > 5 && hold(&depot, &one.digest).expect("read").is_some(), "many may hold it");
        assert!(!remove(&depot, &one.digest).expect("no error"), "in use");
        drop(held);
        assert!(remove(&depot, &one.digest).expect("removed"));
        assert!(hold(&depot, &one.digest).expect("read").is_none() && get(&depot, &two.digest).expect("read").is_some());
        assert_eq!(std::fs::read_dir(depot.bench()).expect("list").count(), 0);
    }
}
