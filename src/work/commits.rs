//! The git commit that a computation directory stands at. Its repository may be a stranger's, whose configuration can name
//! programs that git runs; so git runs with the rights of the directory's owner, which is also what makes it trust the place.

use super::faults;
use crate::model::fault::Fault;
use crate::os::error::{At, OsError};
use crate::os::process;
use sha2::{Digest as _, Sha256};
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

const GIT: [&str; 3] = ["/usr/bin/git", "/usr/local/bin/git", "/bin/git"];
/// git answers from its index; a repository that takes longer is not one that a computation lives in.
const PATIENCE_NS: u64 = 60_000_000_000;

/// What a computation is at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Commit {
    /// 40 or 64 hexadecimal digits.
    pub id: String,
    /// Something differs from it: changed or untracked files, ignored ones not counted.
    pub dirty: bool,
    /// Of the directory's content: the commit's tree, or where that does not hold, of what lies there.
    pub content: String,
}

impl Commit {
    /// How the environment it gets is labelled: a dirty tree's is not the commit's.
    pub fn name(&self) -> String {
        format!("{}{}", self.id, if self.dirty { "-dirty" } else { "" })
    }

    /// A tag for it.
    pub fn tag(&self) -> String {
        format!("{}{}", self.id.get(..12).unwrap_or(&self.id), if self.dirty { "-dirty" } else { "" })
    }
}

/// Asks git.
///
/// # Errors
/// exit 2 where the directory is in no repository with a commit, exit 3 without git.
pub fn of(dir: &Path) -> Result<Commit, Fault> {
    let meta = std::fs::metadata(dir).at("look at", dir).map_err(|e| faults::ours(&e))?;
    let owner = Some((meta.uid(), meta.gid()));
    let git = GIT.iter().map(Path::new).find(|git| git.exists()).ok_or_else(|| {
        Fault::host("git:!exists", "there is no git on this host, and an environment belongs to a commit")
            .hint("apt-get install git")
    })?;
    let ask = |words: &[&str]| -> Result<(String, bool), Fault> {
        let place = ["-C", &dir.to_string_lossy(), "--no-optional-locks", "-c", "core.fsmonitor=false"].map(str::to_owned);
        let args: Vec<String> = place.into_iter().chain(words.iter().map(|w| (*w).to_owned())).collect();
        let (said, fine) = process::output_as(owner, git, &args, PATIENCE_NS).map_err(|e| faults::ours(&e))?;
        Ok((String::from_utf8_lossy(&said).into_owned(), fine))
    };
    let (said, fine) = ask(&["rev-parse", "HEAD", "HEAD:./"])?;
    let ids: Vec<&str> = said.lines().filter(|line| line.len() >= 40 && line.bytes().all(|b| b.is_ascii_hexdigit())).collect();
    let (Some(id), Some(tree), true) = (ids.first(), ids.get(1), fine) else {
        let why = said.lines().last().unwrap_or("it says nothing").to_owned();
        return Err(Fault::caller("computation:!git", format!("{} is at no git commit: {why}", dir.display()))
            .at("dir")
            .hint("an environment belongs to a commit: git init, git add and git commit there"));
    };
    let (changes, fine) = ask(&["status", "--porcelain", "--untracked-files=normal", "--", "."])?;
    let dirty = !fine || !changes.is_empty();
    let content = if dirty { content(dir).map_err(|e| faults::ours(&e))? } else { (*tree).to_owned() };
    Ok(Commit { id: (*id).to_owned(), dirty, content })
}

/// A digest of all that lies in a directory but `.git`, in hexadecimal digits.
fn content(dir: &Path) -> Result<String, OsError> {
    let mut hash = Sha256::new();
    let mut part = |bytes: &[u8]| {
        hash.update((bytes.len() as u64).to_le_bytes());
        hash.update(bytes);
    };
    let mut todo: Vec<PathBuf> = vec![dir.to_owned()];
    while let Some(path) = todo.pop() {
        let meta = std::fs::symlink_metadata(&path).at("look at", &path)?;
        part(path.strip_prefix(dir).unwrap_or(&path).as_os_str().as_bytes());
        part(&meta.mode().to_le_bytes());
        if meta.is_dir() {
            let mut inner: Vec<PathBuf> = std::fs::read_dir(&path)
                .at("list", &path)?
                .flatten()
                .map(|e| e.path())
                .filter(|p| !p.ends_with(".git"))
                .collect();
            inner.sort();
            part(&(inner.len() as u64).to_le_bytes());
            todo.extend(inner.into_iter().rev());
        } else if meta.is_symlink() {
            part(std::fs::read_link(&path).at("read", &path)?.as_os_str().as_bytes());
        } else if meta.is_file() {
            let mut file = crate::os::files::open_regular(&path)?;
            let (mut own, mut piece) = (Sha256::new(), vec![0; 256 << 10]);
            loop {
                match file.read(&mut piece).at("read", &path)? {
                    0 => break,
                    n => own.update(&piece[..n]),
                }
            }
            part(&own.finalize());
        }
    }
    Ok(hash.finalize().iter().map(|b| format!("{b:02x}")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_is_names_modes_and_bytes() {
        let dir = tempfile::tempdir().expect("tempdir");
        let at = |name: &str| dir.path().join(name);
        std::fs::create_dir(at("a")).expect("mkdir");
        std::fs::create_dir(at(".git")).expect("mkdir");
        std::fs::write(at("a/x"), "1").expect("write");
        let mut seen = vec![content(dir.path()).expect("read")];
        std::fs::write(at(".git/HEAD"), "x").expect("write");
        assert_eq!(content(dir.path()).expect("read"), seen[0], "git's own files do not count");
        let mut changed = |what: &str| {
            let now = content(dir.path()).expect("read");
            assert!(!seen.contains(&now), "{what}");
            seen.push(now);
        };
        std::fs::write(at("a/x"), "2").expect("write");
        changed("bytes");
        std::fs::set_permissions(at("a/x"), std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("chmod");
        changed("mode");
        std::fs::rename(at("a/x"), at("x")).expect("rename");
        changed("name");
        std::os::unix::fs::symlink("x", at("y")).expect("symlink");
        changed("a link");
    }
}
