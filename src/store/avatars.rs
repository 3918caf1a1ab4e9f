//! Avatars: a directory each, below its kata's, which appears whole. Whoever has its lease has its home and its host ids.
//!
//! ```text
//! avatar.json        name, host ids, since when
//! home.json          the home's files, by the digests of their contents; replaced whole
//! contents/<hex>     those contents, never written again; new-… are on their way
//! last.json          the last run
//! ```
//!
//! The names of a home's files, which a program may have chosen, are never names on the host.

use super::katas;
use crate::model::avatar::AvatarName;
use crate::model::kata::{HomeFile, LastRun, Member};
use crate::model::reference::Digest;
use crate::os::error::{At, OsResult};
use crate::os::files;
use crate::os::lease::{self, Lease};
use sha2::{Digest as _, Sha256};
use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// The largest record of a home: 2^20 files with names of ordinary length.
const RECORD_MOST: u64 = 256 << 20;
/// More new contents than these are brought to disk at once, with whatever else waits for that.
const SYNC_EACH: usize = 16;

/// An avatar's directory; what is in it belongs to whoever has its lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AvatarDir(PathBuf);

/// A content on its way into a home.
#[derive(Debug)]
pub struct Writing {
    file: File,
    path: PathBuf,
    hash: Sha256,
    bytes: u64,
}

impl AvatarDir {
    /// Below its kata's directory; it need not exist.
    pub fn of(kata: &Path, name: AvatarName) -> Self {
        Self(katas::avatars(kata).join(name.as_str()))
    }

    /// Where it is being made, or goes.
    pub fn at(path: PathBuf) -> Self {
        Self(path)
    }

    pub fn path(&self) -> &Path {
        &self.0
    }

    fn contents(&self) -> PathBuf {
        self.0.join("contents")
    }

    /// Where a content is.
    pub fn content(&self, digest: &Digest) -> PathBuf {
        self.contents().join(digest.hex())
    }

    /// Becomes the one who works with it. `Ok(None)`: another does, or it is not there.
    ///
    /// # Errors
    /// of open and flock.
    pub fn claim(&self) -> OsResult<Option<Lease>> {
        lease::try_claim(&self.0)
    }

    /// Writes who it is, and makes room for a home.
    ///
    /// # Errors
    /// of writing.
    pub fn found(&self, member: &Member) -> OsResult<()> {
        files::private_dir(&self.contents())?;
        let json = serde_json::to_vec(member).map_err(io::Error::other).at("write", &self.0)?;
        files::replace_durably(&self.0.join("avatar.json"), &json)
    }

    /// Removes that record; missing is fine.
    ///
    /// # Errors
    /// of unlink.
    pub fn forget(&self) -> OsResult<()> {
        let path = self.0.join("avatar.json");
        match std::fs::remove_file(&path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other.at("remove", &path),
        }
    }

    /// # Errors
    /// of reading, or where its record makes no sense. `Ok(None)`: there is none.
    pub fn member(&self) -> OsResult<Option<Member>> {
        self.record("avatar.json")
    }

    /// # Errors
    /// as of [`AvatarDir::member`].
    pub fn last(&self) -> OsResult<Option<LastRun>> {
        self.record("last.json")
    }

    fn record<T: serde::de::DeserializeOwned>(&self, name: &str) -> OsResult<Option<T>> {
        let path = self.0.join(name);
        match files::read_some(&path, RECORD_MOST) {
            Err(e) if e.errno() == libc::ENOENT => Ok(None),
            bytes => serde_json::from_slice(&bytes?).map(Some).map_err(io::Error::other).at("understand", &path),
        }
    }

    /// # Errors
    /// of writing.
    pub fn set_last(&self, last: &LastRun) -> OsResult<()> {
        let json = serde_json::to_vec(last).map_err(io::Error::other).at("write", &self.0)?;
        files::replace(&self.0.join("last.json"), &json)
    }

    /// The home's files, by path.
    ///
    /// # Errors
    /// as of [`AvatarDir::member`].
    pub fn home(&self) -> OsResult<Vec<HomeFile>> {
        Ok(self.record("home.json")?.unwrap_or_default())
    }

    /// Has the home hold these files from now on, and no others: a crash at any moment, or a power cut, leaves the old home or
    /// the new one. `fresh` are the contents that were written for it.
    ///
    /// # Errors
    /// of writing; the home is as before then.
    pub fn set_home(&self, home: &[HomeFile], fresh: &BTreeSet<Digest>) -> OsResult<()> {
        if fresh.len() > SYNC_EACH {
            files::sync(&self.0)?;
        } else {
            for digest in fresh {
                let path = self.content(digest);
                File::open(&path).and_then(|file| file.sync_data()).at("sync", &path)?;
            }
        }
        let json = serde_json::to_vec(home).map_err(io::Error::other).at("write", &self.0)?;
        files::replace_durably(&self.0.join("home.json"), &json)
    }

    /// Begins a content. One at a time.
    ///
    /// # Errors
    /// of open.
    pub fn begin(&self) -> OsResult<Writing> {
        let path = self.contents().join("new");
        let file = File::create(&path).at("create", &path)?;
        Ok(Writing { file, path, hash: Sha256::new(), bytes: 0 })
    }

