//! The files of a directory that a caller names, as a job has them.

use crate::model::fault::Fault;
use crate::model::job::{Content, FileIn};
use crate::model::paths::{HostPath, RelPath};
use crate::model::unique::Unique;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// The files below it, with their modes. Directories without files are left out.
///
/// # Errors
/// exit 2 for what is no regular file (symlinks too: a home has none), and for names that are not UTF-8.
pub fn files(dir: &Path) -> Result<Unique<RelPath, FileIn>, Fault> {
    let wrong = |at: &Path, why: String| {
        Fault::caller("file:unreadable", format!("{}: {why}", at.display())).at("files").hint("name a directory of regular files")
    };
    let top = std::fs::canonicalize(dir).map_err(|e| wrong(dir, e.to_string()))?;
    let (mut all, mut todo) = (Unique::default(), vec![top.clone()]);
    while let Some(dir) = todo.pop() {
        let unreadable = |e: io::Error| wrong(&dir, e.to_string());
        for entry in std::fs::read_dir(&dir).map_err(unreadable)? {
            let entry = entry.map_err(unreadable)?;
            let (path, meta) = (entry.path(), entry.metadata().map_err(unreadable)?);
            if meta.is_dir() {
                todo.push(path);
                continue;
            }
            if !meta.is_file() {
                return Err(wrong(&path, "is no regular file".into()));
            }
            let name = path
                .strip_prefix(&top)
                .ok()
                .and_then(Path::to_str)
                .ok_or_else(|| wrong(&path, "its name is not UTF-8".into()))?;
            let name = RelPath::try_from(name.to_owned()).map_err(|why| wrong(&path, why))?;
            let host = HostPath::try_from(path.to_string_lossy().into_owned()).map_err(|why| wrong(&path, why))?;
            all.insert(name, FileIn { content: Content::File(host), mode: meta.mode() & 0o777 });
        }
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tree_becomes_files_and_a_link_is_refused() {
        let dir = tempfile::tempdir().expect("tempdir");
        std::fs::create_dir_all(dir.path().join("a/empty")).expect("mkdir");
        for name in ["top", "a/-x y"] {
            std::fs::write(dir.path().join(name), "x").expect("write");
        }
        let names: Vec<String> = files(dir.path()).expect("fine").keys().map(|k| k.as_str().to_owned()).collect();
        assert_eq!(names, ["a/-x y", "top"]);
        std::os::unix::fs::symlink("/etc/passwd", dir.path().join("a/link")).expect("link");
        assert_eq!(files(dir.path()).expect_err("a link").code, "file:unreadable");
    }
}
