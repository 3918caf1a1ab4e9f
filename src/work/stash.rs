//! An avatar's home on its way into a cell and back: contents are streamed, from disk to disk, under names of their digests.
//!
//! What comes back is init's word, which shares its uid with the program: every name, number and size is judged here, and what
//! was created is told from what was changed by what we have delivered ourselves.

use super::{faults, order};
use crate::model::entry::EntryPath;
use crate::model::fault::Fault;
use crate::model::job::Content;
use crate::model::kata::HomeFile;
use crate::model::paths::RelPath;
use crate::model::plan::Brought;
use crate::model::reference::Digest;
use crate::model::wire::Found;
use crate::os::clock;
use crate::os::error::OsResult;
use crate::rules::home::{self, Changes};
use crate::store::avatars::{AvatarDir, Writing, Written};
use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;

const CHUNK: usize = 256 * 1024;

/// One home in one run. Its lease is held by whoever made this.
#[derive(Debug)]
pub struct Stash {
    pub dir: AvatarDir,
    /// What is delivered: the home as the caller wants it.
    given: BTreeMap<EntryPath, HomeFile>,
    /// Contents that the home had before.
    had: BTreeSet<Digest>,
    /// Contents that were written for this run, and are not on disk yet.
    fresh: BTreeSet<Digest>,
    changes: Changes,
    seen: BTreeSet<EntryPath>,
    open: Option<(EntryPath, Found, Writing)>,
    /// All that there was to come has come.
    complete: bool,
    /// Our own disk's trouble; what comes after it is passed over.
    trouble: Option<String>,
}

/// What has come back.
#[derive(Debug)]
pub struct Returned {
    pub given: Vec<HomeFile>,
    pub fresh: BTreeSet<Digest>,
    pub changes: Changes,
    /// Why the changes are not all.
    pub lacking: Option<String>,
}

impl Stash {
    /// `before` is the home, `stays` what of it stays; the job's files come by [`Stash::bring`].
    pub fn new(dir: AvatarDir, before: &[HomeFile], stays: Vec<HomeFile>) -> Self {
        Self {
            dir,
            had: before.iter().map(|file| file.content.clone()).collect(),
            given: stays.into_iter().map(|file| (file.path.clone(), file)).collect(),
            fresh: BTreeSet::new(),
            changes: Changes::default(),
            seen: BTreeSet::new(),
            open: None,
            complete: false,
            trouble: None,
        }
    }

    /// Takes the job's files over, and answers all that is to be delivered, in order.
    ///
    /// # Errors
    /// exit 2 where a host file cannot be read, exit 4 where the home cannot be written.
    pub fn bring(&mut self, files: Vec<(RelPath, u32, Content)>) -> Result<Vec<Brought>, Fault> {
        let now = i64::try_from(clock::wall_millis()).unwrap_or(0).saturating_mul(1_000_000);
        for (path, mode, content) in files {
            let name = format!("files.{}", path.as_str());
            let (source, _) = order::open(&path, content)?;
            let Written { content, bytes, .. } = self.write(source).map_err(|e| faults::ours(&e).at(name.clone()))?;
            let path =
                EntryPath::new(String::from(path).into_bytes()).map_err(|why| Fault::caller("job:malformed", why).at(name))?;
            self.given.insert(path.clone(), HomeFile { path, mode, bytes, mtime_ns: now, content });
        }
        let brought = |file: &HomeFile| Brought { blob: self.dir.content(&file.content), file: file.clone() };
        Ok(self.given.values().map(brought).collect())
    }

    fn write(&mut self, mut source: impl Read) -> OsResult<Written> {
        use crate::os::error::At;
        let mut writing = self.dir.begin()?;
        let mut buf = vec![0; CHUNK];
        loop {
            match source.read(&mut buf).at("read", "a file of the job")? {
                0 => break,
                n => writing.put(&buf[..n])?,
            }
        }
        self.keep(writing)
    }

    fn keep(&mut self, writing: Writing) -> OsResult<Written> {
        let written = writing.finish(&self.dir, &self.had)?;
        if written.fresh {
            self.fresh.insert(written.content.clone());
        }
        Ok(written)
    }

    /// How many files were delivered.
    pub fn count(&self) -> usize {
        self.given.len()
    }

    /// A file that the program created or changed; its content follows.
    ///
    /// # Errors
    /// what no honest init would say.
    pub fn begin(&mut self, found: Found) -> Result<(), &'static str> {
        if found.kept != found.bytes {
            return Err("a part of a file where all was asked for");
        }
        let Ok(path) = EntryPath::new(found.path.to_vec()) else { return Err("a file that is none of the sandbox's") };
        if !self.seen.insert(path.clone()) {
            return Err("a file twice");
        }
        match self.dir.begin() {
            Ok(writing) => self.open = Some((path, found, writing)),
            Err(e) => self.failed(&e),
        }
        Ok(())
    }

    pub fn data(&mut self, bytes: &[u8]) {
        if let Some((_, _, writing)) = &mut self.open
            && let Err(e) = writing.put(bytes)
        {
            self.failed(&e);
        }
    }

    /// The open file is whole.
    pub fn end(&mut self) {
        let Some((path, found, writing)) = self.open.take() else { return };
        match self.keep(writing) {
            Err(e) => self.failed(&e),
            Ok(Written { content, bytes, .. }) => {
                let had = self.given.contains_key(&path);
                let file = HomeFile { path, mode: found.mode & 0o777, bytes, mtime_ns: found.mtime_ns, content };
                if had { &mut self.changes.changed } else { &mut self.changes.created }.push(file);
            }
        }
    }

    /// # Errors
    /// what no honest init would say.
    pub fn deleted(&mut self, path: &[u8]) -> Result<(), &'static str> {
        let path = EntryPath::new(path.to_vec()).ok().filter(|path| self.given.contains_key(path));
        match path.filter(|path| self.seen.insert(path.clone())) {
            Some(path) => drop(self.changes.deleted.insert(path)),
            None => return Err("a file gone that was not there"),
        }
        Ok(())
    }

    /// Init has nothing more to say.
    pub fn done(&mut self) {
        self.complete = self.open.is_none();
    }

    fn failed(&mut self, e: &crate::os::error::OsError) {
        self.open = None;
        self.trouble.get_or_insert(e.to_string());
    }

    /// What has come back, in alphabetical order.
    pub fn finish(mut self) -> Returned {
        self.changes.created.sort_by(|a, b| a.path.cmp(&b.path));
        self.changes.changed.sort_by(|a, b| a.path.cmp(&b.path));
        let given: Vec<HomeFile> = self.given.into_values().collect();
        let lacking = match (self.trouble, self.complete) {
            (Some(trouble), _) => Some(trouble),
            (None, false) => Some("the cell ended before its files had come back".to_owned()),
            (None, true) => home::after(&given, &self.changes).is_none().then(|| "a file lies below a file".to_owned()),
        };
        Returned { given, fresh: self.fresh, changes: self.changes, lacking }
    }
}
