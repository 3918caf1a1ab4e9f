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

/// A content that has found its place.
#[derive(Debug)]
pub struct Written {
    pub content: Digest,
    pub bytes: u64,
    /// Whether it has still to be brought to disk.
    pub fresh: bool,
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

    /// Puts it among the contents. Of those that the home has already (`had`) the old one stays, which is on disk, unless it has
    /// been lost or cut short there: a home heals by what is brought.
    ///
    /// # Errors
    /// of rename or unlink.
    pub fn finish(self, dir: &AvatarDir, had: &BTreeSet<Digest>) -> OsResult<Written> {
        let Self { path, hash, bytes, .. } = self;
        let content = Digest::of_sha256(hash.finalize().into());
        let place = dir.content(&content);
        let fresh = !(had.contains(&content) && std::fs::metadata(&place).is_ok_and(|old| old.len() == bytes));
        match fresh {
            true => std::fs::rename(&path, &place).at("rename into place", &path)?,
            false => std::fs::remove_file(&path).at("remove", &path)?,
        }
        Ok(Written { content, bytes, fresh })
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

    fn written(dir: &AvatarDir, content: &[u8]) -> Written {
        let mut writing = dir.begin().expect("begun");
        content.chunks(3).for_each(|chunk| writing.put(chunk).expect("put"));
        let had = dir.home().expect("read").into_iter().map(|file| file.content).collect();
        writing.finish(dir, &had).expect("finished")
    }

    fn write(dir: &AvatarDir, path: &[u8], content: &[u8]) -> HomeFile {
        let Written { content, bytes, .. } = written(dir, content);
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
    fn what_a_home_has_is_not_written_again_unless_it_is_lost() {
        use std::os::unix::fs::MetadataExt;
        let (_place, dir, _) = avatar();
        let a = write(&dir, b"a", b"one");
        assert!(written(&dir, b"one").fresh, "no home has it yet, so it may not be on disk");
        dir.set_home(std::slice::from_ref(&a), &BTreeSet::from([a.content.clone()])).expect("set");
        let place = dir.content(&a.content);
        let inode = || std::fs::metadata(&place).expect("there").ino();
        let kept = inode();
        assert!(!written(&dir, b"one").fresh && inode() == kept);
        std::fs::write(&place, "o").expect("cut short");
        assert!(written(&dir, b"one").fresh);
        assert_eq!(std::fs::read(&place).expect("there"), b"one");
        std::fs::remove_file(&place).expect("lost");
        assert!(written(&dir, b"one").fresh && std::fs::read(&place).expect("there") == b"one");
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