    /// Removes the contents that no file of the home has, and what a killed writer left.
    ///
    /// # Errors
    /// of reading and removing.
    pub fn sweep(&self, home: &[HomeFile]) -> OsResult<()> {
        let kept: BTreeSet<&str> = home.iter().map(|file| file.content.hex()).collect();
        let dir = self.contents();
        for entry in std::fs::read_dir(&dir).at("list", &dir)?.flatten() {
            if !entry.file_name().to_str().is_some_and(|name| kept.contains(name)) {
                std::fs::remove_file(entry.path()).at("remove", entry.path())?;
            }
        }
        for entry in std::fs::read_dir(&self.0).at("list", &self.0)?.flatten() {
            if entry.path().extension().is_some_and(|e| e == "new") {
                std::fs::remove_file(entry.path()).at("remove", entry.path())?;
            }
        }
        Ok(())
    }
}

impl Writing {
    /// # Errors
    /// of write.
    pub fn put(&mut self, bytes: &[u8]) -> OsResult<()> {
        self.file.write_all(bytes).at("write", &self.path)?;
        self.hash.update(bytes);
        self.bytes += bytes.len() as u64;
        Ok(())
    }

    /// Puts it among the contents, and answers what it is called there and how long it is. Of those that the home has already
    /// (`had`) the old one stays, which is on disk.
    ///
    /// # Errors
    /// of rename or unlink.
    pub fn finish(self, dir: &AvatarDir, had: &BTreeSet<Digest>) -> OsResult<(Digest, u64)> {
        let digest = Digest::of_sha256(self.hash.finalize().into());
        match had.contains(&digest) {
            true => std::fs::remove_file(&self.path).at("remove", &self.path)?,
            false => std::fs::rename(&self.path, dir.content(&digest)).at("rename into place", &self.path)?,
        }
        Ok((digest, self.bytes))
    }
}

/// The avatars of a kata, in order.
///
/// # Errors
/// of reading one's record.
pub fn all(kata: &Path) -> OsResult<Vec<Member>> {
    let mut members = Vec::new();
    for name in AvatarName::all() {
        members.extend(AvatarDir::of(kata, name).member()?);
    }
    Ok(members)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::entry::EntryPath;

    fn avatar() -> (tempfile::TempDir, AvatarDir, Member) {
        let place = tempfile::tempdir().expect("tempdir");
        let name = AvatarName::try_from("lion".to_owned()).expect("a name");
        let dir = AvatarDir::of(place.path(), name);
        std::fs::create_dir_all(dir.path()).expect("mkdir");
        let member = Member { name, first_id: 65_536, since_ms: 1 };
        dir.found(&member).expect("founded");
        (place, dir, member)
    }

    fn write(dir: &AvatarDir, path: &[u8], content: &[u8]) -> HomeFile {
        let mut writing = dir.begin().expect("begun");
        content.chunks(3).for_each(|chunk| writing.put(chunk).expect("put"));
        let had = dir.home().expect("read").into_iter().map(|file| file.content).collect();
        let (content, bytes) = writing.finish(dir, &had).expect("finished");
        HomeFile { path: EntryPath::new(path.to_vec()).expect("a name"), mode: 0o644, bytes, mtime_ns: 7, content }
    }

    #[test]
    fn a_home_is_what_was_set_last_and_keeps_nothing_else() {
        let (place, dir, member) = avatar();
        assert_eq!((all(place.path()).expect("read"), dir.home().expect("none yet")), (vec![member], vec![]));
        let (a, b) = (write(&dir, b"a\n\xff", b"one"), write(&dir, b"-b", b""));
        let fresh = BTreeSet::from([a.content.clone(), b.content.clone()]);
        dir.set_home(&[a.clone(), b.clone()], &fresh).expect("set");
        let lost = write(&dir, b"c", b"never set");
        assert_eq!(dir.home().expect("read"), [a.clone(), b.clone()]);
        let inode = || std::os::unix::fs::MetadataExt::ino(&std::fs::metadata(dir.content(&a.content)).expect("there"));
        let kept = inode();
        assert_eq!(write(&dir, b"again", b"one").content, a.content);
        assert_eq!(inode(), kept, "what the home has is not written once more");
        std::fs::write(dir.path().join("home.json.1-0.new"), "half").expect("write");
        drop(dir.begin().expect("begun, and killed"));
        dir.sweep(&dir.home().expect("read")).expect("swept");
        assert!(!dir.content(&lost.content).exists() && !dir.path().join("home.json.1-0.new").exists());
        assert_eq!(std::fs::read(dir.content(&a.content)).expect("kept"), b"one");
        assert_eq!((b.bytes, std::fs::read_dir(dir.path().join("contents")).expect("list").count()), (0, 2));
        dir.set_home(&[], &BTreeSet::new()).expect("set");
        dir.sweep(&[]).expect("swept");
        assert_eq!(std::fs::read_dir(dir.path().join("contents")).expect("list").count(), 0);
    }

    #[test]
    fn one_at_a_time_works_with_an_avatar() {
        let (_place, dir, _) = avatar();
        let first = dir.claim().expect("lock").expect("free");
        assert!(dir.claim().expect("lock").is_none());
        drop(first);
        assert!(dir.claim().expect("lock").is_some());
        assert!(AvatarDir::at("/nowhere".into()).claim().expect("no error").is_none());
        assert_eq!(dir.last().expect("none yet"), None);
    }
}
