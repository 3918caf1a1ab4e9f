//! A room with a tree in it, and with things outside the tree that must stay as they are.

use runcell::archive::layer::{Applied, Bounds, apply};
use runcell::archive::listing::{self, Content, Item};
use runcell::model::fault::Fault;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

pub(crate) struct Room {
    dir: tempfile::TempDir,
    before: BTreeMap<PathBuf, String>,
}

/// What a tree is after a layer.
#[derive(Debug)]
pub(crate) struct Result {
    pub(crate) applied: Applied,
    pub(crate) items: BTreeMap<String, Item>,
}

impl Room {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("tree")).unwrap();
        std::fs::create_dir(dir.path().join("outside")).unwrap();
        std::fs::write(dir.path().join("outside/file"), "precious").unwrap();
        std::fs::write(dir.path().join("file"), "precious").unwrap();
        let before = around(dir.path());
        Self { dir, before }
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.dir.path().join("tree")
    }

    pub(crate) fn tree(&self) -> File {
        File::open(self.path()).unwrap()
    }

    /// Applies a layer; holds the listing against the tree, and what is around the tree against what it was.
    pub(crate) fn apply(&self, tar: &[u8], bounds: &Bounds) -> std::result::Result<Result, Fault> {
        let tree = self.tree();
        let mut written = Vec::new();
        let applied = apply(tar, tree.as_fd(), &mut written, bounds);
        assert_eq!(around(self.dir.path()), self.before, "something outside the tree changed");
        let applied = applied?;
        let items: Vec<Item> = listing::read(&written[..]).collect::<std::result::Result<_, _>>().unwrap();
        // Marks of opaque directories are not in the tree yet.
        let unmarked = items.iter().cloned().map(|mut item| {
            if let Content::Directory { opaque } = &mut item.content {
                *opaque = false;
            }
            Ok(item)
        });
        assert_eq!(listing::differences(unmarked, listing::scan(tree.as_fd()), 10), Ok(vec![]), "the listing is not the tree");
        assert_eq!(applied.entries, items.len() as u64);
        let items = items.into_iter().map(|item| (String::from_utf8_lossy(&item.path).into_owned(), item)).collect();
        Ok(Result { applied, items })
    }
}

/// Everything outside the tree, with what would change if it were touched. The tree's own directory is not opened.
fn around(dir: &Path) -> BTreeMap<PathBuf, String> {
    let mut out = BTreeMap::new();
    let mut todo = vec![dir.to_owned()];
    while let Some(next) = todo.pop() {
        let meta = next.symlink_metadata().unwrap();
        if next == dir.join("tree") {
            continue;
        }
        let content = if meta.is_file() { std::fs::read_to_string(&next).unwrap() } else { String::new() };
        let what = (meta.mode(), meta.uid(), meta.gid(), meta.nlink(), meta.mtime(), meta.mtime_nsec(), content);
        out.insert(next.clone(), format!("{what:?}"));
        if meta.is_dir() {
            todo.extend(std::fs::read_dir(&next).unwrap().map(|entry| entry.unwrap().path()));
        }
    }
    out
}

/// Whether owners may be set here; says aloud where not.
pub(crate) fn privileged(test: &str) -> bool {
    let root = nix::unistd::geteuid().is_root();
    if !root {
        // Written for real: libtest hides what the print macros say.
        let _ = std::io::stderr().write_all(format!("SKIPPED {test}: needs root, to set owners\n").as_bytes());
    }
    root
}
