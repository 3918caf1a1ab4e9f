//! What a stack of layers shows at a path, as overlayfs would (Documentation/filesystems/overlayfs.rst), without mounting it.
//! Layers come from strangers: nothing is opened through a symlink, and a symlink in the way is an answer, never followed.

use crate::model::facts::EntryKind;
use crate::os::mount;
use crate::os::sys;
use std::fs::{File, Metadata};
use std::io::Read;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

/// The marker of a directory that hides those beneath it (Documentation/filesystems/overlayfs.rst).
pub(super) const OPAQUE: &std::ffi::CStr = c"trusted.overlay.opaque";

/// Whether it is a whiteout: it hides what lies below under its name, and is itself not shown.
pub(super) fn whiteout(meta: &Metadata) -> bool {
    meta.file_type().is_char_device() && meta.rdev() == 0
}

pub(super) fn opaque(dir: &Path) -> bool {
    sys::xattr(dir, OPAQUE).as_deref() == Some(b"y")
}

/// The layers of an image, the topmost first.
#[derive(Debug)]
pub struct Merged {
    trees: Vec<PathBuf>,
}

impl Merged {
    /// Of these trees, the topmost first, those that show at all: what lies below one whose very root is opaque does not.
    pub fn new(mut trees: Vec<PathBuf>) -> Self {
        let ends = trees.iter().position(|tree| opaque(tree));
        trees.truncate(ends.map_or(trees.len(), |at| at + 1));
        Self { trees }
    }

    /// How many layers show, from the top. Overlayfs itself does not heed the mark of an opaque root, so whoever mounts must leave
    /// the others out.
    pub fn shown(&self) -> usize {
        self.trees.len()
    }

    /// The layer that has the last word on an absolute path, and what lies there; `None`: nothing.
    fn look(&self, path: &str) -> Option<(&Path, Metadata)> {
        let parts: Vec<&str> = path.split('/').filter(|p| !p.is_empty()).collect();
        let mut candidates: Vec<&Path> = self.trees.iter().map(PathBuf::as_path).collect();
        // All roots are directories, and none below hides another.
        let mut answer = self.trees.first().and_then(|tree| Some((tree.as_path(), std::fs::symlink_metadata(tree).ok()?)));
        for end in 1..=parts.len() {
            let below = parts[..end].join("/");
            let mut directories = Vec::new();
            answer = None;
            for tree in candidates {
                let Ok(meta) = std::fs::symlink_metadata(tree.join(&below)) else { continue };
                if whiteout(&meta) {
                    break; // a whiteout
                }
                let directory = meta.is_dir();
                answer.get_or_insert((tree, meta));
                if !directory {
                    break; // hides what is beneath, and is hidden by a directory above
                }
                directories.push(tree);
                if opaque(&tree.join(&below)) {
                    break;
                }
            }
            // Only directories have something within; of a file on top nothing more is to be found.
            candidates = match &answer {
                Some((_, meta)) if meta.is_dir() => directories,
                _ if end < parts.len() => return None,
                _ => Vec::new(),
            };
        }
        answer
    }

    /// What lies at a path; its parents must be directories, not symlinks.
    pub fn kind(&self, path: &str) -> Option<EntryKind> {
        let (_, meta) = self.look(path)?;
        Some(match meta.file_type() {
            t if t.is_dir() => EntryKind::Directory { mode: meta.mode() & 0o7777 },
            t if t.is_file() => EntryKind::File,
            t if t.is_symlink() => EntryKind::Symlink,
            _ => EntryKind::Other,
        })
    }

    /// A directory's attributes, if there is one.
    pub fn directory(&self, path: &str) -> Option<Metadata> {
        self.look(path).map(|(_, meta)| meta).filter(Metadata::is_dir)
    }

    /// The beginning of a regular file.
    pub fn read(&self, path: &str, most: u64) -> Option<Vec<u8>> {
        let (tree, meta) = self.look(path)?;
        let mut bytes = Vec::new();
        // A FIFO or device is never opened: what was judged is what is opened, as layers do not change.
        meta.is_file().then_some(())?;
        mount::source(&tree.join(path.trim_start_matches('/'))).ok()?;
        File::open(tree.join(path.trim_start_matches('/'))).ok()?.take(most).read_to_end(&mut bytes).ok()?;
        Some(bytes)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    pub(in crate::store) fn whiteout_at(path: &Path) {
        use nix::sys::stat::{Mode, SFlag, makedev, mknod};
        mknod(path, SFlag::S_IFCHR, Mode::empty(), makedev(0, 0)).expect("a whiteout needs no capability");
    }

    #[test]
    fn a_layer_may_hide_all_below_it() {
        let dir = tempfile::tempdir().expect("tempdir");
        let trees = ["top", "middle", "bottom"].map(|n| dir.path().join(n));
        trees.iter().for_each(|tree| std::fs::create_dir(tree).expect("mkdir"));
        std::fs::write(trees[2].join("x"), "").expect("write");
        let merged = Merged::new(trees.to_vec());
        assert_eq!((merged.shown(), merged.kind("/x")), (3, Some(EntryKind::File)));
        if nix::unistd::geteuid().is_root() {
            let root = File::open(&trees[1]).expect("ours");
            sys::set_xattr(std::os::fd::AsFd::as_fd(&root), OPAQUE, b"y").expect("as root");
            let merged = Merged::new(trees.to_vec());
            assert_eq!((merged.shown(), merged.kind("/x")), (2, None));
        }
    }

    #[test]
    fn upper_layers_hide_replace_and_merge() {
        let dir = tempfile::tempdir().expect("tempdir");
        let [top, bottom] = ["top", "bottom"].map(|n| dir.path().join(n));
        let put = |layer: &Path, path: &str, text: &str| {
            std::fs::create_dir_all(layer.join(path).parent().expect("a parent")).expect("mkdir");
            std::fs::write(layer.join(path), text).expect("write");
        };
        for (path, text) in
            [("etc/passwd", "below"), ("etc/gone", "x"), ("a/b/c", "c"), ("f/x", "x"), ("d", "file"), ("s/x", "x")]
        {
            put(&bottom, path, text);
        }
        put(&top, "etc/passwd", "above");
        whiteout_at(&top.join("etc/gone"));
        whiteout_at(&top.join("a"));
        put(&top, "f", "a file over a directory");
        put(&top, "d/y", "a directory over a file");
        symlink("/etc", top.join("s")).expect("symlink");
        let merged = Merged::new(vec![top, bottom]);
        let directory = |path| matches!(merged.kind(path), Some(EntryKind::Directory { .. }));
        assert_eq!(merged.read("/etc/passwd", 3).as_deref(), Some(&b"abo"[..]));
        assert!(directory("/") && directory("/etc") && directory("/d"));
        for gone in ["/etc/gone", "/a", "/a/b", "/a/b/c", "/f/x", "/d/z", "/s/x", "/s/passwd", "/none"] {
            assert_eq!(merged.kind(gone), None, "{gone}");
        }
        assert_eq!((merged.kind("/f"), merged.kind("/s")), (Some(EntryKind::File), Some(EntryKind::Symlink)));
        assert_eq!(merged.kind("/d/y"), Some(EntryKind::File));
        assert_eq!(merged.read("/s", 9), None, "a link is not read through");
    }
}
