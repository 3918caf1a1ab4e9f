//! What a home holds: before a run, as the caller wants it; after it, with what the program made of it.

use crate::model::entry::EntryPath;
use crate::model::fault::Fault;
use crate::model::job::Job;
use crate::model::kata::HomeFile;
use crate::model::limits::Limits;
use crate::model::wire::Collect;
use std::collections::{BTreeMap, BTreeSet};

/// A job that is no avatar's says nothing about a home.
///
/// # Errors
/// exit 2, naming the field.
pub fn belongs_to_none(job: &Job) -> Result<(), Fault> {
    let field = match job {
        Job { all: Some(_), .. } => "all",
        Job { deleted, .. } if !deleted.is_empty() => "deleted",
        _ => return Ok(()),
    };
    Err(Fault::caller("job:malformed", format!("{field:?} is about an avatar's home"))
        .at(field)
        .hint("runcell kata run KATA NAME --job FILE"))
}

/// What of a home stays when a job brings `new` files and takes `deleted` ones away; with `all` nothing but the new ones.
/// A file that is to be deleted and is not there is as it should be.
///
/// # Errors
/// exit 2 where a new file is where the home has a directory, or the other way round.
pub fn stays(
    home: Vec<HomeFile>,
    new: &BTreeSet<EntryPath>,
    deleted: &BTreeSet<EntryPath>,
    all: bool,
) -> Result<Vec<HomeFile>, Fault> {
    if let Some(path) = new.iter().find(|path| deleted.contains(*path)) {
        return Err(Fault::caller("job:malformed", format!("{path} is both new and deleted")).at(format!("files.{path}")));
    }
    let left: Vec<HomeFile> = match all {
        true => Vec::new(),
        false => home.into_iter().filter(|file| !new.contains(&file.path) && !deleted.contains(&file.path)).collect(),
    };
    let paths = new.iter().chain(left.iter().map(|file| &file.path));
    match clash(paths) {
        None => Ok(left),
        Some((inner, outer)) => Err(Fault::caller("job:malformed", format!("{outer} is a file, and a directory of {inner}"))
            .at(format!("files.{}", if new.contains(inner) { inner } else { outer }))
            .hint("name what has to go under \"deleted\"")),
    }
}

/// A file that has another for a directory, and that one.
fn clash<'a>(paths: impl Iterator<Item = &'a EntryPath>) -> Option<(&'a EntryPath, &'a EntryPath)> {
    let all: BTreeMap<&[u8], &EntryPath> = paths.map(|path| (path.as_bytes(), path)).collect();
    all.values().find_map(|path| path.parents().find_map(|dir| Some((*path, *all.get(dir)?))))
}

/// What the program made of what it was given.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    pub created: Vec<HomeFile>,
    pub changed: Vec<HomeFile>,
    pub deleted: BTreeSet<EntryPath>,
}

/// The home after a run that was given `before`; `None` where no tree of files could look like that.
pub fn after(before: &[HomeFile], changes: &Changes) -> Option<Vec<HomeFile>> {
    let mut all: BTreeMap<&EntryPath, &HomeFile> = before.iter().map(|file| (&file.path, file)).collect();
    all.retain(|path, _| !changes.deleted.contains(*path));
    all.extend(changes.created.iter().chain(&changes.changed).map(|file| (&file.path, file)));
    match clash(all.keys().copied()) {
        None => Some(all.into_values().cloned().collect()),
        Some(_) => None,
    }
}

/// What is brought back for a home: everything, whole, as far as it finds room again in a sandbox of the same limits.
pub fn collect(limits: &Limits, prune: Vec<String>) -> Collect {
    Collect {
        globs: vec!["**".to_owned()],
        file_bytes: limits.sandbox.0,
        total_bytes: limits.sandbox.0,
        // Directories take inodes as well, and the sandbox itself.
        files: limits.inodes.saturating_sub(1),
        whole: true,
        prune,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::reference::Digest;
    use proptest::prelude::*;

    fn path(text: &str) -> EntryPath {
        EntryPath::new(text.as_bytes().to_vec()).expect("a name")
    }

    fn file(text: &str, content: u8) -> HomeFile {
        HomeFile { path: path(text), mode: 0o644, bytes: 1, mtime_ns: 0, content: Digest::of_sha256([content; 32]) }
    }

    fn set(paths: &[&str]) -> BTreeSet<EntryPath> {
        paths.iter().map(|p| path(p)).collect()
    }

    fn names(files: &[HomeFile]) -> Vec<String> {
        files.iter().map(|f| f.path.to_string()).collect()
    }

    #[test]
    fn a_job_brings_takes_away_or_says_all() {
        let home = || vec![file("a", 1), file("d/b", 2), file("d/c", 3)];
        let left = |new: &[&str], gone: &[&str], all| stays(home(), &set(new), &set(gone), all).map(|f| names(&f));
        assert_eq!(left(&[], &[], false).expect("fine"), ["a", "d/b", "d/c"]);
        assert_eq!(left(&["a", "x"], &["d/b", "never"], false).expect("fine"), ["d/c"]);
        assert_eq!(left(&["x"], &[], true).expect("fine"), Vec::<String>::new());
        assert_eq!(left(&["d"], &["d/b", "d/c"], false).expect("a file in a directory's place"), ["a"]);
        assert_eq!(left(&["d"], &[], true).expect("nothing is in its way"), Vec::<String>::new());
        for (new, gone, at) in [(&["d"][..], &["d/b"][..], "files.d"), (&["a/x"], &[], "files.a/x"), (&["a"], &["a"], "files.a")]
        {
            let fault = left(new, gone, false).expect_err("a clash");
            assert_eq!((fault.code, fault.path.as_deref()), ("job:malformed", Some(at)));
        }
    }

    #[test]
    fn a_job_without_a_home_says_nothing_of_one() {
        let judged = |json: &str| belongs_to_none(&serde_json::from_str(json).expect(json)).map_err(|fault| fault.path);
        assert_eq!(judged(r#"{"files":{"a":"x"},"deleted":[]}"#), Ok(()));
        assert_eq!(judged(r#"{"deleted":["a"]}"#), Err(Some("deleted".into())));
        assert_eq!(judged(r#"{"all":{}}"#), Err(Some("all".into())));
    }

    #[test]
    fn a_run_leaves_what_it_made() {
        let before = [file("a", 1), file("b", 2), file("d/e", 3)];
        let changes =
            Changes { created: vec![file("d", 4), file("n", 5)], changed: vec![file("b", 6)], deleted: set(&["d/e", "a"]) };
        assert_eq!(after(&before, &changes), Some(vec![file("b", 6), file("d", 4), file("n", 5)]));
        let lie = Changes { created: vec![file("a/x", 1)], ..Changes::default() };
        assert_eq!(after(&before, &lie), None, "no file has files below it");
    }

    proptest! {
        #[test]
        fn nothing_comes_from_nowhere(had in proptest::collection::btree_set("[ab](/[ab])?", 0..4), gone in proptest::collection::btree_set("[ab]", 0..3)) {
            let before: Vec<HomeFile> = had.iter().map(|p| file(p, 1)).collect();
            let changes = Changes { deleted: gone.iter().map(|p| path(p)).collect(), ..Changes::default() };
            if let Some(left) = after(&before, &changes) {
                prop_assert!(left.iter().all(|f| before.contains(f) && !changes.deleted.contains(&f.path)));
                prop_assert!(before.iter().all(|f| left.contains(f) || changes.deleted.contains(&f.path)));
            }
        }
    }
}
